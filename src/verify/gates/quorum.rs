//! The gate `quorum`: whether a member of etcd can be spared.

use crate::host::Host;
use crate::model::component::Component;
use crate::model::gate::{Gate, Refusal};
use crate::model::plan::{Item, PlannedStep, Step};
use crate::verify::etcd;

use super::{View, refusal};

/// etcd takes its leaves without a restart; should it not, restarting this member must not end the quorum. Where its own
/// leaves have expired, they may be why the others are away, and renewing them is the only way back.
pub fn quorum(host: &Host, view: View<'_>) -> Option<Refusal> {
    let restarts = |s: &PlannedStep| matches!(s.step, Step::Activate { component: Component::Etcd, .. });
    view.plan.steps.iter().find(|s| restarts(s))?;
    let now = host.clock.now();
    if etcds(view).any(|i| i.old_not_after.is_none_or(|end| end <= now)) {
        return None;
    }
    let members = etcd::ask(host, view.inventory)?.ok()?;
    if members.can_spare_one() {
        return None;
    }
    let well = if members.unhealthy.is_empty() {
        "all of them well".to_owned()
    } else {
        format!("{} of them well (not: {})", members.healthy, members.unhealthy.join(", "))
    };
    let reason = format!("etcd has {} voting members, {well}: none can be spared for a restart", members.voters);
    let remedy = "bring etcd to three healthy members or more; or `renew --force quorum`, since etcd normally takes its \
                  certificates without a restart, and is then restarted only if it does not";
    Some(refusal(Gate::Quorum, reason, remedy))
}

/// What etcd itself uses of the plan's items.
pub fn etcds(view: View<'_>) -> impl Iterator<Item = &Item> {
    let of_etcd = move |i: &&Item| view.inventory.get(&i.name).is_some_and(|e| e.used_by.contains(&Component::Etcd));
    view.plan.items.iter().filter(of_etcd)
}
