//! Bringing a component to use the new files, by the mildest way that works (DESIGN §7).

use std::time::Duration;

use crate::host::systemd::SystemdError;
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::consumer::Uptake;
use crate::model::plan::{Activation, Socket};
use crate::model::report::{Restarted, SocketSeen};
use crate::verify::served::{Expected, await_served};
use crate::verify::unit::{UnitUnproven, await_stable};

use super::container::{Exits, GRACE, Who, replace};
use super::engine::Engine;
use super::prove::{await_health, on_disk};
use super::run::{Run, Stop};
use super::story;

/// Within this a server that is there at all has answered.
const SILENT: Duration = Duration::from_secs(5);

/// Activates one component.
pub fn activate(run: &mut Run<'_>, component: Component, how: &Activation) -> Result<(), Stop> {
    match how {
        Activation::ReloadOrRestart { uptake, sockets, health } => {
            reload(run, component, *uptake, sockets, health.as_deref())
        }
        Activation::NewContainer { health } => new_container(run, component, health.as_deref()),
        Activation::RestartUnit { unit } => restart_unit(run, unit),
    }
}

/// A new container, then its health.
fn new_container(run: &mut Run<'_>, component: Component, health: Option<&str>) -> Result<(), Stop> {
    let who = Who::component(run, component)?;
    replace(run, &who)?;
    let limit = run.engine.policy.verify.timeout.0;
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
    let within = match uptake {
        Uptake::Reload(within) => within,
        Uptake::Connection | Uptake::NewProcess => Duration::ZERO,
    };
    run.engine.progress.step(format!("waiting for {component} to serve the new certificates"), within + GRACE);
    let engine = run.engine;
    let expected = expected(run, sockets)?;
    let exits = Exits::of(run, &Who::component(run, component)?);
    let keep_going = || !engine.should_stop() && !exits.looping();
    let seen = await_taken(engine, &expected, within, &keep_going);
    if seen.iter().all(|s| s.ok) {
        story::activated(&run.dir.id, &component.into(), "serves what is on the disk without a restart");
        return Ok(());
    }
    if engine.should_stop() {
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
    new_container(run, component, health)?;
    let limit = engine.policy.verify.timeout.0;
    engine.progress.step(format!("waiting for the new {component} to serve"), limit + GRACE);
    let seen = await_served(engine.host, &answering, None, limit, &|| !engine.should_stop());
    match seen.iter().find(|s| !s.ok) {
        None => Ok(()),
        Some(_) if engine.should_stop() => Err(Stop::Asked),
        Some(s) => Err(Stop::Failed(format!(
            "{component} still serves serial {} on {} after a restart, not {}",
            s.serial.as_deref().unwrap_or("none"),
            s.place(),
            s.expected
        ))),
    }
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
    let engine = run.engine;
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
    let limit = engine.policy.verify.timeout.0;
    engine.progress.step(format!("waiting for {component} to answer again"), limit + GRACE);
    let seen = await_served(engine.host, &lost, None, limit, &|| !engine.should_stop() && !exits.looping());
    match seen.iter().find(|s| s.serial.is_none()) {
        None => Ok(()),
        Some(_) if engine.should_stop() => Err(Stop::Asked),
        Some(s) => {
            let why = exits.sentence().map(|why| format!(": {why}")).unwrap_or_default();
            Err(Stop::Failed(format!("{component} does not answer any more on {}{why}", s.place())))
        }
    }
}

/// As [`await_served`], but a socket that is silent after the short time in which a server answers ends the wait when
/// all others are well.
fn await_taken(
    engine: Engine<'_>,
    expected: &[Expected],
    within: Duration,
    keep_going: &dyn Fn() -> bool,
) -> Vec<SocketSeen> {
    let first = await_served(engine.host, expected, None, within.min(SILENT), keep_going);
    if within <= SILENT || first.iter().all(|s| s.ok || s.serial.is_none()) {
        return first;
    }
    await_served(engine.host, expected, None, within.saturating_sub(SILENT), keep_going)
}

/// Each socket with the serial that its entry has on the disk.
pub fn expected(run: &Run<'_>, sockets: &[Socket]) -> Result<Vec<Expected>, Stop> {
    sockets.iter().map(|s| Ok(Expected { socket: s.clone(), serial: on_disk(run, &s.entry)?.serial })).collect()
}

/// Stops the unit until it is restarted or [`release`]d.
pub fn hold_unit(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    let host = run.engine.host;
    let limit = host.services.status(unit)?.timeout_stop;
    run.engine.progress.step(format!("stopping {unit}"), limit + GRACE);
    run.holds_kubelet = true; // whatever comes of it
    match host.services.stop(unit) {
        Err(SystemdError::ShuttingDown { .. }) => Err(Stop::Asked),
        Ok(result) if result.is_done() => Ok(()),
        Ok(result) => Err(Stop::Failed(format!("systemd ended the stop of {unit} with `{}`", result.0))),
        Err(e) => Err(e.into()),
    }
}

/// Starts a unit that is still held, whatever else has failed: a node without a kubelet is worse than any.
pub fn release(run: &mut Run<'_>) {
    if !std::mem::take(&mut run.holds_kubelet) {
        return;
    }
    let unit = run.engine.inventory.node.kubelet.unit.clone();
    match run.engine.host.services.start(&unit) {
        Ok(result) if result.is_done() => {}
        Ok(result) => run.report.notes.push(format!("systemd ended the start of {unit} with `{}`: start it", result.0)),
        Err(e) => run.report.notes.push(format!("{unit} could not be started: {}; start it", chain(&e))),
    }
}

/// Restarts the unit and sees it stable: with `Type=simple` systemd calls the job done although the process may be
/// dead already (reference: systemd 252, measured).
pub fn restart_unit(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    let (host, policy) = (run.engine.host, run.engine.policy);
    if run.kubelet_is_up == Some(true) {
        return Ok(()); // restarted first, because it was down
    }
    let old = host.services.status(unit)?;
    let limit = policy.verify.timeout.0;
    run.engine.progress.step(format!("restarting {unit}"), old.timeout_stop + old.timeout_start + limit);
    run.restarted_kubelet_at = Some(host.clock.now());
    run.kubelet_is_up = Some(false);
    let result = match host.services.restart(unit) {
        Ok(result) => {
            run.holds_kubelet &= !result.is_done();
            result
        }
        // the shutdown kills it anyway; the next start goes on
        Err(SystemdError::ShuttingDown { .. }) => return Err(Stop::Asked),
        Err(e) => return Err(e.into()),
    };
    if !result.is_done() {
        return Err(Stop::Failed(format!("systemd ended the restart of {unit} with `{}`", result.0)));
    }
    let stability = policy.verify.stability.0;
    run.engine.progress.step(format!("seeing that {unit} stays up for {}", policy.verify.stability), stability + limit);
    let keep_going = || !run.engine.should_stop();
    let stable = match await_stable(host, unit, &old, stability, limit.max(stability * 2), &keep_going) {
        Err(UnitUnproven::Interrupted { .. }) => return Err(Stop::Asked),
        other => other?,
    };
    run.kubelet_is_up = Some(true);
    story::activated(&run.dir.id, &Component::Kubelet.into(), "was restarted and stays up");
    run.report.restarted.push(Restarted {
        component: Component::Kubelet.into(),
        old_id: Some(old.invocation_id),
        new_id: Some(stable.invocation_id),
    });
    Ok(())
}
