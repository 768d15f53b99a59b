//! Control planes whose certificates end within days: when one goes without the lock, and when it takes it over.

use std::time::Duration;

use crate::fake;
use crate::support;
use certwarden::model::fleet::slot::Slots;
use certwarden::model::gate::Gate;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Span;
use certwarden::model::report::{Outcome, Report};
use fake::World;
use fake::node::{Node, assert_outcome, assert_unchanged};
use jiff::SignedDuration;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const LOCK: &str = "certwarden-control-plane";
const NOTES: &str = "certwarden";

fn took_the_lock(node: &Node) -> bool {
    node.fake.world(|w| w.cluster.annotation(LOCK, "certwarden.io/last-holder").is_some())
}

#[track_caller]
fn assert_waits(node: &Node, report: &Report, gate: Gate, words: &str) {
    assert_outcome(report, Outcome::Refused);
    assert_eq!(report.refusals[0].gate, gate, "{}", report.reason);
    assert!(report.refusals[0].reason.contains(words), "{}", report.refusals[0].reason);
    assert!(node.ids().is_empty(), "a transaction was begun");
}

/// One of three, whose API server's certificate ends in two days.
fn in_an_emergency() -> Node {
    let node = Node::due_but(&[("apiserver", 2 * support::DAY)]);
    node.fake.world(|w| w.members = 3);
    node
}

/// Makes the lock last so long, and the slots with it, that this node may begin now, or may not.
fn step_into_slot(node: &mut Node, open: bool) {
    node.fake.world(World::rejoin_real_time);
    let now = node.fake.world(|w| w.now);
    let soon = now + SignedDuration::from_secs(120);
    let is_so = |lasts: &Duration| {
        let slots = slots(*lasts, node.policy.renew.emergency_before.0);
        [now, soon].iter().all(|at| slots.is_open(*at) == open)
    };
    let lasts = (1200..3600).step_by(7).map(Duration::from_secs).find(is_so).unwrap();
    node.policy.fleet.lease_duration = Span(lasts);
}

fn slots(lasts: Duration, emergency: Duration) -> Slots {
    Slots::of("node-1", &["m1", "m2", "node-1"].map(str::to_owned), lasts, emergency)
}

fn apiserver() -> Selection {
    Selection::Names(vec!["apiserver".into()])
}

/// Another node has it, and goes on renewing it.
fn is_held(node: &Node) {
    node.fake.world(|w| w.cluster.write(LOCK, "m1_00000001", 1200, &json!({})));
}

#[test]
fn in_an_emergency_a_holder_that_goes_on_is_taken_over_from_in_the_own_slot_only() {
    let mut node = in_an_emergency();
    step_into_slot(&mut node, false);
    for _ in 0..3 {
        is_held(&node);
        let report = node.renew_now(&apiserver()).unwrap();
        assert_waits(&node, &report, Gate::ClusterLock, "m1 holds the cluster's lock");
        node.fake.world(|w| w.elapsed += 50 * MINUTE);
    }
    is_held(&node);
    step_into_slot(&mut node, true);
    assert_outcome(&node.renew_now(&apiserver()).unwrap(), Outcome::Verified);
    let transitions = node.fake.world(|w| w.cluster.leases[LOCK]["spec"]["leaseTransitions"].clone());
    assert_eq!(transitions, 8, "it has taken the lock over, so that others wait for it");
}

#[test]
fn in_an_emergency_each_new_holder_is_waited_for_anew() {
    let mut node = in_an_emergency();
    step_into_slot(&mut node, true);
    for holder in ["m1_00000001", "m2_00000002", "m1_00000001", "pod"] {
        node.fake.world(|w| w.cluster.write(LOCK, holder, 1200, &json!({})));
        let report = node.renew_now(&apiserver()).unwrap();
        assert_waits(&node, &report, Gate::ClusterLock, "holds the cluster's lock");
        node.fake.world(|w| w.elapsed += 50 * MINUTE);
    }
}

#[test]
fn a_lock_that_another_has_before_the_commit_ends_an_emergency_as_well() {
    let mut node = in_an_emergency();
    let before = node.live();
    step_into_slot(&mut node, true);
    let fake = node.fake.clone();
    fake::at_step(fake::At::Text("validating what was staged"), move || {
        fake.world(|w| w.cluster.write(LOCK, "m1_00000001", 1200, &json!({})));
    });
    let report = node.renew_now(&apiserver()).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("m1 has it now"), "{}", report.reason);
    assert_unchanged(&before, &node);
}

#[test]
fn harm_does_not_make_an_emergency_give_its_lock_up() {
    let node = in_an_emergency();
    let mark = json!({"m2": {"at": "2020-01-01T00:00:00Z", "outcome": "rolled-back", "reason": "x"}}).to_string();
    node.fake.world(|w| w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": mark})));
    assert_outcome(&node.renew(&apiserver()), Outcome::Verified);
    assert!(took_the_lock(&node));
}

#[test]
fn in_the_dark_an_emergency_waits_for_its_slot() {
    let mut node = in_an_emergency();
    node.fake.world(|w| w.api_is_down = true);
    step_into_slot(&mut node, false);
    let report = node.renew_now(&apiserver()).unwrap();
    assert_waits(&node, &report, Gate::ClusterLock, "without it this node acts at");
    assert!(report.refusals[0].until.is_some());
    // who had the lock before may still be at work, for as long as it lasts
    step_into_slot(&mut node, true);
    assert_waits(&node, &node.renew_now(&apiserver()).unwrap(), Gate::ClusterLock, "without it this node acts at");
    node.fake.world(|w| w.elapsed += Duration::from_secs(3_600));
    step_into_slot(&mut node, true);
    let report = node.renew_now(&apiserver()).unwrap();
    assert!(!report.refusals.iter().any(|r| r.gate == Gate::ClusterLock), "{}", report.reason);
}

#[test]
fn in_an_emergency_the_others_keep_to_their_slots_while_a_control_plane_is_out_of_sight() {
    let mut node = in_an_emergency();
    node.fake.world(|w| w.cluster.not_ready = vec!["m2"]);
    step_into_slot(&mut node, false);
    let report = node.renew_now(&apiserver()).unwrap();
    assert_waits(&node, &report, Gate::ClusterLock, "may be renewing without the API");
    step_into_slot(&mut node, true);
    assert_outcome(&node.renew_now(&apiserver()).unwrap(), Outcome::Verified);
}
