//! What the time makes of an entry: how bad it is, and whether it is due.

use jiff::Timestamp;

use super::super::cert::CertFacts;
use super::super::finding::{Finding, Problem};
use super::super::inventory::{Entry, Owner};
use super::super::policy::Policy;
use super::super::repair;
use super::{Judged, Severity, is_out_of_reach};

/// What a component signs for itself in memory lives for a year (apiserver: `pkg/server/options/serving.go`).
const YEAR: i64 = 365 * 86_400;

/// Seconds left at which an entry of this kind is a warning, and at which it is critical.
#[derive(Clone, Copy)]
struct Limits {
    warning: i64,
    critical: i64,
}

/// How bad it is that a leaf, which nothing is special about, has so many seconds left of a year.
pub(in crate::model) fn leaf_severity(left: i64, policy: &Policy) -> Severity {
    by_time(left, leaf_limits(YEAR, policy))
}

fn leaf_limits(life: i64, policy: &Policy) -> Limits {
    Limits { warning: policy.renew.due_before(life), critical: policy.renew.emergency(life) }
}

fn limits(entry: &Entry, leaf: &CertFacts, policy: &Policy) -> Limits {
    let (renew, emergency) = (policy.renew.renew_before.seconds(), policy.renew.emergency_before.seconds());
    if entry.is_ca() {
        // nothing renews a CA by itself: a person needs as long as leaves get
        return Limits { warning: policy.check.ca_warn_before.seconds(), critical: renew };
    }
    if entry.owner == Owner::Kubelet || entry.name == repair::CLIENT {
        let warning = repair::threshold(entry, leaf, policy);
        // kubelet certificates may live an hour in all (`--cluster-signing-duration`)
        return Limits { warning, critical: emergency.min(warning / 2) };
    }
    leaf_limits(leaf.measured_life(), policy)
}

fn by_time(left: i64, limits: Limits) -> Severity {
    match left {
        ..=0 => Severity::Critical,
        l if l <= limits.critical => Severity::Critical,
        l if l <= limits.warning => Severity::Warning,
        _ => Severity::Ok,
    }
}

pub(super) fn judge_time(
    judged: &mut Judged,
    entry: &Entry,
    leaf: &CertFacts,
    ca_end: Option<Timestamp>,
    policy: &Policy,
    now: Timestamp,
) {
    let end = ca_end.map_or(leaf.not_after, |ca| ca.min(leaf.not_after));
    let left = end.as_second().saturating_sub(now.as_second());
    let own_left = leaf.seconds_left(now);
    let limits = limits(entry, leaf, policy);
    judged.effective_end = Some(end);
    judged.seconds_left = Some(left);

    let mut severity = by_time(left, limits);
    if severity > Severity::Ok {
        judged.findings.push(time_finding(entry, end < leaf.not_after, end, left));
    }
    if leaf.not_before > now {
        severity = Severity::Critical;
        let message = format!("is not valid before {}; check this machine's clock", leaf.not_before);
        judged.findings.push(Finding::new(Problem::NotYetValid, message));
    }
    if end < leaf.not_after {
        severity = severity.max(Severity::Warning);
        let ca = entry.signer.as_deref().unwrap_or("its CA");
        let message = format!("is of no use after {end}, when {ca} ends; renew the CA, which nothing does by itself");
        judged.findings.push(Finding::new(Problem::CaExpiresFirst, message));
    }
    if (entry.owner == Owner::None && !entry.is_ca()) || entry.is_self_made() {
        // copies and the kubelet's self-signed certificate, which the API server does not verify
        severity = severity.min(Severity::Warning);
    }
    judged.severity = judged.severity.max(severity);

    // by its own end: an end that the CA sets does not move by a renewal, and would make it due for ever
    let at_the_end_of_its_ca = ca_end.is_some_and(|ca| leaf.not_after >= ca) && own_left > 0;
    let late = own_left <= policy.renew.due_before(leaf.measured_life()) && !at_the_end_of_its_ca;
    judged.due = matches!(entry.owner, Owner::Kubeadm | Owner::Certwarden)
        && (late || has(judged, Problem::KeyMismatch))
        // what cannot be backed up cannot be put back
        && !judged.findings.iter().any(|f| is_out_of_reach(f.id))
        // somebody else's certificate in kubeadm's place: whether to replace it is a person's decision
        && !has(judged, Problem::WrongIssuer);
    // no gate gives way for what nobody can verify
    judged.emergency = judged.due && !entry.is_self_made() && own_left <= policy.renew.emergency(leaf.measured_life());
    if matches!(entry.owner, Owner::Kubeadm | Owner::Certwarden)
        && ![repair::CLIENT, repair::CONFIG].contains(&entry.name.as_str())
        && let Some(message) = policy.renew.shortened(leaf.measured_life())
    {
        judged.findings.push(Finding::new(Problem::ShortLived, message));
    }
}

pub(super) fn has(judged: &Judged, problem: Problem) -> bool {
    judged.findings.iter().any(|f| f.id == problem)
}

fn time_finding(entry: &Entry, by_ca: bool, end: Timestamp, left: i64) -> Finding {
    let overdue = !by_ca && entry.owner == Owner::Kubelet;
    let what = match by_ca {
        true => "its CA",
        false if overdue => "the kubelet's own rotation is overdue: it",
        false => "it",
    };
    // nobody does it by himself, and it is nothing to begin on the last day
    let remedy =
        if entry.is_ca() { "; replacing a CA is a project, see \"The CA\" in certwarden's operations.md" } else { "" };
    if left <= 0 {
        Finding::new(Problem::Expired, format!("{what} expired at {end}{remedy}"))
    } else if overdue {
        Finding::new(Problem::RotationOverdue, format!("{what} expires at {end}"))
    } else {
        Finding::new(Problem::Expiring, format!("{what} expires at {end}{remedy}"))
    }
}
