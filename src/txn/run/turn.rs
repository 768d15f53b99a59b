//! The cluster's lock while a transaction is carried out.

use crate::model::gate::{Gate, Refusal, standing};

use super::super::cluster::Held;
use super::{Run, Stop};

impl Run<'_> {
    /// The last moment at which nothing is lost: a lock that is not ours for certain, from now on and for its whole duration,
    /// ends the transaction.
    pub(super) fn still_our_turn(&mut self) -> Result<(), Stop> {
        let Some(Err(why)) = self.lock.as_mut().map(Held::keep) else { return Ok(()) };
        let refusal =
            Refusal::new(Gate::ClusterLock, format!("the cluster's lock was lost: {why}"), "it is tried again");
        match standing(&[refusal], &self.forced, self.plan.emergency).first() {
            Some(refusal) => Err(Stop::Failed(format!("gate {refusal}"))),
            None => Ok(()),
        }
    }

    /// After the commit the transaction goes on to its proven end, with or without the lock: half of it is worse for everybody
    /// than two at a time. Renewed before each restart, it is kept for as long as it takes.
    pub(super) fn keep_lock(&mut self) {
        if let Some(Err(why)) = self.lock.as_mut().map(Held::keep_if_quick) {
            let note = format!("the cluster's lock was not certain to be ours after the commit: {why}");
            if !self.report.notes.contains(&note) {
                self.report.notes.push(note);
            }
        }
    }
}
