//! What the API says about this node, asked with the least that may ask: the kubelet's own credential, else admin.conf.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::host::kube::{Connection, KubeError, WhoAmI};
use crate::model::csr::{CLIENT_SIGNER, Request, SERVING_SIGNER};
use crate::model::diagnose::facts::{By, Login, NodeEvent, Object, Rights, Seen, Server, Unit};
use crate::model::identity::GROUP;
use crate::model::plain;
use crate::verify::requests;

use super::{Look, user};

/// For one question: a person waits.
const LIMIT: Duration = Duration::from_secs(5);
/// A kubelet renews its lease every 10 s (kubernetes: `component-helpers/apimachinery/lease`).
const LEASE_RENEWED: Duration = Duration::from_secs(12);
/// One that stopped longer ago is not what renewed it.
const LEASE_FRESH: SignedDuration = SignedDuration::from_secs(15);
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

/// What the API server makes of the kubelet's credential, good or not.
pub(super) fn login(look: Look<'_>, to: Option<&Connection>, server: &Server) -> Seen<Login> {
    if let Some(unseen) = look.unseen() {
        return unseen;
    }
    let Some(to) = to else {
        let why = match server.leaf {
            None => "the API server cannot be reached",
            Some(_) => "the kubelet's credential cannot be read",
        };
        return Seen::Unseen(why.to_owned());
    };
    (look.progress)("logging in as the kubelet");
    let to = Connection { limit: LIMIT, ..to.clone() };
    match look.host.kube.whoami(&to) {
        Ok(WhoAmI::User { name, groups }) => Seen::Known(Login::As { user: name, groups }, By::Node),
        Ok(WhoAmI::Authenticated) => Seen::Known(Login::Accepted, By::Node),
        Err(e @ (KubeError::Unauthorized { .. } | KubeError::Tls { .. })) => {
            Seen::Known(Login::Refused { detail: e.to_string() }, By::Node)
        }
        Err(e) => Seen::Unseen(e.to_string()),
    }
}

/// Who can be asked, the least mighty first.
pub(super) struct Asked {
    to: Vec<(Connection, By)>,
    /// Why nobody can be.
    why: String,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

impl Asked {
    pub(super) fn new(look: Look<'_>, server: &Server) -> Self {
        let nobody = |why: &str| Self { to: Vec::new(), why: why.to_owned() };
        if !look.host.live {
            return nobody("nothing runs on a mounted image");
        }
        if server.leaf.is_none() {
            return nobody("the API server cannot be reached");
        }
        let node = look.kubelets().map(|c| (c, By::Node));
        let admin = look.administrators().map(|c| (c, By::Admin));
        let to: Vec<_> = node.into_iter().chain(admin).map(|(c, by)| (Connection { limit: LIMIT, ..c }, by)).collect();
        Self { to, why: "no credential on this node can ask".to_owned() }
    }

    /// The first answer that is one; `None` in it: there is no such object.
    fn first<T>(&self, ask: impl Fn(&Connection) -> Result<Option<T>, String>) -> Seen<Option<T>> {
        let mut why = self.why.clone();
        for (to, by) in &self.to {
            match ask(to) {
                Ok(value) => return Seen::Known(value, by.clone()),
                Err(e) => why = format!("with {by}: {e}"),
            }
        }
        Seen::Unseen(why)
    }

    fn whole<T>(&self, ask: impl Fn(&Connection) -> Result<T, String>) -> Seen<T> {
        match self.first(|to| ask(to).map(Some)) {
            Seen::Known(Some(value), by) => Seen::Known(value, by),
            Seen::Known(None, _) => Seen::Unseen("there is none".to_owned()),
            Seen::Unseen(why) => Seen::Unseen(why),
        }
    }

    /// How far the server's clock is ahead.
    pub(super) fn ahead(&self, look: Look<'_>) -> Option<SignedDuration> {
        let (to, _) = self.to.first()?;
        // any answer has a date, also one to nobody
        let date = look.host.kube.date(&Connection { identity: None, ..to.clone() })?;
        Some(date.duration_since(look.host.clock.now()))
    }

