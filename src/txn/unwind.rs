//! The way back: old files, old processes, and proof of both. "Rolled back" is said only when it is proven.

use crate::host::fs::{FsError, Root};
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::ledger::State;
use crate::model::plan::{Check, PlannedStep, Step};
use crate::model::report::{Outcome, Report};

use super::container::{Who, replace};
use super::run::{Run, Stop};
use super::state::{DaemonState, ObserveOnly};
use super::{activate, before, files, prove, story};

/// Puts everything back after a step failed for `reason`.
pub fn roll_back(run: &mut Run<'_>, reason: &str) -> Report {
    if !prove::old_still_work(run, run.now_at_least()) {
        match forward(run) {
            Ok(()) => return degraded(run, reason),
            // half of each is worse than all of either
            Err(why) => run.report.notes.push(format!("the new files could not be completed: {}", why.sentence())),
        }
    }
    story::rolling_back(&run.dir.id, reason);
    run.report.notes.push(format!("rolled back because {reason}"));
    finish(run, reason)
}

fn degraded(run: &mut Run<'_>, reason: &str) -> Report {
    activate::release(run);
    story::degraded(&run.dir.id, reason);
    let sentence = format!("{reason}; the old certificates have expired, so the new ones stay");
    // still `committed`; with the reason where everything has been taken up: from now on recovery only looks again
    // whether it can be proven. Else the next recovery goes on with the activation
    let taken_up = |s: &PlannedStep| match &s.step {
        Step::Activate { component, .. } => run.activated.contains(component),
        _ => true,
    };
    if run.plan.steps.iter().all(taken_up)
        && let Err(e) = run.enter(State::Committed, Some(&sentence))
    {
        run.report.notes.push(format!("and it could not be recorded: {}", e.sentence()));
    }
    run.close_with(Outcome::Degraded, sentence)
}

/// Carries a rollback to its end, from wherever it stands.
pub fn finish(run: &mut Run<'_>, reason: &str) -> Report {
    let back = back(run, reason);
    activate::release(run);
    match back {
        Ok(()) => match rolled_back(run, reason) {
            Ok(()) => {
                story::rolled_back(&run.dir.id);
                run.close_with(Outcome::RolledBack, format!("rolled back: {reason}"))
            }
            Err(stop) => failed(run, reason, vec![stop]),
        },
        // the machine takes everything down with it: that anything else failed too says nothing
        Err(errors) if errors.iter().any(|e| matches!(e, Stop::Asked)) => run.close_with(
            Outcome::Interrupted,
            format!("asked to end in the middle of a rollback ({reason}); the next start finishes it"),
        ),
        Err(errors) => failed(run, reason, errors),
    }
}

fn rolled_back(run: &mut Run<'_>, reason: &str) -> Result<(), Stop> {
    if run.ledger_mut()?.state() == State::Committing {
        run.enter(State::RollingBack, Some(reason))?; // could not be recorded before
    }
    run.enter(State::RolledBack, Some(reason))
}

/// A commit that was cut short is completed; nothing to do after one that was not.
pub fn forward(run: &mut Run<'_>) -> Result<(), Stop> {
    if run.ledger_mut()?.state() != State::Committing {
        return Ok(());
    }
    let (records, staged) = (run.ledger_mut()?.files().to_vec(), run.digests());
    files::prepare_new(&run.engine.host.root, &run.dir, &records, &staged)?.put_in_place()?;
    // without a reason, as after any commit: see `activate_and_verify`
    run.enter(State::Committed, None)
}

fn back(run: &mut Run<'_>, reason: &str) -> Result<(), Vec<Stop>> {
    run.hold_kubelet_again();
    files_back(run, reason).map_err(|e| vec![e])?;
    if !run.engine.host.live {
        return Ok(());
    }
    run.older = before::running(run);
    let (mut errors, mut kubelets) = (Vec::new(), Vec::new());
    for planned in &run.plan.steps {
        match &planned.step {
            Step::Activate { component, how } if run.begun.contains(component) => {
                if let Err(e) = activate::activate(run, *component, how) {
                    if *component == Component::Kubelet { &mut kubelets } else { &mut errors }.push(e);
                }
            }
            Step::ActivateOther { container } if run.others_begun.contains(container) => {
                errors.extend(replace(run, &Who::other(run, container)).err());
            }
            _ => {}
        }
    }
    let excused = run.before.kubelet_was_down;
    if errors.is_empty() && (kubelets.is_empty() || excused) {
        let kubelet_is_down = !kubelets.is_empty();
        run.report.sockets.clear();
        for check in prove::checks_of_a_rollback(run.plan) {
            let kubelets_own = match &check {
                Check::NodeReady { .. } => true,
                Check::Served(socket) => socket.component == Component::Kubelet,
                _ => false,
            };
            if kubelets_own && kubelet_is_down {
                continue;
            }
            if let Err(e) = prove::verify(run, &check) {
                if kubelets_own { &mut kubelets } else { &mut errors }.push(e);
            }
        }
    }
    let asked = kubelets.iter().any(|e| matches!(e, Stop::Asked));
    if excused && !kubelets.is_empty() && !asked {
        run.report.notes.push("the kubelet was not running before either: no worse".to_owned());
    } else {
        errors.append(&mut kubelets);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The files alone, without any service: what can be done before the kubelet starts at boot.
pub fn files_back(run: &mut Run<'_>, reason: &str) -> Result<(), Stop> {
    // with the time that the container runtime may take to say what runs
    run.engine.progress.step("putting the old files back", std::time::Duration::from_secs(120));
    run.going_back = true;
    match run.ledger_mut()?.state() {
        State::RollingBack => {}
        // a disk that takes no record may take renames; should this be cut short too, `committing` says as much
        State::Committing => {
            if let Err(e) = run.enter(State::RollingBack, Some(reason)) {
                run.report.notes.push(format!("the rollback could not be recorded: {}", e.sentence()));
            }
        }
        _ => run.enter(State::RollingBack, Some(reason))?,
    }
    let staged = run.digests();
    let records = run.ledger_mut()?.files().to_vec();
    let root = &run.engine.host.root;
    let notes = files::put_back(root, &run.dir, &records, &staged).inspect_err(|_| {
        let _ = files::sweep_new(root, &records); // the first error is the one to report
    })?;
    run.report.notes.extend(notes);
    run.report.renewed.clear();
    run.swapped_at = run.engine.host.clock.now();
    run.kubelet_is_up = None;
    Ok(())
}

/// Neither set is proven: both errors are kept, and the daemon only observes from now on, durably.
fn failed(run: &mut Run<'_>, reason: &str, errors: Vec<Stop>) -> Report {
    let causes: Vec<String> = errors.into_iter().map(Stop::sentence).collect();
    let sentence = format!("{reason}; and the rollback failed too: {}", causes.join("; "));
    story::rollback_failed(&run.dir.id, &sentence);
    // first what holds the daemon back: a crash in between leaves a rollback to be finished, and nobody free to renew
    for result in [
        observe_only(run, reason, &causes).map_err(|e| chain(&e)),
        run.enter(State::RollbackFailed, Some(&sentence)).map_err(Stop::sentence),
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
