//! Nodes of one cluster take turns: what the lock, other nodes' harm and people's words do to a renewal of this one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::fake;
use crate::support;
use certwarden::model::gate::Gate;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Span;
use certwarden::model::report::{Outcome, Report};
use fake::Fault;
use fake::node::{Node, assert_outcome, assert_unchanged, new_files};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const LOCK: &str = "certwarden-control-plane";
const NOTES: &str = "certwarden";

/// One of three control planes, with everything due and days left.
fn one_of_three() -> Node {
    let node = Node::due();
    node.fake.world(|w| w.members = 3);
    node
}

fn holder(node: &Node) -> Option<String> {
    node.fake.world(|w| w.cluster.holder(LOCK).map(str::to_owned))
}

fn all(node: &Node) -> Report {
    node.renew(&Selection::All)
}

#[track_caller]
fn assert_waits(node: &Node, report: &Report, gate: Gate, words: &str) {
    assert_outcome(report, Outcome::Refused);
    assert_eq!(report.refusals[0].gate, gate, "{}", report.reason);
    assert!(report.refusals[0].reason.contains(words), "{}", report.refusals[0].reason);
    assert!(node.ids().is_empty(), "a transaction was begun");
}

#[test]
fn a_renewal_takes_the_lock_keeps_it_and_gives_it_up() {
    let node = one_of_three();
    assert_outcome(&all(&node), Outcome::Verified);
    assert_eq!(holder(&node), None, "nobody holds it afterwards");
    let last = node.fake.world(|w| w.cluster.annotation(LOCK, "certwarden.io/last-holder").map(str::to_owned));
    assert!(last.unwrap().starts_with("node-1_"));
    let puts = node.fake.details("put").len();
    assert!(puts >= 3, "renewed before the commit and before each restart, then given up: {puts}");
}

#[test]
fn a_single_control_plane_asks_for_no_lock() {
    let node = Node::due();
    assert_outcome(&all(&node), Outcome::Verified);
    assert!(node.fake.world(|w| w.cluster.leases.is_empty()));
}

fn took_the_lock(node: &Node) -> bool {
    node.fake.world(|w| w.cluster.annotation(LOCK, "certwarden.io/last-holder").is_some())
}

#[test]
fn a_label_that_is_missing_makes_nobody_act_alone() {
    for unlabelled in [vec!["node-1", "m1", "m2"], vec!["m1", "m2"], vec!["node-1", "m1"]] {
        let node = one_of_three();
        node.fake.world(|w| w.cluster.unlabelled.clone_from(&unlabelled));
        let report = all(&node);
        assert_outcome(&report, Outcome::Verified);
        assert!(took_the_lock(&node), "{unlabelled:?}");
        let told = report.notes.iter().any(|n| n.contains("m1 is a control plane by etcd's members"));
        assert!(told, "{unlabelled:?}: {:?}", report.notes);
    }
}

#[test]
fn an_api_server_that_only_its_address_tells_of_is_a_peer_and_the_own_one_is_not() {
    let node = Node::due();
    node.fake.world(|w| w.cluster.servers = vec!["10.0.0.1", "10.0.0.2"]);
    assert_outcome(&all(&node), Outcome::Verified);
    assert!(took_the_lock(&node));
    let node = Node::due();
    node.fake.world(|w| w.cluster.servers = vec!["10.0.0.1"]);
    let report = all(&node);
    assert_outcome(&report, Outcome::Verified);
    assert!(node.fake.world(|w| w.cluster.leases.is_empty()), "{:?}", report.notes);
}

#[test]
fn who_was_seen_before_is_a_peer_when_all_others_have_forgotten() {
    let node = one_of_three();
    assert_outcome(&node.renew(&Selection::Names(vec!["admin.conf".into()])), Outcome::Verified);
    node.fake.world(|w| {
        w.members = 1;
        w.cluster.leases.clear();
        w.pass(Duration::from_secs(3600)); // a Lease that was seen and is gone is held until it has ended
    });
    assert_outcome(&all(&node), Outcome::Verified);
    assert!(took_the_lock(&node));
}

#[test]
fn where_nobody_answers_etcds_members_count_beside_what_is_remembered() {
    let node = one_of_three();
    // what 0.1.0 has remembered of a time when it was alone
    fs::write(node.path("/var/lib/certwarden/cluster.json"), r#"{"control_planes": ["node-1"]}"#).unwrap();
    node.fake.world(|w| w.api_is_down = true);
    let report = all(&node);
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("without it this node acts at"), "{}", report.reason);
}

/// Another node has it, and goes on renewing it.
fn is_held(node: &Node) {
    node.fake.world(|w| w.cluster.write(LOCK, "m1_00000001", 1200, &json!({})));
}

