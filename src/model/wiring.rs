//! Where the node's components listen and dial, read from the flags of their manifests: which socket serves which
//! entry, and against what each credential can be proven.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use super::component::Component;
use super::inventory::{Entry, Inventory, Node, SniPair};
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
        let socket = Socket { component, address, entry: entry.to_owned(), name: None };
        if inventory.get(entry).is_some_and(|e| e.leaf().is_some()) && !all.contains(&socket) {
            all.push(socket);
        }
    };
    for (flag, entry) in [("listen-client-urls", "etcd-server"), ("listen-peer-urls", "etcd-peer")] {
        for address in tls_addresses(node, Component::Etcd, flag) {
            push(Component::Etcd, address, entry);
        }
    }
    // by default the controller manager and the scheduler serve what they make themselves; a flag says otherwise
    for (component, entry) in [
        (Component::KubeApiserver, "apiserver"),
        (Component::KubeControllerManager, "kube-controller-manager:tls-cert-file"),
        (Component::KubeScheduler, "kube-scheduler:tls-cert-file"),
    ] {
        if let Some(address) = secure_address(node, component) {
            push(component, address, entry);
        }
    }
    if let Some(address) = kubelet_address(node) {
        push(Component::Kubelet, address, "kubelet-serving");
    }
    all.extend(by_name(inventory));
    all
}

/// More names on one socket are not measured: the pairs are loaded together, so that some show it of all.
const MOST_NAMES: usize = 16;

/// What is served to those who ask for a name of a pair of `--tls-sni-cert-key`.
fn by_name(inventory: &Inventory) -> Vec<Socket> {
    let node = &inventory.node;
    let mut all = Vec::new();
    for (component, pod) in &node.static_pods {
        let Some(address) = secure_address(node, *component) else { continue };
        // names that the flag has go before those of certificates, and earlier pairs before later ones (kubernetes:
        // `apiserver/pkg/server/dynamiccertificates/named_certificates.go:BuildNamedCertificates`)
        let mut pairs: Vec<&SniPair> = pod.sni.iter().collect();
        pairs.sort_by_key(|pair| pair.names.is_empty());
        let mut seen = BTreeSet::new();
        for pair in pairs {
            let Some(entry) = inventory.entries.iter().find(|e| e.path() == pair.cert) else { continue };
            let Some(leaf) = entry.leaf() else { continue };
            let own = || leaf.sans.iter().filter_map(|san| san.strip_prefix("DNS:").map(str::to_owned)).collect();
            let names: Vec<String> = if pair.names.is_empty() { own() } else { pair.names.clone() };
            for name in names.iter().filter_map(|n| host_name(n)) {
                if seen.insert(name.clone()) && seen.len() <= MOST_NAMES {
                    let entry = entry.name.clone();
                    all.push(Socket { component: *component, address: address.clone(), entry, name: Some(name) });
                }
            }
        }
    }
    all
}

/// A host name that a name of a pair stands for; None for an address, which nobody asks for by SNI (RFC 6066).
fn host_name(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let host = name.strip_prefix("*.").map_or_else(|| name.clone(), |domain| format!("certwarden.{domain}"));
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    (!host.is_empty() && host.chars().all(is_host) && host.parse::<IpAddr>().is_err()).then_some(host)
}

/// `host:port` at which a component of Kubernetes serves on this node; None if it has no manifest or serves nothing.
pub fn secure_address(node: &Node, component: Component) -> Option<String> {
    let default = match component {
        Component::KubeApiserver => APISERVER_PORT,
        Component::KubeControllerManager => CONTROLLER_MANAGER_PORT,
        Component::KubeScheduler => SCHEDULER_PORT,
        Component::Etcd | Component::Kubelet => return None,
    };
    let flags = &node.static_pods.get(&component)?.flags;
    let port = flags.get("secure-port").map_or(default, String::as_str);
    if port == "0" {
        return None; // "don't serve HTTPS at all" (kubernetes: `apiserver/pkg/server/options/serving.go`)
    }
    let bind = flags.get("bind-address").map(String::as_str);
    let advertised = || flags.get("advertise-address").map(String::as_str).filter(|a| !is_any(a));
    let loopback = if bind == Some("::") { "::1" } else { "127.0.0.1" };
    let host = bind.filter(|a| !is_any(a)).or_else(advertised).unwrap_or(loopback);
    Some(join(host, port))
}

/// Where this node's kubelet serves its own API.
pub fn kubelet_socket(node: &Node) -> Option<Socket> {
    let (component, address, entry) = (Component::Kubelet, kubelet_address(node)?, "kubelet-serving".to_owned());
    Some(Socket { component, address, entry, name: None })
}

/// `host:port` at which this node's kubelet serves its own API.
fn kubelet_address(node: &Node) -> Option<String> {
    let host = node.kubelet.address.as_deref().unwrap_or("127.0.0.1");
    Some(join(host, &node.kubelet.port?.to_string()))
}

/// This node's own API server as a URL.
pub fn apiserver_url(node: &Node) -> Option<String> {
    secure_address(node, Component::KubeApiserver).map(|a| format!("https://{a}"))
}

/// Where etcd can be asked, as URLs, the nearest first: this node's own member if one runs here, else what the API
/// server dials.
pub fn etcd_urls(node: &Node) -> Vec<String> {
    let mut own = tls_addresses(node, Component::Etcd, "listen-client-urls");
    own.sort_by_key(|a| !a.starts_with("127.0.0.1:") && !a.starts_with("[::1]:") && !a.starts_with("localhost:"));
    own.truncate(1);
    let all = if own.is_empty() { tls_addresses(node, Component::KubeApiserver, "etcd-servers") } else { own };
    all.into_iter().map(|a| format!("https://{a}")).collect()
}

