//! The simulated cluster: one API server, thousands of workers whose decisions are `model::fleet`'s own. What they ask, and in what
//! order, is what `fleet` and a worker's transaction ask.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Ended, Record, Reply, Step};
use certwarden::model::fleet::turn;
use certwarden::model::fleet::wait::{self, LONGEST_PAUSE, PACE, Wait};
use certwarden::model::inventory::Role;
use jiff::{SignedDuration, Timestamp};

use super::case::{Case, DAY, Dice, HOUR};
use super::node::{At, Node};

pub const NODES: usize = 5_000;
/// Reads once the lock is found free: notes, the workers' marks, the control planes' lock, the own Node, kured (`fleet::look`).
const READS: u8 = 5;
/// Reads once it is taken: notes, the workers' marks, the control planes' lock.
const AGAIN: u8 = 3;
/// What a turn costs that is taken: these, and the lock found free, taken, renewed twice, given up.
const LOCK: u64 = READS as u64 + AGAIN as u64 + 6;
/// Request, restart of the kubelet, Ready again, ms.
const SHORTEST_WORK: u64 = 40_000;
const WORK_SPREAD: u64 = 50_000;
/// The kubelet's own signing requests are looked at while its certificate is about to end (`daemon::node`), ms.
const OWN_REQUESTS: u64 = 8 * HOUR;
/// Nobody answers a lost request; the limit of the asker, ms.
const TIMEOUT: u64 = 5_000;
/// From when to when every fifth node reaches nobody.
const PARTITION: (u64, u64) = (30 * HOUR, 31 * HOUR);
/// Longer than any certificate has.
const END: u64 = 40 * DAY;
/// A kubelet's certificate (kube-controller-manager: `--cluster-signing-duration`), seconds.
const LIFE: i64 = 365 * 86_400;

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    Look,
    Sent(u64),
    Arrives(u64),
    Answered(u64),
    Lost(u64),
    Worked,
}

pub struct World {
    pub case: Case,
    /// What a certificate has left when it is due, ms.
    before: u64,
    dice: Dice,
    nodes: Vec<Node>,
    leases: Vec<Option<Record>>,
    holders: Vec<u16>,
    version: u64,
    answers: Vec<Option<Reply>>,
    queue: BinaryHeap<Reverse<(u64, usize, What)>>,
    /// Requests in each second, and nodes at work in it, at most.
    pub requests: Vec<u32>,
    pub working: Vec<u16>,
    /// When each that was renewed was, and what its certificate had left, ms.
    pub done: Vec<(u64, u64)>,
    /// Since when each was due, and what its renewal itself asked for, summed up.
    pub waited: u64,
    pub renewals: u64,
    pub dead: usize,
    /// That went without the lock, because their emergency had come.
    pub alone: usize,
}

impl World {
    pub fn new(case: Case) -> Self {
        let mut dice = Dice(42);
        let policy = &case.policy;
        let before = u64::try_from(policy.kubelet.renew_before.seconds(LIFE)).unwrap() * 1000;
        let nodes: Vec<Node> = (0..NODES).map(|n| Node::born(n, before, policy, &mut dice)).collect();
        let seconds = usize::try_from(END / 1000).unwrap() + 3_600;
        let slots = usize::try_from(policy.fleet.workers_at_once).unwrap();
        let mut world = Self {
            before,
            dice,
            nodes,
            leases: vec![None; slots],
            holders: vec![0; slots],
            version: 0,
            answers: vec![None; NODES],
            queue: BinaryHeap::new(),
            requests: vec![0; seconds],
            working: vec![0; seconds],
            done: Vec::new(),
            waited: 0,
            renewals: 0,
            dead: 0,
            alone: 0,
            case,
        };
        for n in 0..NODES {
            let born = world.nodes[n].end - before;
            let due = born + millis(turn::delay(Role::Worker, &world.nodes[n].id, &world.case.policy));
            world.queue.push(Reverse((due + world.dice.roll(1000), n, What::Look)));
        }
        world
    }

    pub fn run(&mut self) {
        while let Some(Reverse((now, n, what))) = self.queue.pop() {
            if now >= END || self.done.len() + self.dead == NODES {
                break;
            }
            let due = |serial| self.nodes[n].serial == serial;
            match what {
                What::Look if self.nodes[n].at == At::Idle => self.begin(n, now),
                What::Sent(serial) if due(serial) => self.sent(n, now, serial),
                What::Arrives(serial) if due(serial) => self.arrives(n, now, serial),
                What::Answered(serial) if due(serial) => {
                    let reply = self.answers[n].take().unwrap_or(Reply::Silence(String::new()));
                    self.goes_on(n, now, reply);
                }
                What::Lost(serial) if due(serial) => self.goes_on(n, now, Reply::Silence("lost".to_owned())),
                What::Worked => self.worked(n, now),
                _ => {}
            }
        }
        self.count_own_requests();
    }

