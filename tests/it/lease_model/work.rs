//! From the commit on: restarts, etcd's member, the way back, what the others are told.

use std::time::Duration;

use certwarden::model::fleet::lease::{Claim, Ended};

use super::agent::{Doing, Etcd, For};
use super::case::{Guard, LASTS, NODES, TICK};
use super::rules::{ETCD, Rules};
use super::world::{Way, World};

impl World {
    pub fn believes(&self, me: usize, need: Duration, rules: &Rules) -> bool {
        let margin = if rules.has(Guard::Margin) { Duration::ZERO } else { LASTS / 10 };
        let clock = self.clock(me, rules).saturating_sub(margin);
        self.agents[me].claim.as_ref().is_some_and(|claim| claim.holds(clock, need))
    }

    pub fn commit(&mut self, me: usize, rules: &Rules) {
        let patience = u16::try_from(rules.harmed.as_secs() / TICK).unwrap_or(u16::MAX);
        let fresh = |since: u16| self.tick.saturating_sub(since) < patience;
        let harm = (0..NODES).filter(|other| *other != me).filter_map(|other| self.agents[other].hurt).any(fresh);
        // where etcd is watched others may be at work, and come to harm, after this one has looked
        self.ignorant |= harm && !rules.is_emergency(self.tick) && !rules.case.etcd;
        self.agents[me].doing = Doing::Committed;
    }

    pub fn restart(&mut self, me: usize, until: u16, etcd: Etcd, way: Way, rules: &Rules) {
        let tick = self.tick;
        match etcd {
            Etcd::Due => {
                let is_away =
                    |other: usize| self.agents[other].etcd_is_down() || self.agents[other].doing == Doing::Dead;
                let away = (0..NODES).filter(|other| *other != me).any(is_away);
                let spared = !away || !rules.has(Guard::EtcdQuorum);
                let blind = self.blind & ETCD != 0;
                if spared && !blind {
                    self.agents[me].doing = Doing::Restarts { until, etcd: Etcd::Spared };
                } else {
                    self.go_back(me, way, rules);
                }
            }
            Etcd::Spared if rules.has(Guard::EtcdLock) => self.begin(me, For::Etcd, rules, Claim::keep),
            Etcd::Spared => self.stop_etcd(me, until),
            Etcd::Down { .. } => {
                self.agents[me].doing = Doing::Restarts { until: until.max(tick), etcd: Etcd::Up };
            }
            Etcd::Up if matches!(way, Way::Fails | Way::FailsUntold) => self.go_back(me, way, rules),
            Etcd::Up => {
                self.agents[me].hurt = None;
                self.server.harm[me] = None;
                self.agents[me].doing = Doing::Gives { again: None };
            }
        }
    }

    fn stop_etcd(&mut self, me: usize, until: u16) {
        let etcd = Etcd::Down { until: self.tick + 1 };
        self.agents[me].doing = Doing::Restarts { until, etcd };
    }

    /// `Cluster::is_sure`, for as long as a member may be away.
    pub fn asked_for_etcd(&mut self, me: usize, ended: &Ended, rules: &Rules) {
        let Doing::Restarts { until, .. } = self.agents[me].doing else { return };
        let sure = match ended {
            Ended::Held => self.believes(me, Duration::ZERO, rules),
            Ended::Unknown(_) => self.believes(me, Duration::from_secs(TICK), rules),
            _ => false,
        };
        if sure { self.stop_etcd(me, until) } else { self.go_back(me, Way::Well, rules) }
    }

    fn go_back(&mut self, me: usize, way: Way, rules: &Rules) {
        self.agents[me].hurt = self.agents[me].hurt.or(Some(self.tick));
        if rules.has(Guard::TellBeforeBack) {
            self.tell(me, way, rules);
        }
        self.agents[me].doing = Doing::Back { until: self.tick + rules.case.back };
    }

    /// `Cluster::tell`: the mark of a node that fails again keeps the time of the first.
    pub fn tell(&mut self, me: usize, way: Way, rules: &Rules) {
        let told = self.answers(me, rules) && !matches!(way, Way::Lost | Way::FailsUntold);
        if told {
            self.server.harm[me] = self.server.harm[me].or(self.agents[me].hurt);
        }
        self.agents[me].owes = !told;
    }
}
