//! Do a key and a certificate belong together, did a CA sign a certificate: by OpenSSL, on bytes from the disk.

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::x509::X509;
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// The public half of the first private key in a PEM file, as the content of a subject public key info's BIT STRING
/// (RFC 5280 §4.1): what [`belongs`] compares. Not the whole structure, because OpenSSL 3 takes ten times as long for that.
pub(super) fn public_bits(file: &[u8]) -> Result<Vec<u8>, KeyError> {
    for block in pem::blocks(file) {
        let block = block?;
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        if block.is_private_key() {
            let der = block.decode()?;
            // the typed readers are several times faster than OpenSSL 3's general decoder, and know less
            let bits = match block.label {
                "RSA PRIVATE KEY" => Rsa::private_key_from_der(&der).and_then(|k| k.public_key_to_der_pkcs1()),
                "EC PRIVATE KEY" => EcKey::private_key_from_der(&der).and_then(|k| point(&k)),
                _ => PKey::private_key_from_der(&der).and_then(|k| match (k.rsa(), k.ec_key()) {
                    (Ok(rsa), _) => rsa.public_key_to_der_pkcs1(),
                    (_, Ok(ec)) => point(&ec),
                    _ => k.raw_public_key(),
                }),
            };
            return bits.map_err(KeyError::Damaged);
        }
    }
    Err(KeyError::None)
}

fn point(key: &EcKey<Private>) -> Result<Vec<u8>, ErrorStack> {
    let mut context = BigNumContext::new()?;
    key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut context)
}

/// Whether a key with these public bits is the certificate's.
pub(super) fn belongs(public_bits: &[u8], cert: &CertFacts) -> bool {
    // a BIT STRING is the last thing in the structure
    !public_bits.is_empty() && cert.spki.ends_with(public_bits)
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
        facts.issuer == self.subject && self.signed(&facts.der).unwrap_or(false)
    }

    /// With the parts taken from the DER by hand where the algorithm is one of kubeadm's: `d2i_X509` decodes the
    /// subject's public key too, which takes OpenSSL 3 longer than the signature.
    fn signed(&self, der: &[u8]) -> Option<bool> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let digest = match cert.signature_algorithm.algorithm.to_id_string().as_str() {
            // RFC 4055 §5, RFC 5758 §3.2: sha256, sha384 and sha512 with RSA (PKCS 1) and with ECDSA
            "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => MessageDigest::sha256(),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => MessageDigest::sha384(),
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => MessageDigest::sha512(),
            _ => return X509::from_der(der).and_then(|cert| cert.verify(&self.key)).ok(),
        };
        let mut verifier = Verifier::new(digest, &self.key).ok()?;
        verifier.verify_oneshot(&cert.signature_value.data, cert.tbs_certificate.as_ref()).ok()
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
