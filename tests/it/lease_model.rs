//! The turns of three control planes, in every interleaving: an explicit model of agents, of the API server between them and of
//! what may befall them, explored to its end. Never do two control planes restart at once, never two members of etcd,
//! nobody begins in ignorance of another's harm, and all are done in time, on every path. Then each guard is taken out, and
//! the search must find what it was there for.
//!
//! What is real: the deciding code of `model::fleet`, that is the lock's state machine with what it remembers (`lease`,
//! `seen`), the slots of time (`slot`), who the peers are (`peers`), for how long others are waited for (`wait::patience`).
//! What is modelled, after the code and in the same order: what `fleet` and the engine do with these answers (`step`,
//! `turn`), the API server (`server`), faults (`world`, `fault`).
//!
//! What is left out:
//! - Time goes in ticks of a quarter of the lock's duration. Within a tick anything comes in any order, and everybody does what
//!   is due: who does not is paused, which is a fault. Waits have no jitter.
//! - A look at the cluster is one step, with the first question about the lock (but in the cases that are about what comes
//!   between). So is telling of harm, and so are the answer to the last question and the commit: no Lease can bind who is paused
//!   between these.
//! - Who is paused or down after the commit for longer than the lock lasts goes on when it is back, as docs/fleet.md says; so
//!   crashes last a tick, and control planes are paused before the commit only (etcd's members at any time).
//! - The Lease is deleted, and etcd restored, when everybody who may act has seen who has the lock.
//! - Faults are few: each case has its kinds and their number. Workers, windows, pauses by people, maintenance are not in it.
//!
//! CI explores two nodes of the three where there are faults; `CERTWARDEN_TORTURE=1` (`make torture`) all, and writes the rows of
//! `docs/reliability.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod agent;
mod case;
mod cases;
mod fault;
mod rules;
mod search;
mod server;
mod step;
mod turn;
mod work;
mod world;

use crate::pages::reliability;
use case::{Case, Guard};
use search::{Found, search};

/// No case is so large: one that is says so.
const MOST: u64 = 3_000_000;

fn whole() -> bool {
    std::env::var_os("CERTWARDEN_TORTURE").is_some()
}

fn explore(case: Case, without: Option<Guard>) -> Found {
    let found = search(&rules::Rules::new(case, without), MOST);
    let guard = without.map_or_else(String::new, |guard| format!("without {guard:?}: "));
    println!("{guard}{}: {} states, {} ticks, {:.1?}", case.name, found.states, found.longest, found.took);
    assert!(found.states < MOST, "{}: there are more than {MOST} states", case.name);
    found
}

fn row(section: &str, what: String, found: &Found, note: String) -> reliability::Row {
    let (tried, bad) = (Some(found.states), Some(u64::from(found.violation.is_some())));
    reliability::Row { section: section.to_owned(), what, tried, bad, note }
}

fn nothing_happens(name: &str, when: &str, all: &[Case]) {
    let mut rows = Vec::new();
    for case in all {
        let case = if whole() { *case } else { cases::sampled(*case) };
        let found = explore(case, None);
        if let Some(violation) = &found.violation {
            panic!("{when}: {}: {violation}", case.name);
        }
        let note =
            format!("all done after {} ticks at most; {:.0} s", found.longest + 1, found.took.as_secs_f64().ceil());
        rows.push(row("turn", format!("{when}: {}", case.name), &found, note));
    }
    reliability::record(name, whole(), &rows);
}

#[test]
fn with_weeks_left_one_control_plane_acts_at_a_time_in_every_interleaving_and_all_are_done() {
    nothing_happens("turn-calm", "weeks left", cases::CALM);
}

#[test]
fn in_an_emergency_one_control_plane_acts_at_a_time_in_every_interleaving_and_all_are_done() {
    nothing_happens("turn-urgent", "emergency", cases::URGENT);
}

#[test]
fn a_guard_that_is_taken_out_is_missed() {
    let (mut rows, mut missed_by_nobody) = (Vec::new(), Vec::new());
    for (guard, what, case) in cases::GUARDS {
        let case = cases::sampled(*case);
        assert!(explore(case, None).violation.is_none(), "{guard:?}: with it in its place, too");
        let found = explore(case, Some(*guard));
        let Some(violation) = &found.violation else {
            missed_by_nobody.push(*guard);
            continue;
        };
        let note = format!("{}, in {} steps", violation.what, violation.steps());
        rows.push(row("turn-guard", (*what).to_owned(), &found, note));
    }
    assert_eq!(missed_by_nobody, []);
    reliability::record("turn-guards", whole(), &rows);
}

/// These are said in docs/fleet.md. Whoever removes one of them is told to move it up.
#[test]
fn what_no_guard_prevents_is_what_the_documentation_says() {
    for case in cases::LIMITS {
        let found = explore(*case, None);
        assert!(found.violation.is_some(), "{}: nothing happens any more; it belongs to the other cases", case.name);
        println!("{}", found.violation.unwrap());
    }
}
