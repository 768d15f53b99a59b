//! `state.json`: what the daemon must still know after a restart or a power cut. Small, durable, and never in the
//! way: a damaged one is kept aside and reported, because a daemon that refuses to start renews nothing at all.
//! Several processes write it (the daemon, commands by hand): each by [`DaemonState::change`], which reads first.

mod file;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use file::{Damage, Loaded, StateError};

use crate::host::Host;
use crate::host::fs::Root;
use crate::model::cause::chain;
use crate::model::decided::Decided;
use crate::model::issued::Issued;
use crate::model::machine::{Renewed, Standing};
use crate::model::metrics::counters::Counters;
use crate::model::report::{Outcome, Report};

pub const SCHEMA: &str = "certwarden.state/v1";
/// Where transactions and their memory are kept, 0700.
pub const STATE_DIR: &str = "/var/lib/certwarden";

/// The daemon's durable memory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DaemonState {
    pub schema: String,
    /// Rollbacks in a row.
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub back_off_until: Option<Timestamp>,
    /// Set by a failed rollback, removed by an operator's successful `recover`.
    #[serde(default)]
    pub observe_only: Option<ObserveOnly>,
    /// When the three above were decided: of two memories the later one holds. None: by an earlier version.
    #[serde(default)]
    pub decided_at: Option<Timestamp>,
    /// The latest wall-clock time that was seen while the clock was synchronised: the clock gate refuses to be before it.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    #[serde(default)]
    pub last_transaction: Option<LastTransaction>,
    /// The API server as the kubelet's kubeconfig said when it was well: for the day when it is gone.
    #[serde(default)]
    pub server: Option<String>,
    /// What must not be renewed again at once.
    #[serde(default)]
    pub renewed: Renewed,
    /// What certwarden has put in place.
    #[serde(default)]
    pub issued: Issued,
    /// What metrics count.
    #[serde(default)]
    pub counters: Counters,
}

/// Why nothing is renewed until an operator has acted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ObserveOnly {
    pub since: Timestamp,
    pub reason: String,
    /// Both errors: of the transaction and of its rollback.
    #[serde(default)]
    pub errors: Vec<String>,
}

/// The last transaction, in short; the whole is in its `report.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LastTransaction {
    pub id: Option<String>,
    pub ended_at: Timestamp,
    pub outcome: Outcome,
    pub reason: String,
    /// Logical names.
    pub renewed: Vec<String>,
}

impl From<&Report> for LastTransaction {
    fn from(report: &Report) -> Self {
        Self {
            id: report.transaction.clone(),
            ended_at: report.ended_at,
            outcome: report.outcome,
            reason: report.reason.clone(),
            renewed: report.in_place(),
        }
    }
}

impl Default for DaemonState {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            failures: 0,
            back_off_until: None,
            observe_only: None,
            decided_at: None,
            last_seen: None,
            server: None,
            last_transaction: None,
            renewed: Renewed::default(),
            issued: Issued::default(),
            counters: Counters::default(),
        }
    }
}

impl DaemonState {
    /// What the daemon may do, in the words of its state machine.
    pub fn standing(&self) -> Standing {
        match (&self.observe_only, self.back_off_until) {
            (Some(o), _) => Standing::ObserveOnly { since: o.since, reason: o.reason.clone() },
            (None, Some(until)) => Standing::BackingOff { failures: self.failures, until },
            (None, None) => Standing::Free { failures: self.failures },
        }
    }

    /// Takes over what the state machine decided. Errors that are already kept stay.
    pub fn set_standing(&mut self, standing: &Standing) {
        match standing {
            Standing::Free { failures } => {
                (self.failures, self.back_off_until, self.observe_only) = (*failures, None, None);
            }
            Standing::BackingOff { failures, until } => {
                (self.failures, self.back_off_until, self.observe_only) = (*failures, Some(*until), None);
            }
            Standing::ObserveOnly { since, reason } => {
                self.back_off_until = None;
                self.observe_only.get_or_insert_with(|| ObserveOnly {
                    since: *since,
                    reason: reason.clone(),
                    errors: Vec::new(),
                });
            }
        }
    }

    /// The same, and when it was decided.
    pub fn decided(&self) -> Decided {
        Decided { standing: self.standing(), at: self.decided_at }
    }

    /// Takes over what was decided at `at`.
    pub fn decide(&mut self, standing: &Standing, at: Timestamp) {
        self.set_standing(standing);
        self.decided_at = Some(at);
    }

    /// Remembers the end of a transaction that was driven by hand: the daemon must not try at once what an operator
    /// has just seen fail. A failure to do so is told.
    pub fn remember(root: &Root, report: &Report) {
        if matches!(report.outcome, Outcome::NothingToDo | Outcome::LeftOut | Outcome::DryRun | Outcome::Refused) {
            return;
        }
        let changed = Self::change(root, |state| {
            state.decide(&state.standing().after(report.outcome, &report.reason, report.ended_at), report.ended_at);
            state.last_transaction = Some(report.into());
            state.renewed.add(report.lives(), report.ended_at);
            state.issued.add(report);
            state.counters.ended(report);
        });
        if let Err(e) = changed {
            tracing::warn!("the end of this transaction cannot be remembered for the daemon: {}", chain(&e));
        }
    }
}

/// An operator's recovery succeeded: the daemon may act again.
pub fn clear_observe_only(host: &Host) -> Result<(), StateError> {
    let now = host.clock.now();
    // the time also where the disk knows of no failure: a running daemon that could not save one is to heed this, too
    DaemonState::change(&host.root, |state| (state.observe_only, state.decided_at) = (None, Some(now))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_survives_a_restart_and_errors_that_are_kept_stay() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        for standing in [
            Standing::Free { failures: 3 },
            Standing::BackingOff { failures: 3, until: at },
            Standing::ObserveOnly { since: at, reason: "rollback failed".into() },
        ] {
            let mut state = DaemonState::default();
            state.set_standing(&standing);
            assert_eq!(state.standing(), standing);
        }
        let errors = vec!["first".to_owned(), "second".to_owned()];
        let failed = ObserveOnly { since: at, reason: "r".into(), errors: errors.clone() };
        let mut state = DaemonState { observe_only: Some(failed), ..DaemonState::default() };
        state.set_standing(&Standing::ObserveOnly { since: at, reason: "r".into() });
        assert_eq!(state.observe_only.unwrap().errors, errors);
    }
}
