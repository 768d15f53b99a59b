//! The cluster's Nodes, many in one small answer, and what others are doing to them.
//!
//! A Node is some 20 KiB, most of it a list of images. As a Table (what `kubectl get` asks for) it is one line and its metadata.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Connection, KubeApi, KubeError};

/// Nodes in one answer: with their metadata well below the size at which answers are cut.
const PAGE: usize = 250;
/// cluster-autoscaler: `taints.ToBeDeletedTaint`; Cluster API: `clusterv1.NodeOutdatedRevisionTaint`.
const LEAVING: [&str; 2] = ["ToBeDeletedByClusterAutoscaler", "node.cluster.x-k8s.io/outdated-revision"];
/// What a cordoned Node is tainted with (kubernetes: `staging/src/k8s.io/api/core/v1/well_known_taints.go`).
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// A Node in short.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeLine {
    pub name: String,
    /// As `kubectl get nodes` says: `Ready`, `NotReady,SchedulingDisabled`.
    pub status: String,
    pub control_plane: bool,
    /// `status.addresses` of the type `InternalIP`, the first.
    pub address: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

impl NodeLine {
    pub fn is_ready(&self) -> bool {
        self.status.split(',').any(|s| s == "Ready")
    }
}

/// One answer, and where the next begins; empty: there is none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    pub nodes: Vec<NodeLine>,
    pub next: String,
}

