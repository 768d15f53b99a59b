//! Every node of the cluster, and who has what lock: for a person.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::kube::nodes::{self, NodeLine};
use crate::model::fleet::lease::{Call, Record, Reply};
use crate::model::fleet::marks;
use crate::model::fleet::notes::{self, Harm, Pause};
use crate::model::fleet::place::{CONTROL_PLANE, NOTES, Place, WORKERS, workers_locks};
use crate::model::inventory::Inventory;
use crate::model::policy::Policy;

use super::asker::Asker;
use super::memory::Durable;

/// A cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    pub nodes: Vec<NodeLine>,
    /// Locks that exist, by their object.
    pub locks: BTreeMap<String, Record>,
    pub pause: Option<Pause>,
    /// By node.
    pub harm: BTreeMap<String, Harm>,
}

/// The people's side of the cluster: needs no node, only a credential.
#[derive(Debug)]
pub struct Desk<'a> {
    host: &'a Host,
    policy: &'a Policy,
    asker: Asker<'a>,
}

impl<'a> Desk<'a> {
    /// With `kubeconfig`, or with what this node has.
    ///
    /// # Errors
    /// What is missing, in a sentence.
    pub fn open(
        host: &'a Host,
        policy: &'a Policy,
        inventory: &Inventory,
        kubeconfig: Option<&Path>,
    ) -> Result<Self, String> {
        let configured = Some(policy.fleet.kubeconfig.as_path()).filter(|p| !p.as_os_str().is_empty());
        let named = kubeconfig.or(configured).map(|path| Asker::with(host, path)).transpose();
        let named = named.map_err(|why| format!("the kubeconfig cannot be used: {why}"))?;
        let asker = match named {
            // a kubelet's identity, which is configured for turns, may neither list Nodes nor write what is for all
            Some(asker) if kubeconfig.is_some() || asker.node().is_none() => asker,
            _ => Asker::administrator(host, inventory, &Durable::load(&host.root).servers)
                .ok_or("there is no admin.conf that can be used here; name another with --kubeconfig")?,
        };
        Ok(Self { host, policy, asker })
    }

    fn get(&self, place: &Place) -> Result<Option<Record>, String> {
        match self.asker.exchange(&self.policy.fleet.namespace, place, &Call::Get) {
            Reply::Is(record) => Ok(Some(record)),
            Reply::Absent => Ok(None),
            Reply::Conflict => Err("a conflict where nothing was written".to_owned()),
            Reply::Silence(why) | Reply::Refused(why) => Err(why),
        }
    }

    /// # Errors
    /// Why it cannot be asked, in a sentence.
    pub fn roster(&self) -> Result<Roster, String> {
        let nodes = self.asker.read(|api, to| nodes::all(api, to, "")).map_err(|e| e.to_string())?;
        let told = |place| Ok::<_, String>(self.get(place)?.map(|record| record.annotations).unwrap_or_default());
        let (annotations, workers) = (told(&NOTES)?, told(&WORKERS)?);
        let mut locks = BTreeMap::new();
        for lock in std::iter::once(CONTROL_PLANE).chain(workers_locks(self.policy.fleet.workers_at_once)) {
            if let Some(record) = self.get(&lock)? {
                locks.insert(lock.to_string(), record);
            }
        }
        let pause = notes::pause(&annotations, self.host.clock.now());
        let mut harm = marks::all(&workers);
        harm.extend(notes::harm(&annotations));
        Ok(Roster { nodes, locks, pause, harm })
    }

    /// Pauses the whole cluster, or (None) ends that.
    ///
    /// # Errors
    /// Why it cannot be told, in a sentence.
    pub fn pause(&self, pause: Option<&Pause>) -> Result<(), String> {
        let text = pause.map(serde_json::to_string).transpose().map_err(|e| e.to_string())?;
        self.note(&NOTES, &|annotations| {
            match &text {
                Some(text) => annotations.insert(notes::PAUSE.to_owned(), text.clone()),
                None => annotations.remove(notes::PAUSE),
            };
        })
    }

    /// Clears all marks of harm.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn clear_harm(&self) -> Result<(), String> {
        self.note(&NOTES, &|annotations| {
            notes::set_harm(annotations, None, None);
        })?;
        self.note(&WORKERS, &BTreeMap::clear)
    }

    fn note(&self, place: &Place, change: &dyn Fn(&mut BTreeMap<String, String>)) -> Result<(), String> {
        super::tell::note(&|call| self.asker.exchange(&self.policy.fleet.namespace, place, call), change)
    }

    /// The time, for what is written.
    pub fn now(&self) -> Timestamp {
        self.host.clock.now()
    }
}
