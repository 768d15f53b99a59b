//! The other layers for a person: what there is, and what of it is not well.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::facts::Managed;
use super::probe::Probed;
use super::{FEEDS, Kind, Layers, Object, Standing};
use crate::model::assess::Severity;
use crate::model::diagnose::Cause;
use crate::model::metrics::Labelled;
use crate::model::policy::Policy;

/// Of a certificate's life: less than a sixth left is late for whatever renews it at two thirds (cert-manager, Linkerd) or at half
/// (Istio), and less than a twentieth an emergency. What lives a year is judged by the settings, which are shorter.
const LATE: i64 = 6;
const EMERGENCY: i64 = 20;
/// What is shown to clients: each of it must be valid.
const CHAIN: &str = "tls.crt";
/// cert-manager begins at its renewal time and may need an hour for a slow issuer.
const RENEWAL_PATIENCE: i64 = 3600;
pub(super) const SCHEMA: &str = "certwarden.watch/v1";

/// How bad, what it is, and that in words.
type Judged = (Severity, Option<Cause>, String);

/// Something that was looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// `secrets` and the other kinds, or `probes`.
    pub kind: Cow<'static, str>,
    /// `namespace/name`, or the probe's.
    pub name: String,
    /// Key in its data, the webhook, or the probe's address.
    pub part: String,
    pub severity: Severity,
    /// What is wrong with it, the gravest of it; None: nothing.
    pub finding: Option<Cause>,
    pub not_after: Option<Timestamp>,
    /// What is wrong, in words.
    pub message: String,
}

impl Row {
    /// Worst first, then by end. Who does not end for it cannot be read comes first of its kind.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |r: &Self| (Reverse(r.severity), r.not_after);
        key(self).cmp(&key(other)).then_with(|| (&self.kind, &self.name).cmp(&(&other.kind, &other.name)))
    }
}

/// All of it, worst first, then by end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    pub schema: &'static str,
    pub at: Timestamp,
    pub verdict: Severity,
    pub objects: usize,
    pub rows: Vec<Row>,
}

/// Judges everything at an instant.
pub fn overview(layers: &Layers, policy: &Policy, now: Timestamp) -> Overview {
    let mut rows: Vec<Row> = rows(layers, policy, now).collect();
    rows.sort_by(Row::order);
    let verdict = rows.iter().map(|r| r.severity).max().unwrap_or(Severity::Ok);
    Overview { schema: SCHEMA, at: now, verdict, objects: layers.len(), rows }
}

/// What there is to say, one after another: all at once would be more than what it is about.
pub(super) fn rows<'a>(layers: &'a Layers, policy: &'a Policy, now: Timestamp) -> impl Iterator<Item = Row> + 'a {
    let objects = layers.objects().flat_map(move |(kind, name, object)| of_object(kind, name, object, policy, now));
    let probes = layers.probes.all().map(move |(name, probed)| judge_probe(name, probed, layers, policy, now));
    objects.chain(probes).chain(troubles(layers))
}

fn of_object<'a>(
    kind: Kind,
    name: &'a str,
    object: &'a Object,
    policy: &'a Policy,
    now: Timestamp,
) -> impl Iterator<Item = Row> + 'a {
    let row = move |part: &str, (severity, finding, message): Judged, not_after: Option<i64>| Row {
        kind: kind.id().into(),
        name: name.to_owned(),
        part: part.to_owned(),
        severity,
        finding,
        not_after: not_after.and_then(|s| Timestamp::from_second(s).ok()),
        message,
    };
    let certificates = object.certificates.iter().map(move |c| {
        let judged = by_time(c.not_before, c.not_after, policy, now);
        row(part(&c.labels), spared(object, c, judged, now), Some(c.not_after))
    });
    let broken = object.broken.iter().map(move |labels| {
        let judged = (Severity::Critical, Some(Cause::LayerUnreadable), "no certificate can be read in it".to_owned());
        row(part(labels), judged, None)
    });
    let managed = object.managed.iter().map(move |m| row("", judge_managed(m, now.as_second()), m.not_after));
    let cut = (object.cut > 0).then(|| {
        let message = format!("{} certificates more in one bundle are not looked at", object.cut);
        row("", (Severity::Ok, None, message), None)
    });
    certificates.chain(broken).chain(managed).chain(cut)
}

/// What could not be looked at.
fn troubles(layers: &Layers) -> impl Iterator<Item = Row> {
    let row = |kind: Kind, name: &str, message| Row {
        kind: kind.id().into(),
        name: name.to_owned(),
        part: String::new(),
        severity: Severity::Unknown,
        finding: Some(Cause::WatchBlind),
        not_after: None,
        message,
    };
    FEEDS.iter().zip(&layers.feeds).flat_map(move |(feed, fed)| {
        let name = feed.only.map_or_else(String::new, |(namespace, name)| format!("{namespace}/{name}"));
        let down = (fed.standing == Standing::Down).then(|| row(feed.kind, &name, fed.trouble.clone()));
        let omitted = (fed.omitted > 0).then(|| {
            row(feed.kind, &name, format!("{} objects more are not looked at: there are too many", fed.omitted))
        });
        down.into_iter().chain(omitted)
    })
}

