//! Gates: reasons not to touch the node now (DESIGN §6).

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
    /// etcd would lose its quorum with one member restarted.
    Quorum,
    /// The clock is not synchronised, or behind a time that is known to have passed.
    Clock,
    /// `kubeadm upgrade` is running.
    Upgrade,
    /// The kubelet's binary on disk is not the one that runs: a restart would be an upgrade.
    KubeletBinary,
    /// Another renewer is active on this node.
    OtherRenewer,
    /// The node is not Ready for a reason that new certificates cannot cure.
    NotReady,
    /// An earlier rollback failed, and nobody has looked yet.
    ObserveOnly,
}

impl Gate {
    pub const ALL: [Self; 10] = [
        Self::Lock,
        Self::Ca,
        Self::Disk,
        Self::Quorum,
        Self::Clock,
        Self::Upgrade,
        Self::KubeletBinary,
        Self::OtherRenewer,
        Self::NotReady,
        Self::ObserveOnly,
    ];

    pub fn id(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Ca => "ca",
            Self::Disk => "disk",
            Self::Quorum => "quorum",
            Self::Clock => "clock",
            Self::Upgrade => "upgrade",
            Self::KubeletBinary => "kubelet-binary",
            Self::OtherRenewer => "other-renewer",
            Self::NotReady => "not-ready",
            Self::ObserveOnly => "observe-only",
        }
    }

    /// Hard gates never give way: neither to `--force` nor to an emergency.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::Lock | Self::Ca | Self::Disk | Self::Quorum | Self::ObserveOnly)
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
        Self::ALL.into_iter().find(|g| g.id() == s).ok_or_else(|| {
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
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.gate, self.reason, self.remedy)
    }
}

/// The refusals that stand after `--force` and an emergency have been allowed for.
pub fn standing(refusals: &[Refusal], forced: &[Gate], emergency: bool) -> Vec<Refusal> {
    let gives_way = |r: &Refusal| !r.gate.is_hard() && (emergency || forced.contains(&r.gate));
    refusals.iter().filter(|r| !gives_way(r)).cloned().collect()
}
