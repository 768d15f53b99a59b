//! Bringing a component to use the new files, by the mildest way that works (DESIGN §7).

use std::path::PathBuf;
use std::time::Duration;

use crate::host::clock::Deadline;
use crate::host::cri::{Container, ContainerRuntime, CriError};
use crate::host::systemd::SystemdError;
use crate::model::component::{Component, Uptake};
use crate::model::ledger::State;
use crate::model::plan::{Activation, Socket, Step};
use crate::model::report::{Restarted, SocketSeen};
use crate::verify::served::{Expected, await_served};
use crate::verify::unit::{UnitUnproven, await_stable};

use super::engine::Engine;
use super::prove::on_disk;
use super::run::{Run, Stop};
use super::story;

/// As the kubelet gives a static pod (kubernetes: `DefaultTerminationGracePeriodSeconds`).
const GRACE: Duration = Duration::from_secs(30);
/// The kubelet's longest back-off before it makes a container again (kubernetes: `pkg/kubelet/kubelet.go:MaxContainerBackOff`,
/// 5 min), and its start: a container that the kubelet is merely slow to make is no failure.
const SLOWEST: Duration = Duration::from_secs(7 * 60);
/// Between two looks at the container runtime.
const POLL: Duration = Duration::from_millis(500);
/// Within this a server that is there at all has answered.
const SILENT: Duration = Duration::from_secs(5);

/// Activates one component.
pub fn activate(run: &mut Run<'_>, component: Component, how: &Activation) -> Result<(), Stop> {
    match how {
        Activation::ReloadOrRestart { uptake, sockets } => reload(run, component, *uptake, sockets),
        Activation::NewContainer { health } => new_container(run, component, health.as_deref()),
        Activation::RestartUnit { unit } => restart_unit(run, unit),
    }
}

