//! Putting a credential to use against what it is for. No answer is not a failure.

use std::path::Path;

use super::REQUEST;
use super::material::Material;
use crate::host::Host;
use crate::host::fs::MAX_FILE;
use crate::host::kube::{Connection, KubeError, WhoAmI};
use crate::host::tls;
use crate::model::cause::chain;
use crate::model::cert::parse_pem;
use crate::model::plan::Proof;
use crate::model::report::{CredentialSeen, When};

/// Whom the front-proxy client vouches for. Nobody's real name; it is seen in the audit log and has no rights.
const ASSERTED_USER: &str = "certwarden:front-proxy-proof";

/// Tried again when a server went away in the middle: with TLS 1.3 the refusal of a client certificate comes when we
/// already send the request (RFC 8446 §4.4.2), and a server that closes with unread bytes resets the connection.
const ATTEMPTS: usize = 3;

type Verdict = (Option<bool>, String);

/// Uses the credential `material` of the entry `name` against `proof`. Bounded by some seconds per request.
pub fn prove(host: &Host, name: &str, proof: &Proof, material: &Material, when: When) -> CredentialSeen {
    let (proven, detail) = match proof {
        Proof::ApiServer { server, ca, user } => connection(host, server, Some(ca), material)
            .map_or_else(Verdict::from, |to| api_server(host, &to, user, material)),
        Proof::FrontProxy { server, ca } => {
            connection(host, server, Some(ca), material).map_or_else(Verdict::from, |to| front_proxy(host, to))
        }
        Proof::Etcd { endpoint, ca } => {
            connection(host, endpoint, Some(ca), material).map_or_else(Verdict::from, |to| etcd(host, &to))
        }
        Proof::Kubelet { address } => {
            // its serving certificate is self-signed in most clusters, and is measured on its own
            let to = connection(host, &format!("https://{address}"), None, material);
            to.map_or_else(Verdict::from, |to| kubelet(host, &to))
        }
        Proof::Handshake { ca, names } => handshake(host, ca, names, material),
    };
    CredentialSeen { name: name.to_owned(), when, against: proof.describe(), proven, detail }
}

/// A file that the proof needs and that is not the credential's.
struct Unusable(String);

impl From<Unusable> for Verdict {
    fn from(Unusable(why): Unusable) -> Self {
        (None, why)
    }
}

fn connection(host: &Host, server: &str, ca: Option<&Path>, material: &Material) -> Result<Connection, Unusable> {
    // a kubeconfig brings the bundle that its user trusts
    let ca = match (&material.ca, ca) {
        (_, None) => None,
        (Some(own), Some(_)) => Some(own.clone()),
        (None, Some(path)) => Some(read(host, path)?),
    };
    let identity = Some(material.identity());
    Ok(Connection { server: server.to_owned(), ca, identity, headers: Vec::new(), limit: REQUEST })
}

fn read(host: &Host, path: &Path) -> Result<Vec<u8>, Unusable> {
    host.root.read(path, MAX_FILE).map_err(|e| Unusable(chain(&e)))
}

fn api_server(host: &Host, to: &Connection, user: &str, material: &Material) -> Verdict {
    // an old server does not say as whom it takes us, but it takes the common name (kubernetes: CommonNameUserConversion)
    let named = parse_pem(&material.cert).ok().and_then(|chain| chain.into_iter().next()?.common_name);
    if named.as_deref() != Some(user) {
        return (Some(false), format!("the certificate is for {}, not {user}", named.as_deref().unwrap_or("nobody")));
    }
    who(host, to, user, |groups| match groups {
        Some(groups) => format!("is {user} of {}", groups.join(", ")),
        None => "accepted; this server is too old to say as whom".to_owned(),
    })
}

fn front_proxy(host: &Host, mut to: Connection) -> Verdict {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    // kubeadm's --requestheader-*-headers; the group is what every logged-in user has
    to.headers.push(header("X-Remote-User", ASSERTED_USER));
    to.headers.push(header("X-Remote-Group", "system:authenticated"));
    who(host, &to, ASSERTED_USER, |_| "vouching for a user is accepted".to_owned())
}

fn who(host: &Host, to: &Connection, user: &str, detail: impl Fn(Option<&[String]>) -> String) -> Verdict {
    match again(|| host.kube.whoami(to)) {
        Ok(WhoAmI::User { name, groups }) if name == user => (Some(true), detail(Some(&groups))),
        Ok(WhoAmI::User { name, .. }) => (Some(false), format!("is {name}, not {user}")),
        Ok(WhoAmI::Authenticated) => (Some(true), detail(None)),
        Err(e) => failed(&e),
    }
}

fn etcd(host: &Host, to: &Connection) -> Verdict {
    match again(|| host.kube.get(to, "/health")) {
        // whoever gets any answer has passed the handshake, in which etcd verifies clients
        Ok(answer) if answer.status == 200 => (Some(true), "accepted, healthy".to_owned()),
        Ok(answer) => (Some(true), format!("accepted; its health answer is {}", answer.status)),
        Err(e) => failed(&e),
    }
}

fn kubelet(host: &Host, to: &Connection) -> Verdict {
    match again(|| host.kube.get(to, "/healthz")) {
        Ok(answer) => match answer.status {
            200 => (Some(true), "accepted".to_owned()),
            403 => (Some(true), "authenticated; it may not read /healthz".to_owned()),
            // authorisation asks the API server, which may be away
            status => (None, format!("answered {status}")),
        },
        Err(e) => failed(&e),
    }
}

fn handshake(host: &Host, ca: &Path, names: &[String], material: &Material) -> Verdict {
    let bundle = match read(host, ca) {
        Ok(bundle) => bundle,
        Err(why) => return why.into(),
    };
    let (identity, now) = (material.identity(), host.clock.now());
    let refused = |name: &String| tls::handshake(&identity, &bundle, name, now).err();
    let refusals: Vec<String> = names.iter().filter_map(refused).map(|e| chain(&e)).collect();
    match refusals.first() {
        None => (Some(true), format!("accepted under {} names", names.len())),
        Some(first) if refusals.len() == 1 => (Some(false), first.clone()),
        Some(first) => (Some(false), format!("{first}, and {} more names are refused", refusals.len() - 1)),
    }
}

pub(super) fn again<T>(mut ask: impl FnMut() -> Result<T, KubeError>) -> Result<T, KubeError> {
    let mut last = ask();
    for _ in 1..ATTEMPTS {
        match &last {
            Err(KubeError::Unreachable { detail, .. }) if is_cut_off(detail) => last = ask(),
            _ => break,
        }
    }
    last
}

// Display of io::Error for ECONNRESET and EPIPE, and hyper's for a connection closed before the answer
fn is_cut_off(detail: &str) -> bool {
    ["reset by peer", "Broken pipe", "closed before message completed"].iter().any(|t| detail.contains(t))
}

/// What an error says about the credential.
fn failed(error: &KubeError) -> Verdict {
    let proven = match error {
        KubeError::Tls { .. } | KubeError::Unauthorized { .. } | KubeError::Setup { .. } => Some(false),
        // nobody there, not the server that was meant, or an answer that nobody foresaw
        KubeError::Unreachable { .. }
        | KubeError::Untrusted { .. }
        | KubeError::Status { .. }
        | KubeError::Malformed { .. } => None,
    };
    (proven, chain(error))
}

#[cfg(test)]
mod tests;
