//! Under which names and addresses a node is known: what its kubelet may be certified for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

/// Of one Node object. DNS names in lower case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Addresses {
    pub names: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

impl Addresses {
    /// As `CertFacts::sans` has them, and `host::crypto::new_request` takes them without their kinds.
    pub fn all(&self) -> Vec<String> {
        self.names.iter().cloned().chain(self.ips.iter().map(ToString::to_string)).collect()
    }
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    address: String,
}

/// What the API's JSON of the Node `name` says, as its kubelet takes it for its own requests (kubernetes:
/// `pkg/kubelet/certificate/kubelet.go:addressesToHostnamesAndIPs`).
///
/// # Errors
/// A sentence: it is no Node, or another's.
pub fn of_node(body: &str, name: &str) -> Result<Addresses, String> {
    let node: Node = serde_json::from_str(body).map_err(|e| format!("the API's answer is no Node: {e}"))?;
    if node.metadata.name != name {
        return Err(format!("the API answered with the Node `{}`", node.metadata.name));
    }
    let mut all = Addresses::default();
    for Address { kind, address } in node.status.addresses.into_iter().filter(|a| !a.address.is_empty()) {
        match (kind.as_str(), address.parse::<IpAddr>()) {
            ("Hostname" | "InternalDNS" | "ExternalDNS" | "InternalIP" | "ExternalIP", Ok(ip)) => {
                all.ips.insert(ip);
            }
            ("Hostname" | "InternalDNS" | "ExternalDNS", Err(_)) => {
                all.names.insert(address.to_ascii_lowercase());
            }
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_names_and_addresses_that_its_kubelet_asks_for() {
        let body = r#"{"metadata":{"name":"n1"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"},
            {"type":"InternalIP","address":"fd00::1"},{"type":"Hostname","address":"N1"},{"type":"ExternalDNS","address":"n1.example.org"},
            {"type":"Hostname","address":"10.0.0.2"},{"type":"InternalIP","address":"rubbish"},{"type":"Other","address":"x"},{}]}}"#;
        assert_eq!(of_node(body, "n1").unwrap().all(), ["n1", "n1.example.org", "10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert!(of_node(body, "n2").unwrap_err().contains("`n1`"));
        assert!(of_node("[]", "n1").is_err());
        assert_eq!(of_node(r#"{"metadata":{"name":"n1"}}"#, "n1").unwrap(), Addresses::default());
    }
}
