//! What Go's crypto/x509 and crypto/tls demand of a certificate beyond its signature, which is what every component of Kubernetes,
//! etcd and kubectl go by (Go 1.26: `crypto/x509/parser.go`, `verify.go`; `crypto/tls/handshake_client.go`). OpenSSL takes
//! most of it.
//!
//! | demand | where Go asks for it |
//! |---|---|
//! | a serial number that is not negative | `parseCertificate`, since Go 1.23 |
//! | version 1 to 3, no extension twice | `parseCertificate` |
//! | names of characters that their string type has | `parseASN1String` |
//! | addresses of 4 or 16 bytes, DNS names of ASCII | `parseSANExtension` |
//! | no critical extension that it does not know | `Certificate.isValid` |
//! | key identifiers and AIA that are not critical | `processExtensions` |
//! | a curve of NIST's, RSA from 1024 to 8192 bits | `parsePublicKey`, crypto/rsa since Go 1.24, crypto/tls |
//! | no signature with MD5 or SHA-1 | `checkSignature` |
//! | of an issuer: CA:TRUE, keyCertSign if it has key usages, no more CAs below than it allows | `CheckSignatureFrom`, `isValid` |
//! | of an issuer: name constraints within which the alternative names of all below it are | `checkChainConstraints` |
//! | of an issuer: extended usages that include the leaf's | `checkChainForKeyUsage` |
//! | an issuer's name that is the same bytes | `isValid` |
//! | of a server: alternative names | `VerifyHostname` |

use std::collections::BTreeSet;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::constraints::{self, NameConstraints};

/// Why components refuse a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// A clause about it.
    pub why: String,
    /// Minor version of Kubernetes since which they do; None: all.
    pub since: Option<u32>,
}

/// What its bytes tell beyond what is shown of a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Raw {
    /// DER: Go compares names as bytes.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub refusals: Vec<Refusal>,
    /// Why it may not issue others.
    pub not_an_issuer: Option<&'static str>,
    /// So many CAs may stand between it and a leaf.
    pub path_length: Option<u32>,
    /// What those below it may be called.
    pub constraints: Option<NameConstraints>,
}

impl Raw {
    pub(super) fn of(cert: &X509Certificate<'_>) -> Self {
        let (not_an_issuer, path_length) = issuer(cert);
        Self {
            subject: cert.subject().as_raw().to_vec(),
            issuer: cert.issuer().as_raw().to_vec(),
            refusals: refusals(cert),
            not_an_issuer,
            path_length,
            constraints: cert.name_constraints().ok().flatten().map(|e| NameConstraints::of(e.value)),
        }
    }
}

/// Extensions that Go knows (`processExtensions`), the ends of 2.5.29.
const KNOWN: [&str; 12] = [
    "2.5.29.15",
    "2.5.29.19",
    "2.5.29.17",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.35",
    "2.5.29.37",
    "2.5.29.14",
    "2.5.29.32",
    "2.5.29.36",
    "2.5.29.33",
    "2.5.29.54",
];
const AIA: &str = "1.3.6.1.5.5.7.1.1";
/// md2, md5 and sha1 with RSA, ECDSA with sha1, DSA with sha1.
const WEAK: [&str; 5] =
    ["1.2.840.113549.1.1.2", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1", "1.2.840.10040.4.3"];
/// P-224, P-256, P-384, P-521.
const CURVES: [&str; 4] = ["1.3.132.0.33", "1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

fn refusals(cert: &X509Certificate<'_>) -> Vec<Refusal> {
    let mut found = Vec::new();
    let mut refuse = |why: String, since: Option<u32>| found.push(Refusal { why, since });
    // Go 1.23, with which Kubernetes is built since 1.32
    if cert.raw_serial().first().is_some_and(|b| *b >= 0x80) {
        refuse("its serial number is negative".to_owned(), Some(32));
    }
    if cert.version().0 > 2 {
        refuse("it is of an unknown version".to_owned(), None);
    }
    if usual_dates(cert).is_none() {
        refuse("a date in it is not written as DER wants it".to_owned(), None);
    }
    let names = [cert.subject(), cert.issuer()];
    if let Some(why) = names.iter().find_map(|name| odd_name(name)) {
        refuse(format!("a name in it {why}"), None);
    }
    let mut seen = BTreeSet::new();
    for extension in cert.extensions() {
        let oid = extension.oid.to_id_string();
        if !seen.insert(oid.clone()) {
            refuse(format!("it has the extension {oid} twice"), None);
        }
        let why = match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                let unknown = san.general_names.iter().all(|n| !is_name(n));
                if unknown && extension.critical {
                    Some("its alternative names are of no kind that they know".to_owned())
                } else {
                    san.general_names.iter().find_map(odd_alternative)
                }
            }
            ParsedExtension::NameConstraints(c) => constraints::odd(c, extension.critical).map(str::to_owned),
            ParsedExtension::ParseError { .. } => Some(format!("its extension {oid} is malformed")),
            _ if extension.critical && matches!(oid.as_str(), AIA | "2.5.29.35" | "2.5.29.14") => {
                Some(format!("its extension {oid} is marked critical"))
            }
            _ if extension.critical && !KNOWN.contains(&oid.as_str()) => {
                Some(format!("it has the critical extension {oid}, which they do not know"))
            }
            _ => None,
        };
        if let Some(why) = why {
            refuse(why, None);
        }
    }
    if let Some(why) = odd_key(cert) {
        refuse(why, None);
    }
    let own = cert.subject().as_raw() == cert.issuer().as_raw();
    if !own && WEAK.contains(&cert.signature_algorithm.algorithm.to_id_string().as_str()) {
        refuse("its signature is with SHA-1 or MD5".to_owned(), None);
    }
    found
}

