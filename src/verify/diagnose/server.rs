//! The way to the API server that kubelet.conf names: name, TCP, TLS, HTTP, each told apart.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::host::crypto;
use crate::host::fs::MAX_FILE;
use crate::host::kube::{Connection, KubeError};
use crate::host::tls::{self, TlsError};
use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::component::Component;
use crate::model::diagnose::facts::{By, Distrust, Reach, Seen, Server};
use crate::model::inventory::{Inventory, Role};
use crate::model::kubeconfig;
use crate::model::plain;
use crate::model::wiring;

use super::Look;

/// For a connection and a handshake. A person waits for it, and a server that takes longer is down for its clients too.
const LIMIT: Duration = Duration::from_secs(5);
const HTTPS: &str = "443";

/// The server, and whether it answered in TLS at all: then credentials can be tried on it.
pub(super) fn server(look: Look<'_>) -> (Server, bool) {
    let (configured, trusted) = configured(look);
    let identity = &look.inventory.node.kubelet.identity;
    let url = configured.or_else(|| identity.server.clone()).or_else(|| wiring::apiserver_url(&look.inventory.node));
    let mut server = Server { own: url.as_deref().is_some_and(|u| own(look.inventory, u)), url, ..Server::default() };
    let Some(url) = server.url.clone() else {
        server.reach = Seen::Unseen("no kubeconfig on this node names an API server".to_owned());
        return (server, false);
    };
    if let Some(unseen) = look.unseen() {
        server.reach = unseen;
        return (server, false);
    }
    (look.progress)(&format!("connecting to {url}"));
    let (reach, leaf) = reach(look, &url, trusted);
    server.of_ca_on_disk = leaf.as_ref().and_then(|l| signed_here(look, l));
    let spoke = leaf.is_some();
    (server.reach, server.leaf) = (Seen::Known(reach, By::Nobody), leaf);
    (server, spoke)
}

/// Server and CA bundle as kubelet.conf has them.
fn configured(look: Look<'_>) -> (Option<String>, Option<Vec<u8>>) {
    let root = &look.host.root;
    let Some(path) = look.inventory.node.kubelet.kubeconfig.as_deref() else { return (None, None) };
    let Some(config) = root.read_text(path).ok().and_then(|t| kubeconfig::parse(&t).ok()) else { return (None, None) };
    let beside = |file: &Path| root.read_secret(&kubeconfig::relative_to(path, file));
    (config.server, config.ca.and_then(|ca| ca.pem(beside).ok()))
}

/// Whether kubelet.conf trusts a CA that lies in the cluster's ca.crt on this node.
pub(super) fn trusts_ca_on_disk(look: Look<'_>) -> Option<bool> {
    let trusted = crate::model::cert::parse_pem(&configured(look).1?).ok()?;
    let here = crate::model::cert::parse_pem(&ca_on_disk(look)?).ok()?;
    // by key: a CA may have been issued anew with the one that it had
    Some(trusted.iter().any(|t| here.iter().any(|h| h.spki == t.spki && h.subject == t.subject)))
}

fn ca_on_disk(look: Look<'_>) -> Option<Vec<u8>> {
    look.host.root.read(look.inventory.get("ca")?.path(), MAX_FILE).ok()
}

fn signed_here(look: Look<'_>, leaf: &CertFacts) -> Option<bool> {
    crypto::is_signed_by(&leaf.der, &ca_on_disk(look)?).ok()
}

/// `host`, `host:port` of a URL, the port always there.
fn address(url: &str) -> Option<(String, String)> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let bracketed = authority.ends_with(']');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !bracketed => (host, port),
        _ => (authority, HTTPS),
    };
    (!host.is_empty()).then(|| (host.to_owned(), format!("{host}:{port}")))
}

/// This node's own API server, by the addresses and the port that it has in its flags.
fn own(inventory: &Inventory, url: &str) -> bool {
    let Some((host, at)) = address(url).filter(|_| inventory.node.role == Role::ControlPlane) else { return false };
    let local = wiring::apiserver_url(&inventory.node).and_then(|u| address(&u));
    let Some(pod) = inventory.node.static_pods.get(&Component::KubeApiserver) else {
        // a manifest that is gone leaves the certificate, which says where it served
        let leaf = inventory.get("apiserver").and_then(|e| e.leaf());
        return leaf.is_some_and(|l| l.sans.contains(&format!("IP:{host}")));
    };
    let port = |at: &str| at.rsplit_once(':').map(|(_, port)| port.to_owned());
    if local.as_ref().and_then(|(_, l)| port(l)) != port(&at) {
        return false; // a proxy on the same address
    }
    let flags = ["advertise-address", "bind-address"].into_iter().filter_map(|name| pod.flags.get(name));
    let loopback = matches!(host.as_str(), "127.0.0.1" | "localhost" | "[::1]");
    loopback || flags.into_iter().any(|n| *n == host) || local.is_some_and(|(l, _)| l == host)
}

