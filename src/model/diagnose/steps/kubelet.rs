//! What the kubelet, its Node and its files show.

use super::{MOST, about, said, step};
use crate::model::assess::Severity;
use crate::model::csr::{Request, Stage};
use crate::model::diagnose::Step;
use crate::model::diagnose::facts::{By, Certificate, Facts};
use crate::model::diagnose::klog::{Hit, Signature};
use crate::model::diagnose::node::SERVING;
use crate::model::diagnose::words::{ending, told};
use crate::model::identity::USER;
use crate::model::repair::{CLIENT, CONFIG};
use crate::model::rotation::Rotation;

/// A line that is older is about what is over: a kubelet that cannot log in says so every few seconds.
const LATELY: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

pub(super) fn node(f: &Facts) -> Step {
    about("node", "Is the Node Ready?", &f.object, |object| {
        let Some(object) = object else {
            return said(Severity::Critical, "the cluster has no Node of this name");
        };
        let since = object.since.map(|t| format!(" since {t:.0}")).unwrap_or_default();
        let lease = object.lease.map(|t| format!("lease renewed {} ago", told(f.at.duration_since(t))));
        let version = (!object.kubelet_version.is_empty()).then(|| format!("kubelet {}", object.kubelet_version));
        let cordoned = object.unschedulable.then(|| "cordoned: no new pods are scheduled here".to_owned());
        let evidence = lease.into_iter().chain(version).chain(cordoned);
        if object.is_ready() && f.lease_is_fresh() == Some(false) {
            // the object is stale until the controller manager notices
            said(Severity::Critical, format!("Ready{since}, by a word that is old")).with(evidence)
        } else if object.is_ready() {
            said(Severity::Ok, format!("Ready{since}")).with(evidence)
        } else {
            let message = Some(object.message.clone()).filter(|m| !m.is_empty());
            let text = format!(
                "Ready is {}{since}: {}",
                if object.ready.is_empty() { "not told" } else { &object.ready },
                object.reason
            );
            said(Severity::Critical, text).with(message.into_iter().chain(evidence))
        }
    })
}

pub(super) fn unit(f: &Facts) -> Step {
    about("unit", "Does the kubelet run?", &f.unit, |unit| {
        let state = format!("{} is {} ({})", unit.name, unit.active_state, unit.sub_state);
        if unit.runs() {
            return said(Severity::Ok, state);
        }
        let words = unit.last_words.iter().rev().take(3).rev().map(|w| format!("it said: {w}"));
        let how = format!("{} restarts, result {}, exit code {}", unit.restarts, unit.result, unit.exit);
        said(Severity::Critical, state).with(std::iter::once(how).chain(words))
    })
}

pub(super) fn events(f: &Facts) -> Step {
    about("events", "What happened to the Node lately?", &f.events, |events| {
        let warnings = events.iter().filter(|e| e.warning).count();
        let mut sorted: Vec<_> = events.iter().collect();
        sorted.sort_by_key(|e| e.at);
        let shown = sorted.iter().rev().take(MOST).rev().map(|e| {
            let at = e.at.map(|t| format!("{t:.0} ")).unwrap_or_default();
            let times = if e.count > 1 { format!(" ({}×)", e.count) } else { String::new() };
            format!("{at}{}{times}: {}", e.reason, e.note)
        });
        let verdict = if warnings > 0 { Severity::Warning } else { Severity::Ok };
        said(verdict, format!("{} events, {warnings} of them warnings", events.len())).with(shown)
    })
}

pub(super) fn files(f: &Facts) -> Step {
    let own: Vec<&Certificate> =
        [CLIENT, CONFIG, SERVING].iter().filter_map(|n| f.certificate(n)).filter(|c| !c.absent).collect();
    let worst = own.iter().map(|c| c.severity).max().unwrap_or(Severity::Unknown);
    let said = match own.iter().filter(|c| c.severity != Severity::Ok).count() {
        _ if f.client().is_none() => said(Severity::Unknown, "no certificate of the kubelet was found"),
        0 => said(worst, "the kubelet's files are well"),
        n => said(worst, format!("{n} of the kubelet's {} are not well", own.len())),
    };
    let evidence = own
        .iter()
        .flat_map(|c| std::iter::once(ending(c)).chain(c.findings.iter().map(|x| format!("{}: {}", x.id, x.message))));
    step("files", "Are the kubelet's certificate files good?", Some(By::Root.to_string()), said.with(evidence))
}

