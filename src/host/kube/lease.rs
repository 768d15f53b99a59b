//! Leases of `coordination.k8s.io/v1`, as the lock asks for them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Answer, Connection, KubeApi, KubeError};
use crate::model::fleet::lease::{Call, Record, Reply};
use crate::model::fleet::notes::LAST;
use crate::model::plain;

/// Sends one request about the Lease `name`.
pub fn exchange(api: &dyn KubeApi, to: &Connection, namespace: &str, name: &str, call: &Call) -> Reply {
    let all = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let one = format!("{all}/{name}");
    let json = |record: &Record| serde_json::to_string(&Lease::of(record, namespace, name)).unwrap_or_default();
    let answer = match call {
        Call::Get => api.get(to, &one),
        Call::Create(record) => api.post(to, &all, &json(record)),
        Call::Update(record) => api.put(to, &one, &json(record)),
    };
    reply(answer, "Lease", Lease::record)
}

/// What an answer about an object of this kind means.
pub(super) fn reply<T: DeserializeOwned>(
    answer: Result<Answer, KubeError>,
    kind: &str,
    record: impl FnOnce(T) -> Record,
) -> Reply {
    match answer {
        Ok(answer) => understood(&answer, kind, record),
        Err(e @ (KubeError::Unreachable { .. } | KubeError::Untrusted { .. } | KubeError::Malformed { .. })) => {
            Reply::Silence(e.to_string())
        }
        Err(e) => Reply::Refused(e.to_string()),
    }
}

fn understood<T: DeserializeOwned>(answer: &Answer, kind: &str, record: impl FnOnce(T) -> Record) -> Reply {
    let said = || plain::line(&answer.body, plain::CLAUSE);
    match answer.status {
        200 | 201 => match serde_json::from_str::<T>(&answer.body).map(record) {
            Ok(record) if !record.version.is_empty() => Reply::Is(record),
            Ok(_) => Reply::Silence(format!("the answer is no {kind}")),
            Err(e) => {
                Reply::Silence(format!("the answer is no {kind}: {}", plain::line(&e.to_string(), plain::CLAUSE)))
            }
        },
        404 => Reply::Absent,
        409 => Reply::Conflict,
        429 | 500.. => Reply::Silence(format!("{}: {}", answer.status, said())),
        status => Reply::Refused(format!("{status}: {}", said())),
    }
}

#[derive(Deserialize, Serialize)]
struct Lease {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// Everything is a pointer in Go: what is not set is left out, or null.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_duration_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_transitions: Option<i64>,
}

/// As `metav1.MicroTime`: RFC 3339 with six digits.
pub(super) fn micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A name and eight digits, or somebody else's whim: it is compared with our own, and shown.
pub(super) fn identity(text: Option<String>) -> String {
    plain::line(&text.unwrap_or_default(), plain::SENTENCE)
}

impl Lease {
    fn of(record: &Record, namespace: &str, name: &str) -> Self {
        let mut annotations = record.annotations.clone();
        if !record.last.is_empty() {
            annotations.insert(LAST.to_owned(), record.last.clone());
        }
        Self {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            metadata: Metadata {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                resource_version: record.version.clone(),
                annotations,
            },
            spec: Spec {
                holder_identity: Some(record.holder.clone()).filter(|h| !h.is_empty()),
                // the API server refuses zero
                lease_duration_seconds: Some(record.seconds.max(1).into()),
                acquire_time: record.acquired.map(micro),
                renew_time: record.renewed.map(micro),
                lease_transitions: Some(record.transitions.into()),
            },
        }
    }

    fn record(mut self) -> Record {
        let number = |n: Option<i64>| u32::try_from(n.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
        let time = |text: Option<String>| text.and_then(|t| t.parse().ok());
        Record {
            holder: identity(self.spec.holder_identity),
            last: identity(self.metadata.annotations.remove(LAST)),
            seconds: number(self.spec.lease_duration_seconds),
            acquired: time(self.spec.acquire_time),
            renewed: time(self.spec.renew_time),
            transitions: number(self.spec.lease_transitions),
            version: self.metadata.resource_version,
            annotations: self.metadata.annotations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Reply {
        understood(&Answer { status, body: body.to_owned() }, "Lease", Lease::record)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = Record {
            holder: "cp1_1a2b".into(),
            last: "cp2_3c4d".into(),
            seconds: 1200,
            acquired: "2026-11-22T10:00:00.123456Z".parse().ok(),
            renewed: "2026-11-22T10:01:00Z".parse().ok(),
            transitions: 7,
            version: "4711".into(),
            annotations: BTreeMap::from([("certwarden.io/pause".into(), "{}".into())]),
        };
        let json = serde_json::to_string(&Lease::of(&record, "kube-system", "certwarden")).unwrap();
        assert!(json.contains(r#""acquireTime":"2026-11-22T10:00:00.123456Z""#), "{json}");
        assert!(json.contains(r#""resourceVersion":"4711""#), "{json}");
        assert_eq!(answer(200, &json), Reply::Is(record));
    }

    #[test]
    fn a_lease_that_others_made_is_read_with_what_it_has() {
        let bare = r#"{"metadata":{"resourceVersion":"1"},"spec":{"leaseDurationSeconds":-5,"renewTime":"soon","holderIdentity":null}}"#;
        let Reply::Is(record) = answer(200, bare) else { panic!("no record") };
        assert_eq!((record.holder.as_str(), record.seconds, record.renewed), ("", 0, None));
    }

    #[test]
    fn every_status_has_its_meaning() {
        assert_eq!(answer(404, ""), Reply::Absent);
        assert_eq!(answer(409, ""), Reply::Conflict);
        assert!(matches!(answer(503, "etcd"), Reply::Silence(why) if why == "503: etcd"));
        assert!(matches!(answer(403, "no"), Reply::Refused(why) if why == "403: no"));
        assert!(matches!(answer(200, "{}"), Reply::Silence(_)), "a version is what everything rests on");
        assert!(matches!(answer(200, "<html>"), Reply::Silence(_)));
    }
}
