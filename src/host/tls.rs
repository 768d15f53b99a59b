//! TLS as seen on the wire: which leaf a socket serves, and whether a pair would serve its clients.

use crate::host::kube::Identity;
use crate::model::cert::CertFacts;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{address} did not show a certificate: {detail}")]
    NoCertificate { address: String, detail: String },
    #[error("{address} showed a certificate that does not parse")]
    Malformed {
        address: String,
        #[source]
        source: crate::model::cert::CertError,
    },
    #[error("the pair cannot serve: {detail}")]
    Pair { detail: String },
    #[error("a client that dials {name} would refuse it: {detail}")]
    Refused { name: String, detail: String },
}
