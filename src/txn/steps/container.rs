//! New containers for static pods: the runtime stops one, and the kubelet makes the next, which resolves its mounts and
//! reads its files anew. Manifests are never moved: should certwarden die in between, the pod comes back by itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::host::clock::Deadline;
use crate::host::cri::{Container, CriError};
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::inventory::ContainerRef;
use crate::model::plan::{PlannedStep, Step};
use crate::model::report::{Consumer, Restarted};

use super::exits::Exits;
use super::unit::restart_unit;
use super::{etcd, verify};
use crate::txn::run::{Run, Stop};
use crate::txn::story;

/// As the kubelet gives a static pod (kubernetes: `DefaultTerminationGracePeriodSeconds`).
pub const GRACE: Duration = Duration::from_secs(30);
/// The kubelet's longest back-off before it makes a container again (kubernetes: `pkg/kubelet/kubelet.go:MaxContainerBackOff`,
/// 5 min), and its start: a container that the kubelet is merely slow to make is no failure.
const SLOWEST: Duration = Duration::from_secs(7 * 60);
/// A kubelet at work makes a container again within a second (its relist), and looks at every pod once a minute
/// (kubernetes: `syncFrequency`). One that is in back-off forgets it with its restart.
const IDLE: Duration = Duration::from_secs(70);
/// A container that was made again and has run for less than this was in a crash loop lately: after so long the kubelet
/// forgets its back-off (kubernetes: `client-go/util/flowcontrol/backoff.go`, twice the longest).
const STEADY: Duration = Duration::from_secs(10 * 60);
/// Between two looks at the container runtime.
const POLL: Duration = Duration::from_millis(500);

/// Whose container it is.
#[derive(Clone, Debug)]
pub struct Who {
    consumer: Consumer,
    component: Option<Component>,
    pub(super) container: ContainerRef,
    /// The id of the container that ran before anything was touched.
    pub(super) before: Option<String>,
    /// It is known that none ran.
    was_down: bool,
}

impl Who {
    /// # Errors
    /// If the component is no static pod of this node.
    pub fn component(run: &Run<'_>, component: Component) -> Result<Self, Stop> {
        let pod = run.engine.inventory.node.static_pods.get(&component);
        let pod = pod.ok_or_else(|| Stop::Failed(format!("{component} is no static pod of this node")))?;
        Ok(Self {
            consumer: component.into(),
            component: Some(component),
            container: pod.container.clone(),
            before: run.before.container(component).cloned(),
            was_down: run.before.was_down(component),
        })
    }

    pub fn other(run: &Run<'_>, container: &ContainerRef) -> Self {
        let before = run.before.others.as_ref().map(|o| o.get(&container.to_string()).cloned());
        Self {
            consumer: Consumer::Other(container.to_string()),
            component: None,
            container: container.clone(),
            was_down: before == Some(None),
            before: before.flatten(),
        }
    }

    /// Whether it was down before although its certificates were good: what ails it is none of our business.
    fn is_excused(&self, run: &Run<'_>) -> bool {
        self.was_down && verify::old_still_work(run, run.swapped_at)
    }

    /// Whether it may stay away when it was asked to come back. So may a pod that is none of the components, if it was ill
    /// before, or if there is nothing to go back to: the node does not need it to be well.
    fn may_stay_away(&self, run: &Run<'_>, old: Option<&Container>) -> bool {
        if self.component.is_some() {
            return old.is_none() && self.is_excused(run);
        }
        let fresh = |c: &Container| {
            let age = run.swapped_at.as_nanosecond().saturating_sub(i128::from(c.created_ns));
            c.attempt > 0 && age < STEADY.as_nanos().cast_signed()
        };
        self.was_down || old.is_some_and(fresh) || !verify::old_still_work(run, run.swapped_at)
    }

    /// Whether what happens to it now is our doing: it was well before, and so was what it needs. In the dark it may
    /// crash until the others are back.
    pub(super) fn was_well(&self, run: &Run<'_>) -> bool {
        let served = |c| run.before.sockets.iter().any(|s| s.component == Some(c) && s.answered);
        let well = match self.component {
            Some(c @ (Component::Etcd | Component::KubeApiserver)) => served(c),
            _ => run.before.node.is_some(),
        };
        well && self.before.is_some() && verify::old_still_work(run, run.swapped_at)
    }
}

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
    let host = run.engine.host;
    run.engine.progress.step(format!("making a new {} container", who.consumer), limit(run) + GRACE);
    let socket = cri_socket(run)?;
    let going_back = run.going_back;
    let old = match host.runtime.containers(&socket, &who.container) {
        Ok(listed) => newest_running(&listed),
        Err(e) if going_back && !run.stopped.contains(&who.consumer) => {
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
    run.engine.progress.step(format!("making a new {} container", who.consumer), limit(run) + GRACE + GRACE);
    if let Some(old) = &old {
        run.stopped.push(who.consumer.clone());
        host.runtime.stop(&socket, &old.id, GRACE)?;
    }
    Ok(Some(Stopped { who: who.clone(), old }))
}

/// Waits for the container that the kubelet makes in the place of the one that was stopped.
pub fn await_replaced(run: &mut Run<'_>, stopped: Stopped) -> Result<(), Stop> {
    let Stopped { who, old } = stopped;
    let host = run.engine.host;
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
    run.engine.policy.verify.timeout.0.max(SLOWEST)
}

/// The new container; None if there is none, and need not be: that is noted.
fn await_new(
    run: &mut Run<'_>,
    who: &Who,
    old: Option<&Container>,
    deadline: Deadline,
) -> Result<Option<Container>, Stop> {
    let (host, since) = (run.engine.host, run.swapped_at.as_nanosecond());
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
        if run.engine.should_stop() {
            return Err(Stop::Asked);
        }
        let untouched = running.is_none() && exits.count() == 0 && listed.is_ok();
        if untouched && idle.is_over(host.clock.as_ref()) && may_restart_kubelet(run) {
            let unit = run.engine.inventory.node.kubelet.unit.clone();
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
    another && !run.older.contains(&container.id) && i128::from(container.created_ns) > run.swapped_at.as_nanosecond()
}

/// A container is stopped only while the kubelet runs: nobody else would make a new one. A kubelet that is down and to
/// be restarted anyway is restarted first.
fn someone_to_make_it(run: &mut Run<'_>, consumer: &Consumer) -> Result<(), Stop> {
    let unit = run.engine.inventory.node.kubelet.unit.clone();
    if run.engine.host.services.status(&unit)?.is_running() {
        return Ok(());
    }
    if !is_planned(run) || run.kubelet_is_up.is_some() {
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
    run.kubelet_is_up.is_none() && (run.going_back || is_planned(run))
}

fn restart_kubelet(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    if !run.begun.contains(&Component::Kubelet) {
        run.begun.push(Component::Kubelet);
    }
    restart_unit(run, unit)
}

pub(super) fn cri_socket(run: &Run<'_>) -> Result<PathBuf, Stop> {
    run.engine.inventory.node.kubelet.cri_socket.clone().ok_or_else(|| {
        // it was known when the transaction began: the kubelet's directory may not be mounted yet
        Stop::Passing(
            "the container runtime's socket is not known; set containerRuntimeEndpoint in the kubelet's configuration"
                .to_owned(),
        )
    })
}

/// The newest running container of a list that has the newest first.
pub fn newest_running(list: &[Container]) -> Option<Container> {
    list.iter().find(|c| c.running).cloned()
}
