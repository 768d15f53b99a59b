//! How the node was before anything was touched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::fs::{MAX_FILE, Root};
use crate::model::component::Component;
use crate::model::health::NodeSnapshot;
use crate::model::plan::Socket;
use crate::model::wiring;
use crate::verify::REQUEST;
use crate::verify::api::answering;
use crate::verify::node::NodeWatch;
use crate::verify::served::{Expected, served};

use super::prove::{etcd_proof, members, on_disk};
use super::run::{Run, Stop};
use super::store::TxnDir;

/// The node before anything was touched: what "no worse" is measured by. Kept with the transaction, because another
/// process may have to finish it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Before {
    /// None: the API could not be asked.
    pub node: Option<NodeSnapshot>,
    /// The kubelet's unit was seen, and not running.
    pub kubelet_was_down: bool,
    /// Members of etcd, where one runs here and answers.
    pub etcd: Option<EtcdBefore>,
    pub sockets: Vec<SocketBefore>,
    /// Ids of the containers that ran; None: the runtime did not tell.
    pub containers: Option<BTreeMap<Component, String>>,
}

/// etcd's members.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct EtcdBefore {
    pub total: usize,
    pub voters: usize,
    pub healthy: usize,
}

impl EtcdBefore {
    /// A single member that does not say it is well is no reason to hold back: its certificates may be why.
    pub fn has_quorum(self) -> bool {
        self.voters <= 1 || self.healthy > self.voters / 2
    }
}

/// What a socket served.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SocketBefore {
    pub address: String,
    pub answered: bool,
    /// The leaf that was on the disk.
    pub ok: bool,
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

    /// It is known that no container of the component ran.
    pub fn was_down(&self, component: Component) -> bool {
        component != Component::Kubelet && self.containers.as_ref().is_some_and(|c| !c.contains_key(&component))
    }

    pub fn socket(&self, address: &str) -> Option<&SocketBefore> {
        self.sockets.iter().find(|s| s.address == address)
    }
}

/// Looks before anything is touched. What cannot be seen is None.
pub fn look(run: &Run<'_>) -> Before {
    let (host, inventory) = (run.engine.host, run.engine.inventory);
    let node = &inventory.node;
    run.engine.progress.step("looking at the node as it is", REQUEST * 8);
    let seen = node.name.as_ref().and_then(|name| {
        let to = answering(host, inventory, name)?;
        NodeWatch::start(host, &to, name).before().cloned()
    });
    let kubelet = node.kubelet.port.and_then(|_| host.services.status(&node.kubelet.unit).ok());
    let ask = |socket: Socket| {
        let serial = on_disk(run, &socket.entry).ok()?.serial;
        let seen = served(&Expected { socket, serial }, None, REQUEST);
        Some(SocketBefore { address: seen.address, answered: seen.serial.is_some(), ok: seen.ok })
    };
    Before {
        node: seen,
        kubelet_was_down: kubelet.is_some_and(|k| !k.is_running()),
        etcd: etcd_proof(run).and_then(|(name, proof)| members(run, &name, &proof).ok()).map(|m| EtcdBefore {
            total: m.total,
            voters: m.voters,
            healthy: m.healthy,
        }),
        sockets: wiring::sockets(inventory).into_iter().filter_map(ask).collect(),
        containers: containers(run),
    }
}

/// Ids of the containers that run now; None: the runtime did not tell.
pub fn containers(run: &Run<'_>) -> Option<BTreeMap<Component, String>> {
    let (host, node) = (run.engine.host, &run.engine.inventory.node);
    let mut ids = BTreeMap::new();
    for component in node.static_pods.keys() {
        let found = super::activate::running(host.runtime.as_ref(), node.kubelet.cri_socket.as_ref()?, *component);
        ids.extend(found.ok()?.map(|c| (*component, c.id)));
    }
    Some(ids)
}
