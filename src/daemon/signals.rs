//! Signals as a stream of what they ask for.

use std::task::{Context, Poll};

use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// SIGTERM, SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
}

/// The signals that the daemon obeys.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

/// Registers the handlers; needs a runtime. Before READY, so that no signal after it is the default's.
pub(super) fn listen() -> std::io::Result<Signals> {
    Ok(Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
    })
}

impl Signals {
    /// The next order, if one has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        if self.terminate.poll_recv(cx).is_ready() || self.interrupt.poll_recv(cx).is_ready() {
            Poll::Ready(Order::Terminate)
        } else if self.hang_up.poll_recv(cx).is_ready() {
            Poll::Ready(Order::Reload)
        } else {
            Poll::Pending
        }
    }
}
