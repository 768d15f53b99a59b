//! When this node may act by its own rules: maintenance windows, frozen periods, a pause, its place among many.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::Host;
use crate::host::zone::zone;
use crate::model::fleet::turn;
use crate::model::fleet::window::{Moment, Windows};
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::{Inventory, Role};
use crate::model::policy::{Lock, Policy, Span, Threshold};
use crate::model::repair::CLIENT;
use crate::model::schedule::Who;

use super::pause;

/// This node among many.
pub fn who(host: &Host, inventory: &Inventory) -> Who {
    let machine_id = host.root.read_text(Path::new("/etc/machine-id")).unwrap_or_default();
    Who::of(inventory.node.name.as_deref().unwrap_or_default(), &machine_id)
}

/// The gates `window` and `paused` as far as this node knows.
pub fn closed(host: &Host, policy: &Policy) -> Vec<Refusal> {
    let now = host.clock.now();
    let mut found = Vec::new();
    if let Moment::Closed { opens, frozen } = moment(policy, now) {
        let why = if frozen { "this is a frozen period" } else { "this is outside of the maintenance windows" };
        let next = opens.map_or_else(|| "none is to come".to_owned(), |at| format!("the next opens at {at:.0}"));
        let remedy = "wait for it, or `renew --force window`";
        found.push(Refusal::new(Gate::Window, format!("{why}; {next}"), remedy).until(opens));
    }
    if let Some(pause) = pause::read(&host.root, now) {
        let remedy = "`certwarden resume` ends it; `renew --force paused` passes by";
        let refusal = Refusal::new(Gate::Paused, format!("this node is paused {pause}"), remedy).until(pause.until);
        found.push(Refusal { doubts_emergency: pause.hard, ..refusal });
    }
    found
}

fn windows(policy: &Policy) -> Windows {
    // what the configuration's own rules have refused does not come here
    Windows::of(policy, &zone).unwrap_or_default()
}

fn moment(policy: &Policy, now: Timestamp) -> Moment {
    windows(policy).moment(now, policy.renew.renew_before.0)
}

/// When the window closes that is open now.
pub fn closes(policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    windows(policy).closes(now)
}

/// This worker's place in the window that is open now, if it is still to come. Control planes have a lock.
pub fn place(host: &Host, policy: &Policy, inventory: &Inventory) -> Option<Timestamp> {
    let now = host.clock.now();
    let opened = windows(policy).open_since(now).filter(|_| inventory.node.role != Role::ControlPlane)?;
    in_window(host, policy, inventory, opened).filter(|at| *at > now)
}

fn in_window(host: &Host, policy: &Policy, inventory: &Inventory, opens: Timestamp) -> Option<Timestamp> {
    let into = turn::into_window(inventory.node.role, &who(host, inventory), policy);
    opens.checked_add(SignedDuration::try_from(into).ok()?).ok()
}

/// The policy by which the daemon decides what is due at this moment: in the last window before a deadline earlier than by age
/// alone, outside of windows only emergencies, on workers later than on control planes.
pub fn policy_now(host: &Host, policy: &Policy, inventory: &Inventory) -> Policy {
    let delay = match policy.fleet.lock {
        Lock::Auto => turn::delay(inventory.node.role, &who(host, inventory), policy),
        Lock::Off => Duration::ZERO,
    };
    let emergency = policy.renew.emergency_before.0;
    let mut now = policy.clone();
    let before = match moment(policy, host.clock.now()) {
        Moment::Open { renew_before, .. } if renew_before == policy.renew.renew_before.0 => {
            renew_before.saturating_sub(delay)
        }
        Moment::Open { renew_before, next } => {
            now.renew.next_window = next.map(Span);
            renew_before
        }
        Moment::Closed { .. } => emergency,
    };
    now.renew.renew_before = Span(before.max(emergency));
    // the kubelet rotates by itself long before; its own threshold only moves back
    let life =
        inventory.get(CLIENT).and_then(|e| e.leaf()).map_or(0, |c| c.not_after.duration_since(c.not_before).as_secs());
    let own = u64::try_from(policy.kubelet.renew_before.seconds(life)).unwrap_or_default();
    let own = Duration::from_secs(own);
    let closed = before == emergency && before != policy.renew.renew_before.0;
    let later = if closed { own.min(emergency) } else { own.saturating_sub(delay).max(emergency.min(own)) };
    if later != own {
        now.kubelet.renew_before = Threshold::Time(Span(later));
    }
    now
}

/// When the daemon will act on what is due by its age, if nothing is in the way then: `ends` are the ends of what is due.
pub fn acts_at(
    host: &Host,
    policy: &Policy,
    inventory: &Inventory,
    ends: impl Iterator<Item = Timestamp>,
) -> Option<Timestamp> {
    let now = host.clock.now();
    if let Some(pause) = pause::read(&host.root, now) {
        return pause.until;
    }
    if let Moment::Closed { opens, .. } = moment(policy, now) {
        return in_window(host, policy, inventory, opens?);
    }
    if let Some(at) = place(host, policy, inventory) {
        return Some(at);
    }
    let before = SignedDuration::try_from(policy_now(host, policy, inventory).renew.renew_before.0).ok()?;
    ends.filter_map(|end| end.checked_sub(before).ok()).min().filter(|at| *at > now)
}
