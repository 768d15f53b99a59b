//! Aggregated APIs: what the API server gets from other API servers with the front-proxy client certificate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::connections;
use super::{REQUEST, pause};
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::kube::{Answer, Connection, KubeError};
use crate::model::inventory::Inventory;
use crate::model::plain;
use crate::model::report::{CredentialSeen, When};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// More of them prove nothing more.
const MOST: usize = 8;
/// For one look before anything is touched: one that is slow is not counted on.
const GLANCE: Duration = Duration::from_secs(5);
/// Between looks.
const LOOK: Duration = Duration::from_secs(1);

/// An `APIService` that another server stands behind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Aggregated {
    /// `v1beta1.metrics.k8s.io`.
    pub name: String,
    /// Its discovery document, which every authenticated user may read (`system:discovery`).
    pub path: String,
}

/// Those that answer now. Empty also where nobody may list them: then nothing can be told.
pub fn answering(host: &Host, inventory: &Inventory) -> Vec<Aggregated> {
    let to = connections(host, inventory).into_iter();
    let listed = to.filter_map(|to| {
        let answer = host.kube.get(&to, SERVICES).ok().filter(|a| a.status == 200)?;
        Some((serde_json::from_str::<List>(&answer.body).ok()?, Connection { limit: GLANCE, ..to }))
    });
    let Some((list, to)) = { listed }.next() else { return Vec::new() };
    let services = list.items.into_iter().filter_map(Item::aggregated).take(MOST);
    services.filter(|s| host.kube.get(&to, &s.path).is_ok_and(|a| a.status == 200)).collect()
}

/// Asks through the API server until the service answers, `limit` is over or the caller does not want to go on.
pub fn await_answer(
    host: &Host,
    inventory: &Inventory,
    service: &Aggregated,
    limit: Duration,
    keep_going: &dyn Fn() -> bool,
) -> CredentialSeen {
    let until = Deadline::after(host.clock.as_ref(), limit);
    loop {
        let (proven, detail) = ask(host, inventory, service);
        if proven == Some(true) || !pause(host, LOOK, until, keep_going) {
            let against = format!("{} through the API server", service.name);
            return CredentialSeen { name: String::new(), when: When::Verification, against, proven, detail };
        }
    }
}

/// An API server that does not answer at all tells nothing; one that answers tells what came of it.
fn ask(host: &Host, inventory: &Inventory, service: &Aggregated) -> (Option<bool>, String) {
    let mut silent = "no credential to ask with".to_owned();
    for to in connections(host, inventory) {
        match host.kube.get(&Connection { limit: REQUEST, ..to }, &service.path) {
            Ok(Answer { status: 200, .. }) => return (Some(true), "answers".to_owned()),
            Ok(a) => return (judge(&a), format!("answered {}: {}", a.status, first_line(&a.body))),
            Err(KubeError::Unauthorized { .. }) => {
                return (Some(false), "it does not accept the API server (401 Unauthorized)".to_owned());
            }
            Err(e) => silent = e.to_string(),
        }
    }
    (None, silent)
}

/// A refusal names the certificate: by 403, or as the API server's own error about the handshake. Whatever else fails
/// there (no endpoints, a pod that is being moved) is not the certificate's doing.
fn judge(answer: &Answer) -> Option<bool> {
    let handshake = ["tls:", "x509:"].iter().any(|word| answer.body.contains(word));
    (answer.status == 403 || handshake).then_some(false)
}

fn first_line(body: &str) -> String {
    plain::line(body.lines().next().unwrap_or("nothing"), plain::CLAUSE)
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    /// None: the API server answers itself.
    service: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
}

impl Item {
    fn aggregated(self) -> Option<Aggregated> {
        self.spec.service?;
        let (group, version) = (self.spec.group, self.spec.version);
        // they go into a URL
        let fine = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
        (fine(&group) && fine(&version))
            .then(|| Aggregated { path: format!("/apis/{group}/{version}"), name: self.metadata.name })
    }
}
