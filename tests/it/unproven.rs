//! What is in place and could not be proven, where there was nothing to go back to: it blocks nobody, is verified again, and
//! ends by a proof, by the next renewal or by a person's word.

use std::fs;
use std::sync::Arc;

use crate::fake;
use crate::support;
use certwarden::app::session::SessionError;
use certwarden::daemon::{NodeWork, Work};
use certwarden::model::assess::Severity;
use certwarden::model::component::Component;
use certwarden::model::finding::Problem;
use certwarden::model::ledger::State;
use certwarden::model::planner::Selection;
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::dir::TxnDir;
use certwarden::txn::engine::EngineError;
use certwarden::txn::ledger::Ledger;
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use certwarden::txn::{history, unproven};
use fake::Fault;
use fake::node::{Node, assert_outcome};
use support::DAY;

const NAME: &str = "scheduler.conf";

/// The scheduler's kubeconfig has expired and is renewed; the runtime makes no new container for it.
fn not_taken_up() -> Node {
    let node = Node::due_but(&[(NAME, -DAY)]);
    node.fake.always("stop-container", Fault::Fail);
    assert_outcome(&node.renew_due(), Outcome::Degraded);
    node.fake.world(|w| w.always.clear());
    node
}

/// The same, taken up, on a node that does not become Ready.
fn never_ready() -> Node {
    let node = Node::due_but(&[(NAME, -DAY)]);
    node.fake.world(|w| w.node_ready = false);
    assert_outcome(&node.renew_due(), Outcome::Degraded);
    node
}

fn names(names: &[&str]) -> Selection {
    Selection::Names(names.iter().map(|n| (*n).to_owned()).collect())
}

fn ledger(node: &Node, id: &str) -> Ledger {
    Ledger::load(&node.host.root, &TxnDir { id: id.to_owned() }).unwrap().unwrap()
}

fn prove(node: &Node) -> Report {
    node.fake.world(fake::World::rejoin_real_time);
    node.recover(Reach::Full, false).unwrap().expect("something is not proven")
}

fn accept(node: &Node, id: Option<&str>) -> Result<Option<Report>, SessionError> {
    node.session().accept(id, "alice (user 1000)", &Node::progress())
}

fn finding(node: &Node) -> Option<String> {
    let session = node.session();
    let judged = session.assessment.get(NAME).unwrap();
    let found = judged.findings.iter().find(|f| f.id == Problem::Unproven)?;
    assert!(judged.severity >= Severity::Warning && session.assessment.verdict >= Severity::Warning);
    Some(found.message.clone())
}

#[test]
fn one_leaf_that_could_not_be_proven_blocks_no_other() {
    let node = not_taken_up();
    let first = node.ids().pop().unwrap();
    assert_eq!(ledger(&node, &first).state(), State::Unproven);
    assert_eq!(ledger(&node, &first).left(), Some(vec![Component::KubeScheduler, Component::Kubelet]));
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert_eq!(ledger(&node, &first).state(), State::Unproven, "that is another matter");
    assert!(finding(&node).unwrap().contains("refused"));
    // who has not taken it up does so now
    assert_outcome(&prove(&node), Outcome::Verified);
    assert_eq!(ledger(&node, &first).state(), State::Verified);
    node.assert_processes_use_what_is_on_the_disk();
    node.assert_nothing_left_over();
    assert_eq!(finding(&node), None);
    assert!(node.recover(Reach::Full, false).unwrap().is_none());
}

#[test]
fn an_attempt_that_shows_what_was_known_restarts_nothing_records_nothing_and_says_so() {
    let node = never_ready();
    let id = node.ids().pop().unwrap();
    let path = node.path(&TxnDir { id: id.clone() }.ledger().display().to_string());
    let acts = || node.fake.details("restart").len() + node.fake.details("stop-container").len();
    let (recorded, done) = (fs::read(&path).unwrap(), acts());
    for _ in 0..3 {
        let report = prove(&node);
        assert_outcome(&report, Outcome::Degraded);
        assert!(report.repeated && report.exit_code() == 2);
        assert_eq!((fs::read(&path).unwrap(), acts()), (recorded.clone(), done));
    }
    // another cause is news, once
    node.fake.world(|w| {
        w.node_ready = true;
        w.broken.insert("kube-scheduler".to_owned());
        w.containers.iter_mut().filter(|c| c.name == "kube-scheduler").for_each(|c| c.running = false);
    });
    let report = prove(&node);
    assert_outcome(&report, Outcome::Degraded);
    assert!(!report.repeated && report.reason.contains("kube-scheduler"), "{}", report.reason);
    assert!(prove(&node).repeated);
    assert!(history::report(&node.host.root, &id).unwrap().reason.contains("kube-scheduler"));
    assert!(finding(&node).unwrap().contains("kube-scheduler"));
    assert_eq!(acts(), done);
}

