use proptest::prelude::*;

use super::*;

const LASTS: Duration = Duration::from_secs(100);
const SETTLE: Duration = Duration::from_secs(20);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The API server: one object, and all that it ever was.
#[derive(Debug, Default)]
struct Server {
    past: Vec<Record>,
}

impl Server {
    fn obey(&mut self, call: &Call) -> Reply {
        let now = self.past.last().cloned();
        let (wanted, new) = match (call, now) {
            (Call::Get | Call::Update(_), None) => return Reply::Absent,
            (Call::Get, Some(record)) => return Reply::Is(record),
            (Call::Create(_), Some(_)) => return Reply::Conflict,
            (Call::Create(new), None) => (String::new(), new),
            (Call::Update(new), Some(now)) => (now.version, new),
        };
        if new.version != wanted {
            return Reply::Conflict;
        }
        self.past.push(Record { version: format!("v{}", self.past.len()), ..new.clone() });
        Reply::Is(self.past.last().unwrap().clone())
    }
}

/// Drives a goal to its end over a server that errs never.
fn drive(claim: &mut Claim, server: &mut Server, mut step: Step, clock: Duration) -> Ended {
    loop {
        match step {
            Step::Done(ended) => return ended,
            Step::Send(call) => {
                let reply = server.obey(&call);
                step = claim.on(&call, reply, clock);
            }
        }
    }
}

fn agent(name: &str) -> Claim {
    Claim::new(name, LASTS, Seen::default())
}

fn take(claim: &mut Claim, server: &mut Server, clock: Duration) -> Ended {
    let step = claim.take(clock, Timestamp::UNIX_EPOCH);
    drive(claim, server, step, clock)
}

fn keep(claim: &mut Claim, server: &mut Server, clock: Duration) -> Ended {
    let step = claim.keep(clock, Timestamp::UNIX_EPOCH);
    drive(claim, server, step, clock)
}

fn give(claim: &mut Claim, server: &mut Server, clock: Duration) -> Ended {
    let step = claim.give(SETTLE, clock, Timestamp::UNIX_EPOCH);
    drive(claim, server, step, clock)
}

#[test]
fn a_lock_that_nobody_has_is_made_and_a_second_agent_has_to_wait() {
    let (mut server, mut a, mut b) = (Server::default(), agent("a"), agent("b"));
    assert_eq!(take(&mut a, &mut server, secs(10)), Ended::Held);
    assert!(a.holds(secs(20), secs(30)));
    let busy = Ended::Busy { holder: "a".into(), last: String::new(), transitions: 1, wait: LASTS };
    assert_eq!(take(&mut b, &mut server, secs(5000)), busy, "its clock is its own");
    assert_eq!(server.past.last().unwrap().transitions, 1);
}

#[test]
fn after_a_release_others_wait_until_the_cluster_has_settled_and_the_releaser_need_not() {
    let (mut server, mut a, mut b) = (Server::default(), agent("a"), agent("b"));
    take(&mut a, &mut server, secs(0));
    assert_eq!(give(&mut a, &mut server, secs(1)), Ended::Given);
    assert!(!a.holds(secs(1), secs(0)));
    let settling = Ended::Busy { holder: String::new(), last: "a".into(), transitions: 1, wait: SETTLE };
    assert_eq!(take(&mut b, &mut server, secs(50)), settling);
    assert!(matches!(take(&mut b, &mut server, secs(69)), Ended::Busy { .. }));
    assert_eq!(take(&mut b.clone(), &mut server, secs(70)), Ended::Held);
    let mut server = Server { past: server.past[..2].to_vec() };
    assert_eq!(take(&mut a, &mut server, secs(2)), Ended::Held, "the next transaction of the same node");
}

#[test]
fn a_dead_holder_blocks_for_as_long_as_its_record_says_and_no_longer() {
    let (mut server, mut a, mut b) = (Server::default(), agent("a"), agent("b"));
    take(&mut a, &mut server, secs(0));
    assert!(matches!(take(&mut b, &mut server, secs(0)), Ended::Busy { .. }));
    assert!(matches!(take(&mut b, &mut server, secs(99)), Ended::Busy { .. }));
    assert_eq!(take(&mut b, &mut server, secs(100)), Ended::Held);
    assert_eq!(keep(&mut a, &mut server, secs(101)), Ended::Lost { holder: "b".into() }, "it comes back too late");
    assert!(!a.holds(secs(101), Duration::ZERO));
}

