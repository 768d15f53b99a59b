//! Bringing a component to use the new files, by the mildest way that works (DESIGN §7).

use std::path::PathBuf;
use std::time::Duration;

use crate::host::clock::Deadline;
use crate::host::cri::{Container, ContainerRuntime, CriError};
use crate::host::systemd::SystemdError;
use crate::model::component::{Component, Uptake};
use crate::model::plan::{Activation, Socket};
use crate::model::report::Restarted;
use crate::verify::served::{Expected, await_served};
use crate::verify::unit::{UnitUnproven, await_stable};

use super::prove::on_disk;
use super::run::{Run, Stop};
use super::story;

/// As the kubelet gives a static pod (kubernetes: `DefaultTerminationGracePeriodSeconds`).
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks at the container runtime.
const POLL: Duration = Duration::from_millis(500);

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
    let expected = expected(run, sockets)?;
    let seen = await_served(run.engine.host, &expected, None, within, &|| !run.engine.progress.should_stop());
    if run.engine.progress.should_stop() {
        return Err(Stop::Asked); // the wait was cut short: what was seen is no verdict
    }
    if seen.iter().all(|s| s.ok) {
        story::activated(&run.dir.id, component, "serves the new certificates without a restart");
        return Ok(());
    }
    // A socket that nobody serves (the component is down) shows nothing about the certificate: a restart cannot help.
    if seen.iter().all(|s| s.serial.is_none()) {
        run.report
            .notes
            .push(format!("{component} does not answer; whether it takes the new certificates cannot be told"));
        return Ok(());
    }
    if component == Component::Etcd {
        super::prove::may_restart_etcd(run)?;
    }
    new_container(run, component, None)?;
    run.engine.progress.step(format!("waiting for the new {component} to serve"), run.engine.policy.verify.timeout.0);
    let limit = run.engine.policy.verify.timeout.0;
    let seen = await_served(run.engine.host, &expected, None, limit, &|| !run.engine.progress.should_stop());
    match seen.iter().find(|s| !s.ok) {
        None => Ok(()),
        Some(_) if run.engine.progress.should_stop() => Err(Stop::Asked),
        Some(s) => Err(Stop::Failed(format!(
            "{component} still serves serial {} on {} after a restart, not {}",
            s.serial.as_deref().unwrap_or("none"),
            s.address,
            s.expected
        ))),
    }
}

/// Each socket with the serial that its entry has on the disk.
pub fn expected(run: &Run<'_>, sockets: &[Socket]) -> Result<Vec<Expected>, Stop> {
    sockets.iter().map(|s| Ok(Expected { socket: s.clone(), serial: on_disk(run, &s.entry)?.serial })).collect()
}

/// Stops the container; the kubelet makes a new one, which resolves its mounts and reads its files anew.
fn new_container(run: &mut Run<'_>, component: Component, health: Option<&str>) -> Result<(), Stop> {
    let (host, policy) = (run.engine.host, run.engine.policy);
    let limit = policy.verify.timeout.0;
    run.engine.progress.step(format!("making a new {component} container"), limit + GRACE);
    let socket = cri_socket(run)?;
    let deadline = Deadline::after(host.clock.as_ref(), limit);
    let old = running(host.runtime.as_ref(), &socket, component)?;
    let since = run.swapped_at;
    if let Some(old) = &old {
        host.runtime.stop(&socket, &old.id, GRACE)?;
    }
    let new = loop {
        let found = running(host.runtime.as_ref(), &socket, component)?;
        let is_new = |c: &Container| {
            old.as_ref().is_none_or(|o| o.id != c.id) && i128::from(c.created_ns) >= since.as_nanosecond()
        };
        if let Some(new) = found.filter(is_new) {
            break new;
        }
        if deadline.is_over(host.clock.as_ref()) {
            let state = if old.is_some() { "did not come back" } else { "is not running and did not appear" };
            return Err(Stop::Failed(format!("{component} {state} within {}", policy.verify.timeout)));
        }
        if run.engine.progress.should_stop() {
            return Err(Stop::Asked);
        }
        host.clock.sleep(POLL);
    };
    story::activated(&run.dir.id, component, "runs in a new container");
    run.report.restarted.push(Restarted { component, old_id: old.map(|c| c.id), new_id: Some(new.id) });
    match health {
        None => Ok(()),
        Some(url) => super::prove::await_health(run, component, url, deadline.left(host.clock.as_ref())),
    }
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
    let old = host.services.status(unit)?;
    let limit = policy.verify.timeout.0;
    run.engine.progress.step(format!("restarting {unit}"), old.timeout_stop + old.timeout_start + limit);
    run.restarted_kubelet_at = Some(host.clock.now());
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
    let keep_going = || !run.engine.progress.should_stop();
    let stable = match await_stable(host, unit, &old, stability, limit.max(stability * 2), &keep_going) {
        Err(UnitUnproven::Interrupted { .. }) => return Err(Stop::Asked),
        other => other?,
    };
    story::activated(&run.dir.id, Component::Kubelet, "was restarted and stays up");
    run.report.restarted.push(Restarted {
        component: Component::Kubelet,
        old_id: Some(old.invocation_id),
        new_id: Some(stable.invocation_id),
    });
    Ok(())
}
