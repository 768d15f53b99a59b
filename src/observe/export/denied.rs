//! Who was not let in: told to the journal, at most once a minute, whatever is tried meanwhile.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines in the journal.
const QUIET: Duration = Duration::from_secs(60);

/// Failures since the last line about them.
#[derive(Debug, Default)]
struct Count {
    untold: u64,
    told_at: Option<Instant>,
}

impl Count {
    /// One more; how many are to be told now, if any.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now.duration_since(at) < QUIET) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[derive(Debug, Default)]
pub(super) struct Denied {
    passwords: Mutex<Count>,
    certificates: Mutex<Count>,
}

impl Denied {
    /// A request without a name and password that are known.
    pub(super) fn password(&self, from: IpAddr) {
        tell(&self.passwords, "without a name and password that are known", from);
    }

    /// A connection without a certificate that the client CA has issued.
    pub(super) fn certificate(&self, from: IpAddr) {
        tell(&self.certificates, "without a certificate of the client CA", from);
    }
}

fn tell(count: &Mutex<Count>, what: &str, from: IpAddr) {
    let untold = count.lock().unwrap_or_else(PoisonError::into_inner).one_more(Instant::now());
    if let Some(times) = untold {
        tracing::warn!("{times} denied {what} since the last such line; the last came from {from}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_at_once_and_a_thousand_more_are_one_line() {
        let (mut count, began) = (Count::default(), Instant::now());
        assert_eq!(count.one_more(began), Some(1));
        for second in 0..60 {
            assert_eq!(count.one_more(began + Duration::from_secs(second)), None);
        }
        assert_eq!(count.one_more(began + QUIET), Some(61));
        assert_eq!(count.one_more(began + QUIET), None);
    }
}
