//! Signing a successor of a leaf with the CA key on the disk.

use jiff::Timestamp;
use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
use openssl::x509::{X509, X509Builder, X509Extension};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{CryptoError, certificates, private_key};
use crate::model::cert::KeyAlgorithm;

/// Key usage, extended key usage, basic constraints, subject key identifier, authority key identifier, subject alternative
/// names: in the order in which Go, and so kubeadm, writes them (crypto/x509: `buildCertExtensions`).
const EXTENSIONS: [&str; 6] = ["2.5.29.15", "2.5.29.37", "2.5.29.19", SUBJECT_KEY, AUTHORITY_KEY, "2.5.29.17"];
/// RFC 5280 §4.2.1.2; tells of the key, so that it is made anew.
const SUBJECT_KEY: &str = "2.5.29.14";
/// RFC 5280 §4.2.1.1; tells of the CA's key.
const AUTHORITY_KEY: &str = "2.5.29.35";

/// Bits of a serial number, as kubeadm takes them (kubernetes: `cmd/kubeadm/app/util/pkiutil/pki_helpers.go:NewSignedCert`).
const SERIAL_BITS: i32 = 63;

/// A new leaf and its new key, both PEM. `Debug` shows no key.
pub struct Signed {
    pub cert: Vec<u8>,
    /// `RSA PRIVATE KEY` or `EC PRIVATE KEY` as kubeadm writes them, else PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").finish_non_exhaustive()
    }
}

/// Issues a successor of the leaf `old` (PEM or DER): a new key of algorithm `key`, the same subject, names and
/// usages, signed by the certificate of `ca_cert` that `ca_key` belongs to. What kubeadm makes of the same leaf differs
/// in serial, key and dates only (`vm-tests/scenarios/test_local_signer.py`).
///
/// # Errors
/// [`CryptoError::Unsupported`] if `old` is a CA or the algorithm is unknown, [`CryptoError::CaKeyMismatch`].
pub fn sign_like(
    old: &[u8],
    ca_cert: &[u8],
    ca_key: &[u8],
    key: &KeyAlgorithm,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<Signed, CryptoError> {
    let old = certificates(old)?.into_iter().next().ok_or(CryptoError::NoCertificate)?;
    let ca_key = private_key(ca_key)?;
    let is_ours = |ca: &X509| ca.public_key().is_ok_and(|public| public.public_eq(&ca_key));
    let ca = certificates(ca_cert)?.into_iter().find(is_ours).ok_or(CryptoError::CaKeyMismatch)?;
    let carried = carried(&old)?;
    let (new_key, key_pem) = generate(key)?;
    let cert = build(&old, &carried, &ca, &ca_key, &new_key, (not_before, not_after))
        .map_err(CryptoError::openssl("sign a certificate"))?;
    Ok(Signed { cert, key: key_pem })
}

/// Whether [`sign_like`] knows everything in `old`, and can make a key of that kind.
///
/// # Errors
/// [`CryptoError`], as it would say.
pub fn can_sign_like(old: &[u8], key: &KeyAlgorithm) -> Result<(), CryptoError> {
    let old = certificates(old)?.into_iter().next().ok_or(CryptoError::NoCertificate)?;
    carried(&old)?;
    kind(key).map(drop)
}

struct Carried {
    oid: String,
    critical: bool,
    value: Vec<u8>,
}

fn carried(old: &X509) -> Result<Vec<Carried>, CryptoError> {
    let unsupported = |detail: String| CryptoError::Unsupported { detail };
    let der = old.to_der().map_err(CryptoError::openssl("encode a certificate"))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| unsupported(e.to_string()))?;
    if parsed.is_ca() {
        return Err(unsupported("it is a CA".into()));
    }
    let each = parsed.extensions().iter().map(|e| Carried {
        oid: e.oid.to_id_string(),
        critical: e.critical,
        value: e.value.to_vec(),
    });
    Ok(each.collect())
}

