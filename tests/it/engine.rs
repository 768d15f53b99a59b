//! The engine against a node that fails, hangs and lies: whatever happens, it ends no worse than it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::fake;
use certwarden::model::component::Component;
use certwarden::model::gate::Gate;
use certwarden::model::ledger::State;
use certwarden::model::plan::{Plan, Source, Step};
use certwarden::model::planner::Selection;
use certwarden::model::policy::{ActivateKubelet, Renewer};
use certwarden::model::report::{Consumer, Outcome, Report, Restarted};
use certwarden::txn::engine::EngineError;
use certwarden::txn::lock::Lock;
use certwarden::txn::progress::Progress;
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{Node, assert_outcome, assert_unchanged, new_files};
use fake::socket::{Uptake, with_sockets};
use fake::{Call, Fault};

fn names(list: &[&str]) -> Selection {
    Selection::Names(list.iter().map(|s| (*s).to_owned()).collect())
}

fn restarted(report: &Report) -> Vec<Component> {
    let component = |r: &Restarted| match r.component {
        Consumer::Component(component) => Some(component),
        Consumer::Other(_) => None,
    };
    report.restarted.iter().filter_map(component).collect()
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

#[test]
fn names_are_renewed_due_or_not_and_all_of_them_or_none() {
    let node = Node::healthy();
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(report.renewed.len(), 1);
    let before = node.live();
    let report = node.renew(&names(&["scheduler.conf", "ca", "kubelet-client"]));
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("left out: ca: a CA is never renewed"), "{}", report.reason);
    assert_unchanged(&before, &node);
    let plan = node.plan(&names(&["ca", "kubelet-client"]));
    assert!(plan.is_empty() && plan.skipped.len() == 2, "{:?}", plan.skipped);
    assert!(node.session().plan(&names(&["no-such"])).unwrap_err().to_string().contains("known are: admin.conf"));
}

#[test]
fn what_is_excluded_is_renewed_by_name_only() {
    let mut node = Node::due();
    node.policy.renew.exclude = vec!["apiserver".to_owned()];
    let has = |plan: &Plan| plan.item("apiserver").is_some();
    assert!(!has(&node.plan(&Selection::Due)) && !has(&node.plan(&Selection::All)));
    assert!(has(&node.plan(&names(&["apiserver"]))));
}

#[test]
fn a_renewed_scheduler_conf_restarts_only_the_scheduler() {
    for (kubelet, expected) in [
        (ActivateKubelet::WhenNeeded, vec![Component::KubeScheduler]),
        (ActivateKubelet::Always, vec![Component::KubeScheduler, Component::Kubelet]),
    ] {
        let mut node = Node::healthy();
        node.policy.activate.kubelet = kubelet;
        let report = node.renew(&names(&["scheduler.conf"]));
        assert_outcome(&report, Outcome::Verified);
        assert_eq!(restarted(&report), expected);
        assert_eq!(node.fake.details("stop-container"), ["kube-scheduler-0"]);
        assert_eq!(node.fake.details("restart").len(), expected.len() - 1);
    }
}

#[test]
fn what_only_people_use_restarts_nothing() {
    let node = Node::healthy();
    let report = node.renew(&names(&["admin.conf"]));
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(restarted(&report), []);
    assert!(node.fake.details("restart").is_empty() && node.fake.details("stop-container").is_empty());
    // with something that a process uses the kubelet shows that the node comes back
    let report = node.renew(&names(&["admin.conf", "front-proxy-client"]));
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(restarted(&report), [Component::Kubelet]);
}

#[test]
fn what_begins_to_ail_the_node_while_admin_conf_is_renewed_is_not_taken_for_its_doing() {
    let node = Node::healthy();
    let fake = node.fake.clone();
    let ill = move || {
        fake.world(|w| {
            w.node_ready = false;
            w.broken.insert("kube-scheduler".to_owned());
            w.containers.iter_mut().filter(|c| c.name == "kube-scheduler").for_each(|c| c.running = false);
        });
    };
    fake::at_step(fake::At::Text("using the new admin.conf"), ill);
    let report = node.renew(&names(&["admin.conf"]));
    fake::forget_steps();
    assert!(!node.fake.world(|w| w.node_ready), "it fell ill meanwhile");
    assert_outcome(&report, Outcome::Verified);
}

