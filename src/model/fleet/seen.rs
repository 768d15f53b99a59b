//! A lock as it was seen last: what must have been seen for its duration before it may be taken from whoever has it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lease::{LONGEST, Record};

/// A record that was seen, and since when it is as it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Seen {
    pub version: String,
    /// By the clock of this machine, since its boot.
    pub since: Duration,
    /// When it was there last, by the same clock.
    pub last: Duration,
    pub holder: String,
    /// Who had it last.
    pub before: String,
    pub seconds: u32,
    pub transitions: u32,
    pub renewed: Option<Timestamp>,
}

impl Seen {
    /// Notices what a record is like now; for how long it must stay so before it may be taken from whoever it names.
    pub fn wait(&mut self, record: &Record, clock: Duration) -> Duration {
        let rest = self.rest(clock);
        // an API that reads the past, or an etcd that was restored: whoever was seen later may be at work
        if !rest.is_zero() && self.is_newer_than(record) {
            return rest.max(lasts(record.seconds));
        }
        // a restored etcd counts its versions anew: one alone does not say that nothing has happened
        let same = self.version == record.version
            && self.holder == record.holder
            && self.transitions == record.transitions
            && self.renewed == record.renewed;
        // a time ahead of the clock is of another boot
        let since = if same && self.since <= clock { self.since } else { clock };
        *self = Self {
            version: record.version.clone(),
            since,
            last: clock,
            holder: record.holder.clone(),
            before: record.last.clone(),
            seconds: record.seconds,
            transitions: record.transitions,
            renewed: record.renewed,
        };
        lasts(record.seconds).saturating_sub(clock.saturating_sub(since))
    }

    /// What is known of it, where it is gone.
    pub fn record(&self) -> Record {
        Record {
            holder: self.holder.clone(),
            last: self.before.clone(),
            seconds: self.seconds,
            transitions: self.transitions,
            ..Record::default()
        }
    }

    /// For how long a lock that was there and is gone counts as held: somebody may have deleted it from under its holder. `me`
    /// has nothing to fear from himself.
    pub fn gone(&self, me: &str, clock: Duration) -> Duration {
        let mine = self.holder == me || (self.holder.is_empty() && self.before == me);
        if mine { Duration::ZERO } else { self.rest(clock) }
    }

    /// What is left of its duration, counted from when it was there last.
    fn rest(&self, clock: Duration) -> Duration {
        if self.version.is_empty() || self.last > clock || self.since > self.last {
            return Duration::ZERO;
        }
        lasts(self.seconds).saturating_sub(clock.saturating_sub(self.last))
    }

    fn is_newer_than(&self, record: &Record) -> bool {
        let number = |version: &str| version.parse::<u64>().ok();
        let by_version = number(&record.version).zip(number(&self.version)).is_some_and(|(theirs, ours)| theirs < ours);
        by_version || record.transitions < self.transitions
    }
}

fn lasts(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn record(version: &str, holder: &str, transitions: u32) -> Record {
        Record { version: version.into(), holder: holder.into(), seconds: 100, transitions, ..Record::default() }
    }

    #[test]
    fn a_lease_that_was_deleted_counts_as_held_for_its_duration_from_when_it_was_there_last() {
        let mut seen = Seen::default();
        assert_eq!(seen.gone("b", secs(5000)), secs(0), "it never was there");
        seen.wait(&record("7", "a", 1), secs(10));
        seen.wait(&record("7", "a", 1), secs(60));
        assert_eq!(seen.gone("b", secs(70)), secs(90));
        assert_eq!(seen.gone("b", secs(160)), secs(0));
        assert_eq!(seen.gone("a", secs(70)), secs(0), "the own one");
        assert_eq!(seen.gone("b", secs(5)), secs(0), "of another boot");
    }

    #[test]
    fn an_etcd_that_was_restored_frees_no_lock_that_was_seen_to_be_held_since() {
        let mut seen = Seen::default();
        let free = Record { seconds: 1, ..record("5", "", 1) };
        seen.wait(&free, secs(0));
        seen.wait(&record("9", "a", 2), secs(10));
        // the free record of before is there again
        assert_eq!(seen.wait(&free, secs(50)), secs(60));
        assert_eq!(seen.wait(&free, secs(109)), secs(1));
        seen.wait(&free, secs(110));
        assert_eq!(seen.wait(&free, secs(111)), secs(0));
    }

    #[test]
    fn a_version_that_comes_twice_is_not_the_same_record() {
        let mut seen = Seen::default();
        seen.wait(&record("7", "a", 1), secs(0));
        assert_eq!(seen.wait(&record("7", "a", 1), secs(100)), secs(0));
        assert_eq!(seen.wait(&record("7", "c", 1), secs(100)), secs(100));
        let renewed = Record { renewed: Timestamp::from_second(1).ok(), ..record("7", "c", 1) };
        assert_eq!(seen.wait(&renewed, secs(200)), secs(100));
    }
}