fn reach(look: Look<'_>, url: &str, trusted: Option<Vec<u8>>) -> (Reach, Option<CertFacts>) {
    let Some((_, at)) = address(url) else {
        return (Reach::NoName { detail: format!("{url} is not an https:// address") }, None);
    };
    let leaf = match tls::served_leaf(&at, None, None, LIMIT) {
        Ok(leaf) => leaf,
        Err(TlsError::Connect { source, .. }) => return (unconnected(&source), None),
        Err(e @ TlsError::NoCertificate { .. }) if e.to_string().contains("no answer in time") => {
            return (Reach::Silent { detail: chain(&e) }, None);
        }
        Err(e) => return (Reach::NoTls { detail: chain(&e) }, None),
    };
    let ca = trusted.or_else(|| ca_on_disk(look));
    let to = Connection { server: url.to_owned(), ca, identity: None, headers: Vec::new(), limit: LIMIT };
    let reach = match look.host.kube.get(&to, "/livez") {
        Ok(a) if a.status >= 500 => {
            let first =
                a.body.lines().find(|l| l.starts_with("[-]")).or_else(|| a.body.lines().next()).unwrap_or_default();
            let detail = plain::line(first, plain::CLAUSE);
            Reach::Unwell { detail: format!("/livez answers {}: {detail}", a.status) }
        }
        // without anonymous access it says who it does not know: it is up
        Ok(_) | Err(KubeError::Unauthorized { .. }) => Reach::Answers,
        Err(KubeError::Untrusted { detail, .. }) => Reach::Untrusted { why: distrust(look, &leaf, &detail), detail },
        Err(e) => match gone(&at) {
            Some(gone) => return (gone, None),
            None => Reach::Unwell { detail: e.to_string() },
        },
    };
    (reach, Some(leaf))
}

/// How a server that has just shaken hands, and does not answer, cannot be reached any more: it was shutting down.
fn gone(address: &str) -> Option<Reach> {
    match tls::served_leaf(address, None, None, LIMIT) {
        Err(TlsError::Connect { source, .. }) => Some(unconnected(&source)),
        _ => None,
    }
}

fn unconnected(e: &std::io::Error) -> Reach {
    let detail = e.to_string();
    match e.kind() {
        ErrorKind::ConnectionRefused => Reach::Refused { detail },
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Reach::Silent { detail }
        }
        // std has no kind for what getaddrinfo(3) says
        _ if detail.contains("lookup") || detail.contains("resolve") => Reach::NoName { detail },
        _ => Reach::Silent { detail },
    }
}

/// OpenSSL's words for it (`X509_verify_cert_error_string(3)`), and what the certificate itself says.
fn distrust(look: Look<'_>, leaf: &CertFacts, detail: &str) -> Distrust {
    let now = look.host.clock.now();
    match detail {
        _ if leaf.not_after <= now => Distrust::Expired,
        _ if leaf.not_before > now => Distrust::NotYetValid,
        d if d.contains("mismatch") => Distrust::Name,
        d if d.contains("expired") => Distrust::Expired,
        _ => Distrust::Issuer,
    }
}

/// Free bytes where `path` lies, and whether nothing can be written there.
pub(super) fn room(look: Look<'_>, path: &Path) -> (Option<u64>, bool) {
    let root = &look.host.root;
    let dir = path.parent().unwrap_or(path);
    (root.place(path).and_then(|p| p.free_bytes()).ok(), root.is_read_only(dir).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_server_has_a_port_whatever_its_url_says() {
        for (url, wanted) in [
            ("https://10.0.0.1:6443", Some(("10.0.0.1", "10.0.0.1:6443"))),
            ("https://api.example.com/", Some(("api.example.com", "api.example.com:443"))),
            ("https://[fd00::1]:6443/x", Some(("[fd00::1]", "[fd00::1]:6443"))),
            ("https://[fd00::1]", Some(("[fd00::1]", "[fd00::1]:443"))),
            ("http://a", None),
            ("https://", None),
            ("", None),
        ] {
            let wanted = wanted.map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(address(url), wanted, "{url}");
        }
    }

    #[test]
    fn who_does_not_answer_is_told_from_who_says_no_and_from_a_name_that_nobody_has() {
        let io = |kind| std::io::Error::from(kind);
        assert!(matches!(unconnected(&io(ErrorKind::ConnectionRefused)), Reach::Refused { .. }));
        assert!(matches!(unconnected(&io(ErrorKind::TimedOut)), Reach::Silent { .. }));
        assert!(matches!(unconnected(&io(ErrorKind::HostUnreachable)), Reach::Silent { .. }));
        let name = std::io::Error::other("failed to lookup address information: Name or service not known");
        assert!(matches!(unconnected(&name), Reach::NoName { .. }));
    }

    #[test]
    fn a_server_that_was_shutting_down_is_gone_and_one_that_listens_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // closes what it accepts: there is somebody, who says nothing
        let closes = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(gone(&address).is_none());
        closes.join().unwrap();
        assert!(matches!(gone(&address), Some(Reach::Refused { .. })));
    }
}
