//! A request as the API writes it, with all that the decision goes by; and the words for the decision.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Decision, Filed};
use crate::model::{asked, csr};

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    request: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    usages: Vec<String>,
    expiration_seconds: Option<i64>,
}

/// None: it is no request.
pub fn filed(object: &Value) -> Option<Filed> {
    let request = csr::from_value(object).ok()?;
    let Object { spec } = Object::deserialize(object).ok()?;
    let pem = STANDARD.decode(&spec.request).map_err(|e| format!("what it asks for is not base64: {e}"));
    Some(Filed {
        name: request.name,
        signer: request.signer,
        username: request.username,
        groups: spec.groups,
        usages: spec.usages,
        expiration_seconds: spec.expiration_seconds,
        created: request.created,
        stage: request.stage,
        asked: pem.and_then(|pem| asked::parse(&pem)),
    })
}

/// The object with the decision in it, for its `approval` subresource. None: there is none yet.
pub fn decided(mut object: Value, decision: &Decision, now: Timestamp) -> Option<Value> {
    let (kind, reason, message) = match decision {
        Decision::Approve => ("Approved", "CertwardenApproved", "everything about it is what the node's kubelet files"),
        Decision::Deny(why) => ("Denied", "CertwardenDenied", why.as_str()),
        Decision::Wait(_) | Decision::Undecided(_) | Decision::Ask(_) => return None,
    };
    let at = format!("{now:.0}");
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": at});
    let status = object.as_object_mut()?.entry("status").or_insert_with(|| json!({}));
    let conditions = status.as_object_mut()?.entry("conditions").or_insert_with(|| json!([]));
    conditions.as_array_mut()?.push(condition);
    Some(object)
}