fn build(
    old: &X509,
    carried: &[Carried],
    ca: &X509,
    ca_key: &PKey<Private>,
    key: &PKey<Private>,
    (not_before, not_after): (Timestamp, Timestamp),
) -> Result<Vec<u8>, ErrorStack> {
    let mut cert = X509Builder::new()?;
    cert.set_version(2)?; // v3
    let serial = serial()?;
    cert.set_serial_number(&serial)?;
    cert.set_subject_name(old.subject_name())?;
    cert.set_issuer_name(ca.subject_name())?;
    let (from, to) = (Asn1Time::from_unix(not_before.as_second())?, Asn1Time::from_unix(not_after.as_second())?);
    cert.set_not_before(&from)?;
    cert.set_not_after(&to)?;
    cert.set_pubkey(key)?;
    for oid in EXTENSIONS {
        let old = carried.iter().find(|e| e.oid == oid);
        let extension = match oid {
            SUBJECT_KEY if old.is_some() => SubjectKeyIdentifier::new().build(&cert.x509v3_context(Some(ca), None))?,
            // Go before 1.15 made CAs without a key identifier, and there is nothing to point at then
            AUTHORITY_KEY if ca.subject_key_id().is_some() => {
                AuthorityKeyIdentifier::new().keyid(true).build(&cert.x509v3_context(Some(ca), None))?
            }
            SUBJECT_KEY | AUTHORITY_KEY => continue,
            _ => {
                let Some(old) = old else { continue };
                let value = Asn1OctetString::new_from_bytes(&old.value)?;
                X509Extension::new_from_der(Asn1Object::from_str(oid)?.as_ref(), old.critical, &value)?
            }
        };
        cert.append_extension(extension)?;
    }
    cert.sign(ca_key, digest(ca_key))?;
    cert.build().to_pem()
}

/// As Go chooses it (crypto/x509: `signingParamsForKey`).
pub(super) fn digest(ca_key: &PKey<Private>) -> MessageDigest {
    match (ca_key.id(), ca_key.bits()) {
        // it has its digest built in (EVP_PKEY-ED25519(7))
        (Id::ED25519, _) => MessageDigest::null(),
        (Id::EC, 257..=384) => MessageDigest::sha384(),
        (Id::EC, 385..) => MessageDigest::sha512(),
        _ => MessageDigest::sha256(),
    }
}

pub(super) fn serial() -> Result<Asn1Integer, ErrorStack> {
    let mut number = BigNum::new()?;
    number.rand(SERIAL_BITS, MsbOption::ONE, false)?; // the top bit set: never zero, always eight octets
    number.to_asn1_integer()
}

/// Keys that can be made.
enum Kind {
    Rsa(u32),
    Ec(Nid),
    Ed25519,
}

fn kind(algorithm: &KeyAlgorithm) -> Result<Kind, CryptoError> {
    let curve = |name: &str| match name {
        "P256" => Some(Nid::X9_62_PRIME256V1),
        "P384" => Some(Nid::SECP384R1),
        "P521" => Some(Nid::SECP521R1),
        _ => None,
    };
    let kind = match algorithm {
        KeyAlgorithm::Rsa { bits } => Some(Kind::Rsa(*bits)),
        KeyAlgorithm::Ecdsa { curve: name, .. } => curve(name).map(Kind::Ec),
        KeyAlgorithm::Other(name) => (name == "Ed25519").then_some(Kind::Ed25519),
    };
    kind.ok_or_else(|| CryptoError::Unsupported { detail: format!("keys of kind {algorithm} cannot be made") })
}

pub(super) fn generate(algorithm: &KeyAlgorithm) -> Result<(PKey<Private>, Zeroizing<Vec<u8>>), CryptoError> {
    let made = match kind(algorithm)? {
        Kind::Rsa(bits) => rsa(bits),
        Kind::Ec(curve) => ec(curve),
        Kind::Ed25519 => ed25519(),
    };
    made.map_err(CryptoError::openssl("generate a key"))
}

type KeyAndPem = (PKey<Private>, Zeroizing<Vec<u8>>);

fn rsa(bits: u32) -> Result<KeyAndPem, ErrorStack> {
    let rsa = Rsa::generate(bits)?;
    let pem = Zeroizing::new(rsa.private_key_to_pem()?);
    Ok((PKey::from_rsa(rsa)?, pem))
}

fn ec(curve: Nid) -> Result<KeyAndPem, ErrorStack> {
    let ec = EcKey::generate(&*EcGroup::from_curve_name(curve)?)?;
    let pem = Zeroizing::new(ec.private_key_to_pem()?);
    Ok((PKey::from_ec_key(ec)?, pem))
}