#[test]
fn what_is_proven_and_cannot_be_recorded_is_not_rolled_back_and_is_recorded_by_the_next_recovery() {
    let node = Node::due();
    let before = node.live();
    // the ledger takes no more records: its place is taken from the last check on
    let transactions = node.path(fake::node::TRANSACTIONS);
    let away = |root: std::path::PathBuf, there: bool| {
        let dir = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
        let (ledger, aside) = (dir.join("ledger.jsonl"), dir.join("aside"));
        if there {
            fs::rename(&ledger, &aside).unwrap();
            fs::create_dir(&ledger).unwrap();
        } else {
            fs::remove_dir(&ledger).unwrap();
            fs::rename(&aside, &ledger).unwrap();
        }
    };
    let root = transactions.clone();
    fake::at_step(fake::At::Text("waiting for node"), move || away(root, true));
    let report = node.renew_due();
    fake::forget_steps();
    assert_outcome(&report, Outcome::Interrupted);
    assert!(report.reason.contains("in place and proven, which could not be recorded"), "{}", report.reason);
    assert!(node.fake.details("restart").len() == 1, "no rollback was begun");
    away(transactions, false);
    assert_eq!(node.last_state(), Some(State::Committed));
    let report = node.recover(Reach::Full, false).unwrap().unwrap();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(Node::changed(&before, &node.live()).len(), 3 + 2 * 7);
    node.assert_nothing_left_over();
}

#[test]
fn a_dry_run_changes_nothing_restarts_nothing_and_leaves_nothing() {
    let node = Node::due();
    let before = node.live();
    let session = node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    let report = session.carry_out(&plan, true, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::DryRun);
    assert!(report.credentials.iter().all(|c| c.proven == Some(true)), "{:?}", report.credentials);
    assert_unchanged(&before, &node);
    assert!(node.ids().is_empty());
    assert!(node.fake.details("restart").is_empty() && node.fake.details("stop-container").is_empty());
}

#[test]
fn renew_carries_out_every_step_of_the_plan_in_its_order_and_acts_on_nothing_else() {
    let node = Node::due();
    let plan = node.plan(&Selection::Due);
    let report = node.renew_due();
    let mut planned = Vec::new();
    let (mut rehearsed, mut used) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        match &step.step {
            Step::Activate { component: Component::KubeControllerManager | Component::KubeScheduler, .. } => {
                planned.push("stop-container");
            }
            Step::Activate { component: Component::Kubelet, .. } => planned.push("restart"),
            Step::Rehearse { name, proof } => rehearsed.push((name.clone(), proof.describe())),
            Step::Verify { check: certwarden::model::plan::Check::Credential { name, proof } } => {
                used.push((name.clone(), proof.describe()));
            }
            _ => {}
        }
    }
    let acts = ["stop-container", "restart", "stop", "start", "run"];
    let done: Vec<&str> = node.fake.calls().iter().map(|c| c.method).filter(|m| acts.contains(m)).collect();
    assert_eq!(done, planned);
    let seen: Vec<_> = report.credentials.iter().map(|c| (c.name.clone(), c.against.clone())).collect();
    assert_eq!(seen, [rehearsed, used].concat());
}

