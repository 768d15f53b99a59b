//! OpenSSL as the [`Library`].

use std::error::Error;

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::x509::X509;

use super::{Library, PublicKey, RSA_SHA256, Signed};

// RFC 4055 §5, RFC 5758 §3.2: the contents of the OIDs
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];

/// The distribution's OpenSSL.
#[derive(Debug)]
pub struct OpenSsl;

impl Library for OpenSsl {
    fn public_bits(&self, label: &str, der: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(public_bits(label, der)?)
    }

    fn public_key(&self, spki: &[u8]) -> Option<Box<dyn PublicKey>> {
        let key = PKey::public_key_from_der(spki).ok()?;
        Some(Box::new(key))
    }
}

impl PublicKey for PKey<Public> {
    fn signed(&self, certificate: &[u8]) -> bool {
        signed(self, certificate).unwrap_or(false)
    }
}

/// With the parts taken from the DER by hand where the algorithm is a usual one: `d2i_X509` decodes the subject's
/// public key too, which takes OpenSSL 3 longer than the signature.
fn signed(key: &PKey<Public>, certificate: &[u8]) -> Option<bool> {
    let signed = Signed::of(certificate)?;
    let digest = match signed.algorithm {
        RSA_SHA256 | ECDSA_SHA256 => MessageDigest::sha256(),
        RSA_SHA384 | ECDSA_SHA384 => MessageDigest::sha384(),
        RSA_SHA512 | ECDSA_SHA512 => MessageDigest::sha512(),
        _ => return X509::from_der(certificate).ok()?.verify(key).ok(),
    };
    Verifier::new(digest, key).ok()?.verify_oneshot(signed.signature, signed.content).ok()
}

/// Not the whole structure, because OpenSSL 3 takes ten times as long for that.
fn public_bits(label: &str, der: &[u8]) -> Result<Vec<u8>, ErrorStack> {
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
