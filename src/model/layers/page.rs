//! Metrics of the other layers, piece by piece: the page of ten thousand Secrets is larger than everything that it is made of.

use std::fmt::{self, Display, Write};

use jiff::Timestamp;

use super::facts::Managed;
use super::probe::Probed;
use super::{Fed, Kind, Layers, Object, Standing};
use crate::model::metrics::{
    CM_NOT_AFTER, CM_READY, CM_RENEWAL, Family, PROBE_DRIFT, PROBE_DURATION, PROBE_LAST, PROBE_NOT_AFTER,
    PROBE_SUCCESS, PROBE_TRUSTED, WATCH_CUT, WATCH_ERRORS, WATCH_EVENTS, WATCH_OBJECTS, WATCH_OMITTED, WATCH_UP,
    X509_ERROR, X509_EXPIRED, X509_NOT_AFTER, X509_NOT_BEFORE, X509_SOURCE_BUNDLES, X509_SOURCE_UP, head, labels,
};

/// `source_kind` of what has certificates, as the exporter names them.
const SOURCES: [(&str, &[Kind]); 2] = [
    ("kubernetes", &[Kind::Secrets, Kind::ConfigMaps]),
    ("cabundle", &[Kind::ValidatingWebhookConfigurations, Kind::MutatingWebhookConfigurations, Kind::ApiServices]),
];
const SOURCE_NAME: &str = "certwarden";
/// Behind the labels of a place come those of a certificate. A quote within a value is escaped, so this is nowhere else.
const BEHIND_PLACE: &str = ",serial_number=\"";

/// Writes one family, its head before the first sample.
struct Lines<'a> {
    out: &'a mut dyn Write,
    family: &'static Family,
    begun: bool,
}

impl<'a> Lines<'a> {
    fn new(out: &'a mut dyn Write, family: &'static Family) -> Self {
        Self { out, family, begun: false }
    }

    fn add(&mut self, labels: &str, value: impl Display) -> fmt::Result {
        if !self.begun {
            head(self.out, self.family)?;
            self.begun = true;
        }
        writeln!(self.out, "{}{labels} {value}", self.family.name)
    }
}

/// The whole page.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, layers: &Layers, now: Timestamp) -> fmt::Result {
    certificates(out, layers, now.as_second())?;
    sources(out, layers)?;
    kinds(out, layers)?;
    managed(out, layers)?;
    probes(out, layers)
}

fn certificates(out: &mut dyn Write, layers: &Layers, now: i64) -> fmt::Result {
    let all = || layers.objects().flat_map(|(_, _, object)| object.certificates.iter());
    let mut x = Lines::new(&mut *out, &X509_NOT_AFTER);
    all().try_for_each(|c| x.add(&c.labels, c.not_after))?;
    let mut x = Lines::new(&mut *out, &X509_NOT_BEFORE);
    all().try_for_each(|c| x.add(&c.labels, c.not_before))?;
    let mut x = Lines::new(&mut *out, &X509_EXPIRED);
    all().try_for_each(|c| x.add(&c.labels, u8::from(now > c.not_after)))?;
    let mut x = Lines::new(out, &X509_ERROR);
    layers.objects().try_for_each(|(_, _, object)| errors(&mut x, object))
}

fn errors(lines: &mut Lines<'_>, object: &Object) -> fmt::Result {
    object.broken.iter().try_for_each(|place| lines.add(place, 1))?;
    let mut before = String::new();
    for certificate in &object.certificates {
        let mut place = certificate.labels.split(BEHIND_PLACE).next().unwrap_or_default().to_owned();
        place.push('}');
        if place != before && !object.broken.iter().any(|b| **b == *place) {
            lines.add(&place, 0)?;
            before = place;
        }
    }
    Ok(())
}