    pub(super) fn object(&self, look: Look<'_>, unit: &Seen<Unit>) -> Seen<Option<Object>> {
        let Some(name) = look.inventory.node.name.as_deref().filter(|n| is_name(n)) else {
            return Seen::Unseen("this node's name is not known".to_owned());
        };
        (look.progress)("asking for the Node");
        self.first(|to| {
            let Some(body) = get(look, to, &format!("/api/v1/nodes/{name}"))? else { return Ok(None) };
            let mut object = node(&body)?;
            let lease = || look.host.kube.node_lease(to, name).ok().and_then(|lease| lease.renewed);
            object.lease = lease();
            let stopped = unit.known().is_some_and(|u| !u.runs() && !u.crashes());
            let fresh = object.lease.is_some_and(|t| look.host.clock.now().duration_since(t) < LEASE_FRESH);
            if stopped && fresh {
                (look.progress)("watching whether somebody else reports as this node");
                look.host.clock.sleep(LEASE_RENEWED);
                object.lease_moved = lease() > object.lease;
            }
            Ok(Some(object))
        })
    }

    /// A kubelet may write events and not read them (kubernetes: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go:NodeRules`).
    pub(super) fn events(&self, look: Look<'_>) -> Seen<Vec<NodeEvent>> {
        let Some(name) = look.inventory.node.name.as_deref().filter(|n| is_name(n)) else {
            return Seen::Unseen("this node's name is not known".to_owned());
        };
        let path =
            format!("/api/v1/events?fieldSelector=involvedObject.kind%3DNode,involvedObject.name%3D{name}&limit=200");
        self.whole(|to| {
            let body = get(look, to, &path)?.ok_or("not found")?;
            let list: List<Event> = serde_json::from_str(&body).map_err(|e| e.to_string())?;
            Ok(list.items.into_iter().map(Event::told).collect())
        })
    }

    pub(super) fn requests(&self, look: Look<'_>) -> Seen<Vec<Request>> {
        (look.progress)("asking for certificate signing requests");
        self.whole(|to| {
            let client = requests::list(look.host, to, CLIENT_SIGNER).ok_or("requests may not be listed")?;
            let serving = requests::list(look.host, to, SERVING_SIGNER).unwrap_or_default();
            Ok(client.into_iter().chain(serving).collect())
        })
    }

    pub(super) fn rights(&self, look: Look<'_>) -> Seen<Rights> {
        let Some(user) = user(look) else { return Seen::Unseen("this node's name is not known".to_owned()) };
        (look.progress)("asking what this node may do");
        // what the approver asks before it approves (kubernetes: pkg/controller/certificates/approver/sarapprove.go)
        let about = |subresource: &str| serde_json::json!({"group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create", "subresource": subresource});
        let review = |to: &Connection, subresource: &str| {
            let spec = serde_json::json!({"user": user, "groups": [GROUP, "system:authenticated"], "resourceAttributes": about(subresource)});
            allowed(look, to, "SubjectAccessReview", &spec)
        };
        let own = |to: &Connection| {
            let spec = serde_json::json!({"resourceAttributes": about("")});
            allowed(look, to, "SelfSubjectAccessReview", &spec)
        };
        match self.to.first() {
            None => Seen::Unseen(self.why.clone()),
            Some((node, By::Node)) => {
                // for itself it asks itself; about what others grant it anybody who may
                let create = own(node).ok();
                let approved = self.to.iter().find_map(|(to, _)| review(to, "selfnodeclient").ok());
                if create.is_none() && approved.is_none() {
                    return Seen::Unseen("the API server answers no access reviews of this node".to_owned());
                }
                Seen::Known(Rights { create, approved }, By::Node)
            }
            Some((to, by)) => match (review(to, ""), review(to, "selfnodeclient")) {
                (Err(e), Err(_)) => Seen::Unseen(format!("with {by}: {e}")),
                (create, approved) => Seen::Known(Rights { create: create.ok(), approved: approved.ok() }, by.clone()),
            },
        }
    }
}

/// The body of a 200; None for a 404.
fn get(look: Look<'_>, to: &Connection, path: &str) -> Result<Option<String>, String> {
    match look.host.kube.get(to, path) {
        Ok(a) if a.status == 200 => Ok(Some(a.body)),
        Ok(a) if a.status == 404 => Ok(None),
        Ok(a) if a.status == 403 => Err("it may not (403 Forbidden)".to_owned()),
        Ok(a) => Err(format!("the API server answers {}", a.status)),
        Err(e) => Err(e.to_string()),
    }
}

fn allowed(look: Look<'_>, to: &Connection, kind: &str, spec: &serde_json::Value) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Review {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        allowed: bool,
    }
    let review = serde_json::json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let path = format!("{REVIEWS}/{}s", kind.to_ascii_lowercase());
    let answer = look.host.kube.post(to, &path, &review.to_string()).map_err(|e| e.to_string())?;
    if answer.status != 201 && answer.status != 200 {
        return Err(format!("the API server answers {}", answer.status));
    }
    serde_json::from_str::<Review>(&answer.body).map(|r| r.status.allowed).map_err(|e| e.to_string())
}

