//! Bringing a component to use the new files, by the mildest way that works
//! (docs/architecture.md, "Activate and verify").

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::component::Component;
use crate::model::consumer::Uptake;
use crate::model::gate::{Refusal, standing};
use crate::model::plan::{Activation, Socket};
use crate::model::report::SocketSeen;
use crate::txn::engine::Context;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::story;
use crate::verify::gates::{no_other_of, pending_change};
use crate::verify::served::{Expected, await_served};

use super::container::{Stopped, await_replaced, limit, replace, stop};
use super::exits::{Exits, GRACE, Who};
use super::health::await_health;
use super::unit::restart_unit;

/// Within this a server that is there at all has answered.
const SILENT: Duration = Duration::from_secs(5);

/// Whose container was stopped beside another one, and is not yet waited for.
pub type Early = BTreeMap<Component, Stopped>;

/// Activates one component.
pub fn activate(run: &mut Run<'_>, early: &mut Early, component: Component, how: &Activation) -> Result<(), Stop> {
    match how {
        Activation::ReloadOrRestart { uptake, sockets, .. } if component == Component::Kubelet => {
            reload_kubelet(run, *uptake, sockets)
        }
        Activation::ReloadOrRestart { uptake, sockets, health } => {
            reload(run, component, *uptake, sockets, health.as_deref())
        }
        Activation::NewContainer { health } => {
            let stopped = match early.remove(&component) {
                None => stop_with_its_neighbour(run, early, component)?,
                stopped => {
                    run.context.progress.step(format!("waiting for the new {component} container"), limit(run) + GRACE);
                    stopped
                }
            };
            if let Some(stopped) = stopped {
                await_replaced(run, stopped)?;
            }
            healthy(run, component, health.as_deref())
        }
        Activation::RestartUnit { unit } => restart_unit(run, unit),
    }
}

/// As [`activate`], but a component that answers as before and may take a minute to read its files again is left to it: false.
/// [`activate`] waits for it when the others have started.
pub fn begin(run: &mut Run<'_>, early: &mut Early, component: Component, how: &Activation) -> Result<bool, Stop> {
    match how {
        Activation::ReloadOrRestart { sockets, .. }
            if how.may_take_a_minute() && takes_its_time(run, component, sockets)? =>
        {
            Ok(false)
        }
        _ => activate(run, early, component, how).map(|()| true),
    }
}

/// Whether the component answers, and not with the new certificates.
fn takes_its_time(run: &Run<'_>, component: Component, sockets: &[Socket]) -> Result<bool, Stop> {
    let context = run.context;
    context.progress.step(format!("waiting for {component} to serve the new certificates"), SILENT + GRACE);
    let seen = await_served(context.host, &expected(run, sockets)?, None, SILENT, &|| !context.should_stop());
    if context.should_stop() {
        return Err(Stop::Asked);
    }
    Ok(seen.iter().any(|s| !s.ok) && seen.iter().all(|s| s.serial.is_some()))
}

/// A kubelet that has lately made a container anew waits 10 s before it does so again (kubernetes: `kuberuntime_manager.go:
/// doBackOff`). Controller manager and scheduler do not need each other, so that both wait at once: the second is stopped
/// with the first. A rollback knows it by [`Touched::begun`](crate::txn::live::Touched::begun).
fn stop_with_its_neighbour(run: &mut Run<'_>, early: &mut Early, first: Component) -> Result<Option<Stopped>, Stop> {
    let stopped = stop(run, &Who::component(run, first)?)?;
    let second = Component::KubeScheduler;
    let both = first == Component::KubeControllerManager && !run.live.going_back;
    if both && run.plan.makes_new(second) {
        run.live.touched.begin(second);
        if let Some(stopped) = stop(run, &Who::component(run, second)?)? {
            early.insert(second, stopped);
        }
    }
    Ok(stopped)
}

/// One that did not reload was not expected to be made anew, so that its gate was not asked before. A rollback has to.
fn may_be_restarted(run: &Run<'_>, component: Component) -> Result<(), Stop> {
    let (host, inventory) = (run.context.host, run.context.inventory);
    let asked = [pending_change, no_other_of].into_iter().filter(|_| !run.live.going_back);
    let closed: Vec<Refusal> = asked.filter_map(|gate| gate(host, inventory, component)).collect();
    match standing(&closed, &run.before.forced, run.plan.emergency).first() {
        None => Ok(()),
        Some(refusal) => {
            let sentence = format!("{component} does not take the new certificates by itself, and gate {refusal}");
            Err(Stop::Failed(sentence))
        }
    }
}

/// A new container, then its health.
fn new_container(run: &mut Run<'_>, component: Component, health: Option<&str>) -> Result<(), Stop> {
    let who = Who::component(run, component)?;
    replace(run, &who)?;
    healthy(run, component, health)
}

fn healthy(run: &mut Run<'_>, component: Component, health: Option<&str>) -> Result<(), Stop> {
    let limit = run.context.policy.verify.timeout.0;
    health.map_or(Ok(()), |url| await_health(run, component, url, limit))
}

