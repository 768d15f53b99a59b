//! The playbook of the other layers: what `certwarden watch` has found, in order, and what to do about each.

use jiff::Timestamp;

use super::facts::Seen;
use super::node::told;
use super::steps::{about, said};
use super::{Cause, Playbook, Remedy, RootCause, Step};
use crate::model::assess::Severity;
use crate::model::layers::{Brief, Row};

/// What is behind something comes before it, as far as severity does not decide.
const FOUND: [Cause; 8] = [
    Cause::CertManagerNotReady,
    Cause::CertManagerOverdue,
    Cause::LayerUnreadable,
    Cause::ProbeRefused,
    Cause::ProbeDrift,
    Cause::ProbeFailed,
    Cause::LayerExpiring,
    Cause::WatchBlind,
];

/// Goes through it.
pub fn layers(seen: &Seen<Brief>, now: Timestamp) -> Playbook {
    let stale = seen.known().is_some_and(|b| !b.is_fresh(now));
    let steps = vec![
        watching(seen, now),
        step("objects", "Can all objects be seen?", seen, &[Cause::WatchBlind]),
        step("certificates", "Are their certificates well?", seen, &[Cause::LayerExpiring, Cause::LayerUnreadable]),
        step(
            "cert-manager",
            "Does cert-manager do its work?",
            seen,
            &[Cause::CertManagerNotReady, Cause::CertManagerOverdue],
        ),
        step("endpoints", "What do clients see?", seen, &[Cause::ProbeRefused, Cause::ProbeDrift, Cause::ProbeFailed]),
    ];
    let mut found: Vec<RootCause> = match seen.known() {
        Some(brief) if !stale => FOUND.into_iter().filter_map(|cause| root(cause, brief)).collect(),
        _ => Vec::new(),
    };
    // what is doubtful last: it hides nothing
    found.sort_by_key(|c| (c.severity == Severity::Unknown, std::cmp::Reverse(c.severity)));
    Playbook::new("layers", steps, found, |_| match seen.known() {
        Some(brief) if !stale => {
            let text = format!("nothing is wrong with {} objects and {} endpoints", brief.objects, brief.probes);
            RootCause::new(Cause::Healthy, Severity::Ok, text)
        }
        _ => RootCause::new(Cause::CannotTell, Severity::Unknown, "nobody watches the other layers on this node")
            .mended([
                Remedy::run("certwarden watch --once", "looks once, with admin.conf"),
                Remedy::run(
                    "systemctl enable --now certwarden-watch",
                    "watches for ever; its credential: certwarden runbook CertwardenWatchBlind",
                ),
            ]),
    })
}

fn watching(seen: &Seen<Brief>, now: Timestamp) -> Step {
    about("watch", "Are they watched?", seen, |brief| {
        let age = told(now.duration_since(brief.at));
        if brief.is_fresh(now) {
            return said(
                Severity::Ok,
                format!("{} objects and {} endpoints, as of {age} ago", brief.objects, brief.probes),
            );
        }
        said(Severity::Unknown, format!("certwarden watch has written nothing for {age}"))
    })
}

fn of<'a>(brief: &'a Brief, causes: &'a [Cause]) -> impl Iterator<Item = &'a Row> {
    brief.attention.iter().filter(move |r| r.finding.is_some_and(|f| causes.contains(&f)))
}

fn step(id: &'static str, title: &'static str, seen: &Seen<Brief>, causes: &'static [Cause]) -> Step {
    about(id, title, seen, |brief| {
        let worst = of(brief, causes).map(|r| r.severity).max().unwrap_or(Severity::Ok);
        let text = match of(brief, causes).count() {
            0 => "nothing to say against it".to_owned(),
            n => format!("{n} to be looked at"),
        };
        said(worst, text).with(of(brief, causes).map(line))
    })
}

fn line(row: &Row) -> String {
    let part = if row.part.is_empty() { String::new() } else { format!(" {}", row.part) };
    let name = if row.name.is_empty() { String::new() } else { format!(" {}", row.name) };
    format!("{}{name}{part}: {}", row.kind, row.message)
}

fn root(cause: Cause, brief: &Brief) -> Option<RootCause> {
    let rows: Vec<&Row> = of(brief, std::slice::from_ref(&cause)).map(|r| r as &Row).collect();
    let severity = rows.iter().map(|r| r.severity).max()?;
    let text = format!("{}: {}", cause.meaning(), names(&rows));
    Some(RootCause::new(cause, severity, text).seen(rows.iter().map(|r| line(r))).mended(remedy(cause)))
}

/// Some of them.
fn names(rows: &[&Row]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<&str> =
        rows.iter().take(SHOWN).map(|r| if r.name.is_empty() { r.kind.as_ref() } else { r.name.as_str() }).collect();
    let more = rows.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", first.join(", "))
}

fn remedy(cause: Cause) -> Vec<Remedy> {
    match cause {
        Cause::CertManagerNotReady | Cause::CertManagerOverdue => vec![
            Remedy::run(
                "kubectl describe certificate -n NAMESPACE NAME",
                "its conditions and events name what is missing",
            ),
            Remedy::run("kubectl get certificaterequest,order,challenge -A", "how far an issuer has come"),
        ],
        Cause::LayerUnreadable => {
            vec![Remedy::note("put a certificate in PEM there, or let its owner make the object anew")]
        }
        Cause::ProbeDrift => vec![
            Remedy::run(
                "kubectl rollout restart -n NAMESPACE deployment/NAME",
                "whatever serves it reads the Secret again",
            ),
            Remedy::note("the name of the Secret in the probe may be wrong, too"),
        ],
        Cause::ProbeRefused => vec![Remedy::run(
            "openssl s_client -connect HOST:PORT -servername NAME -verify_return_error < /dev/null",
            "shows the chain as clients get it",
        )],
        Cause::ProbeFailed => vec![Remedy::note(
            "nobody listens there, or it is not TLS: the service, or the probe's address and starttls",
        )],
        Cause::LayerExpiring => {
            vec![Remedy::note("whoever issued it must renew it: certwarden watches these and never writes them")]
        }
        _ => vec![
            Remedy::run("journalctl -u certwarden-watch", "says what the API server answered"),
            Remedy::run(
                "kubectl auth can-i --list --as=system:serviceaccount:kube-system:certwarden-watch",
                "says what it may",
            ),
        ],
    }
}