    fn begin(&mut self, n: usize, now: u64) {
        if self.case.credential {
            self.nodes[n].at = At::Looking;
            self.send(n, now, Some(Call::Get));
        } else {
            self.work(n, now, true);
        }
    }

    /// On its way, as soon as its pace allows.
    fn send(&mut self, n: usize, now: u64, call: Option<Call>) {
        let node = &mut self.nodes[n];
        node.serial += 1;
        node.call = call;
        let at = now.max(node.may_send);
        node.may_send = at + millis(PACE);
        self.queue.push(Reverse((at, n, What::Sent(node.serial))));
    }

    fn sent(&mut self, n: usize, now: u64, serial: u64) {
        let cut = n.is_multiple_of(5) && (PARTITION.0..PARTITION.1).contains(&now);
        if !cut && self.dice.roll(1000) >= self.case.lost / 2 {
            let travels = self.latency() / 2;
            self.queue.push(Reverse((now + travels, n, What::Arrives(serial))));
        }
        self.queue.push(Reverse((now + TIMEOUT, n, What::Lost(serial))));
    }

    /// Mostly some tens of milliseconds, now and then seconds: a new TLS connection for each request.
    fn latency(&mut self) -> u64 {
        let usual = 20 + self.dice.roll(80);
        let slow = if self.dice.roll(50) == 0 { self.dice.roll(2_000) } else { 0 };
        (usual + slow) * self.case.slower
    }

    fn arrives(&mut self, n: usize, now: u64, serial: u64) {
        self.requests[second(now)] += 1;
        let slot = self.nodes[n].slot;
        let reply = match (&self.nodes[n].call, &self.leases[slot]) {
            (None, _) | (Some(Call::Get | Call::Update(_)), None) => Reply::Absent,
            (Some(Call::Get), Some(record)) => Reply::Is(record.clone()),
            (Some(Call::Create(_)), Some(_)) => Reply::Conflict,
            (Some(Call::Update(new)), Some(old)) if new.version != old.version => Reply::Conflict,
            (Some(Call::Create(new) | Call::Update(new)), _) => {
                self.version += 1;
                let record = Record { version: self.version.to_string(), ..new.clone() };
                self.leases[slot] = Some(record.clone());
                Reply::Is(record)
            }
        };
        self.answers[n] = Some(reply);
        if self.dice.roll(1000) >= self.case.lost / 2 {
            let travels = self.latency() / 2;
            self.queue.push(Reverse((now + travels, n, What::Answered(serial))));
        }
    }

    fn goes_on(&mut self, n: usize, now: u64, reply: Reply) {
        self.nodes[n].serial += 1; // neither a second answer nor the limit counts any more
        let clock = self.nodes[n].clock(now);
        let settle = self.case.policy.fleet.settle.0;
        match (self.nodes[n].at, reply) {
            (At::Looking | At::Reading(_) | At::ReadingAgain(_), Reply::Silence(_)) => {
                self.give_up(n, now);
                self.again(n, now, settle, false);
            }
            (At::Looking, reply) => self.looked(n, now, reply),
            (At::Reading(READS), _) if now < self.case.paused => {
                self.again(n, now, Duration::from_millis(self.case.paused - now).min(LONGEST_PAUSE), false);
            }
            (At::Reading(1), _) => {
                let node = &mut self.nodes[n];
                node.at = At::Asking;
                node.claim = Claim::new(format!("w{n}"), self.case.policy.fleet.lease_duration.0, node.seen.clone());
                let step = node.claim.take(clock, node.wall(now));
                self.step(n, now, step);
            }
            (At::Reading(left), _) => self.read_on(n, now, At::Reading(left - 1)),
            (At::ReadingAgain(1), _) => {
                self.nodes[n].at = At::Keeping(0);
                let step = self.nodes[n].claim.keep(clock, stamp(now));
                self.step(n, now, step);
            }
            (At::ReadingAgain(left), _) => self.read_on(n, now, At::ReadingAgain(left - 1)),
            (_, reply) => {
                let Some(call) = self.nodes[n].call.take() else { return };
                let step = self.nodes[n].claim.on(&call, reply, clock);
                self.step(n, now, step);
            }
        }
    }

    fn read_on(&mut self, n: usize, now: u64, at: At) {
        self.nodes[n].at = at;
        self.send(n, now, None);
    }

    /// Whether the lock is free: while it is not, that is all that is asked.
    fn looked(&mut self, n: usize, now: u64, reply: Reply) {
        let clock = self.nodes[n].clock(now);
        if let Reply::Is(record) = reply {
            let free = self.nodes[n].seen.wait(&record, clock);
            if !free.is_zero() {
                return self.again(n, now, free, record.holder.is_empty());
            }
        }
        self.read_on(n, now, At::Reading(READS));
    }

