//! The commit: from here on live files may be new.

use crate::model::gate::{Refusal, standing};
use crate::model::ledger::State;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::{story, swap};
use crate::verify::gates;

use super::look::running;
use super::prepare::Validity;
use super::{FILES_LIMIT, turn, unit};

/// Puts the new files in place, all of them.
pub fn commit(run: &mut Run<'_>, validity: &Validity) -> Result<(), Stop> {
    let (root, dir) = (&run.context.host.root, run.dir.clone());
    run.context.progress.step("putting the new files in place", FILES_LIMIT);
    story::rehearsed(&run.dir.id, &run.report.credentials);
    let records = run.ledger_mut()?.files().to_vec();
    nobody_else_at_work(run)?;
    still_in_time(run, validity)?;
    let prepared = swap::prepare_new(root, &dir, &records, &run.digests())?;
    if run.old_still_work(run.now_at_least()) {
        swap::prepare_old(root, &dir, &records)?;
    }
    prepared.unchanged(&records)?;
    turn::still_ours(run)?;
    run.enter(State::Committing, None)?;
    run.context.progress.committing();
    unit::hold_kubelet(run)?;
    prepared.unchanged(&records)?;
    run.live.swapped_at = run.context.host.clock.now(); // should it fail half-way
    prepared.put_in_place()?;
    run.live.swapped_at = run.context.host.clock.now();
    run.enter(State::Committed, None)?;
    if run.context.host.live {
        run.live.older = running(run);
    }
    story::committed(&dir.id, records.len());
    Ok(())
}

/// The clock may have been stepped since the validation: what is issued in the future is not put in.
fn still_in_time(run: &Run<'_>, validity: &Validity) -> Result<(), Stop> {
    let now = run.context.host.clock.now();
    let outside = validity.iter().find(|(_, (from, to))| now < *from || now >= *to);
    outside.map_or(Ok(()), |(name, (from, to))| {
        Err(Stop::Failed(format!(
            "the clock was set meanwhile: it is {now}, and the staged {name} is valid from {from} to {to}; look at \
             the clock, then run again"
        )))
    })
}

/// Staging takes its time: a `kubeadm upgrade` may have begun meanwhile.
fn nobody_else_at_work(run: &Run<'_>) -> Result<(), Stop> {
    let found: Vec<Refusal> =
        run.context.host.live.then(|| gates::processes(run.context.host)).flatten().into_iter().collect();
    match standing(&found, &run.before.forced, run.plan.emergency).first() {
        Some(refusal) => Err(Stop::Failed(format!("gate {refusal}"))),
        None => Ok(()),
    }
}

/// A commit that was cut short is completed; nothing to do after one that was not.
pub fn forward(run: &mut Run<'_>) -> Result<(), Stop> {
    if run.ledger_mut()?.state() != State::Committing {
        return Ok(());
    }
    let (records, staged) = (run.ledger_mut()?.files().to_vec(), run.digests());
    swap::prepare_new(&run.context.host.root, &run.dir, &records, &staged)?.put_in_place()?;
    // without a reason, as after any commit: see `activate_and_verify`
    run.enter(State::Committed, None)
}
