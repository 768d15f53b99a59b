//! Control planes that are started in the same second with days left, simulated on the deciding code: the lock, the slots of
//! time, the time that somebody who holds the lock is waited for.

use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Ended, Record, Reply, Seen, Step};
use certwarden::model::fleet::slot::{Slots, Way};
use jiff::Timestamp;

const LASTS: Duration = Duration::from_secs(1200);
const SETTLE: Duration = Duration::from_secs(300);
const EMERGENCY: Duration = Duration::from_secs(3 * 86_400);
const RETRY: i64 = 60;
const START: i64 = 1_790_000_000;
const HOUR: i64 = 3600;

/// The API server's one Lease.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
}

impl Server {
    fn obey(&mut self, call: &Call) -> Reply {
        let new = match (call, &self.lease) {
            (Call::Get, now) => return now.clone().map_or(Reply::Absent, Reply::Is),
            (Call::Update(_), None) => return Reply::Absent,
            (Call::Create(_), Some(_)) => return Reply::Conflict,
            (Call::Update(new), Some(now)) if new.version != now.version => return Reply::Conflict,
            (Call::Create(new) | Call::Update(new), _) => new,
        };
        self.version += 1;
        self.lease = Some(Record { version: self.version.to_string(), ..new.clone() });
        Reply::Is(self.lease.clone().unwrap())
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ill {
    Nothing,
    /// Nobody answers anybody.
    Dark,
    /// The first one is cut off, and the others see it NotReady.
    OneInTheDark,
    /// Somebody who is no control plane has the lock and goes on renewing it.
    Deaf,
    /// Somebody takes the lock each minute.
    Provoked,
    /// The first one dies at work.
    Dies,
    /// The first one hangs before its commit, and goes on renewing the lock.
    Hangs,
}

enum At {
    Waits { until: i64 },
    Works(Work),
    Done,
    Dead,
}

/// A renewal: files are staged before the commit, and processes restarted after it.
#[derive(Clone, Copy)]
struct Work {
    commits: i64,
    until: i64,
    committed: bool,
    locked: bool,
    /// No other slot is left.
    forced: bool,
}

struct Agent {
    claim: Claim,
    slots: Slots,
    at: At,
    waited: Option<((u32, String), i64)>,
    /// Its clock is ahead by so much.
    ahead: i64,
}

struct World {
    start: i64,
    now: i64,
    end: i64,
    ill: Ill,
    server: Server,
    agents: Vec<Agent>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl World {
    fn new(count: usize, left: i64, ill: Ill, start: i64) -> Self {
        let names: Vec<String> = (0..count).map(|n| format!("cp{n}")).collect();
        let agent = |(n, name): (usize, &String)| Agent {
            claim: Claim::new(name.clone(), LASTS, Seen::default()),
            slots: Slots::of(name, &names, LASTS, EMERGENCY),
            at: At::Waits { until: start },
            waited: None,
            ahead: [0, 200, -150][n % 3],
        };
        let agents = names.iter().enumerate().map(agent).collect();
        Self { start, now: start, end: start + left, ill, server: Server::default(), agents }
    }

    fn clock(&self) -> Duration {
        Duration::from_secs((self.now - self.start).unsigned_abs())
    }

    fn drive(&mut self, n: usize, mut step: Step) -> Ended {
        loop {
            match step {
                Step::Done(ended) => return ended,
                Step::Send(call) => {
                    let (reply, clock) = (self.server.obey(&call), self.clock());
                    step = self.agents[n].claim.on(&call, reply, clock);
                }
            }
        }
    }

    fn is_dark(&self, n: usize) -> bool {
        self.ill == Ill::Dark || (self.ill == Ill::OneInTheDark && n == 0)
    }

    fn somebody_meddles(&mut self) {
        let due = match self.ill {
            Ill::Deaf => self.now % 300 == 0,
            Ill::Provoked => self.now % 60 == 0,
            _ => false,
        };
        let old = self.server.lease.clone().unwrap_or_default();
        // the deaf one keeps what it has, and gets nothing back
        let lost = self.ill == Ill::Deaf && !["", "pod"].contains(&old.holder.as_str());
        if !due || lost || (self.ill == Ill::Deaf && self.now > self.start + 10 * HOUR) {
            return;
        }
        let transitions = if self.ill == Ill::Deaf { 1 } else { old.transitions + 1 };
        self.version(Record { holder: "pod".into(), seconds: 1200, transitions, ..old });
    }

    fn version(&mut self, record: Record) {
        self.server.version += 1;
        self.server.lease = Some(Record { version: self.server.version.to_string(), ..record });
    }

    fn waits(&mut self, n: usize, own: i64) {
        let end = at(self.end);
        let slots = self.agents[n].slots;
        if self.is_dark(n) {
            let begins = slots.in_the_dark(at(own), Duration::ZERO, end, EMERGENCY).as_second();
            if begins > own {
                return self.wait(n, own, begins);
            }
            return self.work(n, false, false);
        }
        if self.ill == Ill::OneInTheDark && !slots.is_open(at(own)) {
            return self.wait(n, own, slots.next(at(own)).as_second());
        }
        let clock = self.clock();
        let step = self.agents[n].claim.take(clock, at(own));
        let ended = self.drive(n, step);
        let Ended::Busy { holder, transitions, .. } = ended else { return self.work(n, ended == Ended::Held, false) };
        let agent = &mut self.agents[n];
        let tenure = (transitions, holder);
        let since = match &agent.waited {
            Some((known, since)) if *known == tenure => *since,
            _ => self.now,
        };
        agent.waited = Some((tenure, since));
        let waited = Duration::from_secs((self.now - since).unsigned_abs());
        match slots.way(waited, LASTS, at(own), end) {
            Way::Wait { until } => self.wait(n, own, until.as_second()),
            way => {
                let step = self.agents[n].claim.seize(transitions, clock, at(own));
                let locked = self.drive(n, step) == Ended::Held;
                if locked || way == Way::SeizeOrNot {
                    self.work(n, locked, way == Way::SeizeOrNot);
                }
            }
        }
    }

    fn wait(&mut self, n: usize, own: i64, until: i64) {
        let ahead = self.agents[n].ahead;
        self.agents[n].at = At::Waits { until: (own + RETRY).min(until) - ahead };
    }

    fn work(&mut self, n: usize, locked: bool, forced: bool) {
        // from four minutes to a transaction and its way back
        let takes = 240 + (self.start / 170 + i64::try_from(n).unwrap()) % 4 * 300;
        let hangs = self.ill == Ill::Hangs && n == 0 && self.now < self.start + HOUR;
        let commits = self.now + if hangs { 2500 + self.start / 850 % 20 * 300 } else { 120 };
        let until = commits - 120 + takes;
        self.agents[n].at = At::Works(Work { commits, until, committed: false, locked, forced });
    }

    fn works(&mut self, n: usize, work: Work) {
        let clock = self.clock();
        if self.ill == Ill::Dies && n == 0 && self.now > self.start + 100 {
            self.agents[n].at = At::Dead;
            return;
        }
        let commits = !work.committed && self.now >= work.commits;
        if work.locked && (commits || self.now % 100 == 0) {
            let step = self.agents[n].claim.keep(clock, at(self.now));
            let kept = self.drive(n, step) == Ended::Held;
            if !kept && !work.forced && !work.committed {
                self.agents[n].at = At::Waits { until: self.now + RETRY };
                return;
            }
        }
        if self.now < work.until {
            self.agents[n].at = At::Works(Work { committed: work.committed || commits, ..work });
            return;
        }
        if work.locked {
            let step = self.agents[n].claim.give(SETTLE, clock, at(self.now));
            self.drive(n, step);
        }
        self.agents[n].at = At::Done;
    }

    /// Lets time pass until all are done; who was at work at the same time.
    fn run(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        while self.now < self.end && self.agents.iter().any(|a| !matches!(a.at, At::Done | At::Dead)) {
            self.somebody_meddles();
            for n in 0..self.agents.len() {
                match self.agents[n].at {
                    At::Waits { until } if self.now >= until => self.waits(n, self.now + self.agents[n].ahead),
                    At::Works(work) => self.works(n, work),
                    At::Waits { .. } | At::Done | At::Dead => {}
                }
            }
            let restarts = |a: &&Agent| matches!(a.at, At::Works(work) if work.committed);
            let at_work = self.agents.iter().filter(restarts).count();
            if at_work > 1 {
                wrong.push(format!("{at_work} at work after {} s", self.now - self.start));
            }
            self.now += 10;
        }
        wrong
    }

    fn late(&self) -> usize {
        self.agents.iter().filter(|a| matches!(a.at, At::Waits { .. } | At::Works(_))).count()
    }
}

#[test]
fn control_planes_that_are_started_in_the_same_second_act_one_after_another_and_all_in_time() {
    use Ill::{Dark, Deaf, Dies, Hangs, Nothing, OneInTheDark, Provoked};
    for ill in [Nothing, Dark, OneInTheDark, Deaf, Provoked, Dies, Hangs] {
        for count in [3, 5, 7] {
            for left in [71 * HOUR, 30 * HOUR, 15 * HOUR] {
                // wherever in a round of slots it is
                for start in (0..20).map(|n| START + n * 850) {
                    let mut world = World::new(count, left, ill, start);
                    let wrong = world.run();
                    assert!(wrong.is_empty(), "{ill:?}, {count}, {left} s left, at {start}: {}", wrong[0]);
                    assert_eq!(world.late(), 0, "{ill:?}, {count}, {left} s left, at {start}: not done in time");
                }
            }
        }
    }
}

#[test]
fn the_simulation_finds_two_at_work_where_there_are_no_slots() {
    let mut world = World::new(5, 71 * HOUR, Ill::Dark, START);
    // all have the first one's rank
    let first = world.agents[0].slots;
    world.agents.iter_mut().for_each(|a| a.slots = first);
    assert!(!world.run().is_empty());
}
