//! What OpenSSL is asked about keys and certificates, by the fastest of its ways: `certwarden check` asks about each file.

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::x509::X509;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::oid_registry as oid;

use crate::model::cert::{CertFacts, KeyAlgorithm};

/// Whether the signature of a certificate (DER) is this key's.
pub(super) fn signed(key: &PKey<Public>, certificate: &[u8]) -> bool {
    verify(key, certificate).unwrap_or(false)
}

/// With the parts of the certificate where the algorithm is a usual one: `d2i_X509` decodes the subject's public key too,
/// which takes OpenSSL 3 longer than the signature.
fn verify(key: &PKey<Public>, certificate: &[u8]) -> Option<bool> {
    let Signed { content, algorithm, signature } = Signed::of(certificate)?;
    match digest(algorithm) {
        Some(digest) => Verifier::new(digest, key).ok()?.verify_oneshot(signature, content).ok(),
        None => X509::from_der(certificate).ok()?.verify(key).ok(),
    }
}

/// The parts of a certificate that a signature is about.
struct Signed<'a> {
    content: &'a [u8],
    /// The content of its OID.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// None if it has not the form of a certificate (RFC 5280 §4.1), which OpenSSL would not read either.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut behind = certificate;
        let mut parts = element(&mut behind, SEQUENCE).filter(|_| behind.is_empty())?.content;
        let (content, algorithm) = (element(&mut parts, SEQUENCE)?, element(&mut parts, SEQUENCE)?);
        // named twice, the second time unsigned: they must be the same (RFC 5280 §4.1.1.2), else neither Go nor OpenSSL takes it
        let mut within = content.content;
        let first = std::iter::from_fn(|| next(&mut within)).find(|e| e.is(SEQUENCE));
        first.filter(|e| e.whole == algorithm.whole)?;
        let mut named = algorithm.content;
        let oid = element(&mut named, OID)?;
        // signatures are whole bytes: no bits unused
        let signature = element(&mut parts, BIT_STRING)?.content.strip_prefix(&[0]).filter(|_| parts.is_empty())?;
        Some(Self { content: content.whole, algorithm: oid.content, signature })
    }
}

/// Identifiers of elements (X.690 §8.1.2), all of the universal class; a sequence is constructed.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// An element of DER.
struct Element<'a> {
    /// With its header.
    whole: &'a [u8],
    content: &'a [u8],
}

impl Element<'_> {
    fn is(&self, identifier: u8) -> bool {
        self.whole.first() == Some(&identifier)
    }
}

/// Takes the first element of `bytes`.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<Element<'a>> {
    let (rest, any) = Any::from_der(bytes).ok()?;
    let whole = bytes.get(..bytes.len() - rest.len())?;
    *bytes = rest;
    Some(Element { whole, content: any.data })
}

/// The same if it is one of these.
fn element<'a>(bytes: &mut &'a [u8], identifier: u8) -> Option<Element<'a>> {
    next(bytes).filter(|e| e.is(identifier))
}

/// None for an algorithm that has parameters of its own, or is not used.
fn digest(algorithm: &[u8]) -> Option<MessageDigest> {
    let is = |oids: [&oid::Oid<'_>; 2]| oids.iter().any(|oid| oid.as_bytes() == algorithm);
    if is([&oid::OID_PKCS1_SHA256WITHRSA, &oid::OID_SIG_ECDSA_WITH_SHA256]) {
        Some(MessageDigest::sha256())
    } else if is([&oid::OID_PKCS1_SHA384WITHRSA, &oid::OID_SIG_ECDSA_WITH_SHA384]) {
        Some(MessageDigest::sha384())
    } else if is([&oid::OID_PKCS1_SHA512WITHRSA, &oid::OID_SIG_ECDSA_WITH_SHA512]) {
        Some(MessageDigest::sha512())
    } else {
        None
    }
}

/// A certificate's public key. None for a kind that OpenSSL does not know.
pub(super) fn public_key(facts: &CertFacts) -> Option<PKey<Public>> {
    // the typed readers take OpenSSL 3 a few microseconds, its general decoder a hundred
    let typed = match facts.key_algorithm {
        KeyAlgorithm::Rsa { .. } => Rsa::public_key_from_der(&facts.spki).and_then(PKey::from_rsa),
        KeyAlgorithm::Ecdsa { .. } => EcKey::public_key_from_der(&facts.spki).and_then(PKey::from_ec_key),
        KeyAlgorithm::Other(_) => return PKey::public_key_from_der(&facts.spki).ok(),
    };
    typed.or_else(|_| PKey::public_key_from_der(&facts.spki)).ok()
}

/// The public half of a private key, as the content of a subject public key info's BIT STRING.
///
/// # Errors
/// If OpenSSL cannot read the key.
pub(crate) fn public_bits(label: &str, der: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let rsa = |der| Rsa::private_key_from_der(der).and_then(|k| k.public_key_to_der_pkcs1());
    match (label, wrapped_rsa(der)) {
        ("RSA PRIVATE KEY", _) => rsa(der),
        ("EC PRIVATE KEY", _) => EcKey::private_key_from_der(der).and_then(|k| point(&k)),
        (_, Some(inner)) => rsa(inner),
        (_, None) => any_public_bits(der),
    }
}

/// The same of a key in any form, slowly.
///
/// # Errors
/// If OpenSSL cannot read the key.
pub(crate) fn any_public_bits(der: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::private_key_from_der(der)?;
    match (key.rsa(), key.ec_key()) {
        (Ok(rsa), _) => rsa.public_key_to_der_pkcs1(),
        (_, Ok(ec)) => point(&ec),
        _ => key.raw_public_key(),
    }
}

/// The RSA key (RFC 8017 §A.1.2) within a PKCS #8 one (RFC 5208 §5), which takes OpenSSL 3 half a millisecond to find.
fn wrapped_rsa(mut der: &[u8]) -> Option<&[u8]> {
    let mut parts = element(&mut der, SEQUENCE).filter(|_| der.is_empty())?.content;
    element(&mut parts, INTEGER).filter(|version| version.content == [0])?;
    let mut algorithm = element(&mut parts, SEQUENCE)?.content;
    element(&mut algorithm, OID).filter(|e| e.content == oid::OID_PKCS1_RSAENCRYPTION.as_bytes())?;
    element(&mut parts, OCTET_STRING).map(|e| e.content)
}

fn point(key: &EcKey<Private>) -> Result<Vec<u8>, ErrorStack> {
    let mut context = BigNumContext::new()?;
    key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut context)
}