#[test]
fn a_holder_relies_on_the_lock_for_less_time_than_others_wait() {
    let (mut server, mut a) = (Server::default(), agent("a"));
    take(&mut a, &mut server, secs(0));
    assert!(a.holds(secs(89), Duration::ZERO));
    assert!(!a.holds(secs(90), Duration::ZERO));
    assert!(!a.holds(secs(60), secs(30)), "what it is needed for has to end in time");
}

#[test]
fn a_renewal_without_an_answer_takes_nothing_away_of_the_time_that_is_left() {
    let (mut server, mut a) = (Server::default(), agent("a"));
    take(&mut a, &mut server, secs(0));
    let mut step = a.keep(secs(10), Timestamp::UNIX_EPOCH);
    while let Step::Send(call) = step {
        step = a.on(&call, Reply::Silence("no answer".into()), secs(20));
    }
    assert!(matches!(step, Step::Done(Ended::Unknown(_))));
    assert!(a.holds(secs(89), Duration::ZERO) && !a.holds(secs(90), Duration::ZERO), "nobody can have it before");
    let mut b = agent("b");
    take(&mut b, &mut server, secs(0));
    assert_eq!(take(&mut b, &mut server, secs(100)), Ended::Held);
    assert_eq!(keep(&mut a, &mut server, secs(30)), Ended::Lost { holder: "b".into() });
    assert!(!a.holds(secs(31), Duration::ZERO));
}

#[test]
fn a_process_that_was_restarted_knows_its_lock_again() {
    let (mut server, mut a) = (Server::default(), agent("a"));
    take(&mut a, &mut server, secs(0));
    let mut again = agent("a");
    assert!(!again.holds(secs(1), Duration::ZERO), "not before a write of its own was answered");
    assert_eq!(keep(&mut again, &mut server, secs(1)), Ended::Held);
    assert_eq!(server.past.last().unwrap().transitions, 1, "it is the same tenure");
}

#[test]
fn who_takes_the_lock_over_takes_it_from_the_holder_that_was_meant_and_from_nobody_who_came_since() {
    let (mut server, mut a, mut b, mut c) = (Server::default(), agent("a"), agent("b"), agent("c"));
    take(&mut a, &mut server, secs(0));
    let seize = |claim: &mut Claim, server: &mut Server, transitions| {
        let step = claim.seize(transitions, secs(1), Timestamp::UNIX_EPOCH);
        drive(claim, server, step, secs(1))
    };
    assert_eq!(seize(&mut b, &mut server, 1), Ended::Held);
    assert!(b.holds(secs(1), Duration::ZERO));
    assert_eq!(keep(&mut a, &mut server, secs(2)), Ended::Lost { holder: "b".into() });
    assert!(matches!(seize(&mut c, &mut server, 1), Ended::Busy { transitions: 2, .. }));
}

#[test]
fn a_lock_that_is_deleted_while_it_is_held_is_free_for_nobody_who_has_seen_it_and_its_holder_makes_it_again() {
    let (mut server, mut a, mut b) = (Server::default(), agent("a"), agent("b"));
    take(&mut a, &mut server, secs(0));
    take(&mut b, &mut server, secs(10));
    server.past.clear();
    let held = Ended::Busy { holder: "a".into(), last: String::new(), transitions: 1, wait: secs(80) };
    assert_eq!(take(&mut b, &mut server, secs(30)), held);
    assert_eq!(keep(&mut a, &mut server, secs(40)), Ended::Held);
    assert_eq!(server.past.last().unwrap().transitions, 1, "it is the same tenure");
    // after its end it is another's, and not made again by who had it
    server.past.clear();
    assert_eq!(take(&mut b, &mut server, secs(200)), Ended::Held);
    server.past.clear();
    assert_eq!(keep(&mut a, &mut server, secs(210)), Ended::Lost { holder: String::new() });
}

#[test]
fn a_record_that_claims_a_year_blocks_for_an_hour() {
    let forged = Record { holder: "evil".into(), seconds: u32::MAX, version: "v0".into(), ..Record::default() };
    let (mut server, mut b) = (Server { past: vec![forged] }, agent("b"));
    assert!(matches!(take(&mut b, &mut server, secs(0)), Ended::Busy { wait: LONGEST, .. }));
    assert_eq!(take(&mut b, &mut server, LONGEST), Ended::Held);
}

#[test]
fn a_server_that_only_errs_is_given_up() {
    let mut a = agent("a");
    let mut step = a.take(secs(0), Timestamp::UNIX_EPOCH);
    let mut calls = 0;
    while let Step::Send(call) = step {
        calls += 1;
        step = a.on(&call, Reply::Silence("no answer".into()), secs(calls));
    }
    assert_eq!((step, calls), (Step::Done(Ended::Unknown("no answer".into())), 4));
}

