//! Root causes in the node as a whole: its clock, its CAs, its kubelet's unit, its Node object.

use jiff::SignedDuration;

use super::facts::{Certificate, Facts, Keeper, Login, Reach, Seen};
use super::klog::Signature;
use super::{Cause, Remedy, RootCause};
use crate::model::assess::Severity;
use crate::model::component::Component;
use crate::model::finding::Problem;
use crate::model::repair::{CLIENT, CONFIG};

/// Two clocks that differ by less disagree about no certificate that matters: the signer's notBefore is five minutes ago.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(4);
/// As the gate `clock` has it.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(60);
/// Logical name of the kubelet's serving credential.
pub(super) const SERVING: &str = "kubelet-serving";

pub(super) fn nobody(f: &Facts) -> Option<RootCause> {
    let found = f.kubelet.present || !f.certificates.is_empty();
    (!found).then(|| {
        let text = "neither a kubelet nor certificates of Kubernetes are on this machine";
        RootCause::new(Cause::NoNode, Severity::Unknown, text)
    })
}

/// A clock that is wrong makes all dates wrong. Three witnesses: the API server, what was seen before, and certificates
/// that begin in the future.
pub(super) fn clock(f: &Facts) -> Option<RootCause> {
    let mut evidence = Vec::new();
    if let Some(ahead) = f.clock.server_ahead.filter(|d| d.abs() > CLOCK_DIFFERENCE && !f.server.own) {
        evidence.push(format!("the API server's clock differs from this machine's by {}", told(ahead)));
    }
    if let Some(seen) = f.clock.last_seen.filter(|seen| seen.duration_since(f.at) > CLOCK_SLACK) {
        evidence.push(format!("this machine's clock shows {}, and has shown {seen:.0} before", short(f.at)));
    }
    let future: Vec<&str> =
        f.certificates.iter().filter(|c| c.has(Problem::NotYetValid)).map(|c| c.name.as_str()).collect();
    if !future.is_empty() {
        evidence.push(format!("in its eyes these begin in the future: {}", future.join(", ")));
    }
    // one certificate of the future may have been made by a wrong clock elsewhere
    let certain = evidence.len() > usize::from(!future.is_empty()) || future.len() > 1;
    certain.then(|| {
        let matters = !future.is_empty() || f.certificates.iter().any(Certificate::is_expired);
        let severity = if matters { Severity::Critical } else { Severity::Warning };
        RootCause::new(
            Cause::ClockWrong,
            severity,
            "the clock of this machine is wrong; until it is right, no date can be judged",
        )
        .seen(evidence)
        .mended([
            Remedy::run("timedatectl", "shows the clock and whether something synchronises it"),
            Remedy::run(
                "chronyc makestep",
                "steps it at once where chrony runs; else `systemctl restart systemd-timesyncd`",
            ),
            Remedy::run("certwarden diagnose", "again, with the right time"),
        ])
    })
}

pub(super) fn unsynchronised(f: &Facts) -> Option<RootCause> {
    (f.clock.must_be && f.clock.synchronised == Some(false)).then(|| {
        let text = "the clock is not synchronised: certwarden renews nothing before it is (gate `clock`)";
        RootCause::new(Cause::ClockUnsynchronised, Severity::Warning, text).mended([
            Remedy::run("timedatectl", "shows whether something synchronises it"),
            Remedy::note("where it is kept right by other means: gates.clock-synchronised = \"ignore\""),
        ])
    })
}

pub(super) fn authority(f: &Facts) -> Option<RootCause> {
    let expired: Vec<&Certificate> = f.certificates.iter().filter(|c| c.ca && c.is_expired()).collect();
    let names = names(&expired);
    (!expired.is_empty()).then(|| {
        RootCause::new(
            Cause::CaExpired,
            Severity::Critical,
            format!("{names} has expired: every certificate below it is invalid, and renewing leaves does not help"),
        )
        .seen(expired.iter().map(|c| ending(c)))
        .mended([
            Remedy::run("certwarden runbook ca", "what a CA rotation takes"),
            Remedy::note("make a new CA, distribute it beside the old one, then `certwarden renew --all` on each node"),
        ])
    })
}

