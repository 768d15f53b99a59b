//! The parts of a node that use certificates, and how each takes a new one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process of the node that holds credentials. Ordered as they are activated (DESIGN §7):
/// what others depend on comes first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kubelet,
}

impl Component {
    /// Every component, in the order in which they are activated.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kubelet];

    /// The name that Kubernetes uses: of the static pod's container, of the binary and in the docs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
        }
    }

    /// The component whose container is called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How a component comes to use a new credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "within")]
pub enum Uptake {
    /// Re-reads its files by itself; the served or used certificate is measured, and the component is
    /// restarted only if it did not take it within this time.
    Reload(Duration),
    /// Holds what it read at start: only a new process takes the new credential.
    NewProcess,
}

/// kube-apiserver re-reads serving and proxy pairs on a file event and at the latest after a minute
/// (kubernetes: `dynamiccertificates/dynamic_serving_content.go`); 1.20 polls. A margin for a loaded machine on top.
pub const APISERVER_RELOAD: Duration = Duration::from_secs(90);
/// etcd reads its leaves at every handshake (etcd: `client/pkg/transport/listener.go:baseConfig`).
pub const ETCD_RELOAD: Duration = Duration::from_secs(15);
