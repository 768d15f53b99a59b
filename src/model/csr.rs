//! Certificate signing requests as the API has them (`certificates.k8s.io/v1`), and what becomes of this node's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::finding::{Finding, Problem};
use super::identity::USER;
use super::plain;
use super::version::Version;

pub const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// Signer of the identity with which a kubelet talks to the API server. Approved by the controller manager itself where the
/// requester is the node (kubernetes: `pkg/controller/certificates/approver/sarapprove.go`).
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of the certificate that a kubelet serves with. Nobody approves by himself.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// A kubelet waits so long for each of its requests (client-go: `util/certificate/certificate_manager.go`).
const KUBELET_WAITS: i64 = 15 * 60;

/// What has become of a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Stage {
    Pending,
    /// Approved, and nothing issued.
    Approved,
    Denied {
        why: String,
    },
    Failed {
        why: String,
    },
    /// PEM.
    Issued {
        #[serde(skip)]
        certificate: Vec<u8>,
    },
}

/// A request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Request {
    pub name: String,
    pub signer: String,
    /// Who filed it.
    pub username: String,
    pub created: Option<Timestamp>,
    pub stage: Stage,
}

/// A request that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the API's answer is no certificate signing request: {0}")]
pub struct Odd(String);

/// Which of a kubelet's two certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Client,
    Serving,
}

impl Kind {
    pub fn signer(self) -> &'static str {
        match self {
            Self::Client => CLIENT_SIGNER,
            Self::Serving => SERVING_SIGNER,
        }
    }

    /// How certwarden calls a request for it; a kubelet's begin with `csr-`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Client => PREFIX,
            Self::Serving => "certwarden-serving-",
        }
    }

    /// As `CertFacts::usages` calls it.
    pub fn usage(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Serving => "serverAuth",
        }
    }
}

/// A request of a kubelet. The signer takes exactly these usages; key encipherment, which an ECDSA key cannot do, was
/// demanded before 1.27 (kubernetes: `pkg/apis/certificates/helpers.go:ValidateKubeletClientCSR`, `ValidateKubeletServingCSR`).
pub fn request(kind: Kind, name: &str, csr_pem: &[u8], server: Option<Version>) -> String {
    let demanded = server.is_none_or(|v| (v.major, v.minor) < (1, 27));
    let auth = match kind {
        Kind::Client => "client auth",
        Kind::Serving => "server auth",
    };
    let usages = ["key encipherment", "digital signature", auth];
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(csr_pem),
            "signerName": kind.signer(),
            "usages": if demanded { &usages[..] } else { &usages[1..] },
        },
    })
    .to_string()
}

/// One request, from the API's JSON.
///
/// # Errors
/// [`Odd`].
pub fn parse(body: &str) -> Result<Request, Odd> {
    let object: Object = serde_json::from_str(body).map_err(|e| Odd(e.to_string()))?;
    object.try_into()
}

/// One of a list of the API's.
///
/// # Errors
/// [`Odd`].
pub fn from_value(object: &serde_json::Value) -> Result<Request, Odd> {
    Object::deserialize(object).map_err(|e| Odd(e.to_string()))?.try_into()
}

/// What a list of requests says of this node's: the newest of each signer that is not issued.
pub fn findings(requests: &[Request], node: &str, signer: &str, now: Timestamp) -> Option<Finding> {
    let own = format!("{USER}{node}");
    let newest = requests.iter().filter(|r| r.username == own && r.signer == signer).max_by_key(|r| r.created)?;
    let name = &newest.name;
    let since = newest.created.map(|t| format!(" since {t}")).unwrap_or_default();
    Some(match &newest.stage {
        Stage::Issued { .. } => return None,
        Stage::Pending if signer == CLIENT_SIGNER && is_young(newest, now) => return None,
        Stage::Pending => {
            let who = if signer == CLIENT_SIGNER {
                "see that the controller manager runs with its approver and that the node's rights are bound \
                 (kubeadm:node-autoapprove-certificate-rotation)"
            } else {
                "nobody approves such requests by himself"
            };
            let message =
                format!("request {name} has been pending{since}: {who}; or `kubectl certificate approve {name}`");
            Finding::new(Problem::RequestPending, message)
        }
        Stage::Approved => {
            let message = format!(
                "request {name} is approved, and nothing has been issued{since}: see that the controller manager has the CA's \
                 key (--cluster-signing-cert-file, --cluster-signing-key-file)"
            );
            Finding::new(Problem::RequestNotIssued, message)
        }
        Stage::Denied { why } => Finding::new(Problem::RequestDenied, format!("request {name} was denied: {why}")),
        Stage::Failed { why } => {
            Finding::new(Problem::RequestFailed, format!("the signer could not issue request {name}: {why}"))
        }
    })
}

