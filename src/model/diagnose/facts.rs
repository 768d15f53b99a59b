//! What is known of a node, as values: what was seen, with whose eyes, and why the rest was not.

use jiff::{SignedDuration, Timestamp};

use super::klog::Hits;
use crate::model::assess::Severity;
use crate::model::cert::CertFacts;
use crate::model::component::Component;
use crate::model::csr::Request;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::on_disk::OnDisk;
use crate::model::inventory::{Owner, Role};
use crate::model::plan::Skipped;
use crate::model::planner::Remake;
use crate::model::repair::{CLIENT, CONFIG, Choice};

/// With whose eyes something was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum By {
    /// Files, processes, systemd, the journal.
    Root,
    /// A connection without a credential.
    Nobody,
    /// The kubelet's own credential.
    Node,
    /// A kubeconfig of an administrator.
    Admin,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "root on this node",
            Self::Nobody => "no credential",
            Self::Node => "the kubelet's credential",
            Self::Admin => "admin.conf",
        })
    }
}

/// An answer, or why there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen<T> {
    Known(T, By),
    Unseen(String),
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self::Unseen("it was not looked at".to_owned())
    }
}

impl<T> Seen<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value, _) => Some(value),
            Self::Unseen(_) => None,
        }
    }

    pub fn why_not(&self) -> Option<&str> {
        match self {
            Self::Known(..) => None,
            Self::Unseen(why) => Some(why),
        }
    }

    pub(super) fn by(&self) -> Option<String> {
        match self {
            Self::Known(_, by) => Some(by.to_string()),
            Self::Unseen(_) => None,
        }
    }
}

/// Everything that the kubelet's playbook is decided by.
#[derive(Clone, Debug)]
pub struct Facts {
    pub at: Timestamp,
    pub node: Option<String>,
    pub role: Role,
    /// The running system, and not a mounted image.
    pub live: bool,
    pub clock: Clock,
    /// None: the API says that there is no such Node.
    pub object: Seen<Option<Object>>,
    pub unit: Seen<Unit>,
    pub events: Seen<Vec<NodeEvent>>,
    /// Everything in the inventory, in its order, and what is in memory only.
    pub certificates: Vec<Certificate>,
    pub kubelet: Kubelet,
    pub journal: Seen<Hits>,
    pub requests: Seen<Vec<Request>>,
    pub rights: Seen<Rights>,
    pub server: Server,
    pub login: Seen<Login>,
    pub parts: Vec<Part>,
    pub sockets: Vec<Socket>,
    pub changes: Vec<Change>,
    pub keeper: Keeper,
}

/// Of this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clock {
    /// None: nobody says.
    pub synchronised: Option<bool>,
    /// The policy wants it so.
    pub must_be: bool,
    /// The latest time that is known to have passed.
    pub last_seen: Option<Timestamp>,
    /// How far the API server's clock is ahead of ours.
    pub server_ahead: Option<SignedDuration>,
}

/// The Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object {
    /// Status of Ready: `True`, `False`, `Unknown`; empty where it has no such condition yet.
    pub ready: String,
    pub reason: String,
    pub message: String,
    /// Since when Ready is what it is.
    pub since: Option<Timestamp>,
    pub lease: Option<Timestamp>,
    /// It was renewed while the kubelet was seen not to run.
    pub lease_moved: bool,
    pub kubelet_version: String,
    pub unschedulable: bool,
}

impl Object {
    pub fn is_ready(&self) -> bool {
        self.ready == "True"
    }
}

/// The kubelet's unit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unit {
    pub name: String,
    pub load_state: String,
    pub active_state: String,
    pub sub_state: String,
    pub result: String,
    pub restarts: u32,
    pub exit: i32,
    /// What the kubelet said last.
    pub last_words: Vec<String>,
}

impl Unit {
    pub fn runs(&self) -> bool {
        self.active_state == "active" && self.sub_state == "running"
    }

    /// It starts and dies.
    pub fn crashes(&self) -> bool {
        self.sub_state == "auto-restart" || self.active_state == "failed"
    }
}

/// An event of the Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeEvent {
    pub at: Option<Timestamp>,
    pub warning: bool,
    pub reason: String,
    pub note: String,
    pub count: u32,
}

/// An entry of the inventory, judged.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub name: String,
    pub path: String,
    pub ca: bool,
    pub owner: Owner,
    pub used_by: Vec<Component>,
    pub impact: String,
    pub severity: Severity,
    pub findings: Vec<Finding>,
    pub leaf: Option<CertFacts>,
    /// It is not there, and need not be.
    pub absent: bool,
    pub due: bool,
    /// Why certwarden cannot renew it here, and what is needed.
    pub not_here: Option<String>,
    /// What makes it again, where there is too little of it to be renewed.
    pub remake: Option<Remake>,
}

