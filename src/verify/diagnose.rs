//! Gathers what a diagnosis is decided by (`model::diagnose::facts`). Changes nothing: it reads files and sockets, and of
//! the API it asks questions; (Self)SubjectAccessReviews are the only things it posts. Each question has its own time limit,
//! and what is not answered is a value with a reason.

mod clients;
mod cluster;
mod local;
mod server;

pub use clients::clients;

use crate::host::Host;
use crate::host::kube::Connection;
use crate::model::assess::Assessment;
use crate::model::diagnose::facts::{Certificate, Facts, Keeper, Seen};
use crate::model::identity::USER;
use crate::model::inventory::{Content, Inventory};
use crate::model::planner;
use crate::model::policy::{Policy, Requirement};

use super::api;

/// What is looked at, and with what.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub host: &'a Host,
    pub inventory: &'a Inventory,
    pub assessment: &'a Assessment,
    pub policy: &'a Policy,
    /// Told what is being looked at.
    pub progress: &'a dyn Fn(&str),
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look<'_> {
    /// A connection with the kubelet's credential, and one with the administrator's where that is on this node.
    fn kubelets(&self) -> Option<Connection> {
        api::kubelets(self.host, self.inventory)
    }

    fn administrators(&self) -> Option<Connection> {
        api::administrators(self.host, self.inventory)
    }

    /// The reason for everything that is only to be had on a running node.
    fn unseen<T>(&self) -> Option<Seen<T>> {
        (!self.host.live).then(|| Seen::Unseen("nothing runs on a mounted image".to_owned()))
    }
}

/// Everything that the kubelet's playbook needs.
pub fn facts(look: Look<'_>, keeper: Keeper, last_seen: Option<jiff::Timestamp>) -> Facts {
    let Look { host, inventory, policy, progress, .. } = look;
    progress("reading files");
    let (server, reached) = server::server(look);
    let to = if reached { look.kubelets() } else { None };
    let login = cluster::login(look, to.as_ref(), &server);
    let asked = cluster::Asked::new(look, &server);
    let mut clock = local::clock(look, policy.gates.clock_synchronised == Requirement::Require, last_seen);
    clock.server_ahead = asked.ahead(look);
    let unit = local::unit(look);
    let object = asked.object(look, &unit);
    Facts {
        at: host.clock.now(),
        node: inventory.node.name.clone(),
        role: inventory.node.role,
        live: host.live,
        clock,
        object,
        unit,
        events: asked.events(look),
        certificates: certificates(look),
        kubelet: local::kubelet(look),
        journal: local::journal(look),
        requests: asked.requests(look),
        rights: asked.rights(look),
        server,
        login,
        parts: local::parts(look),
        sockets: local::sockets(look),
        changes: local::changes(look),
        keeper,
    }
}

/// Every entry, judged, and what is in memory only.
pub fn certificates(look: Look<'_>) -> Vec<Certificate> {
    let entries = look.inventory.entries.iter().zip(&look.assessment.entries);
    let files = entries.map(|(entry, judged)| Certificate {
        name: entry.name.clone(),
        path: entry.path().display().to_string(),
        ca: entry.is_ca(),
        owner: entry.owner,
        used_by: entry.used_by.clone(),
        impact: entry.impact.clone(),
        severity: judged.severity,
        findings: judged.findings.clone(),
        leaf: entry.leaf().cloned(),
        absent: matches!(entry.content, Content::Absent),
        due: judged.due,
        not_here: planner::not_here(look.inventory, entry),
        remake: planner::remake(look.inventory, entry),
    });
    files.collect()
}

/// The name that the API server must have for this node.
fn user(look: Look<'_>) -> Option<String> {
    look.inventory.node.name.as_ref().map(|n| format!("{USER}{n}"))
}
