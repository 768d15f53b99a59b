//! ConfigMaps as workers ask for them: the fields of a Lease by the Lease's own names, and entries by the names of nodes. A kubelet's
//! identity may write no Lease but its own (`model::fleet::place`).
//!
//! Changes are JSON patches (RFC 6902) that name the version they replace, so that labels and whatever else others have put on the
//! object stay as they are, and a stale change is a conflict, as an update would be.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::lease::{identity, micro, reply};
use super::{Connection, KubeApi};
use crate::model::fleet::lease::{Call, Record, Reply};

const PATCH: &str = "application/json-patch+json";

/// Keys of a lock. Each has a capital letter, so none is the name of a node (RFC 1123).
const HOLDER: &str = "holderIdentity";
const LAST: &str = "lastHolder";
const SECONDS: &str = "leaseDurationSeconds";
const ACQUIRED: &str = "acquireTime";
const RENEWED: &str = "renewTime";
const TRANSITIONS: &str = "leaseTransitions";

/// Sends one request about the ConfigMap `name`.
pub fn exchange(api: &dyn KubeApi, to: &Connection, namespace: &str, name: &str, call: &Call) -> Reply {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let answer = match call {
        Call::Get => api.get(to, &path),
        Call::Update(record) => api.patch(to, &path, PATCH, &patch(record)),
        // `create` cannot be bound to names, so nobody has that right
        Call::Create(_) => {
            return Reply::Refused(format!(
                "ConfigMap {namespace}/{name} does not exist: apply packaging/kubernetes/fleet.yaml, with one for each of \
                 `fleet.workers-at-once`"
            ));
        }
    };
    reply(answer, "ConfigMap", ConfigMap::record)
}

/// `add` replaces what is there (RFC 6902, 4.1).
fn patch(record: &Record) -> String {
    json!([
        {"op": "add", "path": "/metadata/resourceVersion", "value": record.version},
        {"op": "add", "path": "/data", "value": data(record)},
    ])
    .to_string()
}

fn data(record: &Record) -> BTreeMap<String, String> {
    let number = |n: u32| Some(n).filter(|n| *n > 0).map(|n| n.to_string());
    let text = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    let fields = [
        (HOLDER, text(&record.holder)),
        (LAST, text(&record.last)),
        (SECONDS, number(record.seconds)),
        (ACQUIRED, record.acquired.map(micro)),
        (RENEWED, record.renewed.map(micro)),
        (TRANSITIONS, number(record.transitions)),
    ];
    let mut data = record.annotations.clone();
    data.extend(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    data
}

#[derive(Deserialize)]
struct ConfigMap {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

impl ConfigMap {
    fn record(self) -> Record {
        let mut data = self.data.unwrap_or_default();
        let number = |text: Option<String>| text.and_then(|t| t.parse().ok()).unwrap_or_default();
        let time = |text: Option<String>| text.and_then(|t| t.parse().ok());
        Record {
            holder: identity(data.remove(HOLDER)),
            last: identity(data.remove(LAST)),
            seconds: number(data.remove(SECONDS)),
            acquired: time(data.remove(ACQUIRED)),
            renewed: time(data.remove(RENEWED)),
            transitions: number(data.remove(TRANSITIONS)),
            version: self.metadata.resource_version,
            annotations: data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            holder: "w1_1a2b".into(),
            last: "w2_3c4d".into(),
            seconds: 1200,
            acquired: "2026-11-22T10:00:00.123456Z".parse().ok(),
            renewed: "2026-11-22T10:01:00Z".parse().ok(),
            transitions: 7,
            version: "4711".into(),
            annotations: BTreeMap::from([("w3".into(), "{}".into())]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let body = json!({"metadata": {"resourceVersion": "4711"}, "data": data(&record())}).to_string();
        assert_eq!(serde_json::from_str::<ConfigMap>(&body).unwrap().record(), record());
    }

    #[test]
    fn a_change_names_the_version_that_it_replaces_and_touches_nothing_but_the_data() {
        let change: serde_json::Value = serde_json::from_str(&patch(&record())).unwrap();
        assert_eq!(change[0]["value"], "4711");
        let paths: Vec<_> = change.as_array().unwrap().iter().map(|op| op["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/metadata/resourceVersion", "/data"]);
        assert_eq!(change[1]["value"]["leaseTransitions"], "7", "values of a ConfigMap are strings");
    }

    #[test]
    fn one_without_data_or_with_odd_values_is_read_with_what_it_has() {
        let read = |body: &str| serde_json::from_str::<ConfigMap>(body).unwrap().record();
        let bare = read(r#"{"metadata":{"resourceVersion":"1"}}"#);
        assert_eq!(bare, Record { version: "1".into(), ..Record::default() });
        let odd =
            read(r#"{"metadata":{"resourceVersion":"1"},"data":{"leaseDurationSeconds":"-5","renewTime":"soon"}}"#);
        assert_eq!((odd.seconds, odd.renewed), (0, None));
    }
}
