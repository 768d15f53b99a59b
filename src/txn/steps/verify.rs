//! Proof by use: whether the node is well again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::health::Judgement;
use crate::model::plan::{Check, Plan, PlannedStep, Proof, Socket, Step};
use crate::model::report::{CredentialSeen, When};
use crate::txn::before::refusal;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::verify::api::answering;
use crate::verify::node::{NEXT_REPORT, NodeWatch, Restart};
use crate::verify::served::{Expected, await_served};
use crate::verify::{REQUEST, aggregate};

use super::etcd::as_before;
use super::health::await_health;
use super::rehearse::put_to_use;

/// For a socket on which nobody answered before either.
const SILENT: Duration = Duration::from_secs(30);

/// One check of the plan; what cannot be told is noted and passes.
pub fn verify(run: &mut Run<'_>, check: &Check) -> Result<(), Stop> {
    let limit = run.context.policy.verify.timeout.0;
    match check {
        Check::Served(socket) => socket_serves(run, socket, limit),
        Check::Health { component, url } => await_health(run, *component, url, limit),
        Check::EtcdMembers { .. } => as_before(run),
        Check::Credential { name, proof } => credential(run, name, proof),
        Check::Aggregated { name } => aggregated(run, name),
        Check::NodeReady { node } => node_ready(run, node),
    }
}

fn socket_serves(run: &mut Run<'_>, socket: &Socket, limit: Duration) -> Result<(), Stop> {
    let context = run.context;
    let was = run.before.socket(socket).cloned();
    // what did not answer before is not waited for as if it had
    let limit = if was.as_ref().is_some_and(|w| w.answered) { limit } else { limit.min(SILENT) };
    context.progress.step(format!("asking {socket} what it serves"), limit + REQUEST);
    let expected = [Expected { socket: socket.clone(), serial: run.on_disk(&socket.entry)?.serial }];
    let seen = await_served(context.host, &expected, None, limit, &|| !context.should_stop());
    let wrong = seen.iter().find(|s| !s.ok).cloned();
    run.report.sockets.extend(seen);
    let Some(s) = wrong else { return Ok(()) };
    if context.should_stop() {
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

fn credential(run: &mut Run<'_>, name: &str, proof: &Proof) -> Result<(), Stop> {
    run.context.progress.step(format!("using the new {name}"), REQUEST * 3);
    let seen = put_to_use(run, name, proof, When::Verification)?;
    let refused = seen.proven == Some(false);
    let sentence = format!("the new {name} was refused by {}: {}", seen.against, seen.detail);
    run.report.credentials.push(seen);
    let as_before = run.before.refused.contains(&refusal(name, proof));
    if refused && !as_before { Err(Stop::Failed(sentence)) } else { Ok(()) }
}

/// What answered before through the API server must do so with the new client certificate. What did not is its own matter.
fn aggregated(run: &mut Run<'_>, name: &str) -> Result<(), Stop> {
    let context = run.context;
    let limit = context.policy.verify.timeout.0;
    for service in run.before.aggregated.clone() {
        context.progress.step(format!("asking {} through the API server", service.name), limit + REQUEST);
        let seen =
            aggregate::await_answer(context.host, context.inventory, &service, limit, &|| !context.should_stop());
        if context.should_stop() && seen.proven != Some(true) {
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

fn node_ready(run: &mut Run<'_>, node: &str) -> Result<(), Stop> {
    let context = run.context;
    let (host, mut limit) = (context.host, context.policy.verify.timeout.0);
    let announce = |limit: Duration| {
        let time = limit.saturating_mul(2).max(NEXT_REPORT) + REQUEST * 4;
        context.progress.step(format!("waiting for node {node} to report Ready again"), time);
    };
    announce(limit);
    let Some(to) = answering(host, run.context.inventory, node) else {
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
    let gone = without_restart(run.live.swapped_at, now.renewal_interval());
    let restart = run.live.kubelet.restart.clone().unwrap_or_else(|| Restart::at(gone));
    let mut watch = NodeWatch::resume(node, run.before.node.clone());
    if !run.old_still_work(run.live.swapped_at) {
        watch = watch.demanding_ready(); // an expired certificate was the cause, or hid it
    }
    let (seen, judgement) = watch.await_ready(host, &to, &restart, limit, &|| !context.should_stop());
    run.report.node = Some(seen);
    match judgement {
        Judgement::Healthy => Ok(()),
        Judgement::CannotTell(_) if context.should_stop() => Err(Stop::Asked),
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

/// The checks that must hold after a rollback too: the sockets serve what is on the disk, the node is as before.
pub fn checks_of_a_rollback(plan: &Plan) -> Vec<Check> {
    let wanted = |c: &Check| matches!(c, Check::Served(_) | Check::NodeReady { .. });
    let check = |s: &PlannedStep| match &s.step {
        Step::Verify { check } if wanted(check) => Some(check.clone()),
        _ => None,
    };
    plan.steps.iter().filter_map(check).collect()
}
