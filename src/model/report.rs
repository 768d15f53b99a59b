//! The report: what a transaction did and what it proved.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::component::Component;
use super::gate::Refusal;
use super::plan::{Skipped, Socket};

pub const SCHEMA: &str = "certwarden.report/v1";

/// The end of a `renew`, `rollback` or `recover`. Written to the transaction as `report.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    pub schema: String,
    /// None when no transaction was opened.
    pub transaction: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub outcome: Outcome,
    /// One sentence.
    pub reason: String,
    pub refusals: Vec<Refusal>,
    pub renewed: Vec<Renewed>,
    pub sockets: Vec<SocketSeen>,
    pub credentials: Vec<CredentialSeen>,
    pub restarted: Vec<Restarted>,
    pub node: Option<NodeSeen>,
    /// The pods of this node; None where the kubelet was not restarted or the runtime did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsSeen>,
    /// What is due or broken and was not renewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Skipped>,
    /// What could not be proven, what was noticed: sentences.
    pub notes: Vec<String>,
    /// What the steps took, in their order. Steps of one kind are one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub took: Vec<Took>,
    /// It is as the last report of this transaction says: nothing is reported again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// The transactions before this one, if what was asked for took several; the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Report>,
}

impl Report {
    /// What could not be proven after the commit because nobody answered; empty if everything was.
    pub fn unproven(&self) -> Vec<&str> {
        let silent = |c: &&CredentialSeen| c.when == When::Verification && c.proven.is_none();
        let mut names: Vec<&str> = self.credentials.iter().filter(silent).map(|c| c.name.as_str()).collect();
        for socket in self.sockets.iter().filter(|s| s.serial.is_none()) {
            // once for all its names
            if !names.contains(&socket.address.as_str()) {
                names.push(&socket.address);
            }
        }
        if self.node.as_ref().is_some_and(|n| n.ready_after.is_none()) {
            names.push("the node's readiness");
        }
        names
    }

    pub fn new(outcome: Outcome, reason: impl Into<String>, at: Timestamp) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            transaction: None,
            started_at: at,
            ended_at: at,
            outcome,
            reason: reason.into(),
            refusals: Vec::new(),
            renewed: Vec::new(),
            sockets: Vec::new(),
            credentials: Vec::new(),
            restarted: Vec::new(),
            node: None,
            pods: None,
            left_out: Vec::new(),
            notes: Vec::new(),
            took: Vec::new(),
            repeated: false,
            earlier: Vec::new(),
        }
    }

    /// Adds to what the steps of this kind took.
    pub fn spent(&mut self, step: String, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self.took.iter_mut().find(|t| t.step == step) {
            Some(known) => known.milliseconds = known.milliseconds.saturating_add(milliseconds),
            None => self.took.push(Took { step, milliseconds }),
        }
    }

    /// This report as the last of several.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
        self.earlier.insert(0, earlier);
        self
    }

    /// All transactions, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        self.earlier.iter().chain(std::iter::once(self))
    }

    /// Exit code of renew, rollback, recover (docs/architecture.md, "Command line"): the gravest of all
    /// transactions. What is due and was left out is never 0.
    pub fn exit_code(&self) -> u8 {
        let left_out = |r: &Self| if r.left_out.is_empty() { 0 } else { Outcome::LeftOut.exit_code() };
        self.all().map(|r| r.outcome.exit_code().max(left_out(r))).max().unwrap_or_default()
    }

    /// Logical names of what is new and stays so, in all transactions.
    pub fn in_place(&self) -> Vec<String> {
        self.lives().into_iter().map(|(name, _)| name).collect()
    }

    /// The same, each with the life that it was given.
    pub fn lives(&self) -> Vec<(String, SignedDuration)> {
        let stay = |r: &&Self| matches!(r.outcome, Outcome::Verified | Outcome::Committed | Outcome::Degraded);
        let life = |r: &Renewed| (r.name.clone(), r.not_after.duration_since(self.ended_at));
        self.all().filter(stay).flat_map(|r| &r.renewed).map(life).collect()
    }
}