/// The two dates in the forms that Go takes (`parseTime`): whole seconds or minutes, in UTC.
fn usual_dates(cert: &X509Certificate<'_>) -> Option<()> {
    let (_, tbs) = Any::from_der(cert.tbs_certificate.as_ref()).ok()?;
    let mut rest = tbs.data;
    // an explicit version, serial, algorithm and issuer come before them
    let before = if cert.version().0 == 0 && rest.first() != Some(&0xa0) { 3 } else { 4 };
    for _ in 0..before {
        rest = Any::from_der(rest).ok()?.0;
    }
    let (_, validity) = Any::from_der(rest).ok()?;
    let (after, from) = Any::from_der(validity.data).ok()?;
    let (_, to) = Any::from_der(after).ok()?;
    [from, to]
        .iter()
        .all(|date| {
            let lengths: &[usize] = if date.tag() == Tag::UtcTime { &[11, 13] } else { &[15] };
            lengths.contains(&date.data.len()) && date.data.ends_with(b"Z")
        })
        .then_some(())
}

fn odd_name(name: &X509Name<'_>) -> Option<&'static str> {
    name.iter_attributes().find_map(|attribute| {
        let value = attribute.attr_value();
        let bytes = value.data;
        match value.tag() {
            Tag::PrintableString if !bytes.iter().all(|b| printable(*b)) => {
                Some("has characters that a PrintableString has not")
            }
            Tag::Utf8String if std::str::from_utf8(bytes).is_err() => Some("is not UTF-8"),
            Tag::Ia5String if !bytes.is_ascii() => Some("is not ASCII"),
            Tag::NumericString if !bytes.iter().all(|b| b.is_ascii_digit() || *b == b' ') => Some("is not numeric"),
            Tag::BmpString if bytes.len() % 2 != 0 => Some("is no BMPString"),
            Tag::PrintableString
            | Tag::Utf8String
            | Tag::Ia5String
            | Tag::NumericString
            | Tag::BmpString
            | Tag::T61String => None,
            _ => Some("is of a string type that they do not know"),
        }
    })
}

fn printable(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'\''..=b')' | b'+'..=b'/' | b' ' | b':' | b'=' | b'?' | b'*' | b'&')
}

pub(super) fn is_name(name: &GeneralName<'_>) -> bool {
    matches!(
        name,
        GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::RFC822Name(_) | GeneralName::URI(_)
    )
}

fn odd_alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::IPAddress(raw) if raw.len() != 4 && raw.len() != 16 => {
            Some(format!("an address in it has {} bytes", raw.len()))
        }
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) if !text.is_ascii() => {
            Some("an alternative name in it is not ASCII".to_owned())
        }
        GeneralName::Invalid(..) => Some("an alternative name in it is malformed".to_owned()),
        _ => None,
    }
}

fn odd_key(cert: &X509Certificate<'_>) -> Option<String> {
    let key = cert.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            ..1024 => Some("its RSA key has less than 1024 bits".to_owned()),
            8193.. => Some("its RSA key has more than 8192 bits".to_owned()),
            _ => None,
        },
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|o| o.to_id_string());
            let known = curve.as_deref().is_some_and(|c| CURVES.contains(&c));
            (!known).then(|| "its key is on a curve that they do not know".to_owned())
        }
        _ => None,
    }
}

/// Why it may not issue others, and how many CAs may be below it.
fn issuer(cert: &X509Certificate<'_>) -> (Option<&'static str>, Option<u32>) {
    let constraints = cert.basic_constraints().ok().flatten().map(|e| e.value);
    let usage = cert.key_usage().ok().flatten().map(|e| e.value);
    // one of version 1 has no way to say it
    let is_ca = constraints.map_or(cert.version().0 < 2, |c| c.ca);
    let why = if !is_ca {
        Some("basicConstraints does not say CA:TRUE")
    } else if usage.is_some_and(|u| u.flags != 0 && !u.key_cert_sign()) {
        Some("keyUsage lacks keyCertSign")
    } else {
        None
    };
    (why, constraints.filter(|c| c.ca).and_then(|c| c.path_len_constraint))
}