pub(super) fn settings(f: &Facts) -> Step {
    let window = f.client().and_then(|c| c.leaf.as_ref()).map(|l| Rotation::of(l, f.at));
    let due = window.map(|w| match w {
        Rotation::NotDue { from, until } => format!("its rotation is due between {from:.0} and {until:.0}"),
        Rotation::Window { until, .. } => format!("its rotation is due now, at the latest by {until:.0}"),
        Rotation::Overdue { until, .. } => format!("its rotation was due by {until:.0}"),
    });
    let bootstrap = f
        .kubelet
        .server_tls_bootstrap
        .then(|| "serverTLSBootstrap is on: its serving certificate is asked for, too".to_owned());
    let obstacle = f.kubelet.identity.obstacle.as_ref().map(|p| format!("{} is in the way", p.display()));
    let bad = obstacle.is_some() || matches!(window, Some(Rotation::Overdue { .. })) || !f.kubelet.rotates;
    let text =
        if f.kubelet.rotates { "the kubelet rotates its client certificate" } else { "rotateCertificates is false" };
    let verdict = if bad { Severity::Warning } else { Severity::Ok };
    let said = said(verdict, text).with(due.into_iter().chain(bootstrap).chain(obstacle));
    step("settings", "Does it rotate, and when?", Some(By::Root.to_string()), said)
}

pub(super) fn journal(f: &Facts) -> Step {
    about("journal", "What does the kubelet say?", &f.journal, |hits| {
        let window = hits.since.map(|t| format!(" since {t:.0}")).unwrap_or_default();
        let good = |h: &&Hit| h.signature == Signature::Rotated;
        let lately = f.at.checked_sub(LATELY).unwrap_or(f.at);
        let bad = hits.found.iter().filter(|h| !good(h) && h.last >= lately).count();
        let shown = hits.found.iter().take(2 * MOST).map(|h| {
            let (id, meaning) = (h.signature.id(), h.signature.meaning());
            format!("{id} {meaning}: {}× from {:.0} to {:.0}: {}", h.count, h.first, h.last, h.line)
        });
        let verdict = if bad > 0 { Severity::Warning } else { Severity::Ok };
        let text = if bad > 0 {
            format!("{bad} kinds of trouble within the last quarter of an hour; all of it{window}:")
        } else {
            let n = hits.found.len();
            format!("no trouble with certificates lately; {n} kinds of lines about them{window}")
        };
        said(verdict, text).with(shown)
    })
}

pub(super) fn requests(f: &Facts) -> Step {
    about("requests", "What became of its signing requests?", &f.requests, |requests| {
        let own = f.node.as_ref().map(|n| format!("{USER}{n}"));
        let mut mine: Vec<&Request> = requests.iter().filter(|r| own.as_ref() == Some(&r.username)).collect();
        mine.sort_by_key(|r| r.created);
        let shown = mine.iter().rev().take(MOST).rev().map(|r| {
            let stage = match &r.stage {
                Stage::Pending => "pending".to_owned(),
                Stage::Approved => "approved, nothing issued".to_owned(),
                Stage::Denied { why } => format!("denied: {why}"),
                Stage::Failed { why } => format!("failed: {why}"),
                Stage::Issued { .. } => "issued".to_owned(),
            };
            let at = r.created.map(|t| format!("{t:.0} ")).unwrap_or_default();
            format!("{at}{} ({}): {stage}", r.name, r.signer)
        });
        let open = mine.iter().filter(|r| !matches!(r.stage, Stage::Issued { .. })).count();
        let verdict = if open > 0 { Severity::Warning } else { Severity::Ok };
        said(verdict, format!("{} of this node, {open} of them without a certificate", mine.len())).with(shown)
    })
}