/// An agent in the storm, its clock and what is on its way.
struct Sailor {
    claim: Claim,
    /// Its clock: offset, and thousandths that it goes fast or slow.
    offset: u64,
    rate: u64,
    /// A request without an answer yet; `done`: the answer that will come.
    waits: Option<(Call, Option<Reply>)>,
    ended: Option<Ended>,
}

impl Sailor {
    fn clock(&self, real: u64) -> Duration {
        Duration::from_millis(self.offset + real * self.rate / 1000)
    }

    fn go(&mut self, step: Step) {
        match step {
            Step::Send(call) => self.waits = Some((call, None)),
            Step::Done(ended) => self.ended = Some(ended),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Agents with clocks that differ and drift by up to 5 %, requests that are lost, come twice or come late, replies that are
    /// lost, reads of any past, pauses of any length: whoever finds that it holds the lock acts, and between two
    /// acts of one tenure nobody else acts.
    #[test]
    fn at_most_one_holder_acts(
        clocks in prop::collection::vec((0_u64..10_000_000, 950_u64..1050), 2..5),
        storm in prop::collection::vec((0_usize..5, 0_u8..14, 0_u64..30_000, 0_usize..8), 50..400),
    ) {
        let mut server = Server::default();
        let mut late: Vec<Call> = Vec::new();
        let mut sailors: Vec<Sailor> = clocks.iter().enumerate().map(|(i, (offset, rate))| Sailor {
            claim: Claim::new(format!("n{i}"), LASTS, Seen::default()),
            offset: *offset, rate: *rate, waits: None, ended: None,
        }).collect();
        let mut real = 0;
        let mut acts: Vec<(usize, u32)> = Vec::new();
        for (who, what, pass, pick) in storm {
            // mostly short steps; now and then a pause longer than any lease
            real += if pass > 29_000 { 150_000 } else { pass };
            let who = who % sailors.len();
            let clock = sailors[who].clock(real);
            let sailor = &mut sailors[who];
            match (what, sailor.waits.take()) {
                // the request arrives, once or twice, or is late
                (0..=3, Some((call, None))) => {
                    let reply = server.obey(&call);
                    if what == 3 { server.obey(&call); }
                    sailor.waits = Some((call, Some(reply)));
                }
                (4, Some((call, None))) => {
                    late.push(call.clone());
                    let step = sailor.claim.on(&call, Reply::Silence("late".into()), clock);
                    sailor.go(step);
                }
                // a read of any past
                (5, Some((Call::Get, None))) if !server.past.is_empty() => {
                    let old = server.past[pick % server.past.len()].clone();
                    let step = sailor.claim.on(&Call::Get, Reply::Is(old), clock);
                    sailor.go(step);
                }
                // the answer arrives, or is lost
                (6..=10, Some((call, Some(reply)))) => {
                    let step = sailor.claim.on(&call, reply, clock);
                    sailor.go(step);
                }
                (11, Some((call, Some(_)))) => {
                    let step = sailor.claim.on(&call, Reply::Silence("lost".into()), clock);
                    sailor.go(step);
                }
                (12, None) if !late.is_empty() => { let call = late.remove(pick % late.len()); server.obey(&call); }
                (_, None) => {
                    if sailor.claim.holds(clock, Duration::ZERO) {
                        acts.push((who, sailor.claim.tenure.unwrap().0));
                    }
                    let now = Timestamp::UNIX_EPOCH;
                    let step = match (sailor.ended.take(), pick % 4) {
                        (Some(Ended::Held), 0) => sailor.claim.give(SETTLE, clock, now),
                        (Some(Ended::Held), _) => sailor.claim.keep(clock, now),
                        // a restart, which forgets everything but its name
                        (_, 3) => { sailor.claim = Claim::new(format!("n{who}"), LASTS, Seen::default()); sailor.claim.keep(clock, now) }
                        _ => sailor.claim.take(clock, now),
                    };
                    sailor.go(step);
                }
                (_, waits) => sailor.waits = waits,
            }
        }
        // tenures count up with every change of holder: an act of an older one after a newer one is a second holder
        for pair in acts.windows(2) {
            prop_assert!(pair[0].1 <= pair[1].1, "{:?} acts after {:?}", pair[1], pair[0]);
            prop_assert!(pair[0].1 != pair[1].1 || pair[0].0 == pair[1].0, "two holders of one tenure: {:?}", pair);
        }
    }
}
