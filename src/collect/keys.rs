//! Do a key and a certificate belong together, did a CA sign a certificate: on bytes from the disk. What kubeadm makes
//! is understood here; all else, and every no, is a [`Library`]'s to say.

mod der;
mod openssl;
mod rsa;

use std::error::Error;
use std::sync::OnceLock;

use crate::model::cert::{CertFacts, NameConstraints};
use crate::model::pem;
use der::Elements;
pub use openssl::OpenSsl;

/// sha256WithRSAEncryption, the content of its OID (RFC 4055 §5).
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];

/// A cryptographic library, for what a first look at the bytes does not settle.
pub trait Library: std::fmt::Debug + Sync {
    /// The public half of a private key, as the content of a subject public key info's BIT STRING.
    ///
    /// # Errors
    /// If the key cannot be read.
    fn public_bits(&self, label: &str, der: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// The key in a subject public key info (DER). None for a kind that the library does not know.
    fn public_key(&self, spki: &[u8]) -> Option<Box<dyn PublicKey>>;
}

/// A public key as a [`Library`] holds it.
pub trait PublicKey: Send + Sync {
    /// Whether the signature of a certificate (DER) is this key's.
    fn signed(&self, certificate: &[u8]) -> bool;
}

/// The parts of a certificate (DER) that a signature is about. None if it is not of the usual form.
struct Signed<'a> {
    content: &'a [u8],
    /// The content of the OID.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut parts = Elements::within(certificate, der::SEQUENCE)?;
        let (content, algorithm) = (parts.require(der::SEQUENCE)?, parts.require(der::SEQUENCE)?);
        // named twice, the second time unsigned: they must be the same (RFC 5280 §4.1.1.2), else neither Go nor OpenSSL takes it
        Elements(content.content).find(|e| e.tag == der::SEQUENCE).filter(|e| e.whole == algorithm.whole)?;
        Some(Self {
            content: content.whole,
            algorithm: Elements(algorithm.content).require(der::OID)?.content,
            // signatures are whole bytes: no bits unused
            signature: parts.require(der::BIT_STRING)?.content.strip_prefix(&[0])?,
        })
    }
}

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
    Damaged(#[source] Box<dyn Error + Send + Sync>),
}

/// Whether the first private key in a PEM file belongs to any of `certs`.
pub(super) fn belongs(file: &[u8], certs: &[CertFacts], library: &dyn Library) -> Result<bool, KeyError> {
    // a BIT STRING is the last thing in a subject public key info (RFC 5280 §4.1)
    let fits = |bits: &[u8]| !bits.is_empty() && certs.iter().any(|c| c.spki.ends_with(bits));
    for block in pem::blocks(file) {
        let block = block?;
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        if block.is_private_key() {
            let der = block.decode()?;
            if stated_bits(block.label, &der).is_some_and(|bits| fits(&bits)) {
                return Ok(true);
            }
            // not at first sight: the library says what it is, and why not
            return library.public_bits(block.label, &der).map(|bits| fits(&bits)).map_err(KeyError::Damaged);
        }
    }
    Err(KeyError::None)
}

/// Whether a key file states at first sight that it belongs to any of `certs`. No library is asked: this is for keys that
/// nobody says belong together.
pub(super) fn states(file: &[u8], certs: &[CertFacts]) -> bool {
    let key = pem::blocks(file).filter_map(Result::ok).find(pem::Block::is_private_key);
    let stated = key.and_then(|block| stated_bits(block.label, &block.decode().ok()?));
    stated.is_some_and(|bits| !bits.is_empty() && certs.iter().any(|c| c.spki.ends_with(&bits)))
}

