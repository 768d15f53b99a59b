//! The steps of a plan in their order, up to the proof.

use crate::model::component::Component;
use crate::model::ledger::State;
use crate::model::plan::{Activation, Plan, Source, Step};
use crate::model::repair::Way;
use crate::model::report::{Outcome, Report};

use super::before::Before;
use super::run::{Origin, Run};
use super::steps::activate::{Early, activate, begin};
use super::steps::commit::commit;
use super::steps::container::replace;
use super::steps::discard::{discard, sweep};
use super::steps::exits::Who;
use super::steps::look::look;
use super::steps::prepare::{self, Staging};
use super::steps::refresh::refresh;
use super::steps::rehearse::rehearse;
use super::steps::verify::verify;
use super::steps::{FILES_LIMIT, pods, turn, unit};
use super::stop::Stop;
use super::story;

/// What one step leaves to a later one of the same run.
#[derive(Default)]
struct Underway {
    staging: Staging,
    stopped_early: Early,
    /// Activations of components that may take a minute, and do.
    slow: Vec<(Component, Activation)>,
}

/// Every step of the plan; a dry run ends before the commit.
pub fn all(run: &mut Run<'_>, dry_run: bool) -> Result<Outcome, Stop> {
    if run.context.host.live {
        let forced = std::mem::take(&mut run.before.forced);
        run.before = Before { forced, ..look(run) };
        run.before.keep(&run.context.host.root, &run.dir)?;
    }
    let mut underway = Underway::default();
    for planned in &run.plan.steps {
        if dry_run && asks(run.plan, &planned.step) {
            run.report.notes.push("a dry run files no certificate signing request".to_owned());
            discard(run, "dry run", true);
            return Ok(Outcome::DryRun);
        }
        if dry_run && planned.step.changes_node() {
            discard(run, "dry run", true);
            return Ok(Outcome::DryRun);
        }
        told_step(run, &mut underway, &planned.step)?;
    }
    await_slow(run, &mut underway)?;
    finish(run)
}

/// Whether the step asks somebody for a certificate.
fn asks(plan: &Plan, step: &Step) -> bool {
    let by_request = |w: &Way| matches!(w, Way::Request { .. });
    let Source::Identity { ways } = &plan.source else { return false };
    matches!(step, Step::Stage { .. }) && ways.iter().any(by_request)
}

/// What a committed transaction still has to do: take up and prove. What has been taken up is not restarted again.
pub fn activate_and_verify(run: &mut Run<'_>) -> Result<Outcome, Stop> {
    let wanted = run.live.touched.left.clone();
    let mut underway = Underway::default();
    for planned in &run.plan.steps {
        let wanted = match &planned.step {
            Step::Activate { component, .. } => wanted.as_ref().is_none_or(|left| left.contains(component)),
            Step::ActivateOther { .. } => wanted.is_none(),
            Step::Verify { .. } | Step::Refresh { .. } => true,
            _ => false,
        };
        if wanted {
            told_step(run, &mut underway, &planned.step)?;
        }
    }
    await_slow(run, &mut underway)?;
    finish(run)
}

fn finish(run: &mut Run<'_>) -> Result<Outcome, Stop> {
    pods::compare(run);
    prove(run)?;
    // only now: until the record is durable, what lies beside the live files is what a rollback needs
    sweep(run);
    story::verified(&run.dir.id, &run.report, run.context.host.live);
    Ok(if run.context.host.live { Outcome::Verified } else { Outcome::Committed })
}

fn prove(run: &mut Run<'_>) -> Result<(), Stop> {
    match run.ledger_mut()?.state() {
        State::Verified => Ok(()),
        // a disk that takes no record is no fault of the new files, and a rollback would have to record as much
        _ => run.enter(State::Verified, None).map_err(|e| Stop::Unrecorded(e.sentence())),
    }
}

fn told_step(run: &mut Run<'_>, underway: &mut Underway, step: &Step) -> Result<(), Stop> {
    let waits = match step {
        // in an emergency a pending change may keep the kubelet from starting, and without it no container is made again
        Step::Activate { component: Component::Kubelet, .. } => !run.plan.emergency,
        Step::Activate { .. } => true,
        _ => false,
    };
    if !waits {
        await_slow(run, underway)?;
    }
    told(run, step, |run| carry_out(run, underway, step))
}

/// The others have started: now for the components that read their files again after a minute.
fn await_slow(run: &mut Run<'_>, underway: &mut Underway) -> Result<(), Stop> {
    for (component, how) in std::mem::take(&mut underway.slow) {
        told(run, &Step::Activate { component, how: how.clone() }, |run| {
            turn::keep(run);
            activate(run, &mut underway.stopped_early, component, &how)
        })?;
        run.live.touched.activated.push(component);
    }
    Ok(())
}

fn told<'p>(run: &mut Run<'p>, step: &Step, act: impl FnOnce(&mut Run<'p>) -> Result<(), Stop>) -> Result<(), Stop> {
    story::step(&run.dir.id, step.id());
    let clock = run.context.host.clock.as_ref();
    let began = clock.monotonic();
    let done = act(run);
    run.report.spent(step.account(), clock.monotonic().saturating_sub(began));
    if let Err(Stop::Failed(reason) | Stop::Passing(reason)) = &done {
        story::step_failed(&run.dir.id, step.id(), reason, run.origin == Origin::ProvenAgain);
    }
    done
}

fn carry_out(run: &mut Run<'_>, underway: &mut Underway, step: &Step) -> Result<(), Stop> {
    if run.context.should_stop() {
        return Err(Stop::Asked);
    }
    match step {
        Step::Backup { .. } => prepare::back_up(run),
        Step::Stage { .. } => prepare::stage(run, &mut underway.staging),
        Step::Validate { .. } => prepare::validate(run, &mut underway.staging),
        Step::Rehearse { name, proof } => rehearse(run, name, proof),
        Step::Commit { .. } => commit(run, &underway.staging.validity),
        Step::Activate { component, how } => {
            turn::keep(run);
            run.live.touched.begin(*component);
            if begin(run, &mut underway.stopped_early, *component, how)? {
                run.live.touched.activated.push(*component);
            } else {
                underway.slow.push((*component, how.clone()));
            }
            Ok(())
        }
        Step::ActivateOther { container } => {
            run.live.touched.others_begun.push(container.clone());
            replace(run, &Who::other(run, container))
        }
        Step::Verify { check } => verify(run, check),
        Step::Refresh { original, copies } => {
            // whatever becomes of people's copies, the transaction is proven
            prove(run)?;
            run.context.progress.step("refreshing copies", FILES_LIMIT);
            refresh(run, original, copies);
            Ok(())
        }
    }
}

/// Everything is proven, and the record of it is missing: whoever comes next proves it again and records it.
pub fn unrecorded(run: &mut Run<'_>, why: &str) -> Report {
    unit::release(run);
    let reason = format!(
        "the new files are in place and proven, which could not be recorded ({why}); the next recovery does it"
    );
    story::interrupted(&run.dir.id, &reason);
    run.close_with(Outcome::Interrupted, reason)
}
