//! A serving certificate that stands on its own, as the kubelet makes one: a CA for it alone, whose key is thrown away.

use jiff::Timestamp;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use openssl::x509::{X509, X509Builder};

use super::CryptoError;
use super::sign::{Signed, digest, generate, serial, sign_like};
use crate::model::cert::CertFacts;

/// A successor of `leaf` and of the CA `ca` behind it: the same subjects, names, usages and kinds of keys. The CA follows
/// the leaf in the PEM text, as client-go writes it (`util/cert/cert.go:GenerateSelfSignedCertKeyWithFixtures`).
///
/// # Errors
/// As [`sign_like`].
pub fn make_like(leaf: &CertFacts, ca: &CertFacts, from: Timestamp, to: Timestamp) -> Result<Signed, CryptoError> {
    let old = X509::from_der(&ca.der).map_err(|source| CryptoError::Certificate { source })?;
    let (key, key_pem) = generate(&ca.key_algorithm)?;
    let own = authority(&old, &key, (from, to)).map_err(CryptoError::openssl("make a CA"))?;
    let Signed { mut cert, key } = sign_like(&leaf.der, &own, &key_pem, &leaf.key_algorithm, from, to)?;
    cert.extend_from_slice(&own);
    Ok(Signed { cert, key })
}

fn authority(old: &X509, key: &PKey<Private>, (from, to): (Timestamp, Timestamp)) -> Result<Vec<u8>, ErrorStack> {
    let mut cert = X509Builder::new()?;
    cert.set_version(2)?; // v3
    let serial = serial()?;
    cert.set_serial_number(&serial)?;
    cert.set_subject_name(old.subject_name())?;
    cert.set_issuer_name(old.subject_name())?;
    let (from, to) = (Asn1Time::from_unix(from.as_second())?, Asn1Time::from_unix(to.as_second())?);
    cert.set_not_before(&from)?;
    cert.set_not_after(&to)?;
    cert.set_pubkey(key)?;
    cert.append_extension(KeyUsage::new().critical().digital_signature().key_encipherment().key_cert_sign().build()?)?;
    cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let extension = SubjectKeyIdentifier::new().build(&cert.x509v3_context(None, None))?;
    cert.append_extension(extension)?;
    cert.sign(key, digest(key))?;
    cert.build().to_pem()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf};
    use super::super::{At, Purpose, public_key_der, verify_chain};
    use super::*;
    use crate::model::cert::parse_pem;

    #[test]
    fn what_is_made_is_the_old_one_but_for_keys_serials_and_dates() {
        let throw_away = Ca::new("n1-ca@1700000000");
        let old = throw_away.issue(&Leaf::server("n1@1700000000", &["DNS:n1", "IP:10.0.0.1"]));
        let old = parse_pem(&[old.cert, throw_away.cert.clone()].concat()).unwrap();
        let now = Timestamp::now().as_second();
        let at = |s| Timestamp::from_second(now + s).unwrap();
        let made = make_like(&old[0], &old[1], at(-300), at(86_400)).unwrap();
        let new = parse_pem(&made.cert).unwrap();
        assert_eq!(new.len(), 2, "leaf, then its CA");
        for (old, new) in old.iter().zip(&new) {
            assert_eq!((&new.subject, &new.sans), (&old.subject, &old.sans));
            assert_eq!((&new.key_algorithm, new.is_ca), (&old.key_algorithm, old.is_ca));
            assert!(new.spki != old.spki && new.serial != old.serial);
            assert_eq!((new.not_before, new.not_after), (at(-300), at(86_400)));
        }
        assert_eq!(new[0].usages, old[0].usages);
        assert!(new[1].usages.contains("keyCertSign"));
        assert_eq!(public_key_der(&made.key).unwrap(), new[0].spki);
        verify_chain(&made.cert, &new[1].der, At::Time(at(0)), Purpose::Server).unwrap();
        assert!(verify_chain(&made.cert, &throw_away.cert, At::Time(at(0)), Purpose::Server).is_err());
    }
}
