//! Observing whether the node is well: credentials put to use, sockets asked what they serve, health, stability, the
//! Node object. Nothing here changes anything; what was observed is judged in `model::health`.

pub mod aggregate;
pub mod api;
pub mod diagnose;
pub mod endpoints;
pub mod etcd;
pub mod gates;
pub mod health;
pub mod material;
pub mod node;
pub mod pages;
pub mod prove;
#[cfg(test)]
mod real_node;
pub mod requests;
pub mod served;
#[cfg(test)]
mod testing;
pub mod unit;

use std::time::Duration;

use crate::host::Host;
use crate::host::clock::Deadline;

/// For one request to a server on this node or in its cluster.
pub const REQUEST: Duration = Duration::from_secs(10);

/// Sleeps until the next look, not beyond the deadline. False when there is no next look: the time is over or the
/// caller does not want to go on.
fn pause(host: &Host, time: Duration, until: Deadline, keep_going: &dyn Fn() -> bool) -> bool {
    let clock = host.clock.as_ref();
    if until.is_over(clock) || !keep_going() {
        return false;
    }
    clock.sleep(time.min(until.left(clock)));
    keep_going()
}
