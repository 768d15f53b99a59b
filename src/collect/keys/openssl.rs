//! What OpenSSL is asked about keys and certificates, by the fastest of its ways: `certwarden check` asks about each file.

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::x509::X509;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry as oid;

/// Whether the signature of a certificate (DER) is this key's.
pub(super) fn signed(key: &PKey<Public>, certificate: &[u8]) -> bool {
    verify(key, certificate).unwrap_or(false)
}

/// With the parts of the certificate as x509-parser finds them where the algorithm is a usual one: `d2i_X509` decodes the
/// subject's public key too, which takes OpenSSL 3 longer than the signature.
fn verify(key: &PKey<Public>, certificate: &[u8]) -> Option<bool> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (_, parsed) = parser.parse(certificate).ok().filter(|(rest, _)| rest.is_empty())?;
    // named twice, the second time unsigned: they must be the same (RFC 5280 §4.1.1.2), else neither Go nor OpenSSL takes it
    if parsed.signature_algorithm != parsed.tbs_certificate.signature {
        return Some(false);
    }
    let Some(digest) = digest(&parsed) else { return X509::from_der(certificate).ok()?.verify(key).ok() };
    // signatures are whole bytes
    let signature = Some(&parsed.signature_value).filter(|s| s.unused_bits == 0)?;
    Verifier::new(digest, key).ok()?.verify_oneshot(&signature.data, parsed.tbs_certificate.as_ref()).ok()
}

/// None for an algorithm that has parameters of its own, or is not used.
fn digest(certificate: &X509Certificate<'_>) -> Option<MessageDigest> {
    let algorithm = &certificate.signature_algorithm.algorithm;
    let is = |oids: [&oid::Oid<'_>; 2]| oids.contains(&algorithm);
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

/// The public half of a private key, as the content of a subject public key info's BIT STRING.
///
/// # Errors
/// If OpenSSL cannot read the key.
pub(crate) fn public_bits(label: &str, der: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    // the typed readers are several times faster than OpenSSL 3's general decoder, and know less
    match label {
        "RSA PRIVATE KEY" => Rsa::private_key_from_der(der).and_then(|k| k.public_key_to_der_pkcs1()),
        "EC PRIVATE KEY" => EcKey::private_key_from_der(der).and_then(|k| point(&k)),
        _ => PKey::private_key_from_der(der).and_then(|k| match (k.rsa(), k.ec_key()) {
            (Ok(rsa), _) => rsa.public_key_to_der_pkcs1(),
            (_, Ok(ec)) => point(&ec),
            _ => k.raw_public_key(),
        }),
    }
}

fn point(key: &EcKey<Private>) -> Result<Vec<u8>, ErrorStack> {
    let mut context = BigNumContext::new()?;
    key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut context)
}
