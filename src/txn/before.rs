//! How the node was before anything was touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::host::fs::{MAX_FILE, Root};
use crate::host::kube::Identity;
use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::health::NodeSnapshot;
use crate::model::inventory::{ContainerRef, Inventory, Node};
use crate::model::plan::Socket;
use crate::model::wiring;
use crate::verify::REQUEST;
use crate::verify::aggregate::{self, Aggregated};
use crate::verify::api::{administrators, answering};
use crate::verify::etcd::{self, Members};
use crate::verify::health::health;
use crate::verify::node::NodeWatch;
use crate::verify::served::{Expected, served};

use super::run::{Run, Stop};
use super::steps::container::newest_running;
use super::steps::pods;
use super::steps::verify::on_disk;
use super::store::TxnDir;

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
    fn of(node: &Node, members: &Members) -> Self {
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
        Some(SocketBefore {
            component: Some(seen.component),
            address: seen.address,
            name: seen.name,
            answered: seen.serial.is_some(),
            ok: seen.ok,
        })
    };
    let proxied = run.plan.item("front-proxy-client").is_some();
    Before {
        node: seen,
        kubelet_was_down: kubelet.is_some_and(|k| !k.is_running()),
        health: health_of_all(run),
        refused: BTreeSet::new(),
        etcd: etcd::ask(host, inventory).and_then(Result::ok).map(|m| EtcdBefore::of(node, &m)),
        sockets: wiring::sockets(inventory).into_iter().filter_map(ask).collect(),
        containers: containers(run),
        others: others(run),
        pods: pods::running(run),
        aggregated: if proxied { aggregate::answering(host, inventory) } else { Vec::new() },
        forced: Vec::new(),
    }
}

/// What each component says of itself; etcd is asked through its members.
fn health_of_all(run: &Run<'_>) -> BTreeMap<Component, bool> {
    let (host, inventory) = (run.engine.host, run.engine.inventory);
    let asked = Component::ALL.into_iter().filter(|c| *c != Component::Etcd);
    let ask = |component: Component| {
        let url = wiring::health_url(&inventory.node, component)?;
        let identity = identity_for(host, inventory, component);
        Some((component, health(host, component, &url, None, identity.as_ref(), REQUEST).ok))
    };
    asked.filter_map(ask).collect()
}

/// As whom a component is asked for its health: the API server may tell strangers nothing.
pub fn identity_for(host: &Host, inventory: &Inventory, component: Component) -> Option<Identity> {
    let to = (component == Component::KubeApiserver).then(|| administrators(host, inventory))??;
    to.identity
}

/// Ids of the components' containers that run now; None: the runtime did not tell.
fn containers(run: &Run<'_>) -> Option<BTreeMap<Component, String>> {
    ids(run, run.engine.inventory.node.static_pods.iter().map(|(c, pod)| (*c, &pod.container)))
}

fn others(run: &Run<'_>) -> Option<BTreeMap<String, String>> {
    ids(run, run.plan.others.iter().map(|o| (o.container.to_string(), &o.container)))
}

/// All of them.
pub fn running(run: &Run<'_>) -> BTreeSet<String> {
    let components = containers(run).unwrap_or_default().into_values();
    components.chain(others(run).unwrap_or_default().into_values()).collect()
}

fn ids<'c, K: Ord>(run: &Run<'_>, wanted: impl Iterator<Item = (K, &'c ContainerRef)>) -> Option<BTreeMap<K, String>> {
    let mut ids = BTreeMap::new();
    for (key, container) in wanted {
        let socket = run.engine.inventory.node.kubelet.cri_socket.as_ref()?;
        let listed = run.engine.host.runtime.containers(socket, container).ok()?;
        ids.extend(newest_running(&listed).map(|c| (key, c.id)));
    }
    Some(ids)
}
