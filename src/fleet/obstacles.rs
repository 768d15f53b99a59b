//! What stands in the way of a turn beside the lock: a pause, somebody's harm, a control plane that is away, work on this node.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::kube::nodes::{self, NodeLine, Upkeep};
use crate::model::fleet::notes::{Harm, Notes};
use crate::model::fleet::peers::Peers;
use crate::model::fleet::wait::{Ill, LONGEST_PAUSE, patience};
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Role;
use crate::model::policy::Span;

use super::Cluster;
use super::memory::{Durable, OfBoot};

impl Cluster<'_> {
    /// Somebody may end it before its time, and all who wait for that are not to come in the same second.
    pub(super) fn paused(&self, notes: &Notes, memory: &mut OfBoot) -> Option<Refusal> {
        let now = self.host.clock.now();
        let pause = notes.pause.as_ref()?;
        let remedy = "`certwarden resume --cluster` ends it; `--force paused` overrides it";
        let left = pause.until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
        let again = self.again(memory, left.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE), false);
        Some(Refusal::new(Gate::Paused, format!("the cluster is paused {pause}"), remedy).until(again))
    }

    /// Whether what stands in the way has stood there for longer than others are waited for.
    fn no_patience(&self, ill: Ill, what: &str, memory: &mut OfBoot) -> bool {
        memory.stands(what, self.host.clock.since_boot()) >= patience(ill, self.lasts(), self.policy)
    }

    pub(super) fn not_ready(&self, peers: &[NodeLine], memory: &mut OfBoot) -> Option<Refusal> {
        let (ready, ill): (Vec<&NodeLine>, Vec<&NodeLine>) = peers.iter().partition(|n| n.is_ready());
        for node in ready {
            memory.since.remove(&format!("not-ready {}", node.name));
        }
        let waits = |n: &&&NodeLine| n.name != self.node;
        let waited: Vec<&NodeLine> = ill.iter().filter(waits).copied().collect();
        if let Some(refusal) = waited.first().and_then(|node| self.may_act_unseen(node, memory)) {
            return Some(refusal);
        }
        let away = |n: &&NodeLine| !self.no_patience(Ill::NotReady, &format!("not-ready {}", n.name), memory);
        let node = waited.into_iter().find(away)?;
        let reason = format!("control plane {} is {}", node.name, node.status);
        let remedy = format!(
            "make it Ready, or take it out of the cluster; after {} it is not waited for any more",
            Span(self.lasts())
        );
        let again = self.again(memory, self.policy.fleet.settle.0, false);
        Some(Refusal::new(Gate::ClusterLock, reason, remedy).until(again))
    }

    /// In an emergency somebody else may have begun in his own slot while nobody could be asked: for as long as that may take, this
    /// node keeps to its own slots, lock or not.
    pub(super) fn after_outage(&self, peers: &Peers, memory: &mut OfBoot) -> Option<Refusal> {
        let recent = memory.outage.is_recent(self.lasts(), self.host.clock.since_boot());
        let at = (recent && !peers.is_alone()).then(|| self.own_slot()).flatten()?;
        let reason = format!(
            "the API was unavailable a moment ago, and another control plane may have begun meanwhile; this node's own time begins at \
             {at:.0}"
        );
        let refusal = Refusal::new(Gate::ClusterLock, reason, "wait");
        Some(Refusal { doubts_emergency: true, ..refusal.until(self.again_before(at, memory)) })
    }

    /// In an emergency a control plane that is cut off acts in its own slots: the others keep to theirs meanwhile, lock or not.
    fn may_act_unseen(&self, node: &NodeLine, memory: &mut OfBoot) -> Option<Refusal> {
        let at = self.own_slot()?;
        let reason = format!(
            "control plane {} is {} and may be renewing without the API; this node's own time begins at {at:.0}",
            node.name, node.status
        );
        let refusal = Refusal::new(Gate::ClusterLock, reason, "make it Ready, or take it out of the cluster");
        Some(Refusal { doubts_emergency: true, ..refusal.until(self.again_before(at, memory)) })
    }

    /// What is waited for may end long before this node's slot begins: a control plane that is being renewed is not Ready for a
    /// moment.
    fn again_before(&self, at: Timestamp, memory: &mut OfBoot) -> Option<Timestamp> {
        self.again(memory, self.policy.fleet.settle.0, false).map(|again| again.min(at))
    }

    /// When this node's next slot begins; None: it may begin now, for its slot is open, or there is no emergency, or no time left.
    fn own_slot(&self) -> Option<Timestamp> {
        let (now, slots, end) = (self.host.clock.now(), self.slots(), self.end.get());
        let begins =
            SignedDuration::try_from(self.emergency.get()).ok().and_then(|before| end.checked_sub(before).ok());
        let emergency = begins.is_some_and(|begins| now >= begins) && now < end;
        (emergency && !slots.is_open(now)).then(|| slots.next(now).min(end))
    }

    pub(super) fn harmed(&self, notes: &Notes, memory: &mut OfBoot) -> Option<Refusal> {
        self.marked.set(Some(self.writer.marks_in(notes).contains_key(&self.node)));
        let each = |(node, mark): (&String, &Harm)| format!("harm {node} {}", mark.first());
        // a control plane waits for the marks of workers once for each renewal, however often these change
        let of_workers = |entry| match self.role {
            Role::ControlPlane => format!("workers' harm before {}", self.end.get()),
            _ => each(entry),
        };
        let marks = notes.harm.iter().map(|entry| (each(entry), entry));
        let marks = marks.chain(notes.workers.iter().map(|entry| (of_workers(entry), entry)));
        let marks: Vec<(String, (&String, &Harm))> = marks.filter(|(_, (node, _))| **node != self.node).collect();
        let stand: BTreeSet<&String> = marks.iter().map(|(key, _)| key).collect();
        memory.since.retain(|what, _| !what.starts_with("harm ") || stand.contains(what));
        let mut waited = marks.iter().filter(|(key, _)| !self.no_patience(Ill::Harmed, key, memory));
        let (_, (node, mark)) = waited.next()?;
        let reason = format!("the renewal of {node} at {:.0} ended {}: {}", mark.at, mark.outcome.id(), mark.reason);
        let remedy = "look at it (`certwarden history` there), then `certwarden fleet --clear-harm`; its next success clears it too";
        let again = self.again(memory, self.policy.fleet.settle.0, false);
        Some(Refusal::new(Gate::ClusterLock, reason, remedy).until(again))
    }

    pub(super) fn maintenance(&self, memory: &mut OfBoot) -> Option<Refusal> {
        let asker = self.asker.as_ref()?;
        let mine = asker.read(|api, to| nodes::own(api, to, &self.node));
        let (mine, opens) = match mine {
            Ok(upkeep) => self.upkeep(upkeep),
            Err(_) => (None, None),
        };
        let reboots = || {
            let node = asker.read(|api, to| Ok(nodes::kured(api, to))).ok().flatten()?;
            Some(format!("kured is about to reboot {node}: it holds weave.works/kured-node-lock"))
        };
        let reason = mine.or_else(reboots)?;
        let again = self.again(memory, self.policy.fleet.settle.0, false);
        let again = opens.map_or(again, |opens| again.map(|again| again.min(opens)));
        Some(
            Refusal::new(Gate::Maintenance, reason, "wait until they are done; `--force maintenance` overrides this")
                .until(again),
        )
    }

    /// Why this node is left alone, and when that ends by itself. A cordon that lasts is how the node is meant to be: many
    /// installations keep their control planes cordoned.
    fn upkeep(&self, upkeep: Option<Upkeep>) -> (Option<String>, Option<Timestamp>) {
        let root = &self.host.root;
        let Some(Upkeep::Cordoned { since }) = upkeep else {
            Durable::update(root, |memory| memory.cordoned = None);
            let leaving = |upkeep| if let Upkeep::Leaving(clause) = upkeep { Some(clause) } else { None };
            return (upkeep.and_then(leaving), None);
        };
        let now = self.host.clock.now();
        let since = since.unwrap_or_else(|| {
            let mut first = now;
            Durable::update(root, |memory| first = *memory.cordoned.get_or_insert(now));
            first
        });
        let age = self.policy.maintenance.cordon_age;
        let opens = SignedDuration::try_from(age.0).ok().and_then(|age| since.checked_add(age).ok());
        if opens.is_some_and(|opens| now >= opens) {
            return (None, None);
        }
        let reason = format!(
            "this node is cordoned since {since:.0}: somebody is working on it or drains it; after {age} (`maintenance.cordon-age`) a \
             cordon is no maintenance"
        );
        (Some(reason), opens)
    }
}
