//! A recovery that meets what passes by itself (a mount that is not there yet, a runtime that is starting) is tried again; only
//! what a node that answers has failed twice is left to a person.

use std::fs;
use std::sync::Arc;

use crate::fake;
use certwarden::daemon::{NodeWork, Work};
use certwarden::model::ledger::State;
use certwarden::model::machine::Standing;
use certwarden::model::planner::Selection;
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{Live, Node, assert_outcome, assert_unchanged, died_in, ledger, new_files, rename_temps};
use fake::{At, Fault, at_step, forget_steps};

const PKI: &str = "/etc/kubernetes/pki";
const KUBELET: &str = "/var/lib/kubelet";
const ELSEWHERE: &str = "/var/elsewhere";

/// The file system is not mounted, and its mount point is empty.
fn unmount(node: &Node, at: &str) {
    fs::rename(node.path(at), node.path(ELSEWHERE)).unwrap();
    fs::create_dir(node.path(at)).unwrap();
}

fn mount(node: &Node, at: &str) {
    fs::remove_dir(node.path(at)).unwrap();
    fs::rename(node.path(ELSEWHERE), node.path(at)).unwrap();
}

/// The commit was cut short in its middle, then the machine started.
fn half_committed() -> (Node, Live) {
    let (node, before) = died_in(Node::due, State::Committing);
    rename_temps(&node, 9);
    (node.rebooted(), before)
}

/// As the command line does it.
fn recover(node: &Node, reach: Reach) -> Report {
    let report = node.recover(reach, false).unwrap().expect("a transaction is open");
    DaemonState::remember(&node.host.root, &report);
    report
}

#[track_caller]
fn assert_free(node: &Node) {
    let standing = DaemonState::load(&node.host.root).state.standing();
    assert_eq!(standing, Standing::Free { failures: 0 });
}