/// What may be put into a URL: a DNS subdomain (RFC 1123), as names of nodes are.
fn is_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !name.is_empty() && name.len() <= 253 && name.bytes().all(fine)
}

fn node(body: &str) -> Result<Object, String> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    struct Spec {
        #[serde(default)]
        unschedulable: bool,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        #[serde(default)]
        conditions: Vec<Condition>,
        #[serde(default)]
        node_info: Info,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        #[serde(default)]
        kubelet_version: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Condition {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        status: String,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        message: String,
        last_transition_time: Option<Timestamp>,
    }
    let node: Node = serde_json::from_str(body).map_err(|e| e.to_string())?;
    let ready = node.status.conditions.into_iter().find(|c| c.kind == "Ready");
    let mut object = Object {
        kubelet_version: node.status.node_info.kubelet_version,
        unschedulable: node.spec.unschedulable,
        ..Object::default()
    };
    if let Some(c) = ready {
        (object.ready, object.reason, object.message, object.since) =
            (c.status, told(&c.reason), told(&c.message), c.last_transition_time);
    }
    Ok(object)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    count: Option<u32>,
    last_timestamp: Option<Timestamp>,
    #[serde(rename = "eventTime")]
    began: Option<Timestamp>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    count: Option<u32>,
    last_observed_time: Option<Timestamp>,
}

impl Event {
    fn told(self) -> NodeEvent {
        let series = self.series.as_ref();
        NodeEvent {
            at: series.and_then(|s| s.last_observed_time).or(self.last_timestamp).or(self.began),
            warning: self.kind == "Warning",
            reason: told(&self.reason),
            note: told(&self.message),
            count: series.and_then(|s| s.count).or(self.count).unwrap_or(1),
        }
    }
}

/// What others wrote.
fn told(text: &str) -> String {
    plain::line(text, plain::SENTENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_conditions_is_not_ready_and_no_error() {
        assert_eq!(node("{}").unwrap(), Object::default());
        assert!(node("3").is_err());
        let body = r#"{"spec":{"unschedulable":true},"status":{"nodeInfo":{"kubeletVersion":"v1.34.2"},"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"a\u001b[2Jb","lastTransitionTime":"2026-11-22T12:00:00Z"}]}}"#;
        let object = node(body).unwrap();
        assert_eq!((object.ready.as_str(), object.message.as_str()), ("False", "a\u{fffd}[2Jb"));
        assert!(object.unschedulable && object.since.is_some());
    }

    #[test]
    fn events_of_both_apis_are_told_alike() {
        let parse = |json: &str| serde_json::from_str::<Event>(json).unwrap().told();
        let old = parse(
            r#"{"type":"Warning","reason":"A","message":"m","count":3,"lastTimestamp":"2026-11-22T12:00:00Z","eventTime":null}"#,
        );
        assert_eq!((old.count, old.warning, old.at.is_some()), (3, true, true));
        let new = parse(
            r#"{"type":"Normal","reason":"A","message":"m","eventTime":"2026-11-22T12:00:00.000000Z","series":{"count":5,"lastObservedTime":"2026-11-22T13:00:00.000000Z"}}"#,
        );
        assert_eq!((new.count, new.at.unwrap().to_string().as_str()), (5, "2026-11-22T13:00:00Z"));
    }

    #[test]
    fn only_names_of_nodes_get_into_a_url() {
        for (name, fine) in [("node-1.example", true), ("", false), ("../secrets", false), ("a b", false), ("A", false)]
        {
            assert_eq!(is_name(name), fine, "{name}");
        }
    }
}
