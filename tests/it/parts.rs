//! What has no way back is renewed in a transaction of its own, before what has one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::fake;
use crate::support;
use certwarden::model::gate::Gate;
use certwarden::model::ledger::State;
use certwarden::model::machine::Standing;
use certwarden::model::plan::Plan;
use certwarden::model::planner::Selection;
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{Node, assert_outcome, assert_unchanged, new_files};
use fake::{At, Fault, at_step, forget_steps};
use support::DAY;

/// One leaf that has expired, which nothing on the node restarts for.
const EXPIRED: &str = "etcd-healthcheck-client";
const FILES: [&str; 2] =
    ["etc/kubernetes/pki/etcd/healthcheck-client.crt", "etc/kubernetes/pki/etcd/healthcheck-client.key"];

fn items(plan: &Plan) -> Vec<&str> {
    plan.items.iter().map(|i| i.name.as_str()).collect()
}

fn one_expired() -> Node {
    Node::due_but(&[(EXPIRED, -DAY)])
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.all().map(|r| r.outcome).collect()
}

#[test]
fn what_has_expired_or_will_within_the_hour_is_a_part_of_its_own_and_comes_first() {
    let node = one_expired();
    for selection in [Selection::Due, Selection::All] {
        let plan = node.plan(&selection);
        assert_eq!(items(&plan), [EXPIRED]);
        let rest = plan.then.unwrap();
        assert!(rest.items.len() == 9 && rest.item(EXPIRED).is_none() && rest.then.is_none(), "{:?}", items(&rest));
        assert!(plan.emergency && !rest.emergency, "what has time left is no emergency for another's sake");
    }
    let soon = Node::due_but(&[("apiserver", 1800), ("admin.conf", -1), ("scheduler.conf", 2 * 3600)]);
    assert_eq!(items(&soon.plan(&Selection::Due)), ["admin.conf", "apiserver"]);
    for whole in [Node::due(), Node::expired()] {
        let plan = whole.plan(&Selection::Due);
        assert!(plan.items.len() >= 10 && plan.then.is_none(), "{:?}", items(&plan));
    }
}

#[test]
fn an_expired_leaf_does_not_take_the_way_back_from_the_others() {
    let node = one_expired();
    let before = node.live();
    node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
    let report = node.renew_due();
    assert_eq!(outcomes(&report), [Outcome::Verified, Outcome::RolledBack], "{} {:?}", report.reason, report.notes);
    assert_eq!((report.exit_code(), report.in_place()), (2, vec![EXPIRED.to_owned()]));
    let changed: Vec<PathBuf> = Node::changed(&before, &node.live()).into_iter().collect();
    assert_eq!(changed, FILES.map(PathBuf::from));
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
    assert!(node.fake.world(|w| w.kubelet.is_running()));
    // the daemon backs off as after any rollback, and remembers what was renewed
    DaemonState::remember(&node.host.root, &report);
    let memory = DaemonState::load(&node.host.root).state;
    assert!(matches!(memory.standing(), Standing::BackingOff { failures: 1, .. }));
    assert_eq!(memory.last_transaction.unwrap().renewed, [EXPIRED]);
    let json = serde_json::to_string(&memory.renewed).unwrap();
    assert!(json.contains(EXPIRED) && !json.contains("apiserver"), "{json}");
    // and once the cause is gone, the rest is all that is left to do
    node.fake.world(|w| w.kubelet_dies_if = None);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!((report.earlier.len(), report.renewed.len()), (0, 9));
}

#[test]
fn both_parts_are_carried_out_and_told() {
    let node = one_expired();
    let report = node.renew_due();
    assert_eq!(outcomes(&report), [Outcome::Verified, Outcome::Verified]);
    assert_eq!((report.exit_code(), report.in_place().len(), node.ids().len()), (0, 10, 2));
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
    assert_outcome(&node.renew_due(), Outcome::NothingToDo);
    // each transaction's own report is about itself
    for id in node.ids() {
        assert!(certwarden::txn::history::report(&node.host.root, &id).unwrap().earlier.is_empty());
    }
}

