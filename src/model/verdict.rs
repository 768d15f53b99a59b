//! What a verdict is made of: how bad something is, and what is said of one certificate. [`super::assess`] judges what is in
//! files and [`super::process`] what is in memory only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::policy::{DueBefore, Policy};

/// How bad it is; the worst is the greatest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Ok,
    Warning,
    /// Could not be read: nobody knows.
    Unknown,
    Critical,
}

impl Severity {
    /// As monitoring prints it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    /// Exit code of `check` (docs/architecture.md, "Command line"; the Nagios plugin convention).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// One entry, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The entry's logical name.
    pub name: String,
    pub severity: Severity,
    /// What is wrong with it: what collecting found, then what the time makes of it.
    pub findings: Vec<Finding>,
    /// When it stops working: the earlier of its own end and its CA's. None if it could not be read.
    pub effective_end: Option<Timestamp>,
    /// Whole seconds until then; negative afterwards.
    pub seconds_left: Option<i64>,
    /// certwarden should renew it now. `renew.exclude` is not considered here: a plan is what somebody asks for.
    pub due: bool,
    /// It is due, and so late that soft gates give way.
    pub emergency: bool,
}

/// What a component signs for itself in memory lives for a year (apiserver: `pkg/server/options/serving.go`).
const YEAR: i64 = 365 * 86_400;

/// Seconds left at which an entry of this kind is a warning, and at which it is critical.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) warning: i64,
    pub(super) critical: i64,
}

/// How bad it is that a leaf, which nothing is special about, has so many seconds left of a year.
pub(super) fn leaf_severity(left: i64, policy: &Policy) -> Severity {
    leaf_limits(YEAR, policy).severity(left)
}

pub(super) fn leaf_limits(life: i64, policy: &Policy) -> Limits {
    Limits { warning: DueBefore::by_age(policy).leaf(life), critical: policy.renew.emergency(life) }
}

impl Limits {
    /// How bad it is that so many seconds are left.
    pub(super) fn severity(self, left: i64) -> Severity {
        match left {
            ..=0 => Severity::Critical,
            l if l <= self.critical => Severity::Critical,
            l if l <= self.warning => Severity::Warning,
            _ => Severity::Ok,
        }
    }
}