/// Where a component says that it is well.
pub fn health_url(node: &Node, component: Component) -> Option<String> {
    match component {
        // plain HTTP, for probes: the client port wants a certificate
        Component::Etcd => {
            let urls = flag_list(node, component, "listen-metrics-urls");
            let address = urls.iter().find_map(|u| authority(u.strip_prefix("http://")?))?;
            Some(format!("http://{}/health", reachable(address)))
        }
        Component::KubeApiserver => apiserver_url(node).map(|u| u + "/readyz"),
        Component::KubeControllerManager | Component::KubeScheduler => {
            secure_address(node, component).map(|a| format!("https://{a}/healthz"))
        }
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
            // of an etcd elsewhere each endpoint: any of them may be the one that is dialled
            let to = |endpoint| Some(Proof::Etcd { endpoint, ca: ca.clone()? });
            all.extend(etcd_urls(node).into_iter().filter_map(to));
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
    Some(Proof::Etcd { endpoint: etcd_urls(node).into_iter().next()?, ca: ca? })
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
    etcd_urls(node).into_iter().next().map(|endpoint| Check::EtcdMembers { endpoint })
}

fn server(entry: &Entry) -> Option<String> {
    entry.server().map(str::to_owned)
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

/// `host:port` of the URLs of a flag that are dialled with TLS. etcd also takes `unix://` and plain ones.
fn tls_addresses(node: &Node, component: Component, flag: &str) -> Vec<String> {
    let urls = flag_list(node, component, flag);
    urls.iter().filter_map(|u| authority(u.strip_prefix("https://")?)).map(reachable).collect()
}

/// `host:port` of what follows a URL's scheme; None without a port, which etcd demands
/// (etcd: `client/pkg/types/urls.go:NewURLs`).
fn authority(rest: &str) -> Option<&str> {
    let authority = rest.split('/').next()?;
    let (host, port) = authority.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(authority)
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

    use super::*;
    use crate::model::inventory::{Kubelet, Role, StaticPod};

    fn node(address: Option<&str>, port: Option<u16>) -> Node {
        let kubelet = Kubelet { port, address: address.map(str::to_owned), ..Kubelet::default() };
        Node { role: Role::ControlPlane, kubelet, ..Node::default() }
    }

    fn with(component: Component, flags: &[(&str, &str)]) -> Node {
        let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let pod = StaticPod { flags, ..StaticPod::default() };
        Node { static_pods: [(component, pod)].into(), ..node(None, None) }
    }

    #[test]
    fn a_component_is_dialled_where_its_flags_say() {
        use Component::{KubeApiserver, KubeControllerManager, KubeScheduler};
        for (component, flags, dialled) in [
            (KubeApiserver, vec![], Some("127.0.0.1:6443")),
            (KubeApiserver, vec![("advertise-address", "10.0.0.1"), ("secure-port", "443")], Some("10.0.0.1:443")),
            (
                KubeApiserver,
                vec![("bind-address", "0.0.0.0"), ("advertise-address", "fd00::1")],
                Some("[fd00::1]:6443"),
            ),
            (KubeApiserver, vec![("bind-address", "::")], Some("[::1]:6443")),
            (
                KubeApiserver,
                vec![("bind-address", "10.0.0.2"), ("advertise-address", "10.0.0.1")],
                Some("10.0.0.2:6443"),
            ),
            (KubeControllerManager, vec![("bind-address", "::1")], Some("[::1]:10257")),
            (KubeControllerManager, vec![("secure-port", "0")], None),
            (KubeScheduler, vec![("bind-address", "node-1.example")], Some("node-1.example:10259")),
        ] {
            let node = with(component, &flags);
            assert_eq!(secure_address(&node, component).as_deref(), dialled, "{flags:?}");
            let health = health_url(&node, component);
            assert_eq!(health.is_some(), dialled.is_some(), "{flags:?}: {health:?}");
        }
        assert_eq!(secure_address(&with(KubeApiserver, &[]), KubeScheduler), None, "no manifest, no socket");
    }

    #[test]
    fn etcd_is_dialled_on_each_tls_url_and_asked_on_the_nearest() {
        let urls =
            "https://10.0.0.1:2379/, https://[::]:2379,http://127.0.0.1:2378,unix://a,https://,https://x,https://h:p";
        let node = with(
            Component::Etcd,
            &[("listen-client-urls", urls), ("listen-metrics-urls", "https://[::1]:2383,http://[::]:2381")],
        );
        assert_eq!(tls_addresses(&node, Component::Etcd, "listen-client-urls"), ["10.0.0.1:2379", "[::1]:2379"]);
        assert_eq!(etcd_urls(&node), ["https://[::1]:2379"]);
        assert_eq!(health_url(&node, Component::Etcd).as_deref(), Some("http://[::1]:2381/health"));
        let external =
            with(Component::KubeApiserver, &[("etcd-servers", "https://e1.example:2379,https://[fd00::e]:2379")]);
        assert_eq!(etcd_urls(&external), ["https://e1.example:2379", "https://[fd00::e]:2379"]);
        assert!(etcd_urls(&with(Component::KubeApiserver, &[])).is_empty());
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
