//! Cryptography by OpenSSL: keys, signatures, chains. Key bytes are zeroed when dropped.

/// Why a key or a certificate was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    #[error("not a private key that can be read")]
    Key {
        #[source]
        source: openssl::error::ErrorStack,
    },
    #[error("not a certificate that can be read")]
    Certificate {
        #[source]
        source: openssl::error::ErrorStack,
    },
    #[error("does not chain to the CA: {detail}")]
    Chain { detail: String },
    #[error("OpenSSL failed to {what}")]
    OpenSsl {
        what: &'static str,
        #[source]
        source: openssl::error::ErrorStack,
    },
}
