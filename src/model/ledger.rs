//! The ledger's records: what a transaction announces before it acts (docs/architecture.md, "States").

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component::Component;

pub const SCHEMA: &str = "certwarden.ledger/v1";

/// What is true on the disk.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Old files are backed up; nothing live touched.
    Open,
    /// New files are durable and valid in `new/`; nothing live touched.
    Staged,
    /// Some live files may be new.
    Committing,
    /// All live files are new; services may still run with the old.
    Committed,
    /// Proven by use. Closed.
    Verified,
    /// All live files are new and stay, and not all could be proven. Closed: it blocks nothing, and is verified again.
    Unproven,
    /// Not proven, and a person has taken the node as it is. Closed.
    Accepted,
    /// Some live files may be old again.
    RollingBack,
    /// All live files are old, services run with them. Closed.
    RolledBack,
    /// Neither is proven. Closed; observe only until an operator acts.
    RollbackFailed,
    /// Ended before anything live was touched. Closed.
    Discarded,
}

impl State {
    /// Closed transactions need no recovery.
    pub fn is_closed(self) -> bool {
        match self {
            Self::Open | Self::Staged | Self::Committing | Self::Committed | Self::RollingBack => false,
            Self::Verified
            | Self::Unproven
            | Self::Accepted
            | Self::RolledBack
            | Self::RollbackFailed
            | Self::Discarded => true,
        }
    }

    /// The new files stay, and the backup holds what they replaced: `rollback` can put it back.
    pub fn keeps_backup(self) -> bool {
        matches!(self, Self::Verified | Self::Unproven | Self::Accepted)
    }

    /// Whether `next` may follow in a ledger; anything else is damage and stops the transaction.
    pub fn may_become(self, next: Self) -> bool {
        use State as S;
        match self {
            S::Open => matches!(next, S::Staged | S::Discarded),
            S::Staged => matches!(next, S::Committing | S::Discarded),
            // itself again: a recovery failed and is tried once more
            S::Committing => matches!(next, S::Committing | S::Committed | S::RollingBack),
            // itself again: what 0.1.0 recorded where later versions record `unproven`
            S::Committed => matches!(next, S::Committed | S::Verified | S::Unproven | S::RollingBack),
            // itself again: for another reason than before
            S::Unproven => matches!(next, S::Unproven | S::Verified | S::Accepted),
            S::RollingBack => matches!(next, S::RollingBack | S::RolledBack | S::RollbackFailed),
            // an operator's `recover` tries again
            S::RollbackFailed => matches!(next, S::RollingBack),
            S::Verified | S::Accepted | S::RolledBack | S::Discarded => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Staged => "staged",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Verified => "verified",
            Self::Unproven => "unproven",
            Self::Accepted => "accepted",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Discarded => "discarded",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// One line of `ledger.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    pub schema: String,
    pub at: Timestamp,
    pub state: State,
    /// With `open`: every file that may be replaced, as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRecord>,
    /// With `staged`: SHA-256 of each new file, by live path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub staged: BTreeMap<PathBuf, String>,
    /// Why, for the states that end something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With `unproven`: who has not taken up the new files yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Component>,
    /// With a state that is recorded again: the steps of its recovery that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// The person who ran the process that recorded it; none: the daemon, or another service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// With `open`: the gates that this person overrode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<String>,
}

/// Whether two sentences say the same but for numbers: times, counts, process ids.
pub fn says_the_same(a: &str, b: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    words(a) == words(b)
}

/// A live file before the transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FileRecord {
    /// The path as the plan names it.
    pub path: PathBuf,
    /// Logical name of the entry that the file belongs to: its files stay together.
    pub entry: String,
    /// Of the content; `link:TARGET` of a link, `nothing` where there was nothing, `unread` of what cannot be read.
    pub sha256: String,
    pub attributes: Attributes,
    /// The name itself is replaced, and not what a link of that name leads to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_name: bool,
}

/// The digest of a place where nothing is.
pub const NOTHING: &str = "nothing";
/// The digest of what is neither a link nor a file that can be read: a directory, a FIFO, a device, a file that is too large
/// or on a bad block. It is not looked into; where its name is wanted it is moved aside, and back again.
pub const UNREAD: &str = "unread";
/// Before the target, the digest of a link.
pub const LINK: &str = "link:";

/// What a rename would lose.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attributes {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, 0o7777.
    pub mode: u32,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i128,
    pub atime_ns: i128,
    /// Name to value, hexadecimal; ACLs and SELinux labels are extended attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_differs_in_numbers_only_is_no_news() {
        assert!(says_the_same("node n is not Ready since 12:04:59 (30 s)", "node n is not Ready since 13:05:01 (9 s)"));
        assert!(!says_the_same("node n is not Ready", "kube-scheduler is not healthy"));
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read_and_an_ordinary_one_is_written_as_it_was() {
        let text = r#"{"schema":"certwarden.ledger/v1","at":"2026-11-22T12:00:00Z","state":"committed"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}
