//! The playbooks of failing certificates, decided: what was seen ([`facts`]) becomes ordered steps, each with its evidence
//! and a verdict, and at most one root cause with its remedy. Pure; `verify::diagnose` gathers the facts.
//!
//! A wrong root cause is worse than none. A rule speaks only of what was seen; what could not be seen is told in its step;
//! where two things that were seen exclude each other, that is the answer.

mod cause;
mod clients;
pub mod facts;
mod identity;
pub mod klog;
mod layers;
mod named;
mod node;
mod remedy;
mod request;
mod server;
mod steps;
#[cfg(test)]
mod tests;
mod words;

use jiff::Timestamp;
use serde::Serialize;

pub use cause::Cause;
pub use clients::{Client, Clients, clients};
pub use layers::layers;
pub use named::named;
pub use remedy::Remedy;

use super::assess::Severity;
use facts::Facts;

pub const SCHEMA: &str = "certwarden.diagnosis/v1";

/// One step of a playbook.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    /// Stable: `clock`, `node`, `unit` and so on.
    pub id: &'static str,
    /// The question.
    pub title: &'static str,
    pub verdict: Severity,
    /// With whose eyes it was looked at; None where nobody could be asked.
    pub identity: Option<String>,
    /// The answer, in a sentence.
    pub text: String,
    pub evidence: Vec<String>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

/// What is at the bottom of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RootCause {
    pub id: Cause,
    pub severity: Severity,
    /// A sentence about this node.
    pub text: String,
    pub evidence: Vec<String>,
    pub remedy: Vec<Remedy>,
    /// Page of `certwarden runbook`.
    pub runbook: &'static str,
}

impl RootCause {
    fn new(id: Cause, severity: Severity, text: impl Into<String>) -> Self {
        Self { id, severity, text: text.into(), evidence: Vec::new(), remedy: Vec::new(), runbook: id.runbook() }
    }

    fn seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn mended(mut self, remedy: impl IntoIterator<Item = Remedy>) -> Self {
        self.remedy.extend(remedy);
        self
    }
}

/// A playbook, gone through.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Playbook {
    /// `kubelet`, `clients`, or the logical name of a certificate.
    pub subject: String,
    pub steps: Vec<Step>,
    pub root_cause: RootCause,
    /// What is wrong besides, and is no consequence of it.
    pub also: Vec<RootCause>,
}

impl Playbook {
    fn new(
        subject: &str,
        steps: Vec<Step>,
        mut found: Vec<RootCause>,
        sound: impl FnOnce(&[Step]) -> RootCause,
    ) -> Self {
        let root_cause = if found.is_empty() { sound(&steps) } else { found.remove(0) };
        // a rule of its own for each cause: none is told twice
        found.dedup_by_key(|c| c.id);
        found.retain(|c| c.id != root_cause.id);
        Self { subject: subject.to_owned(), steps, root_cause, also: found }
    }

    /// How bad it is, all in all: a certain cause counts, a doubtful one does not hide what else was found.
    pub fn severity(&self) -> Severity {
        let also = self.also.iter().map(|c| c.severity).filter(|s| *s != Severity::Unknown).max();
        self.root_cause.severity.max(also.unwrap_or(Severity::Ok))
    }
}

/// What `certwarden diagnose` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    pub schema: &'static str,
    pub at: Timestamp,
    pub node: Option<String>,
    pub playbooks: Vec<Playbook>,
}

impl Diagnosis {
    pub fn new(at: Timestamp, node: Option<String>, playbooks: Vec<Playbook>) -> Self {
        Self { schema: SCHEMA, at, node, playbooks }
    }

    /// Exit code (docs/architecture.md, "Command line"): 0 healthy, 1 warning, 2 critical, 3 cannot tell.
    pub fn exit_code(&self) -> u8 {
        // critical before "cannot tell", as in `check`
        self.playbooks.iter().map(Playbook::severity).max().unwrap_or(Severity::Unknown).exit_code()
    }
}

/// Tells what is at the bottom of it, if these facts are what it speaks of.
type Rule = fn(&Facts) -> Option<RootCause>;

/// What causes other things stands before them: the first that matches is the root.
const RULES: &[Rule] = &[
    node::nobody,
    node::clock,
    node::authority,
    node::contradiction,
    server::unreachable,
    server::down,
    server::untrusted,
    identity::kubeconfig,
    identity::broken,
    identity::expired,
    node::stopped,
    identity::refused,
    node::crashing,
    server::unwell,
    node::missing,
    request::denied,
    request::failed,
    request::rights,
    request::not_signed,
    request::pending,
    identity::no_room,
    identity::obstructed,
    identity::rotation,
    node::not_ready,
    node::serving,
    node::others,
    request::serving,
    node::held_back,
    node::due,
    node::unsynchronised,
];

/// The playbook of a kubelet whose certificate does not rotate, or whose node is not Ready.
pub fn kubelet(facts: &Facts) -> Playbook {
    let found = RULES.iter().filter_map(|rule| rule(facts)).collect();
    Playbook::new("kubelet", steps::all(facts), found, |steps| sound(facts, steps))
}

/// Nothing was found to be wrong: healthy, if enough could be seen to say so.
fn sound(facts: &Facts, steps: &[Step]) -> RootCause {
    // what must have been seen; the others tell more, but a node that is Ready by its own fresh word is well without them
    const NEEDED: [&str; 5] = ["files", "unit", "connection", "login", "node"];
    let blind: Vec<&Step> = steps.iter().filter(|s| NEEDED.contains(&s.id) && s.verdict == Severity::Unknown).collect();
    if blind.is_empty() {
        let text =
            "nothing is wrong: the kubelet's certificate is good, the API server takes it, and the node is Ready";
        return RootCause::new(Cause::Healthy, Severity::Ok, text);
    }
    let names: Vec<&str> = blind.iter().map(|s| s.id).collect();
    let text = format!("no cause was found with what could be seen; not seen: {}", names.join(", "));
    let unseen = blind.iter().flat_map(|s| s.unseen.iter().map(|why| format!("{}: {why}", s.id)));
    let remedy = if facts.live {
        Remedy::note("run it as root on the node, on a control plane where admin.conf may be used too")
    } else {
        Remedy::note("a mounted image runs no services: start the node, then `certwarden diagnose` there")
    };
    RootCause::new(Cause::CannotTell, Severity::Unknown, text).seen(unseen).mended([remedy])
}
