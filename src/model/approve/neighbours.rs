//! The cluster's Nodes, and those that were deleted within a day: what is one's is not another's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::addresses::{self, Addresses};

/// How long a deleted Node's name and addresses stay its own: somebody may still expect it there.
const REMEMBERED: i64 = 24 * 3600;
/// Deleted Nodes that are remembered: as many as a large cluster has twice over. The oldest are forgotten first.
const MOST_GONE: usize = 10_000;
/// Addresses of one Node that count: a kubelet writes them itself, and does not decide how much we remember.
const MOST_ADDRESSES: usize = 64;
/// No kubelet may give itself these (kubernetes: `plugin/pkg/admission/noderestriction/admission.go`).
const CONTROL_PLANE: [&str; 2] =
    ["/metadata/labels/node-role.kubernetes.io~1control-plane", "/metadata/labels/node-role.kubernetes.io~1master"];

/// A Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Neighbour {
    pub addresses: Addresses,
    pub control_plane: bool,
}

/// A Node that is not there any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Gone {
    since: Timestamp,
    ips: BTreeSet<IpAddr>,
}

/// For who comes after this process.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Remembered {
    living: BTreeMap<String, BTreeSet<IpAddr>>,
    gone: BTreeMap<String, Gone>,
}

/// Who else has an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Rival {
    Node(String),
    Deleted(String),
}

/// All Nodes.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    living: BTreeMap<String, Neighbour>,
    gone: BTreeMap<String, Gone>,
    /// Which Nodes have an address, of the living.
    owners: BTreeMap<IpAddr, BTreeSet<String>>,
    /// A Node could not be read.
    incomplete: bool,
}

/// Name and facts of a Node in a list.
pub fn neighbour(object: &Value) -> Option<(String, Neighbour)> {
    let (name, mut addresses) = addresses::named(object)?;
    addresses.ips = addresses.ips.iter().map(IpAddr::to_canonical).take(MOST_ADDRESSES).collect();
    addresses.names = std::mem::take(&mut addresses.names).into_iter().take(MOST_ADDRESSES).collect();
    let control_plane = CONTROL_PLANE.iter().any(|label| object.pointer(label).is_some());
    Some((name, Neighbour { addresses, control_plane }))
}

