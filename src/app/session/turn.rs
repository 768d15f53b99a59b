//! How this node's turn is taken before a transaction, or passed over.

use std::slice;
use std::time::Duration;

use crate::fleet::{Cluster, OurTurn};
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::plan::Plan;
use crate::txn::progress::Progress;

/// Some requests to each of some API servers, none of which answers; running workers are waited for besides.
const TURN_LIMIT: Duration = Duration::from_secs(300);

/// Takes the cluster's lock. An emergency, or a person, does not wait for it.
///
/// # Errors
/// The closed gate.
pub(super) fn take<'c>(
    cluster: &'c Cluster<'c>,
    plan: &Plan,
    forced: &[Gate],
    progress: &Progress,
    stop: &dyn Fn() -> bool,
) -> Result<OurTurn<'c>, Refusal> {
    progress.step("asking for the cluster's lock", TURN_LIMIT + cluster.lasts());
    match cluster.take(plan, forced, stop) {
        Ok(lock) => Ok(OurTurn::with(cluster, lock)),
        Err(refusal) if standing(slice::from_ref(&refusal), forced, plan.emergency).is_empty() => {
            tracing::warn!("going on without the cluster's lock: {refusal}");
            Ok(OurTurn::without_lock(cluster))
        }
        Err(refusal) => Err(refusal),
    }
}
