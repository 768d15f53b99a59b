use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::*;
use crate::model::assess::assess;
use crate::model::cert::{CertFacts, KeyAlgorithm, Raw};
use crate::model::fleet::window::Period;
use crate::model::inventory::{Content, Credential, Entry, Form, Kubelet, Node, Owner};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// A Sunday.
const NOON: &str = "2026-11-29T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    at(NOON) + SignedDuration::from_secs(seconds)
}

/// A node with leaves of kubeadm's that have so many seconds left of a year.
fn node(role: Role, leaves: &[(&str, i64)]) -> Inventory {
    let entry = |(name, left): &(&str, i64)| {
        let leaf = CertFacts {
            subject: format!("CN={name}"),
            common_name: None,
            organizations: BTreeSet::new(),
            issuer: "CN=kubernetes".to_owned(),
            serial: "01".to_owned(),
            not_before: after(left - 365 * DAY),
            not_after: after(*left),
            sans: BTreeSet::new(),
            usages: BTreeSet::new(),
            key_algorithm: KeyAlgorithm::Rsa { bits: 2048 },
            is_ca: false,
            spki: Vec::new(),
            der: Vec::new(),
            raw: Raw::default(),
            issued_here: false,
        };
        Entry {
            name: (*name).to_owned(),
            form: Form::Pair { cert: "/c".into(), key: "/k".into() },
            owner: Owner::Kubeadm,
            used_by: Vec::new(),
            signer: None,
            trusted_by: None,
            impact: String::new(),
            content: Content::Readable(Credential {
                chain: vec![leaf],
                server: None,
                context: None,
                findings: Vec::new(),
            }),
        }
    };
    let kubelet = Kubelet { rotate_certificates: true, ..Kubelet::default() };
    Inventory {
        collected_at: at(NOON),
        node: Node { role, kubelet, ..Node::default() },
        entries: leaves.iter().map(entry).collect(),
        copies: Vec::new(),
    }
}

/// Windows of two hours.
fn windows(openings: &[&str]) -> Windows {
    Windows {
        openings: openings.iter().map(|text| (text.parse().unwrap(), TimeZone::UTC)).collect(),
        lasts: Duration::from_secs(7200),
        deadline: Duration::from_secs(10 * 86_400),
        frozen: Vec::new(),
    }
}

fn timing(inventory: &Inventory, windows: Windows) -> Timing {
    Timing { windows, pause: None, role: inventory.node.role, who: Who::of("n1", "4c1e7b2a9f0d4e6b8a3c5d7e9f1b2d3c") }
}

fn decided(inventory: &Inventory, policy: &Policy, timing: &Timing) -> Decision {
    decided_at(at(NOON), inventory, policy, timing)
}

fn decided_at(now: Timestamp, inventory: &Inventory, policy: &Policy, timing: &Timing) -> Decision {
    decide(inventory, &assess(inventory, policy, now), policy, timing, now)
}

fn due(inventory: &Inventory, timing: &Timing) -> Due {
    decided(inventory, &Policy::default(), timing).due
}

fn now(names: &[&str]) -> Due {
    Due::Now(names.iter().map(|name| (*name).to_owned()).collect())
}

fn later(due: Due) -> Later {
    let Due::Later(later) = due else { panic!("it does not wait: {due:?}") };
    later
}

#[test]
fn without_windows_a_control_plane_renews_what_is_due_by_its_age_at_once() {
    let node = node(Role::ControlPlane, &[("apiserver", 30 * DAY), ("admin.conf", 31 * DAY)]);
    let decision = decided(&node, &Policy::default(), &timing(&node, windows(&[])));
    assert_eq!(decision.due, now(&["apiserver"]));
    assert_eq!(decision.threshold, DueBefore::by_age(&Policy::default()));
}

#[test]
fn what_is_not_due_waits_for_nothing_whatever_the_windows_and_a_pause_say() {
    let node = node(Role::Worker, &[("apiserver", 300 * DAY)]);
    let mut timing = timing(&node, windows(&["Sat 02:00"]));
    assert_eq!(due(&node, &timing), Due::Nothing);
    timing.pause = Some(Pause::new(at(NOON), None, "network"));
    assert_eq!(due(&node, &timing), Due::Nothing);
}

#[test]
fn what_is_excluded_is_neither_renewed_nor_waited_for() {
    let node = node(Role::ControlPlane, &[("apiserver", 20 * DAY)]);
    let mut policy = Policy::default();
    policy.renew.exclude = vec!["apiserver".to_owned()];
    for openings in [&[][..], &["Sat 02:00"]] {
        assert_eq!(decided(&node, &policy, &timing(&node, windows(openings))).due, Due::Nothing);
    }
}

#[test]
fn a_worker_comes_after_the_control_planes_at_a_time_of_its_own() {
    let node = node(Role::Worker, &[("apiserver", 30 * DAY)]);
    let timing = timing(&node, windows(&[]));
    let (policy, waits) = (Policy::default(), later(due(&node, &timing)));
    let delay = turn::delay(Role::Worker, &timing.who, &policy);
    assert_eq!((waits.names.as_slice(), waits.until), (&["apiserver".to_owned()][..], at(NOON) + delay));
    assert!(waits.why.contains("not yet by the time given to this node: apiserver"), "{}", waits.why);
    let mut alone = policy;
    alone.fleet.lock = Lock::Off;
    assert_eq!(decided(&node, &alone, &timing).due, now(&["apiserver"]), "where nobody shares, nobody waits");
}

