//! Proof by use: whether the node is well again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::clock::Deadline;
use crate::model::cert::{CertFacts, parse_pem};
use crate::model::component::Component;
use crate::model::health::Judgement;
use crate::model::plan::{Check, Plan, PlannedStep, Proof, Socket, Step};
use crate::model::report::{CredentialSeen, When};
use crate::verify::REQUEST;
use crate::verify::api::answering;
use crate::verify::etcd::{self, Members};
use crate::verify::node::{NEXT_REPORT, NodeWatch, Restart};
use crate::verify::served::{Expected, await_served};
use crate::verify::{aggregate, health};

use super::container::Who;
use super::exits::Exits;
use super::prepare::refusal;
use crate::txn::before::{EtcdBefore, identity_for};
use crate::txn::run::{Run, Stop};

/// For a component that was not healthy before either: time for its start, so that it can show that it has recovered.
const ILL: Duration = Duration::from_secs(30);
/// For a socket on which nobody answered before either.
const SILENT: Duration = Duration::from_secs(30);

/// One check of the plan; what cannot be told is noted and passes.
pub fn verify(run: &mut Run<'_>, check: &Check) -> Result<(), Stop> {
    let limit = run.engine.policy.verify.timeout.0;
    match check {
        Check::Served(socket) => socket_serves(run, socket, limit),
        Check::Health { component, url } => await_health(run, *component, url, limit),
        Check::EtcdMembers { .. } => etcd_as_before(run),
        Check::Credential { name, proof } => credential(run, name, proof),
        Check::Aggregated { name } => aggregated(run, name),
        Check::NodeReady { node } => node_ready(run, node),
    }
}

fn socket_serves(run: &mut Run<'_>, socket: &Socket, limit: Duration) -> Result<(), Stop> {
    let engine = run.engine;
    let was = run.before.socket(socket).cloned();
    // what did not answer before is not waited for as if it had
    let limit = if was.as_ref().is_some_and(|w| w.answered) { limit } else { limit.min(SILENT) };
    engine.progress.step(format!("asking {socket} what it serves"), limit + REQUEST);
    let expected = [Expected { socket: socket.clone(), serial: on_disk(run, &socket.entry)?.serial }];
    let seen = await_served(engine.host, &expected, None, limit, &|| !engine.should_stop());
    let wrong = seen.iter().find(|s| !s.ok).cloned();
    run.report.sockets.extend(seen);
    let Some(s) = wrong else { return Ok(()) };
    if engine.should_stop() {
        return Err(Stop::Asked);
    }
    let answered = was.as_ref().is_some_and(|w| w.answered);
    let was_wrong = was.is_some_and(|w| w.answered && !w.ok);
    let stale = was_wrong && run.plan.item(&s.entry).is_none();
    match &s.serial {
        None if answered => Err(Stop::Failed(format!("{} does not answer any more", s.place()))),
        None => {
            run.report.notes.push(format!("{} does not answer: what it serves cannot be told", s.place()));
            Ok(())
        }
        Some(serial) => {
            let sentence =
                format!("{} serves serial {serial}, but {} on the disk has {}", s.place(), s.entry, s.expected);
            if !stale {
                return Err(Stop::Failed(sentence));
            }
            run.report.notes.push(format!("{sentence}, as before"));
            Ok(())
        }
    }
}

/// The leaf that an entry has on the disk now.
pub fn on_disk(run: &Run<'_>, entry: &str) -> Result<CertFacts, Stop> {
    let found = run.engine.inventory.get(entry);
    let entry = found.ok_or_else(|| Stop::Failed(format!("{entry} is not in the inventory")))?;
    let bytes = run.engine.host.root.read_secret(entry.path())?;
    let first = parse_pem(&bytes)?.into_iter().next();
    first.ok_or_else(|| Stop::Failed(format!("{} holds no certificate", entry.path().display())))
}

