//! The few API objects that are read, leniently: fields that are not needed may be anything, so that servers from
//! 1.20 to the newest are understood alike.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI, malformed};
use crate::model::plain;

/// `SelfSubjectReview` by API version, newest first: v1 since 1.28, v1beta1 since 1.27, v1alpha1 since 1.26.
const REVIEWS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// Answered to every authenticated user (`system:basic-user`), in all versions; says yes or no, not who.
const ACCESS_REVIEW: &str = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/version","verb":"get"}}}"#;
const ACCESS_REVIEW_PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

pub(super) fn whoami(api: &dyn KubeApi, to: &Connection) -> Result<WhoAmI, KubeError> {
    for version in REVIEWS {
        let path = format!("/apis/authentication.k8s.io/{version}/selfsubjectreviews");
        let body = format!(r#"{{"apiVersion":"authentication.k8s.io/{version}","kind":"SelfSubjectReview"}}"#);
        let answer = api.post(to, &path, &body)?;
        match answer.status {
            200 | 201 => {
                let review: Review = parse(to, &path, &answer)?;
                let user = review.status.user_info;
                return Ok(WhoAmI::User { name: user.username, groups: user.groups });
            }
            // 404: too old for this version; 403: somebody took `system:basic-user` away, which is not our matter
            403 | 404 => {}
            _ => return Err(unwanted(to, &path, &answer)),
        }
    }
    let answer = api.post(to, ACCESS_REVIEW_PATH, ACCESS_REVIEW)?;
    match answer.status {
        200 | 201 => Ok(WhoAmI::Authenticated),
        _ => Err(unwanted(to, ACCESS_REVIEW_PATH, &answer)),
    }
}

pub(super) fn node_ready(api: &dyn KubeApi, to: &Connection, node: &str) -> Result<NodeReady, KubeError> {
    let path = format!("/api/v1/nodes/{}", segment(to, node)?);
    let object: Node = fetch(api, to, &path)?;
    let ready = object.status.conditions.into_iter().find(|c| c.kind == "Ready");
    let condition = ready.ok_or_else(|| KubeError::Malformed {
        server: to.server.clone(),
        path,
        detail: "the Node has no condition Ready yet".into(),
    })?;
    Ok(NodeReady {
        status: condition.status,
        reason: condition.reason.unwrap_or_default(),
        message: condition.message.unwrap_or_default(),
        heartbeat: time(condition.last_heartbeat_time.as_deref()),
    })
}

pub(super) fn node_lease(api: &dyn KubeApi, to: &Connection, node: &str) -> Result<NodeLease, KubeError> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", segment(to, node)?);
    let lease: Lease = fetch(api, to, &path)?;
    let seconds = lease.spec.duration.and_then(|value| value.as_u64()).and_then(|seconds| u32::try_from(seconds).ok());
    Ok(NodeLease { renewed: time(lease.spec.renew_time.as_deref()), seconds })
}

pub(super) fn cluster_configuration(api: &dyn KubeApi, to: &Connection) -> Result<Option<String>, KubeError> {
    let path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";
    match fetch::<ConfigMap>(api, to, path) {
        Ok(map) => Ok(map.data.cluster_configuration),
        Err(KubeError::Status { status: 404, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

// GET without resourceVersion is a quorum read, not one from the API server's cache (Kubernetes API concepts)
fn fetch<T: DeserializeOwned>(api: &dyn KubeApi, to: &Connection, path: &str) -> Result<T, KubeError> {
    let answer = api.get(to, path)?;
    if answer.status == 200 { parse(to, path, &answer) } else { Err(unwanted(to, path, &answer)) }
}

fn parse<T: DeserializeOwned>(to: &Connection, path: &str, answer: &Answer) -> Result<T, KubeError> {
    serde_json::from_str(&answer.body).map_err(|e| malformed(to.server.clone(), path.to_owned(), &e))
}

fn unwanted(to: &Connection, path: &str, answer: &Answer) -> KubeError {
    let server = to.server.clone();
    let message = serde_json::from_str::<Failure>(&answer.body).map_or_else(|_| answer.body.clone(), |f| f.message);
    let detail = plain::line(&message, plain::CLAUSE);
    if answer.status >= 500 || answer.status == 429 {
        return KubeError::Unreachable { server, detail: format!("{} for {path}: {detail}", answer.status) };
    }
    KubeError::Status { server, path: path.to_owned(), status: answer.status, detail }
}

/// Node names are DNS subdomains (RFC 1123); anything else must not get into a URL.
fn segment<'a>(to: &Connection, name: &'a str) -> Result<&'a str, KubeError> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let starts = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if starts && name.len() <= 253 && name.bytes().all(fine) {
        return Ok(name);
    }
    Err(KubeError::Setup { server: to.server.clone(), detail: format!("{name:?} is not a node name") })
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|t| t.parse().ok())
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
struct ReviewStatus {
    #[serde(rename = "userInfo")]
    user_info: UserInfo,
}

#[derive(Deserialize)]
struct UserInfo {
    username: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    #[serde(rename = "lastHeartbeatTime")]
    last_heartbeat_time: Option<String>,
}

#[derive(Deserialize)]
struct Lease {
    #[serde(default)]
    spec: LeaseSpec,
}

#[derive(Default, Deserialize)]
struct LeaseSpec {
    #[serde(rename = "renewTime")]
    renew_time: Option<String>,
    #[serde(rename = "leaseDurationSeconds")]
    duration: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: ConfigData,
}

#[derive(Default, Deserialize)]
struct ConfigData {
    #[serde(rename = "ClusterConfiguration")]
    cluster_configuration: Option<String>,
}

/// `metav1.Status`.
#[derive(Deserialize)]
struct Failure {
    message: String,
}