/// # Errors
/// [`KubeError`].
pub fn page(api: &dyn KubeApi, to: &Connection, selector: &str, from: &str) -> Result<Page, KubeError> {
    let mut path = format!("/api/v1/nodes?includeObject=Metadata&limit={PAGE}");
    for (key, value) in [("labelSelector", selector), ("continue", from)] {
        if !value.is_empty() {
            let _ = write!(path, "&{key}={}", escaped(value));
        }
    }
    let mut to = to.clone();
    to.headers.push(("accept".to_owned(), AS_TABLE.to_owned()));
    let table: Table = fetch(api, &to, &path)?;
    let column = |name: &str| table.column_definitions.iter().position(|c| c.name == name);
    // the latter is in every table, though `kubectl` shows it with `-o wide` only (kubernetes:
    // `pkg/printers/internalversion/printers.go`, `AddHandlers`)
    let (status, address) = (column("Status"), column("Internal-IP"));
    let line = |row: Row| {
        let cell = |at: Option<usize>| at.and_then(|at| row.cells.get(at)).and_then(serde_json::Value::as_str);
        let (cell, address) = (cell(status).unwrap_or_default().to_owned(), cell(address).map(str::to_owned));
        let labels = &row.object.metadata.labels;
        NodeLine {
            name: row.object.metadata.name,
            status: cell,
            address: address.filter(|a| a.parse::<std::net::IpAddr>().is_ok()),
            // kubeadm before 1.24 has only the former, since then only the latter
            control_plane: labels.contains_key("node-role.kubernetes.io/master")
                || labels.contains_key("node-role.kubernetes.io/control-plane"),
            annotations: row.object.metadata.annotations,
        }
    };
    Ok(Page { nodes: table.rows.into_iter().map(line).collect(), next: table.metadata.r#continue })
}

/// All that fit the selector.
///
/// # Errors
/// [`KubeError`].
pub fn all(api: &dyn KubeApi, to: &Connection, selector: &str) -> Result<Vec<NodeLine>, KubeError> {
    let (mut nodes, mut from) = (Vec::new(), String::new());
    loop {
        let mut page = page(api, to, selector, &from)?;
        nodes.append(&mut page.nodes);
        from = page.next;
        // a server that never ends is none
        if from.is_empty() || nodes.len() > 100_000 {
            return Ok(nodes);
        }
    }
}

/// What others are doing to a Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Upkeep {
    /// It is being deleted or replaced: a clause, for a person.
    Leaving(String),
    /// It is cordoned; since then, where the API server knows.
    Cordoned { since: Option<Timestamp> },
}

/// What others are doing to this very Node.
///
/// # Errors
/// [`KubeError`].
pub fn own(api: &dyn KubeApi, to: &Connection, name: &str) -> Result<Option<Upkeep>, KubeError> {
    let node: Node = fetch(api, to, &format!("/api/v1/nodes/{}", escaped(name)))?;
    if node.metadata.deletion_timestamp.is_some() {
        return Ok(Some(Upkeep::Leaving("this node is being deleted".to_owned())));
    }
    if let Some(taint) = node.spec.taints.iter().find(|t| LEAVING.contains(&t.key.as_str())) {
        let clause = format!("this node is about to be replaced (taint {})", taint.key);
        return Ok(Some(Upkeep::Leaving(clause)));
    }
    Ok(node.spec.unschedulable.then(|| Upkeep::Cordoned { since: node.cordoned_since() }))
}

/// Whoever holds kured's lock, because its node is about to be rebooted (kured: `pkg/daemonsetlock`). None, too, where it cannot be
/// read: not everybody has it, and not everybody may.
pub fn kured(api: &dyn KubeApi, to: &Connection) -> Option<String> {
    const PATH: &str = "/apis/apps/v1/daemonsets?fieldSelector=metadata.name%3Dkured&limit=5";
    let sets: List = fetch(api, to, PATH).ok()?;
    let locks = sets.items.iter().filter_map(|set| set.metadata.annotations.get("weave.works/kured-node-lock"));
    locks.filter_map(|text| serde_json::from_str::<KuredLock>(text).ok()).find_map(KuredLock::holder)
}

pub(super) fn fetch<T: serde::de::DeserializeOwned>(
    api: &dyn KubeApi,
    to: &Connection,
    path: &str,
) -> Result<T, KubeError> {
    let answer = api.get(to, path)?;
    let (server, path) = (to.server.clone(), path.to_owned());
    let detail: String = answer.body.chars().take(200).collect();
    match answer.status {
        200 => {
            serde_json::from_str(&answer.body).map_err(|e| KubeError::Malformed { server, path, detail: e.to_string() })
        }
        429 | 500.. => {
            Err(KubeError::Unreachable { server, detail: format!("{} for {path}: {detail}", answer.status) })
        }
        status => Err(KubeError::Status { server, path, status, detail }),
    }
}

/// For a query (RFC 3986, unreserved characters stay).
fn escaped(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    #[serde(default)]
    metadata: ListMeta,
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListMeta {
    r#continue: String,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    cells: Vec<serde_json::Value>,
    #[serde(default)]
    object: Object,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
    managed_fields: Vec<FieldsOf>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: NodeSpec,
}

impl Node {
    /// The controller manager adds the taint within seconds, with the time (kubernetes:
    /// `pkg/controller/util/node/controller_utils.go:SwapNodeControllerTaint`). The kubelet's own, of a node that was registered
    /// unschedulable, has none (`pkg/kubelet/kubelet_node_status.go:initialNode`); then it is who last wrote the field.
    fn cordoned_since(&self) -> Option<Timestamp> {
        let taint = self.spec.taints.iter().find(|t| t.key == UNSCHEDULABLE).and_then(|t| t.time_added);
        let wrote = |f: &&FieldsOf| f.fields_v1.pointer("/f:spec/f:unschedulable").is_some();
        taint.or_else(|| self.metadata.managed_fields.iter().filter(wrote).filter_map(|f| f.time).max())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FieldsOf {
    time: Option<Timestamp>,
    fields_v1: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Taint {
    key: String,
    time_added: Option<Timestamp>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Object>,
}

/// One holder, or since 1.13 several. One with an end (`TTL`) is taken by kured itself once it is over.
#[derive(Deserialize)]
struct KuredLock {
    #[serde(default, rename = "nodeID")]
    node: String,
    #[serde(default)]
    locks: Vec<KuredLock>,
}

impl KuredLock {
    fn holder(self) -> Option<String> {
        let several = self.locks.into_iter().find_map(Self::holder);
        several.or_else(|| Some(self.node).filter(|node| !node.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kureds_lock_is_understood_in_both_of_its_forms() {
        let one = r#"{"nodeID":"w1","metadata":{"unschedulable":false},"created":"2026-11-22T10:00:00Z","TTL":0}"#;
        let many = r#"{"maxOwners":2,"locks":[{"nodeID":"w7","TTL":0}]}"#;
        let holder = |text: &str| serde_json::from_str::<KuredLock>(text).unwrap().holder();
        assert_eq!((holder(one), holder(many)), (Some("w1".into()), Some("w7".into())));
        assert_eq!((holder("{}"), holder(r#"{"maxOwners":2,"locks":[]}"#)), (None, None));
    }

    #[test]
    fn since_when_a_node_is_cordoned_is_said_by_its_taint_or_by_who_wrote_the_field() {
        let since = |text: &str| serde_json::from_str::<Node>(text).unwrap().cordoned_since().map(|at| at.to_string());
        let wrote = |fields: &str| {
            format!(
                r#"{{"metadata":{{"managedFields":[{{"manager":"kubectl-cordon","time":"2026-11-01T00:00:00Z","fieldsV1":{{"f:spec":{{{fields}}}}}}}]}}}}"#
            )
        };
        let tainted = |time: &str| {
            format!(
                r#"{{"spec":{{"unschedulable":true,"taints":[{{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"{time}}}]}}}}"#
            )
        };
        assert_eq!(since(&tainted(r#","timeAdded":"2026-11-22T10:00:00Z""#)).as_deref(), Some("2026-11-22T10:00:00Z"));
        assert_eq!(since(&wrote(r#""f:unschedulable":{}"#)).as_deref(), Some("2026-11-01T00:00:00Z"));
        assert_eq!(since(&wrote(r#""f:podCIDR":{}"#)), None);
        assert_eq!(since(&tainted("")), None);
    }

    #[test]
    fn what_goes_into_a_query_is_escaped() {
        assert_eq!(escaped("node-role.kubernetes.io/control-plane"), "node-role.kubernetes.io%2Fcontrol-plane");
    }
}