/// Two things that exclude each other: whoever chooses one of them is wrong half of the time.
pub(super) fn contradiction(f: &Facts) -> Option<RootCause> {
    let client = f.client()?;
    let (mut one, mut other, mut remedy) = (String::new(), String::new(), Vec::new());
    let accepted = matches!(f.login, Seen::Known(Login::As { .. } | Login::Accepted, _));
    if client.is_expired() && accepted {
        one = format!("by this machine's clock ({}) the kubelet's client certificate has expired", short(f.at));
        "the API server has just accepted it".clone_into(&mut other);
        remedy
            .push(Remedy::run("timedatectl", "one of the two clocks is wrong: compare this one with the API server's"));
    } else if f.unit.known().is_some_and(|u| !u.runs() && !u.crashes()) && moved(f) {
        "this node's kubelet does not run".clone_into(&mut one);
        "its lease was renewed meanwhile".clone_into(&mut other);
        let who = "another kubelet reports under this name: a second machine, or one that was started by hand";
        remedy.push(Remedy::note(who));
        remedy.push(Remedy::run("ps -C kubelet -o pid,lstart,cmd", "whether one runs here outside of its unit"));
    }
    (!one.is_empty()).then(|| {
        let text = format!("what was seen contradicts itself: {one}, and {other}");
        RootCause::new(Cause::Contradiction, Severity::Unknown, text).seen([one, other]).mended(remedy)
    })
}

fn moved(f: &Facts) -> bool {
    matches!(f.object.known(), Some(Some(object)) if object.lease_moved)
}

/// Nothing starts it: stopped, masked, or not installed.
pub(super) fn stopped(f: &Facts) -> Option<RootCause> {
    let unit = f.unit.known()?;
    if unit.runs() || unit.crashes() || matches!(unit.active_state.as_str(), "activating" | "reloading") {
        return None;
    }
    let name = &unit.name;
    let (text, command) = match unit.load_state.as_str() {
        "masked" => (format!("{name} is masked: nothing may start it"), format!("systemctl unmask --now {name}")),
        "not-found" => (format!("{name} is not installed"), "dpkg -l kubelet || rpm -q kubelet".to_owned()),
        "loaded" => {
            (format!("{name} was stopped, or never started ({})", unit.active_state), format!("systemctl start {name}"))
        }
        other => (format!("{name} cannot be started: its unit is {other}"), format!("systemctl status {name}")),
    };
    let remedy = [
        Remedy::run(format!("journalctl -u {name} -n 50"), "who stopped it, and why"),
        Remedy::run(command, "once nobody wants it stopped"),
    ];
    let evidence = format!("{}, {}; result {}", unit.active_state, unit.sub_state, unit.result);
    Some(RootCause::new(Cause::KubeletStopped, Severity::Critical, text).seen([evidence]).mended(remedy))
}

/// It starts and dies, and its certificates and kubeconfig are well (rules before this one).
pub(super) fn crashing(f: &Facts) -> Option<RootCause> {
    let unit = f.unit.known()?;
    if !unit.crashes() || super::identity::is_broken(f) {
        return None;
    }
    let named = [Signature::BadConfig, Signature::SwapOn, Signature::NoRuntime, Signature::BadKubeconfig];
    let hit = named.iter().find_map(|s| f.journal.known()?.get(*s));
    let why = hit.map(|h| format!(": {}", h.signature.meaning())).unwrap_or_default();
    let text =
        format!("the kubelet dies as soon as it has started (exit code {}), and no certificate is why{why}", unit.exit);
    let words = unit.last_words.iter().rev().take(3).rev().map(|w| format!("it said: {w}"));
    let evidence = [format!("{} restarts; result {}", unit.restarts, unit.result)];
    Some(
        RootCause::new(Cause::KubeletCrashes, Severity::Critical, text)
            .seen(evidence.into_iter().chain(hit.map(|h| format!("it said: {}", h.line))).chain(words))
            .mended([
                Remedy::run(format!("journalctl -u {} -n 50 --no-pager", unit.name), "all of its last words"),
                Remedy::note(
                    "mend what they name: /var/lib/kubelet/config.yaml, its flags, swap, the container runtime",
                ),
            ]),
    )
}

