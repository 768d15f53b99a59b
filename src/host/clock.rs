//! Time. Wall-clock time for what certificates say, monotonic time for how long we wait.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where time comes from, so that tests can step it backwards.
pub trait Clock: Send {
    /// The wall clock (`CLOCK_REALTIME`).
    fn now(&self) -> Timestamp;
    /// Monotonic time since an arbitrary start. Does not follow steps of the wall clock.
    fn monotonic(&self) -> Duration;
    /// Since the machine's boot, the same for all its processes; goes on in suspend (`CLOCK_BOOTTIME`).
    fn since_boot(&self) -> Duration {
        self.monotonic()
    }
    /// Blocks the calling thread.
    fn sleep(&self, time: Duration);
}

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn since_boot(&self) -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or_else(|_| self.monotonic(), Duration::from)
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A point in monotonic time by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Deadline {
    pub fn after(clock: &dyn Clock, time: Duration) -> Self {
        Self(clock.monotonic().saturating_add(time))
    }

    pub fn left(self, clock: &dyn Clock) -> Duration {
        self.0.saturating_sub(clock.monotonic())
    }

    pub fn is_over(self, clock: &dyn Clock) -> bool {
        self.left(clock).is_zero()
    }
}
