//! Putting a credential to use against what it is for. No answer is not a failure.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

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

/// For one answer of one etcd member. Its own election timeout is a second; one that needs longer than this is not well.
const MEMBER: Duration = Duration::from_secs(5);

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
    let identity = material.identity();
    let refusals: Vec<String> =
        names.iter().filter_map(|name| tls::handshake(&identity, &bundle, name).err()).map(|e| chain(&e)).collect();
    match refusals.first() {
        None => (Some(true), format!("accepted under {} names", names.len())),
        Some(first) if refusals.len() == 1 => (Some(false), first.clone()),
        Some(first) => (Some(false), format!("{first}, and {} more names are refused", refusals.len() - 1)),
    }
}

fn again<T>(mut ask: impl FnMut() -> Result<T, KubeError>) -> Result<T, KubeError> {
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

/// etcd's members as one of them lists them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Members {
    pub total: usize,
    /// Without learners, which have no vote.
    pub voters: usize,
    /// Voters that answered a health request with 200.
    pub healthy: usize,
    /// Names of the voters that did not.
    pub unhealthy: Vec<String>,
}

impl Members {
    /// Whether as many voters are well as a quorum takes.
    pub fn has_quorum(&self) -> bool {
        self.healthy > self.voters / 2
    }

    /// How many voters can be lost before the quorum is.
    pub fn to_spare(&self) -> usize {
        self.healthy.saturating_sub(self.voters / 2 + 1)
    }
}

/// Asks etcd at `endpoint` (a URL) for its members, through its JSON gateway, and each voter for its health.
///
/// # Errors
/// [`KubeError`] if `endpoint` does not list them.
pub fn etcd_members(host: &Host, endpoint: &str, ca: &[u8], material: &Material) -> Result<Members, KubeError> {
    let to = |server: &str| Connection {
        server: server.to_owned(),
        ca: Some(ca.to_vec()),
        identity: Some(material.identity()),
        headers: Vec::new(),
        limit: MEMBER,
    };
    let list = member_list(host, &to(endpoint))?;
    let voters: Vec<&Member> = list.members.iter().filter(|m| !m.is_learner).collect();
    let is_well = |member: &&&Member| {
        let urls = member.client_urls.iter();
        urls.filter(|url| url.starts_with("http"))
            .any(|url| host.kube.get(&to(url), "/health").is_ok_and(|a| a.status == 200))
    };
    let (well, ill): (Vec<&Member>, Vec<&Member>) = voters.iter().partition(is_well);
    Ok(Members {
        total: list.members.len(),
        voters: voters.len(),
        healthy: well.len(),
        unhealthy: ill.into_iter().map(|m| m.name.clone()).collect(),
    })
}

fn member_list(host: &Host, to: &Connection) -> Result<MemberList, KubeError> {
    let mut path = "/v3/cluster/member/list";
    let mut answer = again(|| host.kube.post(to, path, "{}"))?;
    if answer.status == 404 {
        path = "/v3beta/cluster/member/list"; // etcd 3.3
        answer = host.kube.post(to, path, "{}")?;
    }
    let (server, path) = (to.server.clone(), path.to_owned());
    if answer.status != 200 {
        let detail: String = answer.body.chars().take(200).collect();
        return Err(KubeError::Status { server, path, status: answer.status, detail });
    }
    match serde_json::from_str::<MemberList>(&answer.body) {
        Ok(list) if !list.members.is_empty() => Ok(list),
        Ok(_) => Err(KubeError::Malformed { server, path, detail: "no members".into() }),
        Err(e) => Err(KubeError::Malformed { server, path, detail: e.to_string() }),
    }
}

#[derive(Deserialize)]
struct MemberList {
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    /// Empty until the member has started.
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

#[cfg(test)]
mod tests;
