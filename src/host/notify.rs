//! The service manager's notification socket (`sd_notify(3)`) and watchdog.
//!
//! Without `NOTIFY_SOCKET` (a person at a terminal) everything here does nothing. Notifications are best effort: if
//! one does not get through, systemd acts by its own time limits, and there is nobody better to tell. Programs that
//! certwarden runs do not inherit the socket: [`exec`](crate::host::exec) gives them a clean environment, and
//! the unit has `NotifyAccess=main`.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::model::plain;

/// `STATUS=` lines longer than this are cut: `systemctl status` shows one line.
const STATUS_CHARS: usize = 200;

/// Start-up, or a reload, is finished.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// What `systemctl status` shows. One line for a person, no secrets.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&one_line(text))]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // without the time `Type=notify-reload` (systemd 253) kills the service; `Type=notify` ignores it
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(e) => tracing::debug!("cannot read the monotonic clock: {e}"),
    }
}

/// The daemon is ending.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The daemon is alive. To be sent at least every [`watchdog_interval`].
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be sent: half of what systemd allows, as `sd_watchdog_enabled(3)` advises. None if
/// nobody watches.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Asks for `time` more, from now, before systemd gives up on a start, reload or stop that is under way.
pub fn extend_timeout(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX); // 71 minutes: more than the unit ever needs
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!("the service manager cannot be notified: {e}");
    }
}

/// A line break would begin another assignment (`READY=1`).
fn one_line(text: &str) -> String {
    plain::line(text, STATUS_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_cannot_smuggle_in_another_assignment() {
        assert_eq!(one_line("failed\nREADY=1"), "failed READY=1");
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), STATUS_CHARS);
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        assert!(std::env::var_os("NOTIFY_SOCKET").is_none(), "run the tests without NOTIFY_SOCKET");
        ready();
        status("x");
        reloading();
        watchdog();
        extend_timeout(Duration::MAX);
        stopping();
        assert_eq!(watchdog_interval(), None);
    }
}