#[test]
fn while_another_node_has_the_lock_nothing_is_begun() {
    let node = one_of_three();
    node.fake.world(|w| w.cluster.write(LOCK, "m1_00000001", 1200, &json!({})));
    let before = node.live();
    assert_waits(&node, &all(&node), Gate::ClusterLock, "m1 holds the cluster's lock");
    assert_unchanged(&before, &node);
    assert_eq!(holder(&node).as_deref(), Some("m1_00000001"));
}

#[test]
fn a_holder_that_never_comes_back_is_waited_for_until_its_lease_has_been_seen_unchanged_for_its_duration() {
    let node = one_of_three();
    node.fake.world(|w| w.cluster.write(LOCK, "m1_00000001", 1200, &json!({})));
    assert_waits(&node, &all(&node), Gate::ClusterLock, "m1");
    node.fake.world(|w| w.pass(Duration::from_secs(1199)));
    assert_waits(&node, &all(&node), Gate::ClusterLock, "m1");
    node.fake.world(|w| w.pass(Duration::from_secs(2)));
    assert_outcome(&all(&node), Outcome::Verified);
}

#[test]
fn a_renewal_that_was_rolled_back_is_told_and_holds_the_other_nodes_back() {
    let node = one_of_three();
    node.fake.world(|w| w.never_ready_if = Some(new_files));
    assert_outcome(&all(&node), Outcome::RolledBack);
    let told = node.fake.world(|w| w.cluster.annotation(NOTES, "certwarden.io/harm").map(str::to_owned)).unwrap();
    assert!(told.contains("node-1"), "{told}");

    let other = one_of_three();
    let told = told.replace("node-1", "m2");
    other.fake.world(|w| w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": told})));
    assert_waits(&other, &all(&other), Gate::ClusterLock, "the renewal of m2");
    // what is about to end cannot wait for a person
    let urgent = Node::due_but(&[("apiserver", 2 * support::DAY)]);
    urgent.fake.world(|w| {
        w.members = 3;
        w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": told}));
    });
    assert_outcome(&urgent.renew(&Selection::Names(vec!["apiserver".into()])), Outcome::Verified);
}

/// From the commit on, whatever becomes of it.
fn was_committed(root: &Path) -> bool {
    let transactions = fs::read_dir(root.join("var/lib/certwarden/transactions")).into_iter().flatten();
    let ledgers = transactions.filter_map(|dir| fs::read_to_string(dir.unwrap().path().join("ledger.jsonl")).ok());
    ledgers.into_iter().any(|ledger| ledger.contains("committed"))
}

#[test]
fn the_lock_is_renewed_beside_what_takes_long_until_the_end_of_the_way_back() {
    let mut node = one_of_three();
    node.policy.verify.timeout = Span(15 * MINUTE);
    let lasts = 31 * MINUTE;
    node.fake.world(|w| w.never_ready_if = Some(was_committed));
    let begun = node.fake.world(|w| w.elapsed);
    all(&node);
    let writes = node.fake.world(|w| w.cluster.writes.clone());
    let times: Vec<Duration> = writes.into_iter().filter(|(name, _)| name == LOCK).map(|(_, at)| at).collect();
    assert!(times.last().unwrap().saturating_sub(begun) > 30 * MINUTE, "both wait: {times:?}");
    let longest = times.windows(2).map(|t| t[1].saturating_sub(t[0])).max().unwrap();
    assert!(longest < lasts * 2 / 5, "{longest:?} without a renewal: {times:?}");
}

#[test]
fn a_way_back_is_told_before_its_first_restart() {
    let node = one_of_three();
    node.fake.world(|w| w.never_ready_if = Some(new_files));
    assert_outcome(&all(&node), Outcome::RolledBack);
    let calls = node.fake.calls();
    let told = calls.iter().position(|c| c.step == "telling the other nodes" && ["put", "post"].contains(&c.method));
    let back = calls.iter().position(|c| c.step == "putting the old files back").unwrap();
    let restarts = |c: &fake::Call| ["stop-container", "restart", "start"].contains(&c.method);
    let first = back + calls[back..].iter().position(restarts).unwrap();
    assert!(told.is_some_and(|told| told < first), "told: {told:?}, restarted: {first}");
}

#[test]
fn a_renewal_without_the_lock_tells_its_harm_too() {
    let node = one_of_three();
    is_held(&node);
    node.fake.world(|w| w.never_ready_if = Some(new_files));
    let session = node.session();
    let plan = session.plan(&Selection::All).unwrap();
    let report = session.carry_out(&plan, false, &[Gate::ClusterLock], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::RolledBack);
    let told = node.fake.world(|w| w.cluster.annotation(NOTES, "certwarden.io/harm").map(str::to_owned));
    assert!(told.unwrap_or_default().contains("node-1"));
    assert_eq!(holder(&node).as_deref(), Some("m1_00000001"));
}

#[test]
fn the_lock_is_kept_until_harm_has_been_told() {
    let node = one_of_three();
    node.fake.world(|w| {
        w.never_ready_if = Some(new_files);
        w.cluster.refuses = Some(NOTES);
    });
    assert_outcome(&all(&node), Outcome::RolledBack);
    assert!(holder(&node).is_some_and(|holder| holder.starts_with("node-1_")), "nobody does the same in ignorance");
    let session = node.session();
    let cluster = session.cluster().unwrap();
    cluster.settle_debts();
    assert!(holder(&node).is_some());
    node.fake.world(|w| w.cluster.refuses = None);
    session.cluster().unwrap().settle_debts();
    let told = node.fake.world(|w| w.cluster.annotation(NOTES, "certwarden.io/harm").map(str::to_owned));
    assert!(told.unwrap_or_default().contains("node-1"));
    assert_eq!(holder(&node), None, "then it is given up");
}

#[test]
fn a_node_that_fails_each_day_holds_the_others_back_for_as_long_as_one_that_failed_once() {
    let node = one_of_three();
    let day = 24 * 60 * MINUTE;
    let fails = |node: &Node, at: &str| {
        let mark = json!({"m2": {"at": at, "first": "2020-01-01T00:00:00Z", "outcome": "rolled-back", "reason": "x"}});
        node.fake.world(|w| w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": mark.to_string()})));
    };
    for at in ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"] {
        fails(&node, at);
        assert_waits(&node, &all(&node), Gate::ClusterLock, "the renewal of m2");
        node.fake.world(|w| w.elapsed += day + MINUTE);
    }
    fails(&node, "2020-01-03T00:00:00Z");
    assert_outcome(&all(&node), Outcome::Verified);
}

#[test]
fn success_takes_the_nodes_own_mark_away_and_leaves_those_of_others() {
    let node = one_of_three();
    let mark = |at: &str| json!({"at": at, "outcome": "rolled-back", "reason": "x"});
    let old = "2020-01-01T00:00:00Z";
    let marks = json!({"node-1": mark(old)}).to_string();
    node.fake.world(|w| w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": marks})));
    assert_outcome(&all(&node), Outcome::Verified);
    let told = node.fake.world(|w| w.cluster.annotation(NOTES, "certwarden.io/harm").map(str::to_owned));
    assert!(!told.unwrap_or_default().contains("node-1"));
}

#[test]
fn a_control_plane_that_is_not_ready_holds_the_others_back() {
    let node = one_of_three();
    node.fake.world(|w| w.cluster.not_ready = vec!["m2"]);
    assert_waits(&node, &all(&node), Gate::ClusterLock, "control plane m2 is NotReady");
}

#[test]
fn a_control_plane_that_stays_away_is_waited_for_no_longer_than_a_silent_holder_and_etcds_leaves_wait_on() {
    let node = one_of_three();
    node.fake.world(|w| {
        w.cluster.not_ready = vec!["m2"];
        w.unhealthy_members = 1;
    });
    let before = node.live();
    assert_waits(&node, &node.renew_due(), Gate::ClusterLock, "m2 is NotReady");
    node.fake.world(|w| w.pass(Duration::from_secs(1199)));
    assert_waits(&node, &node.renew_due(), Gate::ClusterLock, "m2 is NotReady");
    node.fake.world(|w| w.pass(Duration::from_secs(2)));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let after = node.live();
    let changed = |path: &str| before.get(Path::new(path)) != after.get(Path::new(path));
    for path in ["etc/kubernetes/controller-manager.conf", "etc/kubernetes/pki/apiserver.crt"] {
        assert!(changed(path), "{path}");
    }
    for path in ["etc/kubernetes/pki/etcd/server.crt", "etc/kubernetes/pki/etcd/peer.crt"] {
        assert!(!changed(path), "{path}: with it etcd might be restarted, and there is no member to spare");
    }
    assert!(!node.fake.details("stop-container").iter().any(|c| c.contains("etcd")), "etcd was restarted");
}

#[test]
fn an_api_that_swallows_requests_after_the_commit_costs_seconds_in_all_and_not_for_each_restart() {
    let node = one_of_three();
    node.fake.world(|w| w.leases_vanish_if = Some(new_files));
    let report = all(&node);
    assert_outcome(&report, Outcome::Verified);
    assert!(report.notes.iter().any(|note| note.contains("after the commit")), "{:?}", report.notes);
    let vanished = node.fake.world(|w| w.vanished);
    // ten for the restarts, and then, when all is done, for telling it and for giving the lock up
    assert!((10..=30).contains(&vanished.as_secs()), "{vanished:?} of waiting");
}

#[test]
fn a_paused_cluster_and_a_cordoned_node_are_left_alone() {
    let node = one_of_three();
    let pause = json!({"since": "2020-01-01T00:00:00Z", "reason": "holidays"}).to_string();
    node.fake.world(|w| w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/pause": pause})));
    assert_waits(&node, &all(&node), Gate::Paused, "holidays");
    let node = one_of_three();
    node.fake.world(|w| w.cluster.cordoned = true);
    assert_waits(&node, &all(&node), Gate::Maintenance, "cordoned");
}

#[test]
fn a_cordon_that_lasts_is_no_maintenance() {
    let hours_ago = |node: &Node, hours| {
        let at = node.fake.world(|w| w.now) - jiff::SignedDuration::from_hours(hours);
        node.fake.world(|w| (w.cluster.cordoned, w.cluster.cordoned_at) = (true, Some(at.to_string())));
    };
    let node = one_of_three();
    hours_ago(&node, 23);
    assert_waits(&node, &all(&node), Gate::Maintenance, "after 1d (`maintenance.cordon-age`)");
    hours_ago(&node, 25);
    assert_outcome(&all(&node), Outcome::Verified);
    let mut strict = one_of_three();
    strict.policy.maintenance.cordon_age = certwarden::model::policy::Span::days(365);
    hours_ago(&strict, 25);
    assert_waits(&strict, &all(&strict), Gate::Maintenance, "cordoned");
}

#[test]
fn a_cordon_of_unknown_age_counts_from_when_it_was_first_seen() {
    let node = one_of_three();
    let cordon = |cordoned| node.fake.world(|w| w.cluster.cordoned = cordoned);
    let look = || {
        let session = node.session();
        let plan = session.plan(&Selection::All).unwrap();
        session.in_the_way(&plan).iter().any(|r| r.gate == Gate::Maintenance)
    };
    let pass = |hours| node.fake.world(|w| w.now += jiff::SignedDuration::from_hours(hours));
    cordon(true);
    assert!(look());
    pass(23);
    assert!(look());
    pass(2);
    assert!(!look());
    // another cordon begins anew
    cordon(false);
    assert!(!look());
    cordon(true);
    assert!(look());
}

#[test]
fn where_nobody_can_be_asked_one_of_several_waits_for_its_own_time() {
    let node = one_of_three();
    // what the cluster is like was learnt when it answered
    assert_outcome(&node.renew(&Selection::Names(vec!["admin.conf".into()])), Outcome::Verified);
    let begun = node.ids().len();
    node.fake.world(|w| w.api_is_down = true);
    let report = all(&node);
    assert_outcome(&report, Outcome::Refused);
    assert!(report.refusals.iter().any(|r| r.gate == Gate::ClusterLock), "{}", report.reason);
    assert_eq!(node.ids().len(), begun);
    // the API server's own certificate is why: nobody waits for an answer that can never come
    let dark = Node::expired();
    dark.fake.world(|w| (w.members, w.api_is_down) = (3, true));
    assert!(matches!(dark.renew_due().outcome, Outcome::Verified | Outcome::Degraded));
}

#[test]
fn a_lock_that_is_lost_or_cannot_be_renewed_before_the_commit_ends_the_renewal_untouched() {
    // the last: it is done each time, and the answer is lost
    for fault in [Fault::Hang, Fault::Fail, Fault::Lie] {
        let node = one_of_three();
        let before = node.live();
        // the lock is taken by POST, kept by PUT
        node.fake.always("put", fault);
        let report = all(&node);
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains("lock"), "{}", report.reason);
        assert_unchanged(&before, &node);
        // a closed gate, for which nothing is put off
        assert_eq!(report.refusals.iter().map(|r| r.gate).collect::<Vec<_>>(), [Gate::ClusterLock]);
    }
}

#[test]
fn a_transaction_that_cannot_be_recorded_gives_the_lock_up_at_once() {
    let probe = one_of_three();
    assert_outcome(&all(&probe), Outcome::Verified);
    let taken = |name: &String| name == "asking for the cluster's lock/post";
    let at = probe.fake.world(|w| w.tick_names.iter().position(taken)).unwrap() + 1;

    let node = one_of_three();
    let in_the_way = |root: &Path| {
        let directory = root.join("var/lib/certwarden/transactions");
        let _ = fs::remove_dir_all(&directory);
        fs::write(directory, "").unwrap();
    };
    node.fake.world(|w| w.hook_at = Some((at as u64, Box::new(in_the_way))));
    let session = node.session();
    let plan = session.plan(&Selection::All).unwrap();
    assert!(session.carry_out(&plan, false, &[], &Node::progress()).is_err());
    assert!(node.fake.world(|w| w.cluster.leases.contains_key(LOCK)), "it was taken");
    assert_eq!(holder(&node), None, "and given up");
}
