//! New containers for static pods: the runtime stops one, and the kubelet makes the next, which resolves its mounts and
//! reads its files anew. Manifests are never moved: should certwarden die in between, the pod comes back by itself.

use std::time::Duration;

use crate::host::clock::Deadline;
use crate::host::cri::{Container, CriError};
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::plan::{PlannedStep, Step};
use crate::model::report::{Consumer, Restarted};
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::story;

use super::etcd;
use super::exits::{Exits, GRACE, Who, cri_socket, newest_running};
use super::unit::restart_unit;

/// The kubelet's longest back-off before it makes a container again (kubernetes: `pkg/kubelet/kubelet.go:MaxContainerBackOff`,
/// 5 min), and its start: a container that the kubelet is merely slow to make is no failure.
const SLOWEST: Duration = Duration::from_secs(7 * 60);
/// A kubelet at work makes a container again within a second (its relist), and looks at every pod once a minute
/// (kubernetes: `syncFrequency`). One that is in back-off forgets it with its restart.
const IDLE: Duration = Duration::from_secs(70);
/// Between two looks at the container runtime.
const POLL: Duration = Duration::from_millis(500);

/// A container that was stopped, so that the kubelet makes another.
#[derive(Debug)]
pub struct Stopped {
    who: Who,
    /// None: none was running.
    old: Option<Container>,
}

/// Sees to it that a container runs that was made after the swap. One that never took the new files is left alone on
/// a rollback.
pub fn replace(run: &mut Run<'_>, who: &Who) -> Result<(), Stop> {
    match stop(run, who)? {
        Some(stopped) => await_replaced(run, stopped),
        None => Ok(()),
    }
}