fn credential(run: &mut Run<'_>, name: &str, proof: &Proof) -> Result<(), Stop> {
    run.engine.progress.step(format!("using the new {name}"), REQUEST * 3);
    let seen = run.put_to_use(name, proof, When::Verification)?;
    let refused = seen.proven == Some(false);
    let sentence = format!("the new {name} was refused by {}: {}", seen.against, seen.detail);
    run.report.credentials.push(seen);
    let as_before = run.before.refused.contains(&refusal(name, proof));
    if refused && !as_before { Err(Stop::Failed(sentence)) } else { Ok(()) }
}

/// Waits until the component says that it is healthy, or is no worse than before.
pub fn await_health(run: &mut Run<'_>, component: Component, url: &str, limit: Duration) -> Result<(), Stop> {
    let engine = run.engine;
    // what ails it is none of our business, unless a certificate that had expired was the cause
    let excused =
        (run.before.was_down(component) || run.before.was_ill(component)) && old_still_work(run, run.swapped_at);
    let limit = if excused { limit.min(ILL) } else { limit };
    engine.progress.step(format!("waiting for {component} to say that it is healthy"), limit + REQUEST);
    let exits = Who::component(run, component).ok().map(|who| Exits::of(run, &who));
    let keep_going = || !engine.should_stop() && !exits.as_ref().is_some_and(Exits::looping);
    let identity = identity_for(engine.host, engine.inventory, component);
    let seen = health::await_health(engine.host, component, url, (None, identity.as_ref()), limit, &keep_going);
    if seen.ok {
        return Ok(());
    }
    if engine.should_stop() {
        return Err(Stop::Asked);
    }
    // the API was unavailable before anything was touched: no worse
    let unseen = component == Component::KubeApiserver && run.before.node.is_none();
    if excused || unseen && old_still_work(run, run.swapped_at) {
        run.report.notes.push(format!("{component} is not healthy, as before: {}", seen.detail));
        return Ok(());
    }
    let why = exits.and_then(|e| e.sentence()).unwrap_or(seen.detail);
    Err(Stop::Failed(format!("{component} is not healthy: {why}")))
}

/// What answered before through the API server must do so with the new client certificate. What did not is its own matter.
fn aggregated(run: &mut Run<'_>, name: &str) -> Result<(), Stop> {
    let engine = run.engine;
    let limit = engine.policy.verify.timeout.0;
    for service in run.before.aggregated.clone() {
        engine.progress.step(format!("asking {} through the API server", service.name), limit + REQUEST);
        let seen = aggregate::await_answer(engine.host, engine.inventory, &service, limit, &|| !engine.should_stop());
        if engine.should_stop() && seen.proven != Some(true) {
            return Err(Stop::Asked);
        }
        let refused = seen.proven == Some(false);
        let sentence = format!("the new {name} does not serve for {}: {}", seen.against, seen.detail);
        run.report.credentials.push(CredentialSeen { name: name.to_owned(), ..seen });
        if refused {
            return Err(Stop::Failed(sentence));
        }
    }
    Ok(())
}

fn etcd_as_before(run: &mut Run<'_>) -> Result<(), Stop> {
    let engine = run.engine;
    let limit = engine.policy.verify.timeout.0;
    engine.progress.step("counting etcd's members", limit + REQUEST * 3);
    let until = Deadline::after(engine.host.clock.as_ref(), limit);
    let was = run.before.etcd.as_ref();
    let seen = loop {
        let Some(seen) = etcd::ask(engine.host, engine.inventory) else { return Ok(()) };
        // one that did not answer before is not waited for
        let ill = seen.as_ref().map_or(true, |now| was.is_some_and(|was| is_worse(was, now)));
        let wait = ill && was.is_some() && !until.is_over(engine.host.clock.as_ref());
        if !wait || engine.should_stop() {
            break seen;
        }
        engine.host.clock.sleep(Duration::from_secs(1));
    };
    match (was, seen) {
        (_, Err(_)) if engine.should_stop() => Err(Stop::Asked),
        (Some(was), Ok(now)) if is_worse(was, &now) => Err(Stop::Failed(format!(
            "etcd has {} members, of which {} are well, and had {}, of which {} were",
            now.total, now.healthy, was.total, was.healthy
        ))),
        (Some(_), Err(why)) => Err(Stop::Failed(format!("etcd does not answer any more: {why}"))),
        (None, Err(why)) => {
            run.report.notes.push(format!("etcd's members cannot be told: {why}"));
            Ok(())
        }
        (_, Ok(_)) => Ok(()),
    }
}

