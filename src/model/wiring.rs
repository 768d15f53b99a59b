//! Where the node's components listen and dial, read from the flags of their manifests: which socket serves which
//! entry, and against what each credential can be proven.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::component::Component;
use super::inventory::{Content, Entry, Inventory, Node};
use super::plan::{Check, Proof, Socket};

/// kube-apiserver's default of `--secure-port` (kubernetes: `pkg/kubeapiserver/options/serving.go`).
const APISERVER_PORT: &str = "6443";
/// kubernetes: `pkg/cluster/ports/ports.go`.
const CONTROLLER_MANAGER_PORT: &str = "10257";
/// kubernetes: `pkg/cluster/ports/ports.go`.
const SCHEDULER_PORT: &str = "10259";

/// Every socket of the node that serves a certificate of the inventory.
pub fn sockets(inventory: &Inventory) -> Vec<Socket> {
    let node = &inventory.node;
    let mut all = Vec::new();
    let mut push = |component, address: String, entry: &str| {
        let socket = Socket { component, address, entry: entry.to_owned() };
        if inventory.get(entry).is_some_and(|e| e.leaf().is_some()) && !all.contains(&socket) {
            all.push(socket);
        }
    };
    for url in flag_list(node, Component::Etcd, "listen-client-urls") {
        if let Some(address) = url.strip_prefix("https://") {
            push(Component::Etcd, reachable(address), "etcd-server");
        }
    }
    for url in flag_list(node, Component::Etcd, "listen-peer-urls") {
        if let Some(address) = url.strip_prefix("https://") {
            push(Component::Etcd, reachable(address), "etcd-peer");
        }
    }
    if let Some(address) = apiserver_address(node) {
        push(Component::KubeApiserver, address, "apiserver");
    }
    if let Some(address) = kubelet_address(node) {
        push(Component::Kubelet, address, "kubelet-serving");
    }
    all
}

/// `host:port` at which this node's own API server can be dialled.
pub fn apiserver_address(node: &Node) -> Option<String> {
    let flags = &node.static_pods.get(&Component::KubeApiserver)?.flags;
    let port = flags.get("secure-port").map_or(APISERVER_PORT, String::as_str);
    let bind = flags.get("bind-address").map(String::as_str).filter(|a| !is_any(a));
    let host = bind.or_else(|| flags.get("advertise-address").map(String::as_str)).unwrap_or("127.0.0.1");
    Some(join(host, port))
}

/// `host:port` at which this node's kubelet serves its own API.
fn kubelet_address(node: &Node) -> Option<String> {
    let host = node.kubelet.address.as_deref().unwrap_or("127.0.0.1");
    Some(join(host, &node.kubelet.port?.to_string()))
}

/// This node's own API server as a URL.
pub fn apiserver_url(node: &Node) -> Option<String> {
    apiserver_address(node).map(|a| format!("https://{a}"))
}

/// This node's own etcd member as a URL: one that listens with TLS, the loopback address first.
pub fn etcd_url(node: &Node) -> Option<String> {
    let mut urls: Vec<String> = flag_list(node, Component::Etcd, "listen-client-urls")
        .into_iter()
        .filter_map(|u| u.strip_prefix("https://").map(|a| format!("https://{}", reachable(a))))
        .collect();
    urls.sort_by_key(|u| !u.contains("127.0.0.1") && !u.contains("[::1]"));
    urls.into_iter().next()
}

/// Where a component says that it is well. The API server and etcd are asked by other checks.
pub fn health_url(node: &Node, component: Component) -> Option<String> {
    let of = |default_port: &str| {
        let flags = &node.static_pods.get(&component)?.flags;
        let port = flags.get("secure-port").map_or(default_port, String::as_str);
        let bind = flags.get("bind-address").map(String::as_str).filter(|a| !is_any(a)).unwrap_or("127.0.0.1");
        Some(format!("https://{}/healthz", join(bind, port)))
    };
    match component {
        Component::Etcd => None,
        Component::KubeApiserver => apiserver_url(node).map(|u| u + "/readyz"),
        Component::KubeControllerManager => of(CONTROLLER_MANAGER_PORT),
        Component::KubeScheduler => of(SCHEDULER_PORT),
        Component::Kubelet => node.kubelet.healthz.as_ref().map(|a| format!("http://{}/healthz", reachable(a))),
    }
}

