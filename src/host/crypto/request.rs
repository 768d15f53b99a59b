//! What a kubelet asks of a signer: a key of its own and a request that names it.

use std::net::IpAddr;

use jiff::Timestamp;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509Name, X509NameBuilder, X509Req, X509ReqBuilder};
use zeroize::Zeroizing;

use super::CryptoError;
use super::sign::{Signed, generate, sign_like};
use crate::model::cert::KeyAlgorithm;

/// Who a certificate is for: one organization and a common name, in the order in which Go writes them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub organization: &'a str,
    pub common_name: &'a str,
}

impl Subject<'_> {
    fn name(self) -> Result<X509Name, ErrorStack> {
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::ORGANIZATIONNAME, self.organization)?;
        name.append_entry_by_nid(Nid::COMMONNAME, self.common_name)?;
        Ok(name.build())
    }
}

/// A request and its key, both PEM. `Debug` shows no key.
pub struct Filed {
    pub request: Vec<u8>,
    /// `EC PRIVATE KEY`, as the kubelet writes it.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Filed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filed").finish_non_exhaustive()
    }
}

/// The key that a kubelet makes (client-go: `util/certificate/certificate_manager.go:generateCSR`).
fn p256() -> KeyAlgorithm {
    KeyAlgorithm::Ecdsa { curve: "P256".to_owned(), bits: 256 }
}

/// A request for `subject` under `names` (DNS names and addresses) with a new P-256 key.
///
/// # Errors
/// [`CryptoError::OpenSsl`].
pub fn new_request(subject: Subject<'_>, names: &[String]) -> Result<Filed, CryptoError> {
    let (key, pem) = generate(&p256())?;
    let request = build(subject, names, &key).map_err(CryptoError::openssl("make a certificate signing request"))?;
    Ok(Filed { request, key: pem })
}

fn build(subject: Subject<'_>, names: &[String], key: &PKey<Private>) -> Result<Vec<u8>, ErrorStack> {
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    let name = subject.name()?;
    request.set_subject_name(&name)?;
    request.set_pubkey(key)?;
    if !names.is_empty() {
        let mut sans = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<IpAddr>().is_ok() {
                sans.ip(name)
            } else {
                sans.dns(name)
            };
        }
        let mut extensions = Stack::new()?;
        extensions.push(sans.build(&request.x509v3_context(None))?)?;
        request.add_extensions(&extensions)?;
    }
    request.sign(key, MessageDigest::sha256())?;
    request.build().to_pem()
}

/// Whether a request (DER) is signed with the key that it names: whoever filed it has that key.
pub fn is_self_signed_request(der: &[u8]) -> bool {
    let verified = || -> Result<bool, ErrorStack> {
        let request = X509Req::from_der(der)?;
        request.verify(&*request.public_key()?)
    };
    verified().unwrap_or(false)
}

/// A client certificate for `subject` as the cluster's signer would issue it, where there is no old one to go by.
///
/// # Errors
/// As [`sign_like`].
pub fn sign_client(
    subject: Subject<'_>,
    ca_cert: &[u8],
    ca_key: &[u8],
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<Signed, CryptoError> {
    let pattern = pattern(subject).map_err(CryptoError::openssl("make a certificate"))?;
    sign_like(&pattern, ca_cert, ca_key, &p256(), not_before, not_after)
}

/// A certificate that nobody has signed but itself, for [`sign_like`] to go by. The key is thrown away.
fn pattern(subject: Subject<'_>) -> Result<Vec<u8>, ErrorStack> {
    let group = openssl::ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(openssl::ec::EcKey::generate(&group)?)?;
    let mut cert = X509Builder::new()?;
    cert.set_version(2)?;
    let name = subject.name()?;
    cert.set_subject_name(&name)?;
    cert.set_issuer_name(&name)?;
    let now = Asn1Time::days_from_now(0)?;
    cert.set_not_before(&now)?;
    cert.set_not_after(&now)?;
    cert.set_pubkey(&key)?;
    // kubernetes: pkg/controller/certificates/authority/policies.go
    cert.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    cert.append_extension(ExtendedKeyUsage::new().client_auth().build()?)?;
    cert.append_extension(BasicConstraints::new().critical().build()?)?;
    cert.sign(&key, MessageDigest::sha256())?;
    cert.build().to_pem()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Ca;
    use super::super::{At, Purpose, public_key_der, verify_chain};
    use super::*;
    use crate::model::cert::parse_pem;

    const NODE: Subject<'_> = Subject { organization: "system:nodes", common_name: "system:node:n1" };

    #[test]
    fn a_request_has_the_subject_the_names_and_the_public_half_of_its_key() {
        let filed = new_request(NODE, &[]).unwrap();
        let request = X509Req::from_pem(&filed.request).unwrap();
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap());
        assert_eq!(key.public_key_to_der().unwrap(), public_key_der(&filed.key).unwrap());
        let parts: Vec<String> = request.subject_name().entries().map(|e| e.data().to_string().unwrap()).collect();
        assert_eq!(parts, ["system:nodes", "system:node:n1"], "in this order");
        assert_eq!(key.ec_key().unwrap().group().curve_name(), Some(Nid::X9_62_PRIME256V1));
        let text = String::from_utf8(request.to_text().unwrap()).unwrap();
        assert!(!text.contains("Alternative"), "the approver refuses a client's names: {text}");
        assert!(filed.key.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
        let serving = new_request(NODE, &["n1".into(), "10.0.0.1".into(), "fd00::1".into()]).unwrap();
        let text = String::from_utf8(X509Req::from_pem(&serving.request).unwrap().to_text().unwrap()).unwrap();
        assert!(text.contains("DNS:n1, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1"), "{text}");
    }

    #[test]
    fn what_is_signed_without_an_old_one_is_what_the_clusters_signer_issues() {
        let ca = Ca::new("kubernetes");
        let now = Timestamp::now().as_second();
        let at = |s| Timestamp::from_second(now + s).unwrap();
        let signed = sign_client(NODE, &ca.cert, &ca.key, at(-300), at(86_400)).unwrap();
        verify_chain(&signed.cert, &ca.cert, At::Time(at(0)), Purpose::Client).unwrap();
        let facts = parse_pem(&signed.cert).unwrap().remove(0);
        assert_eq!(facts.subject, "O=system:nodes, CN=system:node:n1");
        assert_eq!(facts.usages.iter().map(String::as_str).collect::<Vec<_>>(), ["clientAuth", "digitalSignature"]);
        assert!(!facts.is_ca && facts.sans.is_empty());
    }
}