/// Breaks a plan and says which rule that breaks.
type Break = (&'static str, fn(&mut Plan));

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_plan_that_breaks_a_safety_rule_is_not_carried_out() {
    fn at(plan: &Plan, is: fn(&Step) -> bool) -> usize {
        plan.steps.iter().position(|s| is(&s.step)).unwrap()
    }
    fn activate(plan: &Plan, wanted: Component) -> usize {
        let is = |s: &Step| matches!(s, Step::Activate { component, .. } if *component == wanted);
        plan.steps.iter().position(|s| is(&s.step)).unwrap()
    }
    let breaks: [Break; 13] = [
        ("out of order", |p| p.steps.swap(0, 1)),
        ("backup occurs 0 times", |p| drop(p.steps.remove(0))),
        ("validation occurs 0 times", |p| {
            let i = at(p, |s| matches!(s, Step::Validate { .. }));
            p.steps.remove(i);
        }),
        ("commit occurs 2 times", |p| {
            let i = at(p, |s| matches!(s, Step::Commit { .. }));
            p.steps.insert(i, p.steps[i].clone());
        }),
        ("are backed up", |p| {
            if let Step::Backup { files } = &mut p.steps[0].step {
                files.pop();
            }
        }),
        ("are replaced", |p| {
            let i = at(p, |s| matches!(s, Step::Commit { .. }));
            if let Step::Commit { files } = &mut p.steps[i].step {
                files.push("/etc/passwd".into());
            }
        }),
        ("share a file", |p| p.items.push(p.items[0].clone())),
        ("replaces the CA file", |p| {
            let ca = p.items[1].ca.clone();
            p.items[0].form = certwarden::model::inventory::Form::Kubeconfig { path: ca };
        }),
        ("manifests directory", |p| {
            let path = "/etc/kubernetes/manifests/apiserver.key".into();
            p.items[0].form = certwarden::model::inventory::Form::Kubeconfig { path };
        }),
        ("has no CA", |p| p.items[0].ca = std::path::PathBuf::new()),
        ("out of order", |p| {
            let (a, b) = (activate(p, Component::KubeScheduler), activate(p, Component::Kubelet));
            p.steps.swap(a, b);
        }),
        ("activated twice", |p| {
            let i = activate(p, Component::Kubelet);
            p.steps.insert(i, p.steps[i].clone());
        }),
        ("another component's way", |p| {
            let (a, b) = (activate(p, Component::KubeScheduler), activate(p, Component::Kubelet));
            let how = match &p.steps[b].step {
                Step::Activate { how, .. } => how.clone(),
                _ => unreachable!(),
            };
            p.steps[a].step = Step::Activate { component: Component::KubeScheduler, how };
        }),
    ];
    let node = Node::due();
    let before = node.live();
    let session = node.session();
    for (rule, spoil) in breaks {
        let mut plan = session.plan(&Selection::Due).unwrap();
        spoil(&mut plan);
        let found = certwarden::model::audit::audit(&plan, &session.inventory);
        assert!(found.iter().any(|v| v.to_string().contains(rule)), "{rule}: {found:?}");
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains("safety rule"), "{}", report.reason);
    }
    assert_unchanged(&before, &node);
    assert!(node.ids().is_empty());
}

#[test]
fn what_takes_its_new_leaf_by_itself_is_not_restarted() {
    let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(restarted(&report), [Component::KubeControllerManager, Component::KubeScheduler, Component::Kubelet]);
    let served: Vec<_> = report.sockets.iter().filter(|s| s.ok).map(|s| s.component).collect();
    assert_eq!(served, [Component::Etcd, Component::KubeApiserver]);
}

#[test]
fn what_keeps_its_old_leaf_is_restarted() {
    let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Restart);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(restarted(&report), Component::ALL);
    assert_eq!(report.sockets.iter().filter(|s| s.ok).count(), 2, "{:?}", report.sockets);
}

#[test]
fn what_keeps_its_old_leaf_even_when_restarted_is_rolled_back() {
    let node = with_sockets(Node::due(), Uptake::Never, Uptake::Reload);
    let before = node.live();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("kube-apiserver still serves serial"), "{}", report.reason);
    assert_unchanged(&before, &node);
    node.assert_nothing_left_over();
    assert_eq!(report.sockets.iter().filter(|s| s.ok).count(), 2, "proven: {:?}", report.sockets);
    assert!(!restarted(&report).contains(&Component::KubeScheduler), "it never had the new file");
}

#[test]
fn a_socket_that_was_wrong_before_and_is_not_renewed_is_no_reason_to_roll_back() {
    let node = with_sockets(Node::healthy(), Uptake::Never, Uptake::Never);
    assert_outcome(&node.renew(&names(&["scheduler.conf"])), Outcome::Verified);
    // an administrator renewed it by hand and did not restart the API server
    let other = Node::healthy();
    assert_outcome(&other.renew(&names(&["apiserver"])), Outcome::Verified);
    for file in ["apiserver.crt", "apiserver.key"] {
        let path = format!("/etc/kubernetes/pki/{file}");
        fs::copy(other.path(&path), node.path(&path)).unwrap();
    }
    for file in ["ca.crt", "ca.key"] {
        let path = format!("/etc/kubernetes/pki/{file}");
        assert_eq!(other.read(&path), node.read(&path), "the same template");
    }
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::Verified);
    assert!(report.notes.iter().any(|n| n.contains("as before")), "{:?}", report.notes);
}

