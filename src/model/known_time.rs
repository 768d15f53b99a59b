//! The latest time that is known to have passed: a clock that shows an earlier one is doubted. Pure.

use jiff::{SignedDuration, Timestamp};

/// So many checks in a row by a synchronised clock outweigh one time that was further ahead: that one was the error.
const OUTWEIGHED_AFTER: u32 = 5;
/// Less is NTP at work.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// What synchronised clocks have shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KnownTime {
    latest: Option<Timestamp>,
    /// Checks in a row that were behind it.
    behind: u32,
}

impl KnownTime {
    pub fn new(latest: Option<Timestamp>) -> Self {
        Self { latest, behind: 0 }
    }

    pub fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// A check by a synchronised clock. Returns the time that is no longer believed, if it was outweighed now.
    pub fn seen(&mut self, now: Timestamp) -> Option<Timestamp> {
        let ahead = self.latest.filter(|latest| latest.duration_since(now) > SLACK);
        let Some(ahead) = ahead else {
            (self.latest, self.behind) = (self.latest.max(Some(now)), 0);
            return None;
        };
        self.behind += 1;
        if self.behind < OUTWEIGHED_AFTER {
            return None;
        }
        *self = Self::new(Some(now));
        Some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
    }

    #[test]
    fn the_latest_time_is_kept_while_the_clock_goes_on() {
        let mut known = KnownTime::default();
        for hour in 0..10 {
            assert_eq!(known.seen(at(hour)), None);
            assert_eq!(known.latest(), Some(at(hour)));
        }
        // a correction by NTP
        let corrected = at(9) - SignedDuration::from_secs(30);
        assert_eq!((known.seen(corrected), known.latest()), (None, Some(at(9))));
    }

    #[test]
    fn one_excursion_into_the_future_is_outweighed_by_five_checks_in_a_row() {
        let mut known = KnownTime::new(Some(at(0)));
        known.seen(at(24 * 365));
        for hour in 1..5 {
            assert_eq!(known.seen(at(hour)), None);
            assert_eq!(known.latest(), Some(at(24 * 365)), "doubted until then");
        }
        assert_eq!(known.seen(at(5)), Some(at(24 * 365)));
        assert_eq!(known.latest(), Some(at(5)));
    }

    #[test]
    fn a_clock_that_goes_to_and_fro_outweighs_nothing() {
        let mut known = KnownTime::new(Some(at(100)));
        for _ in 0..20 {
            for hour in 0..4 {
                assert_eq!(known.seen(at(hour)), None);
            }
            assert_eq!(known.seen(at(100)), None);
        }
        assert_eq!(known.latest(), Some(at(100)));
    }
}
