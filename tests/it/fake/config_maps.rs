//! ConfigMaps that are changed by JSON patches of a version, and the policy that holds each worker to its own entries.

use std::collections::BTreeMap;

use certwarden::host::kube::Answer;
use serde_json::{Value, json};

const ALL: &str = "/api/v1/namespaces/kube-system/configmaps/";
const MARKS: &str = "certwarden-workers";

pub type Data = BTreeMap<String, String>;

#[derive(Default)]
pub struct ConfigMaps {
    /// By name, each with its version.
    objects: BTreeMap<String, (u64, Data)>,
    /// `fleet-policy.yaml` is applied.
    pub policy: bool,
}

impl ConfigMaps {
    /// As `kubectl apply -f fleet.yaml` makes them.
    pub fn apply(&mut self) {
        for name in [MARKS, "certwarden-worker-0"] {
            self.set(name, Data::new());
        }
    }

    pub fn set(&mut self, name: &str, data: Data) {
        let version = self.objects.values().map(|(version, _)| version).max().unwrap_or(&0) + 1;
        self.objects.insert(name.to_owned(), (version, data));
    }

    pub fn data(&self, name: &str) -> Data {
        self.objects.get(name).map(|(_, data)| data.clone()).unwrap_or_default()
    }

    pub fn marks(&self) -> Data {
        self.data(MARKS)
    }

    pub fn set_marks(&mut self, data: Data) {
        self.set(MARKS, data);
    }

    /// None: not about these.
    pub fn get(&self, path: &str) -> Option<Answer> {
        let name = path.strip_prefix(ALL)?;
        let object = self.objects.get(name).map(|(version, data)| object(name, *version, data));
        Some(object.map_or_else(|| answer(404, &json!({})), |object| answer(200, &object)))
    }

    /// None: not about these. `node`: who asks, if a node.
    pub fn patch(&mut self, path: &str, json: &str, node: Option<&str>) -> Option<Answer> {
        let name = path.strip_prefix(ALL)?;
        let steps: Vec<Value> = serde_json::from_str(json).unwrap();
        let value = |path: &str| steps.iter().find(|op| op["op"] == "add" && op["path"] == path).map(|op| &op["value"]);
        let Some((version, old)) = self.objects.get(name).cloned() else { return Some(answer(404, &json!({}))) };
        if value("/metadata/resourceVersion") != Some(&json!(version.to_string())) {
            return Some(answer(409, &json!({})));
        }
        let new: Data = serde_json::from_value(value("/data").unwrap().clone()).unwrap();
        if node.is_some_and(|node| self.policy && !is_its_own(name, node, &old, &new)) {
            return Some(answer(422, &json!({"message": "denied request: a worker may change its own entry only"})));
        }
        self.set(name, new);
        self.get(path)
    }
}

/// As the policy says it in CEL.
fn is_its_own(name: &str, node: &str, old: &Data, new: &Data) -> bool {
    if name == MARKS {
        let others =
            |data: &Data| data.iter().filter(|(key, _)| *key != node).map(|(k, v)| (k.clone(), v.clone())).collect();
        let (before, after): (Data, Data) = (others(old), others(new));
        return before == after;
    }
    let is_me = |data: &Data| data.get("holderIdentity").is_some_and(|h| h.starts_with(&format!("{node}_")));
    is_me(new) || (!new.contains_key("holderIdentity") && is_me(old))
}

fn object(name: &str, version: u64, data: &Data) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}, "data": data})
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, body: body.to_string() }
}
