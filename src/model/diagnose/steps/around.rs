//! What is around the kubelet: the clock, the control plane on this node, what has changed, and certwarden itself.

use super::{MOST, said, step};
use crate::model::assess::Severity;
use crate::model::diagnose::Step;
use crate::model::diagnose::facts::{By, Facts, Part};
use crate::model::diagnose::words::{serials, told};
use crate::model::finding::Problem;

pub(super) fn clock(f: &Facts) -> Step {
    let ahead = f.clock.server_ahead.map(|d| {
        let which = if d.is_negative() { "behind" } else { "ahead of" };
        format!("the API server's clock is {} {which} this one", told(d))
    });
    let behind = f.clock.last_seen.filter(|t| *t > f.at).map(|t| format!("it has shown {t:.0} before"));
    let said = match f.clock.synchronised {
        _ if behind.is_some() => said(Severity::Critical, format!("{:.0}, which has passed already", f.at)),
        Some(true) => said(Severity::Ok, format!("{:.0}, synchronised", f.at)),
        Some(false) if f.clock.must_be => said(Severity::Warning, format!("{:.0}, not synchronised", f.at)),
        Some(false) => said(Severity::Ok, format!("{:.0}; not synchronised, which the settings allow", f.at)),
        None => said(Severity::Ok, format!("{:.0}; nobody says whether it is synchronised", f.at)),
    };
    step("clock", "Is the clock right?", Some(By::Root.to_string()), said.with(ahead.into_iter().chain(behind)))
}

pub(super) fn control_plane(f: &Facts) -> Step {
    let asked = By::Root.to_string();
    if f.parts.is_empty() {
        return step(
            "control-plane",
            "Does this node's control plane run?",
            Some(asked),
            said(Severity::Ok, "none on this node"),
        );
    }
    let tell = |p: &Part| {
        let words = p
            .last_words
            .last()
            .filter(|_| p.running == Some(false))
            .map(|w| format!("; it said: {w}"))
            .unwrap_or_default();
        format!("{}: {}{words}", p.component, p.detail)
    };
    let down = f.parts.iter().filter(|p| p.running == Some(false) || p.healthy == Some(false)).count();
    let blind = f.parts.iter().filter(|p| p.running.is_none() && p.healthy.is_none()).count();
    let (verdict, text) = match (down, blind) {
        (0, 0) => (Severity::Ok, format!("{} components, all healthy", f.parts.len())),
        (0, n) => (Severity::Unknown, format!("{n} of {} components could not be asked", f.parts.len())),
        (n, _) => (Severity::Critical, format!("{n} of {} components are not healthy", f.parts.len())),
    };
    step(
        "control-plane",
        "Does this node's control plane run?",
        Some(asked),
        said(verdict, text).with(f.parts.iter().map(tell)),
    )
}

pub(super) fn sockets(f: &Facts) -> Step {
    let title = "Does what runs serve what lies on the disk?";
    let old: Vec<_> = f.sockets.iter().filter(|s| s.served.as_ref().is_some_and(|x| *x != s.on_disk)).collect();
    let silent: Vec<String> = f
        .sockets
        .iter()
        .filter(|s| s.served.is_none())
        .map(|s| format!("{} ({}) does not answer", s.address, s.component))
        .collect();
    let unread = f.certificates.iter().flat_map(|c| {
        c.findings
            .iter()
            .filter(|x| x.id == Problem::ProcessOlderThanCertificate)
            .map(move |x| format!("{}: {}", c.name, x.message))
    });
    let said = match (f.sockets.len(), old.len(), silent.len()) {
        (0, ..) => said(Severity::Ok, "nothing here serves a certificate from a file"),
        (n, 0, m) if n == m => said(Severity::Unknown, "no socket answers"),
        (n, 0, m) => said(Severity::Ok, format!("{} of {n} sockets serve their file", n - m)),
        (n, k, _) => said(Severity::Warning, format!("{k} of {n} sockets serve another certificate")),
    };
    let mut step =
        step("sockets", title, Some(By::Nobody.to_string()), said.with(old.into_iter().map(serials).chain(unread)));
    step.unseen = silent;
    step
}

pub(super) fn change(f: &Facts) -> Step {
    let mut sorted: Vec<_> = f.changes.iter().collect();
    sorted.sort_by_key(|c| c.at);
    let shown = sorted.iter().rev().take(MOST).rev().map(|c| format!("{:.0} {}", c.at, c.what));
    let replaced = f
        .kubelet
        .replaced
        .then(|| "the kubelet that runs is not the one on the disk: a restart would be an upgrade".to_owned());
    let rotated = (f.kubelet.trusts_ca_on_disk == Some(false))
        .then(|| "kubelet.conf does not trust the CA in ca.crt: the CA was replaced in one of them".to_owned());
    let versions = f.object.known().and_then(|o| o.as_ref()).zip(f.server.version.as_ref());
    let skew = versions
        .map(|(o, v)| format!("kubelet {}, API server {v}", o.kubelet_version))
        .filter(|_| f.object.known().is_some());
    let verdict = if replaced.is_some() || rotated.is_some() { Severity::Warning } else { Severity::Ok };
    let text = if sorted.is_empty() {
        "nothing in the last week".to_owned()
    } else {
        format!("{} changes in the last week", sorted.len())
    };
    let mut step = step(
        "change",
        "What has changed?",
        Some(By::Root.to_string()),
        said(verdict, text).with(shown.chain(replaced).chain(rotated).chain(skew)),
    );
    step.unseen.push("changes of RBAC leave no trace on the node; `rights` shows what they have led to".to_owned());
    step
}

pub(super) fn keeper(f: &Facts) -> Step {
    let k = &f.keeper;
    let (verdict, text) = match (&k.observe_only, k.back_off_until.filter(|t| *t > f.at)) {
        (Some(why), _) => (Severity::Critical, format!("only observes, because a rollback failed: {why}")),
        (None, Some(until)) => (Severity::Warning, format!("waits until {until:.0} after a rollback")),
        (None, None) => (Severity::Ok, "would renew what is due".to_owned()),
    };
    let gates = k.gates.iter().map(|g| format!("gate {g}"));
    let left_out = k.left_out.iter().map(|s| format!("left out: {}: {}", s.name, s.reason));
    let text = if verdict == Severity::Ok && !k.left_out.is_empty() {
        "would renew what is due, but not all of it".to_owned()
    } else {
        text
    };
    let free = k.gates.is_empty() && k.left_out.is_empty();
    let verdict = if free { verdict } else { verdict.max(Severity::Warning) };
    step(
        "certwarden",
        "What does certwarden itself say?",
        Some(By::Root.to_string()),
        said(verdict, text).with(k.last.clone().into_iter().chain(gates).chain(left_out)),
    )
}