    fn step(&mut self, n: usize, now: u64, step: Step) {
        let clock = self.nodes[n].clock(now);
        match (step, self.nodes[n].at) {
            (Step::Send(call), _) => self.send(n, now, Some(call)),
            (Step::Done(Ended::Held), At::Asking) => self.read_on(n, now, At::ReadingAgain(AGAIN)),
            (Step::Done(Ended::Held), At::Keeping(0)) if self.nodes[n].claim.holds(clock, Duration::ZERO) => {
                let slot = self.nodes[n].slot;
                self.holders[slot] += 1;
                assert_eq!(self.holders[slot], 1, "two at once in slot {slot}");
                self.nodes[n].at = At::Keeping(1);
                let step = self.nodes[n].claim.keep(clock, stamp(now));
                self.step(n, now, step);
            }
            // after the commit it goes on, with or without
            (Step::Done(_), At::Keeping(1)) => self.work(n, now, false),
            (Step::Done(_), At::Giving) => {
                let slot = self.nodes[n].slot;
                self.holders[slot] -= 1;
                self.finished(n, now);
            }
            (Step::Done(Ended::Busy { wait, holder, .. }), _) => {
                self.nodes[n].seen = self.nodes[n].claim.seen().clone();
                self.again(n, now, wait, holder.is_empty());
            }
            (Step::Done(_), _) => {
                self.give_up(n, now);
                self.again(n, now, Duration::ZERO, false);
            }
        }
    }

    fn work(&mut self, n: usize, now: u64, alone: bool) {
        let work = SHORTEST_WORK + self.dice.roll(WORK_SPREAD);
        let dies = self.case.dies.is_some_and(|one_in| self.dice.roll(one_in) == 0);
        let lasts = if dies { 10_000 } else { work };
        for second in second(now)..=second(now + lasts) {
            self.working[second] += 1;
            // its request, and whether the node is Ready: two requests every two seconds (`verify::node`)
            self.requests[second] += 1;
            self.renewals += 1;
        }
        self.nodes[n].at = At::Working;
        self.nodes[n].alone = alone;
        if dies {
            // it is not there any more, so that somebody else may have its place
            self.dead += 1;
            if !alone {
                self.holders[self.nodes[n].slot] -= 1;
            }
        } else {
            self.queue.push(Reverse((now + work, n, What::Worked)));
        }
    }

    fn worked(&mut self, n: usize, now: u64) {
        if self.nodes[n].alone {
            return self.finished(n, now);
        }
        let clock = self.nodes[n].clock(now);
        self.nodes[n].at = At::Giving;
        let settle = turn::settle(Role::Worker, &self.case.policy);
        let step = self.nodes[n].claim.give(settle, clock, stamp(now));
        self.step(n, now, step);
    }

    fn finished(&mut self, n: usize, now: u64) {
        self.nodes[n].at = At::Done;
        self.renewals += if self.nodes[n].alone { 0 } else { LOCK };
        self.waited += now - (self.nodes[n].end - self.before);
        self.done.push((now, self.nodes[n].end.saturating_sub(now)));
    }

    /// A lock that was taken and is not used after all is given up; that this costs a request or two matters more than when.
    fn give_up(&mut self, n: usize, now: u64) {
        if let (At::ReadingAgain(_) | At::Keeping(_), Some(record)) =
            (self.nodes[n].at, &mut self.leases[self.nodes[n].slot])
            && record.holder == format!("w{n}")
        {
            self.version += 1;
            *record = Record { holder: String::new(), seconds: 0, version: self.version.to_string(), ..record.clone() };
            self.requests[second(now)] += 1;
        }
    }

    fn again(&mut self, n: usize, now: u64, free: Duration, settling: bool) {
        let (node, policy) = (&mut self.nodes[n], &self.case.policy);
        let end = Timestamp::from_millisecond(node.end.cast_signed()).unwrap();
        let wall = node.wall(now);
        if wall >= turn::worker_alone(&node.id, end, policy.renew.emergency_before.0) {
            self.alone += 1;
            return self.work(n, now, true);
        }
        node.at = At::Idle;
        node.attempt += 1;
        let left = Duration::try_from(end.duration_since(wall)).unwrap_or_default();
        let slack = left.saturating_sub(policy.renew.emergency_before.0);
        let wait = wait::retry(Role::Worker, &node.id, Wait { attempt: node.attempt, free, settling, slack }, policy);
        self.queue.push(Reverse((now + millis(wait), n, What::Look)));
    }

    /// What each node asks beside, as long as it is not renewed.
    fn count_own_requests(&mut self) {
        let last = self.done.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let mut until: Vec<u64> = self.done.iter().map(|(at, _)| *at).collect();
        until.resize(NODES, last);
        for end in until {
            let mut at = self.dice.roll(OWN_REQUESTS);
            while at < end {
                self.requests[second(at)] += 1;
                at += OWN_REQUESTS;
            }
        }
    }
}

fn second(ms: u64) -> usize {
    usize::try_from(ms / 1000).unwrap()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn stamp(now: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_millis(now.cast_signed())).unwrap()
}
