//! Do a key and a certificate belong together, did a CA sign a certificate: by OpenSSL, on bytes from the disk.

use openssl::ec::EcKey;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Rsa;
use openssl::x509::X509;

use crate::model::cert::CertFacts;
use crate::model::pem;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("no private key in it")]
    None,
    #[error("its key is encrypted, which no component of Kubernetes can read")]
    Encrypted,
    #[error("its key is damaged: {0}")]
    Pem(#[from] pem::PemError),
    #[error("its key is damaged")]
    Damaged(#[source] ErrorStack),
}

/// Subject public key info (DER) of the first private key in a PEM file.
pub(super) fn public_key_der(file: &[u8]) -> Result<Vec<u8>, KeyError> {
    for block in pem::blocks(file) {
        let block = block?;
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        if block.is_private_key() {
            let der = block.decode()?;
            // the typed readers are several times faster than OpenSSL 3's general decoder, and know less
            let spki = match block.label {
                "RSA PRIVATE KEY" => Rsa::private_key_from_der(&der).and_then(|k| k.public_key_to_der()),
                "EC PRIVATE KEY" => EcKey::private_key_from_der(&der).and_then(|k| k.public_key_to_der()),
                _ => PKey::private_key_from_der(&der).and_then(|k| k.public_key_to_der()),
            };
            return spki.map_err(KeyError::Damaged);
        }
    }
    Err(KeyError::None)
}

/// A certificate that may have signed others.
pub(super) struct Issuer {
    subject: String,
    key: PKey<Public>,
}

impl Issuer {
    /// None for a key that OpenSSL does not know: it cannot have signed anything that we could check.
    pub(super) fn new(ca: &CertFacts) -> Option<Self> {
        let key = PKey::public_key_from_der(&ca.spki).ok()?;
        Some(Self { subject: ca.subject.clone(), key })
    }

    /// By name and by signature. A name alone proves nothing: a recreated CA has the same.
    pub(super) fn issued(&self, facts: &CertFacts) -> bool {
        facts.issuer == self.subject
            && X509::from_der(&facts.der).and_then(|cert| cert.verify(&self.key)).unwrap_or(false)
    }
}

/// Whether the first certificate of `chain` leads to one of `issuers`, over the others of the chain if need be.
pub(super) fn leads_to(chain: &[CertFacts], issuers: &[Issuer]) -> bool {
    let Some((leaf, between)) = chain.split_first() else { return false };
    if issuers.iter().any(|i| i.issued(leaf)) {
        return true;
    }
    // in the order of the file, as TLS wants it; each step uses one up
    let next = between.iter().position(|c| Issuer::new(c).is_some_and(|i| i.issued(leaf)));
    next.and_then(|n| between.get(n..)).is_some_and(|rest| leads_to(rest, issuers))
}
