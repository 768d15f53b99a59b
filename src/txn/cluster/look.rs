//! Whether it is this node's turn, and what is in its way.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::kube::nodes::{self, NodeLine, Upkeep};
use crate::model::cert::CertFacts;
use crate::model::fleet::lease::{Call, Claim, Ended, Record, Reply};
use crate::model::fleet::wait::{Ill, LONGEST_PAUSE, patience};
use crate::model::fleet::{notes, turn};
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Role;
use crate::model::plan::Plan;
use crate::model::policy::Span;
use crate::verify::etcd;

use super::memory::{Durable, OfBoot};
use super::{CONTROL_PLANE, Cluster, Held, NOTES, WORKER};

/// A worker takes a minute; looking costs a request for each that may act at once.
const WORKERS_LOOK: Duration = Duration::from_secs(10);
/// Why nobody waits for a holder any more that goes on renewing the lock.
const WAITED: &str = "waited";

/// What a look at the cluster found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub refusals: Vec<Refusal>,
    /// The lock has to be taken before anything is changed.
    pub needs_lock: bool,
}

/// The node's name of a holder's identity.
pub fn node_of(holder: &str) -> &str {
    holder.rsplit_once('_').map_or(holder, |(node, _)| node)
}

impl<'a> Cluster<'a> {
    /// What stands in the way of a plan, as far as the cluster knows. Takes nothing.
    pub fn look(&self, plan: &Plan) -> Look {
        let mut memory = OfBoot::load(&self.host.root);
        self.measure(plan);
        let look = self.look_with(plan, &mut memory);
        memory.save(&self.host.root);
        look
    }

    fn look_with(&self, plan: &Plan, memory: &mut OfBoot) -> Look {
        if self.asker.is_none() && self.role != Role::ControlPlane {
            return Look::default(); // a worker without a credential is spread by time alone
        }
        if self.role != Role::ControlPlane {
            // thousands may wait: as long as the lock is another's, that is all that they ask
            match self.lease(&self.lock(), &Call::Get) {
                Reply::Silence(why) | Reply::Refused(why) => return self.dark(plan, &why, memory),
                Reply::Is(record) => {
                    if let Some(refusal) = self.taken(&record, memory) {
                        return Look { refusals: vec![refusal], needs_lock: true };
                    }
                }
                Reply::Absent | Reply::Conflict => {}
            }
        }
        let notes = match self.notes() {
            Ok(notes) => notes,
            Err(why) => return self.dark(plan, &why, memory),
        };
        let mut look = Look::default();
        look.refusals.extend(self.paused(&notes, memory));
        if self.role == Role::ControlPlane {
            match self.control_planes() {
                Ok(peers) => {
                    look.needs_lock = peers.len() > 1;
                    look.refusals.extend(self.not_ready(&peers, memory));
                }
                Err(why) => return self.dark(plan, &why, memory),
            }
        } else {
            look.needs_lock = true;
            if !look.refusals.is_empty() {
                return look;
            }
            look.refusals.extend(self.after_control_planes(memory));
        }
        look.refusals.extend(self.harmed(&notes, memory));
        look.refusals.extend(self.maintenance(memory));
        look
    }

    /// What has no end is broken already.
    /// What of a plan ends first, and when that becomes an emergency.
    fn measure(&self, plan: &Plan) {
        let now = self.host.clock.now();
        let first = plan.items.iter().min_by_key(|i| i.old_not_after.unwrap_or(now));
        let life = first.and_then(|i| self.inventory.get(&i.name)?.leaf()).map_or(i64::MAX, CertFacts::measured_life);
        self.end.set(first.and_then(|i| i.old_not_after).unwrap_or(now));
        self.emergency.set(Duration::from_secs(self.policy.renew.emergency(life).unsigned_abs()));
    }

    /// Whether this node's lock cannot be taken now.
    fn taken(&self, record: &Record, memory: &mut OfBoot) -> Option<Refusal> {
        let me = self.me();
        let ours = record.holder == me || (record.holder.is_empty() && record.last == me);
        let wait = memory.seen_mut(&self.lock()).wait(record, self.host.clock.since_boot());
        (!ours && !wait.is_zero()).then(|| self.busy(record, wait, memory))
    }

    fn notes(&self) -> Result<std::collections::BTreeMap<String, String>, String> {
        match self.lease(NOTES, &Call::Get) {
            Reply::Is(record) => Ok(record.annotations),
            Reply::Absent => Ok(std::collections::BTreeMap::new()),
            Reply::Conflict => Err("a conflict where nothing was written".to_owned()),
            Reply::Silence(why) | Reply::Refused(why) => Err(why),
        }
    }

