//! A recovery that could not go on. What may pass by itself is tried again, and what has failed for the first time once
//! more; only what a node that answers has failed twice is left to a person.

use crate::model::cause::chain;
use crate::model::report::{Outcome, Report};

use super::run::{Origin, Run};
use super::stop::Stop;
use super::story;

/// The step of a rollback that puts the files back.
pub const FILES: &str = "put the files back";
/// The step that records its end.
pub const RECORD: &str = "record the end";

/// A step of a rollback and why it failed.
pub type Failure = (String, Stop);

/// The report of a rollback that is tried again, instead of that of one that failed; None: it has failed.
///
/// A rollback in the process that began the transaction has seen its step fail with the new files already: there only a
/// disk is excused.
pub fn instead(run: &mut Run<'_>, errors: &[Failure]) -> Option<Report> {
    let resumed = run.origin != Origin::Here;
    let of_the_disk = |step: &str| step == FILES || step == RECORD;
    let passes = |(step, stop): &Failure| matches!(stop, Stop::Passing(_)) && (resumed || of_the_disk(step));
    let why = errors.iter().map(|(_, stop)| words(stop)).collect::<Vec<_>>().join("; ");
    if errors.iter().any(passes) {
        return Some(later(run, &why));
    }
    let failed_before = |(step, _): &Failure| run.ledger.as_ref().is_some_and(|l| l.failed_before(step));
    if !resumed || errors.iter().any(failed_before) {
        return None;
    }
    let at = run.context.host.clock.now();
    let steps = errors.iter().map(|(step, _)| step.clone()).collect();
    let root = &run.context.host.root;
    if let Some(Err(e)) = run.ledger.as_mut().map(|l| l.failed(root, at, &why, steps)) {
        run.report.notes.push(format!("and it could not be recorded: {}", chain(&e)));
    }
    Some(later(run, &why))
}

/// The files could not be settled.
pub fn stuck(run: &mut Run<'_>, stop: Stop) -> Report {
    if matches!(stop, Stop::Asked) {
        return run.close_with(Outcome::Interrupted, "stopped; the next start goes on".to_owned());
    }
    let errors = [(FILES.to_owned(), stop)];
    if let Some(report) = instead(run, &errors) {
        return report;
    }
    let why = errors.map(|(_, stop)| stop.sentence()).concat();
    run.close_with(Outcome::RollbackFailed, format!("transaction {} cannot be finished: {why}", run.dir.id))
}

/// The recovery goes on when what hinders it has passed.
pub fn later(run: &mut Run<'_>, why: &str) -> Report {
    let sentence = format!(
        "transaction {} cannot be finished now: {why}; the daemon tries again, `certwarden recover` at once",
        run.dir.id
    );
    story::hindered(&run.dir.id, &sentence);
    run.close_with(Outcome::Interrupted, sentence)
}

fn words(stop: &Stop) -> &str {
    match stop {
        Stop::Failed(why) | Stop::Passing(why) | Stop::Unrecorded(why) => why,
        Stop::Asked => "stopped",
    }
}
