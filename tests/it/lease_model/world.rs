//! Everything there is at one moment, what may happen next, and what must never be.

use std::fmt;

use certwarden::model::fleet::lease::{Call, Record};

use super::agent::{Agent, Doing, Etcd, For};
use super::case::{Budget, LASTS, LEASE, Meddler, NODES, SETTLE};
use super::fault::Fault;
use super::rules::{Rules, name};
use super::server::Server;

/// Something that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Tick,
    /// The next thing that this agent does, and how it goes.
    Step(usize, Way),
    Fault(Fault),
}

/// How a step goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    Well,
    Lost,
    Unanswered,
    Twice,
    /// The answer comes after so many ticks.
    Slow(u16),
    /// It is answered with this one of the past states.
    Stale(usize),
    /// It takes so many ticks.
    Takes(u16),
    /// The same, and etcd has to be restarted.
    TakesWithEtcd(u16),
    /// What was restarted does not come up.
    Fails,
    /// The same, and telling it is lost.
    FailsUntold,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    pub tick: u16,
    pub server: Server,
    pub agents: [Agent; NODES],
    pub budget: Budget,
    pub blind: u8,
    /// Nobody answers before.
    pub gone: u16,
    /// Somebody has begun in ignorance of a harm.
    pub ignorant: bool,
}

impl World {
    pub fn new(rules: &Rules) -> Self {
        let record = if rules.case.meddler == Meddler::Deaf {
            let seconds = u32::try_from(LASTS.as_secs()).unwrap_or_default();
            Record { holder: "pod".to_owned(), seconds, version: "1".to_owned(), ..Record::default() }
        } else {
            let seconds = u32::try_from(SETTLE.as_secs()).unwrap_or_default();
            Record { last: "pod".to_owned(), seconds, version: "1".to_owned(), ..Record::default() }
        };
        Self {
            tick: 0,
            server: Server::new(record),
            agents: rules.case.due.map(Agent::new),
            budget: rules.case.budget,
            blind: 0,
            gone: 0,
            ignorant: false,
        }
    }

    pub fn is_over(&self) -> bool {
        self.agents.iter().all(Agent::is_over)
    }

    /// Whether the API server answers this node.
    pub fn answers(&self, me: usize, rules: &Rules) -> bool {
        self.gone <= self.tick && !rules.case.dark.contains(&me)
    }

    /// What is wrong here.
    pub fn violation(&self, rules: &Rules) -> Option<String> {
        let count = |is: fn(&Agent) -> bool| self.agents.iter().filter(|a| is(a)).count();
        if self.ignorant {
            return Some("a node began, and did not know of the harm of another".to_owned());
        }
        if count(Agent::etcd_is_down) > 1 {
            return Some("two members of etcd restart at once".to_owned());
        }
        if !rules.case.etcd && count(Agent::is_restarting) > 1 {
            return Some("two control planes restart at once".to_owned());
        }
        let late = self.tick > rules.case.bound && !self.is_over();
        late.then(|| format!("not all are done at tick {}", rules.case.bound))
    }

    pub fn successors(&self, rules: &Rules) -> Vec<(Action, Self)> {
        if self.is_over() {
            return Vec::new();
        }
        let ready = |me: &usize| self.agents[*me].is_ready(self.tick, rules, *me);
        let local = |me: &usize| ready(me) && self.agents[*me].is_local(self.tick, rules, *me);
        let (all, first) = (0..NODES, (0..NODES).find(local));
        let mut next = Vec::new();
        for me in first.map_or(all, |me| me..me + 1).filter(ready) {
            for way in self.ways(me, rules) {
                let mut after = self.clone();
                after.step(me, way, rules);
                next.push((Action::Step(me, way), after));
            }
        }
        if first.is_some() {
            return next;
        }
        let quiet = next.is_empty();
        for fault in self.faults(rules) {
            let mut after = self.clone();
            after.suffer(fault, rules);
            next.push((Action::Fault(fault), after));
        }
        if quiet {
            let mut after = self.clone();
            after.pass(rules);
            next.push((Action::Tick, after));
        }
        next
    }

    /// A tick: nobody has anything left to do at this one.
    fn pass(&mut self, rules: &Rules) {
        self.tick += 1;
        self.agents.iter_mut().for_each(|agent| agent.beat = None);
        let Some(lease) = self.server.lease.clone() else { return };
        let seconds = u32::try_from(LASTS.as_secs()).unwrap_or_default();
        match rules.case.meddler {
            Meddler::Deaf if lease.holder == "pod" && self.tick.is_multiple_of(LEASE / 2) => {
                self.server.put(lease, rules.keeps());
            }
            Meddler::Takes => {
                let transitions = lease.transitions + 1;
                self.server.put(Record { holder: "pod".to_owned(), transitions, seconds, ..lease }, rules.keeps());
            }
            _ => {}
        }
    }

    /// How the next step of an agent may go.
    fn ways(&self, me: usize, rules: &Rules) -> Vec<Way> {
        let (agent, left, case) = (&self.agents[me], &self.budget, &rules.case);
        let mut ways = vec![Way::Well];
        let answered = self.answers(me, rules);
        let mut may = |left: u8, way: Way| ways.extend((left > 0).then_some(way));
        if let Some(ask) = &agent.ask {
            if ask.came.is_none() && answered {
                may(left.lost, Way::Lost);
                may(left.unanswered, Way::Unanswered);
                let write = !matches!(ask.call, Call::Get);
                may(if write && self.server.late.is_none() { left.twice } else { 0 }, Way::Twice);
                // after the commit no answer is waited for: `Held::keep_if_quick`, `Cluster::beat`
                let slow = if matches!(ask.what, For::Take | For::Seize | For::Commit) { left.slow } else { 0 };
                may(slow, Way::Slow(1));
                may(slow, Way::Slow(LEASE));
                let past = if write { 0 } else { self.server.past.len() };
                (0..past).for_each(|i| may(left.stale, Way::Stale(i)));
            }
            return ways;
        }
        match agent.doing {
            Doing::May => case.prepares.iter().map(|ticks| Way::Takes(*ticks)).collect(),
            Doing::Committed => {
                let with = case.restarts.iter().filter(|_| case.etcd).map(|ticks| Way::TakesWithEtcd(*ticks));
                case.restarts.iter().map(|ticks| Way::Takes(*ticks)).chain(with).collect()
            }
            Doing::Restarts { until, etcd: Etcd::Up } if until <= self.tick => {
                may(left.failure, Way::Fails);
                may(if answered { left.failure.min(left.lost) } else { 0 }, Way::FailsUntold);
                ways
            }
            Doing::Looks { .. } => {
                if answered {
                    may(left.lost, Way::Lost);
                    may(if case.apart { 0 } else { left.slow }, Way::Slow(1));
                    may(if case.apart { 0 } else { left.slow }, Way::Slow(LEASE));
                    let past = if case.apart { 0 } else { self.server.past.len() };
                    (0..past).for_each(|i| may(left.stale, Way::Stale(i)));
                }
                ways
            }
            Doing::Tells | Doing::Owes { .. } => {
                may(if answered { left.lost } else { 0 }, Way::Lost);
                ways
            }
            _ => ways,
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = self.server.lease.as_ref().map(|l| (&l.holder, &l.version, l.transitions));
        write!(f, "  at tick {}: {lease:?}", self.tick)?;
        self.agents.iter().enumerate().try_for_each(|(me, a)| write!(f, "; {}: {:?}", name(me), a.doing))
    }
}
