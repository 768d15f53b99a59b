//! etcd's members: who they are, who of them is well, and whether one can be spared.

use std::time::Duration;

use serde::Deserialize;

use super::material::{Material, material};
use super::prove::again;
use crate::host::Host;
use crate::host::fs::MAX_FILE;
use crate::host::kube::{Connection, KubeError};
use crate::model::cause::chain;
use crate::model::inventory::Inventory;
use crate::model::plain;
use crate::model::plan::Proof;
use crate::model::wiring;

/// For one answer of one etcd member. Its own election timeout is a second; one that needs longer than this is not well.
const MEMBER: Duration = Duration::from_secs(5);

/// Entries with which etcd can be asked, the best first.
const CREDENTIALS: [&str; 3] = ["etcd-healthcheck-client", "apiserver-etcd-client", "etcd-server"];

/// The members as this node's own etcd lists them, or the one that its API server dials. None: no etcd is known here,
/// or nothing to ask it with.
pub fn ask(host: &Host, inventory: &Inventory) -> Option<Result<Members, String>> {
    ask_for(host, inventory, &|endpoint, ca, material| etcd_members(host, endpoint, ca, material))
}

/// The same, without a word of how each of them is.
pub fn list(host: &Host, inventory: &Inventory) -> Option<Result<Vec<Peer>, String>> {
    ask_for(host, inventory, &|endpoint, ca, material| {
        Ok(member_list(host, &connection(endpoint, ca, material))?.members.iter().map(Member::peer).collect())
    })
}

/// Put to the member at a URL, with the CA of its certificate and the own identity.
type Question<'a, T> = &'a dyn Fn(&str, &[u8], &Material) -> Result<T, KubeError>;

fn ask_for<T>(host: &Host, inventory: &Inventory, what: Question<'_, T>) -> Option<Result<T, String>> {
    let entry = CREDENTIALS.iter().filter_map(|name| inventory.get(name)).find(|e| e.leaf().is_some())?;
    let mut last = None;
    for proof in wiring::proofs(inventory, entry) {
        let Proof::Etcd { endpoint, ca } = proof else { continue };
        let material = material(&entry.form, &|path| host.root.read_secret(path)).map_err(|e| chain(&e));
        let ca = host.root.read(&ca, MAX_FILE).map_err(|e| chain(&e));
        let asked = material.and_then(|m| what(&endpoint, &ca?, &m).map_err(|e| chain(&e)));
        match asked {
            Ok(members) => return Some(Ok(members)),
            Err(why) => last = Some(why),
        }
    }
    last.map(Err)
}

fn connection(server: &str, ca: &[u8], material: &Material) -> Connection {
    Connection {
        server: server.to_owned(),
        ca: Some(ca.to_vec()),
        identity: Some(material.identity()),
        headers: Vec::new(),
        limit: MEMBER,
    }
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
    pub peers: Vec<Peer>,
}

/// Where a member is dialled by the others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    pub name: String,
    pub urls: Vec<String>,
}

impl Members {
    /// Whether as many voters are well as a quorum takes.
    pub fn has_quorum(&self) -> bool {
        self.healthy > self.voters / 2
    }

    /// Whether a quorum is left while one of the voters is away. A single member has nobody to wait for it.
    pub fn can_spare_one(&self) -> bool {
        self.voters <= 1 || self.to_spare() > 0
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
    let to = |server: &str| connection(server, ca, material);
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
        peers: list.members.iter().map(Member::peer).collect(),
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
        let detail = plain::line(&answer.body, plain::CLAUSE);
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
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

impl Member {
    fn peer(&self) -> Peer {
        Peer { name: self.name.clone(), urls: self.peer_urls.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};
    use crate::host::kube::testing::Server;
    use crate::verify::testing;

    const MEMBERS: &str = include_str!("../../tests/recorded/v1.36.2/etcd-member-list.json");
    const HEALTH: &str = include_str!("../../tests/recorded/v1.36.2/etcd-health.json");

    #[test]
    fn the_members_of_an_etcd_3_6_are_listed_and_asked_where_clients_dial_them() {
        let ca = Ca::new("etcd-ca");
        let pair = ca.issue(&Leaf::server("node", &["IP:127.0.0.1"]));
        let identity = ca.issue(&Leaf::client("kube-etcd-healthcheck-client", &[]));
        let material = Material { cert: identity.cert, key: identity.key, ca: None, server: None };
        for (status, unhealthy) in [(200, vec![]), (503, vec!["node".to_owned()])] {
            let member = Server::start(&pair, None, move |line| match line {
                l if l.starts_with("GET /health ") => (status, HEALTH.to_owned()),
                _ => (404, String::new()),
            });
            let list = MEMBERS.replace("https://10.99.0.2:2379", &member.url());
            let asked = Server::start(&pair, None, move |line| match line {
                l if l.starts_with("POST /v3/cluster/member/list ") => (200, list.clone()),
                _ => (404, String::new()),
            });
            let peers = vec![Peer { name: "node".into(), urls: vec!["https://10.99.0.2:2380".into()] }];
            let healthy = 1 - unhealthy.len();
            let expected = Members { total: 1, voters: 1, healthy, unhealthy, peers };
            assert_eq!(etcd_members(&testing::host(), &asked.url(), &ca.cert, &material).unwrap(), expected);
        }
    }
}
