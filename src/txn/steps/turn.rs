//! This node's turn while a transaction is carried out.

use std::time::Duration;

use crate::model::gate::{Gate, Refusal, standing};
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::turn::Turn;

/// More than telling takes, and than renewing the lock.
const TELLING: Duration = Duration::from_secs(60);

/// The last moment at which nothing is lost: a lock that is not ours for certain, from now on and for its whole duration,
/// ends the transaction.
pub fn still_ours(run: &mut Run<'_>) -> Result<(), Stop> {
    let Some(turn) = run.context.turn else { return Ok(()) };
    let Err(doubt) = turn.keep() else { return Ok(()) };
    let reason = format!("the cluster's lock was lost: {doubt}");
    // in an emergency as well: whoever has it now is at work, or about to be
    let doubts_emergency = !turn.goes_on(&doubt);
    let refusal = Refusal::new(Gate::ClusterLock, reason, "it is tried again");
    let refusal = Refusal { doubts_emergency, ..refusal };
    match standing(&[refusal], &run.before.forced, run.plan.emergency).first() {
        Some(refusal) => {
            // a closed gate, and no renewal that failed: it is tried again at the next check, not after a back-off
            run.report.refusals.push(refusal.clone());
            Err(Stop::Failed(format!("gate {refusal}")))
        }
        None => Ok(()),
    }
}

/// After the commit the transaction goes on to its proven end, with or without the lock: half of it is worse for everybody
/// than two at a time. Renewed before each restart, it is kept for as long as it takes.
pub fn keep(run: &mut Run<'_>) {
    if let Some(Err(why)) = run.context.turn.map(Turn::keep_if_quick) {
        let note = format!("the cluster's lock was not certain to be ours after the commit: {why}");
        if !run.report.notes.contains(&note) {
            run.report.notes.push(note);
        }
    }
}

/// The others learn of a way back before its first restart, and not from a node that may not come up again.
pub fn rolling_back(run: &Run<'_>, reason: &str) {
    if let Some(turn) = run.context.turn {
        run.context.progress.step("telling the other nodes", TELLING);
        turn.rolling_back(run.context.host.clock.now(), reason);
    }
}
