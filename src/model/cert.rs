//! X.509 facts: what a certificate says, parsed from bytes that nobody vouches for.

mod constraints;
mod demands;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use constraints::NameConstraints;
pub use demands::{Raw, Refusal};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

/// What the names in kubeadm's certificates are made of.
const USUAL: [oid::Oid<'static>; 2] = [oid::OID_X509_COMMON_NAME, oid::OID_X509_ORGANIZATION_NAME];

/// Why bytes are not the certificates they should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertError {
    #[error("no certificate in it")]
    NoCertificate,
    #[error("DER where PEM is expected")]
    IsDer,
    #[error("PEM block {block} is damaged: {detail}")]
    Pem { block: usize, detail: String },
    #[error("certificate {block} is not valid DER: {detail}")]
    Der { block: usize, detail: String },
    #[error("certificate {block} has a date outside the range that can be handled")]
    Date { block: usize },
}

/// What one certificate says. Built by [`parse_pem`] or [`CertFacts::from_der`] only.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertFacts {
    /// The subject in RFC 4514 order of the file, e.g. `O=system:nodes, CN=system:node:a`.
    pub subject: String,
    pub common_name: Option<String>,
    pub organizations: BTreeSet<String>,
    pub issuer: String,
    /// Upper-case hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// `DNS:name`, `IP:address`, `URI:…`, `email:…`, as openssl prints them.
    pub sans: BTreeSet<String>,
    /// Key usages and extended key usages: `digitalSignature`, `serverAuth`, `clientAuth`, or an OID.
    pub usages: BTreeSet<String>,
    pub key_algorithm: KeyAlgorithm,
    pub is_ca: bool,
    /// Subject public key info, DER. Two certificates or a certificate and a key belong together if these are equal.
    #[serde(skip)]
    pub spki: Vec<u8>,
    #[serde(skip)]
    pub der: Vec<u8>,
    #[serde(skip)]
    pub raw: Raw,
    /// certwarden has put it in place: its life is what renewals give here ([`super::issued::Issued::mark`]).
    #[serde(skip)]
    pub issued_here: bool,
}

/// A public key's kind and size; `Display` is kubeadm's name for it (`encryptionAlgorithm`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    Rsa { bits: u32 },
    Ecdsa { curve: String, bits: u32 },
    Other(String),
}

impl KeyAlgorithm {
    /// Comparable security strength in bits (NIST SP 800-57 part 1, table 2); 0 if unknown.
    pub fn strength(&self) -> u32 {
        match self {
            Self::Rsa { bits: ..2048 } => 80,
            Self::Rsa { bits: 2048..3072 } => 112,
            Self::Rsa { bits: 3072..7680 } => 128,
            Self::Rsa { .. } => 192,
            Self::Ecdsa { bits, .. } => bits / 2,
            Self::Other(name) if name == "Ed25519" => 128,
            Self::Other(_) => 0,
        }
    }
}

impl std::fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
            Self::Ecdsa { curve, .. } => write!(f, "ECDSA-{curve}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl CertFacts {
    /// Parses one DER certificate. `block` is its number in the file, for the error text (from 1).
    ///
    /// # Errors
    /// [`CertError::Der`] if it does not parse or has bytes behind its end, [`CertError::Date`].
    pub fn from_der(der: &[u8], block: usize) -> Result<Self, CertError> {
        let bad = |detail: String| CertError::Der { block, detail };
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
        if !rest.is_empty() {
            return Err(bad(format!("{} bytes behind its end", rest.len())));
        }
        // 99991231235959Z stands for no end (RFC 5280 §4.1.2.5), and is a day beyond what can be counted
        let date = |seconds: i64| {
            let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
            Timestamp::from_second(seconds.clamp(first, last)).map_err(|_| CertError::Date { block })
        };
        let spki = cert.public_key();
        Ok(Self {
            subject: name(cert.subject()),
            common_name: attributes(cert.subject(), &oid::OID_X509_COMMON_NAME).next(),
            organizations: attributes(cert.subject(), &oid::OID_X509_ORGANIZATION_NAME).collect(),
            issuer: name(cert.issuer()),
            serial: hex_upper(cert.raw_serial()),
            not_before: date(cert.validity().not_before.timestamp())?,
            not_after: date(cert.validity().not_after.timestamp())?,
            sans: sans(&cert),
            usages: usages(&cert),
            key_algorithm: key_algorithm(spki),
            is_ca: cert.is_ca(),
            spki: spki.raw.to_vec(),
            der: der.to_vec(),
            raw: Raw::of(&cert),
            issued_here: false,
        })
    }

    /// Whether `self` names `issuer` as its issuer. A cheap first look: the signature is checked by `host::crypto`.
    pub fn claims_issuer(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject && self.raw.issuer == issuer.raw.subject
    }

    /// Seconds from its beginning to its end, none if that is before; without limit where somebody else
    /// has made it: then it does not say how long the next one lives.
    pub fn measured_life(&self) -> i64 {
        if !self.issued_here {
            return i64::MAX;
        }
        self.not_after.as_second().saturating_sub(self.not_before.as_second()).max(0)
    }

    /// Whole seconds of life left at `now`; negative when expired.
    pub fn seconds_left(&self, now: Timestamp) -> i64 {
        self.not_after.as_second().saturating_sub(now.as_second())
    }
}

