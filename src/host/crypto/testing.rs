//! A small CA for the unit tests of this crate.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use zeroize::Zeroizing;

use crate::host::kube::Identity;

/// A CA and its key, PEM.
pub(crate) struct Ca {
    pub cert: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

/// What a leaf shall say. Days are relative to now.
pub(crate) struct Leaf {
    pub cn: String,
    pub organizations: Vec<String>,
    pub sans: Vec<String>,
    pub server: bool,
    pub days: (i64, i64),
}

impl Leaf {
    pub(crate) fn server(cn: &str, sans: &[&str]) -> Self {
        let sans = sans.iter().map(ToString::to_string).collect();
        Self { cn: cn.into(), organizations: Vec::new(), sans, server: true, days: (-1, 365) }
    }

    pub(crate) fn client(cn: &str, organizations: &[&str]) -> Self {
        let organizations = organizations.iter().map(ToString::to_string).collect();
        Self { cn: cn.into(), organizations, sans: Vec::new(), server: false, days: (-1, 365) }
    }
}

impl Ca {
    pub(crate) fn new(cn: &str) -> Self {
        Self::with_days(cn, (-1000, 1000))
    }

    pub(crate) fn with_days(cn: &str, days: (i64, i64)) -> Self {
        let key = key();
        let cert = start(cn, &[], days, &key);
        finish_ca(cert, None, &key)
    }

    #[cfg(test)] // fuzzing has no need of it
    pub(crate) fn intermediate(&self, cn: &str) -> Self {
        let key = key();
        finish_ca(start(cn, &[], (-1000, 1000), &key), Some(self), &key)
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Identity {
        let key = key();
        let mut cert = start(&leaf.cn, &leaf.organizations, leaf.days, &key);
        cert.append_extension(KeyUsage::new().critical().digital_signature().key_encipherment().build().unwrap())
            .unwrap();
        let mut usage = ExtendedKeyUsage::new();
        let usage = if leaf.server { usage.server_auth() } else { usage.client_auth() };
        cert.append_extension(usage.build().unwrap()).unwrap();
        cert.append_extension(BasicConstraints::new().critical().build().unwrap()).unwrap();
        if !leaf.sans.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for san in &leaf.sans {
                match san.split_once(':').unwrap() {
                    ("IP", ip) => names.ip(ip),
                    (_, dns) => names.dns(dns),
                };
            }
            let names = names.build(&cert.x509v3_context(None, None)).unwrap();
            cert.append_extension(names).unwrap();
        }
        let cert = sign(cert, Some(self), &key);
        Identity { cert, key: Zeroizing::new(key.private_key_to_pem_pkcs8().unwrap()) }
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn start(cn: &str, organizations: &[String], (from, to): (i64, i64), key: &PKey<Private>) -> X509Builder {
    let mut name = X509NameBuilder::new().unwrap();
    for o in organizations {
        name.append_entry_by_nid(Nid::ORGANIZATIONNAME, o).unwrap();
    }
    name.append_entry_by_nid(Nid::COMMONNAME, cn).unwrap();
    let now = jiff::Timestamp::now().as_second();
    let mut serial = BigNum::new().unwrap();
    serial.rand(63, MsbOption::ONE, false).unwrap();
    let mut cert = X509Builder::new().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    let name = name.build();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(&name).unwrap(); // until another one signs
    cert.set_not_before(&Asn1Time::from_unix(now + from * 86_400).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_unix(now + to * 86_400).unwrap()).unwrap();
    cert.set_pubkey(key).unwrap();
    cert
}

fn finish_ca(mut cert: X509Builder, by: Option<&Ca>, key: &PKey<Private>) -> Ca {
    cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    cert.append_extension(KeyUsage::new().critical().key_cert_sign().digital_signature().build().unwrap()).unwrap();
    let ski = SubjectKeyIdentifier::new().build(&cert.x509v3_context(None, None)).unwrap();
    cert.append_extension(ski).unwrap();
    let pem = Zeroizing::new(key.private_key_to_pem_pkcs8().unwrap());
    Ca { cert: sign(cert, by, key), key: pem }
}

fn sign(mut cert: X509Builder, by: Option<&Ca>, own_key: &PKey<Private>) -> Vec<u8> {
    if let Some(ca) = by {
        let issuer = X509::from_pem(&ca.cert).unwrap();
        cert.set_issuer_name(issuer.subject_name()).unwrap();
        let aki = AuthorityKeyIdentifier::new().keyid(true).build(&cert.x509v3_context(Some(&issuer), None)).unwrap();
        cert.append_extension(aki).unwrap();
        cert.sign(&PKey::private_key_from_pem(&ca.key).unwrap(), MessageDigest::sha256()).unwrap();
    } else {
        cert.sign(own_key, MessageDigest::sha256()).unwrap();
    }
    cert.build().to_pem().unwrap()
}