/// Measures first; a component that takes its files by itself is left alone.
fn reload(
    run: &mut Run<'_>,
    component: Component,
    uptake: Uptake,
    sockets: &[Socket],
    health: Option<&str>,
) -> Result<(), Stop> {
    let within = patience(run, component, uptake);
    let context = run.context;
    let expected = expected(run, sockets)?;
    let exits = Exits::of(run, &Who::component(run, component)?);
    let keep_going = || !context.should_stop() && !exits.looping();
    let seen = await_taken(context, &expected, within, &keep_going);
    if seen.iter().all(|s| s.ok) {
        story::activated(&run.dir.id, &component.into(), "serves what is on the disk without a restart");
        return Ok(());
    }
    if context.should_stop() {
        return Err(Stop::Asked);
    }
    let silent = |s: &&SocketSeen| s.serial.is_none();
    let missed: Vec<&SocketSeen> = seen.iter().filter(silent).collect();
    still_there(run, component, &expected, &missed, &exits)?;
    let answering: Vec<Expected> =
        expected.into_iter().filter(|e| seen.iter().any(|s| s.is_of(&e.socket) && s.serial.is_some())).collect();
    if seen.iter().all(|s| s.ok || s.serial.is_none()) {
        return Ok(());
    }
    may_be_restarted(run, component)?;
    new_container(run, component, health)?;
    let limit = context.policy.verify.timeout.0;
    context.progress.step(format!("waiting for the new {component} to serve"), limit + GRACE);
    let seen = await_served(context.host, &answering, None, limit, &|| !context.should_stop());
    match seen.iter().find(|s| !s.ok) {
        None => Ok(()),
        Some(_) if context.should_stop() => Err(Stop::Asked),
        Some(s) => Err(Stop::Failed(format!(
            "{component} still serves serial {} on {} after a restart, not {}",
            s.serial.as_deref().unwrap_or("none"),
            s.place(),
            s.expected
        ))),
    }
}

/// The kubelet, which systemd restarts where it does not serve the new pair in time, or does not answer.
fn reload_kubelet(run: &mut Run<'_>, uptake: Uptake, sockets: &[Socket]) -> Result<(), Stop> {
    let component = Component::Kubelet;
    let within = patience(run, component, uptake);
    let context = run.context;
    let seen = await_taken(context, &expected(run, sockets)?, within, &|| !context.should_stop());
    if context.should_stop() {
        return Err(Stop::Asked);
    }
    if seen.iter().all(|s| s.ok) {
        story::activated(&run.dir.id, &component.into(), "serves what is on the disk without a restart");
        return Ok(());
    }
    may_be_restarted(run, component)?;
    restart_unit(run, &context.inventory.node.kubelet.unit)
}

/// How long a component may take to read its files again.
fn patience(run: &Run<'_>, component: Component, uptake: Uptake) -> Duration {
    let within = match uptake {
        Uptake::Reload(within) => within,
        Uptake::Connection | Uptake::NewProcess => Duration::ZERO,
    };
    run.context.progress.step(format!("waiting for {component} to serve the new certificates"), within + GRACE);
    within
}

/// A socket that was silent before (the component is down) shows nothing about the certificate: a restart cannot help.
/// One that answered before must do so again, before anything else is touched.
fn still_there(
    run: &mut Run<'_>,
    component: Component,
    expected: &[Expected],
    silent: &[&SocketSeen],
    exits: &Exits<'_>,
) -> Result<(), Stop> {
    let context = run.context;
    let answered = |e: &&&Expected| run.before.socket(&e.socket).is_some_and(|b| b.answered);
    let silent: Vec<&Expected> = expected.iter().filter(|e| silent.iter().any(|s| s.is_of(&e.socket))).collect();
    let (lost, unknown): (Vec<&Expected>, Vec<&Expected>) = silent.iter().partition(answered);
    for silent in unknown {
        run.report.notes.push(format!(
            "{component} does not answer on {}: whether it takes the new certificates cannot be told",
            silent.socket
        ));
    }
    let lost: Vec<Expected> = lost.into_iter().cloned().collect();
    if lost.is_empty() {
        return Ok(());
    }
    let limit = context.policy.verify.timeout.0;
    context.progress.step(format!("waiting for {component} to answer again"), limit + GRACE);
    let seen = await_served(context.host, &lost, None, limit, &|| !context.should_stop() && !exits.looping());
    match seen.iter().find(|s| s.serial.is_none()) {
        None => Ok(()),
        Some(_) if context.should_stop() => Err(Stop::Asked),
        Some(s) => {
            let why = exits.sentence().map(|why| format!(": {why}")).unwrap_or_default();
            Err(Stop::Failed(format!("{component} does not answer any more on {}{why}", s.place())))
        }
    }
}

/// As [`await_served`], but a socket that is silent after the short time in which a server answers ends the wait when
/// all others are well.
fn await_taken(
    context: Context<'_>,
    expected: &[Expected],
    within: Duration,
    keep_going: &dyn Fn() -> bool,
) -> Vec<SocketSeen> {
    let first = await_served(context.host, expected, None, within.min(SILENT), keep_going);
    if within <= SILENT || first.iter().all(|s| s.ok || s.serial.is_none()) {
        return first;
    }
    await_served(context.host, expected, None, within.saturating_sub(SILENT), keep_going)
}

/// Each socket with the serial that its entry has on the disk.
fn expected(run: &Run<'_>, sockets: &[Socket]) -> Result<Vec<Expected>, Stop> {
    sockets.iter().map(|s| Ok(Expected { socket: s.clone(), serial: run.on_disk(&s.entry)?.serial })).collect()
}
