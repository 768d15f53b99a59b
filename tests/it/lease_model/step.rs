//! What an agent does next: the order of `fleet` and `txn::run`, with the deciding code of `model::fleet`.

use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Ended, Reply, Seen, Step};

use super::agent::{Agent, Ask, Begun, Doing, Etcd, For, pace};
use super::case::{Guard, SETTLE};
use super::rules::Rules;
use super::world::{Way, World};

/// Ticks after which a renewal that has failed is tried again.
const BACK_OFF: u16 = 3;

impl World {
    fn spend(&mut self, way: Way) {
        match way {
            Way::Lost | Way::FailsUntold => self.budget.lost -= 1,
            Way::Unanswered => self.budget.unanswered -= 1,
            Way::Twice => self.budget.twice -= 1,
            Way::Slow(_) => self.budget.slow -= 1,
            Way::Stale(_) => self.budget.stale -= 1,
            _ => {}
        }
        if matches!(way, Way::Fails | Way::FailsUntold) {
            self.budget.failure -= 1;
        }
    }

    pub fn step(&mut self, me: usize, way: Way, rules: &Rules) {
        self.spend(way);
        if self.agents[me].ask.is_some() {
            return self.request(me, way, rules);
        }
        if matches!(self.agents[me].doing, Doing::Looks { .. }) {
            self.look(me, way, rules);
            // the look and the first question are one step, where the case is not about what comes between
            if self.agents[me].ask.is_some() && !rules.case.apart {
                self.request(me, way, rules);
            }
            return;
        }
        if self.agents[me].beats(self.tick, rules, me) {
            self.agents[me].beat = Some(self.tick);
            return self.begin(me, For::Beat, rules, Claim::keep);
        }
        self.act(me, way, rules);
    }

    fn act(&mut self, me: usize, way: Way, rules: &Rules) {
        let tick = self.tick;
        match self.agents[me].doing.clone() {
            Doing::May => {
                let ticks = if let Way::Takes(ticks) = way { ticks } else { 0 };
                self.agents[me].doing = Doing::Prepares { until: tick + ticks };
            }
            Doing::Prepares { .. } if self.agents[me].claim.is_some() && rules.has(Guard::AskBeforeCommit) => {
                self.begin(me, For::Commit, rules, Claim::keep);
            }
            Doing::Prepares { .. } => self.commit(me, rules),
            Doing::Committed => {
                let (ticks, etcd) = match way {
                    Way::TakesWithEtcd(ticks) => (ticks, Etcd::Due),
                    Way::Takes(ticks) => (ticks, Etcd::Up),
                    _ => (1, Etcd::Up),
                };
                self.agents[me].doing = Doing::Restarts { until: tick + ticks, etcd };
            }
            Doing::Restarts { until, etcd } => self.restart(me, until, etcd, way, rules),
            Doing::Back { .. } => self.agents[me].doing = Doing::Tells,
            Doing::Tells => {
                self.tell(me, way, rules);
                let owes = self.agents[me].owes && rules.has(Guard::KeepWhileOwed);
                let next =
                    if owes { Doing::Owes { at: tick + 1 } } else { Doing::Gives { again: Some(tick + BACK_OFF) } };
                self.agents[me].doing = next;
            }
            Doing::Gives { again } => {
                if self.agents[me].claim.is_none() {
                    return self.given(me, again);
                }
                // what is tried again at once has touched nothing: the cluster need not settle
                let touched = again.is_none_or(|at| at > tick + 1);
                let settle = if touched { SETTLE } else { Duration::ZERO };
                self.begin(me, For::Give, rules, |claim, clock, now| claim.give(settle, clock, now));
            }
            Doing::Owes { .. } => {
                self.tell(me, way, rules);
                self.adopt(me, For::Debt, rules);
            }
            Doing::Down { begun: None, .. } => self.agents[me].doing = Doing::Looks { at: tick },
            Doing::Down { begun: Some(_), .. } => self.adopt(me, For::Adopt, rules),
            Doing::Looks { .. } | Doing::Done | Doing::Dead => {}
        }
    }

    pub fn clock(&self, me: usize, rules: &Rules) -> Duration {
        self.agents[me].clock(self.tick, pace(rules, me))
    }

    /// Begins what is asked of the claim; the request itself is a step of its own.
    pub fn begin(
        &mut self,
        me: usize,
        what: For,
        rules: &Rules,
        ask: impl FnOnce(&mut Claim, Duration, jiff::Timestamp) -> Step,
    ) {
        let (clock, now) = (self.clock(me, rules), rules.written(me, self.tick));
        let agent = &mut self.agents[me];
        let mut claim = agent.claim.take().unwrap_or_else(|| agent.new_claim(me));
        let step = ask(&mut claim, clock, now);
        agent.claim = Some(claim);
        self.goes_on(me, what, step, rules);
    }

    fn adopt(&mut self, me: usize, what: For, rules: &Rules) {
        self.agents[me].drop_claim();
        self.begin(me, what, rules, Claim::keep);
    }

    fn goes_on(&mut self, me: usize, what: For, step: Step, rules: &Rules) {
        match step {
            Step::Send(call) => self.agents[me].ask = Some(Ask { what, call, came: None }),
            Step::Done(ended) => self.ended(me, what, ended, rules),
        }
    }

