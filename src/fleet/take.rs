//! Taking the lock, and what becomes of the attempt where somebody else has it.

use std::slice;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::fleet::lease::{Call, Claim, Ended, Record, Reply};
use crate::model::fleet::place::{CONTROL_PLANE, Place, workers_locks};
use crate::model::fleet::slot::Way;
use crate::model::fleet::turn;
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::inventory::Role;
use crate::model::plan::Plan;

use super::memory::OfBoot;
use super::{Cluster, Held, node_of};

/// A worker takes a minute; looking costs a request for each that may act at once.
const WORKERS_LOOK: Duration = Duration::from_secs(10);

impl<'a> Cluster<'a> {
    /// Takes the lock.
    ///
    /// # Errors
    /// The closed gate. What was said since the look counts: whoever came to harm has said so before giving the lock up.
    pub fn take(&'a self, plan: &Plan, forced: &[Gate], stop: &dyn Fn() -> bool) -> Result<Held<'a>, Refusal> {
        let mut memory = OfBoot::load(&self.host.root);
        let (lock, clock) = (self.lock(), &self.host.clock);
        let mut claim = Claim::new(self.me(), self.lasts(), memory.seen_of(&lock.to_string()));
        let first = claim.take(clock.since_boot(), clock.now());
        let ended = self.drive(&lock, &mut claim, first);
        let ended = self.seized(plan, &lock, &mut claim, ended, &mut memory);
        memory.seen.insert(lock.to_string(), claim.seen().clone());
        let refused = self.refused(plan, ended, &mut memory);
        if refused.is_none() {
            memory.at_last();
        }
        memory.save(&self.host.root);
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        let held = Held::new(self, claim);
        let said =
            self.notes().map(|notes| self.paused(&notes, &mut memory).or_else(|| self.harmed(&notes, &mut memory)));
        // in an emergency none of this ends the attempt: without the lock it would be worse
        let stands = |refusal: &Refusal| !standing(slice::from_ref(refusal), forced, plan.emergency).is_empty();
        let said = said.unwrap_or_default().filter(stands);
        let said = said.or_else(|| self.alone(&held, &mut memory, stop).filter(stands));
        match said {
            Some(refusal) => {
                held.give_up();
                Err(refusal)
            }
            None => Ok(held),
        }
    }

    /// In an emergency a holder is waited for no longer than its tenure can be worth, and then only in the own slot.
    fn seized(&self, plan: &Plan, lock: &Place, claim: &mut Claim, ended: Ended, memory: &mut OfBoot) -> Ended {
        let Ended::Busy { holder, transitions, .. } = &ended else { return ended };
        if !plan.emergency || self.role != Role::ControlPlane {
            return ended;
        }
        let record = Record { holder: holder.clone(), transitions: *transitions, ..Record::default() };
        match self.way(lock, &record, memory) {
            Way::Wait { .. } => return ended,
            Way::Seize => {}
            Way::SeizeOrNot => self.last_slot.set(true),
        }
        tracing::warn!("this is an emergency: the cluster's lock is taken over from {}", node_of(holder));
        let clock = &self.host.clock;
        let step = claim.seize(*transitions, clock.since_boot(), clock.now());
        self.drive(lock, claim, step)
    }

    fn way(&self, lock: &Place, record: &Record, memory: &mut OfBoot) -> Way {
        let clock = &self.host.clock;
        let waited = memory.tenure(&lock.to_string(), record, clock.since_boot());
        self.slots().way(waited, self.lasts(), clock.now(), self.end.get())
    }

    fn refused(&self, plan: &Plan, ended: Ended, memory: &mut OfBoot) -> Option<Refusal> {
        match ended {
            Ended::Held => None,
            Ended::Busy { holder, last, transitions, wait } => {
                let record = Record { holder, last, transitions, ..Record::default() };
                Some(self.busy(&self.lock(), &record, wait, memory))
            }
            Ended::Unknown(why) => {
                let nobody = || Refusal::new(Gate::ClusterLock, why.clone(), "see that the API server answers");
                Some(self.dark(plan, &why, memory).refusals.pop().unwrap_or_else(nobody))
            }
            Ended::Lost { .. } | Ended::Given => {
                let again = self.again(memory, Duration::ZERO, false);
                let refusal = Refusal::new(Gate::ClusterLock, "somebody else was first", "wait").until(again);
                Some(Refusal { doubts_emergency: true, ..refusal })
            }
        }
    }

    /// Control planes and workers have locks of different kinds: each looks at the other's after it has taken its own, so that
    /// one of two sees the other. The worker gives way; the control plane waits for those who are at work already, while
    /// its lock keeps others from beginning. One that never ends is not waited for longer than a lock lasts.
    fn alone(&self, held: &Held<'_>, memory: &mut OfBoot, stop: &dyn Fn() -> bool) -> Option<Refusal> {
        if self.role != Role::ControlPlane {
            return self.after_control_planes(memory);
        }
        let clock = &self.host.clock;
        let until = clock.since_boot().saturating_add(self.lasts());
        while self.workers_at_work(memory) && clock.since_boot() < until {
            if stop() {
                let refusal = Refusal::new(Gate::ClusterLock, "stopped while waiting for workers", "start it again");
                return Some(Refusal { doubts_emergency: true, ..refusal });
            }
            clock.sleep(WORKERS_LOOK);
            if let Err(doubt) = held.keep() {
                let again = self.again(memory, Duration::ZERO, false);
                let refusal = Refusal::new(Gate::ClusterLock, doubt.to_string(), "it is tried again").until(again);
                return Some(Refusal { doubts_emergency: !held.goes_on(&doubt), ..refusal });
            }
        }
        None
    }

    fn workers_at_work(&self, memory: &mut OfBoot) -> bool {
        workers_locks(self.policy.fleet.workers_at_once).any(|lock| {
            let (seen, clock) = (memory.seen_mut(&lock.to_string()), self.host.clock.since_boot());
            match self.exchange(&lock, &Call::Get) {
                Reply::Is(record) => !seen.wait(&record, clock).is_zero() && !record.holder.is_empty(),
                Reply::Absent => !seen.gone(&self.me(), clock).is_zero() && !seen.holder.is_empty(),
                _ => false,
            }
        })
    }

    /// Workers come after the control planes.
    pub(super) fn after_control_planes(&self, memory: &mut OfBoot) -> Option<Refusal> {
        let clock = self.host.clock.since_boot();
        let seen = memory.seen_mut(&CONTROL_PLANE.to_string());
        let (record, wait) = match self.exchange(&CONTROL_PLANE, &Call::Get) {
            Reply::Is(record) => {
                let wait = seen.wait(&record, clock);
                (record, wait)
            }
            Reply::Absent => (seen.record(), seen.gone(&self.me(), clock)),
            _ => return None,
        };
        (!wait.is_zero()).then(|| self.busy(&CONTROL_PLANE, &record, wait, memory))
    }

    /// Somebody has it, or has just had it. Safe and short to wait for, so that an emergency waits too; not for ever.
    pub(super) fn busy(&self, lock: &Place, record: &Record, wait: Duration, memory: &mut OfBoot) -> Refusal {
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
        let mut again = self.again(memory, wait, settling);
        let stands = if self.role == Role::ControlPlane {
            let way = self.way(lock, record, memory);
            if let Way::Wait { until } = way {
                again = again.map(|again| again.min(until));
            }
            matches!(way, Way::Wait { .. })
        } else {
            let clock = &self.host.clock;
            let waited = memory.tenure(&lock.to_string(), record, clock.since_boot());
            turn::worker_waits(clock.now(), self.alone_from(), waited, self.lasts())
        };
        let remedy = "wait; `certwarden fleet` shows who is at work";
        Refusal { doubts_emergency: stands, ..Refusal::new(Gate::ClusterLock, reason, remedy).until(again) }
    }

    /// Workers are many: in an emergency they do not all pass by a lock that is not given up, but one after another.
    pub(super) fn not_alone_yet(&self) -> bool {
        self.role != Role::ControlPlane && self.host.clock.now() < self.alone_from()
    }

    /// From when on a worker goes without a lock that it has not got.
    pub(super) fn alone_from(&self) -> Timestamp {
        turn::worker_alone(&self.who, self.end.get(), self.emergency.get())
    }
}
