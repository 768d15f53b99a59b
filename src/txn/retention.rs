//! What is kept of closed transactions: the newest N backups to roll back to, none longer than it is of use, and as many
//! stories of failures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::fs::Root;
use crate::model::cause::chain;
use crate::model::ledger::State;
use crate::model::policy::State as Rules;
use crate::model::report::Report;

use super::dir::TxnDir;
use super::ledger::Ledger;
use super::lock::Lock;
use super::store::{self, STATE_DIR};
use super::{swap, unproven};

/// A file being written is complete within seconds; one that is older was left by a process that died. They are named at
/// random, since the daemon and a person's command may both write `state.json`.
const HALF_MADE: Duration = Duration::from_secs(3600);

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

/// What time it is, if the clock is known to be `synchronised`. A clock that jumped ahead would make every backup too old, and a
/// backup that was removed does not come back when the clock does.
pub fn trusted_time(host: &Host, synchronised: Option<bool>) -> Option<Timestamp> {
    (synchronised == Some(true)).then(|| host.clock.now())
}

/// [`trusted_time`], where nobody has asked yet whether the clock is synchronised.
pub fn asked_time(host: &Host) -> Option<Timestamp> {
    trusted_time(host, host.services.clock_synchronised())
}

/// Removes what is older than the newest `generations`, and, at a [trusted time](trusted_time), backups older than `max-age`. Best
/// effort: what cannot be removed now is tried next time.
pub fn apply(root: &Root, rules: &Rules, now: Option<Timestamp>) {
    let generations = rules.generations;
    let closed = match store::closed(root) {
        Ok(closed) => closed,
        Err(e) => return tracing::warn!("old transactions could not be listed: {}", chain(&e)),
    };
    // not beside one that is open: what lies there is its way back
    if let Some((dir, state)) = closed.last()
        && store::list(root).is_ok_and(|all| all.last() == Some(dir))
    {
        sweep_live(root, dir, *state);
    }
    // what an operator still has to look at is neither thinned out nor counted
    let closed = closed.into_iter().filter(|(_, s)| *s != State::RollbackFailed);
    let (backups, stories): (Vec<_>, Vec<_>) = closed.partition(|(_, s)| s.keeps_backup());
    for (dir, state) in backups.iter().chain(&stories) {
        let needless: &[_] = match state {
            State::Verified | State::Unproven | State::Accepted => &[dir.new_dir(), dir.work()],
            // what is live is what the backup holds
            State::RolledBack | State::Discarded => &[dir.new_dir(), dir.work(), dir.old_dir()],
            _ => &[],
        };
        for path in needless {
            remove(root, dir, path);
        }
        // under the lock nobody else writes there
        remove_half_made(root, &dir.path(), Duration::ZERO);
    }
    remove_half_made(root, Path::new(STATE_DIR), HALF_MADE);
    // what it holds nobody can put back any more
    let unreadable = store::unreadable(root).unwrap_or_default();
    for dir in unreadable.iter().rev().skip(generations) {
        tracing::warn!(cw_txn = dir.id, "an old transaction whose ledger cannot be read is removed");
        remove(root, dir, &dir.path());
    }
    // what is still to be proven stays as long as it is a question
    let open: Vec<TxnDir> = unproven::list(root).into_iter().map(|u| u.dir).collect();
    for list in [&backups, &stories] {
        let counted = list.iter().filter(|(dir, _)| !open.contains(dir));
        for (dir, _) in counted.rev().skip(generations) {
            remove(root, dir, &dir.path());
        }
    }
    for dir in outdated(root, rules, now) {
        forget_keys(root, &dir);
    }
}

/// Removes the backups that have become too old since the last transaction, which may be a year ago. For the daemon, which
/// looks each hour: the lock is taken only where there is one, and not waited for.
pub fn by_age(root: &Root, rules: &Rules, now: Option<Timestamp>) {
    if outdated(root, rules, now).is_empty() {
        return;
    }
    match Lock::take(root, "removing old backups") {
        // whoever has the lock may be about to need one
        Ok(_lock) => {
            for dir in outdated(root, rules, now) {
                forget_keys(root, &dir);
            }
        }
        Err(e) => tracing::debug!("old backups are removed later: {}", chain(&e)),
    }
}

/// Closed transactions whose backup is there and too old. The newest is no exception: it, too, holds what was replaced so
/// long ago. One that failed or is not proven is: an operator, or the next verification, may need it.
fn outdated(root: &Root, rules: &Rules, now: Option<Timestamp>) -> Vec<TxnDir> {
    let Some(now) = now else { return Vec::new() };
    let old = |dir: &TxnDir| {
        let Ok(Some(ledger)) = Ledger::load(root, dir) else { return false };
        let age = ledger.records().last().map(|r| now.duration_since(r.at)).unwrap_or_default();
        Duration::try_from(age).is_ok_and(|age| age > rules.max_age.0)
    };
    let open: Vec<TxnDir> = unproven::list(root).into_iter().map(|u| u.dir).collect();
    let needed = |dir: &TxnDir, state: State| state == State::RollbackFailed || open.contains(dir);
    let closed = store::closed(root).unwrap_or_default().into_iter();
    let kept = closed.filter(|(dir, state)| !needed(dir, *state) && root.exists(&dir.old_dir()));
    kept.map(|(dir, _)| dir).filter(old).collect()
}

/// The record of the transaction stays.
fn forget_keys(root: &Root, dir: &TxnDir) {
    tracing::info!(cw_txn = dir.id, "the backup of transaction {} is older than state.max-age, and is removed", dir.id);
    for path in [dir.old_dir(), dir.new_dir(), dir.work()] {
        remove(root, dir, &path);
    }
}

/// Keys must not stay beside the live ones because a file could not be removed at once.
fn sweep_live(root: &Root, dir: &TxnDir, state: State) {
    let Ok(Some(ledger)) = Ledger::load(root, dir) else { return };
    let sweep = if state == State::RollbackFailed { swap::sweep_new } else { swap::sweep };
    if let Err(e) = sweep(root, ledger.files()) {
        tracing::warn!(cw_txn = dir.id, "what lies beside the live files could not be removed: {}", chain(&e));
    }
}

/// Dot-files, which a process that died in the middle of a replacement has left.
fn remove_half_made(root: &Root, dir: &Path, older_than: Duration) {
    let is_old = |path: &PathBuf| {
        let modified =
            root.symlink_metadata(path).ok().filter(std::fs::Metadata::is_file).and_then(|m| m.modified().ok());
        // from the future, by a clock that was stepped back: young
        modified.is_some_and(|at| at.elapsed().unwrap_or_default() >= older_than)
    };
    let names = root.list(dir).unwrap_or_default();
    for path in names.iter().filter(|n| n.starts_with('.')).map(|n| dir.join(n)).filter(is_old) {
        if let Err(e) = root.remove_file(&path) {
            tracing::warn!("a half-made file could not be removed: {}", chain(&e));
        }
    }
}

fn remove(root: &Root, dir: &TxnDir, path: &Path) {
    if let Err(e) = root.shred_tree(path) {
        tracing::warn!(cw_txn = dir.id, "an old transaction could not be removed: {}", chain(&e));
    }
}
