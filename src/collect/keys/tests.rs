use super::*;
use ::openssl::asn1::Asn1Time;
use ::openssl::ec::{EcGroup, EcKey};
use ::openssl::hash::MessageDigest;
use ::openssl::nid::Nid;
use ::openssl::pkey::Private;
use ::openssl::rsa::Rsa;
use ::openssl::x509::extension::BasicConstraints;
use ::openssl::x509::{X509, X509Name};

fn ec(curve: Nid) -> EcKey<Private> {
    EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()
}

/// The forms in which keys lie about.
fn forms() -> Vec<(&'static str, Vec<u8>, PKey<Private>)> {
    let rsa = Rsa::generate(2048).unwrap();
    let (p256, p384) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1));
    let pkcs1 = rsa.private_key_to_der().unwrap();
    let sec1 = [p256.private_key_to_der().unwrap(), p384.private_key_to_der().unwrap()];
    let pkcs8 = |key: PKey<Private>| ("PRIVATE KEY", key.private_key_to_pkcs8().unwrap(), key);
    let (rsa, [p256, p384]) = (PKey::from_rsa(rsa).unwrap(), [p256, p384].map(|k| PKey::from_ec_key(k).unwrap()));
    let [first, second] = sec1;
    vec![
        ("RSA PRIVATE KEY", pkcs1, rsa.clone()),
        ("EC PRIVATE KEY", first, p256.clone()),
        ("EC PRIVATE KEY", second, p384),
        pkcs8(rsa),
        pkcs8(p256),
        pkcs8(PKey::generate_ed25519().unwrap()),
    ]
}

#[test]
fn the_public_half_is_what_ends_a_public_key_info() {
    for (label, der, key) in forms() {
        let (bits, spki) = (public_bits(label, &der).unwrap(), key.public_key_to_der().unwrap());
        assert!(spki.ends_with(&bits) && bits.len() + 30 > spki.len(), "{label}: {} of {}", bits.len(), spki.len());
    }
}

#[test]
fn a_key_that_is_cut_off_is_none() {
    for (label, der, _) in forms() {
        for len in (0..der.len()).step_by(7) {
            assert!(public_bits(label, &der[..len]).is_err(), "{label} cut to {len} bytes");
        }
    }
}

/// A CA that has signed its own certificate.
fn signed_by_itself(key: &PKey<Private>, digest: MessageDigest) -> Vec<u8> {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "kubernetes").unwrap();
    let name = name.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(&name).unwrap();
    cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    cert.set_pubkey(key).unwrap();
    cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    cert.sign(key, digest).unwrap();
    cert.build().to_der().unwrap()
}

#[test]
fn a_signature_is_of_the_one_key_and_of_every_byte() {
    for (digest, of_each_kind) in [(MessageDigest::sha1(), false), (MessageDigest::sha256(), true)]
        .into_iter()
        .chain([(MessageDigest::sha384(), true), (MessageDigest::sha512(), true)])
    {
        for (label, _, key) in forms() {
            let digest = if key.ec_key().is_ok() || key.rsa().is_ok() { digest } else { MessageDigest::null() };
            let der = signed_by_itself(&key, digest);
            let facts = CertFacts::from_der(&der, 1).unwrap();
            let issuer = Issuer::new(&facts).unwrap();
            let known = issuer.issued(&facts);
            assert!(known || !of_each_kind, "{label}");
            let mut other = signed_by_itself(&key, digest);
            let last = other.len() - 1;
            other[last] ^= 1;
            assert!(!signed(&issuer.key, &other), "{label}: another signature");
            // within the serial number or the names: what is signed is another text
            let mut other = der.clone();
            other[20] ^= 1;
            assert!(!signed(&issuer.key, &other), "{label}: another content");
            assert!(!signed(&issuer.key, &[der.as_slice(), &[0]].concat()), "{label}: a byte behind its end");
        }
    }
}