#[test]
fn a_kubelet_that_does_not_live_or_is_not_ready_with_the_new_files_is_rolled_back() {
    for never_ready in [false, true] {
        let node = Node::due();
        let before = node.live();
        node.fake.world(|w| {
            if never_ready {
                w.never_ready_if = Some(new_files);
            } else {
                w.kubelet_dies_if = Some(new_files);
            }
        });
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RolledBack);
        assert!(report.renewed.is_empty());
        assert_unchanged(&before, &node);
        node.assert_nothing_left_over();
        node.assert_processes_use_what_is_on_the_disk();
        assert!(node.fake.world(|w| w.kubelet.is_running() && w.starts == 2));
        assert_eq!(report.node.unwrap().ready_after, Some(true));
        // and the next one is free to try again
        node.fake.world(|w| (w.kubelet_dies_if, w.never_ready_if) = (None, None));
        assert_outcome(&node.renew_due(), Outcome::Verified);
    }
}

#[test]
fn a_rollback_that_fails_too_is_told_with_both_errors_and_ends_all_acting_until_an_operator_recovers() {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RollbackFailed);
    assert_eq!(report.outcome.exit_code(), 3);
    assert_unchanged(&before, &node);
    assert_eq!(node.last_state(), Some(State::RollbackFailed));
    node.assert_nothing_left_over();
    let state = DaemonState::load(&node.host.root).state.observe_only.unwrap();
    assert!(state.errors.len() >= 2, "{:?}", state.errors);

    let report = node.session();
    let plan = report.plan(&Selection::Due).unwrap();
    let refused = report.carry_out(&plan, false, &Gate::ALL, &Node::progress()).unwrap();
    assert_outcome(&refused, Outcome::Refused);
    assert_eq!(refused.refusals.iter().map(|r| r.gate).collect::<Vec<_>>(), [Gate::ObserveOnly]);
    // the daemon never clears it, nor does the boot; an operator does not while the cause is there
    for (reach, operator, found) in
        [(Reach::Full, false, false), (Reach::FilesOnly, true, false), (Reach::Full, true, true)]
    {
        let report = node.recover(reach, operator).unwrap();
        assert_eq!(report.is_some(), found, "{reach:?} {operator}");
        assert!(report.is_none_or(|r| r.outcome == Outcome::RollbackFailed));
        assert!(DaemonState::load(&node.host.root).state.observe_only.is_some());
    }
    // even if the daemon's memory is lost
    fs::remove_file(node.path("/var/lib/certwarden/state.json")).unwrap();
    assert_outcome(&node.renew_due(), Outcome::Refused);
    node.fake.world(|w| w.kubelet_dies_if = None);
    let report = node.recover(Reach::Full, true).unwrap().unwrap();
    assert_outcome(&report, Outcome::RolledBack);
    assert_unchanged(&before, &node);
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None);
    assert_outcome(&node.renew_due(), Outcome::Verified);
}

#[test]
fn an_operator_clears_a_standing_whose_transaction_is_gone() {
    let node = Node::due();
    node.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
    assert_outcome(&node.renew_due(), Outcome::RollbackFailed);
    fs::remove_dir_all(node.path(fake::node::TRANSACTIONS)).unwrap();
    node.fake.world(|w| {
        w.kubelet_dies_if = None;
        w.start_kubelet();
    });
    assert_outcome(&node.renew_due(), Outcome::Refused);
    node.recover(Reach::Full, true).unwrap();
    assert_outcome(&node.renew_due(), Outcome::Verified);
}

