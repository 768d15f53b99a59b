//! Slots of time: the rule by which control planes act one at a time where no lock orders them. Each has its own slot in turn,
//! by the rank of its name among all, and begins in the first quarter of it only: so it is done before the next one's begins,
//! even where their clocks differ by a quarter.
//!
//! One rule for three cases, all of them emergencies: nobody answers; somebody holds the lock and does not give it up; a
//! control plane is away, so that nobody knows what it does in its own slot.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A holder that goes on renewing one tenure for so many durations of the lock is not at work: no transaction takes longer
/// than one.
const DEAF_AFTER: u32 = 2;
/// Seconds; a slot cannot be cut into quarters otherwise.
const SHORTEST: i64 = 4;

/// The slots of one control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slots {
    rank: i64,
    count: i64,
    /// In seconds.
    length: i64,
}

/// What a control plane does whose certificates are about to end, while somebody else has the lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Until its slot begins, or until the holder has been waited for.
    Wait { until: Timestamp },
    /// It takes the lock over: from here on others wait for it, and the holder ends before its commit.
    Seize,
    /// The same, and it goes on should it lose the lock again: no slot of its own is left before the end.
    SeizeOrNot,
}

impl Slots {
    /// `names`: of all control planes. A slot is as long as two transactions with their ways back (`lasts`), or as the emergency
    /// allows all of them to have one each.
    pub fn of(me: &str, names: &[String], lasts: Duration, emergency: Duration) -> Self {
        let mut all: Vec<&str> = names.iter().map(String::as_str).chain([me]).collect();
        all.sort_unstable();
        all.dedup();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let rank =
            all.iter().position(|name| *name == me).and_then(|rank| i64::try_from(rank).ok()).unwrap_or_default();
        let room = seconds(emergency) / count.saturating_add(1);
        Self { rank, count, length: seconds(lasts.saturating_mul(2)).min(room).max(SHORTEST) }
    }

    fn cycle(&self) -> i64 {
        self.length.saturating_mul(self.count)
    }

    /// Seconds since this node's last slot began.
    fn since(&self, now: Timestamp) -> i64 {
        now.as_second().saturating_sub(self.rank.saturating_mul(self.length)).rem_euclid(self.cycle())
    }

    /// Whether this node may begin now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.since(now) < self.length / 4
    }

    /// When this node may begin next: now, or when its next slot begins.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        if self.is_open(now) { now } else { self.one_after(now) }
    }

    fn one_after(&self, now: Timestamp) -> Timestamp {
        let begins = now.as_second().saturating_sub(self.since(now)).saturating_add(self.cycle());
        Timestamp::from_second(begins).unwrap_or(Timestamp::MAX)
    }

    /// Whether no later slot of this node is over before `end`.
    fn is_last_before(&self, end: Timestamp, now: Timestamp) -> bool {
        self.one_after(now).as_second().saturating_add(self.length) > end.as_second()
    }

    /// What to do about a lock that another has. `waited`: for how long this very tenure of it has been seen.
    pub fn way(&self, waited: Duration, lasts: Duration, now: Timestamp, end: Timestamp) -> Way {
        if !self.is_open(now) {
            return Way::Wait { until: self.next(now) };
        }
        if self.is_last_before(end, now) {
            return Way::SeizeOrNot;
        }
        if waited >= lasts.saturating_mul(DEAF_AFTER) { Way::Seize } else { Way::Wait { until: self.one_after(now) } }
    }

    /// When a node acts that can ask nobody: in its own slots from the emergency on, but not before `rest` is over, and at once when
    /// what it renews has ended: then there is nothing left to protect.
    pub fn in_the_dark(&self, now: Timestamp, rest: Duration, end: Timestamp, emergency: Duration) -> Timestamp {
        if now >= end {
            return now;
        }
        let before = SignedDuration::try_from(emergency).unwrap_or_default();
        let begins = end.checked_sub(before).unwrap_or(Timestamp::MIN);
        let rested = SignedDuration::try_from(rest).ok().and_then(|rest| now.checked_add(rest).ok()).unwrap_or(end);
        self.next(rested.max(begins)).min(end)
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
