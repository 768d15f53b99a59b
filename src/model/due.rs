//! What this node renews now by itself, and what it puts off: one decision for the session, the daemon's loop, its status and
//! its metrics.
//!
//! The assessment says what is due by its age. That is what a person sees and may ask for at any time. By itself a node
//! also minds what the operator says about time (maintenance windows, frozen periods, a pause) and that it is one of many
//! (workers come after the control planes, and each has a place of its own in a window). An emergency overrides all of it
//! but a pause that is meant for emergencies, too.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::assess::Assessment;
use super::fleet::notes::Pause;
use super::fleet::turn;
use super::fleet::window::{Moment, Windows};
use super::gate::{Gate, Refusal, standing};
use super::inventory::{Inventory, Role};
use super::policy::{DueBefore, Lock, Policy, Span, Threshold};
use super::repair::CLIENT;
use super::schedule::Who;

/// What waits for nothing whose time is known is checked again then.
const LONG: SignedDuration = SignedDuration::from_hours(24);

/// What a node has to mind besides the age of its certificates.
#[derive(Clone, Debug)]
pub struct Timing {
    pub windows: Windows,
    /// Of this node, and not over.
    pub pause: Option<Pause>,
    pub role: Role,
    /// This node among many: its places follow from it.
    pub who: Who,
}

/// What is to be done at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    pub due: Due,
    /// The time left at which something is due at this moment.
    pub threshold: DueBefore,
}

/// What is due, by logical names, without what `renew.exclude` names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Due {
    Nothing,
    /// To be renewed now. What is due by its age only is not among it where an emergency is all that may be renewed.
    Now(Vec<String>),
    Later(Later),
}

/// What is due and has to wait.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Later {
    pub names: Vec<String>,
    /// When this node will act, if nothing else is in the way then.
    pub until: Timestamp,
    /// A clause, for a person.
    pub why: String,
}

/// The decision at `now`, which is when the node was assessed by the age of its certificates. Pure.
pub fn decide(
    inventory: &Inventory,
    assessment: &Assessment,
    policy: &Policy,
    timing: &Timing,
    now: Timestamp,
) -> Decision {
    let threshold = timing.threshold(inventory, policy, now);
    let names = |assessment: &Assessment| -> Vec<String> {
        let due = assessment.due().map(|j| j.name.clone());
        due.filter(|name| !policy.renew.exclude.contains(name)).collect()
    };
    let by_age = names(assessment);
    let later = |names: Vec<String>, why: String| {
        let ends = assessment.due().filter_map(|j| j.effective_end);
        let until = timing.acts_at(&threshold, policy, ends, now);
        let until = until.or_else(|| now.checked_add(LONG).ok()).unwrap_or(Timestamp::MAX);
        Due::Later(Later { names, until, why })
    };
    let emergency = assessment.emergency();
    let closed = closed(&timing.windows, timing.pause.as_ref(), policy, now);
    let closed = standing(&closed, &[], emergency).into_iter().next();
    let due = match closed {
        Some(_) if by_age.is_empty() => Due::Nothing,
        Some(closed) => later(by_age, closed.reason),
        None => match (names(&assessment.clone().by(&threshold, inventory)), timing.place(policy, now)) {
            (due, _) if due.is_empty() && by_age.is_empty() => Due::Nothing,
            (due, _) if due.is_empty() => {
                let why = format!("due by age, not yet by the time given to this node: {}", by_age.join(", "));
                later(by_age, why)
            }
            (due, Some(place)) if !emergency => {
                later(due, format!("this node's place in the maintenance window is at {place:.0}"))
            }
            (due, _) => Due::Now(due),
        },
    };
    Decision { due, threshold }
}

/// The gates `window` and `paused`, as far as this node itself knows.
pub fn closed(windows: &Windows, pause: Option<&Pause>, policy: &Policy, now: Timestamp) -> Vec<Refusal> {
    let mut found = Vec::new();
    if let Moment::Closed { opens, frozen } = windows.moment(now, policy.renew.renew_before.0) {
        let why = if frozen { "this is a frozen period" } else { "this is outside of the maintenance windows" };
        let next = opens.map_or_else(|| "none is to come".to_owned(), |at| format!("the next opens at {at:.0}"));
        let remedy = "wait for it, or `renew --force window`";
        found.push(Refusal::new(Gate::Window, format!("{why}; {next}"), remedy).until(opens));
    }
    if let Some(pause) = pause {
        let remedy = "`certwarden resume` ends it; `renew --force paused` overrides it";
        let refusal = Refusal::new(Gate::Paused, format!("this node is paused {pause}"), remedy).until(pause.until);
        found.push(Refusal { doubts_emergency: pause.hard, ..refusal });
    }
    found
}

impl Timing {
    /// The time left at which something is due at `now`: in the last window before a deadline earlier than by age alone, outside
    /// of windows only emergencies, on workers later than on control planes.
    pub fn threshold(&self, inventory: &Inventory, policy: &Policy, now: Timestamp) -> DueBefore {
        let by_age = DueBefore::by_age(policy);
        let delay = match policy.fleet.lock {
            Lock::Auto => turn::delay(self.role, &self.who, policy),
            Lock::Off => Duration::ZERO,
        };
        let (usual, emergency) = (policy.renew.renew_before.0, policy.renew.emergency_before.0);
        let moment = self.windows.moment(now, usual);
        let (before, next_window) = match moment {
            Moment::Open { renew_before, .. } if renew_before == usual => (usual.saturating_sub(delay), None),
            Moment::Open { renew_before, next } => (renew_before, next.map(Span)),
            Moment::Closed { .. } => (emergency, None),
        };
        // the kubelet rotates by itself long before; its own threshold only moves back
        let life = inventory.get(CLIENT).and_then(|e| e.leaf());
        let life = life.map_or(0, |c| c.not_after.duration_since(c.not_before).as_secs());
        let own = Duration::from_secs(u64::try_from(by_age.kubelet.seconds(life)).unwrap_or_default());
        let later = match moment {
            Moment::Closed { .. } => own.min(emergency),
            Moment::Open { .. } => own.saturating_sub(delay).max(emergency.min(own)),
        };
        let kubelet = if later == own { by_age.kubelet } else { Threshold::Time(Span(later)) };
        DueBefore { renew_before: Span(before.max(emergency)), next_window, kubelet, ..by_age }
    }

    /// This worker's place in the window that is open now, if it is still to come. Control planes have a lock.
    fn place(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        let opened = self.windows.open_since(now).filter(|_| self.role != Role::ControlPlane)?;
        self.in_window(policy, opened).filter(|at| *at > now)
    }

    fn in_window(&self, policy: &Policy, opens: Timestamp) -> Option<Timestamp> {
        let into = turn::into_window(self.role, &self.who, policy);
        opens.checked_add(SignedDuration::try_from(into).ok()?).ok()
    }

    /// When this node acts on what ends at `ends`, if nothing else is in the way then. None: nobody knows.
    fn acts_at(
        &self,
        threshold: &DueBefore,
        policy: &Policy,
        ends: impl Iterator<Item = Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if let Some(pause) = &self.pause {
            return pause.until;
        }
        if let Moment::Closed { opens, .. } = self.windows.moment(now, policy.renew.renew_before.0) {
            return self.in_window(policy, opens?);
        }
        if let Some(at) = self.place(policy, now) {
            return Some(at);
        }
        let before = SignedDuration::try_from(threshold.renew_before.0).ok()?;
        ends.filter_map(|end| end.checked_sub(before).ok()).min().filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests;
