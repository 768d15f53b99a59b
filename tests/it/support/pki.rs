//! A test PKI by OpenSSL: CAs and leaves as kubeadm makes them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};

/// What kubeadm's leaves live, in seconds.
const YEAR: i64 = 365 * 86_400;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    P256,
    Rsa2048,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    Server,
    Client,
    Both,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl Leaf {
    /// As the kubelet's store writes it: certificate, then key.
    pub fn combined(&self) -> Vec<u8> {
        [self.cert_pem.clone(), self.key_pem.clone()].concat()
    }
}

#[derive(Clone, Debug)]
pub struct Ca {
    cert: X509,
    key: PKey<Private>,
    kind: KeyKind,
}

fn new_key(kind: KeyKind) -> PKey<Private> {
    match kind {
        KeyKind::P256 => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        }
        KeyKind::Rsa2048 => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
    }
}

/// `EC PRIVATE KEY` and `RSA PRIVATE KEY`, as Go writes them.
fn key_pem(key: &PKey<Private>) -> Vec<u8> {
    match key.ec_key() {
        Ok(ec) => ec.private_key_to_pem().unwrap(),
        Err(_) => key.rsa().unwrap().private_key_to_pem().unwrap(),
    }
}

fn name((common_name, organization): (&str, Option<&str>)) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    if let Some(o) = organization {
        name.append_entry_by_text("O", o).unwrap();
    }
    name.append_entry_by_text("CN", common_name).unwrap();
    name.build()
}

/// With the dates and serial that every certificate here has: valid since five minutes, or since before its end.
fn builder(left: i64) -> X509Builder {
    let now = jiff::Timestamp::now().as_second();
    let mut serial = BigNum::new().unwrap();
    serial.rand(63, MsbOption::ONE, false).unwrap();
    let mut b = X509::builder().unwrap();
    b.set_version(2).unwrap();
    b.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    b.set_not_before(&Asn1Time::from_unix((now - 300).min(now + left - 60)).unwrap()).unwrap();
    b.set_not_after(&Asn1Time::from_unix(now + left).unwrap()).unwrap();
    b
}

impl Ca {
    /// A self-signed CA that lives for `left` seconds from now.
    pub fn new(common_name: &str, kind: KeyKind, left: i64) -> Self {
        let key = new_key(kind);
        let subject = name((common_name, None));
        let mut b = builder(left);
        b.set_subject_name(&subject).unwrap();
        b.set_issuer_name(&subject).unwrap();
        b.set_pubkey(&key).unwrap();
        b.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        let usage = KeyUsage::new().critical().digital_signature().key_encipherment().key_cert_sign().build().unwrap();
        b.append_extension(usage).unwrap();
        b.sign(&key, MessageDigest::sha256()).unwrap();
        Self { cert: b.build(), key, kind }
    }

    pub fn cert_pem(&self) -> Vec<u8> {
        self.cert.to_pem().unwrap()
    }

    pub fn key_pem(&self) -> Vec<u8> {
        key_pem(&self.key)
    }

    /// A leaf for `subject` (common name, organization); servers get `names` as DNS SANs and 127.0.0.1.
    pub fn issue(&self, subject: (&str, Option<&str>), usage: Usage, names: &[&str], left: i64) -> Leaf {
        let key = new_key(self.kind);
        let cert = self.sign(&key, subject, usage, names, left);
        Leaf { cert_pem: cert.to_pem().unwrap(), key_pem: key_pem(&key) }
    }

    pub fn new_key(&self) -> PKey<openssl::pkey::Public> {
        let pem = new_key(self.kind).public_key_to_pem().unwrap();
        PKey::public_key_from_pem(&pem).unwrap()
    }

    /// A certificate for a key of somebody else's, as a signer of the cluster issues it: PEM.
    pub fn sign_public(
        &self,
        key: &PKey<openssl::pkey::Public>,
        (common_name, organization): (&str, &str),
        serving: bool,
        names: Option<Stack<X509Extension>>,
        (from, to): (&Asn1Time, &Asn1Time),
    ) -> Vec<u8> {
        let mut b = builder(1);
        b.set_not_before(from).unwrap();
        b.set_not_after(to).unwrap();
        b.set_subject_name(&name((common_name, Some(organization)))).unwrap();
        b.set_issuer_name(self.cert.subject_name()).unwrap();
        b.set_pubkey(key).unwrap();
        b.append_extension(KeyUsage::new().critical().digital_signature().build().unwrap()).unwrap();
        let mut extended = ExtendedKeyUsage::new();
        if serving {
            extended.server_auth()
        } else {
            extended.client_auth()
        };
        b.append_extension(extended.build().unwrap()).unwrap();
        for extension in names.into_iter().flatten() {
            b.append_extension(extension).unwrap();
        }
        b.sign(&self.key, MessageDigest::sha256()).unwrap();
        b.build().to_pem().unwrap()
    }

    fn sign(
        &self,
        key: &PKey<Private>,
        subject: (&str, Option<&str>),
        usage: Usage,
        names: &[&str],
        left: i64,
    ) -> X509 {
        let mut b = builder(left);
        if subject.1 != Some("system:nodes") {
            // as old as a leaf of kubeadm's is; those of the kubelet are judged by a share of their life, and are new here
            let now = jiff::Timestamp::now().as_second();
            b.set_not_before(&Asn1Time::from_unix((now - 300).min(now + left - YEAR)).unwrap()).unwrap();
        }
        b.set_subject_name(&name(subject)).unwrap();
        b.set_issuer_name(self.cert.subject_name()).unwrap();
        b.set_pubkey(key).unwrap();
        let key_usage = KeyUsage::new().critical().digital_signature().key_encipherment().build().unwrap();
        b.append_extension(key_usage).unwrap();
        let mut extended = ExtendedKeyUsage::new();
        if usage != Usage::Client {
            extended.server_auth();
            let mut san = SubjectAlternativeName::new();
            for name in names {
                san.dns(name);
            }
            san.ip("127.0.0.1");
            let san = san.build(&b.x509v3_context(Some(&self.cert), None)).unwrap();
            b.append_extension(san).unwrap();
        }
        if usage != Usage::Server {
            extended.client_auth();
        }
        b.append_extension(extended.build().unwrap()).unwrap();
        b.sign(&self.key, MessageDigest::sha256()).unwrap();
        b.build()
    }
}