pub(super) fn missing(f: &Facts) -> Option<RootCause> {
    let Seen::Known(None, by) = &f.object else { return None };
    let node = f.node.as_deref().unwrap_or("this node");
    // a kubelet that runs and may register does so at its start only
    Some(
        RootCause::new(
            Cause::NodeMissing,
            Severity::Critical,
            format!("the cluster has no Node {node}: somebody deleted it"),
        )
        .seen([format!("the API server answers 404 to {by}")])
        .mended([
            Remedy::restart_kubelet(&f.kubelet.unit),
            Remedy::note("it registers itself at its start; labels and taints that were set by hand are lost"),
            // what is admitted before there is a Node to compare it with (kubernetes: `pkg/kubelet/lifecycle/predicate.go:Admit`)
            Remedy::note("a static pod that it refuses meanwhile (`Failed to admit pod` in its log) comes back with one more restart"),
        ]),
    )
}

/// The kubelet reaches the API server with a good certificate, and the node is not Ready all the same.
pub(super) fn not_ready(f: &Facts) -> Option<RootCause> {
    let object = f.object.known()?.as_ref()?;
    if object.is_ready() || f.kubelet_runs() != Some(true) {
        return None;
    }
    let since = object.since.map(|t| format!(" since {t:.0}")).unwrap_or_default();
    if object.ready == "Unknown" || f.lease_is_fresh() == Some(false) {
        let text = format!("the kubelet runs, its certificate is accepted, and it does not report{since}");
        let said =
            f.journal.known().and_then(|j| j.get(Signature::NotReported)).map(|h| format!("it said: {}", h.line));
        return Some(
            RootCause::new(Cause::KubeletSilent, Severity::Critical, text)
                .seen([format!("Ready is {}: {}", object.ready, object.message)].into_iter().chain(said))
                .mended([
                    Remedy::run(format!("journalctl -u {} -n 50 --no-pager", f.kubelet.unit), "what keeps it busy"),
                    Remedy::restart_kubelet(&f.kubelet.unit),
                ]),
        );
    }
    let text = format!("the node is not Ready{since}, and no certificate is why: {}", object.reason);
    Some(RootCause::new(Cause::NotReadyOther, Severity::Critical, text).seen([object.message.clone()]).mended([
        Remedy::run(format!("journalctl -u {} -n 50 --no-pager", f.kubelet.unit), "what the kubelet says of it"),
        Remedy::note("the container runtime and the network plugin are the usual ones: see what the message names"),
    ]))
}

/// What the kubelet serves with: logs, exec and metrics need it, Ready does not.
pub(super) fn serving(f: &Facts) -> Option<RootCause> {
    let old = f.sockets.iter().find(|s| s.served.as_ref().is_some_and(|serial| *serial != s.on_disk));
    if let Some(socket) = old.filter(|s| s.component == Component::Kubelet) {
        let text = format!(
            "the kubelet serves another certificate on {} than lies in its file: it has not taken the new one",
            socket.address
        );
        return Some(
            RootCause::new(Cause::ServesOld, Severity::Warning, text)
                .seen([serials(socket)])
                .mended([Remedy::restart_kubelet(&f.kubelet.unit)]),
        );
    }
    let serving = f.certificate(SERVING).filter(|c| c.is_expired())?;
    let text =
        "the kubelet's serving certificate has expired: logs, exec, attach and metrics fail, the node stays Ready";
    Some(RootCause::new(Cause::ServingExpired, Severity::Critical, text).seen([ending(serving)]).mended(
        if f.kubelet.server_tls_bootstrap {
            vec![
                Remedy::run(
                    "kubectl get csr --field-selector spec.signerName=kubernetes.io/kubelet-serving",
                    "on a control plane: requests that wait",
                ),
                Remedy::run(
                    "kubectl certificate approve NAME",
                    "on a control plane: the one of this node, once you have looked at it",
                ),
            ]
        } else {
            vec![
                Remedy::run(format!("mv {} {}.old", serving.path, serving.path), "nobody renews a self-signed one"),
                Remedy::restart_kubelet(&f.kubelet.unit),
                Remedy::note("the kubelet makes a new pair at its start when there is none"),
            ]
        },
    ))
}

pub(super) fn serials(socket: &super::facts::Socket) -> String {
    let served = socket.served.as_deref().unwrap_or("nothing");
    format!("{} serves serial {served}; {} on the disk has {}", socket.address, socket.entry, socket.on_disk)
}

