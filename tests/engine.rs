//! The engine against a node that fails, hangs and lies: whatever happens, it ends no worse than it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod fake;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use certwarden::model::component::Component;
use certwarden::model::gate::Gate;
use certwarden::model::ledger::State;
use certwarden::model::plan::{Plan, Step};
use certwarden::model::planner::Selection;
use certwarden::model::policy::ActivateKubelet;
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::engine::EngineError;
use certwarden::txn::lock::Lock;
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{APISERVER, ETCD, Node, assert_outcome, assert_unchanged};
use fake::socket::{Uptake, serve};
use fake::{Call, Fault};

fn names(list: &[&str]) -> Selection {
    Selection::Names(list.iter().map(|s| (*s).to_owned()).collect())
}

fn restarted(report: &Report) -> Vec<Component> {
    report.restarted.iter().map(|r| r.component).collect()
}

const LEAVES: [&str; 10] = [
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
    "scheduler.conf",
];

#[test]
fn what_is_due_is_renewed_proven_and_nothing_else_changes() {
    let node = Node::due();
    let before = node.live();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let renewed: Vec<&str> = report.renewed.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(renewed, LEAVES);
    let after = node.live();
    let changed = Node::changed(&before, &after);
    assert_eq!(changed.len(), 3 + 2 * 7, "{changed:?}");
    for path in changed {
        let (old, new) = (&before[&path], &after[&path]);
        assert_eq!((old.1, old.2, old.3, &old.6), (new.1, new.2, new.3, &new.6), "attributes of {}", path.display());
    }
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
    assert_eq!(node.last_state(), Some(State::Verified));
    assert_outcome(&node.renew_due(), Outcome::NothingToDo);
}

#[test]
fn where_nothing_is_due_there_is_no_transaction() {
    let node = Node::healthy();
    let before = node.live();
    assert_outcome(&node.renew_due(), Outcome::NothingToDo);
    assert_unchanged(&before, &node);
    assert!(node.ids().is_empty());
    assert!(node.fake.calls().is_empty(), "{:?}", node.fake.calls());
}