fn by_time(not_before: i64, not_after: i64, policy: &Policy, now: Timestamp) -> Judged {
    let (now, life) = (now.as_second(), not_after.saturating_sub(not_before));
    let left = not_after.saturating_sub(now);
    let (warning, critical) = (
        policy.renew.renew_before.seconds().min(life / LATE),
        policy.renew.emergency_before.seconds().min(life / EMERGENCY),
    );
    let (severity, message) = match left {
        l if l < 0 => (Severity::Critical, format!("expired {} ago", span(-left))),
        l if l < critical => (Severity::Critical, format!("expires in {}", span(left))),
        l if l < warning => (Severity::Warning, format!("expires in {}", span(left))),
        _ if not_before > now => (Severity::Warning, "is not valid yet".to_owned()),
        _ => return (Severity::Ok, None, String::new()),
    };
    (severity, Some(Cause::LayerExpiring), message)
}

/// A CA that has ended and is still named beside its successor, as after every exchange of a root, keeps nobody out.
fn spared(object: &Object, certificate: &Labelled, judged: Judged, now: Timestamp) -> Judged {
    let (now, of) = (now.as_second(), part(&certificate.labels));
    let is_valid = |c: &Labelled| part(&c.labels) == of && c.not_before <= now && now < c.not_after;
    let (severity, finding, message) = judged;
    if certificate.not_after > now || of == CHAIN || !object.certificates.iter().any(is_valid) {
        return (severity, finding, message);
    }
    (severity.min(Severity::Warning), finding, format!("{message}; another one of the same bundle is valid"))
}

fn span(seconds: i64) -> String {
    match seconds {
        s if s >= 172_800 => format!("{}d", s / 86_400),
        s if s >= 7200 => format!("{}h", s / 3600),
        s => format!("{}m", s / 60),
    }
}

fn judge_managed(managed: &Managed, now: i64) -> Judged {
    let (finding, message) = match managed.renewal {
        _ if !managed.ready && managed.why.is_empty() => (Cause::CertManagerNotReady, "is not ready".to_owned()),
        _ if !managed.ready => (Cause::CertManagerNotReady, format!("is not ready: {}", managed.why)),
        Some(renewal) if renewal.saturating_add(RENEWAL_PATIENCE) < now => {
            (Cause::CertManagerOverdue, format!("should have been renewed {} ago", span(now.saturating_sub(renewal))))
        }
        _ => return (Severity::Ok, None, String::new()),
    };
    (Severity::Warning, Some(finding), message)
}

fn judge_probe(name: &str, probed: &Probed, layers: &Layers, policy: &Policy, now: Timestamp) -> Row {
    let row = |severity, finding, not_after, message| Row {
        kind: "probes".into(),
        name: name.to_owned(),
        part: probed.address.clone(),
        severity,
        finding,
        not_after,
        message,
    };
    let shown = match &probed.shown {
        Ok(shown) => shown,
        Err(why) => return row(Severity::Critical, Some(Cause::ProbeFailed), None, why.clone()),
    };
    // the gravest first
    let mut found: Vec<Judged> = Vec::new();
    if let Some(why) = &shown.refused {
        found.push((Severity::Critical, Some(Cause::ProbeRefused), format!("clients refuse it: {why}")));
    }
    if probed.drift(layers) == Some(true) {
        let wanted = layers.secret(&probed.secret).map(|l| l.serial.to_string()).unwrap_or_default();
        let (serial, secret) = (&shown.leaf.serial, &probed.secret);
        let message = format!("shows serial {serial}, Secret {secret} has {wanted}: it was not told of the renewal");
        found.push((Severity::Warning, Some(Cause::ProbeDrift), message));
    }
    if !probed.secret.is_empty() && layers.knows_secrets() && layers.secret(&probed.secret).is_none() {
        let message = format!("there is no Secret {} with a tls.crt", probed.secret);
        found.push((Severity::Warning, Some(Cause::ProbeDrift), message));
    }
    found.push(by_time(shown.not_before.as_second(), shown.not_after.as_second(), policy, now));
    let severity = found.iter().map(|f| f.0).max().unwrap_or(Severity::Ok);
    let finding = found.iter().find_map(|f| f.1);
    let said: Vec<String> = found.into_iter().map(|f| f.2).filter(|m| !m.is_empty()).collect();
    row(severity, finding, Some(shown.not_after), said.join("; "))
}

/// The key or the webhook that labels name.
fn part(labels: &str) -> &str {
    let value = |name: &str| {
        let (_, rest) = labels.split_once(name)?;
        rest.split('"').next().filter(|v| !v.ends_with('\\'))
    };
    ["secret_key=\"", "configmap_key=\"", "cabundle_entry=\""].into_iter().find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_root_beside_its_successor_is_a_warning_and_an_old_link_of_a_chain_is_not() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let of = |key: &str, ends: &[i64]| {
            let one = |not_after: &i64| Labelled {
                labels: format!("configmap_key=\"{key}\"").into(),
                not_before: 0,
                not_after: *not_after,
            };
            Object { certificates: ends.iter().map(one).collect(), ..Object::default() }
        };
        let policy = Policy::default();
        let severities = |object: &Object| {
            let rows = of_object(Kind::ConfigMaps, "n/roots", object, &policy, now);
            rows.map(|r| r.severity).collect::<Vec<_>>()
        };
        let (old, good) = (999_000, 100_000_000);
        assert_eq!(severities(&of("ca-bundle.crt", &[old, good])), [Severity::Warning, Severity::Ok]);
        assert_eq!(severities(&of("ca-bundle.crt", &[old, old])), [Severity::Critical; 2], "nobody is trusted");
        assert_eq!(severities(&of(CHAIN, &[good, old])), [Severity::Ok, Severity::Critical]);
    }
}
