//! What a control plane remembers of a time in which it could ask nobody. Others may act in slots of their own then, unseen, and
//! who held the lock before may still be at work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times are since boot.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Outage {
    /// Since when nobody has answered; None: somebody has answered since.
    since: Option<Duration>,
    /// When last nobody answered.
    last: Option<Duration>,
}

impl Outage {
    /// Nobody answered. For how long that has been so, in a row.
    pub fn unanswered(&mut self, clock: Duration) -> Duration {
        // a time from the future is of another boot
        let since = self.since.filter(|since| *since <= clock).unwrap_or(clock);
        (self.since, self.last) = (Some(since), Some(clock));
        clock.saturating_sub(since)
    }

    /// Somebody answered.
    pub fn answered(&mut self) {
        self.since = None;
    }

    /// Whether somebody who began while nobody could be asked may still be at work. `lasts`: the duration of the lock, longer than
    /// any transaction.
    pub fn is_recent(&self, lasts: Duration, clock: Duration) -> bool {
        self.last.is_some_and(|last| last <= clock && clock.saturating_sub(last) < lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_first_question_without_an_answer_and_counts_for_a_while_after_the_last() {
        let (secs, lasts) = (Duration::from_secs, Duration::from_secs(100));
        let mut outage = Outage::default();
        assert!(!outage.is_recent(lasts, secs(10)));
        assert_eq!(outage.unanswered(secs(10)), secs(0));
        assert_eq!(outage.unanswered(secs(70)), secs(60));
        outage.answered();
        assert!(outage.is_recent(lasts, secs(169)) && !outage.is_recent(lasts, secs(170)));
        assert_eq!(outage.unanswered(secs(180)), secs(0), "another one");
        assert_eq!(outage.unanswered(secs(5)), secs(0), "of another boot");
    }
}