/// All certificates in a PEM file, in its order. Other blocks (keys, parameters) are passed over.
///
/// # Errors
/// Damage anywhere, or no certificate at all.
pub fn parse_pem(pem: &[u8]) -> Result<Vec<CertFacts>, CertError> {
    let mut facts = Vec::new();
    for (i, block) in super::pem::blocks(pem).enumerate() {
        let damaged = |e: super::pem::PemError| CertError::Pem { block: i + 1, detail: e.to_string() };
        let block = block.map_err(damaged)?;
        // keys are not even decoded: nothing of them is left in memory
        if block.label == "CERTIFICATE" {
            let der = block.decode().map_err(damaged)?;
            facts.push(CertFacts::from_der(&der, facts.len() + 1)?);
        }
    }
    match (facts.is_empty(), pem) {
        (false, _) => Ok(facts),
        // an ASN.1 SEQUENCE with a long length: what a DER certificate begins with
        (true, [0x30, 0x81 | 0x82, ..]) => Err(CertError::IsDer),
        (true, _) => Err(CertError::NoCertificate),
    }
}

/// As the parser's `Display` writes it.
pub(super) fn name(n: &X509Name<'_>) -> String {
    // The parser has a table of its own for these. For others it asks its registry of all OIDs, which takes longer to be
    // made, once, than six certificates to be parsed (160 000 instructions and ten pages of memory).
    let usual = n.iter_attributes().all(|a| USUAL.contains(a.attr_type()));
    let known = usual.then(|| n.to_string_with_registry(&oid::OidRegistry::default()).ok()).flatten();
    known.unwrap_or_else(|| n.to_string())
}

fn attributes<'a>(n: &'a X509Name<'a>, id: &oid::Oid<'static>) -> impl Iterator<Item = String> + use<'a> {
    let id = id.clone();
    n.iter_attributes().filter(move |a| *a.attr_type() == id).filter_map(|a| a.as_str().ok().map(str::to_owned))
}

fn sans(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(ext)) = cert.subject_alternative_name() else { return BTreeSet::new() };
    ext.value.general_names.iter().map(general_name).collect()
}

pub(super) fn general_name(n: &GeneralName<'_>) -> String {
    match n {
        GeneralName::DNSName(d) => format!("DNS:{d}"),
        GeneralName::URI(u) => format!("URI:{u}"),
        GeneralName::RFC822Name(m) => format!("email:{m}"),
        GeneralName::IPAddress(raw) => match (<[u8; 4]>::try_from(*raw), <[u8; 16]>::try_from(*raw)) {
            (Ok(v4), _) => format!("IP:{}", IpAddr::from(v4)),
            (_, Ok(v6)) => format!("IP:{}", IpAddr::from(v6)),
            _ => format!("IP:{}", hex_upper(raw)),
        },
        other => format!("other:{other:?}"),
    }
}

