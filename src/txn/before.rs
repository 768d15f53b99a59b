//! How the node was before anything was touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::fs::{MAX_FILE, Root};
use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::health::NodeSnapshot;
use crate::model::inventory::Node;
use crate::model::plan::{Proof, Socket};
use crate::model::wiring;
use crate::verify::aggregate::Aggregated;
use crate::verify::etcd::Members;

use super::dir::TxnDir;
use super::stop::Stop;

/// The node before anything was touched: what "no worse" is measured by. Kept with the transaction, because another
/// process may have to finish it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Before {
    /// None: the API could not be asked.
    pub node: Option<NodeSnapshot>,
    /// The kubelet's unit was seen, and not running.
    pub kubelet_was_down: bool,
    /// Whether each component said that it is healthy.
    #[serde(default)]
    pub health: BTreeMap<Component, bool>,
    /// Credentials in use that a server refused, and which.
    #[serde(default)]
    pub refused: BTreeSet<String>,
    /// Members of etcd, where one runs here and answers.
    pub etcd: Option<EtcdBefore>,
    pub sockets: Vec<SocketBefore>,
    /// Ids of the containers that ran; None: the runtime did not tell.
    pub containers: Option<BTreeMap<Component, String>>,
    /// The same of the plan's other pods, by [`ContainerRef`](crate::model::inventory::ContainerRef) in words.
    #[serde(default)]
    pub others: Option<BTreeMap<String, String>>,
    /// Pods that ran, as `namespace/name`; None: the runtime did not answer.
    #[serde(default)]
    pub pods: Option<BTreeSet<String>>,
    /// Aggregated APIs that answered.
    #[serde(default)]
    pub aggregated: Vec<Aggregated>,
    /// Gates that the operator overrode, for whoever finishes it.
    #[serde(default)]
    pub forced: Vec<Gate>,
}

/// etcd's members.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EtcdBefore {
    pub total: usize,
    pub healthy: usize,
    /// Under which names and addresses the others dial this one.
    #[serde(default)]
    pub dialled: BTreeSet<String>,
    /// URLs at which the others are dialled.
    #[serde(default)]
    pub others: Vec<String>,
}

impl EtcdBefore {
    pub fn of(node: &Node, members: &Members) -> Self {
        // kubeadm calls a member as the node (etcd: `--name`)
        let flags = node.static_pods.get(&Component::Etcd).map(|p| &p.flags);
        let own = flags.and_then(|f| f.get("name")).or(node.name.as_ref()).filter(|_| flags.is_some());
        let (ours, theirs): (Vec<_>, Vec<_>) = members.peers.iter().partition(|p| Some(&p.name) == own);
        Self {
            total: members.total,
            healthy: members.healthy,
            dialled: ours.iter().flat_map(|p| &p.urls).filter_map(|u| wiring::host_of(u)).collect(),
            others: theirs
                .iter()
                .filter_map(|p| p.urls.first().cloned())
                .filter(|u| u.starts_with("https://"))
                .collect(),
        }
    }
}

/// What a socket served.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SocketBefore {
    #[serde(default)]
    pub component: Option<Component>,
    pub address: String,
    #[serde(default)]
    pub name: Option<String>,
    pub answered: bool,
    /// The leaf that was on the disk.
    pub ok: bool,
}

/// How [`Before::refused`] names a credential and who refuses it.
pub fn refusal(name: &str, proof: &Proof) -> String {
    format!("{name}: {}", proof.describe())
}

impl Before {
    /// # Errors
    /// [`FsError`].
    pub fn keep(&self, root: &Root, dir: &TxnDir) -> Result<(), Stop> {
        Ok(root.write(&dir.before(), &serde_json::to_vec(self)?, 0o600)?)
    }

    /// What is not known is as if nobody had answered.
    pub fn load(root: &Root, dir: &TxnDir) -> Self {
        let bytes = root.read(&dir.before(), MAX_FILE).ok();
        bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }

    /// The id of the container that ran.
    pub fn container(&self, component: Component) -> Option<&String> {
        self.containers.as_ref()?.get(&component)
    }

    /// It is known that the component ran and was not healthy.
    pub fn was_ill(&self, component: Component) -> bool {
        self.health.get(&component) == Some(&false)
    }

    /// It is known that no container of the component ran.
    pub fn was_down(&self, component: Component) -> bool {
        component != Component::Kubelet && self.containers.as_ref().is_some_and(|c| !c.contains_key(&component))
    }

    pub fn socket(&self, socket: &Socket) -> Option<&SocketBefore> {
        self.sockets.iter().find(|s| (&s.address, &s.name) == (&socket.address, &socket.name))
    }
}