#[test]
fn a_kubelet_that_was_down_before_is_no_worse_and_no_failed_rollback() {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| {
        w.stop_kubelet();
        w.kubelet_dies_if = Some(|_| true);
        w.api_is_down = true;
    });
    let report = node.renew(&names(&["front-proxy-client"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert_unchanged(&before, &node);
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None);
}

#[test]
fn no_container_is_stopped_while_there_is_no_kubelet_to_make_a_new_one() {
    let node = Node::due();
    node.fake.world(|w| {
        w.stop_kubelet();
        w.kubelet_dies_if = Some(|_| true);
        w.api_is_down = true;
    });
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert!(node.fake.details("stop-container").is_empty());
    assert!(node.fake.world(|w| w.runs("kube-scheduler")));
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn a_kubelet_that_was_down_before_excuses_no_other_component() {
    let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
    node.fake.world(|w| {
        w.stop_kubelet();
        w.kubelet_dies_if = Some(|_| true);
    });
    let session = node.session();
    let plan = session.plan(&names(&["admin.conf", "apiserver"])).unwrap();
    // the API server goes away with the new files and does not come back
    node.fake.world(|w| {
        w.stop_at = None;
        w.dies_at_step = Some(("restarting", "kube-apiserver"));
    });
    let report = session.carry_out(&plan, false, &Gate::ALL, &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::RollbackFailed);
    assert!(report.reason.contains("does not answer any more"), "{}", report.reason);
}

#[test]
fn a_node_that_was_not_ready_before_is_judged_by_no_worse() {
    let node = Node::due();
    node.fake.world(|w| w.node_ready = false);
    let session = node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    let report = session.carry_out(&plan, false, &[Gate::NotReady], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Verified);
    assert!(report.node.unwrap().detail.contains("no worse"));
}

#[test]
fn an_api_that_is_down_throughout_cannot_tell_and_does_not_fail() {
    let node = Node::due();
    node.fake.world(|w| w.api_is_down = true);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(report.notes.iter().any(|n| n.contains("cannot be told")), "{:?}", report.notes);
    assert!(report.credentials.iter().any(|c| c.proven.is_none()));
    assert!(report.node.unwrap().ready_after.is_none());
}

#[test]
fn a_dark_node_whose_every_leaf_has_expired_comes_back() {
    let node = Node::expired();
    node.fake.world(|w| {
        w.stop_kubelet();
        w.containers.iter_mut().for_each(|c| c.running = false);
    });
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(restarted(&report).contains(&Component::Kubelet));
    let ids = node.fake.world(|w| w.containers.iter().all(|c| c.running));
    assert!(ids);
    let took = node.fake.world(|w| w.elapsed);
    assert!(took.as_secs() < 4 * 300, "{took:?}");
}

#[test]
fn a_component_that_was_down_before_for_another_reason_is_no_worse() {
    let broken = || {
        let node = Node::due();
        node.fake.world(|w| {
            w.broken.insert("kube-controller-manager".to_owned());
            w.containers.iter_mut().filter(|c| w.broken.contains(&c.name)).for_each(|c| c.running = false);
        });
        node
    };
    let node = broken();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let told = |n: &&String| n.starts_with("kube-controller-manager") && n.contains("as before");
    assert!(report.notes.iter().any(|n| told(&n)), "{:?}", report.notes);
    // nor does it make a rollback fail
    let node = broken();
    let before = node.live();
    node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
    assert_outcome(&node.renew_due(), Outcome::RolledBack);
    assert_unchanged(&before, &node);
}

#[test]
fn a_node_of_expired_leaves_that_stays_ill_is_degraded_and_not_as_before() {
    for make_ill in [
        |w: &mut fake::World| w.node_ready = false,
        |w: &mut fake::World| w.api_is_down = true,
        |w: &mut fake::World| {
            w.broken.insert("kube-scheduler".to_owned());
            w.containers.iter_mut().filter(|c| c.name == "kube-scheduler").for_each(|c| c.running = false);
        },
    ] {
        let node = Node::expired();
        node.fake.world(make_ill);
        assert_outcome(&node.renew_due(), Outcome::Degraded);
        node.assert_pairs_fit();
        assert_eq!(node.last_state(), Some(State::Unproven));
    }
}

#[test]
fn a_degraded_node_that_has_taken_everything_up_is_looked_at_again_and_not_restarted_again() {
    let node = Node::expired();
    node.fake.world(|w| w.node_ready = false);
    assert_outcome(&node.renew_due(), Outcome::Degraded);
    let acts = || node.fake.details("restart").len() + node.fake.details("stop-container").len();
    let done = acts();
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Degraded);
    node.fake.world(|w| w.node_ready = true);
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
    assert_eq!(acts(), done);
}

#[test]
fn a_degraded_node_that_has_not_taken_everything_up_does_so_at_the_next_recovery() {
    let node = Node::expired();
    node.fake.always("stop-container", Fault::Fail);
    assert_outcome(&node.renew_due(), Outcome::Degraded);
    node.fake.world(|w| w.always.clear());
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn expired_files_are_not_put_back_and_the_next_recovery_verifies_again() {
    let node = Node::expired();
    node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Degraded);
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    assert_eq!(node.last_state(), Some(State::Unproven));
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Degraded);
    node.fake.world(|w| w.kubelet_dies_if = None);
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
    assert_eq!(node.last_state(), Some(State::Verified));
}

