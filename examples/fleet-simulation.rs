//! Five thousand workers whose certificates were born in the same hour, on the code that decides in earnest (`model::fleet`): who asks
//! when, who waits, who acts. Writes the figures into `docs/fleet.md` and the plot beside it.
//!
//!     cargo run --example fleet-simulation
//!
//! The API server answers each request after a random time; one in a hundred requests or answers is lost; clocks differ
//! by hours and drift; for an hour every fifth node reaches nobody.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people"
)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixels and counts")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Ended, Record, Reply, Seen, Step};
use certwarden::model::fleet::turn;
use certwarden::model::inventory::Role;
use certwarden::model::policy::{Policy, Span};
use certwarden::model::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};

const NODES: usize = 5_000;
/// All certificates were born within this time, ms.
const BORN_WITHIN: u64 = 3_600_000;
/// Reads before the lock is asked for: notes, the control planes' lock, the own Node, kured (`txn::cluster::look`).
const READS: u8 = 4;
/// A worker's transaction, ms: request, restart of the kubelet, Ready again.
const SHORTEST_WORK: u64 = 40_000;
const WORK_SPREAD: u64 = 50_000;
/// Nobody answers a lost request; the limit of the asker, ms.
const TIMEOUT: u64 = 5_000;
/// From when to when every fifth node reaches nobody, ms since the first is due.
const PARTITION: (u64, u64) = (30 * 3_600_000, 31 * 3_600_000);
/// Longer than any run.
const END: u64 = 60 * 86_400_000;

/// `SplitMix64`: the same run each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    /// Mostly some tens of milliseconds, now and then seconds: a new TLS connection for each request.
    fn latency(&mut self) -> u64 {
        let usual = 20 + self.roll(80);
        if self.roll(50) == 0 { usual + self.roll(2_000) } else { usual }
    }
}

/// What a node is at.
#[derive(Clone, Copy, Eq, PartialEq)]
enum At {
    Idle,
    Reading(u8),
    Asking,
    Keeping,
    Working,
    Giving,
    Done,
}

struct Node {
    id: String,
    slot: usize,
    offset: u64,
    rate: u64,
    born: u64,
    claim: Claim,
    at: At,
    attempt: u64,
    sent: Option<Call>,
    serial: u64,
}

impl Node {
    fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.offset + now / 1_000_000 * self.rate + now % 1_000_000 * self.rate / 1_000_000)
    }
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    Look,
    Arrives(u64),
    Answered(u64),
    Lost(u64),
    Worked,
}

