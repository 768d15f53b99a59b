//! In which objects of the API the locks and the notes of a cluster are, and who writes which of them.
//!
//! | object | what | written by |
//! |---|---|---|
//! | Lease `certwarden-control-plane` | the lock of the control planes | control planes |
//! | Lease `certwarden` | a pause, and the marks of harm of control planes | control planes and people |
//! | ConfigMap `certwarden-worker-N` | the locks of the workers | workers, by their kubelet's certificate |
//! | ConfigMap `certwarden-workers` | the marks of harm of workers | the same, and people |
//! | Lease `certwarden-worker-N` | the locks of workers that ask with a shared credential, as in 0.1.0 | these |
//!
//! A worker's best identity is its kubelet's certificate, but NodeRestriction refuses that every Lease outside `kube-node-lease`,
//! whatever RBAC says, and leaves ConfigMaps to RBAC (kubernetes: `plugin/pkg/admission/noderestriction/admission.go`, `Admit` and
//! `admitLease`; `plugin/pkg/auth/authorizer/node/node_authorizer.go`, where every refusal is "no opinion").

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::marks;
use super::notes::{self, Harm, Notes};
use crate::model::inventory::Role;

/// What kind of object it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Lease,
    ConfigMap,
}

/// One object in `fleet.namespace`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub kind: Kind,
    pub name: Cow<'static, str>,
}

impl Place {
    const fn new(kind: Kind, name: &'static str) -> Self {
        Self { kind, name: Cow::Borrowed(name) }
    }
}

/// As `kubectl get` takes it, with a Lease as the kind that needs no word.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Lease => f.write_str(&self.name),
            Kind::ConfigMap => write!(f, "configmap/{}", self.name),
        }
    }
}

/// Where everybody reads what people and control planes have to say.
pub const NOTES: Place = Place::new(Kind::Lease, "certwarden");
/// The lock of the control planes.
pub const CONTROL_PLANE: Place = Place::new(Kind::Lease, "certwarden-control-plane");
/// Where workers mark their own harm.
pub const WORKERS: Place = Place::new(Kind::ConfigMap, "certwarden-workers");
/// The locks of the workers, with a number.
const WORKER: &str = "certwarden-worker";

/// One of the workers' locks.
fn worker(kind: Kind, slot: u64) -> Place {
    Place { kind, name: Cow::Owned(format!("{WORKER}-{slot}")) }
}

/// All locks that a worker may hold, whatever it asks with, where so many may act at once.
pub fn workers_locks(at_once: u64) -> impl Iterator<Item = Place> {
    (0..at_once).flat_map(|slot| [worker(Kind::ConfigMap, slot), worker(Kind::Lease, slot)])
}

/// As whom a node asks, which decides what it may write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writer {
    /// A control plane, with an administrator's credential.
    ControlPlane,
    /// A worker with its kubelet's certificate: the API server knows which node asks.
    Kubelet,
    /// A worker with a credential that names no node, as the service account that 0.1.0 shipped.
    Shared,
}

impl Writer {
    /// `node`: the node that the credential names.
    pub fn of(role: Role, node: Option<&str>) -> Self {
        match (role, node) {
            (Role::ControlPlane, _) => Self::ControlPlane,
            (_, Some(_)) => Self::Kubelet,
            (_, None) => Self::Shared,
        }
    }

    /// The lock that such a node needs; `slot`: of the workers' locks.
    pub fn lock(self, slot: u64) -> Place {
        match self {
            Self::ControlPlane => CONTROL_PLANE,
            Self::Kubelet => worker(Kind::ConfigMap, slot),
            Self::Shared => worker(Kind::Lease, slot),
        }
    }

    /// Where such a node marks its own harm.
    pub fn marks(self) -> Place {
        match self {
            Self::Kubelet => WORKERS,
            Self::ControlPlane | Self::Shared => NOTES,
        }
    }

    /// Of all marks, those that are where such a node marks its own harm.
    pub fn marks_in(self, notes: &Notes) -> &BTreeMap<String, Harm> {
        match self {
            Self::Kubelet => &notes.workers,
            Self::ControlPlane | Self::Shared => &notes.harm,
        }
    }

    /// Sets or removes the mark of `node` in what is written there.
    pub fn mark(self, entries: &mut BTreeMap<String, String>, node: &str, mark: Option<&Harm>) {
        match self {
            Self::Kubelet => marks::set(entries, node, mark),
            Self::ControlPlane | Self::Shared => {
                notes::set_harm(entries, Some(node), mark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_control_planes_rely_on_no_worker_writes() {
        let theirs = [Writer::ControlPlane.lock(0), Writer::ControlPlane.marks()];
        assert_eq!(theirs, [CONTROL_PLANE, NOTES]);
        for at in [Writer::Kubelet.lock(3), Writer::Kubelet.marks()] {
            assert!(at.kind == Kind::ConfigMap && !theirs.contains(&at), "{at}");
        }
        assert_eq!(Writer::of(Role::ControlPlane, Some("cp1")), Writer::ControlPlane);
    }

    #[test]
    fn a_control_plane_waits_for_the_workers_of_both_kinds() {
        let all: Vec<String> = workers_locks(2).map(|at| at.to_string()).collect();
        let expected = [
            "configmap/certwarden-worker-0",
            "certwarden-worker-0",
            "configmap/certwarden-worker-1",
            "certwarden-worker-1",
        ];
        assert_eq!(all, expected);
        for (writer, slot) in [(Writer::Kubelet, 1), (Writer::Shared, 0)] {
            assert!(all.contains(&writer.lock(slot).to_string()));
        }
    }
}
