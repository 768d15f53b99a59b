//! Gates: each closes on its cause, soft ones give way to `--force` and in an emergency, hard ones never.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fake;
use certwarden::fleet::pause;
use certwarden::host::systemd::UnitStatus;
use certwarden::model::fleet::notes::Pause;
use certwarden::model::gate::Gate;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Requirement;
use certwarden::model::report::Outcome;
use certwarden::txn::state::DaemonState;
use fake::node::{Node, assert_outcome, assert_unchanged};
use jiff::{SignedDuration, Timestamp};

type Cause = (&'static str, Gate, fn(&mut Node));

fn kubeadm(node: &Node, args: &str) {
    let dir = node.path("/proc/77");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("cmdline"), args.replace(' ', "\0")).unwrap();
}

/// The kubelet's process began so long ago.
fn runs_since(node: &Node, ago: SignedDuration) {
    let boot = Timestamp::now().as_second() - 100_000;
    let ticks = (100_000 - ago.as_secs()) * 100;
    fs::create_dir_all(node.path("/proc/4000000")).unwrap();
    fs::write(node.path("/proc/stat"), format!("cpu 1 2\nbtime {boot}\n")).unwrap();
    let stat = format!("4000000 (kubelet) S {} {ticks} 1 2", ["0"; 18].join(" "));
    fs::write(node.path("/proc/4000000/stat"), stat).unwrap();
}

fn touch(node: &Node, path: &str) {
    let path = node.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
}

fn stopped(kubelet: &UnitStatus) -> UnitStatus {
    UnitStatus { active_state: "inactive".into(), sub_state: "dead".into(), main_pid: 0, ..kubelet.clone() }
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
            DaemonState::change(&n.host.root, |state| state.last_seen = seen).unwrap();
        }),
        ("kubeadm upgrades", Gate::Upgrade, |n| kubeadm(n, "/usr/bin/kubeadm upgrade apply")),
        ("kubeadm renews", Gate::OtherRenewer, |n| kubeadm(n, "kubeadm certs renew all")),
        ("kubespray's timer is active", Gate::OtherRenewer, |n| n.fake.world(|w| w.other_timer_active = true)),
        ("the kubelet's binary was replaced", Gate::KubeletBinary, |n| {
            fs::create_dir_all(n.path("/proc/4000000")).unwrap();
            symlink("/usr/bin/kubelet (deleted)", n.path("/proc/4000000/exe")).unwrap();
        }),
        ("the kubelet's configuration was edited under it", Gate::PendingChange, |n| {
            runs_since(n, SignedDuration::from_hours(1));
            touch(n, "/var/lib/kubelet/config.yaml");
        }),
        ("the kubelet's environment was edited under it", Gate::PendingChange, |n| {
            runs_since(n, SignedDuration::from_hours(1));
            n.fake.world(|w| w.kubelet.sources = vec!["/var/lib/kubelet/kubeadm-flags.env".into()]);
            touch(n, "/var/lib/kubelet/kubeadm-flags.env");
        }),
        ("the kubelet's unit was edited", Gate::PendingChange, |n| {
            n.fake.world(|w| w.kubelet.need_daemon_reload = true);
        }),
        ("an operator has stopped the kubelet", Gate::StoppedByHand, |n| {
            // its API server with it: else the node is not Ready besides
            n.fake.world(|w| (w.kubelet, w.api_is_down) = (stopped(&w.kubelet), true));
        }),
        ("the node has another illness", Gate::NotReady, |n| n.fake.world(|w| w.node_ready = false)),
        ("a rollback failed", Gate::ObserveOnly, |n| {
            let observe_only = Some(certwarden::txn::state::ObserveOnly::default());
            DaemonState::change(&n.host.root, |state| state.observe_only = observe_only).unwrap();
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
        let stands = gate.is_hard() || gate == Gate::StoppedByHand || cause == "the clock is not synchronised";
        assert_eq!(report.outcome == Outcome::Refused, stands, "{cause}: {}", report.reason);
    }
}

#[test]
fn a_kubelet_that_failed_that_is_about_to_start_or_that_is_not_restarted_keeps_nothing_back() {
    type Make = fn(&mut UnitStatus);
    let make: [(&str, Make); 3] = [
        ("it waits for its next start", |u| u.active_state = "activating".into()),
        ("it failed", |u| (u.active_state, u.result) = ("failed".into(), "exit-code".into())),
        ("its start is queued", |u| u.has_job = true),
    ];
    for (what, make) in make {
        let node = Node::due();
        node.fake.world(|w| {
            w.kubelet = stopped(&w.kubelet);
            make(&mut w.kubelet);
        });
        assert!(!closed(&node).contains(&Gate::StoppedByHand), "{what}");
    }
    // what only people use restarts nothing, whatever is pending
    let node = Node::healthy();
    runs_since(&node, SignedDuration::from_hours(1));
    touch(&node, "/var/lib/kubelet/config.yaml");
    let session = node.session();
    let of = |name: &str| session.plan(&Selection::Names(vec![name.into()])).unwrap();
    assert_eq!(session.closed_gates(&of("admin.conf")), []);
    let reason = session.closed_gates(&of("scheduler.conf")).remove(0).reason;
    assert!(reason.starts_with("/var/lib/kubelet/config.yaml was changed at "), "{reason}");
}

#[test]
fn a_pause_gives_way_in_an_emergency_and_a_hard_one_only_to_a_person() {
    for hard in [false, true] {
        let node = Node::expired();
        let now = node.fake.world(|w| w.now);
        pause::write(&node.host.root, &Pause::new(now, None, "etcd restore").hard(hard)).unwrap();
        assert_eq!(closed(&node), [Gate::Paused]);
        let before = node.live();
        let session = node.session();
        let plan = session.plan(&Selection::Due).unwrap();
        assert!(plan.emergency);
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        if hard {
            assert_outcome(&report, Outcome::Refused);
            assert!(report.reason.contains("in an emergency too: etcd restore"), "{}", report.reason);
            assert_unchanged(&before, &node);
            let report = session.carry_out(&plan, false, &[Gate::Paused], &Node::progress()).unwrap();
            assert_ne!(report.outcome, Outcome::Refused, "{}", report.reason);
        } else {
            assert_ne!(report.outcome, Outcome::Refused, "{}", report.reason);
        }
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
    DaemonState::change(&node.host.root, |state| state.last_seen = seen).unwrap();
    assert_eq!(closed(&node), []);
}

#[test]
fn the_hard_gates_are_those_of_the_design() {
    let hard: Vec<Gate> = Gate::ALL.into_iter().filter(|g| g.is_hard()).collect();
    assert_eq!(hard, [Gate::Lock, Gate::Ca, Gate::Disk, Gate::Ownership, Gate::ObserveOnly]);
    for gate in Gate::ALL {
        assert_eq!(gate.id().parse::<Gate>().is_ok(), !gate.is_hard(), "only soft gates can be forced");
    }
}