/// The pods of a node before and after a restart of its kubelet.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PodsSeen {
    /// How many ran.
    pub before: usize,
    pub after: usize,
    /// Those that ran before and not after, as `namespace/name`.
    pub gone: Vec<String>,
}

/// How long the steps of one kind took.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Took {
    /// `stage`, `rehearse`, `activate kube-scheduler`, …
    pub step: String,
    pub milliseconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    NothingToDo,
    /// Something is due or broken, and nothing of it can be renewed here: nothing was begun.
    LeftOut,
    /// Staged, validated and rehearsed; nothing live touched, nothing left.
    DryRun,
    /// A gate was closed or staging failed: nothing live touched.
    Refused,
    /// New files in place and proven by use.
    Verified,
    /// New files in place under `--root`: there is nothing to restart or to ask.
    Committed,
    /// New files in place, but not all could be proven, and the old ones had expired.
    Degraded,
    /// It is not at its end, and is gone on with: at the next start (a shutdown in mid-transaction), or when what hindered it
    /// has passed (a disk that fails, a mount that is not there yet).
    Interrupted,
    RolledBack,
    RollbackFailed,
}

impl Outcome {
    pub const ALL: [Self; 10] = [
        Self::NothingToDo,
        Self::LeftOut,
        Self::DryRun,
        Self::Refused,
        Self::Verified,
        Self::Committed,
        Self::Degraded,
        Self::Interrupted,
        Self::RolledBack,
        Self::RollbackFailed,
    ];

    /// Exit code of renew, rollback, recover (docs/architecture.md, "Command line").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NothingToDo | Self::DryRun | Self::Verified | Self::Committed => 0,
            Self::Refused | Self::LeftOut => 1,
            Self::RolledBack | Self::Degraded | Self::Interrupted => 2,
            Self::RollbackFailed => 3,
        }
    }

    pub fn id(self) -> &'static str {
        match self {
            Self::NothingToDo => "nothing-to-do",
            Self::LeftOut => "left-out",
            Self::DryRun => "dry-run",
            Self::Refused => "refused",
            Self::Verified => "verified",
            Self::Committed => "committed",
            Self::Degraded => "degraded",
            Self::Interrupted => "interrupted",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailed => "rollback-failed",
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Renewed {
    pub name: String,
    pub path: PathBuf,
    pub old_serial: Option<String>,
    pub new_serial: String,
    pub not_after: Timestamp,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SocketSeen {
    pub component: Component,
    pub address: String,
    /// The host name that was asked for by TLS (SNI), if not that of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Logical name of the entry it should serve.
    pub entry: String,
    /// None: no answer.
    pub serial: Option<String>,
    pub expected: String,
    pub ok: bool,
}

impl SocketSeen {
    pub fn is_of(&self, socket: &Socket) -> bool {
        (&self.address, &self.name) == (&socket.address, &socket.name)
    }

    /// As [`Socket`] in words.
    pub fn place(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.clone(), |name| format!("{} ({name})", self.address))
    }
}

/// Who was restarted: a component, or a container of another static pod (`namespace/pod/container`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Consumer {
    Component(Component),
    Other(String),
}

impl std::fmt::Display for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Component(component) => component.fmt(f),
            Self::Other(name) => f.pad(name),
        }
    }
}

impl From<Component> for Consumer {
    fn from(component: Component) -> Self {
        Self::Component(component)
    }
}

/// A credential put to use, before the commit (rehearsal) or after it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CredentialSeen {
    pub name: String,
    pub when: When,
    pub against: String,
    /// None: could not be told (no answer), which is not a failure.
    pub proven: Option<bool>,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Rehearsal,
    Verification,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Restarted {
    pub component: Consumer,
    /// Container id or systemd invocation id.
    pub old_id: Option<String>,
    pub new_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NodeSeen {
    /// None: the API could not be asked.
    pub ready_before: Option<bool>,
    pub ready_after: Option<bool>,
    pub detail: String,
}
