//! What is kept of closed transactions: the newest N backups to roll back to, and as many stories of failures.

use crate::host::fs::Root;
use crate::model::cause::chain;
use crate::model::ledger::State;
use crate::model::report::Report;

use super::store::{self, TxnDir};

/// Writes the report beside the ledger. Best effort: the ledger is the record.
pub fn keep_report(root: &Root, report: &Report, dry_run: bool) {
    let Some(id) = report.transaction.clone().filter(|_| !dry_run) else { return };
    let dir = TxnDir { id };
    if !root.exists(&dir.path()) {
        return;
    }
    let written = serde_json::to_vec_pretty(report).map(|json| root.write(&dir.report(), &json, 0o600));
    if let Ok(Err(e)) = written {
        tracing::warn!(cw_txn = dir.id, "the report could not be kept: {}", chain(&e));
    }
}

/// Removes what is older than the newest `generations`. Best effort: what cannot be removed now is tried next time.
pub fn apply(root: &Root, generations: usize) {
    let closed = match store::closed(root) {
        Ok(closed) => closed,
        Err(e) => return tracing::warn!("old transactions could not be listed: {}", chain(&e)),
    };
    // what an operator still has to look at is neither thinned out nor counted
    let closed = closed.into_iter().filter(|(_, s)| *s != State::RollbackFailed);
    let (backups, stories): (Vec<_>, Vec<_>) = closed.partition(|(_, s)| *s == State::Verified);
    for (dir, state) in backups.iter().chain(&stories) {
        let needless: &[_] = match state {
            State::Verified => &[dir.new_dir(), dir.work()],
            // what is live is what the backup holds
            State::RolledBack | State::Discarded => &[dir.new_dir(), dir.work(), dir.old_dir()],
            _ => &[],
        };
        for path in needless {
            remove(root, dir, path);
        }
    }
    for list in [&backups, &stories] {
        for (dir, _) in list.iter().rev().skip(generations) {
            remove(root, dir, &dir.path());
        }
    }
}

fn remove(root: &Root, dir: &TxnDir, path: &std::path::Path) {
    if let Err(e) = root.remove_tree(path) {
        tracing::warn!(cw_txn = dir.id, "an old transaction could not be removed: {}", chain(&e));
    }
}
