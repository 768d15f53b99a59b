//! The names and labels of x509-certificate-exporter, both of its generations, so that dashboards and alerts made for it
//! work unchanged (its `pkg/registry/labels.go`, `collector.go`; version 3: `internal/collector.go`).

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::counters::SourceErrors;
use super::{
    Page, X509_COLLISIONS, X509_DROPPED, X509_ERROR, X509_EXPIRED, X509_NOT_AFTER, X509_NOT_BEFORE, X509_READ_ERRORS,
    X509_SOURCE_BUNDLES, X509_SOURCE_ERRORS, X509_SOURCE_UP,
};

/// Longer serial numbers are not RFC 5280's (20 bytes) and not worth the division.
const LONGEST_SERIAL: usize = 64;
const SOURCE_NAME: &str = "certwarden";
/// Of [`X509_NOT_AFTER`] and its like.
const LABELS: usize = 26;

/// Where a certificate was found.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    pub filepath: String,
    pub embedded_kind: &'static str,
    pub embedded_key: String,
    pub secret_namespace: String,
    pub secret_name: String,
    pub secret_key: String,
    /// Namespace, name and key of a ConfigMap.
    pub config_map: [String; 3],
    pub bundle_kind: &'static str,
    pub bundle_name: String,
    pub bundle_entry: String,
}

/// A kind of places that is read as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Source<'a> {
    /// `file`, `kubeconfig`.
    pub kind: &'static str,
    pub up: bool,
    /// Certificates, DER, and where they are.
    pub certificates: Vec<(Place, &'a [u8])>,
    /// Places of which nothing could be read.
    pub broken: Vec<Place>,
    /// Whatever was tried, readable or not.
    pub bundles: usize,
    pub errors: SourceErrors,
}

/// One certificate's labels and dates.
struct Row {
    place: Place,
    serial: String,
    names: [String; 12],
    not_before: i64,
    not_after: i64,
}

impl Row {
    fn new(place: &Place, der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let serial = if cert.raw_serial().len() <= LONGEST_SERIAL {
            cert.tbs_certificate.serial.to_string()
        } else {
            "too long".to_owned()
        };
        let [issuer, subject] = [cert.issuer(), cert.subject()].map(parts);
        let mut names: [String; 12] = Default::default();
        for (name, part) in names.iter_mut().zip(issuer.into_iter().chain(subject)) {
            *name = part;
        }
        let validity = cert.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Self { place: place.clone(), serial, names, not_before, not_after })
    }

    fn labels(&self) -> [&str; LABELS] {
        let [ic, ist, il, io, iou, icn, sc, sst, sl, so, sou, scn] = self.names.each_ref().map(String::as_str);
        let [filename, filepath, ek, ey, sns, sn, sk, cns, cn, ck, bk, bn, be] = place(&self.place);
        let serial = self.serial.as_str();
        [
            filename, filepath, ek, ey, sns, sn, sk, cns, cn, ck, bk, bn, be, serial, ic, ist, il, io, iou, icn, sc,
            sst, sl, so, sou, scn,
        ]
    }
}

fn place(p: &Place) -> [&str; 13] {
    let filename = p.filepath.rsplit('/').next().unwrap_or_default();
    let [cns, cn, ck] = p.config_map.each_ref().map(String::as_str);
    [
        filename,
        &p.filepath,
        p.embedded_kind,
        &p.embedded_key,
        &p.secret_namespace,
        &p.secret_name,
        &p.secret_key,
        cns,
        cn,
        ck,
        p.bundle_kind,
        &p.bundle_name,
        &p.bundle_entry,
    ]
}

/// A certificate as little more than the text of its labels: what is kept of those that others have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::model) struct Labelled {
    /// With braces.
    pub(in crate::model) labels: Box<str>,
    pub(in crate::model) not_before: i64,
    pub(in crate::model) not_after: i64,
}

/// None if it is no certificate.
pub(in crate::model) fn labelled(place: &Place, der: &[u8]) -> Option<Labelled> {
    let row = Row::new(place, der)?;
    let labels = super::labels(&X509_NOT_AFTER, &row.labels()).into();
    Some(Labelled { labels, not_before: row.not_before, not_after: row.not_after })
}

/// Labels of a place, with braces, whatever is there.
pub(in crate::model) fn place_labels(p: &Place) -> Box<str> {
    super::labels(&X509_ERROR, &place(p)).into()
}

/// C, ST, L, O, OU, CN: the first value of each, as the exporter takes it.
fn parts(name: &X509Name<'_>) -> [String; 6] {
    fn first<'a>(mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> String {
        values.next().and_then(|v| v.as_str().ok()).unwrap_or_default().to_owned()
    }
    [
        first(name.iter_country()),
        first(name.iter_state_or_province()),
        first(name.iter_locality()),
        first(name.iter_organization()),
        first(name.iter_organizational_unit()),
        first(name.iter_common_name()),
    ]
}

/// All families of the exporter, for all sources.
pub fn certificates(page: &mut Page, sources: &[Source<'_>], now: Timestamp) {
    let rows: Vec<Row> =
        sources.iter().flat_map(|s| &s.certificates).filter_map(|(place, der)| Row::new(place, der)).collect();
    page.family(&X509_NOT_AFTER, |s| rows.iter().for_each(|r| s.add(r.labels(), r.not_after)));
    page.family(&X509_NOT_BEFORE, |s| rows.iter().for_each(|r| s.add(r.labels(), r.not_before)));
    let expired = |r: &Row| u8::from(now.as_second() > r.not_after);
    page.family(&X509_EXPIRED, |s| rows.iter().for_each(|r| s.add(r.labels(), expired(r))));
    page.family(&X509_ERROR, |s| {
        // version 3: of the place alone
        let of_place = |p: &Place| {
            let mut labels = [""; LABELS];
            for (label, value) in labels.iter_mut().zip(place(p)) {
                *label = value;
            }
            labels.map(str::to_owned)
        };
        let mut all: Vec<(&Place, u8)> = sources.iter().flat_map(|s| &s.broken).map(|p| (p, 1)).collect();
        all.extend(rows.iter().map(|r| (&r.place, 0)));
        all.sort_by_key(|(place, bad)| (*place, u8::MAX - bad));
        all.dedup_by_key(|(place, _)| *place);
        for (place, bad) in all {
            s.add(of_place(place).each_ref().map(String::as_str), bad);
        }
    });
    page.value(&X509_READ_ERRORS, sources.iter().map(|s| s.broken.len()).sum::<usize>());
    let name = SOURCE_NAME;
    page.family(&X509_SOURCE_UP, |s| sources.iter().for_each(|x| s.add([x.kind, name], u8::from(x.up))));
    page.family(&X509_SOURCE_BUNDLES, |s| sources.iter().for_each(|x| s.add([x.kind, name], x.bundles)));
    page.family(&X509_SOURCE_ERRORS, |s| {
        for source in sources {
            for (reason, count) in source.errors.all() {
                s.add([source.kind, name, reason], count);
            }
        }
    });
    // what collides is dropped silently by nobody: `certwarden_metrics_dropped_samples`
    page.family(&X509_COLLISIONS, |s| sources.iter().for_each(|x| s.add([x.kind], 0)));
    page.family(&X509_DROPPED, |s| sources.iter().for_each(|x| s.add([x.kind], 0)));
}
