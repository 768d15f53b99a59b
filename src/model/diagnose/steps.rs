//! The ordered steps of the kubelet's playbook: what each one saw.

use super::Step;
use super::facts::{By, Certificate, Distrust, Facts, Login, Reach, Seen};
use super::node::{SERVING, ending, serials, told};
use crate::model::assess::Severity;
use crate::model::csr::{Request, Stage};
use crate::model::identity::USER;
use crate::model::repair::{CLIENT, CONFIG};
use crate::model::rotation::Rotation;

/// Events and log lines that are shown, the newest last.
const MOST: usize = 8;
/// A line that is older is about what is over: a kubelet that cannot log in says so every few seconds.
const LATELY: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// All of them, in the order in which a person would go.
pub(super) fn all(f: &Facts) -> Vec<Step> {
    vec![
        clock(f),
        node(f),
        unit(f),
        events(f),
        files(f),
        settings(f),
        journal(f),
        requests(f),
        authority(f),
        rights(f),
        connection(f),
        login(f),
        control_plane(f),
        sockets(f),
        change(f),
        keeper(f),
    ]
}

/// What a step answers.
pub(super) struct Said {
    verdict: Severity,
    text: String,
    evidence: Vec<String>,
}

pub(super) fn said(verdict: Severity, text: impl Into<String>) -> Said {
    Said { verdict, text: text.into(), evidence: Vec::new() }
}