fn ed25519() -> Result<KeyAndPem, ErrorStack> {
    let key = PKey::generate_ed25519()?;
    let pem = Zeroizing::new(key.private_key_to_pem_pkcs8()?);
    Ok((key, pem))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf};
    use super::super::{At, Purpose, is_signed_by, public_key_der, verify_chain};
    use super::*;
    use crate::model::cert::parse_pem;

    fn year() -> (Timestamp, Timestamp) {
        let now = Timestamp::now().as_second();
        (Timestamp::from_second(now - 300).unwrap(), Timestamp::from_second(now + 365 * 86_400).unwrap())
    }

    #[test]
    fn a_successor_is_the_same_but_for_key_serial_and_dates() {
        let ca = Ca::new("kubernetes");
        let old = ca
            .issue(&Leaf { days: (-300, 3), ..Leaf::server("kube-apiserver", &["DNS:n1", "IP:10.96.0.1", "IP:::1"]) });
        let (from, to) = year();
        let p256 = KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 };
        let new = sign_like(&old.cert, &ca.cert, &ca.key, &p256, from, to).unwrap();
        let (was, is) = (parse_pem(&old.cert).unwrap().remove(0), parse_pem(&new.cert).unwrap().remove(0));
        assert_eq!(
            (&is.subject, &is.sans, &is.usages, &is.issuer),
            (&was.subject, &was.sans, &was.usages, &was.issuer)
        );
        assert_eq!((is.not_before.as_second(), is.not_after.as_second()), (from.as_second(), to.as_second()));
        assert_eq!(is.key_algorithm, p256);
        assert_eq!(is.serial.len(), 16, "63 bits, the top one set: {}", is.serial);
        assert_ne!(is.spki, was.spki);
        assert_eq!(public_key_der(&new.key).unwrap(), is.spki);
        assert!(new.key.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
        assert!(is_signed_by(&new.cert, &ca.cert).unwrap());
        verify_chain(&new.cert, &ca.cert, At::Time(Timestamp::now()), Purpose::Server).unwrap();
        let pem = String::from_utf8(X509::from_pem(&new.cert).unwrap().to_text().unwrap()).unwrap();
        assert!(pem.contains("sha256") || pem.contains("ecdsa-with-SHA256"), "{pem}");
        assert!(pem.contains("Authority Key Identifier"));
        // OpenSSL's leaves have one, Go's have none; either way it is as before
        let had = X509::from_pem(&old.cert).unwrap().subject_key_id().is_some();
        assert_eq!(pem.contains("Subject Key Identifier"), had);
    }

    #[test]
    fn the_digest_is_the_one_that_go_takes_for_the_ca_s_key() {
        for (curve, hash) in
            [(Nid::X9_62_PRIME256V1, Nid::SHA256), (Nid::SECP384R1, Nid::SHA384), (Nid::SECP521R1, Nid::SHA512)]
        {
            assert_eq!(digest(&ec(curve).unwrap().0).type_(), hash);
        }
        assert_eq!(digest(&rsa(2048).unwrap().0).type_(), Nid::SHA256);
    }

    #[test]
    fn keys_are_written_as_kubeadm_writes_them() {
        let ca = Ca::new("kubernetes");
        let old = ca.issue(&Leaf::client("a", &["system:masters"]));
        let (from, to) = year();
        for (algorithm, head) in [
            (KeyAlgorithm::Rsa { bits: 2048 }, "-----BEGIN RSA PRIVATE KEY-----"),
            (KeyAlgorithm::Other("Ed25519".into()), "-----BEGIN PRIVATE KEY-----"),
        ] {
            let new = sign_like(&old.cert, &ca.cert, &ca.key, &algorithm, from, to).unwrap();
            assert!(new.key.starts_with(head.as_bytes()), "{algorithm}");
            assert_eq!(parse_pem(&new.cert).unwrap().remove(0).key_algorithm, algorithm);
        }
        let odd = KeyAlgorithm::Other("1.2.3".into());
        assert!(matches!(
            sign_like(&old.cert, &ca.cert, &ca.key, &odd, from, to),
            Err(CryptoError::Unsupported { .. })
        ));
    }

    #[test]
    fn the_bundle_s_certificate_that_the_key_belongs_to_signs() {
        let (ca, other) = (Ca::new("new"), Ca::new("old"));
        let old = ca.issue(&Leaf::client("a", &[]));
        let bundle = [other.cert.clone(), ca.cert.clone()].concat();
        let (from, to) = year();
        let algorithm = KeyAlgorithm::Ecdsa { curve: "P384".into(), bits: 384 };
        let new = sign_like(&old.cert, &bundle, &ca.key, &algorithm, from, to).unwrap();
        assert!(is_signed_by(&new.cert, &ca.cert).unwrap());
        let err = sign_like(&old.cert, &other.cert, &ca.key, &algorithm, from, to).unwrap_err();
        assert!(matches!(err, CryptoError::CaKeyMismatch), "{err}");
    }

    #[test]
    fn a_ca_is_never_re_issued() {
        let ca = Ca::new("kubernetes");
        let (from, to) = year();
        let err = sign_like(&ca.cert, &ca.cert, &ca.key, &KeyAlgorithm::Rsa { bits: 2048 }, from, to).unwrap_err();
        assert_eq!(err.to_string(), "cannot be re-issued: it is a CA");
    }
}