#[test]
fn a_machine_that_goes_down_after_the_commit_is_finished_by_the_next_start() {
    let node = Node::due();
    node.fake.always("restart", Fault::ShutDown);
    assert_outcome(&node.renew_due(), Outcome::Interrupted);
    assert_eq!(node.last_state(), Some(State::Committed));
    let next = node.rebooted();
    assert_outcome(&next.recover(Reach::FilesOnly, false).unwrap().unwrap(), Outcome::Interrupted);
    assert_outcome(&next.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
    next.assert_pairs_fit();
    next.assert_nothing_left_over();
}

/// Asks to stop at the first call of a step, and says how it ended.
fn stop_at(node: &Node, step: &'static str, daemon: bool) -> Report {
    node.fake.world(|w| w.stop_at = Some(step));
    let progress = std::sync::Arc::new(Node::progress());
    node.fake.world(|w| w.progress = Some(std::sync::Arc::clone(&progress)));
    node.fake.world(|w| w.stopping = daemon);
    let session = node.session();
    session.carry_out(&session.plan(&Selection::Due).unwrap(), false, &[], &progress).unwrap()
}

#[test]
fn a_persons_wish_to_stop_discards_before_the_commit_and_finishes_after_it() {
    let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Reload);
    let before = node.live();
    assert_outcome(&stop_at(&node, "rehearsing", false), Outcome::Refused);
    assert_unchanged(&before, &node);
    node.assert_nothing_left_over();
    for step in ["waiting for kube-apiserver", "making a new kube-scheduler", "restarting", "waiting for node"] {
        let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Reload);
        assert_outcome(&stop_at(&node, step, false), Outcome::Verified);
    }
}

#[test]
fn a_daemon_that_is_told_to_end_after_the_commit_leaves_the_rest_to_its_next_start() {
    for step in ["waiting for kube-apiserver", "making a new kube-scheduler", "seeing that", "waiting for node"] {
        let node = with_sockets(Node::due(), Uptake::Never, Uptake::Reload);
        let report = stop_at(&node, step, true);
        if step == "waiting for kube-apiserver" {
            assert_outcome(&report, Outcome::Interrupted);
            assert_eq!(node.last_state(), Some(State::Committed));
        }
        let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
        // so late that there is something to be waited for in the end
        node.fake.world(|w| w.first_status = jiff::SignedDuration::from_secs(90));
        assert_outcome(&stop_at(&node, step, true), Outcome::Interrupted);
        assert_eq!(node.last_state(), Some(State::Committed), "{step}");
        assert!(!node.fake.details("stop-container").iter().any(|c| c.starts_with("kube-apiserver")));
    }
}

fn outside_calls(node: &Node) -> Vec<(usize, Call)> {
    node.fake.calls().into_iter().enumerate().filter(|(_, c)| c.step != "before the first step").collect()
}

/// The first and the last of calls that are the same, as a wait makes them.
fn ends_of_waits(calls: Vec<(usize, Call)>) -> Vec<(usize, Call)> {
    let mut groups: BTreeMap<(String, &str, String), Vec<usize>> = BTreeMap::new();
    for (i, c) in &calls {
        groups.entry((c.step.clone(), c.method, c.detail.clone())).or_default().push(*i);
    }
    let wanted: BTreeSet<usize> = groups.values().flat_map(|g| [g[0], g[g.len() - 1]]).collect();
    calls.into_iter().filter(|(i, _)| wanted.contains(i)).collect()
}

