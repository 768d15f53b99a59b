//! How long to wait after a failure.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// An API server that comes back is found within two minutes; one that refuses is asked that seldom.
const LONGEST: Duration = Duration::from_secs(120);

/// Doubling waits, each between half and one and a half of its length, so that all nodes of a cluster do not come at once.
#[derive(Debug)]
pub(super) struct BackOff(Duration);

impl BackOff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }

    pub(super) async fn wait(&mut self) {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST);
        tokio::time::sleep(about(now)).await;
    }
}

/// Between half and one and a half of it.
pub(super) fn about(time: Duration) -> Duration {
    // seeded by the system, which is random enough for not doing the same as others
    let random = RandomState::new().build_hasher().finish() % 1000;
    time / 2 + time * u32::try_from(random).unwrap_or(500) / 1000
}