impl Said {
    pub(super) fn with(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

fn step(id: &'static str, title: &'static str, by: Option<String>, said: Said) -> Step {
    Step {
        id,
        title,
        verdict: said.verdict,
        identity: by,
        text: said.text,
        evidence: said.evidence,
        unseen: Vec::new(),
    }
}

/// A step about something that may not have been seen.
pub(super) fn about<T>(id: &'static str, title: &'static str, seen: &Seen<T>, tell: impl FnOnce(&T) -> Said) -> Step {
    match seen {
        Seen::Known(value, _) => step(id, title, seen.by(), tell(value)),
        Seen::Unseen(why) => {
            let mut step = step(id, title, None, said(Severity::Unknown, "could not be seen"));
            step.unseen.push(why.clone());
            step
        }
    }
}

fn clock(f: &Facts) -> Step {
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

fn node(f: &Facts) -> Step {
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

fn unit(f: &Facts) -> Step {
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

fn events(f: &Facts) -> Step {
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

fn files(f: &Facts) -> Step {
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

fn settings(f: &Facts) -> Step {
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

fn journal(f: &Facts) -> Step {
    about("journal", "What does the kubelet say?", &f.journal, |hits| {
        let window = hits.since.map(|t| format!(" since {t:.0}")).unwrap_or_default();
        let good = |h: &&super::klog::Hit| h.signature == super::klog::Signature::Rotated;
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

fn requests(f: &Facts) -> Step {
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

fn authority(f: &Facts) -> Step {
    let cas: Vec<&Certificate> = f.certificates.iter().filter(|c| c.ca && !c.absent).collect();
    let worst = cas.iter().map(|c| c.severity).max().unwrap_or(Severity::Unknown);
    let key = if f.kubelet.identity.can_sign {
        "the cluster CA's key is on this node"
    } else {
        "the cluster CA's key is not on this node"
    };
    let findings = cas.iter().flat_map(|c| c.findings.iter().map(move |x| format!("{}: {}", c.name, x.message)));
    let text = match (cas.len(), worst) {
        (0, _) => "no CA was found on this node".to_owned(),
        (n, Severity::Ok) => format!("{n} CAs, all good"),
        (n, _) => format!("{n} CAs, not all well"),
    };
    let ends = cas.iter().map(|c| ending(c)).chain(findings).chain([key.to_owned()]);
    step("authority", "Are the CAs good?", Some(By::Root.to_string()), said(worst, text).with(ends))
}

fn rights(f: &Facts) -> Step {
    about("rights", "May this node ask, and is it approved?", &f.rights, |rights| {
        let word = |yes: Option<bool>| match yes {
            Some(true) => "allowed",
            Some(false) => "NOT allowed",
            None => "not told",
        };
        let evidence = [
            format!("create certificatesigningrequests: {}", word(rights.create)),
            format!(
                "have them approved by rule (certificatesigningrequests/selfnodeclient): {}",
                word(rights.approved)
            ),
        ];
        match (rights.create, rights.approved) {
            (Some(true), Some(true)) => said(Severity::Ok, "both"),
            (Some(false), _) => said(Severity::Critical, "it may not even ask"),
            (_, Some(false)) => said(Severity::Warning, "it may ask, and nobody approves by rule"),
            _ => said(Severity::Unknown, "the API does not say all of it"),
        }
        .with(evidence)
    })
}

fn connection(f: &Facts) -> Step {
    let url = f.server.url.as_deref().unwrap_or("no server is known");
    about("connection", "Can the API server be reached?", &f.server.reach, |reach| {
        let (verdict, text) = match reach {
            Reach::Answers => (Severity::Ok, "it answers, and its certificate is trusted".to_owned()),
            Reach::NoName { .. } => (Severity::Critical, "its name does not resolve".to_owned()),
            Reach::Refused { .. } => (Severity::Critical, "nobody listens there".to_owned()),
            Reach::Silent { .. } => (Severity::Critical, "nothing comes back".to_owned()),
            Reach::NoTls { .. } => (Severity::Critical, "whoever answers does not speak TLS".to_owned()),
            Reach::Untrusted { why, .. } => {
                let why = match why {
                    Distrust::Expired => "has expired",
                    Distrust::NotYetValid => "is not valid yet",
                    Distrust::Name => "is not for this name or address",
                    Distrust::Issuer => "is of a CA that kubelet.conf does not have",
                };
                (Severity::Critical, format!("its certificate {why}"))
            }
            Reach::Unwell { .. } => (Severity::Critical, "it answers with errors".to_owned()),
        };
        let detail = match reach {
            Reach::Answers => None,
            Reach::NoName { detail }
            | Reach::Refused { detail }
            | Reach::Silent { detail }
            | Reach::NoTls { detail }
            | Reach::Untrusted { detail, .. }
            | Reach::Unwell { detail } => Some(detail),
        };
        let leaf = f
            .server
            .leaf
            .as_ref()
            .map(|l| format!("shows {}, by {}, until {}, serial {}", l.subject, l.issuer, l.not_after, l.serial));
        let version = f.server.version.as_ref().map(|v| format!("version {v}"));
        said(verdict, format!("{url}: {text}")).with(detail.cloned().into_iter().chain(leaf).chain(version))
    })
}

fn login(f: &Facts) -> Step {
    about("login", "Who is this node for the API server?", &f.login, |login| match login {
        Login::As { user, groups } => {
            let own = f.node.as_ref().map(|n| format!("{USER}{n}"));
            let verdict = if own.as_ref() == Some(user) { Severity::Ok } else { Severity::Critical };
            said(verdict, user.clone()).with([format!("groups {}", groups.join(", "))])
        }
        Login::Accepted => said(Severity::Ok, "its certificate is accepted; this version does not say as whom"),
        Login::Refused { detail } => said(Severity::Critical, "its certificate is refused").with([detail.clone()]),
    })
}

fn control_plane(f: &Facts) -> Step {
    let asked = By::Root.to_string();
    if f.parts.is_empty() {
        return step(
            "control-plane",
            "Does this node's control plane run?",
            Some(asked),
            said(Severity::Ok, "none on this node"),
        );
    }
    let tell = |p: &super::facts::Part| {
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

fn sockets(f: &Facts) -> Step {
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
            .filter(|x| x.id == crate::model::finding::Problem::ProcessOlderThanCertificate)
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

fn change(f: &Facts) -> Step {
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

fn keeper(f: &Facts) -> Step {
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
