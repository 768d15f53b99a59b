//! The way back: old files, old processes, and proof of both. "Rolled back" is said only when it is proven.

use crate::host::fs::{FsError, Root};
use crate::model::ledger::State;
use crate::model::plan::Step;
use crate::model::report::{Outcome, Report};

use super::run::{Run, Stop, chain};
use super::state::{DaemonState, ObserveOnly};
use super::{activate, files, prove, story};

/// Puts everything back after a step failed for `reason`.
pub fn roll_back(run: &mut Run<'_>, reason: &str) -> Report {
    let now = run.engine.host.clock.now();
    if !prove::old_still_work(run, now) {
        story::degraded(&run.dir.id, reason);
        let sentence = format!("{reason}; the old certificates have expired, so the new ones stay");
        // still `committed`, with the reason: from now on recovery only looks again whether it can be proven
        if let Err(Stop::Failed(e)) = run.enter(State::Committed, Some(&sentence)) {
            run.report.notes.push(format!("and it could not be recorded: {e}"));
        }
        return run.close_with(Outcome::Degraded, sentence);
    }
    story::rolling_back(&run.dir.id, reason);
    run.report.notes.push(format!("rolled back because {reason}"));
    finish(run, reason)
}

/// Carries a rollback to its end, from wherever it stands.
pub fn finish(run: &mut Run<'_>, reason: &str) -> Report {
    match back(run, reason) {
        Ok(()) => match run.enter(State::RolledBack, Some(reason)) {
            Ok(()) => {
                story::rolled_back(&run.dir.id);
                run.close_with(Outcome::RolledBack, format!("rolled back: {reason}"))
            }
            Err(stop) => failed(run, reason, vec![stop]),
        },
        Err(errors) if errors.iter().all(|e| matches!(e, Stop::Asked)) => run.close_with(
            Outcome::Interrupted,
            format!("the machine is going down in the middle of a rollback ({reason}); the next start finishes it"),
        ),
        Err(errors) => failed(run, reason, errors),
    }
}

fn back(run: &mut Run<'_>, reason: &str) -> Result<(), Vec<Stop>> {
    files_back(run, reason).map_err(|e| vec![e])?;
    if !run.engine.host.live {
        return Ok(());
    }
    let mut errors = Vec::new();
    for planned in &run.plan.steps {
        if let Step::Activate { component, how } = &planned.step
            && run.begun.contains(component)
            && let Err(e) = activate::activate(run, *component, how)
        {
            errors.push(e);
        }
    }
    let was_down = run.before.kubelet.as_ref().is_some_and(|k| !k.is_running());
    if errors.is_empty() {
        errors = prove::served_again(run);
    }
    if was_down && !errors.is_empty() {
        run.report.notes.push("the kubelet was not running before either: no worse".to_owned());
        return Ok(());
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The files alone, without any service: what can be done before the kubelet starts at boot.
pub fn files_back(run: &mut Run<'_>, reason: &str) -> Result<(), Stop> {
    run.engine.progress.step("putting the old files back", std::time::Duration::from_secs(60));
    if run.ledger_mut()?.state() != State::RollingBack {
        run.enter(State::RollingBack, Some(reason))?;
    }
    let staged = run.digests();
    let records = run.ledger_mut()?.files().to_vec();
    let notes = files::put_back(&run.engine.host.root, &run.dir, &records, &staged)?;
    run.report.notes.extend(notes);
    run.report.renewed.clear();
    run.swapped_at = run.engine.host.clock.now();
    Ok(())
}

/// Neither set is proven: both errors are kept, and the daemon only observes from now on, durably.
fn failed(run: &mut Run<'_>, reason: &str, errors: Vec<Stop>) -> Report {
    let causes: Vec<String> = errors
        .into_iter()
        .map(|e| match e {
            Stop::Failed(why) => why,
            Stop::Asked => "stopped".to_owned(),
        })
        .collect();
    let sentence = format!("{reason}; and the rollback failed too: {}", causes.join("; "));
    story::rollback_failed(&run.dir.id, &sentence);
    for result in [
        run.enter(State::RollbackFailed, Some(&sentence)).map_err(|e| format!("{e:?}")),
        observe_only(run, reason, &causes).map_err(|e| chain(&e)),
    ] {
        if let Err(e) = result {
            run.report.notes.push(format!("and it could not be recorded: {e}"));
        }
    }
    run.close_with(Outcome::RollbackFailed, sentence)
}

fn observe_only(run: &Run<'_>, reason: &str, causes: &[String]) -> Result<(), FsError> {
    let root = &run.engine.host.root;
    let mut state = DaemonState::load(root).state;
    let errors = std::iter::once(reason.to_owned()).chain(causes.iter().cloned()).collect();
    state.observe_only =
        Some(ObserveOnly { since: run.engine.host.clock.now(), reason: "a rollback failed".to_owned(), errors });
    state.save(root)
}

/// An operator's recovery succeeded: the daemon may act again.
pub fn clear_observe_only(root: &Root) -> Result<(), FsError> {
    let mut state = DaemonState::load(root).state;
    if state.observe_only.take().is_some() { state.save(root) } else { Ok(()) }
}