fn sources(out: &mut dyn Write, layers: &Layers) -> fmt::Result {
    let of = |kinds: &'static [Kind]| kinds.iter().flat_map(|kind| layers.of(*kind));
    let mut x = Lines::new(&mut *out, &X509_SOURCE_UP);
    for (source, kinds) in SOURCES {
        let up = of(kinds).all(|f| matches!(f.standing, Standing::Up | Standing::Absent));
        x.add(&labels(&X509_SOURCE_UP, &[source, SOURCE_NAME]), u8::from(up))?;
    }
    let mut x = Lines::new(out, &X509_SOURCE_BUNDLES);
    for (source, kinds) in SOURCES {
        let bundles: usize = of(kinds).map(|f| f.objects.len()).sum();
        x.add(&labels(&X509_SOURCE_BUNDLES, &[source, SOURCE_NAME]), bundles)?;
    }
    Ok(())
}

/// One sample for each kind that the cluster has.
fn kinds(out: &mut dyn Write, layers: &Layers) -> fmt::Result {
    type Measure = fn(&Fed) -> u64;
    let measures: [(&'static Family, Measure); 5] = [
        (&WATCH_OBJECTS, |f| f.objects.len() as u64),
        (&WATCH_OMITTED, |f| f.omitted),
        (&WATCH_CUT, |f| f.objects.values().map(|o| u64::from(o.cut)).sum()),
        (&WATCH_EVENTS, |f| f.events),
        (&WATCH_ERRORS, |f| f.errors),
    ];
    let there = || Kind::ALL.into_iter().filter(|k| layers.of(*k).any(|f| f.standing != Standing::Absent));
    let mut x = Lines::new(&mut *out, &WATCH_UP);
    for kind in there() {
        let up = layers.of(kind).all(|f| matches!(f.standing, Standing::Up | Standing::Absent));
        x.add(&labels(&WATCH_UP, &[kind.id()]), u8::from(up))?;
    }
    for (family, measure) in measures {
        let mut x = Lines::new(&mut *out, family);
        for kind in there() {
            x.add(&labels(family, &[kind.id()]), layers.of(kind).map(measure).sum::<u64>())?;
        }
    }
    Ok(())
}

fn managed(out: &mut dyn Write, layers: &Layers) -> fmt::Result {
    type Measure = fn(&Managed) -> Option<i64>;
    let measures: [(&'static Family, Measure); 3] =
        [(&CM_READY, |m| Some(i64::from(m.ready))), (&CM_NOT_AFTER, |m| m.not_after), (&CM_RENEWAL, |m| m.renewal)];
    for (family, measure) in measures {
        let mut x = Lines::new(&mut *out, family);
        for (_, name, object) in layers.objects() {
            let Some(value) = object.managed.as_deref().and_then(measure) else { continue };
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            x.add(&labels(family, &[namespace, name]), value)?;
        }
    }
    Ok(())
}

fn probes(out: &mut dyn Write, layers: &Layers) -> fmt::Result {
    type Measure = fn(&Probed, &Layers) -> Option<f64>;
    // seconds since 1970 are whole numbers far below 2^53
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let measures: [(&'static Family, Measure); 6] = [
        (&PROBE_SUCCESS, |p, _| Some(flag(p.shown.is_ok()))),
        (&PROBE_TRUSTED, |p, _| p.shown.as_ref().ok().map(|s| flag(s.refused.is_none()))),
        (&PROBE_NOT_AFTER, |p, _| p.shown.as_ref().ok().map(|s| s.not_after.as_second() as f64)),
        (&PROBE_LAST, |p, _| Some(p.at.as_second() as f64)),
        (&PROBE_DURATION, |p, _| Some(p.took.as_secs_f64())),
        (&PROBE_DRIFT, |p, layers| p.drift(layers).map(flag)),
    ];
    for (family, measure) in measures {
        let mut x = Lines::new(&mut *out, family);
        for (name, probed) in layers.probes.all() {
            if let Some(value) = measure(probed, layers) {
                x.add(&labels(family, &[name]), value)?;
            }
        }
    }
    Ok(())
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}