    /// Somebody may end it before its time, and all who wait for that are not to come in the same second.
    fn paused(&self, notes: &std::collections::BTreeMap<String, String>, memory: &mut OfBoot) -> Option<Refusal> {
        let now = self.host.clock.now();
        let pause = notes::pause(notes, now)?;
        let remedy = "`certwarden resume --cluster` ends it; `--force paused` passes by";
        let left = pause.until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
        let again = self.again(memory, left.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE), false);
        Some(Refusal::new(Gate::Paused, format!("the cluster is paused {pause}"), remedy).until(again))
    }

    /// All control planes, remembered for the day when nobody answers.
    fn control_planes(&self) -> Result<Vec<NodeLine>, String> {
        const SELECTORS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
        let asker = self.asker.as_ref().ok_or("there is no credential to ask with")?;
        let mut peers = Vec::new();
        for selector in SELECTORS {
            peers = asker.read(|api, to| nodes::all(api, to, selector)).map_err(|e| e.to_string())?;
            if !peers.is_empty() {
                break;
            }
        }
        let servers = asker.read(|api, to| Ok(nodes::api_servers(api, to))).unwrap_or_default();
        Durable::update(&self.host.root, |memory| {
            memory.control_planes = peers.iter().map(|n| n.name.clone()).collect();
            if !servers.is_empty() {
                memory.servers = servers;
            }
        });
        Ok(peers)
    }

    /// Whether what stands in the way has stood there for longer than others are waited for.
    fn no_patience(&self, ill: Ill, what: &str, memory: &mut OfBoot) -> bool {
        memory.stands(what, self.host.clock.since_boot()) >= patience(ill, self.lasts(), self.policy)
    }

    fn not_ready(&self, peers: &[NodeLine], memory: &mut OfBoot) -> Option<Refusal> {
        let (ready, ill): (Vec<&NodeLine>, Vec<&NodeLine>) = peers.iter().partition(|n| n.is_ready());
        for node in ready {
            memory.since.remove(&format!("not-ready {}", node.name));
        }
        let waits = |n: &&&NodeLine| n.name != self.node;
        let waited: Vec<&NodeLine> = ill.iter().filter(waits).copied().collect();
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

    fn harmed(&self, notes: &std::collections::BTreeMap<String, String>, memory: &mut OfBoot) -> Option<Refusal> {
        let marks = notes::harm(notes);
        self.marked.set(marks.contains_key(&self.node));
        let key = |node: &str, at: Timestamp| format!("harm {node} {at}");
        memory.since.retain(|what, _| {
            !what.starts_with("harm ") || marks.iter().any(|(node, mark)| *what == key(node, mark.at))
        });
        let others = marks.iter().filter(|(node, _)| **node != self.node);
        let mut others = others.filter(|(node, mark)| !self.no_patience(Ill::Harmed, &key(node, mark.at), memory));
        let (node, mark) = others.next()?;
        let reason = format!("the renewal of {node} at {:.0} ended {}: {}", mark.at, mark.outcome.id(), mark.reason);
        let remedy = "look at it (`certwarden history` there), then `certwarden fleet --clear-harm`; its next success clears it too";
        let again = self.again(memory, self.policy.fleet.settle.0, false);
        Some(Refusal::new(Gate::ClusterLock, reason, remedy).until(again))
    }

    fn maintenance(&self, memory: &mut OfBoot) -> Option<Refusal> {
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
            Refusal::new(Gate::Maintenance, reason, "wait until they are done; `--force maintenance` passes by")
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

    /// Workers come after the control planes.
    fn after_control_planes(&self, memory: &mut OfBoot) -> Option<Refusal> {
        let Reply::Is(record) = self.lease(CONTROL_PLANE, &Call::Get) else { return None };
        let wait = memory.seen_mut(CONTROL_PLANE).wait(&record, self.host.clock.since_boot());
        (!wait.is_zero()).then(|| self.busy(&record, wait, memory))
    }

    /// Somebody has it, or has just had it. Safe and short to wait for, so that an emergency waits too; not for ever.
    fn busy(&self, record: &Record, wait: Duration, memory: &mut OfBoot) -> Refusal {
        let settling = record.holder.is_empty();
        let reason = if settling {
            format!(
                "{} has just been renewed; the cluster settles for {} s more",
                node_of(&record.last),
                wait.as_secs()
            )
        } else {
            format!("{} holds the cluster's lock", node_of(&record.holder))
        };
        let waited = memory.stands(WAITED, self.host.clock.since_boot());
        let again = self.again(memory, wait, settling);
        let remedy = "wait; `certwarden fleet` shows who is at work";
        let stands = waited < self.lasts().saturating_mul(2) || self.not_alone_yet();
        Refusal { doubts_emergency: stands, ..Refusal::new(Gate::ClusterLock, reason, remedy).until(again) }
    }

    /// Workers are many: in an emergency they do not all pass by a lock that is not given up, but one after another.
    fn not_alone_yet(&self) -> bool {
        let alone = turn::worker_alone(&self.machine_id, self.end.get(), self.emergency.get());
        self.role != Role::ControlPlane && self.host.clock.now() < alone
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// The closed gate. What was said since the look counts: whoever came to harm has said so before giving the lock up.
    pub fn take(&'a self, plan: &Plan, stop: &dyn Fn() -> bool) -> Result<Held<'a>, Refusal> {
        let mut memory = OfBoot::load(&self.host.root);
        let (name, clock) = (self.lock(), &self.host.clock);
        let mut claim = Claim::new(self.me(), self.lasts(), memory.seen_of(&name));
        let first = claim.take(clock.since_boot(), clock.now());
        let ended = self.drive(&name, &mut claim, first);
        memory.seen.insert(name.clone(), claim.seen().clone());
        let refused = self.refused(plan, ended, &mut memory);
        if refused.is_none() {
            memory.since.remove(WAITED);
            memory.attempt = 0;
        }
        memory.save(&self.host.root);
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        let mut held = Held::new(self, name, claim);
        let said =
            self.notes().map(|notes| self.paused(&notes, &mut memory).or_else(|| self.harmed(&notes, &mut memory)));
        let said = said.unwrap_or_default().or_else(|| self.alone(&mut held, &mut memory, stop));
        match said {
            Some(refusal) => {
                held.give_up();
                Err(refusal)
            }
            None => Ok(held),
        }
    }

    fn refused(&self, plan: &Plan, ended: Ended, memory: &mut OfBoot) -> Option<Refusal> {
        match ended {
            Ended::Held => None,
            Ended::Busy { holder, last, wait } => {
                Some(self.busy(&Record { holder, last, ..Record::default() }, wait, memory))
            }
            Ended::Unknown(why) => {
                let nobody = || Refusal::new(Gate::ClusterLock, why.clone(), "see that the API server answers");
                Some(self.dark(plan, &why, memory).refusals.pop().unwrap_or_else(nobody))
            }
            Ended::Lost { .. } | Ended::Given => {
                let again = self.again(memory, Duration::ZERO, false);
                Some(Refusal::new(Gate::ClusterLock, "somebody else was first", "wait").until(again))
            }
        }
    }

    /// Control planes and workers have locks of different kinds: each looks at the other's after it has taken its own, so that
    /// one of two sees the other. The worker gives way; the control plane waits for those who are at work already, while
    /// its lock keeps others from beginning. One that never ends is not waited for longer than a lock lasts.
    fn alone(&self, held: &mut Held<'_>, memory: &mut OfBoot, stop: &dyn Fn() -> bool) -> Option<Refusal> {
        if self.role != Role::ControlPlane {
            return self.after_control_planes(memory);
        }
        let clock = &self.host.clock;
        let until = clock.since_boot().saturating_add(self.lasts());
        while self.workers_at_work(memory) && clock.since_boot() < until {
            if stop() {
                return Some(Refusal::new(Gate::ClusterLock, "stopped while waiting for workers", "start it again"));
            }
            clock.sleep(WORKERS_LOOK);
            if let Err(why) = held.keep() {
                let again = self.again(memory, Duration::ZERO, false);
                return Some(Refusal::new(Gate::ClusterLock, why, "it is tried again").until(again));
            }
        }
        None
    }

    fn workers_at_work(&self, memory: &mut OfBoot) -> bool {
        (0..self.policy.fleet.workers_at_once).any(|n| {
            let name = format!("{WORKER}-{n}");
            let Reply::Is(record) = self.lease(&name, &Call::Get) else { return false };
            let wait = memory.seen_mut(&name).wait(&record, self.host.clock.since_boot());
            !record.holder.is_empty() && !wait.is_zero()
        })
    }

    /// Nobody can be asked. A single control plane needs nobody; of several, each waits for its own time.
    pub(super) fn dark(&self, plan: &Plan, why: &str, memory: &mut OfBoot) -> Look {
        let mut known = Durable::load(&self.host.root).control_planes;
        if known.is_empty() && self.role == Role::ControlPlane {
            let members = etcd::ask(self.host, self.inventory).and_then(Result::ok);
            known = members.map(|m| m.peers.into_iter().map(|p| p.name).collect()).unwrap_or_default();
        }
        if self.role == Role::ControlPlane && known.len() <= 1 {
            return Look::default();
        }
        let now = self.host.clock.now();
        self.measure(plan);
        let emergency = SignedDuration::try_from(self.emergency.get()).unwrap_or_default();
        let end = self.end.get();
        let at = if self.role == Role::ControlPlane {
            turn::in_the_dark(&self.node, &known, end, emergency)
        } else {
            turn::worker_alone(&self.machine_id, end, self.emergency.get())
        };
        if now >= at {
            return Look::default();
        }
        let reason =
            format!("the cluster cannot be asked whose turn it is ({why}); without it this node acts at {at:.0}");
        let again = self.again(memory, self.policy.fleet.settle.0, false).map(|again| again.min(at));
        let refusal = Refusal::new(Gate::ClusterLock, reason, "see that an API server answers").until(again);
        Look { refusals: vec![Refusal { doubts_emergency: true, ..refusal }], needs_lock: false }
    }
}