#[test]
fn the_daemon_verifies_again_ever_less_often_and_is_silent_about_what_it_knew() {
    let node = never_ready();
    let mut policy = node.policy.clone();
    policy.renew.exclude = vec!["kubelet-serving".to_owned()];
    let mut work = NodeWork::new(node.fake.host());
    let progress = || Arc::new(Node::progress());
    assert!(work.check(&policy, &progress()).unproven, "at the first look");
    for hours in [1, 2, 4] {
        assert!(work.recover(&policy, &progress()).is_none(), "no news");
        let now = node.fake.world(|w| w.now);
        assert!(!work.check(&policy, &progress()).unproven);
        node.fake.world(|w| w.now = now + jiff::SignedDuration::from_secs(hours * 3600 - 60));
        assert!(!work.check(&policy, &progress()).unproven, "{hours} hours");
        node.fake.world(|w| w.now += jiff::SignedDuration::from_secs(60));
        let look = work.check(&policy, &progress());
        assert!(look.unproven && !look.seen.unfinished, "{hours} hours");
        let told = look.seen.attention.iter().any(|a| a.name == NAME && a.message.contains("not proven"));
        assert!(told, "{:?}", look.seen.attention);
        assert!(look.measured.page.contains("finding=\"unproven\""), "{}", look.measured.page);
    }
    node.fake.world(|w| w.node_ready = true);
    assert_outcome(&work.recover(&policy, &progress()).unwrap(), Outcome::Verified);
    assert!(!work.check(&policy, &progress()).unproven);
}

#[test]
fn what_is_renewed_again_is_no_question_any_more() {
    let node = not_taken_up();
    assert_outcome(&node.renew(&names(&[NAME])), Outcome::Verified);
    assert!(unproven::list(&node.host.root).is_empty());
    assert_eq!(finding(&node), None);
    assert!(node.recover(Reach::Full, false).unwrap().is_none());
}

#[test]
fn a_person_closes_it_and_who_did_is_recorded() {
    let node = never_ready();
    let id = node.ids().pop().unwrap();
    assert!(matches!(accept(&node, Some("000009-20260101T000000Z")), Err(SessionError::NotUnproven { .. })));
    let report = accept(&node, None).unwrap().unwrap();
    assert_outcome(&report, Outcome::Committed);
    assert_eq!((report.exit_code(), report.transaction.as_ref()), (0, Some(&id)));
    assert!(report.reason.starts_with("accepted by alice (user 1000), not proven: node node-1 is not Ready again"));
    let ledger = ledger(&node, &id);
    assert_eq!(
        (ledger.state(), ledger.records().last().unwrap().reason.as_ref()),
        (State::Accepted, Some(&report.reason))
    );
    let kept = history::report(&node.host.root, &id).unwrap();
    assert_eq!((kept.outcome, kept.renewed.len()), (Outcome::Committed, 1), "what it renewed is still told");
    assert_eq!(finding(&node), None);
    assert!(node.recover(Reach::Full, false).unwrap().is_none(), "it is not verified again");
    assert!(accept(&node, None).unwrap().is_none());
    assert!(matches!(accept(&node, Some(&id)), Err(SessionError::NotUnproven { .. })));
}

#[test]
fn of_several_the_one_to_accept_is_named() {
    let node = Node::due_but(&[(NAME, -DAY), ("controller-manager.conf", -DAY)]);
    node.fake.always("stop-container", Fault::Fail);
    for name in [NAME, "controller-manager.conf"] {
        assert_outcome(&node.renew(&names(&[name])), Outcome::Degraded);
    }
    let ids = node.ids();
    match accept(&node, None) {
        Err(SessionError::Engine(e @ EngineError::SeveralUnproven { .. })) => {
            assert!(ids.iter().all(|id| e.to_string().contains(id)), "{e}");
        }
        other => panic!("{other:?}"),
    }
    assert!(accept(&node, Some(&ids[0])).unwrap().is_some());
    assert_eq!(ledger(&node, &ids[0]).state(), State::Accepted);
    assert_eq!(ledger(&node, &ids[1]).state(), State::Unproven);
}

