//! Whether this node's member of etcd may be restarted now. Asking how many are well reserves none of them: where there are
//! several, the cluster's lock does, and who cannot tell how many there are does not restart one.

use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::inventory::Role;
use crate::verify::etcd;

use super::verify::old_still_work;
use crate::txn::run::{Run, Stop};

const WHY: &str = "etcd did not take its new certificates by itself, and";

/// Right before its container is stopped.
///
/// # Errors
/// Why not, in a sentence.
pub fn may_restart(run: &mut Run<'_>) -> Result<(), Stop> {
    if run.forced.contains(&Gate::Quorum) {
        return Ok(());
    }
    let several = match etcd::ask(run.engine.host, run.engine.inventory) {
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
    let flags = run.engine.inventory.node.static_pods.get(&Component::Etcd).map(|pod| &pod.flags);
    let initial = || flags.and_then(|f| f.get("initial-cluster")).is_some_and(|list| list.contains(','));
    let company = || run.engine.inventory.node.role == Role::ControlPlane && run.engine.turn.is_some();
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
    let control_plane = run.engine.inventory.node.role == Role::ControlPlane;
    let Some(turn) = run.engine.turn.filter(|_| control_plane) else { return Ok(()) };
    if run.forced.contains(&Gate::ClusterLock) {
        return Ok(());
    }
    let Err(doubt) = turn.is_sure(run.engine.policy.verify.timeout.0) else { return Ok(()) };
    let doubt = format!("the cluster's lock is not certain to be this node's: {doubt}");
    // the way back, and what has no way back, cannot wait; that a member can be spared has just been seen
    if run.going_back || !old_still_work(run, run.now_at_least()) {
        run.report.notes.push(format!("etcd was restarted although {doubt}"));
        return Ok(());
    }
    Err(Stop::Failed(format!("{WHY} no member but one may be restarted at a time: {doubt}")))
}
