//! The cluster as its API tells of it: nodes, and Leases that are replaced by version only.

use std::collections::BTreeMap;
use std::time::Duration;

use certwarden::host::kube::Answer;
use serde_json::{Value, json};

use super::config_maps::ConfigMaps;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// How a lease is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Write {
    Create,
    Replace,
}

#[derive(Default)]
pub struct Cluster {
    /// Nodes beside the members of etcd that are not Ready.
    pub not_ready: Vec<&'static str>,
    /// This node's `spec` and `metadata.annotations`, as others have changed them.
    pub cordoned: bool,
    /// When the controller manager added the taint for that; None: it has not said it.
    pub cordoned_at: Option<String>,
    /// Nodes beside the members of etcd that have lost their label.
    pub unlabelled: Vec<&'static str>,
    /// Addresses that API servers publish.
    pub servers: Vec<&'static str>,
    /// By name, as they were written.
    pub leases: BTreeMap<String, Value>,
    /// When each Lease was written, by the clock since boot.
    pub writes: Vec<(String, Duration)>,
    /// The time of the next write.
    pub clock: Duration,
    pub maps: ConfigMaps,
    /// The Lease of this name takes no write.
    pub refuses: Option<&'static str>,
    version: u64,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, body: body.to_string() }
}

impl Cluster {
    /// Another node has the lock of the control planes, or somebody has told something to all.
    pub fn write(&mut self, name: &str, holder: &str, seconds: u32, annotations: &Value) {
        let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": 7});
        self.put(name, json!({"metadata": {"annotations": annotations}, "spec": spec}));
    }

    pub fn holder(&self, name: &str) -> Option<&str> {
        self.leases.get(name)?["spec"]["holderIdentity"].as_str()
    }

    pub fn annotation(&self, name: &str, key: &str) -> Option<&str> {
        self.leases.get(name)?["metadata"]["annotations"][key].as_str()
    }

    fn put(&mut self, name: &str, mut lease: Value) -> Answer {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.leases.insert(name.to_owned(), lease.clone());
        self.writes.push((name.to_owned(), self.clock));
        answer(200, &lease)
    }

    /// None: not about these. `peers`: names of the control planes.
    pub fn get(&self, path: &str, peers: &[String]) -> Option<Answer> {
        if let Some(name) = path.strip_prefix(LEASES) {
            let lease = self.leases.get(name.trim_start_matches('/'));
            return Some(lease.map_or_else(|| answer(404, &json!({})), |lease| answer(200, lease)));
        }
        if let Some(answer) = self.maps.get(path) {
            return Some(answer);
        }
        if path.starts_with("/api/v1/nodes?") {
            let labelled = peers.iter().filter(|name| !self.unlabelled.contains(&name.as_str()));
            let rows: Vec<Value> = labelled.map(|name| self.row(name)).collect();
            return Some(answer(
                200,
                &json!({"columnDefinitions": [{"name": "Name"}, {"name": "Status"}], "rows": rows}),
            ));
        }
        if path.starts_with("/api/v1/nodes/") {
            let taint = |at: &String| json!({"key": "node.kubernetes.io/unschedulable", "timeAdded": at});
            let taints: Vec<Value> = self.cordoned_at.iter().map(taint).collect();
            let spec = json!({"unschedulable": self.cordoned, "taints": taints});
            return Some(answer(200, &json!({"metadata": {}, "spec": spec})));
        }
        if path.starts_with("/apis/apps/v1/daemonsets?") {
            return Some(answer(200, &json!({"items": []})));
        }
        let addresses: Vec<Value> = self.servers.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 6443}]}]});
        (path == "/api/v1/namespaces/default/endpoints/kubernetes").then(|| answer(200, &subsets))
    }

    fn row(&self, name: &str) -> Value {
        let status = if self.not_ready.contains(&name) { "NotReady" } else { "Ready" };
        let labels = json!({"node-role.kubernetes.io/control-plane": ""});
        json!({"cells": [name, status], "object": {"metadata": {"name": name, "labels": labels}}})
    }

    /// None: not about Leases.
    pub fn change(&mut self, how: Write, path: &str, body: &str) -> Option<Answer> {
        path.strip_prefix(LEASES)?;
        let lease: Value = serde_json::from_str(body).unwrap();
        let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
        if self.refuses == Some(name.as_str()) {
            return Some(answer(500, &json!({})));
        }
        let there = self.leases.get(&name).map(|old| old["metadata"]["resourceVersion"].clone());
        Some(match (how, there) {
            (Write::Create, Some(_)) => answer(409, &json!({})),
            (Write::Replace, None) => answer(404, &json!({})),
            (Write::Replace, Some(version)) if version != lease["metadata"]["resourceVersion"] => {
                answer(409, &json!({}))
            }
            _ => self.put(&name, lease),
        })
    }
}
