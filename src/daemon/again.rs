//! What came to nothing and is tried again, later each time. In memory: a daemon that starts tries at once.

use jiff::Timestamp;

/// Attempts in a row, and when the next one is worth it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Again {
    times: u32,
    until: Timestamp,
}

/// When the attempt after so many is worth it.
pub(super) type Pause = fn(u32, Timestamp) -> Timestamp;

impl Again {
    /// One more attempt has come to nothing.
    pub(super) fn after(before: Option<Self>, pause: Pause, now: Timestamp) -> Self {
        let times = before.map_or(0, |again| again.times).saturating_add(1);
        Self { times, until: pause(times, now) }
    }

    /// When to try again; None: now. A clock that was set back holds nobody longer than was meant.
    pub(super) fn later(self, pause: Pause, now: Timestamp) -> Option<Timestamp> {
        Some(self.until.min(pause(self.times, now))).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schedule::{back_off_until, retry_at};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pauses(pause: Pause) -> Vec<i64> {
        let (mut again, mut now, mut seen) = (None, 1_800_000_000, Vec::new());
        for _ in 0..8 {
            let next = Again::after(again, pause, at(now));
            let until = next.later(pause, at(now)).unwrap().as_second();
            assert_eq!(next.later(pause, at(until)), None, "then it is time");
            let back = next.later(pause, at(now - 1_000_000)).unwrap().as_second();
            assert_eq!(back - (now - 1_000_000), until - now, "a clock that was set back prolongs nothing");
            seen.push(until - now);
            (again, now) = (Some(next), until);
        }
        seen
    }

    #[test]
    fn a_hindered_recovery_is_tried_after_a_minute_and_a_proof_after_an_hour_later_each_time() {
        assert_eq!(pauses(retry_at), [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pauses(back_off_until), [1, 2, 4, 8, 16, 24, 24, 24].map(|hours| hours * 3600));
    }
}
