//! What the API server lets a node's identity do, by the manifests as they are shipped: RBAC by `fleet.yaml`, and what NodeRestriction
//! adds.

use std::sync::LazyLock;

use certwarden::host::kube::Connection;
use certwarden::model::cert::parse_pem;
use certwarden::model::identity::{GROUP, node_of};
use certwarden::model::yaml;
use serde_json::Value;

pub const MANIFEST: &str = include_str!("../../../packaging/kubernetes/fleet.yaml");

static SHIPPED: LazyLock<Rules> = LazyLock::new(|| Rules::of(&documents(MANIFEST)));

/// What a request asks for, as the API server sees it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    /// Of one object; of a list, if its field selector names one (kubernetes: `apiserver/pkg/endpoints/request/requestinfo.go`).
    pub name: Option<&'a str>,
}

/// The rules of all roles that a manifest binds to nodes.
pub struct Rules(Vec<Value>);

impl Rules {
    pub fn of(documents: &[Value]) -> Self {
        let bound = documents.iter().filter(|d| subjects(d).any(|s| s["kind"] == "Group" && s["name"] == GROUP));
        let references = bound.map(|b| (&b["roleRef"]["kind"], &b["roleRef"]["name"]));
        let rules = references.flat_map(|(kind, name)| {
            let role = documents.iter().find(|d| d["kind"] == *kind && d["metadata"]["name"] == *name).unwrap();
            role["rules"].as_array().unwrap().clone()
        });
        Self(rules.collect())
    }

    pub fn each(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    pub fn allow(&self, asked: Asked<'_>) -> bool {
        let has = |rule: &Value, key: &str, what: &str| strings(&rule[key]).any(|s| s == what);
        self.0.iter().any(|rule| {
            let named = rule["resourceNames"].is_null() || asked.name.is_some_and(|n| has(rule, "resourceNames", n));
            let object = has(rule, "apiGroups", asked.group) && has(rule, "resources", asked.resource);
            object && named && has(rule, "verbs", asked.verb)
        })
    }
}

pub fn documents(manifest: &str) -> Vec<Value> {
    manifest.split("\n---\n").map(|text| yaml::parse(text).unwrap()).collect()
}

pub fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn subjects(document: &Value) -> impl Iterator<Item = &Value> {
    document["subjects"].as_array().into_iter().flatten()
}

/// The node that asks; None: somebody else, who may do everything here.
pub fn node(to: &Connection) -> Option<String> {
    let chain = parse_pem(&to.identity.as_ref()?.cert).ok()?;
    node_of(chain.first()?).map(str::to_owned)
}

/// Whether a node may not do that. `get` stands for reading, of a list as well.
pub fn refuses(verb: &str, path: &str) -> bool {
    let Some(asked) = asked(verb, path) else { return false };
    let writes = !["get", "list"].contains(&asked.verb);
    let restricted = asked.resource == "leases" && writes;
    restricted || !SHIPPED.allow(asked)
}

/// None: about something that the node authorizer decides by itself.
fn asked<'a>(verb: &'a str, path: &'a str) -> Option<Asked<'a>> {
    let all = [
        ("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", "coordination.k8s.io", "leases"),
        ("/api/v1/namespaces/kube-system/configmaps", "", "configmaps"),
        ("/apis/apps/v1/daemonsets", "apps", "daemonsets"),
        ("/api/v1/nodes?", "", "nodes"),
    ];
    let (rest, group, resource) = all.iter().find_map(|(p, g, r)| Some((path.strip_prefix(p)?, *g, *r)))?;
    let selected = rest.split(['?', '&']).find_map(|q| q.strip_prefix("fieldSelector=metadata.name%3D"));
    let one = rest.strip_prefix('/').filter(|name| !name.is_empty());
    let verb = if verb == "get" && one.is_none() { "list" } else { verb };
    Some(Asked { verb, group, resource, name: one.or(selected) })
}
