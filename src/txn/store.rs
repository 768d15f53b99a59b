//! Where transactions lie: `/var/lib/certwarden`, 0700, keys included.

use std::path::Path;

use jiff::Timestamp;

use crate::host::fs::{FsError, Root};
use crate::model::ledger::State;

use super::dir::{TRANSACTIONS, TxnDir};
use super::ledger::{Ledger, LedgerError};

/// The state directory (systemd: `StateDirectory=certwarden`).
pub const STATE_DIR: &str = "/var/lib/certwarden";

/// Makes the state directory if need be.
///
/// # Errors
/// [`FsError`].
pub fn prepare(root: &Root) -> Result<(), FsError> {
    root.create_dir_all(Path::new(STATE_DIR), 0o700)?;
    root.create_dir_all(Path::new(TRANSACTIONS), 0o700)
}

/// Makes the directory of a new transaction.
///
/// # Errors
/// [`FsError`].
pub fn create(root: &Root, now: Timestamp) -> Result<TxnDir, FsError> {
    let last = list(root)?.last().and_then(|t| t.id.get(..6)?.parse::<u32>().ok()).unwrap_or(0);
    let dir = TxnDir { id: format!("{:06}-{}", last.saturating_add(1), now.strftime("%Y%m%dT%H%M%SZ")) };
    for path in [dir.path(), dir.old_dir(), dir.new_dir(), dir.work()] {
        root.create_dir_all(&path, 0o700)?;
    }
    Ok(dir)
}

/// All transactions, oldest first. A missing state directory holds none.
///
/// # Errors
/// [`FsError`].
pub fn list(root: &Root) -> Result<Vec<TxnDir>, FsError> {
    let names = match root.list(Path::new(TRANSACTIONS)) {
        Err(FsError::NotFound { .. }) => Vec::new(),
        other => other?,
    };
    Ok(names.into_iter().filter(|n| is_id(n)).map(|id| TxnDir { id }).collect())
}

/// Whether `text` has the form of a transaction's id, and so is safe in a path.
pub fn is_id(text: &str) -> bool {
    let (number, time) = (text.get(..6), text.get(7..));
    number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        && text.get(6..7) == Some("-")
        && time.is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The transactions that need recovery, oldest first, with their ledgers. One whose directory never got a ledger
/// is included with none: it is to be removed.
///
/// A transaction is begun only when no other is open. So one that is older than the newest closed one is closed, too, and a
/// ledger of it that cannot be read (bit rot, the format of a later version) is no reason to stop.
///
/// # Errors
/// [`LedgerError`], e.g. a damaged ledger: then nobody may touch anything before an operator has looked.
pub fn unfinished(root: &Root) -> Result<Vec<(TxnDir, Option<Ledger>)>, LedgerError> {
    let mut open = Vec::new();
    for (dir, ledger) in possibly_open(root)? {
        match ledger? {
            Some(ledger) if ledger.state().is_closed() => {}
            other => open.push((dir, other)),
        }
    }
    Ok(open)
}

type Loaded = (TxnDir, Result<Option<Ledger>, LedgerError>);

fn possibly_open(root: &Root) -> Result<Vec<Loaded>, FsError> {
    let load = |dir: TxnDir| {
        let ledger = Ledger::load(root, &dir);
        (dir, ledger)
    };
    let mut all: Vec<Loaded> = list(root)?.into_iter().map(load).collect();
    let closed = |(_, ledger): &Loaded| matches!(ledger, Ok(Some(l)) if l.state().is_closed());
    let newest_closed = all.iter().rposition(closed).unwrap_or(0);
    let mut index = 0..;
    all.retain(|(_, ledger)| index.next().is_none_or(|i: usize| i >= newest_closed) || ledger.is_ok());
    Ok(all)
}

/// Transactions whose ledger cannot be read and that cannot be open, oldest first.
///
/// # Errors
/// [`FsError`].
pub fn unreadable(root: &Root) -> Result<Vec<TxnDir>, FsError> {
    let known: Vec<TxnDir> = possibly_open(root)?.into_iter().map(|(dir, _)| dir).collect();
    Ok(list(root)?.into_iter().filter(|dir| !known.contains(dir)).collect())
}

/// The closed transactions with their final state, oldest first; damaged ones are passed over.
///
/// # Errors
/// [`FsError`].
pub fn closed(root: &Root) -> Result<Vec<(TxnDir, State)>, FsError> {
    let all = list(root)?;
    Ok(all
        .into_iter()
        .filter_map(|dir| {
            let state = Ledger::load(root, &dir).ok()??.state();
            state.is_closed().then_some((dir, state))
        })
        .collect())
}