#[test]
fn a_mount_that_comes_after_the_boot_is_waited_for_however_often_and_nothing_is_given_up() {
    let (node, before) = half_committed();
    let live = |node: &Node| {
        let mut live = node.live();
        live.retain(|path, _| !path.to_string_lossy().contains(".certwarden-"));
        live
    };
    let half = live(&node);
    unmount(&node, PKI);
    for reach in [Reach::FilesOnly, Reach::Full, Reach::Full] {
        let report = recover(&node, reach);
        assert_outcome(&report, Outcome::Interrupted);
        assert!(report.reason.contains(PKI), "{}", report.reason);
        assert!(report.reason.contains("certwarden recover"), "what to do: {}", report.reason);
        assert_free(&node);
    }
    mount(&node, PKI);
    assert_eq!(Node::changed(&half, &live(&node)), std::collections::BTreeSet::new(), "no file alone was put back");
    assert_outcome(&recover(&node, Reach::Full), Outcome::RolledBack);
    assert_unchanged(&before, &node);
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn the_daemon_tries_a_hindered_recovery_after_a_minute_and_then_ever_later() {
    let (node, before) = half_committed();
    unmount(&node, PKI);
    let mut work = NodeWork::new(node.fake.host());
    let progress = || Arc::new(Node::progress());
    assert_eq!(work.check(&node.policy, &progress()).retry_at, None, "at the first look");
    for wait in [60, 120, 240] {
        assert_outcome(&work.recover(&node.policy, &progress()).unwrap(), Outcome::Interrupted);
        let look = work.check(&node.policy, &progress());
        assert!(look.seen.unfinished);
        let now = node.fake.world(|w| w.now);
        let in_seconds = look.retry_at.unwrap().duration_since(now).as_secs();
        assert!((wait - 2..=wait).contains(&in_seconds), "{wait}: {in_seconds}");
        node.fake.world(|w| w.now += jiff::SignedDuration::from_secs(wait));
        assert_eq!(work.check(&node.policy, &progress()).retry_at, None, "then it is time");
    }
    mount(&node, PKI);
    node.fake.world(fake::World::rejoin_real_time);
    assert_outcome(&work.recover(&node.policy, &progress()).unwrap(), Outcome::RolledBack);
    assert_unchanged(&before, &node);
    assert!(!work.check(&node.policy, &progress()).seen.unfinished);
}

#[test]
fn a_renewal_whose_way_back_meets_such_a_disk_is_finished_later_instead_of_given_up() {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
    let (from, to) = (node.path(PKI), node.path(ELSEWHERE));
    forget_steps();
    at_step(At::Text("putting the old files back"), move || fs::rename(&from, &to).unwrap());
    let report = node.renew(&Selection::All);
    forget_steps();
    assert_outcome(&report, Outcome::Interrupted);
    assert_eq!((report.exit_code(), node.last_state()), (2, Some(State::RollingBack)));
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None);
    fs::rename(node.path(ELSEWHERE), node.path(PKI)).unwrap();
    assert_outcome(&recover(&node, Reach::Full), Outcome::RolledBack);
    assert_unchanged(&before, &node);
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn without_the_kubelets_directory_nothing_is_judged_and_without_the_files_directory_no_commit_is_undone() {
    for (state, at) in [(State::Committing, KUBELET), (State::Committed, KUBELET), (State::Committed, PKI)] {
        let (node, _) = died_in(Node::due, state);
        let node = node.rebooted();
        unmount(&node, at);
        for _ in 0..3 {
            assert_outcome(&recover(&node, Reach::Full), Outcome::Interrupted);
            assert_free(&node);
        }
        let undone = if state == State::Committing { State::RollingBack } else { State::Committed };
        assert_eq!(node.last_state(), Some(undone), "{at}");
        assert!(node.fake.details("stop-container").is_empty());
        mount(&node, at);
        node.fake.world(fake::World::rejoin_real_time);
        let end = if state == State::Committing { Outcome::RolledBack } else { Outcome::Verified };
        assert_outcome(&recover(&node, Reach::Full), end);
        node.assert_pairs_fit();
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn a_runtime_or_a_systemd_that_does_not_answer_yet_proves_nothing_against_the_new_files() {
    for method in ["containers", "status", "restart"] {
        let (node, _) = died_in(Node::due, State::Committed);
        let node = node.rebooted();
        node.fake.always(method, Fault::Hang);
        for _ in 0..3 {
            let report = recover(&node, Reach::Full);
            assert_outcome(&report, Outcome::Interrupted);
            assert_eq!(node.last_state(), Some(State::Committed), "{method}");
            assert_free(&node);
        }
        node.fake.world(|w| w.always.clear());
        node.fake.world(fake::World::rejoin_real_time);
        assert_outcome(&recover(&node, Reach::Full), Outcome::Verified);
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn what_a_node_that_answers_fails_is_tried_once_more_and_then_left_to_a_person() {
    let dying = || {
        let node = Node::due();
        node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
        node
    };
    let (template, before) = died_in(dying, State::RollingBack);
    for passes in [true, false] {
        let node = template.rebooted();
        node.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
        let report = recover(&node, Reach::Full);
        assert_outcome(&report, Outcome::Interrupted);
        assert!(report.reason.contains("kubelet.service failed"), "{}", report.reason);
        assert!(ledger(&node).failed_before("activate kubelet"), "the next one knows");
        assert_unchanged(&before, &node);
        assert_free(&node);
        if passes {
            node.fake.world(|w| w.kubelet_dies_if = None);
            assert_outcome(&recover(&node, Reach::Full), Outcome::RolledBack);
            continue;
        }
        let report = recover(&node, Reach::Full);
        assert_outcome(&report, Outcome::RollbackFailed);
        assert_eq!(node.last_state(), Some(State::RollbackFailed));
        let kept = DaemonState::load(&node.host.root).state.observe_only.unwrap();
        assert!(kept.errors.len() >= 2, "{:?}", kept.errors);
        assert!(kept.errors[0].contains("kubelet"), "why it was rolled back is kept: {:?}", kept.errors);
        // a person's recovery says at once whether the cause is gone
        assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RollbackFailed);
        node.fake.world(|w| w.kubelet_dies_if = None);
        assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RolledBack);
    }
}
