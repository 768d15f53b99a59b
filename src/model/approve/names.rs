//! Which names and addresses a node may have a certificate for.
//!
//! A kubelet writes the addresses of its Node object itself: that an address stands there proves nothing by itself. So what
//! belongs to another node, or to the cluster as a whole, is refused even then.

use std::net::IpAddr;

use crate::model::addresses::Addresses;
use crate::model::policy::Approver;

/// Why the node may not have this name (as `CertFacts::sans` has it); None: it may.
pub(super) fn objection(
    san: &str,
    node: &str,
    own: &Addresses,
    others: &Addresses,
    rules: &Approver,
) -> Option<String> {
    match san.split_once(':') {
        Some(("DNS", name)) => dns(name, node, own, others, rules),
        Some(("IP", address)) => match address.parse() {
            Ok(ip) => address_of(ip, node, own, others, rules),
            Err(_) => Some("it has an address that is none".to_owned()),
        },
        _ => Some(format!("{} is neither a DNS name nor an address", super::short(san))),
    }
}

fn dns(name: &str, node: &str, own: &Addresses, others: &Addresses, rules: &Approver) -> Option<String> {
    let shown = super::short(name);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(is_name) || name.split('.').any(str::is_empty) {
        return Some(format!("`{shown}` is no host name"));
    }
    // Go's clients take such a name for an address (crypto/x509: `VerifyHostname`)
    if name.parse::<IpAddr>().is_ok() {
        return Some(format!("{shown} is an address among the DNS names"));
    }
    let name = name.to_ascii_lowercase();
    if is_the_clusters(&name) {
        return Some(format!("{name} is no node's name"));
    }
    if others.names.contains(&name) {
        return Some(format!("{name} is another Node's name"));
    }
    let allowed = rules.names.iter().any(|n| n.replace("{node}", node).eq_ignore_ascii_case(&name));
    (!own.names.contains(&name) && !allowed).then(|| format!("{name} is no name of the Node {node}"))
}

/// What the API server and services are called (kubernetes: `cmd/kubeadm/app/util/pkiutil/pki_helpers.go:GetAPIServerAltNames`),
/// and every machine for itself.
fn is_the_clusters(name: &str) -> bool {
    let within = |domain: &str| name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    name.starts_with("kubernetes.default")
        || name == "kubernetes"
        || ["svc", "svc.cluster.local", "localhost", "localdomain"].into_iter().any(within)
        || name.contains(".svc.")
}

fn address_of(ip: IpAddr, node: &str, own: &Addresses, others: &Addresses, rules: &Approver) -> Option<String> {
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || mapped {
        return Some(format!("{ip} is no address of one node"));
    }
    if others.ips.contains(&ip) {
        return Some(format!("{ip} is another Node's address"));
    }
    let named = own.ips.contains(&ip);
    if !rules.networks.is_empty() && !rules.networks.iter().any(|n| n.contains(ip)) {
        return Some(format!("{ip} is in none of approver.networks"));
    }
    (!named).then(|| format!("{ip} is no address of the Node {node}"))
}