#[test]
fn outside_of_the_windows_what_is_due_waits_for_the_next_and_an_emergency_does_not() {
    let late = node(Role::ControlPlane, &[("apiserver", 20 * DAY)]);
    let timing = timing(&late, windows(&["Sat 02:00"]));
    let waits = later(due(&late, &timing));
    let (opens, quarter) = (at("2026-12-05T02:00:00Z"), SignedDuration::from_mins(30));
    assert!(waits.until >= opens && waits.until <= opens + quarter, "{waits:?}");
    assert!(waits.why.contains("outside of the maintenance windows"), "{waits:?}");
    let urgent = node(Role::ControlPlane, &[("apiserver", 2 * DAY), ("admin.conf", 20 * DAY)]);
    assert_eq!(due(&urgent, &timing), now(&["apiserver"]), "and nothing that has time");
}

#[test]
fn in_a_window_everything_is_due_that_would_not_last_until_the_one_after_it() {
    let node = node(Role::ControlPlane, &[("apiserver", 39 * DAY), ("admin.conf", 41 * DAY)]);
    // the next opens in a month, and ten days are to be left then
    let decision = decided(&node, &Policy::default(), &timing(&node, windows(&["*-*-29 11:30"])));
    assert_eq!(decision.due, now(&["apiserver"]));
    assert_eq!(decision.threshold.next_window, Some(Span::secs((30 * DAY - HOUR / 2).unsigned_abs())));
    // the next opens in a week
    let weekly = timing(&node, windows(&["Sun 11:30"]));
    assert_eq!(due(&node, &weekly), Due::Nothing);
}

#[test]
fn a_worker_waits_for_its_place_in_an_open_window_and_not_in_an_emergency() {
    let (late, policy) = (node(Role::Worker, &[("apiserver", 10 * DAY)]), Policy::default());
    let mut timing = timing(&late, windows(&["Sun 12:00"]));
    timing.windows.lasts = policy.windows.duration.0;
    let place = at(NOON) + turn::into_window(Role::Worker, &timing.who, &policy);
    let waits = later(due(&late, &timing));
    assert!(place > at(NOON) && waits.until == place, "{waits:?}");
    assert!(waits.why.contains("this node's place in the maintenance window"), "{waits:?}");
    assert_eq!(decided_at(place, &late, &policy, &timing).due, now(&["apiserver"]), "then it is its turn");
    let urgent = node(Role::Worker, &[("apiserver", 2 * DAY)]);
    assert_eq!(due(&urgent, &timing), now(&["apiserver"]));
}

#[test]
fn a_frozen_period_and_a_pause_say_why_and_until_when() {
    let node = node(Role::ControlPlane, &[("apiserver", 20 * DAY)]);
    let mut frozen = timing(&node, windows(&[]));
    frozen.windows.frozen = vec![Period { from: after(-DAY), to: after(DAY) }];
    let waits = later(due(&node, &frozen));
    assert!(waits.why.contains("frozen period") && waits.until >= after(DAY), "{waits:?}");
    let mut paused = timing(&node, windows(&[]));
    paused.pause = Some(Pause::new(at(NOON), Some(after(HOUR)), "network"));
    let waits = later(due(&node, &paused));
    assert!(waits.why.contains("paused") && waits.until == after(HOUR), "{waits:?}");
    paused.pause = Some(Pause::new(at(NOON), None, "network"));
    assert_eq!(later(due(&node, &paused)).until, after(DAY), "checked again, should nobody resume");
}

#[test]
fn only_a_pause_that_is_meant_for_it_holds_in_an_emergency() {
    let node = node(Role::ControlPlane, &[("apiserver", 2 * DAY)]);
    let mut timing = timing(&node, windows(&[]));
    timing.pause = Some(Pause::new(at(NOON), Some(after(HOUR)), "network"));
    assert_eq!(due(&node, &timing), now(&["apiserver"]));
    timing.pause = timing.pause.map(|pause| pause.hard(true));
    assert_eq!(later(due(&node, &timing)).until, after(HOUR));
}

#[test]
fn how_bad_it_is_does_not_depend_on_when_a_node_may_act() {
    let node = node(Role::Worker, &[("apiserver", 29 * DAY)]);
    let by_age = assess(&node, &Policy::default(), at(NOON));
    for openings in [&[][..], &["Sat 02:00"], &["Sun 11:30"]] {
        let decision = decided(&node, &Policy::default(), &timing(&node, windows(openings)));
        let moved = by_age.clone().by(&decision.threshold, &node);
        assert_eq!(moved.verdict, by_age.verdict);
        assert_eq!(moved.entries[0].severity, by_age.entries[0].severity);
        assert!(by_age.entries[0].due);
    }
}