/// Whether the kubelet itself is waiting for one of its requests: then its rotation is at work.
pub fn rotating(requests: &[Request], node: &str, kind: Kind, now: Timestamp) -> Option<String> {
    let own = format!("{USER}{node}");
    let theirs = |r: &&Request| r.username == own && r.signer == kind.signer() && !r.name.starts_with(PREFIX);
    let waiting = |r: &&Request| matches!(r.stage, Stage::Pending | Stage::Approved) && is_young(r, now);
    requests.iter().filter(theirs).find(waiting).map(|r| r.name.clone())
}

/// kubernetes: `apimachinery/pkg/util/validation/validation.go:DNS1123SubdomainMaxLength`.
const LONGEST_NAME: usize = 253;
/// How all of certwarden's requests begin.
const PREFIX: &str = "certwarden-";

fn is_young(request: &Request, now: Timestamp) -> bool {
    request.created.is_some_and(|t| now.as_second().saturating_sub(t.as_second()) < KUBELET_WAITS)
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    creation_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    signer_name: String,
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
struct Status {
    certificate: Option<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl TryFrom<Object> for Request {
    type Error = Odd;

    fn try_from(object: Object) -> Result<Self, Odd> {
        let Object { metadata, spec, status } = object;
        // it becomes part of paths, of messages, and of commands for people
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:".contains(&b);
        if metadata.name.is_empty() || metadata.name.len() > LONGEST_NAME || !metadata.name.bytes().all(plain) {
            return Err(Odd("its name is none that an object can have".to_owned()));
        }
        Ok(Self {
            name: metadata.name,
            signer: spec.signer_name,
            username: spec.username,
            created: metadata.creation_timestamp.and_then(|t| t.parse().ok()),
            stage: stage(&status)?,
        })
    }
}

fn stage(status: &Status) -> Result<Stage, Odd> {
    // `status` was added to conditions in v1; what is not said to be untrue is true
    let has = |kind: &str| status.conditions.iter().find(|c| c.kind == kind && c.status != "False");
    let why = |c: &Condition| plain::line(&format!("{}: {}", c.reason, c.message), plain::SENTENCE);
    if let Some(denied) = has("Denied") {
        return Ok(Stage::Denied { why: why(denied) });
    }
    if let Some(text) = status.certificate.as_ref().filter(|c| !c.is_empty()) {
        let certificate = STANDARD.decode(text).map_err(|e| Odd(format!("its certificate is not base64: {e}")))?;
        return Ok(Stage::Issued { certificate });
    }
    if let Some(failed) = has("Failed") {
        return Ok(Stage::Failed { why: why(failed) });
    }
    Ok(if has("Approved").is_some() { Stage::Approved } else { Stage::Pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, user: &str, age: i64, status: &str) -> String {
        let created = Timestamp::from_second(1_800_000_000 - age).unwrap();
        format!(
            r#"{{"metadata":{{"name":"{name}","creationTimestamp":"{created}"}},"spec":{{"signerName":"{CLIENT_SIGNER}","username":"{user}"}},"status":{status}}}"#
        )
    }

    const APPROVED: &str = r#"{"conditions":[{"type":"Approved","status":"True"}]}"#;
    const DENIED: &str = r#"{"conditions":[{"type":"Denied","reason":"No","message":"never"}]}"#;
    const FAILED: &str = r#"{"conditions":[{"type":"Approved"},{"type":"Failed","reason":"SignerValidationFailure"}]}"#;
    const ISSUED: &str = r#"{"certificate":"UEVN","conditions":[{"type":"Approved"}]}"#;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn parse_list(list: &str) -> Vec<Request> {
        let list: serde_json::Value = serde_json::from_str(list).unwrap();
        list["items"].as_array().unwrap().iter().map(|o| from_value(o).unwrap()).collect()
    }

    #[test]
    fn each_stage_of_a_request_is_told_apart() {
        let stage = |status| parse(&object("a", "u", 0, status)).unwrap().stage;
        assert_eq!(stage("{}"), Stage::Pending);
        assert_eq!(stage(APPROVED), Stage::Approved);
        assert_eq!(stage(DENIED), Stage::Denied { why: "No: never".into() });
        assert!(matches!(stage(FAILED), Stage::Failed { .. }));
        assert_eq!(stage(ISSUED), Stage::Issued { certificate: b"PEM".to_vec() });
        assert!(parse(&object("a", "u", 0, r#"{"certificate":"%%"}"#)).is_err());
        assert!(parse("[]").is_err() && parse("{}").is_err());
        for name in ["", "a/b", "a b", "a\\n", "../a", &"a".repeat(254)] {
            assert!(parse(&object(name, "u", 0, "{}")).is_err(), "{name}");
        }
    }

    #[test]
    fn a_request_of_the_node_that_got_nowhere_is_a_finding_of_its_own() {
        let find = |age, status| {
            let list = format!(r#"{{"items":[{}]}}"#, object("csr-1", "system:node:n1", age, status));
            findings(&parse_list(&list), "n1", CLIENT_SIGNER, now()).map(|f| f.id)
        };
        assert_eq!(find(60, "{}"), None, "the kubelet is at it");
        assert_eq!(find(3600, "{}"), Some(Problem::RequestPending));
        assert_eq!(find(60, APPROVED), Some(Problem::RequestNotIssued));
        assert_eq!(find(60, DENIED), Some(Problem::RequestDenied));
        assert_eq!(find(60, FAILED), Some(Problem::RequestFailed));
        assert_eq!(find(60, ISSUED), None);
    }

    #[test]
    fn other_nodes_requests_and_older_ones_say_nothing() {
        let list = format!(
            r#"{{"items":[{},{},{}]}}"#,
            object("csr-1", "system:node:n2", 60, DENIED),
            object("csr-2", "system:node:n1", 7200, DENIED),
            object("csr-3", "system:node:n1", 60, ISSUED),
        );
        let all = parse_list(&list);
        assert_eq!(findings(&all, "n1", CLIENT_SIGNER, now()), None);
        assert_eq!(findings(&all, "n3", CLIENT_SIGNER, now()), None);
    }

    #[test]
    fn a_kubelet_that_waits_for_its_own_request_is_rotating() {
        let rotating = |name: &str, age, status| {
            let list = format!(r#"{{"items":[{}]}}"#, object(name, "system:node:n1", age, status));
            rotating(&parse_list(&list), "n1", Kind::Client, now()).is_some()
        };
        assert!(rotating("csr-abc", 60, "{}") && rotating("csr-abc", 60, APPROVED));
        assert!(!rotating("csr-abc", 3600, "{}"), "given up");
        assert!(!rotating("certwarden-n1-1", 60, "{}"), "that is ours");
        assert!(!rotating("csr-abc", 60, DENIED) && !rotating("csr-abc", 60, ISSUED));
    }

    #[test]
    fn the_usages_are_those_that_the_servers_approver_takes() {
        let json = |kind, version: Option<&str>| -> serde_json::Value {
            serde_json::from_str(&request(kind, "a", b"x", version.and_then(Version::parse))).unwrap()
        };
        let usages = |version| json(Kind::Client, version)["spec"]["usages"].as_array().unwrap().len();
        assert_eq!((usages(Some("v1.20.2")), usages(Some("v1.26.9"))), (3, 3));
        assert_eq!((usages(Some("v1.27.0")), usages(Some("v1.34.1"))), (2, 2));
        assert_eq!(usages(None), 3, "all versions take it");
        let serving = &json(Kind::Serving, Some("v1.34.1"))["spec"];
        assert_eq!(serving["usages"], serde_json::json!(["digital signature", "server auth"]));
        assert_eq!(serving["signerName"], SERVING_SIGNER);
    }
}
