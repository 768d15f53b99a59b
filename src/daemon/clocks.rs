//! Steps of the wall clock, which certificates are judged by, seen by the clock that nobody sets.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// A difference that matters to nobody; slewing (adjtimex(2): 0.5 ms a second) makes less between two looks at the clock.
const LEAST: SignedDuration = SignedDuration::from_secs(60);

/// What both clocks showed last.
#[derive(Debug)]
pub(super) struct Clocks {
    wall: Timestamp,
    steady: Instant,
}

impl Clocks {
    pub(super) fn new(wall: Timestamp, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// By how much the wall clock has moved more than time has passed since the last call. A machine that slept is seen as a
    /// step ahead: `CLOCK_MONOTONIC` does not count sleep (`clock_gettime(2)`).
    pub(super) fn step(&mut self, wall: Timestamp, steady: Instant) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(steady.duration_since(self.steady)).unwrap_or_default();
        let moved = wall.duration_since(self.wall);
        *self = Self { wall, steady };
        Some(moved.saturating_sub(passed)).filter(|step| step.abs() >= LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_step_is_told_once_with_its_size_and_its_direction() {
        let (wall, steady) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clocks = Clocks::new(wall, steady);
        let mut look = |wall_seconds, seconds| {
            let wall = wall + SignedDuration::from_secs(wall_seconds);
            clocks.step(wall, steady + Duration::from_secs(seconds)).map(|step| step.as_secs())
        };
        assert_eq!(look(60, 60), None);
        assert_eq!(look(121, 120), None, "slewed");
        assert_eq!(look(3781, 180), Some(3600));
        assert_eq!(look(3841, 240), None, "told once");
        assert_eq!(look(241, 300), Some(-3660));
        assert_eq!(look(301, 360), None);
    }
}