/// Members lost, or fewer well than before and no quorum of them. Another member's own trouble is not ours.
fn is_worse(was: &EtcdBefore, now: &Members) -> bool {
    now.total < was.total || (now.healthy < was.healthy && !now.has_quorum())
}

fn node_ready(run: &mut Run<'_>, node: &str) -> Result<(), Stop> {
    let engine = run.engine;
    let (host, mut limit) = (engine.host, engine.policy.verify.timeout.0);
    let announce = |limit: Duration| {
        let time = limit.saturating_mul(2).max(NEXT_REPORT) + REQUEST * 4;
        engine.progress.step(format!("waiting for node {node} to report Ready again"), time);
    };
    announce(limit);
    let Some(to) = answering(host, run.engine.inventory, node) else {
        run.report.notes.push(format!("whether node {node} is Ready cannot be told: no credential to ask with"));
        return Ok(());
    };
    let now = match &run.before.node {
        None => NodeWatch::start(host, &to, node).before().cloned(),
        before => before.clone(),
    };
    let now = now.unwrap_or_default();
    if !now.more_time().is_zero() {
        limit += now.more_time();
        announce(limit);
    }
    let gone = without_restart(run.swapped_at, now.renewal_interval());
    let restart = run.kubelet_restart.clone().unwrap_or_else(|| Restart::at(gone));
    let mut watch = NodeWatch::resume(node, run.before.node.clone());
    if !old_still_work(run, run.swapped_at) {
        watch = watch.demanding_ready(); // an expired certificate was the cause, or hid it
    }
    let (seen, judgement) = watch.await_ready(host, &to, &restart, limit, &|| !engine.should_stop());
    run.report.node = Some(seen);
    match judgement {
        Judgement::Healthy => Ok(()),
        Judgement::CannotTell(_) if engine.should_stop() => Err(Stop::Asked),
        Judgement::CannotTell(why) => {
            run.report.notes.push(format!("whether node {node} is Ready cannot be told: {why}"));
            Ok(())
        }
        Judgement::NotYet(why) | Judgement::Undecided(why) | Judgement::Failed(why) => {
            Err(Stop::Failed(format!("node {node} is not Ready again: {why}")))
        }
    }
}

/// A kubelet that goes on running reports its status every 5 minutes, half as much again when it was spread
/// (kubernetes: `pkg/kubelet/kubelet_node_status.go`, nodeStatusReportFrequency): then a younger heartbeat than this
/// cannot be asked for, and its lease has to tell that it lives.
fn without_restart(at: Timestamp, renewal_interval: Duration) -> Timestamp {
    let since = (renewal_interval * 2).max(Duration::from_secs(10 * 60));
    SignedDuration::try_from(since).ok().and_then(|since| at.checked_sub(since).ok()).unwrap_or(at)
}

/// Whether what the plan replaced could still be used at `now`: nothing else is worth going back to.
pub fn old_still_work(run: &Run<'_>, now: Timestamp) -> bool {
    run.plan.items.iter().all(|i| i.old_not_after.is_some_and(|end| end > now))
}

/// The checks that must hold after a rollback too: the sockets serve what is on the disk, the node is as before.
pub fn checks_of_a_rollback(plan: &Plan) -> Vec<Check> {
    let wanted = |c: &Check| matches!(c, Check::Served(_) | Check::NodeReady { .. });
    let check = |s: &PlannedStep| match &s.step {
        Step::Verify { check } if wanted(check) => Some(check.clone()),
        _ => None,
    };
    plan.steps.iter().filter_map(check).collect()
}
