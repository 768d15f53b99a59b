//! What is kept of an object.

use std::fmt::Write as _;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Kind;
use super::object::Raw;
use super::text::Text;
use crate::model::metrics::{Labelled, Place, labelled, place_labels};
use crate::model::pem::{self, decode_base64};
use crate::model::plain;

/// Certificates of one bundle. An issuer's chain has three; a bundle of all public CAs in every Secret is not watched for its sake.
const MOST_IN_BUNDLE: usize = 16;
/// What somebody else says why, in characters.
const LONGEST_REASON: usize = 160;
/// Longest serial that is kept, in bytes (RFC 5280: 20).
const LONGEST_SERIAL: usize = 32;

/// An object, compactly.
#[derive(Debug, Default)]
pub struct Object {
    pub(super) certificates: Box<[Labelled]>,
    /// Labels of values that are no certificates.
    pub(super) broken: Box<[Box<str>]>,
    /// The first certificate of `tls.crt`.
    pub(super) leaf: Option<Box<Leaf>>,
    pub(super) managed: Option<Box<Managed>>,
    /// Certificates left out.
    pub(super) cut: u32,
    pub(super) generation: u32,
}

impl Object {
    /// Bytes of text.
    pub(super) fn size(&self) -> usize {
        let managed = self.managed.as_deref().map_or(0, |m| m.why.len() + 64);
        self.certificates.iter().map(|c| c.labels.len() + 32).sum::<usize>()
            + self.broken.iter().map(|b| b.len() + 16).sum::<usize>()
            + managed
            + self.leaf.as_ref().map_or(0, |_| 96)
    }
}

/// What a server that uses a Secret should show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// SHA-256 of the DER.
    pub fingerprint: [u8; 32],
    /// Upper-case hexadecimal.
    pub serial: Box<str>,
}

impl Leaf {
    /// None if it is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let mut serial = String::new();
        for byte in cert.raw_serial().iter().take(LONGEST_SERIAL) {
            let _ = write!(serial, "{byte:02X}"); // a String takes whatever is written
        }
        Some(Self { fingerprint: Sha256::digest(der).into(), serial: serial.into() })
    }
}

/// What cert-manager says of a Certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Managed {
    pub(super) ready: bool,
    pub(super) why: Box<str>,
    pub(super) not_after: Option<i64>,
    pub(super) renewal: Option<i64>,
}

/// The facts of an object of this kind; `keys` are those of its `data` that count.
pub(super) fn of(kind: Kind, keys: &[&str], raw: &Raw<'_>) -> Object {
    let mut found = Found::default();
    let (namespace, name) = (raw.namespace().to_owned(), raw.name().to_owned());
    match kind {
        Kind::Secrets | Kind::ConfigMaps => {
            for (key, value) in raw.data.0.iter().filter(|(key, _)| keys.contains(key)) {
                let (namespace, name) = (namespace.clone(), name.clone());
                if kind == Kind::Secrets {
                    let place = Place {
                        secret_namespace: namespace,
                        secret_name: name,
                        secret_key: (*key).to_owned(),
                        ..Place::default()
                    };
                    found.encoded(&place, value, *key == "tls.crt");
                } else {
                    let place = Place { config_map: [namespace, name, (*key).to_owned()], ..Place::default() };
                    found.pem(&place, value.0.as_bytes(), false);
                }
            }
        }
        Kind::Certificates => found.object.managed = Some(Box::new(managed(raw))),
        Kind::ValidatingWebhookConfigurations | Kind::MutatingWebhookConfigurations => {
            let kind = match kind {
                Kind::ValidatingWebhookConfigurations => "ValidatingWebhookConfiguration",
                _ => "MutatingWebhookConfiguration",
            };
            found.object.cut += raw.webhooks.more;
            for webhook in &raw.webhooks.first {
                let place = bundle(kind, &name, &webhook.name.0);
                found.encoded(&place, &webhook.client_config.bundle, false);
            }
        }
        Kind::ApiServices => found.encoded(&bundle("APIService", &name, ""), &raw.spec.bundle, false),
    }
    found.end()
}

fn bundle(kind: &'static str, name: &str, entry: &str) -> Place {
    Place { bundle_kind: kind, bundle_name: name.to_owned(), bundle_entry: entry.to_owned(), ..Place::default() }
}

fn managed(raw: &Raw<'_>) -> Managed {
    let seconds = |t: &Text<'_>| t.0.parse::<Timestamp>().ok().map(Timestamp::as_second);
    let ready = raw.status.conditions.first.iter().find(|c| c.kind.0 == "Ready");
    let why = ready.filter(|c| c.status.0 != "True").map(|c| {
        let text = if c.message.0.is_empty() { &c.reason.0 } else { &c.message.0 };
        plain::line(text, LONGEST_REASON)
    });
    Managed {
        ready: ready.is_some_and(|c| c.status.0 == "True"),
        why: why.unwrap_or_default().into(),
        not_after: seconds(&raw.status.not_after),
        renewal: seconds(&raw.status.renewal_time),
    }
}

#[derive(Default)]
struct Found {
    object: Object,
    certificates: Vec<Labelled>,
    broken: Vec<Box<str>>,
}

impl Found {
    /// Nothing is there before an issuer has filled it in, and that is no fault.
    fn encoded(&mut self, place: &Place, value: &Text<'_>, is_leaf: bool) {
        if value.0.is_empty() {
            return;
        }
        match decode_base64(value.0.as_bytes()) {
            Some(pem) => self.pem(place, &pem, is_leaf),
            None => self.broken.push(place_labels(place)),
        }
    }

    fn pem(&mut self, place: &Place, pem: &[u8], is_leaf: bool) {
        if pem.is_empty() {
            return;
        }
        let (mut seen, mut bad) = (0, false);
        for block in pem::blocks(pem) {
            // a key that lies in the wrong place is not decoded here either
            let Ok(block) = block else {
                bad = true;
                continue;
            };
            if block.label != "CERTIFICATE" {
                continue;
            }
            seen += 1;
            if seen > MOST_IN_BUNDLE {
                self.object.cut += 1;
                continue;
            }
            let der = block.decode().ok();
            let Some((der, facts)) = der.and_then(|d| labelled(place, &d).map(|f| (d, f))) else {
                bad = true;
                continue;
            };
            if is_leaf && seen == 1 {
                self.object.leaf = Leaf::of(&der).map(Box::new);
            }
            // one certificate twice in a bundle is one series
            if !self.certificates.iter().any(|c| c.labels == facts.labels) {
                self.certificates.push(facts);
            }
        }
        if bad || seen == 0 {
            self.broken.push(place_labels(place));
        }
    }

    fn end(mut self) -> Object {
        self.broken.sort_unstable();
        self.broken.dedup();
        self.object.certificates = self.certificates.into();
        self.object.broken = self.broken.into();
        self.object
    }
}
