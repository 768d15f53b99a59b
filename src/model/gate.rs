//! Gates: reasons not to touch the node now (docs/architecture.md, "Gates").

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Stable ids, also the argument of `renew --force GATE`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Another transaction holds the lock.
    Lock,
    /// A CA that must sign is missing, expired, not yet valid or external.
    Ca,
    /// No room for backup and staging.
    Disk,
    /// Somebody else than root could change a directory or a link on the way to a file.
    Ownership,
    /// etcd would lose its quorum with one member restarted.
    Quorum,
    /// The clock is not synchronised, or behind a time that is known to have passed.
    Clock,
    /// `kubeadm upgrade` is running.
    Upgrade,
    /// The kubelet's binary on disk is not the one that runs: a restart would be an upgrade.
    KubeletBinary,
    /// A restart of the kubelet or of a static pod would bring other changes into effect: of its unit, its manifest, its
    /// configuration.
    PendingChange,
    /// Somebody has stopped the kubelet: an operator is working on this node.
    StoppedByHand,
    /// Another renewer is active on this node.
    OtherRenewer,
    /// The node is not Ready for a reason that new certificates cannot cure.
    NotReady,
    /// What would be renewed could not be activated: the container runtime or the kubelet's unit does not answer.
    Activation,
    /// Outside of the maintenance windows, or in a frozen period.
    Window,
    /// `certwarden pause`, of this node or of the cluster.
    Paused,
    /// It is not this node's turn: another one holds the cluster's lock, or has come to harm, or nobody can be asked.
    ClusterLock,
    /// Somebody else is at work on this node or on another: it is cordoned, drained, about to be rebooted or removed.
    Maintenance,
    /// An earlier rollback failed, and nobody has looked yet.
    ObserveOnly,
}

impl Gate {
    pub const ALL: [Self; 18] = [
        Self::Lock,
        Self::Ca,
        Self::Disk,
        Self::Ownership,
        Self::Quorum,
        Self::Clock,
        Self::Upgrade,
        Self::KubeletBinary,
        Self::PendingChange,
        Self::StoppedByHand,
        Self::OtherRenewer,
        Self::NotReady,
        Self::Activation,
        Self::Window,
        Self::Paused,
        Self::ClusterLock,
        Self::Maintenance,
        Self::ObserveOnly,
    ];

    pub fn id(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Ca => "ca",
            Self::Disk => "disk",
            Self::Ownership => "ownership",
            Self::Quorum => "quorum",
            Self::Clock => "clock",
            Self::Upgrade => "upgrade",
            Self::KubeletBinary => "kubelet-binary",
            Self::PendingChange => "pending-change",
            Self::StoppedByHand => "stopped-by-hand",
            Self::OtherRenewer => "other-renewer",
            Self::NotReady => "not-ready",
            Self::Activation => "activation",
            Self::Window => "window",
            Self::Paused => "paused",
            Self::ClusterLock => "cluster-lock",
            Self::Maintenance => "maintenance",
            Self::ObserveOnly => "observe-only",
        }
    }

    /// Hard gates never give way: neither to `--force` nor to an emergency.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::Lock | Self::Ca | Self::Disk | Self::Ownership | Self::ObserveOnly)
    }

    /// Whether it gives way in an emergency. To lose etcd's quorum is a greater one than a certificate that ends, and so
    /// is a kubelet that starts in the middle of an operator's work: only a person may choose that.
    pub fn gives_way_in_an_emergency(self) -> bool {
        !self.is_hard() && !matches!(self, Self::Quorum | Self::StoppedByHand)
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

impl std::str::FromStr for Gate {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|g| g.id() == s && !g.is_hard()).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().filter(|g| !g.is_hard()).map(|g| g.id()).collect();
            format!("`{s}` is no gate that can be forced; these are: {}", known.join(", "))
        })
    }
}

/// A closed gate: what is in the way and what to do about it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    pub gate: Gate,
    pub reason: String,
    pub remedy: String,
    /// It stands in an emergency too: it casts doubt on the emergency itself, it is about to open, or a person has said so
    /// (`pause --hard`). Only a person opens it at once.
    #[serde(default)]
    pub doubts_emergency: bool,
    /// When it opens by itself, or is worth another look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.gate, self.reason, self.remedy)
    }
}

impl Refusal {
    pub fn new(gate: Gate, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { gate, reason: reason.into(), remedy: remedy.into(), doubts_emergency: false, until: None }
    }

    /// The same, until then.
    #[must_use]
    pub fn until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }
}

/// The refusals that stand after `--force` and an emergency have been allowed for.
pub fn standing(refusals: &[Refusal], forced: &[Gate], emergency: bool) -> Vec<Refusal> {
    let in_an_emergency = |r: &Refusal| emergency && r.gate.gives_way_in_an_emergency() && !r.doubts_emergency;
    let gives_way = |r: &Refusal| !r.gate.is_hard() && (forced.contains(&r.gate) || in_an_emergency(r));
    refusals.iter().filter(|r| !gives_way(r)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emergency_and_force_open_soft_gates_and_never_hard_ones() {
        for gate in Gate::ALL {
            let closed = [Refusal::new(gate, "why", "what to do")];
            assert_eq!(standing(&closed, &[], false).len(), 1, "{gate}");
            assert_eq!(standing(&closed, &[gate], false).is_empty(), !gate.is_hard(), "{gate} forced");
            let gives_way = !gate.is_hard() && ![Gate::Quorum, Gate::StoppedByHand].contains(&gate);
            assert_eq!(standing(&closed, &[], true).is_empty(), gives_way, "{gate} in an emergency");
        }
    }

    #[test]
    fn an_emergency_that_only_a_doubtful_clock_sees_opens_nothing() {
        let doubtful = [Refusal { doubts_emergency: true, ..Refusal::new(Gate::Clock, "why", "what to do") }];
        assert_eq!(standing(&doubtful, &[], true).len(), 1);
        assert_eq!(standing(&doubtful, &[Gate::Clock], true).len(), 0, "a person may know better");
    }

    #[test]
    fn only_soft_gates_can_be_named_for_force() {
        for gate in Gate::ALL {
            assert_eq!(gate.id().parse::<Gate>().is_ok(), !gate.is_hard(), "{gate}");
        }
    }
}
