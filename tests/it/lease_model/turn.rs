//! Whether it is an agent's turn: `Cluster::look` and `Cluster::take`.

use std::time::Duration;

use certwarden::model::fleet::lease::{Claim, Ended};
use certwarden::model::fleet::slot::Way as SlotWay;

use super::agent::{Doing, For, pace};
use super::case::{Guard, LASTS, NODES};
use super::rules::{Company, Rules};
use super::world::{Way, World};

impl World {
    pub fn company(&self, me: usize, dark: bool, rules: &Rules) -> Company {
        rules.company(me, self.blind, self.agents[me].members, dark)
    }

    fn wait(&mut self, me: usize) {
        self.agents[me].drop_claim();
        self.agents[me].doing = Doing::Looks { at: self.tick + 1 };
    }

    fn may(&mut self, me: usize) {
        self.agents[me].tenure = None;
        self.agents[me].doing = Doing::May;
    }

    pub fn look(&mut self, me: usize, way: Way, rules: &Rules) {
        self.agents[me].last_slot = false;
        if self.agents[me].owes {
            self.tell(me, way, rules);
        }
        if !self.answers(me, rules) || way == Way::Lost {
            return self.dark(me, rules);
        }
        let company = self.company(me, false, rules);
        self.agents[me].members = company.memory;
        if company.alone {
            return self.may(me);
        }
        let emergency = rules.is_emergency(self.tick);
        let ill = self.somebody_is_away(me, rules);
        let ill = self.somebody_is_harmed(me, rules) || ill;
        let unseen = self.somebody_is_unseen(me, company, rules) || self.comes_after_outage(me, company, rules);
        self.agents[me].outage.answered();
        if (emergency && unseen) || (ill && !emergency) {
            return self.wait(me);
        }
        self.agents[me].drop_claim();
        self.begin(me, For::Take, rules, Claim::take);
    }

    fn is_away(&self, node: usize, rules: &Rules) -> bool {
        self.agents[node].doing == Doing::Dead || rules.case.dark.contains(&node)
    }

    /// `Cluster::not_ready`: whether one of the others is still waited for.
    fn somebody_is_away(&mut self, me: usize, rules: &Rules) -> bool {
        let clock = self.agents[me].clock(self.tick, pace(rules, me));
        let mut waits = false;
        for other in (0..NODES).filter(|other| *other != me) {
            let away = self.is_away(other, rules);
            let since = &mut self.agents[me].away_since[other];
            *since = away.then(|| since.unwrap_or(clock));
            waits |= since.is_some_and(|since| clock.saturating_sub(since) < rules.not_ready);
        }
        waits
    }

    /// `Cluster::may_act_unseen`.
    fn somebody_is_unseen(&self, me: usize, company: Company, rules: &Rules) -> bool {
        let now = rules.now(me, self.tick);
        let unseen = (0..NODES).any(|other| other != me && self.is_away(other, rules));
        unseen && rules.has(Guard::UnseenSlot) && now < rules.end() && !rules.slots(me, company.ranked).is_open(now)
    }

    /// `Cluster::after_outage`.
    fn comes_after_outage(&self, me: usize, company: Company, rules: &Rules) -> bool {
        let now = rules.now(me, self.tick);
        let recent = self.agents[me].outage.is_recent(LASTS, self.clock(me, rules));
        recent && rules.has(Guard::AfterOutage) && now < rules.end() && !rules.slots(me, company.ranked).is_open(now)
    }

    /// `Cluster::harmed`.
    fn somebody_is_harmed(&mut self, me: usize, rules: &Rules) -> bool {
        let clock = self.agents[me].clock(self.tick, pace(rules, me));
        let mut waits = false;
        for other in (0..NODES).filter(|other| *other != me) {
            let marked = self.server.harm[other].is_some();
            let since = &mut self.agents[me].harm_since[other];
            *since = marked.then(|| since.unwrap_or(clock));
            waits |= since.is_some_and(|since| clock.saturating_sub(since) < rules.harmed);
        }
        waits
    }

    /// `Cluster::dark`: nobody can be asked.
    fn dark(&mut self, me: usize, rules: &Rules) {
        self.agents[me].drop_claim();
        let company = self.company(me, true, rules);
        let (now, end, emergency) = (rules.now(me, self.tick), rules.end(), rules.emergency());
        let slots = rules.slots(me, company.ranked);
        let clock = self.clock(me, rules);
        let unanswered = self.agents[me].outage.unanswered(clock);
        let rest = if rules.has(Guard::OutageRest) { LASTS.saturating_sub(unanswered) } else { Duration::ZERO };
        let at = if rules.has(Guard::DarkSlot) {
            slots.in_the_dark(now, rest, end, emergency)
        } else if rules.is_emergency(self.tick) {
            now
        } else {
            end
        };
        if company.ranked.count_ones() <= 1 || now >= at {
            return self.may(me);
        }
        self.wait(me);
    }

    pub fn taken(&mut self, me: usize, what: For, ended: Ended, rules: &Rules) {
        let emergency = rules.is_emergency(self.tick);
        match ended {
            Ended::Held => {
                let harmed = self.somebody_is_harmed(me, rules);
                if harmed && !emergency {
                    self.agents[me].doing = Doing::Gives { again: Some(self.tick + 1) };
                } else {
                    self.may(me);
                }
            }
            Ended::Busy { holder, transitions, .. } => {
                if !rules.has(Guard::Wait) && what == For::Take {
                    return self.seize(me, transitions, rules);
                }
                if !emergency {
                    return self.wait(me);
                }
                let waited = self.waited(me, transitions, holder, rules);
                match self.slot_way(me, waited, rules) {
                    SlotWay::Wait { .. } => self.wait(me),
                    way if what == For::Take => {
                        self.agents[me].last_slot = way == SlotWay::SeizeOrNot;
                        self.seize(me, transitions, rules);
                    }
                    // another one has come meanwhile, and there is no time to wait for it
                    _ => {
                        self.agents[me].drop_claim();
                        self.may(me);
                    }
                }
            }
            Ended::Unknown(_) => self.dark(me, rules),
            Ended::Lost { .. } | Ended::Given => self.wait(me),
        }
    }

    fn seize(&mut self, me: usize, transitions: u32, rules: &Rules) {
        self.begin(me, For::Seize, rules, |claim, clock, now| claim.seize(transitions, clock, now));
    }

    /// `OfBoot::tenure`: for how long this very tenure has been in the way.
    fn waited(&mut self, me: usize, transitions: u32, holder: String, rules: &Rules) -> Duration {
        let clock = self.agents[me].clock(self.tick, pace(rules, me));
        let tenure = &mut self.agents[me].tenure;
        let since = match tenure {
            Some((known, by, since)) if !rules.has(Guard::WaitByTenure) || (*known == transitions && *by == holder) => {
                *since
            }
            _ => clock,
        };
        *tenure = Some((transitions, holder, since));
        clock.saturating_sub(since).min(LASTS * 4)
    }

    /// What to do about a lock that another has.
    fn slot_way(&self, me: usize, waited: Duration, rules: &Rules) -> SlotWay {
        // without the guard: as if there were nobody else
        let ranked = if rules.has(Guard::SeizeSlot) { self.company(me, false, rules).ranked } else { 1 << me };
        rules.slots(me, ranked).way(waited, LASTS, rules.now(me, self.tick), rules.end())
    }
}
