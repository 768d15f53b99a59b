//! Who the other control planes are: everybody who may know is asked, and what was found is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::host::kube::nodes::{self, NodeLine};
use crate::host::kube::servers;
use crate::model::component::Component;
use crate::model::fleet::peers::{Peers, Sight, Source, remember};
use crate::model::wiring::host_of;
use crate::verify::etcd;

use super::Cluster;
use super::memory::Durable;

/// Before 1.24 kubeadm set only the second, since then only the first.
const SELECTORS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// An address that is one machine's own.
fn address(text: &str) -> Option<String> {
    let ip: IpAddr = text.parse().ok()?;
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

impl Cluster<'_> {
    /// The Nodes with a control plane's label.
    pub(super) fn labelled(&self) -> Result<Vec<NodeLine>, String> {
        let asker = self.asker.as_ref().ok_or("there is no credential to ask with")?;
        let mut found: BTreeMap<String, NodeLine> = BTreeMap::new();
        for selector in SELECTORS {
            let nodes = asker.read(|api, to| nodes::all(api, to, selector)).map_err(|e| e.to_string())?;
            found.extend(nodes.into_iter().map(|node| (node.name.clone(), node)));
        }
        Ok(found.into_values().collect())
    }

    /// All control planes, with those that are remembered. `labelled`: None where nobody answers.
    pub(super) fn find_peers(&self, labelled: Option<&[NodeLine]>) -> Peers {
        let root = &self.host.root;
        let (mut sights, mut asked) = (Vec::new(), BTreeSet::new());
        for node in labelled.unwrap_or_default() {
            let addresses = node.address.iter().filter_map(|a| address(a)).collect();
            sights.push(Sight { source: Source::Labels, name: node.name.clone(), addresses });
        }
        asked.extend(labelled.map(|_| Source::Labels));
        let servers = labelled.and_then(|_| self.servers());
        asked.extend(servers.as_ref().map(|_| Source::Servers));
        let servers = servers.unwrap_or_default();
        for server in &servers {
            let addresses = address(&server.address.to_string()).into_iter().collect();
            sights.push(Sight { source: Source::Servers, name: String::new(), addresses });
        }
        let members = self.members();
        asked.extend(members.as_ref().map(|_| Source::Etcd));
        sights.extend(members.unwrap_or_default());
        sights.extend(Durable::load(root).members.into_iter().map(|(key, known)| {
            // one that had no name is remembered by its address
            let name = if address(&key).is_some() { String::new() } else { key };
            Sight { source: Source::Memory, name, addresses: known.addresses }
        }));
        let peers = Peers::unite(&self.node, self.own_addresses(), sights, asked.clone());
        *self.ranks.borrow_mut() = peers.names();
        let complete = asked.contains(&Source::Labels) && (asked.contains(&Source::Etcd) || !self.has_etcd());
        let now = self.host.clock.now();
        Durable::update(root, |memory| {
            remember(&mut memory.members, &peers, complete, now);
            if !servers.is_empty() {
                memory.servers = servers.iter().map(|s| s.url()).collect();
            }
        });
        peers
    }

    fn servers(&self) -> Option<Vec<servers::ApiServer>> {
        let asker = self.asker.as_ref()?;
        asker.read(|api, to| Ok(servers::api_servers(api, to))).ok().flatten()
    }

    fn has_etcd(&self) -> bool {
        self.inventory.node.static_pods.contains_key(&Component::Etcd)
    }

    /// The members of the etcd that runs here: whoever has an API server beside it is a control plane. An etcd elsewhere has
    /// members that are none.
    fn members(&self) -> Option<Vec<Sight>> {
        if !self.has_etcd() {
            return None;
        }
        let listed = etcd::list(self.host, self.inventory)?.ok()?;
        let own = self.flag(Component::Etcd, "name");
        let sight = |peer: etcd::Peer| {
            let addresses = peer.urls.iter().filter_map(|url| address(&host_of(url)?)).collect();
            let name = if Some(&peer.name) == own { self.node.clone() } else { peer.name };
            Sight { source: Source::Etcd, name, addresses }
        };
        // one that has not started yet has neither a name nor, as a rule, the same address as somebody else
        Some(listed.into_iter().map(sight).filter(|s| !(s.name.is_empty() && s.addresses.is_empty())).collect())
    }

    fn flag(&self, component: Component, flag: &str) -> Option<&String> {
        self.inventory.node.static_pods.get(&component)?.flags.get(flag)
    }

    fn own_addresses(&self) -> BTreeSet<String> {
        let advertised = self.flag(Component::KubeApiserver, "advertise-address").cloned();
        let urls = self.flag(Component::Etcd, "initial-advertise-peer-urls").map(String::as_str).unwrap_or_default();
        let peers = urls.split(',').filter_map(|url| host_of(url.trim()));
        advertised.into_iter().chain(peers).filter_map(|a| address(&a)).collect()
    }
}
