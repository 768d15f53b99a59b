//! Gates: each closes on its cause, soft ones give way to `--force` and in an emergency, hard ones never.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod fake;
mod support;

use std::fs;
use std::os::unix::fs::symlink;

use certwarden::model::gate::Gate;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Requirement;
use certwarden::model::report::Outcome;
use certwarden::txn::state::DaemonState;
use fake::node::{Node, assert_outcome, assert_unchanged};
use jiff::SignedDuration;

type Cause = (&'static str, Gate, fn(&mut Node));

fn kubeadm(node: &Node, args: &str) {
    let dir = node.path("/proc/77");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("cmdline"), args.replace(' ', "\0")).unwrap();
}

fn causes() -> Vec<Cause> {
    vec![
        ("no room", Gate::Disk, |n| n.policy.gates.free_mib = u64::from(u32::MAX)),
        ("the CA has expired", Gate::Ca, |n| n.fake.world(|w| w.now += SignedDuration::from_hours(24 * 3001))),
        ("the clock is not synchronised", Gate::Clock, |n| {
            n.fake.world(|w| w.clock_synchronised = Some(false));
        }),
        ("the clock was stepped back", Gate::Clock, |n| {
            let seen = Some(n.fake.world(|w| w.now + SignedDuration::from_hours(2)));
            DaemonState { last_seen: seen, ..DaemonState::default() }.save(&n.host.root).unwrap();
        }),
        ("kubeadm upgrades", Gate::Upgrade, |n| kubeadm(n, "/usr/bin/kubeadm upgrade apply")),
        ("kubeadm renews", Gate::OtherRenewer, |n| kubeadm(n, "kubeadm certs renew all")),
        ("kubespray's timer is active", Gate::OtherRenewer, |n| n.fake.world(|w| w.other_timer_active = true)),
        ("the kubelet's binary was replaced", Gate::KubeletBinary, |n| {
            fs::create_dir_all(n.path("/proc/4000000")).unwrap();
            symlink("/usr/bin/kubelet (deleted)", n.path("/proc/4000000/exe")).unwrap();
        }),
        ("the node has another illness", Gate::NotReady, |n| n.fake.world(|w| w.node_ready = false)),
        ("a rollback failed", Gate::ObserveOnly, |n| {
            let observe_only = Some(certwarden::txn::state::ObserveOnly::default());
            DaemonState { observe_only, ..DaemonState::default() }.save(&n.host.root).unwrap();
        }),
    ]
}

fn closed(node: &Node) -> Vec<Gate> {
    let session = node.session();
    let plan = session.plan(&Selection::Names(vec!["apiserver".into()])).unwrap();
    session.closed_gates(&plan).into_iter().map(|r| r.gate).collect()
}

#[test]
fn no_gate_is_closed_on_a_healthy_node() {
    assert_eq!(closed(&Node::healthy()), []);
    let node = Node::healthy();
    kubeadm(&node, "/usr/bin/kubeadm version");
    assert_eq!(closed(&node), [], "looking is no harm");
}

#[test]
fn each_gate_closes_on_its_cause_and_gives_way_only_if_it_is_soft() {
    for (cause, gate, make) in causes() {
        let mut node = Node::due();
        make(&mut node);
        assert_eq!(closed(&node), [gate], "{cause}");
        let before = node.live();
        let session = node.session();
        let plan = session.plan(&Selection::Names(vec!["apiserver".into()])).unwrap();
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        assert_outcome(&report, Outcome::Refused);
        assert!(report.refusals.iter().all(|r| r.gate == gate && !r.remedy.is_empty()), "{cause}");
        assert_unchanged(&before, &node);
        assert!(node.ids().is_empty(), "{cause}: no transaction is opened");
        let others: Vec<Gate> = Gate::ALL.into_iter().filter(|g| *g != gate).collect();
        let report = session.carry_out(&plan, false, &others, &Node::progress()).unwrap();
        assert_outcome(&report, Outcome::Refused);
        let report = session.carry_out(&plan, false, &[gate], &Node::progress()).unwrap();
        assert_eq!(report.outcome == Outcome::Refused, gate.is_hard(), "{cause}: {}", report.reason);
    }
}

#[test]
fn in_an_emergency_soft_gates_give_way_and_hard_ones_do_not() {
    for (cause, gate, make) in causes() {
        if matches!(gate, Gate::Ca | Gate::NotReady) {
            continue; // no emergency is one for an expired CA; an expired leaf may be why the node is not Ready
        }
        let mut node = Node::expired();
        make(&mut node);
        let session = node.session();
        let plan = session.plan(&Selection::Due).unwrap();
        assert!(plan.emergency);
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        // an emergency that only a clock sees which was never trusted is none
        let stands = gate.is_hard() || cause == "the clock is not synchronised";
        assert_eq!(report.outcome == Outcome::Refused, stands, "{cause}: {}", report.reason);
    }
}

#[test]
fn a_node_that_is_not_ready_with_expired_leaves_is_not_held_back() {
    let node = Node::expired();
    node.fake.world(|w| w.node_ready = false);
    assert_eq!(closed(&node), []);
}

#[test]
fn a_clock_kept_by_other_means_and_one_that_cannot_be_told_are_no_reason() {
    let mut node = Node::healthy();
    node.fake.world(|w| w.clock_synchronised = None);
    assert_eq!(closed(&node), []);
    node.fake.world(|w| w.clock_synchronised = Some(false));
    node.policy.gates.clock_synchronised = Requirement::Ignore;
    assert_eq!(closed(&node), []);
    // a step of less than a minute is NTP at work
    let seen = Some(node.fake.world(|w| w.now + SignedDuration::from_secs(30)));
    DaemonState { last_seen: seen, ..DaemonState::default() }.save(&node.host.root).unwrap();
    assert_eq!(closed(&node), []);
}

#[test]
fn the_hard_gates_are_those_of_the_design() {
    let hard: Vec<Gate> = Gate::ALL.into_iter().filter(|g| g.is_hard()).collect();
    assert_eq!(hard, [Gate::Lock, Gate::Ca, Gate::Disk, Gate::Ownership, Gate::Quorum, Gate::ObserveOnly]);
    for gate in Gate::ALL {
        assert_eq!(gate.id().parse::<Gate>().is_ok(), !gate.is_hard(), "only soft gates can be forced");
    }
}
