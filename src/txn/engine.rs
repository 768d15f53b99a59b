//! What a transaction works with, and why one could not begin.
//!
//! A transaction runs on one thread and blocks there; `cli` carries it out on its only thread, the daemon on one of its own.

use crate::host::Host;
use crate::host::fs::FsError;
use crate::model::inventory::Inventory;
use crate::model::policy::Policy;

use super::ledger::LedgerError;
use super::lock::LockError;
use super::progress::Progress;
use super::state::StateError;
use super::turn::Turn;

/// What a transaction works with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub host: &'a Host,
    pub policy: &'a Policy,
    pub inventory: &'a Inventory,
    pub progress: &'a Progress,
    /// This node's turn among others, which is kept meanwhile; None: there is nobody to report to.
    pub turn: Option<&'a dyn Turn>,
}

impl Context<'_> {
    /// Whether whoever drives it wants the transaction to end now. Asked in every wait, so that this node's turn is kept here.
    pub fn should_stop(&self) -> bool {
        if let Some(turn) = self.turn {
            turn.beat();
        }
        self.progress.should_stop()
    }
}

/// Why a transaction could not even begin. Everything later is in its report.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("prepare the transaction")]
    Fs(#[from] FsError),
    #[error("allow renewals again")]
    State(#[from] StateError),
    /// `recover` has to end it first.
    #[error("transaction {id} is unfinished; run `certwarden recover` first")]
    Unfinished { id: String },
    #[error("several transactions are not proven: {ids}; name the one to accept")]
    SeveralUnproven { ids: String },
}
