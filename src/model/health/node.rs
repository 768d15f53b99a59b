//! Does the node report Ready *again*, by a status that the new kubelet posted?

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Judgement;

/// How often the lease must have moved on after its first renewal since the restart: two intervals of a living kubelet,
/// about 20 s by default.
pub const LEASE_ADVANCES: usize = 2;
/// The default of `nodeLeaseDurationSeconds` (kubernetes: `pkg/kubelet/apis/config/v1beta1/defaults.go`).
const LEASE_SECONDS: u32 = 40;
/// The kubelet renews its lease four times in the lease's duration (kubernetes:
/// `pkg/kubelet/kubelet.go:nodeLeaseRenewIntervalFraction`).
const RENEWALS: u32 = 4;
/// A lease that moves on more rarely than this (a duration beyond 20 min) is not waited for: its first renewal since the
/// restart and the status that the kubelet posted have to do.
const RAREST: Duration = Duration::from_secs(5 * 60);

/// How long after the old kubelet's end the first sample is taken: what it sent last is stored by then, as a rule.
pub const SETTLED: Duration = Duration::from_millis(250);

/// What the API says about a node at one moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeSnapshot {
    /// Status of the condition Ready: `True`, `False`, `Unknown`.
    pub ready: String,
    /// The condition's reason and message, for people.
    pub reason: String,
    /// `lastHeartbeatTime` of the condition, in whole seconds of the node's clock.
    pub heartbeat: Option<Timestamp>,
    /// `renewTime` of the node's lease, by the node's clock.
    pub lease: Option<Timestamp>,
    /// The lease's duration.
    #[serde(default)]
    pub lease_seconds: Option<u32>,
}

impl NodeSnapshot {
    /// Between two renewals of the lease.
    pub fn renewal_interval(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.unwrap_or(LEASE_SECONDS).into()) / RENEWALS
    }

    fn advances(&self) -> usize {
        if self.renewal_interval() > RAREST { 0 } else { LEASE_ADVANCES }
    }

    /// What the proof takes longer than with a lease of the default duration: the advances, and one that failed.
    pub fn more_time(&self) -> Duration {
        let longer = self.renewal_interval().saturating_sub(Duration::from_secs(LEASE_SECONDS.into()) / RENEWALS);
        match self.advances() {
            0 => Duration::ZERO,
            advances => longer.saturating_mul(u32::try_from(advances).unwrap_or(u32::MAX).saturating_add(1)),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.ready == "True"
    }

    // Unknown is written by the controller manager about a node that has gone silent: the worst
    fn rank(&self) -> u8 {
        match self.ready.as_str() {
            "True" => 2,
            "False" => 1,
            _ => 0,
        }
    }
}

/// One look at the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeSample {
    Seen(NodeSnapshot),
    /// No answer that says anything about the node, and why.
    NoAnswer(String),
}

/// Whether the node reports again what it reported before the restart, or better. Without `before` only Ready is good
/// enough.
///
/// `gone` is the instant (of the node's clock) at which the old kubelet was gone for certain; nothing of its own is
/// dated later. `samples` are in the order in which they were taken, the first no earlier than [`SETTLED`] after `gone`.
///
/// Neither `Ready=True` by itself (the object is stale while the kubelet is down) nor `lastTransitionTime` (it stays on
/// a quick restart) proves anything. What does: the first status after a start is always sent (kubernetes:
/// `pkg/kubelet/kubelet_node_status.go:tryUpdateNodeStatus`, `lastStatusReportTime` is zero), and the lease goes on
/// moving. Since that first status may be the only one for 7.5 minutes, and heartbeats have whole seconds, it is told
/// from the old kubelet's last one by what [`posted_since`] says.
pub fn judge_node(before: Option<&NodeSnapshot>, samples: &[NodeSample], gone: Timestamp) -> Judgement {
    let now = match samples.last() {
        None => return Judgement::CannotTell("the node has not been checked".into()),
        Some(NodeSample::NoAnswer(why)) => return Judgement::CannotTell(why.clone()),
        Some(NodeSample::Seen(now)) => now,
    };
    let renewals = renewals(samples, gone);
    if renewals == 0 {
        return Judgement::NotYet("its lease has not been renewed since the restart".into());
    }
    if renewals <= now.advances() {
        return Judgement::NotYet(format!("its lease was renewed {renewals} of {} times", now.advances() + 1));
    }
    let posted = posted_since(samples, gone);
    if posted == Posted::No {
        return Judgement::NotYet("its Ready condition is older than the restart".into());
    }
    let well = match before {
        _ if now.is_ready() => true,
        // not Ready for another reason than ours: no worse is all that can be asked
        // (docs/architecture.md, "Activate and verify")
        Some(before) => !before.is_ready() && now.rank() >= before.rank(),
        None => false,
    };
    if !well {
        return Judgement::NotYet(format!("Ready is {}: {}", now.ready, now.reason));
    }
    if posted == Posted::Perhaps {
        return Judgement::Undecided(
            "its Ready condition is not younger than the second in which the old kubelet ended, so it may be that one's; \
             the next one decides"
                .into(),
        );
    }
    Judgement::Healthy
}

/// Whether the newest status that was seen is the new kubelet's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Posted {
    Yes,
    /// Both may have posted it.
    Perhaps,
    No,
}

/// A heartbeat of a later second than the old kubelet's end is the new one's, whatever was on its way when the old one ended.
/// One change of the heartbeat may be just that: a status which the old kubelet sent and a slow API server stored late. It has
/// no more than one on its way, so that two changes are the new one's, whatever the clock was set to meanwhile.
fn posted_since(samples: &[NodeSample], gone: Timestamp) -> Posted {
    let mut beats = samples.iter().filter_map(|s| match s {
        NodeSample::Seen(seen) => seen.heartbeat,
        NodeSample::NoAnswer(_) => None,
    });
    let Some(first) = beats.next() else { return Posted::No };
    let (mut last, mut changes) = (first, 0);
    for beat in beats {
        changes += u32::from(beat != last);
        last = beat;
    }
    if last.as_second() > gone.as_second() || changes > 1 {
        Posted::Yes
    } else if last.as_second() == gone.as_second() || changes == 1 {
        Posted::Perhaps
    } else {
        Posted::No
    }
}

/// How many different renewals since `gone` were seen. Times are those of the node's clock, in microseconds: one that is
/// later than the old kubelet's end is the new one's. After a clock that was set back, renewals count from there on.
fn renewals(samples: &[NodeSample], gone: Timestamp) -> usize {
    let (mut newest, mut previous, mut count) = (gone, None, 0);
    for sample in samples {
        let NodeSample::Seen(NodeSnapshot { lease: Some(renewed), .. }) = sample else { continue };
        if *renewed > newest {
            (newest, count) = (*renewed, count + 1);
        } else if previous.is_some_and(|p| p != *renewed) {
            newest = *renewed;
        }
        previous = Some(*renewed);
    }
    count
}

#[cfg(test)]
mod tests;
