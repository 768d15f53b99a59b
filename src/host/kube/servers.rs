//! Where the cluster's API servers are, as they themselves publish it: the endpoints of the Service `default/kubernetes`.

use std::net::IpAddr;

use serde::Deserialize;

use super::nodes::fetch;
use super::{Connection, KubeApi};

/// Deprecated since 1.33, and written there all the same (kubernetes: `pkg/controlplane/reconcilers`).
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
const DEFAULT_PORT: u16 = 6443;

/// An API server's address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiServer {
    pub address: IpAddr,
    pub port: u16,
}

impl ApiServer {
    pub fn url(self) -> String {
        format!("https://{}", std::net::SocketAddr::new(self.address, self.port))
    }
}

/// All of them; None: it cannot be read.
pub fn api_servers(api: &dyn KubeApi, to: &Connection) -> Option<Vec<ApiServer>> {
    let endpoints = fetch::<Endpoints>(api, to, ENDPOINTS).map(|e| of(e.subsets)).ok();
    let found = |servers: &Vec<ApiServer>| !servers.is_empty();
    if let Some(servers) = endpoints.clone().filter(found) {
        return Some(servers);
    }
    let slices = fetch::<Slices>(api, to, SLICES).ok();
    slices.map(|s| of(s.items.into_iter().map(Subset::from).collect())).filter(found).or(endpoints)
}

fn of(subsets: Vec<Subset>) -> Vec<ApiServer> {
    let mut all = Vec::new();
    for subset in subsets {
        let port = subset.ports.first().and_then(|p| p.port).unwrap_or(DEFAULT_PORT);
        let addresses = subset.addresses.iter().filter_map(|a| a.ip.parse().ok());
        all.extend(addresses.map(|address| ApiServer { address, port }));
    }
    all
}

#[derive(Default, Deserialize)]
struct Endpoints {
    #[serde(default)]
    subsets: Vec<Subset>,
}

#[derive(Deserialize)]
struct Subset {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Address {
    ip: String,
}

#[derive(Deserialize)]
struct Port {
    port: Option<u16>,
}

#[derive(Default, Deserialize)]
struct Slices {
    #[serde(default)]
    items: Vec<Slice>,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

impl From<Slice> for Subset {
    fn from(slice: Slice) -> Self {
        let addresses = slice.endpoints.into_iter().flat_map(|e| e.addresses).map(|ip| Address { ip }).collect();
        Self { addresses, ports: slice.ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(servers: Vec<ApiServer>) -> Vec<String> {
        servers.into_iter().map(ApiServer::url).collect()
    }

    #[test]
    fn endpoints_and_slices_say_the_same() {
        let endpoints = r#"{"subsets":[{"addresses":[{"ip":"10.0.0.1"},{"ip":"fd00::2"}],"ports":[{"name":"https","port":6443}]}]}"#;
        let slices = r#"{"items":[{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true}}],
            "ports":[{"name":"https","port":6443,"protocol":"TCP"}]}]}"#;
        let old = of(serde_json::from_str::<Endpoints>(endpoints).unwrap().subsets);
        assert_eq!(urls(old), ["https://10.0.0.1:6443", "https://[fd00::2]:6443"]);
        let new: Slices = serde_json::from_str(slices).unwrap();
        assert_eq!(urls(of(new.items.into_iter().map(Subset::from).collect())), ["https://10.0.0.1:6443"]);
    }
}
