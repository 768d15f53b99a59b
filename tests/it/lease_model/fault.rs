//! What befalls agents, the API server and etcd: each kind as often as the case's budget says, at any moment.

use certwarden::model::fleet::lease::{Claim, Record};

use super::agent::{Agent, Doing};
use super::case::{Guard, LASTS, LEASE};
use super::rules::{Rules, name};
use super::world::World;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    Crash(usize),
    Death(usize),
    Freeze(usize),
    Sleep(usize),
    Delete,
    Restore(usize),
    Blind(u8),
    Gone,
    LateRequest,
    Provoked,
}

impl World {
    pub fn faults(&self, rules: &Rules) -> Vec<Fault> {
        let (left, mut faults) = (&self.budget, Vec::new());
        for (me, agent) in self.agents.iter().enumerate().filter(|(_, a)| !a.is_over() && a.paused <= self.tick) {
            let up = !matches!(agent.doing, Doing::Down { .. });
            let pausable = agent.is_before_commit() || (rules.case.etcd && agent.is_restarting());
            let unasked = agent.ask.as_ref().is_none_or(|ask| ask.came.is_none());
            faults.extend((left.crash > 0 && up).then_some(Fault::Crash(me)));
            faults.extend((left.death > 0).then_some(Fault::Death(me)));
            // with an answer in its hands that it has not read it would believe what is over: no Lease can prevent that
            faults.extend((left.freeze > 0 && up && pausable && unasked).then_some(Fault::Freeze(me)));
            faults.extend((left.sleep > 0 && up && pausable).then_some(Fault::Sleep(me)));
        }
        let told = self.all_know_the_holder();
        faults.extend((left.delete > 0 && told && self.server.lease.is_some()).then_some(Fault::Delete));
        if left.restore > 0 && told {
            let past = self.server.past.iter().enumerate().filter(|(_, record)| record.is_some());
            faults.extend(past.map(|(i, _)| Fault::Restore(i)));
        }
        if left.blind > 0 {
            faults.extend([1, 2, 4].into_iter().filter(|bit| self.blind & bit == 0).map(Fault::Blind));
        }
        faults.extend((left.gone > 0 && self.gone <= self.tick).then_some(Fault::Gone));
        faults.extend(self.server.late.as_ref().map(|_| Fault::LateRequest));
        faults.extend((left.provoked > 0 && self.server.lease.is_some()).then_some(Fault::Provoked));
        faults
    }

    /// Whether everybody who may still act has seen who has the lock: who was never told takes it at once when it is gone.
    fn all_know_the_holder(&self) -> bool {
        let Some(lease) = &self.server.lease else { return true };
        lease.holder.is_empty()
            || self.agents.iter().enumerate().all(|(me, agent)| {
                let seen = agent.claim.as_ref().map_or(&agent.seen, Claim::seen);
                let knows = seen.holder == lease.holder && seen.transitions == lease.transitions;
                agent.is_over() || name(me) == lease.holder || knows
            })
    }

    pub fn suffer(&mut self, fault: Fault, rules: &Rules) {
        let keeps = rules.keeps();
        match fault {
            Fault::Crash(me) => {
                self.budget.crash -= 1;
                let until = self.tick + 1;
                self.agents[me].goes_down(until);
            }
            Fault::Death(me) => {
                self.budget.death -= 1;
                let hurt = self.agents[me].hurt;
                self.agents[me] = Agent { hurt, doing: Doing::Dead, ..Agent::new(0) };
            }
            Fault::Freeze(me) | Fault::Sleep(me) => {
                let frozen = matches!(fault, Fault::Freeze(_));
                *(if frozen { &mut self.budget.freeze } else { &mut self.budget.sleep }) -= 1;
                self.agents[me].paused = self.tick + LEASE + 1;
                self.agents[me].behind += if frozen { LEASE + 1 } else { 0 };
            }
            Fault::Delete => {
                self.budget.delete -= 1;
                self.server.delete(keeps);
            }
            Fault::Restore(i) => {
                self.budget.restore -= 1;
                let record = self.server.past[i].clone();
                self.server.restore(record);
            }
            Fault::Blind(bit) => {
                self.budget.blind -= 1;
                self.blind |= bit;
            }
            Fault::Gone => {
                self.budget.gone -= 1;
                self.gone = self.tick + LEASE + 1;
            }
            Fault::LateRequest => {
                if let Some(call) = self.server.late.take() {
                    self.server.obey(&call, rules.has(Guard::Precondition), keeps);
                }
            }
            Fault::Provoked => {
                self.budget.provoked -= 1;
                let old = self.server.lease.clone().unwrap_or_default();
                let (transitions, seconds) = (old.transitions + 1, u32::try_from(LASTS.as_secs()).unwrap_or_default());
                self.server.put(Record { holder: "pod".to_owned(), transitions, seconds, ..old }, keeps);
            }
        }
    }
}