    /// A request is made, or its answer comes.
    fn request(&mut self, me: usize, way: Way, rules: &Rules) {
        let Some(Ask { what, call, came }) = self.agents[me].ask.take() else { return };
        let reply = match came {
            Some((reply, _)) => reply,
            None => self.serve(me, &call, way, rules),
        };
        if let Way::Slow(ticks) = way {
            self.agents[me].ask = Some(Ask { what, call, came: Some((reply, self.tick + ticks)) });
            return;
        }
        let reply = self.unguarded(me, what, &call, reply, rules);
        let clock = self.clock(me, rules);
        let Some(claim) = self.agents[me].claim.as_mut() else { return };
        let step = claim.on(&call, reply, clock);
        self.goes_on(me, what, step, rules);
    }

    fn serve(&mut self, me: usize, call: &Call, way: Way, rules: &Rules) -> Reply {
        let silence = || Reply::Silence(String::new());
        if !self.answers(me, rules) || way == Way::Lost {
            return silence();
        }
        if let Way::Stale(i) = way {
            return self.server.past[i].clone().map_or(Reply::Absent, Reply::Is);
        }
        let reply = self.server.obey(call, rules.has(Guard::Precondition), rules.keeps());
        match way {
            Way::Twice => self.server.late = Some(call.clone()),
            Way::Unanswered => return silence(),
            _ => {}
        }
        reply
    }

    /// What a guard that is taken out would have stopped.
    fn unguarded(&mut self, me: usize, what: For, call: &Call, reply: Reply, rules: &Rules) -> Reply {
        if !rules.has(Guard::AnswerCounts)
            && let (Call::Update(record) | Call::Create(record), Reply::Silence(_)) = (call, &reply)
        {
            return Reply::Is(record.clone());
        }
        let forgets = match (&reply, call) {
            (Reply::Absent, Call::Get) => !rules.has(Guard::VanishedIsHeld),
            (Reply::Is(record), Call::Get) => {
                let number = |version: &str| version.parse::<u64>().unwrap_or_default();
                let seen = self.agents[me].claim.as_ref().map(|claim| number(&claim.seen().version));
                !rules.has(Guard::OlderIsHeld) && seen > Some(number(&record.version))
            }
            _ => false,
        };
        if forgets && matches!(what, For::Take | For::Seize) {
            self.agents[me].claim = None;
            self.agents[me].seen = Seen::default();
            let (clock, now) = (self.clock(me, rules), rules.written(me, self.tick));
            let mut claim = self.agents[me].new_claim(me);
            claim.take(clock, now);
            self.agents[me].claim = Some(claim);
        }
        reply
    }

    fn ended(&mut self, me: usize, what: For, ended: Ended, rules: &Rules) {
        let tick = self.tick;
        match what {
            For::Take | For::Seize => self.taken(me, what, ended, rules),
            For::Commit => self.asked_before_commit(me, &ended, rules),
            For::Beat => {}
            For::Etcd => self.asked_for_etcd(me, &ended, rules),
            For::Give => {
                let Doing::Gives { again } = self.agents[me].doing else { return };
                self.agents[me].drop_claim();
                self.given(me, again);
            }
            For::Adopt => {
                if ended != Ended::Held {
                    self.agents[me].drop_claim();
                }
                let back = matches!(self.agents[me].doing, Doing::Down { begun: Some(Begun::Back), .. });
                let until = tick + rules.case.back;
                self.agents[me].doing = if back { Doing::Back { until } } else { Doing::Committed };
            }
            For::Debt => {
                let (held, owes) = (ended == Ended::Held, self.agents[me].owes);
                if !held {
                    self.agents[me].drop_claim();
                }
                let rested = self.agents[me].hurt.is_some_and(|since| tick >= since + BACK_OFF);
                self.agents[me].doing = match (owes, rested) {
                    (false, _) => Doing::Gives { again: Some(tick + BACK_OFF) },
                    (true, true) => Doing::Looks { at: tick + 1 },
                    (true, false) => Doing::Owes { at: tick + 1 },
                };
            }
        }
    }

    fn given(&mut self, me: usize, again: Option<u16>) {
        // what a node remembers that is done is asked for by nobody
        let (agent, done) = (&mut self.agents[me], Agent { doing: Doing::Done, ..Agent::new(0) });
        match again {
            Some(at) => agent.doing = Doing::Looks { at },
            None => *agent = done,
        }
    }

    /// `Run::still_our_turn`.
    fn asked_before_commit(&mut self, me: usize, ended: &Ended, rules: &Rules) {
        let in_time = self.believes(me, Duration::ZERO, rules) || !rules.has(Guard::AnswerInTime);
        let lost = !matches!(ended, Ended::Held | Ended::Unknown(_)) || (*ended == Ended::Held && !in_time);
        let sure = *ended == Ended::Held && in_time;
        let open = || {
            let (now, slots) = (rules.now(me, self.tick), rules.slots(me, self.company(me, true, rules).ranked));
            now >= rules.end() || slots.is_open(now)
        };
        let goes_on = self.agents[me].last_slot || (!lost && open());
        let emergency = rules.is_emergency(self.tick);
        if sure || (emergency && (goes_on || !rules.has(Guard::LostDiscards))) {
            return self.commit(me, rules);
        }
        self.agents[me].doing = Doing::Gives { again: Some(self.tick + 1) };
    }
}
