//! For how long a node waits: before it asks again whose turn it is, and for others that are ill.
//!
//! How often to ask is a matter of what there is to lose. A control plane asks again within minutes: there are a few of them. Of
//! workers there may be thousands, so each waits as long as its own certificate allows: a small part of the time that is left
//! until its emergency. Whatever their number, they ask more often the less time is left, and of those that have
//! the time for a hundred attempts hardly one gets none. Nobody has to know how many there are.
//!
//! Within that, an attempt comes after a time of which each doubling is equally likely. Most wait long; but some ask soon,
//! whoever they are, so that a holder that died is noticed as such after its Lease has ended, and not after all the others'
//! long waits (its record has to be seen twice by the same node, see [`super::lease`]).

use std::time::Duration;

use crate::model::inventory::Role;
use crate::model::policy::Policy;
use crate::model::schedule::Who;

use super::turn::share;

/// How much more rarely workers ask at the soonest: five thousand that had no time left would ask three times a second.
const WORKERS_MORE_RARELY: u32 = 30;
/// The same where the lock is free in a moment: the last of those who have seen that come after ten minutes.
const WORKERS_SETTLING: u32 = 10;
/// Attempts that a worker has left at least, whenever it asks.
const ATTEMPTS: u32 = 40;
/// Soonest, so that a wait that is nearly over does not become a loop.
const SHORTEST_RETRY: Duration = Duration::from_secs(5);

/// After which it is worth asking whether somebody has ended a pause before its time.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// Between two requests of a worker: it is in no hurry, and thousands of them may begin in the same minute.
pub const PACE: Duration = Duration::from_secs(1);

/// What is known when it is not this node's turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// How many attempts have come to nothing in a row, this one among them.
    pub attempt: u64,
    /// Until the lock can be taken, if nothing happens.
    pub free: Duration,
    /// Nothing can happen before.
    pub settling: bool,
    /// Until this node's emergency begins.
    pub slack: Duration,
}

/// After what time to ask again.
pub fn retry(role: Role, who: &Who, wait: Wait, policy: &Policy) -> Duration {
    let often = policy.fleet.retry.0;
    let name = |what: &str| format!("{what} {}", wait.attempt);
    let base = match role {
        // what settles is free at a known time; what is held may be given up before its end
        Role::ControlPlane if wait.settling => wait.free.max(SHORTEST_RETRY),
        Role::ControlPlane => often.max(SHORTEST_RETRY),
        _ if wait.settling => {
            // whoever sees this has come at the right time, as have others: some at once, so that no time is lost, most later
            let after = often.saturating_mul(WORKERS_SETTLING);
            return wait.free + some_doubling(who, &name("settles"), SHORTEST_RETRY, after);
        }
        _ => {
            let soonest = often.saturating_mul(WORKERS_MORE_RARELY).max(wait.free).max(SHORTEST_RETRY);
            // twice as long each other time, as far as the own deadline allows
            let tries = u32::try_from((wait.attempt / 2).min(16)).unwrap_or(16);
            let longest = (wait.slack / ATTEMPTS).min(soonest.saturating_mul(1 << tries));
            some_doubling(who, &name("wait"), soonest, longest)
        }
    };
    // up to a half more, another one each time: those who met once do not meet again
    base + share(who, &name("retry"), base / 2)
}

/// A time from `shortest` to `longest`, each doubling as likely as the others.
fn some_doubling(who: &Who, what: &str, shortest: Duration, longest: Duration) -> Duration {
    let longest = longest.max(shortest);
    let doublings = (longest.as_secs() / shortest.as_secs().max(1)).max(1).ilog2();
    let drawn = share(who, what, Duration::from_secs(u64::from(doublings) + 1));
    let within = longest / (1 << drawn.as_secs().min(31));
    (within / 2 + share(who, &format!("{what}, within"), within / 2)).max(shortest)
}

/// What holds others back until somebody has seen to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ill {
    /// A control plane is not Ready.
    NotReady,
    /// A renewal has done harm somewhere.
    Harmed,
}

