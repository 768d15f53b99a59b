//! What the node itself says about its cluster.

use serde_json::{Map, Value, json};

use crate::host::Host;
use crate::host::fs::MAX_FILE;
use crate::model::cert::{self, KeyAlgorithm};
use crate::model::component::Component;
use crate::model::inventory::Node;
use crate::model::version::Version;

/// A `ClusterConfiguration` without the cluster. Names and addresses are not needed: a renewal copies them from the old leaf
/// (kubernetes: `cmd/kubeadm/app/phases/certs/renewal/manager.go:certToConfig`).
pub(super) fn cluster_configuration(node: &Node, kubeadm: Version) -> Map<String, Value> {
    let mut cluster = Map::new();
    cluster.insert("apiVersion".into(), json!(kubeadm.writes()));
    cluster.insert("kind".into(), json!("ClusterConfiguration"));
    cluster.insert("etcd".into(), etcd(node));
    cluster
}

/// Local where there is a manifest of etcd, else what kube-apiserver is told.
pub(super) fn etcd(node: &Node) -> Value {
    if let Some(pod) = node.static_pods.get(&Component::Etcd) {
        let dir = pod.flags.get("data-dir").map_or("/var/lib/etcd", String::as_str);
        return json!({ "local": { "dataDir": dir } });
    }
    let flag = |name: &str| node.static_pods.get(&Component::KubeApiserver).and_then(|p| p.flags.get(name));
    let Some(servers) = flag("etcd-servers") else { return json!({ "local": { "dataDir": "/var/lib/etcd" } }) };
    let mut external = Map::new();
    external.insert("endpoints".into(), servers.split(',').map(|s| json!(s.trim())).collect());
    for (field, name) in [("caFile", "etcd-cafile"), ("certFile", "etcd-certfile"), ("keyFile", "etcd-keyfile")] {
        external.insert(field.into(), json!(flag(name).map_or("", String::as_str)));
    }
    json!({ "external": external })
}

/// Only what kubeadm would else find out by looking around: the default route, sockets, the host name.
pub(super) fn init_configuration(node: &Node, api_version: &Value) -> Map<String, Value> {
    let flag = |name: &str| node.static_pods.get(&Component::KubeApiserver).and_then(|p| p.flags.get(name));
    let mut init = Map::new();
    init.insert("apiVersion".into(), api_version.clone());
    init.insert("kind".into(), json!("InitConfiguration"));
    if let Some(address) = flag("advertise-address") {
        let port: u16 = flag("secure-port").and_then(|p| p.parse().ok()).unwrap_or(6443);
        init.insert("localAPIEndpoint".into(), json!({ "advertiseAddress": address, "bindPort": port }));
    }
    let mut registration = Map::new();
    if let Some(name) = &node.name {
        registration.insert("name".into(), json!(name));
    }
    if let Some(socket) = &node.kubelet.cri_socket {
        registration.insert("criSocket".into(), json!(format!("unix://{}", socket.display())));
    }
    if !registration.is_empty() {
        init.insert("nodeRegistration".into(), Value::Object(registration));
    }
    init
}

/// The kind of key that the API server has now.
pub(super) fn apiserver_key(host: &Host, node: &Node) -> Option<KeyAlgorithm> {
    let flag = node.static_pods.get(&Component::KubeApiserver).and_then(|p| p.flags.get("tls-cert-file"));
    let path = flag.map_or_else(|| node.pki_dir.join("apiserver.crt"), Into::into);
    let facts = cert::parse_pem(&host.root.read(&path, MAX_FILE).ok()?).ok()?;
    facts.into_iter().next().map(|leaf| leaf.key_algorithm)
}
