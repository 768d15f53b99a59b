//! The API's certificate signing requests with a controller manager behind them, which may be hostile, broken or absent.

use std::collections::BTreeMap;

use certwarden::host::kube::{Answer, Connection};
use jiff::Timestamp;
use openssl::asn1::Asn1Time;
use openssl::base64::{decode_block, encode_block};
use openssl::x509::X509Req;
use serde_json::{Value, json};

use crate::support::{Ca, DAY};

/// How the requests fare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signing {
    Well,
    NeverApproved,
    Denied,
    /// Approved, and nobody signs.
    NotIssued,
    Failed,
    AnotherKey,
    AnotherName,
    AnotherGroup,
    /// An hour.
    ShortLife,
    AnotherCa,
    /// A client's for serving, and the other way round.
    ForAnotherUse,
    /// Without the names that were asked for.
    NoNames,
    Rubbish,
    /// The request is gone when it is looked for.
    Lost,
    /// The server answers for all but a single request.
    Overloaded,
    /// The same for the first looks.
    OverloadedAtFirst,
}

pub struct Signer {
    pub ca: Ca,
    pub other: Ca,
    pub signing: Signing,
    /// Objects as the API has them, in the order in which they were filed.
    pub requests: BTreeMap<String, Value>,
    /// The only token that is accepted.
    pub token: String,
    pub version: &'static str,
    /// For who lists them.
    pub nodes: Vec<Value>,
    pub services: Vec<Value>,
    /// None: the API server knows no such kind.
    pub service_cidrs: Option<Vec<Value>>,
    /// Addresses at which API servers listen.
    pub endpoints: Vec<&'static str>,
    looks: u32,
}