/// What the entry's credential can be proven against on this node; empty if nothing.
pub fn proofs(inventory: &Inventory, entry: &Entry) -> Vec<Proof> {
    let node = &inventory.node;
    let ca = ca_path(inventory, entry);
    let user = || entry.leaf().and_then(|l| l.common_name.clone());
    let mut all = Vec::new();
    match (&entry.form, entry.name.as_str()) {
        // a kubeconfig's, embedded or in files of its own
        _ if server(entry).is_some() => {
            if let (Some(server), Some(ca), Some(user)) = (server(entry), cluster_ca(inventory), user()) {
                all.push(Proof::ApiServer { server, ca, user });
            }
        }
        (_, "front-proxy-client") => {
            if let (Some(server), Some(ca)) = (apiserver_url(node), cluster_ca(inventory)) {
                all.push(Proof::FrontProxy { server, ca });
            }
        }
        (_, "apiserver-kubelet-client") => {
            if let Some(address) = kubelet_address(node) {
                all.push(Proof::Kubelet { address });
            }
        }
        (_, "apiserver-etcd-client") => {
            let dialled = flag_list(node, Component::KubeApiserver, "etcd-servers").into_iter().next();
            if let (Some(endpoint), Some(ca)) = (etcd_url(node).or(dialled), ca) {
                all.push(Proof::Etcd { endpoint, ca });
            }
        }
        (_, "etcd-healthcheck-client") => all.extend(etcd_proof(node, ca)),
        (_, "etcd-server" | "etcd-peer") => {
            // kubeadm gives both usages to both, and etcd dials with them (etcd: `embed/etcd.go`, grpc gateway)
            all.extend(handshake(inventory, entry, ca.clone()));
            all.extend(etcd_proof(node, ca));
        }
        (_, "apiserver") => all.extend(handshake(inventory, entry, ca)),
        _ => {}
    }
    all
}

fn etcd_proof(node: &Node, ca: Option<PathBuf>) -> Option<Proof> {
    Some(Proof::Etcd { endpoint: etcd_url(node)?, ca: ca? })
}

/// The names by which clients dial the entry's socket, as far as its present certificate covers them: a name that
/// is not in it did not work before either, and renewing keeps the names.
fn handshake(inventory: &Inventory, entry: &Entry, ca: Option<PathBuf>) -> Option<Proof> {
    let node = &inventory.node;
    let sans = &entry.leaf()?.sans;
    let hosts: BTreeSet<String> = match entry.name.as_str() {
        "apiserver" => {
            let configured = inventory.entries.iter().filter_map(server);
            configured.chain(apiserver_url(node)).filter_map(|u| host_of(&u)).collect()
        }
        "etcd-server" => {
            let dialled = flag_list(node, Component::KubeApiserver, "etcd-servers");
            let listened = flag_list(node, Component::Etcd, "listen-client-urls");
            dialled.iter().chain(&listened).filter_map(|u| host_of(u)).collect()
        }
        _ => {
            let advertised = flag_list(node, Component::Etcd, "initial-advertise-peer-urls");
            let listened = flag_list(node, Component::Etcd, "listen-peer-urls");
            advertised.iter().chain(&listened).filter_map(|u| host_of(u)).collect()
        }
    };
    let covered = |h: &String| sans.contains(&format!("IP:{h}")) || sans.contains(&format!("DNS:{h}"));
    let names: Vec<String> = hosts.into_iter().filter(covered).collect();
    if names.is_empty() { None } else { Some(Proof::Handshake { ca: ca?, names }) }
}

/// Checks that hold for the whole node after anything was renewed.
pub fn etcd_members(node: &Node) -> Option<Check> {
    etcd_url(node).map(|endpoint| Check::EtcdMembers { endpoint })
}

fn server(entry: &Entry) -> Option<String> {
    match &entry.content {
        Content::Readable(c) => c.server.clone(),
        Content::Absent | Content::Unusable(_) => None,
    }
}

fn cluster_ca(inventory: &Inventory) -> Option<PathBuf> {
    inventory.get("ca").map(|e| e.path().to_path_buf())
}

fn ca_path(inventory: &Inventory, entry: &Entry) -> Option<PathBuf> {
    inventory.get(entry.signer.as_deref()?).map(|e| e.path().to_path_buf())
}

fn flag_list(node: &Node, component: Component, flag: &str) -> Vec<String> {
    let value = node.static_pods.get(&component).and_then(|p| p.flags.get(flag));
    value.map(|v| v.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()).unwrap_or_default()
}

/// A wildcard listener is dialled on the loopback address of its family.
fn reachable(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

fn is_any(address: &str) -> bool {
    matches!(address, "0.0.0.0" | "::" | "")
}

fn join(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host name or address of a URL, without brackets and port.
pub fn host_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.rsplit_once(':').map_or(authority, |(h, _)| h),
    };
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::inventory::{Kubelet, Role};

    fn node(address: Option<&str>, port: Option<u16>) -> Node {
        Node {
            name: None,
            role: Role::ControlPlane,
            static_pods: BTreeMap::new(),
            kubelet: Kubelet {
                unit: "kubelet.service".into(),
                kubeconfig: None,
                bootstrap_kubeconfig: None,
                cert_dir: PathBuf::new(),
                rotate_certificates: true,
                server_tls_bootstrap: false,
                static_pod_path: None,
                healthz: None,
                port,
                address: address.map(str::to_owned),
                cri_socket: None,
            },
            pki_dir: PathBuf::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_kubelet_is_dialled_where_it_listens() {
        for (address, port, dialled) in [
            (None, Some(10250), Some("127.0.0.1:10250")),
            (Some("10.0.0.7"), Some(10250), Some("10.0.0.7:10250")),
            (Some("fd00::7"), Some(1025), Some("[fd00::7]:1025")),
            (Some("10.0.0.7"), None, None),
        ] {
            assert_eq!(kubelet_address(&node(address, port)).as_deref(), dialled);
        }
    }
}