impl Neighbours {
    /// What the API has now. `left_out`: how many Nodes could not be read.
    pub fn see(&mut self, living: BTreeMap<String, Neighbour>, left_out: usize, now: Timestamp) {
        let before = std::mem::replace(&mut self.living, living);
        for (name, node) in before {
            self.gone.insert(name, Gone { since: now, ips: node.addresses.ips });
        }
        self.gone.retain(|name, gone| {
            let age = now.as_second().saturating_sub(gone.since.as_second());
            !self.living.contains_key(name) && age < REMEMBERED
        });
        while self.gone.len() > MOST_GONE {
            let oldest = self.gone.iter().min_by_key(|(_, gone)| gone.since).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.gone.remove(&name));
        }
        self.owners.clear();
        for (name, node) in &self.living {
            for ip in &node.addresses.ips {
                self.owners.entry(*ip).or_default().insert(name.clone());
            }
        }
        self.incomplete = left_out > 0;
    }

    pub fn get(&self, name: &str) -> Option<&Neighbour> {
        self.living.get(name)
    }

    /// Every Node could be read.
    pub(super) fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Which control plane besides this Node has the address.
    pub(super) fn rival_control_plane(&self, ip: IpAddr, node: &str) -> Option<Rival> {
        let others = self.owners.get(&ip).into_iter().flatten().filter(|name| *name != node);
        let mut planes = others.filter(|name| self.living.get(*name).is_some_and(|node| node.control_plane));
        planes.next().cloned().map(Rival::Node)
    }

    /// Who besides this Node has the address.
    pub(super) fn rival(&self, ip: IpAddr, node: &str) -> Option<Rival> {
        let living = self.owners.get(&ip).and_then(|owners| owners.iter().find(|name| *name != node));
        let gone = || self.gone.iter().find(|(name, gone)| *name != node && gone.ips.contains(&ip));
        living.cloned().map(Rival::Node).or_else(|| gone().map(|(name, _)| Rival::Deleted(name.clone())))
    }

    /// Whether it is the name of another Node, of one that is there.
    pub(super) fn is_named(&self, name: &str, node: &str) -> bool {
        name != node && self.living.contains_key(name)
    }

    /// Whether it was the name of another Node within a day.
    pub(super) fn was_named(&self, name: &str, node: &str) -> bool {
        name != node && self.gone.contains_key(name)
    }

    /// Whether it is an address of a control plane.
    pub(super) fn is_control_planes(&self, ip: IpAddr) -> bool {
        let owners = self.owners.get(&ip).into_iter().flatten();
        owners.filter_map(|name| self.living.get(name)).any(|node| node.control_plane)
    }

    /// Everything, for who comes after this process.
    pub fn remembered(&self) -> Value {
        let living = self.living.iter().map(|(name, node)| (name.clone(), node.addresses.ips.clone())).collect();
        serde_json::to_value(Remembered { living, gone: self.gone.clone() }).unwrap_or_default()
    }

    /// What [`remembered`](Self::remembered) said; anything else is nothing. Call [`see`](Self::see) before anything is asked.
    pub fn remember(&mut self, text: &Value) {
        let Remembered { living, gone } = Remembered::deserialize(text).unwrap_or_default();
        self.gone.extend(gone.into_iter().take(MOST_GONE));
        let node = |ips| Neighbour { addresses: Addresses { ips, ..Addresses::default() }, control_plane: false };
        self.living.extend(living.into_iter().map(|(name, ips)| (name, node(ips))));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn nodes(list: &[(&str, &str)]) -> BTreeMap<String, Neighbour> {
        let object = |(name, ip): &(&str, &str)| {
            neighbour(
                &json!({"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}),
            )
        };
        list.iter().filter_map(object).collect()
    }

    #[test]
    fn a_deleted_nodes_name_and_addresses_stay_its_own_for_a_day_also_after_a_restart() {
        let mut all = Neighbours::default();
        let ip = "10.0.0.2".parse().unwrap();
        all.see(nodes(&[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]), 0, at(0));
        assert_eq!(all.rival(ip, "n1"), Some(Rival::Node("n2".into())));
        all.see(nodes(&[("n1", "10.0.0.1")]), 0, at(100));
        let mut next = Neighbours::default();
        next.remember(&all.remembered());
        next.see(nodes(&[("n1", "10.0.0.1")]), 0, at(86_499));
        let mut while_away = Neighbours::default();
        while_away.remember(&all.remembered());
        while_away.see(nodes(&[]), 0, at(200));
        assert!(while_away.was_named("n1", "n3") && while_away.was_named("n2", "n3"), "deleted between two processes");
        for all in [&all, &next] {
            assert_eq!(all.rival(ip, "n1"), Some(Rival::Deleted("n2".into())));
            assert!(all.was_named("n2", "n1") && !all.is_named("n2", "n1"));
            assert_eq!(all.rival(ip, "n2"), None, "it may come again");
        }
        next.see(nodes(&[("n1", "10.0.0.1")]), 0, at(86_500));
        assert_eq!((next.rival(ip, "n1"), next.was_named("n2", "n1")), (None, false));
        all.see(nodes(&[("n1", "10.0.0.1"), ("n2", "10.0.0.3")]), 0, at(200));
        assert_eq!((all.rival(ip, "n1"), all.is_named("n2", "n1")), (None, true));
        next.remember(&json!("nonsense"));
    }

    #[test]
    fn no_cluster_makes_the_memory_grow_without_end() {
        let mut all = Neighbours::default();
        for i in 0..12_i64 {
            let names: Vec<String> = (0..1000).map(|n| format!("n-{i}-{n}")).collect();
            let list: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "10.0.0.1")).collect();
            all.see(nodes(&list), 0, at(i));
        }
        assert_eq!(all.gone.len(), MOST_GONE);
        assert!(!all.gone.keys().any(|name| name.starts_with("n-0-")), "the oldest first");
        let many: Vec<Value> = (0..5000)
            .map(|i| json!({"type": "InternalIP", "address": format!("10.1.{}.{}", i / 250, i % 250)}))
            .collect();
        let (_, node) = neighbour(&json!({"metadata": {"name": "n"}, "status": {"addresses": many}})).unwrap();
        assert_eq!(node.addresses.ips.len(), MOST_ADDRESSES);
    }

    #[test]
    fn who_is_a_control_plane_says_a_label_that_no_kubelet_may_set() {
        for label in ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"] {
            let (_, node) = neighbour(&json!({"metadata": {"name": "n", "labels": {label: ""}}})).unwrap();
            assert!(node.control_plane, "{label}");
        }
        let (_, node) =
            neighbour(&json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}}})).unwrap();
        assert!(!node.control_plane);
    }
}
