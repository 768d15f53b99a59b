//! What certwarden has done on this node, from the ledgers.

use jiff::Timestamp;
use serde::Serialize;

use crate::host::fs::{FsError, Root};
use crate::model::ledger::State;
use crate::model::report::Report;

use super::dir::TxnDir;
use super::ledger::Ledger;
use super::store;

/// One transaction, for people.
#[derive(Debug, Serialize)]
pub struct Past {
    pub id: String,
    pub opened_at: Option<Timestamp>,
    pub state: Option<State>,
    /// Whether `rollback ID` can restore it.
    pub backup: bool,
    pub entries: Vec<String>,
    pub reason: Option<String>,
    /// The people who began it or had a part in its end, in order; none: services alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// Gates that were overridden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<String>,
}

/// All transactions that are kept, newest first.
///
/// # Errors
/// [`FsError`].
pub fn list(root: &Root) -> Result<Vec<Past>, FsError> {
    Ok(store::list(root)?.into_iter().rev().map(|dir| past(root, &dir)).collect())
}

fn past(root: &Root, dir: &TxnDir) -> Past {
    let backup = root.exists(&dir.old_dir());
    match Ledger::load(root, dir) {
        Ok(Some(ledger)) => {
            let mut entries: Vec<String> = ledger.files().iter().map(|f| f.entry.clone()).collect();
            entries.dedup();
            let mut by: Vec<String> = ledger.records().iter().filter_map(|r| r.by.clone()).collect();
            by.dedup();
            Past {
                id: dir.id.clone(),
                opened_at: ledger.opened_at(),
                state: Some(ledger.state()),
                backup: backup && ledger.state().keeps_backup(),
                entries,
                reason: ledger.records().last().and_then(|r| r.reason.clone()),
                by,
                forced: ledger.records().first().map(|r| r.forced.clone()).unwrap_or_default(),
            }
        }
        Ok(None) => unreadable(dir, "it never began".to_owned()),
        Err(e) => unreadable(dir, crate::model::cause::chain(&e)),
    }
}

fn unreadable(dir: &TxnDir, reason: String) -> Past {
    let entries = Vec::new();
    let (by, forced) = (Vec::new(), Vec::new());
    Past { id: dir.id.clone(), opened_at: None, state: None, backup: false, entries, reason: Some(reason), by, forced }
}

/// The report of one transaction, if it was kept.
pub fn report(root: &Root, id: &str) -> Option<Report> {
    if !store::is_id(id) {
        return None;
    }
    let bytes = root.read(&TxnDir { id: id.to_owned() }.report(), 4 << 20).ok()?;
    serde_json::from_slice(&bytes).ok()
}