#[test]
fn a_dry_run_rehearses_both_parts_and_changes_nothing() {
    let node = one_expired();
    let before = node.live();
    let session = node.session();
    let report = session.carry_out(&session.plan(&Selection::Due).unwrap(), true, &[], &Node::progress()).unwrap();
    assert_eq!(outcomes(&report), [Outcome::DryRun, Outcome::DryRun]);
    assert_unchanged(&before, &node);
    assert!(node.ids().is_empty());
}

#[test]
fn what_leaves_the_node_in_doubt_keeps_the_rest_from_being_begun() {
    let node = Node::due_but(&[("scheduler.conf", -DAY)]);
    let before = node.live();
    node.fake.always("stop-container", Fault::Fail);
    let report = node.renew_due();
    assert_eq!(outcomes(&report), [Outcome::Degraded]);
    assert!(report.notes.iter().any(|n| n.starts_with("not begun: admin.conf, ")), "{:?}", report.notes);
    assert_eq!(Node::changed(&before, &node.live()).len(), 1);
    assert_eq!(node.last_state(), Some(State::Unproven));
    // the next attempt does not wait for its proof
    node.fake.world(|w| w.always.clear());
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn what_cannot_be_renewed_at_all_does_not_keep_the_rest_from_it() {
    let node = one_expired();
    let before = node.live();
    // rubbish where its key should be: there is nothing to be like
    forget_steps();
    let key = node.path(FILES[1]);
    at_step(At::Text("staging"), move || {
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
    });
    let report = node.renew_due();
    assert_eq!(outcomes(&report), [Outcome::Refused, Outcome::Verified], "{} {:?}", report.reason, report.notes);
    assert_eq!((report.exit_code(), report.in_place().len()), (1, 9));
    let changed = Node::changed(&before, &node.live());
    assert!(changed.iter().all(|p| !p.ends_with(FILES[0])), "{changed:?}");
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn a_soft_gate_gives_way_to_what_has_expired_and_not_to_what_has_time() {
    let node = one_expired();
    node.fake.world(|w| w.other_timer_active = true);
    let report = node.renew_due();
    assert_eq!(outcomes(&report), [Outcome::Verified, Outcome::Refused]);
    assert_eq!(report.refusals.iter().map(|r| r.gate).collect::<Vec<_>>(), [Gate::OtherRenewer]);
    assert_eq!((report.exit_code(), report.in_place()), (1, vec![EXPIRED.to_owned()]));
}

#[test]
fn who_asks_to_stop_during_the_first_part_gets_it_finished_and_the_second_not_begun() {
    for daemon in [false, true] {
        let node = one_expired();
        let progress = Arc::new(Node::progress());
        node.fake.world(|w| {
            (w.stop_at, w.stopping, w.progress) = (Some("restarting"), daemon, Some(Arc::clone(&progress)));
        });
        let session = node.session();
        let plan = session.plan(&Selection::Due).unwrap();
        let report = session.carry_out(&plan, false, &[], &progress).unwrap();
        assert_outcome(&report, if daemon { Outcome::Interrupted } else { Outcome::Verified });
        assert_eq!((report.earlier.len(), node.ids().len()), (0, 1));
        assert!(report.notes.iter().any(|n| n.starts_with("not begun: ")), "{:?}", report.notes);
    }
}

#[test]
fn plan_shows_both_parts_as_renew_will_carry_them_out() {
    let node = one_expired();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_certwarden-full"));
        let output = command.arg("--root").arg(node.dir.path()).arg("plan").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    let (first, rest) = text.split_once("Then, in a transaction of its own").unwrap();
    assert!(first.contains("1 certificate to be renewed") && first.contains("This is an emergency"), "{first}");
    assert!(rest.contains("9 certificates to be renewed") && !rest.contains("emergency"), "{rest}");
    assert!(rest.contains("commit 15 files"), "{rest}");
    let json: serde_json::Value = serde_json::from_str(&run(&["-o", "json"])).unwrap();
    assert_eq!((&json["items"][0]["name"], &json["then"]["items"][0]["name"]), (&EXPIRED.into(), &"admin.conf".into()));
    assert!(json["gates"].is_array() && json["then"]["gates"].is_array());
}
