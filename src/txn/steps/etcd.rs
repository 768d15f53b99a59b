//! Whether this node's member of etcd may be restarted now. Asking how many are well reserves none of them: where there are
//! several, the cluster's lock does, and who cannot tell how many there are does not restart one.

use std::time::Duration;

use crate::host::clock::Deadline;
use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::inventory::Role;
use crate::txn::before::EtcdBefore;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::verify::REQUEST;
use crate::verify::etcd::{self, Members};

const WHY: &str = "etcd did not take its new certificates by itself, and";

/// Right before its container is stopped.
///
/// # Errors
/// Why not, in a sentence.
pub fn may_restart(run: &mut Run<'_>) -> Result<(), Stop> {
    if run.before.forced.contains(&Gate::Quorum) {
        return Ok(());
    }
    let several = match etcd::ask(run.context.host, run.context.inventory) {
        Some(Ok(m)) if !m.can_spare_one() => {
            return Err(Stop::Failed(format!(
                "{WHY} restarting one of {} members, of which {} are well, would lose the quorum",
                m.voters, m.healthy
            )));
        }
        Some(Ok(m)) => m.total > 1,
        unknown => {
            if let Some(hint) = hint_of_several(run) {
                let why = unknown.and_then(Result::err).unwrap_or_else(|| "there is nothing to ask with".to_owned());
                return Err(Stop::Failed(format!(
                    "{WHY} its members cannot be asked whether one can be spared, and there are several by {hint}: {why}"
                )));
            }
            false
        }
    };
    if several { is_reserved(run) } else { Ok(()) }
}

/// What says that there is more than one member.
fn hint_of_several(run: &Run<'_>) -> Option<&'static str> {
    let before = || run.before.etcd.as_ref().is_some_and(|was| was.total > 1);
    let flags = run.context.inventory.node.static_pods.get(&Component::Etcd).map(|pod| &pod.flags);
    let initial = || flags.and_then(|f| f.get("initial-cluster")).is_some_and(|list| list.contains(','));
    let company = || run.context.inventory.node.role == Role::ControlPlane && run.context.turn.is_some();
    let hints: [(&dyn Fn() -> bool, &str); 3] = [
        (&before, "what it listed before"),
        (&initial, "its flag --initial-cluster"),
        (&company, "the other control planes that are known"),
    ];
    hints.into_iter().find_map(|(is_so, hint)| is_so().then_some(hint))
}

/// Whether nobody else restarts a member meanwhile. Hosts of etcd alone have no lock, nor has who has switched it off: there
/// it is the quorum only that is asked for.
fn is_reserved(run: &mut Run<'_>) -> Result<(), Stop> {
    let control_plane = run.context.inventory.node.role == Role::ControlPlane;
    let Some(turn) = run.context.turn.filter(|_| control_plane) else { return Ok(()) };
    if run.before.forced.contains(&Gate::ClusterLock) {
        return Ok(());
    }
    let Err(doubt) = turn.is_sure(run.context.policy.verify.timeout.0) else { return Ok(()) };
    let doubt = format!("the cluster's lock is not certain to be this node's: {doubt}");
    // the way back, and what has no way back, cannot wait; that a member can be spared has just been seen
    if run.live.going_back || !run.old_still_work(run.now_at_least()) {
        run.report.notes.push(format!("etcd was restarted although {doubt}"));
        return Ok(());
    }
    Err(Stop::Failed(format!("{WHY} no member but one may be restarted at a time: {doubt}")))
}

/// Counts the members, which must be as many as before and as healthy.
pub fn as_before(run: &mut Run<'_>) -> Result<(), Stop> {
    let context = run.context;
    let limit = context.policy.verify.timeout.0;
    context.progress.step("counting etcd's members", limit + REQUEST * 3);
    let until = Deadline::after(context.host.clock.as_ref(), limit);
    let was = run.before.etcd.as_ref();
    let seen = loop {
        let Some(seen) = etcd::ask(context.host, context.inventory) else { return Ok(()) };
        // one that did not answer before is not waited for
        let ill = seen.as_ref().map_or(true, |now| was.is_some_and(|was| is_worse(was, now)));
        let wait = ill && was.is_some() && !until.is_over(context.host.clock.as_ref());
        if !wait || context.should_stop() {
            break seen;
        }
        context.host.clock.sleep(Duration::from_secs(1));
    };
    match (was, seen) {
        (_, Err(_)) if context.should_stop() => Err(Stop::Asked),
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