/// What else is critical among this node's certificates.
pub(super) fn others(f: &Facts) -> Option<RootCause> {
    // told by rules of their own, or a consequence of what they tell
    if authority(f).is_some() {
        return None;
    }
    let dark = !matches!(f.server.reach.known(), Some(Reach::Answers) | None);
    let told = |c: &Certificate| {
        let behind = [Component::Etcd, Component::KubeApiserver].iter().any(|part| c.used_by.contains(part));
        matches!(c.name.as_str(), CLIENT | CONFIG | SERVING) || (dark && f.server.own && behind)
    };
    let told = |c: &&Certificate| !c.absent && !told(c);
    let bad: Vec<&Certificate> =
        f.certificates.iter().filter(told).filter(|c| c.severity == Severity::Critical && !only_late(c)).collect();
    if bad.is_empty() {
        return None;
    }
    let text = format!("{} of this node's certificates are not well: {}", bad.len(), names(&bad));
    let renewable: Vec<&str> =
        bad.iter().filter(|c| c.due && f.left_out(&c.name).is_none()).map(|c| c.name.as_str()).collect();
    let remedy = if renewable.is_empty() {
        vec![Remedy::run(format!("certwarden diagnose {}", bad.first().map_or("", |c| &c.name)), "what to do about it")]
    } else {
        Remedy::renew(&renewable)
    };
    let evidence = bad.iter().flat_map(|c| c.findings.iter().map(move |x| format!("{}: {}", c.name, x.message)));
    Some(RootCause::new(Cause::CertificateBad, Severity::Critical, text).seen(evidence).mended(remedy))
}

/// Nothing is wrong with it but that its end is near.
fn only_late(c: &Certificate) -> bool {
    !c.is_expired() && c.findings.iter().all(|f| matches!(f.id, Problem::Expiring | Problem::CaExpiresFirst))
}

pub(super) fn held_back(f: &Facts) -> Option<RootCause> {
    let Keeper { observe_only, back_off_until, last, .. } = &f.keeper;
    let (severity, text, remedy) = match (observe_only, back_off_until.filter(|t| *t > f.at)) {
        (Some(why), _) => (
            Severity::Critical,
            format!("a rollback failed ({why}): certwarden changes nothing until somebody has looked"),
            Remedy::run("certwarden recover", "once the cause is gone"),
        ),
        (None, Some(until)) => (
            Severity::Warning,
            format!("the last renewal was rolled back: certwarden waits until {until:.0}"),
            Remedy::run("certwarden renew", "once the cause is gone: by hand it does not wait"),
        ),
        (None, None) => return None,
    };
    Some(
        RootCause::new(Cause::HeldBack, severity, text)
            .seen(last.clone())
            .mended([Remedy::run("certwarden history", "what failed, transaction by transaction"), remedy]),
    )
}

pub(super) fn due(f: &Facts) -> Option<RootCause> {
    // what is wrong besides is told by another rule, and its remedy renews it
    let only = |c: &&Certificate| c.due && (only_late(c) || c.findings.is_empty());
    let due: Vec<&Certificate> = f.certificates.iter().filter(only).collect();
    let worst = due.iter().map(|c| c.severity).max()?;
    let text = format!("due and not renewed yet: {}", names(&due));
    let all: Vec<&str> = due.iter().map(|c| c.name.as_str()).collect();
    let gates = f.keeper.gates.iter().map(|g| format!("in the way: gate {g}"));
    Some(
        RootCause::new(Cause::CertificateDue, worst.max(Severity::Warning), text)
            .seen(due.iter().map(|c| ending(c)).chain(gates))
            .mended(Remedy::renew(&all)),
    )
}

pub(super) fn names(list: &[&Certificate]) -> String {
    list.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// When it ends or ended, and which it is.
pub(super) fn ending(c: &Certificate) -> String {
    match &c.leaf {
        Some(leaf) => format!("{} ({}): not after {}, serial {}", c.name, c.path, leaf.not_after, leaf.serial),
        None => format!("{} ({})", c.name, c.path),
    }
}

pub(super) fn short(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

/// A difference in the largest unit that tells it.
pub(super) fn told(d: SignedDuration) -> String {
    let s = d.abs().as_secs();
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}