#[test]
fn whatever_call_fails_hangs_or_lies_the_node_is_all_new_or_as_it_was() {
    let clean = Node::due();
    assert_outcome(&clean.renew_due(), Outcome::Verified);
    let calls = ends_of_waits(outside_calls(&clean));
    let plan = clean.plan(&Selection::All);
    for word in ["rehearsing", "making a new", "restarting", "seeing that", "counting", "using the new", "waiting for"]
    {
        assert!(calls.iter().any(|(_, c)| c.step.starts_with(word)), "no call while {word}");
    }
    let rehearsed: BTreeSet<_> =
        calls.iter().filter(|(_, c)| c.step.starts_with("rehearsing")).map(|(_, c)| &c.step).collect();
    let with_party = |s: &Step| matches!(s, Step::Rehearse { proof, .. } if !proof.describe().starts_with("TLS"));
    assert_eq!(rehearsed.len(), plan.steps.iter().filter(|s| with_party(&s.step)).count());
    let cases: Vec<_> =
        calls.iter().flat_map(|(at, call)| [Fault::Fail, Fault::Hang, Fault::Lie].map(|f| (*at, call, f))).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let part = |cases: &'_ [(usize, &Call, Fault)]| cases.iter().map(|(at, c, f)| outcome_of(*at, c, *f)).collect();
        let parts = cases.chunks(cases.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|cases| scope.spawn(move || -> Vec<_> { part(cases) })).collect();
        running.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    for wanted in [Outcome::Refused, Outcome::RolledBack, Outcome::Verified] {
        assert!(outcomes.iter().filter(|o| **o == wanted).count() > 10, "{wanted:?} of {}", outcomes.len());
    }
}

/// A renewal during which one call meets a fault: all new, or all as it was, and every process uses what is on the disk.
fn outcome_of(at: usize, call: &Call, fault: Fault) -> Outcome {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.fault_at.insert(at, fault));
    let report = node.renew_due();
    let what = format!(
        "{fault:?} of {} {} while {}: {} {:?}",
        call.method, call.detail, call.step, report.reason, report.notes
    );
    match report.outcome {
        Outcome::Verified => assert_eq!(node.last_state(), Some(State::Verified), "{what}"),
        Outcome::Refused | Outcome::RolledBack => assert_unchanged(&before, &node),
        _ => panic!("{what}"),
    }
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
    assert!(node.fake.world(|w| w.kubelet.is_running()), "{what}");
    if let Some(expected) = expected(call, fault) {
        assert_eq!(report.outcome, expected, "{what}");
    }
    report.outcome
}

/// What must come of a fault, where it is not a matter of waiting a little longer.
fn expected(call: &Call, fault: Fault) -> Option<Outcome> {
    let rehearsal = call.step.starts_with("rehearsing");
    let using = call.step.starts_with("using the new");
    match (call.method, fault) {
        ("whoami" | "get", Fault::Fail) | ("whoami", Fault::Lie) if rehearsal => Some(Outcome::Refused),
        ("whoami" | "get", Fault::Fail) | ("whoami", Fault::Lie) if using => Some(Outcome::RolledBack),
        // no answer says nothing
        ("whoami" | "get", Fault::Hang) if rehearsal || using => Some(Outcome::Verified),
        ("restart" | "stop-container", _) => Some(Outcome::RolledBack),
        _ => None,
    }
}