/// A part of a list, as the API server gives it, cut where certwarden cuts an answer.
fn page(path: &str, items: &[Value]) -> Answer {
    let query = |key| path.split(['?', '&']).find_map(|p| p.strip_prefix(key)).and_then(|n| n.parse().ok());
    let (limit, from): (usize, usize) = (query("limit=").unwrap(), query("continue=").unwrap_or(0));
    let end = items.len().min(from + limit);
    let next = if end < items.len() { end.to_string() } else { String::new() };
    // what a list says of itself comes before its items, as the API server writes it
    let mut body = format!(r#"{{"metadata":{},"items":{}}}"#, json!({"continue": next}), json!(items[from..end]));
    body.truncate(1 << 20);
    Answer { status: 200, body }
}

impl Signer {
    pub fn new(ca: &Ca, other: &Ca) -> Self {
        Self {
            ca: ca.clone(),
            other: other.clone(),
            signing: Signing::Well,
            requests: BTreeMap::new(),
            token: "abcdef.0123456789abcdef".into(),
            version: "v1.34.2",
            nodes: Vec::new(),
            services: Vec::new(),
            service_cidrs: None,
            endpoints: Vec::new(),
            looks: 0,
        }
    }

    /// None: not about requests.
    pub fn answer(&mut self, to: &Connection, path: &str, body: Option<&str>, now: Timestamp) -> Option<Answer> {
        const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let ok = |body: Value| Some(Answer { status: 200, body: body.to_string() });
        if path == "/version" {
            return ok(json!({"gitVersion": self.version}));
        }
        if path == "/api/v1/nodes/node-1" {
            return ok(json!({"metadata": {"name": "node-1"}, "status": {"addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "node-1"}]}}));
        }
        if path.starts_with("/api/v1/nodes?") {
            return Some(page(path, &self.nodes));
        }
        if path.starts_with("/api/v1/services?") {
            return Some(page(path, &self.services));
        }
        if path.starts_with("/apis/networking.k8s.io/v1") {
            let none = || Some(Answer { status: 404, body: String::new() });
            return self.service_cidrs.as_ref().map_or_else(none, |all| Some(page(path, all)));
        }
        if path == "/api/v1/namespaces/default/endpoints/kubernetes" && !self.endpoints.is_empty() {
            let all: Vec<Value> = self.endpoints.iter().map(|ip| json!({"ip": ip})).collect();
            return ok(json!({"subsets": [{"addresses": all}]}));
        }
        let rest = path.strip_prefix(PATH)?;
        let user = self.user(to);
        if let Some(body) = body {
            let mut object: Value = serde_json::from_str(body).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let Some(user) = user else { return Some(Answer { status: 403, body: String::new() }) };
            if self.requests.contains_key(&name) {
                return Some(Answer { status: 409, body: String::new() });
            }
            object["metadata"]["creationTimestamp"] = json!(format!("{now:.0}"));
            object["spec"]["username"] = json!(user);
            self.requests.insert(name, object.clone());
            return Some(Answer { status: 201, body: object.to_string() });
        }
        if let Some(name) = rest.strip_prefix('/') {
            if self.signing == Signing::Lost {
                self.requests.remove(name);
            }
            self.looks += 1;
            let at_first = self.signing == Signing::OverloadedAtFirst && self.looks < 5;
            if self.signing == Signing::Overloaded || at_first {
                return Some(Answer { status: 500, body: String::new() });
            }
            self.work(name, now);
            let found = self.requests.get(name).cloned();
            return found.map_or(Some(Answer { status: 404, body: String::new() }), ok);
        }
        Some(page(path, &self.requests.values().cloned().collect::<Vec<_>>()))
    }

    /// What an approver writes; only of what has not changed since it was read.
    pub fn decide(&mut self, path: &str, body: &str) -> Option<Answer> {
        let name = path.rsplit_once("/certificatesigningrequests/")?.1.strip_suffix("/approval")?;
        let object: Value = serde_json::from_str(body).unwrap();
        let status = match self.requests.get(name) {
            None => 404,
            Some(known) if known["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => 409,
            Some(_) => {
                self.requests.insert(name.to_owned(), object);
                200
            }
        };
        Some(Answer { status, body: String::new() })
    }

    fn user(&self, to: &Connection) -> Option<String> {
        if let Some((_, token)) = to.headers.iter().find(|(n, _)| n == "Authorization") {
            return (*token == format!("Bearer {}", self.token)).then(|| "system:bootstrap:abcdef".to_owned());
        }
        let chain = certwarden::model::cert::parse_pem(&to.identity.as_ref()?.cert).ok()?;
        chain.first()?.common_name.clone()
    }

    /// What approver and signer do to a request.
    fn work(&mut self, name: &str, now: Timestamp) {
        let approved = json!([{"type": "Approved", "status": "True", "reason": "AutoApproved"}]);
        let status = match self.signing {
            Signing::NeverApproved | Signing::Lost | Signing::Overloaded => json!({}),
            Signing::Denied => {
                json!({"conditions": [{"type": "Denied", "status": "True", "reason": "Policy", "message": "not this one"}]})
            }
            Signing::NotIssued => json!({"conditions": approved}),
            Signing::Failed => {
                json!({"conditions": [{"type": "Approved"}, {"type": "Failed", "reason": "SignerValidationFailure", "message": "bad usages"}]})
            }
            Signing::Rubbish => json!({"certificate": encode_block(b"rubbish")}),
            _ => {
                let Some(object) = self.requests.get(name) else { return };
                if object["status"]["certificate"].is_string() {
                    return;
                }
                json!({"conditions": approved, "certificate": encode_block(&self.sign(object, now))})
            }
        };
        if let Some(object) = self.requests.get_mut(name) {
            object["status"] = status;
        }
    }

    fn sign(&self, object: &Value, now: Timestamp) -> Vec<u8> {
        // as the controller manager's approver would look
        let usages: Vec<&str> = object["spec"]["usages"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let for_serving = object["spec"]["signerName"] == "kubernetes.io/kubelet-serving";
        let auth = if for_serving { "server auth" } else { "client auth" };
        assert_eq!(usages, ["digital signature", auth]);
        assert!(for_serving || object["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet");
        let pem = decode_block(object["spec"]["request"].as_str().unwrap()).unwrap();
        let request = X509Req::from_pem(&pem).unwrap();
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap());
        let named = |nid| request.subject_name().entries_by_nid(nid).next().unwrap().data().to_string().unwrap();
        let (organization, name) = (named(openssl::nid::Nid::ORGANIZATIONNAME), named(openssl::nid::Nid::COMMONNAME));
        let (ca, mut subject, mut left, mut serving) =
            (&self.ca, (name.as_str(), organization.as_str()), 365 * DAY, for_serving);
        match self.signing {
            Signing::AnotherName => subject.0 = "system:node:another",
            Signing::AnotherGroup => subject.1 = "system:masters",
            Signing::ShortLife => left = 3600,
            Signing::ForAnotherUse => serving = !serving,
            _ => {}
        }
        let ca = if self.signing == Signing::AnotherCa { &self.other } else { ca };
        let other_key = ca.new_key();
        let key = if self.signing == Signing::AnotherKey { other_key } else { key };
        let from = Asn1Time::from_unix(now.as_second() - 300).unwrap();
        let to = Asn1Time::from_unix(now.as_second() + left).unwrap();
        let alternative = request.extensions().ok().filter(|_| for_serving && self.signing != Signing::NoNames);
        ca.sign_public(&key, subject, serving, alternative, (&from, &to))
    }
}
