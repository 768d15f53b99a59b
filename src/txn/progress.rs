//! How far a transaction has come: written by the engine's thread, read by whoever drives it.
//!
//! The driver feeds the watchdog only while the step under way is within its own time limit, so that a hang is
//! seen by systemd and slowness is not. It may ask the engine to stop; the engine looks at
//! [`Progress::should_stop`] between steps and ends where the node is well: before the commit by discarding,
//! after it with `Interrupted`, for the next start to finish (or, for a person, by finishing).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which side of the commit the transaction is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// No live file has been touched: stopping means discarding.
    BeforeCommit,
    /// Live files may be new: stopping means finishing.
    AfterCommit,
}

/// Shared between the engine's thread and its driver.
#[derive(Debug)]
pub struct Progress {
    inner: Mutex<Inner>,
    stop: AtomicBool,
    stop_before_commit: AtomicBool,
    listener: Option<fn(&str)>,
}

#[derive(Debug)]
struct Inner {
    step: String,
    deadline: Instant,
    phase: Phase,
}

/// Progress at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// What is being done, for a person: `waiting for kube-scheduler`.
    pub step: String,
    pub phase: Phase,
    /// Time left until the step should have ended; None when it has hung.
    pub left: Option<Duration>,
}

impl Progress {
    /// Begins with a first step and its time limit.
    pub fn new(step: impl Into<String>, limit: Duration) -> Self {
        let inner = Inner { step: step.into(), deadline: after(limit), phase: Phase::BeforeCommit };
        Self {
            inner: Mutex::new(inner),
            stop: AtomicBool::new(false),
            stop_before_commit: AtomicBool::new(false),
            listener: None,
        }
    }

    /// Tells every step to `listener` as it begins.
    #[must_use]
    pub fn with_listener(self, listener: fn(&str)) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// The engine begins a step that ends within `limit` unless something hangs. Generous: beyond it the watchdog kills.
    pub fn step(&self, step: impl Into<String>, limit: Duration) {
        let (step, deadline) = (step.into(), after(limit));
        if let Some(listener) = self.listener {
            listener(&step);
        }
        let mut inner = self.lock();
        (inner.step, inner.deadline) = (step, deadline);
    }

    /// From here on live files may be new. Before the first rename.
    pub fn committing(&self) {
        self.lock().phase = Phase::AfterCommit;
    }

    /// Nothing live is touched by the transaction that may begin now.
    pub fn next_transaction(&self) {
        self.lock().phase = Phase::BeforeCommit;
    }

    /// Whether the engine is to end at the next point where the node is well.
    pub fn should_stop(&self) -> bool {
        let before_commit = || self.lock().phase == Phase::BeforeCommit;
        self.stop.load(Ordering::Relaxed) || (self.stop_before_commit.load(Ordering::Relaxed) && before_commit())
    }

    /// Asks the engine to end soon: by discarding before the commit, by leaving the rest to the next start after it.
    ///
    /// The daemon's answer to SIGTERM, whatever the reason: its unit is ordered after the kubelet's, so systemd holds
    /// a restart of the kubelet back until the daemon has ended (systemd.unit(5), `Before=`, `After=`), and to wait
    /// for that restart would be a deadlock.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Asks the engine to end by discarding if nothing live is touched yet, else by finishing: a person's Ctrl-C.
    pub fn stop_before_commit(&self) {
        self.stop_before_commit.store(true, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let left = inner.deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero());
        Snapshot { step: inner.step.clone(), phase: inner.phase, left }
    }

    /// A panic of the other thread (debug builds only) leaves plain values behind: they can be read.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_beyond_its_limit_has_nothing_left_until_the_next_step() {
        let progress = Progress::new("begin", Duration::ZERO);
        assert_eq!(progress.snapshot(), Snapshot { step: "begin".into(), phase: Phase::BeforeCommit, left: None });
        progress.step("stage", Duration::from_secs(60));
        progress.committing();
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.step.as_str(), snapshot.phase), ("stage", Phase::AfterCommit));
        assert!(snapshot.left.is_some_and(|l| l > Duration::from_secs(50)));
    }

    #[test]
    fn a_wish_to_stop_stays() {
        let progress = Progress::new("begin", Duration::from_secs(1));
        assert!(!progress.should_stop());
        progress.stop();
        progress.step("next", Duration::from_secs(1));
        assert!(progress.should_stop());
    }
}