/// The public half that a whole private key states of itself, as the content of a subject public key info's BIT STRING.
/// As OpenSSL takes it too: neither computes it from the private half. None for every form but the usual ones.
pub(super) fn stated_bits(label: &str, der: &[u8]) -> Option<Vec<u8>> {
    // RFC 8017 §A.1, RFC 5915 §3, RFC 5208 §5
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    let mut parts = Elements::within(der, der::SEQUENCE)?;
    let version = parts.require(der::INTEGER)?;
    match label {
        "RSA PRIVATE KEY" => {
            let (modulus, exponent) = (parts.natural()?, parts.natural()?);
            // two primes: the private exponent, they and three numbers that follow from them
            let rest = (0..6).all(|_| parts.require(der::INTEGER).is_some_and(|e| !e.content.is_empty()));
            let whole = rest && parts.0.is_empty() && version.content == [0];
            whole.then(|| der::wrap(der::SEQUENCE, &[modulus.whole, exponent.whole]))?
        }
        "EC PRIVATE KEY" => {
            parts.require(der::OCTET_STRING).filter(|e| !e.content.is_empty())?;
            let last = parts.last().filter(|e| e.tag == 0xa1)?;
            let bits = Elements::within(last.content, der::BIT_STRING)?.0;
            // no bits unused, and not compressed (SEC 1 §2.3.3)
            bits.strip_prefix(&[0]).filter(|point| point.first() == Some(&4)).map(<[u8]>::to_vec)
        }
        "PRIVATE KEY" => {
            let algorithm = Elements(parts.require(der::SEQUENCE)?.content).require(der::OID)?;
            let inner = parts.require(der::OCTET_STRING)?.content;
            match algorithm.content {
                RSA => stated_bits("RSA PRIVATE KEY", inner),
                EC => stated_bits("EC PRIVATE KEY", inner),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A certificate that may have signed others.
pub(super) struct Issuer<'a> {
    /// DER: Go compares names as bytes (crypto/x509: `Certificate.isValid`).
    subject: Vec<u8>,
    path_length: Option<u32>,
    constraints: Option<NameConstraints>,
    spki: Vec<u8>,
    rsa: Option<rsa::Key>,
    library: &'a dyn Library,
    /// Made when first needed: OpenSSL takes a millisecond to get going.
    key: OnceLock<Option<Box<dyn PublicKey>>>,
}

impl<'a> Issuer<'a> {
    /// None for one that may not issue others, and for a key that the library does not know: it cannot have signed anything that
    /// we could check.
    pub(super) fn new(ca: &CertFacts, library: &'a dyn Library) -> Option<Self> {
        if ca.raw.not_an_issuer.is_some() {
            return None;
        }
        let rsa = rsa::Key::from_spki(&ca.spki);
        let issuer = Self {
            subject: ca.raw.subject.clone(),
            path_length: ca.raw.path_length,
            constraints: ca.raw.constraints.clone(),
            spki: ca.spki.clone(),
            rsa,
            library,
            key: OnceLock::new(),
        };
        (issuer.rsa.is_some() || issuer.key().is_some()).then_some(issuer)
    }

    /// Whether this is it.
    pub(super) fn is(&self, facts: &CertFacts) -> bool {
        self.subject == facts.raw.subject && self.spki == facts.spki
    }

    fn key(&self) -> Option<&dyn PublicKey> {
        self.key.get_or_init(|| self.library.public_key(&self.spki)).as_deref()
    }

    /// By name and by signature. A name alone proves nothing: a recreated CA has the same.
    pub(super) fn issued(&self, facts: &CertFacts) -> bool {
        let at_sight = || {
            let signed = Signed::of(&facts.der).filter(|s| s.algorithm == RSA_SHA256);
            signed.is_some_and(|s| self.rsa.as_ref().is_some_and(|key| key.verify(s.content, s.signature)))
        };
        facts.raw.issuer == self.subject && (at_sight() || self.key().is_some_and(|key| key.signed(&facts.der)))
    }
}

/// Whether the first certificate of `chain` leads to one of `issuers`, over the others of the chain if need be.
pub(super) fn leads_to(chain: &[CertFacts], issuers: &[Issuer<'_>]) -> bool {
    leads(chain, issuers, &mut Vec::new(), &mut |_, _| true)
}

/// Why nobody accepts the first certificate of `chain`, which leads to one of `issuers`: each way is over a CA whose name
/// constraints a certificate below it is outside of. A clause.
pub(super) fn excluded(chain: &[CertFacts], issuers: &[Issuer<'_>]) -> Option<String> {
    let mut why = None;
    let mut within = |issuer: &Issuer<'_>, below: &[&CertFacts]| {
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
    issuers: &[Issuer<'_>],
    below: &mut Vec<&'c CertFacts>,
    allows: &mut dyn FnMut(&Issuer<'_>, &[&CertFacts]) -> bool,
) -> bool {
    let (Some((leaf, between)), Some(first)) = (chain.split_first(), issuers.first()) else { return false };
    let cas = u32::try_from(below.len()).unwrap_or(u32::MAX);
    below.push(leaf);
    let mut issued =
        |i: &Issuer<'_>| i.path_length.is_none_or(|most| cas <= most) && i.issued(leaf) && allows(i, below.as_slice());
    if issuers.iter().any(&mut issued) {
        return true;
    }
    // in the order of the file, as TLS wants it; each step uses one up
    let next = between.iter().position(|c| Issuer::new(c, first.library).is_some_and(|i| issued(&i)));
    next.and_then(|n| between.get(n..)).is_some_and(|rest| leads(rest, issuers, below, allows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::openssl::ec::{EcGroup, EcKey};
    use ::openssl::nid::Nid;
    use ::openssl::pkey::{PKey, Private};
    use ::openssl::rsa::Rsa;

    /// The forms in which keys lie about, and OpenSSL's word on each.
    fn forms() -> Vec<(&'static str, Vec<u8>)> {
        let rsa = Rsa::generate(2048).unwrap();
        let ec = |curve| EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
        let (p256, p384) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1));
        let pkcs8 = |key: PKey<Private>| key.private_key_to_pkcs8().unwrap();
        vec![
            ("RSA PRIVATE KEY", rsa.private_key_to_der().unwrap()),
            ("PRIVATE KEY", pkcs8(PKey::from_rsa(rsa).unwrap())),
            ("EC PRIVATE KEY", p256.private_key_to_der().unwrap()),
            ("EC PRIVATE KEY", p384.private_key_to_der().unwrap()),
            ("PRIVATE KEY", pkcs8(PKey::from_ec_key(p256).unwrap())),
        ]
    }

    #[test]
    fn what_a_key_states_is_what_openssl_makes_of_it() {
        for (label, der) in forms() {
            assert_eq!(stated_bits(label, &der).unwrap(), OpenSsl.public_bits(label, &der).unwrap(), "{label}");
        }
        let ed25519 = PKey::generate_ed25519().unwrap().private_key_to_pkcs8().unwrap();
        assert_eq!(stated_bits("PRIVATE KEY", &ed25519), None, "left to OpenSSL");
    }

    #[test]
    fn a_number_that_is_not_written_as_der_wants_it_is_left_to_openssl() {
        let der = Rsa::generate(2048).unwrap().private_key_to_der().unwrap();
        let numbers: Vec<_> = Elements::within(&der, der::SEQUENCE).unwrap().collect();
        let modulus = numbers[1].content;
        for odd in [&modulus[1..], &[&[0], modulus].concat(), &[]] {
            let odd = der::wrap(der::INTEGER, &[odd]).unwrap();
            let mut whole: Vec<&[u8]> = numbers.iter().map(|e| e.whole).collect();
            whole[1] = &odd;
            assert_eq!(stated_bits("RSA PRIVATE KEY", &der::wrap(der::SEQUENCE, &whole).unwrap()), None);
        }
    }

    #[test]
    fn a_key_that_is_not_whole_states_nothing() {
        for (label, der) in forms() {
            for len in 0..der.len() {
                assert_eq!(stated_bits(label, &der[..len]), None, "{label} cut to {len} bytes");
            }
            assert_eq!(stated_bits(label, &[der.as_slice(), &[0]].concat()), None, "{label} with a byte behind it");
        }
    }
}
