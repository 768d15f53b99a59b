//! The snapshot. World-readable: names, times and reasons, never keys, never the contents of files.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::fleet::notes::Pause;
use crate::model::machine::Standing;
use crate::model::policy::Mode;
use crate::txn::state::LastTransaction;

pub const SCHEMA: &str = "certwarden.status/v1";

/// The daemon at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    pub schema: String,
    pub version: String,
    pub pid: u32,
    /// When this was written. Written on change only: an old one does not mean that the daemon is dead.
    pub at: Timestamp,
    pub mode: Mode,
    pub doing: Doing,
    /// The step under way, for a person.
    pub step: Option<String>,
    pub standing: Standing,
    pub last_check: Option<CheckSeen>,
    pub next_check: Option<Timestamp>,
    pub last_transaction: Option<LastTransaction>,
    /// What an operator should know besides: a configuration that was rejected, a memory that was damaged.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    Idle,
    Checking,
    Renewing,
    Recovering,
    Stopping,
    Ended,
}

/// How the node's certificates are, all in all.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Verdict {
    /// As monitoring prints it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What the last look saw.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CheckSeen {
    pub at: Timestamp,
    pub verdict: Verdict,
    /// Certificates and CAs that were judged.
    pub certificates: usize,
    /// What ends first.
    pub next_end: Option<NextEnd>,
    /// What needs attention, worst first.
    pub attention: Vec<Attention>,
    /// A transaction that a dead process left open.
    pub unfinished: bool,
    /// Why what is due is not renewed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// Somebody has paused this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

/// What a renewal that is due waits for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Waits {
    /// When it is tried; None: at the next check, or when somebody has acted.
    pub until: Option<Timestamp>,
    /// A clause, for a person.
    pub why: String,
}

/// A certificate and its effective end.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NextEnd {
    pub name: String,
    pub at: Timestamp,
}

/// An entry that is not well, in a clause.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attention {
    pub name: String,
    pub verdict: Verdict,
    /// `expires in 9d`, `key does not match`.
    pub message: String,
}