#[test]
fn a_party_that_fails_for_good_after_the_commit_ends_in_an_honest_report() {
    for (method, fault) in [("restart", Fault::Fail), ("restart", Fault::Hang), ("restart", Fault::Lie)] {
        let node = Node::due();
        let before = node.live();
        node.fake.always(method, fault);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RollbackFailed);
        assert_unchanged(&before, &node);
        node.assert_nothing_left_over();
        let state = DaemonState::load(&node.host.root).state;
        assert!(state.observe_only.is_some_and(|o| o.errors.len() >= 2), "{method} {fault:?}");
        assert!(!report.notes.iter().any(|n| n.contains("Failed(")), "{:?}", report.notes);
        node.fake.world(|w| w.always.clear());
        assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RolledBack);
        assert_unchanged(&before, &node);
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn a_container_that_could_not_be_stopped_never_took_the_new_files_and_is_left_alone_by_the_rollback() {
    for (method, fault) in [
        ("stop-container", Fault::Fail),
        ("stop-container", Fault::Hang),
        ("stop-container", Fault::Lie),
        ("status", Fault::Fail),
        ("status", Fault::Hang),
        ("status", Fault::Lie),
    ] {
        let node = Node::due();
        let before = node.live();
        node.fake.always(method, fault);
        assert_outcome(&node.renew_due(), Outcome::RolledBack);
        assert_unchanged(&before, &node);
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn a_second_certwarden_is_told_that_one_is_at_work() {
    let node = Node::due();
    let before = node.live();
    let lock = Lock::take(&node.host.root, "renew").unwrap();
    assert!(matches!(node.try_renew(&Selection::Due), Err(EngineError::Lock(_))));
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_certwarden"));
        command.arg("--root").arg(node.dir.path()).args(args).output().unwrap()
    };
    assert_eq!(run(&["renew", "--all"]).status.code(), Some(75));
    assert_unchanged(&before, &node);
    drop(lock);
    assert_eq!(run(&["renew", "--all"]).status.code(), Some(0));
    assert_eq!(node.last_state(), Some(State::Verified));
}

#[test]
fn a_system_wide_policy_of_openssl_does_not_end_every_renewal() {
    // as EL's FUTURE: no certificate of a kubeadm cluster is strong enough for it
    const POLICY: &str = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\n\
                          CipherString = DEFAULT@SECLEVEL=5\n";
    let node = Node::due();
    let policy = node.dir.path().join("openssl.cnf");
    fs::write(&policy, POLICY).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_certwarden"));
    let done = command.env("OPENSSL_CONF", policy).arg("--root").arg(node.dir.path()).args(["renew", "--all"]).output();
    let done = done.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(node.last_state(), Some(State::Verified));
}

const ADMIN: &str = "/etc/kubernetes/admin.conf";

#[test]
fn copies_of_admin_conf_follow_it_when_it_is_proven_and_not_before() {
    for (rolled_back, followed) in [(false, true), (true, false)] {
        let node = Node::due();
        let old = node.read(ADMIN);
        fs::create_dir_all(node.path("/root/.kube")).unwrap();
        fs::write(node.path("/root/.kube/config"), &old).unwrap();
        if rolled_back {
            node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
        }
        let last = node.plan(&Selection::Due).steps.pop().unwrap().step;
        assert!(matches!(last, Step::Refresh { .. }), "{last:?}");
        let report = node.renew_due();
        assert_outcome(&report, if rolled_back { Outcome::RolledBack } else { Outcome::Verified });
        assert_eq!(node.read("/root/.kube/config"), if followed { node.read(ADMIN) } else { old.clone() });
        assert_eq!(report.notes.iter().any(|n| n.starts_with("/root/.kube/config, a copy of")), followed);
        assert_eq!(node.read(ADMIN) != old, followed);
    }
}

#[test]
fn a_copy_that_cannot_be_refreshed_does_not_fail_the_renewal_and_is_told() {
    let node = Node::due();
    fs::create_dir_all(node.path("/root/.kube")).unwrap();
    fs::write(node.path("/root/.kube/config"), node.read(ADMIN)).unwrap();
    let session = node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    // somebody turns it into a link between the plan and the end
    fs::remove_file(node.path("/root/.kube/config")).unwrap();
    std::os::unix::fs::symlink("/etc/kubernetes/scheduler.conf", node.path("/root/.kube/config")).unwrap();
    let report = session.carry_out(&plan, false, &[], &Progress::new("test", Duration::from_secs(60))).unwrap();
    assert_outcome(&report, Outcome::Verified);
    let told = |n: &String| n.starts_with("/root/.kube/config was not refreshed: ") && n.contains("symbolic link");
    assert!(report.notes.iter().any(told), "{:?}", report.notes);
}

#[test]
fn copies_follow_a_rollback_too() {
    let node = Node::due();
    let old = node.read(ADMIN);
    fs::create_dir_all(node.path("/root/.kube")).unwrap();
    fs::write(node.path("/root/.kube/config"), &old).unwrap();
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let report = node.session().rollback(None, &[], &Progress::new("test", Duration::from_secs(60))).unwrap();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(node.read("/root/.kube/config"), old);
}

#[test]
fn without_kubeadm_certwarden_signs_itself_and_says_why() {
    let mut node = Node::due();
    node.policy.renew.renewer = Renewer::Auto;
    let plan = node.plan(&Selection::Due);
    assert_eq!((&plan.source, plan.source_reason.as_str()), (&Source::Local, "kubeadm is not installed"));
}
