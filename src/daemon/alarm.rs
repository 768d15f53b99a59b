//! The daemon's only timer: one file descriptor of the kernel, one wake-up per nap.
//!
//! Not tokio's sleep: its wheel of 64 slots a level wakes up to three times for a nap of a minute (measured: twice
//! for half a second), and counts `CLOCK_MONOTONIC`, which stands still in suspend. `CLOCK_BOOTTIME` goes on, so that a
//! machine that wakes after a week looks at its certificates at once.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// A nap of zero would disarm the timer (`timerfd_settime(2)`).
const SHORTEST: Duration = Duration::from_millis(1);

/// `timerfd` with the traits that tokio asks of file descriptors.
#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A one-shot timer.
#[derive(Debug)]
pub(super) struct Alarm(AsyncFd<Timer>);

impl Alarm {
    /// Needs a runtime.
    #[allow(
        deprecated,
        reason = "`register` replaces it and is unsafe: tokio cannot know that a type always names the same descriptor. \
                  This one does: it owns it, and never gives it away"
    )]
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self(AsyncFd::new(Timer(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))?))
    }

    /// To go off once, `nap` from now; an earlier setting is forgotten.
    pub(super) fn set(&self, nap: Duration) -> std::io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(nap.max(SHORTEST)));
        Ok(self.0.get_ref().0.set(once, TimerSetTimeFlags::empty())?)
    }

    /// Whether it went off.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            let mut readiness = ready!(self.0.poll_read_ready(cx))?;
            match self.0.get_ref().0.wait() {
                Ok(()) => return Poll::Ready(Ok(())),
                // readiness of an earlier setting
                Err(Errno::EAGAIN) => readiness.clear_ready(),
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}
