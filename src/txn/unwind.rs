//! The way back: old files, old processes, and proof of both. "Rolled back" is said only when it is proven.

use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::ledger::State;
use crate::model::plan::{Check, Step};
use crate::model::report::{Outcome, Report};

use super::retry::{FILES, Failure, RECORD};
use super::run::Run;
use super::state::{DaemonState, ObserveOnly, StateError};
use super::steps::activate::{Early, activate};
use super::steps::commit::forward;
use super::steps::container::replace;
use super::steps::exits::Who;
use super::steps::look::running;
use super::steps::verify::{self, verify};
use super::steps::{pods, turn, unit};
use super::stop::Stop;
use super::{retry, story, swap, unproven};

/// Puts everything back after a step failed for `reason`.
pub fn roll_back(run: &mut Run<'_>, reason: &str) -> Report {
    if !run.old_still_work(run.now_at_least()) {
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
    unit::release(run);
    let sentence = format!("{reason}; the old certificates have expired, so the new ones stay");
    unproven::stays(run, &sentence)
}

/// Carries a rollback to its end, from wherever it stands.
pub fn finish(run: &mut Run<'_>, reason: &str) -> Report {
    let back = back(run, reason);
    unit::release(run);
    let errors = match back {
        Ok(()) => match rolled_back(run, reason) {
            Ok(()) => {
                story::rolled_back(&run.dir.id);
                return run.close_with(Outcome::RolledBack, format!("rolled back: {reason}"));
            }
            Err(stop) => vec![(RECORD.to_owned(), stop)],
        },
        Err(errors) => errors,
    };
    // the machine takes everything down with it: that anything else failed too says nothing
    if errors.iter().any(|(_, e)| matches!(e, Stop::Asked)) {
        return run.close_with(
            Outcome::Interrupted,
            format!("asked to end in the middle of a rollback ({reason}); the next start finishes it"),
        );
    }
    if let Some(report) = retry::instead(run, &errors) {
        return report;
    }
    failed(run, reason, errors.into_iter().map(|(_, stop)| stop).collect())
}

fn rolled_back(run: &mut Run<'_>, reason: &str) -> Result<(), Stop> {
    if run.ledger_mut()?.state() == State::Committing {
        run.enter(State::RollingBack, Some(reason))?; // could not be recorded before
    }
    run.enter(State::RolledBack, Some(reason))
}

fn back(run: &mut Run<'_>, reason: &str) -> Result<(), Vec<Failure>> {
    unit::hold_kubelet_again(run);
    files_back(run, reason).map_err(|e| vec![(FILES.to_owned(), e)])?;
    if !run.context.host.live {
        return Ok(());
    }
    run.live.older = running(run);
    turn::rolling_back(run, reason);
    let (mut errors, mut kubelets) = (Vec::new(), Vec::new());
    let mut early = Early::new(); // nothing is stopped early on the way back
    for planned in &run.plan.steps {
        match &planned.step {
            Step::Activate { component, how } if run.live.touched.begun.contains(component) => {
                turn::keep(run);
                if let Err(e) = activate(run, &mut early, *component, how) {
                    if *component == Component::Kubelet { &mut kubelets } else { &mut errors }
                        .push((planned.step.account(), e));
                }
            }
            Step::ActivateOther { container } if run.live.touched.others_begun.contains(container) => {
                let replaced = replace(run, &Who::other(run, container));
                errors.extend(replaced.err().map(|e| (format!("activate {container}"), e)));
            }
            _ => {}
        }
    }
    let excused = run.before.kubelet_was_down;
    if errors.is_empty() && (kubelets.is_empty() || excused) {
        let kubelet_is_down = !kubelets.is_empty();
        run.report.sockets.clear();
        for check in verify::checks_of_a_rollback(run.plan) {
            let kubelets_own = match &check {
                Check::NodeReady { .. } => true,
                Check::Served(socket) => socket.component == Component::Kubelet,
                _ => false,
            };
            if kubelets_own && kubelet_is_down {
                continue;
            }
            if let Err(e) = verify(run, &check) {
                if kubelets_own { &mut kubelets } else { &mut errors }.push((account(&check), e));
            }
        }
    }
    pods::compare(run);
    let asked = kubelets.iter().any(|(_, e)| matches!(e, Stop::Asked));
    if excused && !kubelets.is_empty() && !asked {
        run.report.notes.push("the kubelet was not running before either: no worse".to_owned());
    } else {
        errors.append(&mut kubelets);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn account(check: &Check) -> String {
    match check {
        Check::Served(socket) => format!("verify {socket}"),
        _ => "verify the node".to_owned(),
    }
}

/// The files alone, without any service: what can be done before the kubelet starts at boot.
pub fn files_back(run: &mut Run<'_>, reason: &str) -> Result<(), Stop> {
    // with the time that the container runtime may take to say what runs
    run.context.progress.step("putting the old files back", std::time::Duration::from_secs(120));
    run.live.going_back = true;
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
    let root = &run.context.host.root;
    let notes = swap::put_back(root, &run.dir, &records, &staged).inspect_err(|_| {
        let _ = swap::sweep_new(root, &records); // the first error is the one to report
    })?;
    run.report.notes.extend(notes);
    run.report.renewed.clear();
    run.live.swapped_at = run.context.host.clock.now();
    run.live.kubelet.is_up = None;
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

fn observe_only(run: &Run<'_>, reason: &str, causes: &[String]) -> Result<(), StateError> {
    let since = run.context.host.clock.now();
    let errors = std::iter::once(reason.to_owned()).chain(causes.iter().cloned()).collect();
    let held = ObserveOnly { since, reason: "a rollback failed".to_owned(), errors };
    DaemonState::change(&run.context.host.root, |state| {
        (state.observe_only, state.decided_at) = (Some(held), Some(since));
    })
    .map(drop)
}