#[test]
fn its_backup_is_kept_as_long_as_it_is_a_question_and_can_be_asked_for() {
    let mut node = not_taken_up();
    node.policy.state.generations = 1;
    let id = node.ids().pop().unwrap();
    for _ in 0..3 {
        assert_outcome(&node.renew(&names(&["front-proxy-client"])), Outcome::Verified);
    }
    let dir = TxnDir { id: id.clone() };
    assert_eq!(node.ids().len(), 2);
    assert!(node.host.root.exists(&dir.old_dir()) && !node.host.root.exists(&dir.new_dir()));
    // it is there; what it holds has expired
    node.fake.world(fake::World::rejoin_real_time);
    let report = node.rollback(Some(&id), &[]).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("expired"), "{}", report.reason);
    // accepted, it is one of many
    accept(&node, None).unwrap().unwrap();
    assert_outcome(&node.renew(&names(&["front-proxy-client"])), Outcome::Verified);
    assert!(!node.ids().contains(&id));
}

/// The state directory of version 0.1.0, without keys, on a node whose certificates are its new ones.
fn upgraded(kind: &str) -> Node {
    let node = Node::due_but(&[(NAME, 300 * DAY)]);
    let from = format!("{}/tests/fixtures/state-0.1.0/{kind}", env!("CARGO_MANIFEST_DIR"));
    fake::node::copy(from.as_ref(), &node.path("/var/lib/certwarden"));
    node
}

fn state(node: &Node, number: &str) -> State {
    let id = node.ids().into_iter().find(|id| id.starts_with(number)).unwrap();
    ledger(node, &id).state()
}

#[test]
fn what_version_0_1_0_has_left_is_read() {
    for kind in ["taken-up", "not-taken-up"] {
        let node = upgraded(kind);
        assert_eq!(state(&node, "000001"), State::Verified);
        assert_eq!(state(&node, "000002"), State::RolledBack);
        assert_eq!(state(&node, "000004"), State::Committed);
        for id in node.ids() {
            assert!(history::report(&node.host.root, &id).is_some(), "{id}");
        }
        let loaded = DaemonState::load(&node.host.root);
        assert_eq!(loaded.damage, None);
        assert_eq!(loaded.state.last_transaction.unwrap().outcome, Outcome::Degraded);
        assert_eq!(loaded.state.counters.renewals["front-proxy-client"], 1);
    }
    let node = upgraded("observe-only");
    assert_eq!(state(&node, "000002"), State::RollbackFailed);
    assert!(DaemonState::load(&node.host.root).state.observe_only.is_some_and(|o| o.errors.len() == 3));
    assert_outcome(&node.renew_due(), Outcome::Refused);
}

#[test]
fn what_version_0_1_0_has_left_committed_blocks_once_and_is_unproven_or_proven_then() {
    for (kind, restarts) in [("taken-up", 0), ("not-taken-up", 1)] {
        let node = upgraded(kind);
        assert!(matches!(node.try_renew(&Selection::Due), Err(EngineError::Unfinished { .. })), "{kind}");
        let well = node.rebooted();
        assert_outcome(&prove(&well), Outcome::Verified);
        assert_eq!(well.fake.details("stop-container").len(), restarts, "{kind}: what has been taken up stays so");
        assert_eq!(state(&well, "000004"), State::Verified);

        node.fake.world(|w| w.node_ready = false);
        assert_outcome(&prove(&node), Outcome::Degraded);
        assert_eq!(state(&node, "000004"), State::Unproven, "{kind}");
        assert!(finding(&node).is_some());
        node.fake.world(|w| w.node_ready = true);
        assert_outcome(&node.renew_due(), Outcome::Verified);
        assert_outcome(&prove(&node), Outcome::Verified);
    }
}

#[test]
fn check_and_history_say_so_and_the_command_line_accepts_it() {
    let node = never_ready();
    let id = node.ids().pop().unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_certwarden"));
        let done = command.arg("--root").arg(node.dir.path()).args(args).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.code().unwrap(), text)
    };
    let (code, text) = run(&["check", NAME]);
    assert!(code == 1 && text.contains("not proven"), "{code} {text}");
    assert!(run(&["history"]).1.contains("unproven"));
    let (code, text) = run(&["recover", "--accept", "000009-20260101T000000Z"]);
    assert!(code == 64 && text.contains("history"), "{code} {text}");
    let (code, text) = run(&["recover", "--accept", &id]);
    assert!(code == 0 && text.contains("accepted by "), "{code} {text}");
    assert!(run(&["history"]).1.contains("accepted"));
    assert_eq!(run(&["check", NAME]).0, 0);
    let (code, text) = run(&["recover", "--accept"]);
    assert!(code == 0 && text.contains("no transaction is unproven"), "{code} {text}");
}
