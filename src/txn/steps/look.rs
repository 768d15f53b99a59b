//! The node as it is before anything is touched, and what runs on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;
use crate::host::kube::Identity;
use crate::model::component::Component;
use crate::model::inventory::{ContainerRef, Inventory};
use crate::model::plan::Socket;
use crate::model::wiring;
use crate::txn::before::{Before, EtcdBefore, SocketBefore};
use crate::txn::run::Run;
use crate::verify::api::{administrators, answering};
use crate::verify::health::health;
use crate::verify::node::NodeWatch;
use crate::verify::served::{Expected, served};
use crate::verify::{REQUEST, aggregate, etcd};

use super::exits::newest_running;
use super::pods;

/// Looks before anything is touched. What cannot be seen is None.
pub fn look(run: &Run<'_>) -> Before {
    let (host, inventory) = (run.context.host, run.context.inventory);
    let node = &inventory.node;
    run.context.progress.step("looking at the node as it is", REQUEST * 8);
    let seen = node.name.as_ref().and_then(|name| {
        let to = answering(host, inventory, name)?;
        NodeWatch::start(host, &to, name).before().cloned()
    });
    let kubelet = node.kubelet.port.and_then(|_| host.services.status(&node.kubelet.unit).ok());
    let ask = |socket: Socket| {
        let serial = run.on_disk(&socket.entry).ok()?.serial;
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
    let (host, inventory) = (run.context.host, run.context.inventory);
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
    ids(run, run.context.inventory.node.static_pods.iter().map(|(c, pod)| (*c, &pod.container)))
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
        let socket = run.context.inventory.node.kubelet.cri_socket.as_ref()?;
        let listed = run.context.host.runtime.containers(socket, container).ok()?;
        ids.extend(newest_running(&listed).map(|c| (key, c.id)));
    }
    Some(ids)
}
