//! Which DNS names a node may have a certificate for: its own, and what the configuration says.
//!
//! A kubelet writes the names in its Node object's status itself: that a name stands there proves nothing. Only the object's
//! own name is its by the API server's word (kubernetes: `plugin/pkg/admission/noderestriction/admission.go:admitNode`).

use std::net::IpAddr;

use super::{Known, Objection, ips, short};
use crate::model::policy::Approver;

use super::neighbours::Neighbour;

/// Why the node may not have this name (as `CertFacts::sans` has it); None: it may.
pub(super) fn objection(
    san: &str,
    node: &str,
    own: &Neighbour,
    known: &Known<'_>,
    rules: &Approver,
) -> Option<Objection> {
    match san.split_once(':') {
        Some(("DNS", name)) => dns(name, node, own, known, rules),
        Some(("IP", address)) => match address.parse() {
            Ok(ip) => ips::objection(ip, node, own, known, rules),
            Err(_) => Some(Objection::Forged("it has an address that is none".to_owned())),
        },
        _ => Some(Objection::Forged(format!("{} is neither a DNS name nor an address", short(san)))),
    }
}

fn dns(name: &str, node: &str, own: &Neighbour, known: &Known<'_>, rules: &Approver) -> Option<Objection> {
    if let Some(why) = malformed(name) {
        return Some(Objection::Forged(why));
    }
    let name = name.to_ascii_lowercase();
    if is_the_clusters(&name) {
        return Some(Objection::Forged(format!("{name} is no node's name")));
    }
    let is_own = name == node;
    if known.cluster.is_api_name(&name) && !(is_own && known.is_control_plane(node)) {
        return Some(Objection::Forged(format!("{name} is a name of the API")));
    }
    if is_own {
        return None;
    }
    let neighbours = known.neighbours;
    let configured = rules.names.iter().any(|n| n.replace("{node}", node).eq_ignore_ascii_case(&name));
    let anothers = neighbours.is_named(&name, node);
    match (anothers || neighbours.was_named(&name, node), configured) {
        (true, true) => Some(Objection::Unclear(format!("{name} is in approver.names, and is another Node's name"))),
        (true, false) if anothers => Some(Objection::Forged(format!("{name} is another Node's name"))),
        (false, true) => None,
        _ if own.addresses.names.contains(&name) => Some(Objection::Unclear(format!(
            "{name} stands in the Node's status, which its kubelet writes, and is neither its own name nor in approver.names"
        ))),
        _ => Some(Objection::Unknown(format!("{name} is no name of the Node {node}"))),
    }
}

/// Why it is no name of any host.
fn malformed(name: &str) -> Option<String> {
    let shown = short(name);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(is_name) || name.split('.').any(str::is_empty) {
        return Some(format!("`{shown}` is no host name"));
    }
    // Go's clients take such a name for an address (crypto/x509: `VerifyHostname`)
    name.parse::<IpAddr>().is_ok().then(|| format!("{shown} is an address among the DNS names"))
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
