//! What the API and this control plane's own files say about the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::Host;
use crate::host::kube::Connection;
use crate::model::approve::cluster::Cluster;
use crate::model::approve::neighbours::{Neighbours, neighbour};
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::inventory::{Entry, Inventory};
use crate::verify::pages::{self, Failed};

/// kubeadm's own, whose servers are the API's. Not people's copies, in which anything may stand.
const KUBECONFIGS: [&str; 5] =
    ["admin.conf", "super-admin.conf", "kubelet.conf", "controller-manager.conf", "scheduler.conf"];
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
/// From 1.33 on; before, where it is switched on (kubernetes: KEP-1880).
const SERVICE_CIDRS: [&str; 2] =
    ["/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1beta1/servicecidrs"];

/// What is no node's.
///
/// # Errors
/// A clause. What is not known for certain would be approved.
pub(super) fn cluster(host: &Host, to: &Connection, inventory: &Inventory) -> Result<Cluster, String> {
    let mut cluster = Cluster::default();
    cluster.add_server(&to.server);
    for server in KUBECONFIGS.iter().filter_map(|name| inventory.get(name)?.server()) {
        cluster.add_server(server);
    }
    let shown = inventory.get("apiserver").and_then(Entry::leaf);
    let shown = shown.ok_or("the API server's certificate cannot be read, so that the API's names are not known")?;
    cluster.add_sans(&shown.sans);
    let Some(pod) = inventory.node.static_pods.get(&Component::KubeApiserver) else {
        return Err("there is no manifest of the API server, so that the Services' range is not known".to_owned());
    };
    for pair in &pod.sni {
        let leaf = inventory.entries.iter().find(|e| e.path() == pair.cert).and_then(Entry::leaf);
        cluster.add_sans(leaf.into_iter().flat_map(|leaf| &leaf.sans));
        cluster.add_sans(&pair.names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>());
    }
    let flag = pod.flags.get("service-cluster-ip-range").map(String::as_str);
    cluster.add_ranges(flag).map_err(|why| format!("--service-cluster-ip-range of the API server: {why}"))?;
    cluster.add_endpoints(&one(host, to, ENDPOINTS)?);
    let unread = pages::each(host, to, "/api/v1/services", "", &mut |service| cluster.add_service(&service));
    if unread.map_err(|e| told(&e))? > 0 {
        cluster.add_hidden_service();
    }
    for path in SERVICE_CIDRS {
        match pages::each(host, to, path, "", &mut |cidr| cluster.add_service_cidr(&cidr)) {
            Ok(_) => break,
            Err(Failed::Answered { status: 404, .. }) => {}
            Err(e) => return Err(told(&e)),
        }
    }
    Ok(cluster)
}

/// All Nodes, as they are now.
///
/// # Errors
/// A clause.
pub(super) fn nodes(host: &Host, to: &Connection, into: &mut Neighbours) -> Result<(), String> {
    let mut living = BTreeMap::new();
    let left_out = pages::each(host, to, "/api/v1/nodes", "", &mut |object| living.extend(neighbour(&object)));
    into.see(living, left_out.map_err(|e| told(&e))?, host.clock.now());
    Ok(())
}

fn told(failed: &Failed) -> String {
    match failed {
        Failed::Answered { status: 403, .. } => {
            format!("{failed}: apply packaging/kubernetes/approver.yaml of this version, which lets it read that")
        }
        _ => failed.to_string(),
    }
}

fn one(host: &Host, to: &Connection, path: &str) -> Result<Value, String> {
    let answer = host.kube.get(to, path).map_err(|e| chain(&e))?;
    if answer.status != 200 {
        let (server, path, status) = (to.server.clone(), path.to_owned(), answer.status);
        return Err(told(&Failed::Answered { server, path, status }));
    }
    serde_json::from_str(&answer.body)
        .map_err(|e| format!("{} answered {path} with something unreadable: {e}", to.server))
}