fn usages(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    let mut flag = |on: bool, text: &str| {
        if on {
            set.insert(text.to_owned());
        }
    };
    for ext in cert.extensions() {
        match ext.parsed_extension() {
            ParsedExtension::KeyUsage(k) => {
                flag(k.digital_signature(), "digitalSignature");
                flag(k.key_encipherment(), "keyEncipherment");
                flag(k.key_cert_sign(), "keyCertSign");
                flag(k.crl_sign(), "cRLSign");
                flag(k.key_agreement(), "keyAgreement");
                flag(k.data_encipherment(), "dataEncipherment");
                flag(k.non_repudiation(), "nonRepudiation");
            }
            ParsedExtension::ExtendedKeyUsage(e) => {
                flag(e.any, "anyExtendedKeyUsage");
                flag(e.server_auth, "serverAuth");
                flag(e.client_auth, "clientAuth");
                flag(e.code_signing, "codeSigning");
                flag(e.email_protection, "emailProtection");
                flag(e.time_stamping, "timeStamping");
                flag(e.ocsp_signing, "OCSPSigning");
                for o in &e.other {
                    flag(true, &o.to_id_string());
                }
            }
            _ => {}
        }
    }
    set
}

pub(super) fn key_algorithm(spki: &SubjectPublicKeyInfo<'_>) -> KeyAlgorithm {
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => KeyAlgorithm::Rsa { bits: u32::try_from(rsa.key_size()).unwrap_or(0) },
        Ok(PublicKey::EC(_)) => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|o| o.to_id_string());
            // RFC 5480 §2.1.1.1
            let (curve, bits) = match curve.as_deref() {
                Some("1.2.840.10045.3.1.7") => ("P256".to_owned(), 256),
                Some("1.3.132.0.34") => ("P384".to_owned(), 384),
                Some("1.3.132.0.35") => ("P521".to_owned(), 521),
                other => (other.unwrap_or("unknown").to_owned(), 0),
            };
            KeyAlgorithm::Ecdsa { curve, bits }
        }
        // RFC 8410 §3
        _ if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" => KeyAlgorithm::Other("Ed25519".to_owned()),
        _ => KeyAlgorithm::Other(spki.algorithm.algorithm.to_id_string()),
    }
}

fn hex_upper(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let trimmed = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest, // DER's sign byte; openssl does not print it
        all => all,
    };
    trimmed.iter().fold(String::with_capacity(trimmed.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02X}");
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// One attribute: the content of its OID, the tag and the content of its value.
    type Attribute = (&'static [u8], u8, &'static [u8]);

    fn text(attributes: &[Attribute]) -> (String, String) {
        let each = attributes.iter().map(|(id, tag, value)| {
            tlv(0x31, &tlv(0x30, &[tlv(6, id), tlv(*tag, value)].concat())) // SET of one
        });
        let der = tlv(0x30, &each.collect::<Vec<_>>().concat());
        let (_, parsed) = X509Name::from_der(&der).unwrap();
        (name(&parsed), parsed.to_string())
    }

    #[test]
    fn names_are_written_as_the_parser_writes_them_whatever_is_in_them() {
        const ORGANIZATION: Attribute = (&[0x55, 4, 10], 0x0c, b"system:nodes");
        const COMMON_NAME: Attribute = (&[0x55, 4, 3], 0x13, b"system:node:a");
        assert_eq!(text(&[ORGANIZATION, COMMON_NAME]).0, "O=system:nodes, CN=system:node:a");
        let others: [Attribute; 6] = [
            (&[0x55, 4, 6], 0x13, b"DE"), // country, abbreviated
            (&[0x55, 4, 5], 0x13, b"7"),  // serial number, with a name
            (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], 0x16, b"a@example.com"), // e-mail
            (&[0x2a, 3, 4, 5], 0x0c, b"unknown"), // an OID only
            (&[0x55, 4, 3], 0x0c, &[0xff, 0xfe]), // not UTF-8
            (&[0x55, 4, 10], 0x04, &[1, 2]), // not a string
        ];
        assert_eq!(text(&[]).0, text(&[]).1);
        for other in others {
            for attributes in [vec![other], vec![ORGANIZATION, other], vec![other, COMMON_NAME, ORGANIZATION]] {
                let (ours, theirs) = text(&attributes);
                assert_eq!(ours, theirs, "{attributes:x?}");
            }
        }
    }
}