/// For how long others are held back by it, from when it was first seen. `lasts`: the duration of the lock.
///
/// A node that is away is waited for as long as a holder that is silent, and no longer: it says nothing about renewals, it may
/// never come back, and certificates of the others end whether it does or not. What a lost member makes dangerous is left out
/// without it: etcd's leaves wait for a member to spare (gate `quorum`). Harm does say something about renewals: days are
/// there to be used by a person, and are never the last ones, since an emergency overrides them.
pub fn patience(ill: Ill, lasts: Duration, policy: &Policy) -> Duration {
    match ill {
        Ill::NotReady => lasts,
        Ill::Harmed => policy.fleet.patience.0.max(lasts),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    fn waits(node: u64, attempt: u64, free: Duration, slack: Duration) -> Duration {
        let wait = Wait { attempt, free, settling: false, slack };
        retry(Role::Worker, &Who::of("node", &format!("{node:032x}")), wait, &Policy::default())
    }

    #[test]
    fn a_worker_with_weeks_left_asks_a_few_times_a_day_and_one_with_hours_left_twice_an_hour() {
        let mean = |slack: Duration| -> f64 {
            let all: f64 = (0..5000).map(|n| waits(n, 20, 20 * MINUTE, slack).as_secs_f64()).sum();
            all / 5000.0
        };
        let a_day = 86_400.0 / mean(27 * DAY);
        assert!((2.0..8.0).contains(&a_day), "{a_day} requests a day");
        assert!(mean(2 * DAY) < 60.0 * 60.0, "{}", mean(2 * DAY));
        assert!(mean(Duration::ZERO) >= 30.0 * 60.0, "five thousand are three a second");
    }

    #[test]
    fn some_of_those_who_wait_ask_again_as_soon_as_a_holder_that_died_can_be_told_from_one_that_lives() {
        let soon = (0..5000).filter(|n| waits(*n, 20, 20 * MINUTE, 27 * DAY) < 45 * MINUTE).count();
        assert!((500..2000).contains(&soon), "{soon} of 5000");
    }

    #[test]
    fn the_first_attempts_come_soon_so_that_a_small_cluster_is_done_within_hours() {
        for n in 0..100 {
            assert!(waits(n, 1, 20 * MINUTE, 27 * DAY) <= 45 * MINUTE);
            assert!(waits(n, 3, 20 * MINUTE, 27 * DAY) <= 90 * MINUTE);
        }
    }

    #[test]
    fn a_node_that_is_away_holds_the_others_back_for_as_long_as_a_silent_holder_and_harm_for_days() {
        let (policy, lasts) = (Policy::default(), 20 * MINUTE);
        assert_eq!(patience(Ill::NotReady, lasts, &policy), lasts);
        assert_eq!(patience(Ill::Harmed, lasts, &policy), 2 * DAY);
    }

    proptest! {
        #[test]
        fn waiting_never_is_a_loop_nor_forgets(
            id in "[0-9a-f]{32}", attempt in 0_u64..u64::MAX, free in 0_u64..4000, settling: bool, slack in 0_u64..40_000_000,
        ) {
            let (free, slack) = (Duration::from_secs(free), Duration::from_secs(slack));
            let wait = Wait { attempt, free, settling, slack };
            let policy = Policy::default();
            let master = retry(Role::ControlPlane, &Who::of("node", &id), wait, &policy);
            prop_assert!(master >= SHORTEST_RETRY && master <= Duration::from_secs(6000));
            let worker = retry(Role::Worker, &Who::of("node", &id), wait, &policy);
            // however long it has waited already: there are more attempts to come before its emergency
            let least = (30 * MINUTE).max(free);
            let (soonest, longest) =
                if settling { (free + SHORTEST_RETRY, free + 10 * MINUTE) } else { (least, least.max(slack / ATTEMPTS) * 3 / 2) };
            prop_assert!(worker >= soonest && worker <= longest, "{:?}", worker);
        }

        /// Nobody sees a free lock by being sooner than it is free: who asks in vain has not asked for nothing.
        #[test]
        fn what_settles_is_not_asked_for_before_it_is_free(id in "[0-9a-f]{32}", attempt in 0_u64..100, free in 0_u64..3000) {
            let free = Duration::from_secs(free);
            let wait = Wait { attempt, free, settling: true, slack: DAY };
            for role in [Role::ControlPlane, Role::Worker] {
                prop_assert!(retry(role, &Who::of("node", &id), wait, &Policy::default()) >= free);
            }
        }
    }
}