/// Stops the container that does not use the new files. None: there is nothing to wait for.
pub fn stop(run: &mut Run<'_>, who: &Who) -> Result<Option<Stopped>, Stop> {
    let host = run.context.host;
    run.context.progress.step(format!("making a new {} container", who.consumer), limit(run) + GRACE);
    let socket = cri_socket(run)?;
    let going_back = run.live.going_back;
    let old = match host.runtime.containers(&socket, &who.container) {
        Ok(listed) => newest_running(&listed),
        Err(e) if going_back && !run.live.touched.stopped.contains(&who.consumer) => {
            let sentence = format!("{} was not stopped; whether it runs cannot be told: {}", who.consumer, chain(&e));
            run.report.notes.push(sentence);
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(c) = old.as_ref().filter(|c| going_back && who.before.as_ref() == Some(&c.id)) {
        tracing::info!(cw_txn = run.dir.id, "{} ({}) never took the new files", who.consumer, c.id);
        return Ok(None);
    }
    if old.is_none() && who.is_excused(run) && (going_back || who.component.is_none()) {
        run.report.notes.push(format!("{} is not running, as before", who.consumer));
        return Ok(None);
    }
    if old.as_ref().is_some_and(|c| is_new_already(run, who, c)) {
        story::activated(&run.dir.id, &who.consumer, "runs in a container made since");
        return Ok(None);
    }
    if who.component == Some(Component::Etcd) && old.is_some() {
        etcd::may_restart(run)?;
    }
    someone_to_make_it(run, &who.consumer)?;
    // a kubelet that had to be started first announced its own time
    run.context.progress.step(format!("making a new {} container", who.consumer), limit(run) + GRACE + GRACE);
    if let Some(old) = &old {
        run.live.touched.stopped.push(who.consumer.clone());
        host.runtime.stop(&socket, &old.id, GRACE)?;
    }
    Ok(Some(Stopped { who: who.clone(), old }))
}

/// Waits for the container that the kubelet makes in the place of the one that was stopped.
pub fn await_replaced(run: &mut Run<'_>, stopped: Stopped) -> Result<(), Stop> {
    let Stopped { who, old } = stopped;
    let host = run.context.host;
    // one that need not come back is not waited for longer than one that does takes
    let short = who.component.is_none() && who.may_stay_away(run, old.as_ref());
    let patience = if short { IDLE + GRACE } else { limit(run) };
    let Some(new) = await_new(run, &who, old.as_ref(), Deadline::after(host.clock.as_ref(), patience))? else {
        return Ok(());
    };
    story::activated(&run.dir.id, &who.consumer, "runs in a new container");
    let (old_id, new_id) = (old.map(|c| c.id), Some(new.id));
    run.report.restarted.push(Restarted { component: who.consumer, old_id, new_id });
    Ok(())
}

/// How long the kubelet may take to make a container.
pub fn limit(run: &Run<'_>) -> Duration {
    run.context.policy.verify.timeout.0.max(SLOWEST)
}

/// The new container; None if there is none, and need not be: that is noted.
fn await_new(
    run: &mut Run<'_>,
    who: &Who,
    old: Option<&Container>,
    deadline: Deadline,
) -> Result<Option<Container>, Stop> {
    let (host, since) = (run.context.host, run.live.swapped_at.as_nanosecond());
    let exits = Exits::of(run, who);
    let idle = Deadline::after(host.clock.as_ref(), IDLE);
    loop {
        // a runtime that is slow to answer while it stops a container is asked again
        let listed = host.runtime.containers(&cri_socket(run)?, &who.container);
        let running = listed.as_ref().ok().and_then(|l| newest_running(l));
        // by its id where there was one: the clock may be stepped meanwhile
        let is_new = |c: &Container| old.map_or(i128::from(c.created_ns) >= since, |o| o.id != c.id);
        if let Some(new) = running.clone().filter(is_new) {
            return Ok(Some(new));
        }
        if exits.looping() || deadline.is_over(host.clock.as_ref()) {
            let why = why_not(who, listed, running.is_some(), &exits);
            if who.may_stay_away(run, old) {
                let when = if who.was_down { "is not running, as before" } else { "did not come back" };
                run.report.notes.push(format!("{} {when}: {why}", who.consumer));
                return Ok(None);
            }
            return Err(Stop::Failed(format!("{} did not come back: {why}", who.consumer)));
        }
        if run.context.should_stop() {
            return Err(Stop::Asked);
        }
        let untouched = running.is_none() && exits.count() == 0 && listed.is_ok();
        if untouched && idle.is_over(host.clock.as_ref()) && may_restart_kubelet(run) {
            let unit = run.context.inventory.node.kubelet.unit.clone();
            run.report.notes.push(format!("{unit} made no new {} container and was restarted for it", who.consumer));
            restart_kubelet(run, &unit)?;
        }
        host.clock.sleep(POLL);
    }
}

fn why_not(who: &Who, listed: Result<Vec<Container>, CriError>, runs: bool, exits: &Exits<'_>) -> String {
    match listed {
        Err(e) => chain(&e),
        Ok(_) if runs => format!("the runtime said that it stopped {}, which goes on running", who.container),
        Ok(_) => exits.sentence().unwrap_or_else(|| "the kubelet makes no new container".to_owned()),
    }
}

/// Whether the container was made after the swap, as after a reboot in mid-transaction. Not by its time alone, since the
/// clock may have been stepped: it must also be another one than those that are known to be older.
fn is_new_already(run: &Run<'_>, who: &Who, container: &Container) -> bool {
    let another = (who.before.is_some() || who.was_down) && who.before.as_ref() != Some(&container.id);
    another
        && !run.live.older.contains(&container.id)
        && i128::from(container.created_ns) > run.live.swapped_at.as_nanosecond()
}

/// A container is stopped only while the kubelet runs: nobody else would make a new one. A kubelet that is down and to
/// be restarted anyway is restarted first.
fn someone_to_make_it(run: &mut Run<'_>, consumer: &Consumer) -> Result<(), Stop> {
    let unit = run.context.inventory.node.kubelet.unit.clone();
    if run.context.host.services.status(&unit)?.is_running() {
        return Ok(());
    }
    if !is_planned(run) || run.live.kubelet.is_up.is_some() {
        return Err(Stop::Failed(format!("{unit} does not run, and nobody else makes a new {consumer}")));
    }
    restart_kubelet(run, &unit)
}

fn is_planned(run: &Run<'_>) -> bool {
    let kubelets = |s: &PlannedStep| matches!(s.step, Step::Activate { component: Component::Kubelet, .. });
    run.plan.steps.iter().any(kubelets)
}

/// Once, and forward only where it is to be restarted anyway; on the way back nothing else is left.
fn may_restart_kubelet(run: &Run<'_>) -> bool {
    run.live.kubelet.is_up.is_none() && (run.live.going_back || is_planned(run))
}

fn restart_kubelet(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    run.live.touched.begin(Component::Kubelet);
    restart_unit(run, unit)
}
