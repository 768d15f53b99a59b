//! Where one transaction lies: keys included, 0700.

use std::path::{Path, PathBuf};

/// Where they all lie.
pub const TRANSACTIONS: &str = "/var/lib/certwarden/transactions";

/// One transaction's directory.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TxnDir {
    /// Six digits that count up, then the time: names sort by age even when the clock was stepped back.
    pub id: String,
}

impl TxnDir {
    pub fn path(&self) -> PathBuf {
        Path::new(TRANSACTIONS).join(&self.id)
    }
    pub fn ledger(&self) -> PathBuf {
        self.path().join("ledger.jsonl")
    }
    pub fn plan(&self) -> PathBuf {
        self.path().join("plan.json")
    }
    /// How the node was before, for whoever finishes the transaction.
    pub fn before(&self) -> PathBuf {
        self.path().join("before.json")
    }
    pub fn report(&self) -> PathBuf {
        self.path().join("report.json")
    }
    /// What the renewer may write to.
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }
    pub fn old_dir(&self) -> PathBuf {
        self.path().join("old")
    }
    pub fn new_dir(&self) -> PathBuf {
        self.path().join("new")
    }
    /// The backup of a live file.
    pub fn old(&self, live: &Path) -> PathBuf {
        below(&self.old_dir(), live)
    }
    /// The staged successor of a live file.
    pub fn new_file(&self, live: &Path) -> PathBuf {
        below(&self.new_dir(), live)
    }
}

fn below(dir: &Path, live: &Path) -> PathBuf {
    dir.join(live.strip_prefix("/").unwrap_or(live))
}