struct World {
    policy: Policy,
    dice: Dice,
    nodes: Vec<Node>,
    leases: Vec<Option<Record>>,
    version: u64,
    answers: Vec<Option<Reply>>,
    queue: BinaryHeap<Reverse<(u64, usize, What)>>,
    /// Requests in each second, and nodes at work in it, at most.
    requests: Vec<u32>,
    working: Vec<u16>,
    at_work: u16,
    done: Vec<u64>,
    holders: Vec<u16>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let mut dice = Dice(42);
        let slots = usize::try_from(policy.fleet.workers_at_once).unwrap();
        let lasts = policy.fleet.lease_duration.0;
        let nodes = (0..NODES).map(|n| {
            let id = format!("{:016x}{:016x}", dice.roll(u64::MAX), n);
            Node {
                slot: usize::try_from(turn::slot(&id, slots as u64)).unwrap(),
                claim: Claim::new(format!("w{n}"), lasts, Seen::default()),
                id,
                offset: dice.roll(36_000_000),
                rate: 999_000 + dice.roll(2_000),
                born: dice.roll(BORN_WITHIN),
                at: At::Idle,
                attempt: 0,
                sent: None,
                serial: 0,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let seconds = usize::try_from(END / 1000).unwrap();
        let mut world = Self {
            dice,
            leases: vec![None; slots],
            version: 0,
            answers: vec![None; NODES],
            queue: BinaryHeap::new(),
            requests: vec![0; seconds + 60],
            working: vec![0; seconds + 60],
            at_work: 0,
            done: Vec::new(),
            holders: vec![0; slots],
            policy,
            nodes,
        };
        for n in 0..NODES {
            let due = world.nodes[n].born + millis(turn::delay(Role::Worker, &world.nodes[n].id, &world.policy));
            world.look_after(n, due);
        }
        world
    }

    /// The daemon's own rhythm: the first look at or after `due`.
    fn look_after(&mut self, n: usize, due: u64) {
        let schedule = Schedule::new(self.policy.check.interval, &self.nodes[n].id);
        let at = schedule.next(Timestamp::from_millisecond(due as i64).unwrap()).as_millisecond();
        self.queue.push(Reverse((at as u64 + self.dice.roll(1000), n, What::Look)));
    }

    fn run(&mut self) {
        while let Some(Reverse((now, n, what))) = self.queue.pop() {
            if now >= END || self.done.len() == NODES {
                break;
            }
            match what {
                What::Look if self.nodes[n].at == At::Idle => {
                    self.nodes[n].at = At::Reading(READS);
                    self.send(n, now, Call::Get);
                }
                What::Arrives(serial) if self.nodes[n].serial == serial => self.arrives(n, now, serial),
                What::Answered(serial) if self.nodes[n].serial == serial => {
                    let reply = self.answers[n].take().unwrap_or(Reply::Silence(String::new()));
                    self.goes_on(n, now, reply);
                }
                What::Lost(serial) if self.nodes[n].serial == serial => {
                    self.goes_on(n, now, Reply::Silence("lost".to_owned()));
                }
                What::Worked => {
                    let clock = self.nodes[n].clock(now);
                    self.nodes[n].at = At::Giving;
                    let settle = turn::settle(Role::Worker, &self.policy);
                    let step = self.nodes[n].claim.give(settle, clock, stamp(now));
                    self.step(n, now, step);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, n: usize, now: u64, call: Call) {
        self.nodes[n].serial += 1;
        let serial = self.nodes[n].serial;
        self.nodes[n].sent = Some(call);
        let cut = n % 5 == 0 && (PARTITION.0..PARTITION.1).contains(&now);
        if !cut {
            let travels = self.dice.latency() / 2;
            if self.dice.roll(200) != 0 {
                self.queue.push(Reverse((now + travels, n, What::Arrives(serial))));
            }
        }
        self.queue.push(Reverse((now + TIMEOUT, n, What::Lost(serial))));
    }

    fn arrives(&mut self, n: usize, now: u64, serial: u64) {
        self.requests[(now / 1000) as usize] += 1;
        let Some(call) = self.nodes[n].sent.clone() else { return };
        let slot = self.nodes[n].slot;
        let reply = match (&call, &self.leases[slot]) {
            _ if matches!(self.nodes[n].at, At::Reading(_)) => Reply::Absent,
            (Call::Get, Some(record)) => Reply::Is(record.clone()),
            (Call::Get | Call::Update(_), None) => Reply::Absent,
            (Call::Create(_), Some(_)) => Reply::Conflict,
            (Call::Update(new), Some(old)) if new.version != old.version => Reply::Conflict,
            (Call::Create(new) | Call::Update(new), _) => {
                self.version += 1;
                let record = Record { version: self.version.to_string(), ..new.clone() };
                self.leases[slot] = Some(record.clone());
                Reply::Is(record)
            }
        };
        self.answers[n] = Some(reply);
        if self.dice.roll(200) != 0 {
            let travels = self.dice.latency() / 2;
            self.queue.push(Reverse((now + travels, n, What::Answered(serial))));
        }
    }

    fn goes_on(&mut self, n: usize, now: u64, reply: Reply) {
        self.nodes[n].serial += 1; // neither a second answer nor the limit counts any more
        let clock = self.nodes[n].clock(now);
        match (self.nodes[n].at, reply) {
            (At::Reading(_), Reply::Silence(_)) => self.again(n, now, Duration::ZERO, false),
            (At::Reading(1), _) => {
                self.nodes[n].at = At::Asking;
                let step = self.nodes[n].claim.take(clock, stamp(now));
                self.step(n, now, step);
            }
            (At::Reading(left), _) => {
                self.nodes[n].at = At::Reading(left - 1);
                self.send(n, now, Call::Get);
            }
            (_, reply) => {
                let Some(call) = self.nodes[n].sent.take() else { return };
                let step = self.nodes[n].claim.on(&call, reply, clock);
                self.step(n, now, step);
            }
        }
    }

    fn step(&mut self, n: usize, now: u64, step: Step) {
        let clock = self.nodes[n].clock(now);
        match (step, self.nodes[n].at) {
            (Step::Send(call), _) => self.send(n, now, call),
            (Step::Done(Ended::Held), At::Asking) => {
                self.nodes[n].at = At::Keeping; // before the commit
                let step = self.nodes[n].claim.keep(clock, stamp(now));
                self.step(n, now, step);
            }
            (Step::Done(Ended::Held), At::Keeping) if self.nodes[n].claim.holds(clock, Duration::ZERO) => {
                self.nodes[n].at = At::Working;
                let slot = self.nodes[n].slot;
                self.holders[slot] += 1;
                assert_eq!(self.holders[slot], 1, "two at once in slot {slot}");
                let work = SHORTEST_WORK + self.dice.roll(WORK_SPREAD);
                self.at_work += 1;
                for second in now / 1000..=(now + work) / 1000 {
                    self.working[second as usize] += 1;
                }
                self.queue.push(Reverse((now + work, n, What::Worked)));
            }
            (Step::Done(_), At::Giving) => {
                let slot = self.nodes[n].slot;
                self.holders[slot] -= 1;
                self.at_work -= 1;
                self.nodes[n].at = At::Done;
                self.done.push(now);
            }
            (Step::Done(Ended::Busy { wait, holder, .. }), _) => self.again(n, now, wait, holder.is_empty()),
            (Step::Done(_), _) => self.again(n, now, Duration::ZERO, false),
        }
    }

    fn again(&mut self, n: usize, now: u64, wait: Duration, settling: bool) {
        let node = &mut self.nodes[n];
        node.at = At::Idle;
        node.attempt += 1;
        let wait = turn::retry(Role::Worker, &node.id, node.attempt, wait, settling, &self.policy);
        self.queue.push(Reverse((now + millis(wait), n, What::Look)));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn stamp(now: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_millis(now as i64)).unwrap()
}

/// One run's figures.
struct Figures {
    slots: u64,
    mean: f64,
    peak: u32,
    at_work: u16,
    last: f64,
    each: f64,
    renewed: usize,
}

fn figures(world: &World) -> Figures {
    let last = *world.done.last().unwrap_or(&END);
    let first = world.requests.iter().position(|r| *r > 0).unwrap_or(0);
    let seconds = (last / 1000) as usize - first + 1;
    let total: u64 = world.requests.iter().map(|r| u64::from(*r)).sum();
    Figures {
        slots: world.policy.fleet.workers_at_once,
        mean: total as f64 / seconds as f64,
        peak: world.requests.iter().max().copied().unwrap_or(0),
        at_work: world.working.iter().max().copied().unwrap_or(0),
        last: last as f64 / 86_400_000.0,
        each: total as f64 / NODES as f64,
        renewed: world.done.len(),
    }
}

fn main() {
    let mut rows = String::new();
    for slots in [25, 10, 1] {
        let mut policy = Policy::default();
        policy.fleet.workers_at_once = slots;
        policy.fleet.lease_duration =
            Span(policy.fleet.lease_duration.0.max(policy.verify.timeout.0 * 2 + Duration::from_secs(60)));
        let mut world = World::new(policy);
        world.run();
        let f = figures(&world);
        let row = format!(
            "| {} | {} of {NODES} | {:.1} days | {:.2} | {} | {} ({:.2} %) | {:.0} |",
            f.slots,
            f.renewed,
            f.last,
            f.mean,
            f.peak,
            f.at_work,
            f64::from(f.at_work) * 100.0 / NODES as f64,
            f.each
        );
        println!("{row}");
        let _ = writeln!(rows, "{row}");
        if slots == 25 {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.svg"), plot(&world)).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- simulation -->\n", "<!-- end of simulation -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let title = "| workers at once | renewed | the last one after | requests/s, mean | peak | at work in one second, most | requests for each node |\n|---|---|---|---|---|---|---|\n";
    std::fs::write(path, format!("{head}{begin}{title}{rows}{end}{tail}")).unwrap();
}

/// Three curves over time: requests in the busiest second of each quarter of an hour, nodes at work, nodes renewed.
fn plot(world: &World) -> String {
    const QUARTER: usize = 900;
    let last = (*world.done.last().unwrap_or(&1000) / 1000) as usize + QUARTER;
    let (width, height) = (860.0, 130.0);
    let most =
        |counts: &[u32]| counts.chunks(QUARTER).map(|c| c.iter().max().copied().unwrap_or(0)).collect::<Vec<u32>>();
    let working: Vec<u32> = world.working.iter().map(|w| u32::from(*w)).collect();
    let mut renewed = vec![0; last / QUARTER + 1];
    for at in &world.done {
        renewed[(*at / 1000) as usize / QUARTER] += 1;
    }
    let total = renewed
        .iter()
        .scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        })
        .collect();
    let curves = [
        ("requests in the busiest second of each quarter of an hour (limit: 20)", most(&world.requests[..last]), 20),
        ("nodes at work, at most (limit: 1 % = 50)", most(&working[..last]), 50),
        ("nodes renewed", total, NODES as u32),
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"940\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        3 * 190 + 30
    );
    for (i, (title, values, scale)) in curves.iter().enumerate() {
        let top = 30.0 + 190.0 * i as f64;
        let x = |n: usize| 50.0 + width * n as f64 / values.len() as f64;
        let y = |v: u32| top + height - height * f64::from(v) / f64::from(*scale);
        let points: Vec<String> = values.iter().enumerate().map(|(n, v)| format!("{:.1},{:.1}", x(n), y(*v))).collect();
        let _ = writeln!(svg, "<text x=\"50\" y=\"{}\">{title}</text>", top - 8.0);
        let _ = writeln!(
            svg,
            "<rect x=\"50\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#bbb\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"45\" y=\"{}\" text-anchor=\"end\">{scale}</text><text x=\"45\" y=\"{}\" text-anchor=\"end\">0</text>",
            top + 5.0,
            top + height
        );
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"#1f5fa8\" points=\"{}\"/>", points.join(" "));
        for day in 0..=last / 86_400 {
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">{day} d</text>",
                x(day * 96),
                top + height + 15.0
            );
        }
    }
    svg + "</svg>\n"
}