impl Certificate {
    pub fn has(&self, problem: Problem) -> bool {
        self.findings.iter().any(|f| f.id == problem)
    }

    pub fn is_expired(&self) -> bool {
        self.has(Problem::Expired)
    }
}

/// The kubelet as it is configured, and how its identity lies there.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "what was seen, each by itself")]
pub struct Kubelet {
    pub unit: String,
    pub present: bool,
    pub rotates: bool,
    pub server_tls_bootstrap: bool,
    pub identity: OnDisk,
    pub choice: Choice,
    /// Certificates in kubelet.conf as authorities that are none of those in the cluster's ca.crt here, and so on: None
    /// where either cannot be read.
    pub trusts_ca_on_disk: Option<bool>,
    /// Free bytes where it keeps its certificates; None: cannot be told.
    pub free: Option<u64>,
    pub read_only: bool,
    /// Its program was replaced since it began.
    pub replaced: bool,
}

/// What the API says this node may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// File certificate signing requests.
    pub create: Option<bool>,
    /// Have its requests approved by the controller manager: what that asks before it approves.
    pub approved: Option<bool>,
}

/// The API server that kubelet.conf names.
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub url: Option<String>,
    /// It is the one on this node.
    pub own: bool,
    pub reach: Seen<Reach>,
    /// The certificate that it shows.
    pub leaf: Option<CertFacts>,
    /// CA on this disk has signed that.
    pub of_ca_on_disk: Option<bool>,
    pub version: Option<String>,
}

/// How far one comes towards the API server without a credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    NoName {
        detail: String,
    },
    /// Somebody answers: no.
    Refused {
        detail: String,
    },
    /// Nobody answers.
    Silent {
        detail: String,
    },
    NoTls {
        detail: String,
    },
    Untrusted {
        why: Distrust,
        detail: String,
    },
    /// It answers with errors.
    Unwell {
        detail: String,
    },
    Answers,
}

/// Why its certificate is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Distrust {
    Expired,
    NotYetValid,
    Name,
    Issuer,
}

/// What the API server makes of the kubelet's credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Login {
    As {
        user: String,
        groups: Vec<String>,
    },
    /// It does not say who.
    Accepted,
    Refused {
        detail: String,
    },
}

/// A component of this node's control plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    pub component: Component,
    /// None: the runtime cannot be asked.
    pub running: Option<bool>,
    /// None: not asked.
    pub healthy: Option<bool>,
    pub detail: String,
    pub last_words: Vec<String>,
}

/// What a socket of this node serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Socket {
    pub component: Component,
    pub address: String,
    /// Logical name of what it must serve.
    pub entry: String,
    pub on_disk: String,
    /// None: no answer.
    pub served: Option<String>,
}

/// Something that is not as it was before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    pub at: Timestamp,
    pub what: String,
}

/// certwarden itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keeper {
    /// A rollback failed: why.
    pub observe_only: Option<String>,
    pub back_off_until: Option<Timestamp>,
    /// Outcome and reason of the last transaction.
    pub last: Option<String>,
    /// Closed gates, were it to renew now.
    pub gates: Vec<String>,
    /// What is due or broken and would not be renewed.
    pub left_out: Vec<Skipped>,
}

impl Facts {
    /// Why certwarden would not renew it now, though it is due or broken.
    pub fn left_out(&self, name: &str) -> Option<&Skipped> {
        self.keeper.left_out.iter().find(|s| s.name == name)
    }

    pub fn certificate(&self, name: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|c| c.name == name)
    }

    /// The kubelet's client credential.
    pub fn client(&self) -> Option<&Certificate> {
        self.certificate(CLIENT)
    }

    /// What is wrong with kubelet.conf, where it is told by itself.
    pub fn kubeconfig(&self) -> Option<&Certificate> {
        self.certificate(CONFIG)
    }

    pub fn part(&self, component: Component) -> Option<&Part> {
        self.parts.iter().find(|p| p.component == component)
    }

    pub(super) fn kubelet_runs(&self) -> Option<bool> {
        self.unit.known().map(Unit::runs)
    }

    /// The node was heard of within the time after which the controller manager gives it up (kubernetes:
    /// `--node-monitor-grace-period`, 40 s, 50 s since 1.32).
    pub(super) fn lease_is_fresh(&self) -> Option<bool> {
        let lease = self.object.known()?.as_ref()?.lease?;
        Some(self.at.duration_since(lease) < SignedDuration::from_secs(50))
    }
}
