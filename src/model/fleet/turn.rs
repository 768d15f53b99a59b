//! Whose turn it is: nodes are spread by their name and machine-id, the same after every restart.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::inventory::Role;
use crate::model::policy::Policy;
use crate::model::schedule::Who;

/// How far into a span of time this node's place is.
pub fn share(who: &Who, what: &str, of: Duration) -> Duration {
    Duration::from_secs(who.seed(what) % of.as_secs().max(1))
}

/// How much later than its threshold says a node acts, so that workers come after the control planes and not all at once. No more
/// than half of the time between the threshold and the emergency.
pub fn delay(role: Role, who: &Who, policy: &Policy) -> Duration {
    if role == Role::ControlPlane {
        return Duration::ZERO; // the lock orders them
    }
    let room = policy.renew.renew_before.0.saturating_sub(policy.renew.emergency_before.0) / 4;
    let (after, spread) = (policy.fleet.workers_after.0.min(room), policy.fleet.spread.0.min(room));
    after + share(who, "spread", spread)
}

/// How long after a window has opened a node begins. Not all at the stroke of the hour: control planes have a lock, workers, which may have none,
/// take their places in nearly all of it.
pub fn into_window(role: Role, who: &Who, policy: &Policy) -> Duration {
    let lasts = policy.windows.duration.0;
    let of = if role == Role::ControlPlane { lasts / 4 } else { lasts / 8 * 7 };
    share(who, "window", of)
}

/// Which of the workers' locks a node competes for.
pub fn slot(who: &Who, slots: u64) -> u64 {
    who.seed("slot") % slots.max(1)
}

/// For how long nobody else begins after a renewal. A worker's disturbs nobody but itself.
pub fn settle(role: Role, policy: &Policy) -> Duration {
    let settle = policy.fleet.settle.0;
    if role == Role::ControlPlane { settle } else { settle / 10 }
}

/// When a worker acts that can ask nobody, and from when on it goes without a lock that it has not got: spread over the first half
/// of the emergency.
pub fn worker_alone(who: &Who, end: Timestamp, emergency_before: Duration) -> Timestamp {
    let before = SignedDuration::try_from(emergency_before).unwrap_or_default();
    let share = SignedDuration::try_from(share(who, "dark", emergency_before / 2)).unwrap_or_default();
    end.checked_sub(before).and_then(|begins| begins.checked_add(share)).unwrap_or(end)
}

/// Whether a worker waits, in its emergency, for a lock of which it has seen this very tenure for so long. `alone`: of
/// [`worker_alone`]. Other workers can write the lock, so one that changes it all the time must not hold the others back to their end.
pub fn worker_waits(now: Timestamp, alone: Timestamp, waited: Duration, lasts: Duration) -> bool {
    let longest = lasts.saturating_mul(2);
    now < alone || (waited < longest && !is_late(now, alone, lasts))
}

/// Whether a worker goes on in its emergency though another has taken its lock.
pub fn is_late(now: Timestamp, alone: Timestamp, lasts: Duration) -> bool {
    let longest = SignedDuration::try_from(lasts.saturating_mul(2)).unwrap_or_default();
    alone.checked_add(longest).is_ok_and(|latest| now >= latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::Span;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(n: u32) -> Who {
        Who::of("node", &format!("{n:032x}"))
    }

    #[test]
    fn workers_that_were_cloned_do_not_act_in_one_second_nor_compete_for_one_lease() {
        let policy = Policy::default();
        let clones = || (0..100).map(|n| Who::of(&format!("w{n}"), ""));
        let delays: std::collections::BTreeSet<Duration> =
            clones().map(|who| delay(Role::Worker, &who, &policy)).collect();
        assert!(delays.len() > 90, "{} for 100 nodes", delays.len());
        let slots: std::collections::BTreeSet<u64> = clones().map(|who| slot(&who, 10)).collect();
        assert_eq!(slots.len(), 10);
    }

    #[test]
    fn workers_act_after_the_control_planes_spread_over_the_time_they_are_given() {
        let policy = Policy::default();
        assert_eq!(delay(Role::ControlPlane, &node(0), &policy), Duration::ZERO);
        let delays: Vec<u64> = (0..1000).map(|n| delay(Role::Worker, &node(n), &policy).as_secs()).collect();
        let (after, spread) = (policy.fleet.workers_after.0.as_secs(), policy.fleet.spread.0.as_secs());
        assert!(delays.iter().all(|d| (after..after + spread).contains(d)));
        let first_half = delays.iter().filter(|d| **d < after + spread / 2).count();
        assert!((400..600).contains(&first_half), "{first_half} of 1000 in the first half");
    }

    #[test]
    fn workers_take_places_in_nearly_all_of_a_window_and_none_after_it() {
        let policy = Policy::default();
        let lasts = policy.windows.duration.0;
        let places: Vec<Duration> = (0..1000).map(|n| into_window(Role::Worker, &node(n), &policy)).collect();
        assert!(places.iter().all(|place| *place < lasts / 8 * 7), "the last one has to end in time");
        let late = places.iter().filter(|place| **place > lasts / 2).count();
        assert!((350..500).contains(&late), "{late} of 1000 in the second half");
    }

    #[test]
    fn a_short_life_leaves_less_time_to_spread_and_never_reaches_the_emergency() {
        let mut policy = Policy::default();
        policy.renew.renew_before = Span::secs(7200);
        policy.renew.emergency_before = Span::secs(3600);
        for n in 0..100 {
            assert!(delay(Role::Worker, &node(n), &policy) < Duration::from_secs(1800));
        }
    }

    #[test]
    fn a_lock_that_changes_all_the_time_holds_a_worker_back_for_hours_and_not_to_its_end() {
        let (end, emergency, lasts) = (at(10_000_000), Duration::from_secs(3 * 86_400), Duration::from_secs(1_200));
        for n in 0..100 {
            let alone = worker_alone(&node(n), end, emergency);
            let at = |minutes| alone + SignedDuration::from_mins(minutes);
            assert!(
                worker_waits(at(-1), alone, Duration::MAX, lasts),
                "before its own time it goes without a lock never"
            );
            assert!(!worker_waits(at(0), alone, lasts * 2, lasts), "a holder that never gives it up");
            assert!(worker_waits(at(39), alone, Duration::ZERO, lasts));
            assert!(!worker_waits(at(40), alone, Duration::ZERO, lasts), "a new tenure each time");
            assert!(at(40) < end);
        }
    }

    #[test]
    fn workers_that_go_without_the_lock_are_never_many_at_once() {
        let (end, emergency) = (at(10_000_000), Duration::from_secs(3 * 86_400));
        let mut begins: Vec<i64> = (0..5000).map(|n| worker_alone(&node(n), end, emergency).as_second()).collect();
        begins.sort_unstable();
        assert!(begins.iter().all(|b| (10_000_000 - 3 * 86_400..10_000_000 - 86_400).contains(b)));
        // a worker's transaction takes a minute and a half at most
        let most = begins.iter().map(|b| begins.iter().filter(|other| (*b..*b + 90).contains(*other)).count()).max();
        assert!(most.unwrap() <= 50, "{most:?} of 5000 within a transaction");
    }
}
