//! Do a key and a certificate belong together, did a CA sign a certificate: on bytes from the disk, by OpenSSL.

mod openssl;

use ::openssl::error::ErrorStack;
use ::openssl::pkey::{PKey, Public};

use crate::model::cert::{CertFacts, NameConstraints};
use crate::model::pem;
#[cfg(any(test, fuzzing))]
pub(super) use openssl::any_public_bits;
pub(super) use openssl::public_bits;
use openssl::{public_key, signed};

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

/// Whether the first private key in a PEM file belongs to any of `certs`.
pub(super) fn belongs(file: &[u8], certs: &[CertFacts]) -> Result<bool, KeyError> {
    for block in pem::blocks(file) {
        let block = block?;
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        if block.is_private_key() {
            let bits = public_bits(block.label, &block.decode()?).map_err(KeyError::Damaged)?;
            // a BIT STRING is the last thing in a subject public key info (RFC 5280 §4.1)
            return Ok(!bits.is_empty() && certs.iter().any(|c| c.spki.ends_with(&bits)));
        }
    }
    Err(KeyError::None)
}

/// A certificate that may have signed others.
pub(super) struct Issuer {
    /// DER: Go compares names as bytes (crypto/x509: `Certificate.isValid`).
    subject: Vec<u8>,
    path_length: Option<u32>,
    constraints: Option<NameConstraints>,
    spki: Vec<u8>,
    key: PKey<Public>,
}

impl Issuer {
    /// None for one that may not issue others, and for a key that OpenSSL does not know: it cannot have signed anything that
    /// we could check.
    pub(super) fn new(ca: &CertFacts) -> Option<Self> {
        if ca.raw.not_an_issuer.is_some() {
            return None;
        }
        Some(Self {
            subject: ca.raw.subject.clone(),
            path_length: ca.raw.path_length,
            constraints: ca.raw.constraints.clone(),
            spki: ca.spki.clone(),
            key: public_key(ca)?,
        })
    }

    /// Whether this is it.
    pub(super) fn is(&self, facts: &CertFacts) -> bool {
        self.subject == facts.raw.subject && self.spki == facts.spki
    }

    /// By name and by signature. A name alone proves nothing: a recreated CA has the same.
    pub(super) fn issued(&self, facts: &CertFacts) -> bool {
        facts.raw.issuer == self.subject && signed(&self.key, &facts.der)
    }
}

/// Whether the first certificate of `chain` leads to one of `issuers`, over the others of the chain if need be.
pub(super) fn leads_to(chain: &[CertFacts], issuers: &[Issuer]) -> bool {
    leads(chain, issuers, &mut Vec::new(), &mut |_, _| true)
}

/// Why nobody accepts the first certificate of `chain`, which leads to one of `issuers`: each way is over a CA whose name
/// constraints a certificate below it is outside of. A clause.
pub(super) fn excluded(chain: &[CertFacts], issuers: &[Issuer]) -> Option<String> {
    let mut why = None;
    let mut within = |issuer: &Issuer, below: &[&CertFacts]| {
        let refused = issuer.constraints.as_ref().and_then(|c| below.iter().find_map(|b| c.refuse(&b.sans)));
        let within = refused.is_none();
        why = why.take().or(refused);
        within
    };
    let is_accepted = leads(chain, issuers, &mut Vec::new(), &mut within);
    why.filter(|_| !is_accepted)
}

/// With these below, the leaf first, and where `allows` agrees to each step.
fn leads<'c>(
    chain: &'c [CertFacts],
    issuers: &[Issuer],
    below: &mut Vec<&'c CertFacts>,
    allows: &mut dyn FnMut(&Issuer, &[&CertFacts]) -> bool,
) -> bool {
    let Some((leaf, between)) = chain.split_first() else { return false };
    let cas = u32::try_from(below.len()).unwrap_or(u32::MAX);
    below.push(leaf);
    let mut issued =
        |i: &Issuer| i.path_length.is_none_or(|most| cas <= most) && i.issued(leaf) && allows(i, below.as_slice());
    if issuers.iter().any(&mut issued) {
        return true;
    }
    // in the order of the file, as TLS wants it; each step uses one up
    let next = between.iter().position(|c| Issuer::new(c).is_some_and(|i| issued(&i)));
    next.and_then(|n| between.get(n..)).is_some_and(|rest| leads(rest, issuers, below, allows))
}

#[cfg(test)]
mod tests;
