//! When to look next. Pure arithmetic on wall-clock time: whoever sleeps must compare with the wall clock again
//! at least every minute, because monotonic sleeps neither see clock steps nor advance in suspend.

use jiff::{SignedDuration, Timestamp};

use super::policy::Span;

/// Before the first look after a start: services that start beside us at boot get to settle.
const FIRST_AFTER: i64 = 2;
/// Spread of the first look: a fleet that is rebooted or upgraded at once does not look at once.
const FIRST_SPREAD: u64 = 8;
/// First pause after a rollback; doubles each time (docs/architecture.md, "The transaction").
const BACK_OFF_FIRST: i64 = 3_600;
/// Longest pause after rollbacks.
const BACK_OFF_LONGEST: i64 = 86_400;

/// First pause after a recovery that something passing has hindered: a mount that comes late at boot is there by then.
const RETRY_FIRST: i64 = 60;
/// Longest pause after such recoveries: files may be half new meanwhile.
const RETRY_LONGEST: i64 = 3_600;

/// A node among many, for what is spread by chance: the same after every restart, another one for each node. Its name is part of
/// it, because machines that were cloned have the same `/etc/machine-id`, and some have an empty one: by that alone they would
/// all act in the same second.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Who(String);

impl Who {
    /// `machine_id`: the text of `/etc/machine-id`, whatever it is.
    pub fn of(name: &str, machine_id: &str) -> Self {
        let machine_id = machine_id.trim();
        Self(if name.is_empty() { machine_id.to_owned() } else { format!("{name}/{machine_id}") })
    }

    /// This node's number for one matter: unrelated to those of others, and to those for other matters.
    pub fn seed(&self, what: &str) -> u64 {
        seed(&format!("{}/{what}", self.0))
    }
}

/// The rhythm of one node: the same after every restart, different from that of its neighbours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedule {
    interval: i64,
    seed: u64,
}

impl Schedule {
    pub fn new(interval: Span, who: &Who) -> Self {
        Self { interval: interval.seconds().max(1), seed: seed(&who.0) }
    }

    /// The same rhythm at another pace, after a reload.
    #[must_use]
    pub fn with_interval(self, interval: Span) -> Self {
        Self { interval: interval.seconds().max(1), ..self }
    }

    /// The first look after a start.
    pub fn first(&self, start: Timestamp) -> Timestamp {
        plus(start, FIRST_AFTER + i64::try_from(self.seed % FIRST_SPREAD).unwrap_or(0))
    }

    /// The next look after `now`: the node's own instants are those whose Unix time leaves its own remainder when
    /// divided by the interval. Nodes spread over the whole interval, and each keeps its minute across restarts.
    /// At least a tenth of the interval away, so that a start does not look twice in a row.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let phase = i64::try_from(self.seed % self.interval.unsigned_abs()).unwrap_or(0);
        let since = (now.as_second() - phase).rem_euclid(self.interval);
        let wait = self.interval - since;
        plus(now, if wait < self.interval / 10 { wait + self.interval } else { wait })
    }

    /// `next`, unless it is so far away that the clock must have been set back since it was computed.
    pub fn repaired(&self, next: Timestamp, now: Timestamp) -> Timestamp {
        let farthest = plus(now, self.interval + self.interval / 10).max(self.first(now));
        if next > farthest { self.next(now) } else { next }
    }
}

/// How long nothing is renewed after `failures` rollbacks in a row: an hour, doubling to a day.
pub fn back_off(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16); // far beyond the longest, far below an overflow
    SignedDuration::from_secs((BACK_OFF_FIRST << doublings).min(BACK_OFF_LONGEST))
}

/// The end of a back-off that begins at `now`.
pub fn back_off_until(failures: u32, now: Timestamp) -> Timestamp {
    plus(now, back_off(failures).as_secs())
}

/// `until`, unless the clock was set back since: a back-off never lasts longer than it was meant to.
pub fn repaired_until(until: Timestamp, failures: u32, now: Timestamp) -> Timestamp {
    until.min(back_off_until(failures, now))
}

/// When a recovery is tried again that was hindered `times` times in a row: after a minute, doubling to an hour.
pub fn retry_at(times: u32, now: Timestamp) -> Timestamp {
    let doublings = times.saturating_sub(1).min(16); // far beyond the longest, far below an overflow
    plus(now, (RETRY_FIRST << doublings).min(RETRY_LONGEST))
}

fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// FNV-1a over the text, then the finaliser of `SplitMix64`: machine-ids that differ in one digit give unrelated seeds.
/// Not the standard library's hasher, which may change between releases: a node would move its minute at an upgrade.
pub fn seed(text: &str) -> u64 {
    let fnv = text
        .trim()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut z = fnv.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const ID: &str = "4c1e7b2a9f0d4e6b8a3c5d7e9f1b2d3c\n";

    #[test]
    fn the_rhythm_is_pinned_so_that_an_upgrade_does_not_move_it() {
        // FNV-1a's published test vector for "a", before the finaliser
        assert_eq!(seed("a"), {
            let mut z = 0xaf63_dc4c_8601_ec8c_u64.wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        assert_eq!(seed(ID), seed(ID.trim()), "the newline of the file does not count");
    }

    #[test]
    fn machines_that_were_cloned_or_have_no_id_spread_by_their_names() {
        for id in [ID, ""] {
            let phase = |n: u32| {
                let schedule = Schedule::new(Span::secs(3600), &Who::of(&format!("w{n}"), id));
                schedule.next(at(0)).as_second() % 3600
            };
            let mut phases: Vec<i64> = (0..100).map(phase).collect();
            phases.sort_unstable();
            phases.dedup();
            assert!(phases.len() > 90, "{} seconds for 100 nodes", phases.len());
        }
        assert_ne!(Who::of("w1", ID).seed("spread"), Who::of("w2", ID).seed("spread"));
        assert_eq!(Who::of("w1", ID), Who::of("w1", ID.trim()));
    }

    #[test]
    fn nodes_spread_over_the_whole_interval() {
        let phases: Vec<i64> = (0..1000)
            .map(|n| {
                Schedule::new(Span::secs(3600), &Who::of("node", &format!("{n:032x}"))).next(at(0)).as_second() % 3600
            })
            .collect();
        for quarter in 0..4 {
            let there = phases.iter().filter(|p| **p / 900 == quarter).count();
            assert!((150..350).contains(&there), "{there} of 1000 nodes in quarter {quarter}");
        }
    }

    #[test]
    fn back_off_doubles_from_an_hour_to_a_day() {
        let hours: Vec<i64> = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|n| back_off(n).as_hours()).into();
        assert_eq!(hours, [1, 1, 2, 4, 8, 16, 24, 24, 24]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_postpone_a_look_for_years() {
        let schedule = Schedule::new(Span::secs(3600), &Who::of("node", ID));
        let (wrong, right) = (at(4_000_000_000), at(1_700_000_000));
        let next = schedule.repaired(schedule.next(wrong), right);
        assert!(next <= plus(right, 3960), "{next}");
        let until = repaired_until(back_off_until(1, wrong), 1, right);
        assert_eq!(until, plus(right, 3600));
    }

    proptest! {
        #[test]
        fn the_next_look_is_ahead_and_at_most_an_interval_and_a_tenth_away(
            now in 0_i64..4_000_000_000, interval in 60_u64..1_000_000, id in "[0-9a-f]{32}",
        ) {
            let schedule = Schedule::new(Span::secs(interval), &Who::of("node", &id));
            let interval = i64::try_from(interval).unwrap();
            let wait = schedule.next(at(now)).as_second() - now;
            prop_assert!(wait > 0 && wait >= interval / 10 && wait <= interval + interval / 10, "{}", wait);
            prop_assert_eq!(schedule.repaired(schedule.next(at(now)), at(now)), schedule.next(at(now)));
            let first = schedule.first(at(now)).as_second() - now;
            prop_assert!((2..10).contains(&first), "{}", first);
        }

        #[test]
        fn a_restart_keeps_the_rhythm(now in 0_i64..4_000_000_000, later in 0_i64..3_000) {
            let schedule = Schedule::new(Span::secs(3600), &Who::of("node", ID));
            let (a, b) = (schedule.next(at(now)), schedule.next(at(now + later)));
            prop_assert_eq!((b.as_second() - a.as_second()).rem_euclid(3600), 0);
        }
    }
}