/// Measures first; a component that takes its files by itself is left alone.
fn reload(run: &mut Run<'_>, component: Component, uptake: Uptake, sockets: &[Socket]) -> Result<(), Stop> {
    let within = match uptake {
        Uptake::Reload(within) => within,
        Uptake::NewProcess => Duration::ZERO,
    };
    run.engine.progress.step(format!("waiting for {component} to serve the new certificates"), within + GRACE);
    let engine = run.engine;
    let keep_going = || !engine.should_stop();
    let expected = expected(run, sockets)?;
    let seen = await_taken(engine, &expected, within, &keep_going);
    if seen.iter().all(|s| s.ok) {
        story::activated(&run.dir.id, component, "serves what is on the disk without a restart");
        return Ok(());
    }
    if engine.should_stop() {
        return Err(Stop::Asked);
    }
    // A socket that nobody serves (the component is down) shows nothing about the certificate: a restart cannot help.
    for silent in seen.iter().filter(|s| s.serial.is_none()) {
        run.report.notes.push(format!(
            "{component} does not answer on {}: whether it takes the new certificates cannot be told",
            silent.address
        ));
    }
    if seen.iter().all(|s| s.ok || s.serial.is_none()) {
        return Ok(());
    }
    if component == Component::Etcd {
        super::prove::may_restart_etcd(run)?;
    }
    let answering = |e: &Expected| seen.iter().any(|s| s.address == e.socket.address && s.serial.is_some());
    let expected: Vec<Expected> = expected.into_iter().filter(answering).collect();
    new_container(run, component, None)?;
    let limit = engine.policy.verify.timeout.0;
    engine.progress.step(format!("waiting for the new {component} to serve"), limit + GRACE);
    let seen = await_served(engine.host, &expected, None, limit, &keep_going);
    match seen.iter().find(|s| !s.ok) {
        None => Ok(()),
        Some(_) if engine.should_stop() => Err(Stop::Asked),
        Some(s) => Err(Stop::Failed(format!(
            "{component} still serves serial {} on {} after a restart, not {}",
            s.serial.as_deref().unwrap_or("none"),
            s.address,
            s.expected
        ))),
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

/// Stops the container; the kubelet makes a new one, which resolves its mounts and reads its files anew.
fn new_container(run: &mut Run<'_>, component: Component, health: Option<&str>) -> Result<(), Stop> {
    let (host, policy) = (run.engine.host, run.engine.policy);
    let limit = policy.verify.timeout.0.max(SLOWEST);
    run.engine.progress.step(format!("making a new {component} container"), limit + GRACE);
    let socket = cri_socket(run)?;
    let deadline = Deadline::after(host.clock.as_ref(), limit);
    let old = running(host.runtime.as_ref(), &socket, component)?;
    let going_back = run.ledger_mut()?.state() == State::RollingBack;
    if let Some(c) = old.as_ref().filter(|c| going_back && run.before.container(component) == Some(&c.id)) {
        tracing::info!(cw_txn = run.dir.id, "{component} ({}) never took the new files", c.id);
        return Ok(());
    }
    if old.is_none() && going_back && super::prove::excused(run, component) {
        return Ok(());
    }
    if old.as_ref().is_some_and(|c| is_new_already(run, component, c)) {
        story::activated(&run.dir.id, component, "runs in a container made since");
        return health.map_or(Ok(()), |url| super::prove::await_health(run, component, url, policy.verify.timeout.0));
    }
    someone_to_make_it(run, component)?;
    let since = run.swapped_at;
    if let Some(old) = &old {
        host.runtime.stop(&socket, &old.id, GRACE)?;
    }
    let new = loop {
        // a runtime that is slow to answer while it stops a container is asked again
        let found = running(host.runtime.as_ref(), &socket, component).unwrap_or_default();
        // by its id where there was one: the clock may be stepped meanwhile
        let is_new =
            |c: &Container| old.as_ref().map_or(i128::from(c.created_ns) >= since.as_nanosecond(), |o| o.id != c.id);
        if let Some(new) = found.filter(is_new) {
            break new;
        }
        if deadline.is_over(host.clock.as_ref()) {
            if old.is_none() && super::prove::excused(run, component) {
                run.report.notes.push(format!("{component} is not running, as before"));
                return Ok(());
            }
            let state = if old.is_some() { "did not come back" } else { "is not running and did not appear" };
            return Err(Stop::Failed(format!("{component} {state} within {}s", limit.as_secs())));
        }
        if run.engine.should_stop() {
            return Err(Stop::Asked);
        }
        host.clock.sleep(POLL);
    };
    story::activated(&run.dir.id, component, "runs in a new container");
    run.report.restarted.push(Restarted { component, old_id: old.map(|c| c.id), new_id: Some(new.id) });
    match health {
        None => Ok(()),
        Some(url) => super::prove::await_health(run, component, url, policy.verify.timeout.0),
    }
}

/// Whether the container was made after the swap, as after a reboot in mid-transaction. Not by its time alone, since the
/// clock may have been stepped: it must also be another one than those that are known to be older.
fn is_new_already(run: &Run<'_>, component: Component, container: &Container) -> bool {
    let another = run.before.containers.is_some() && run.before.container(component) != Some(&container.id);
    let is_older = run.older.as_ref().is_some_and(|o| o.get(&component) == Some(&container.id));
    another && !is_older && i128::from(container.created_ns) > run.swapped_at.as_nanosecond()
}

/// A container is stopped only while the kubelet runs: nobody else would make a new one. A kubelet that is down and to
/// be restarted anyway is restarted first.
fn someone_to_make_it(run: &mut Run<'_>, component: Component) -> Result<(), Stop> {
    let unit = run.engine.inventory.node.kubelet.unit.clone();
    if run.engine.host.services.status(&unit)?.is_running() {
        return Ok(());
    }
    let planned =
        run.plan.steps.iter().any(|s| matches!(&s.step, Step::Activate { component: Component::Kubelet, .. }));
    if !planned || run.kubelet_is_up.is_some() {
        return Err(Stop::Failed(format!("{unit} does not run, and nobody else makes a new {component}")));
    }
    if !run.begun.contains(&Component::Kubelet) {
        run.begun.push(Component::Kubelet);
    }
    restart_unit(run, &unit)
}

fn cri_socket(run: &Run<'_>) -> Result<PathBuf, Stop> {
    run.engine.inventory.node.kubelet.cri_socket.clone().ok_or_else(|| {
        Stop::Failed(
            "the container runtime's socket is not known; set containerRuntimeEndpoint in the kubelet's configuration"
                .to_owned(),
        )
    })
}

/// The newest running container of a component.
pub fn running(
    runtime: &dyn ContainerRuntime,
    socket: &std::path::Path,
    component: Component,
) -> Result<Option<Container>, CriError> {
    Ok(runtime.containers(socket, component.name())?.into_iter().find(|c| c.running))
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
        // the shutdown kills it anyway; the next start goes on
        Err(SystemdError::ShuttingDown { .. }) => return Err(Stop::Asked),
        other => other?,
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
    story::activated(&run.dir.id, Component::Kubelet, "was restarted and stays up");
    run.report.restarted.push(Restarted {
        component: Component::Kubelet,
        old_id: Some(old.invocation_id),
        new_id: Some(stable.invocation_id),
    });
    Ok(())
}
