//! Workers take turns with their kubelet's certificate: in objects that control planes do not rely on, under what RBAC, NodeRestriction
//! and the policy let them do.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::fake::config_maps::{ConfigMaps, Data};
use crate::fake::node::{Node, assert_outcome, on_the_loopback, temp};
use crate::fake::signer::Signer;
use crate::support::{DAY, Layout, Options, Tree};
use certwarden::fleet::Desk;
use certwarden::model::gate::Gate;
use certwarden::model::policy::{Span, Threshold};
use certwarden::model::report::{Outcome, Report};
use jiff::Timestamp;
use serde_json::json;

const CONTROL_PLANE: &str = "certwarden-control-plane";
const NOTES: &str = "certwarden";
const LOCK: &str = "certwarden-worker-0";
const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(2 * 86_400);

/// A worker whose kubelet's certificate is due, with so many seconds left, in a cluster with both manifests.
fn worker(left: i64) -> Node {
    let dir = temp();
    let tree = Tree::build(dir.path(), Options { layout: Layout::Worker, left, ..Options::default() });
    on_the_loopback(&tree);
    let mut node = Node::at(dir);
    node.policy.kubelet.renew_before = Threshold::Time(Span::days(30));
    node.policy.fleet.kubeconfig = "/etc/kubernetes/kubelet.conf".into();
    node.fake.world(|w| {
        w.signer = Some(Signer::new(&tree.ca, &tree.front_proxy_ca));
        w.cluster.maps.apply();
        w.cluster.maps.policy = true;
    });
    node
}

/// Whether the kubelet's link leads to another file than the tree was made with.
fn has_new_identity(root: &Path) -> bool {
    let to = fs::read_link(root.join("var/lib/kubelet/pki/kubelet-client-current.pem")).unwrap();
    !to.ends_with("kubelet-client-2026-01-02-03-04-05.pem")
}

fn due() -> Node {
    worker(20 * DAY)
}

fn one_of_three() -> Node {
    let node = Node::due();
    node.fake.world(|w| w.members = 3);
    node
}

#[track_caller]
fn assert_waits(report: &Report, gate: Gate, words: &str) {
    assert_outcome(report, Outcome::Refused);
    assert_eq!(report.refusals[0].gate, gate, "{}", report.reason);
    assert!(report.refusals[0].reason.contains(words), "{}", report.refusals[0].reason);
}

fn mark(first: &str) -> String {
    json!({"at": first, "outcome": "rolled-back", "reason": "the kubelet did not start"}).to_string()
}

fn marks_of(node: &str, first: &str) -> Data {
    Data::from([(node.to_owned(), mark(first))])
}

fn lock(node: &Node) -> Data {
    node.fake.world(|w| w.cluster.maps.data(LOCK))
}

fn held_by(holder: &str, transitions: u32) -> Data {
    let fields = [("holderIdentity", holder.to_owned()), ("leaseDurationSeconds", "1200".to_owned())];
    let fields = fields.into_iter().chain([("leaseTransitions", transitions.to_string())]);
    fields.map(|(key, value)| (key.to_owned(), value)).collect()
}

#[test]
fn a_worker_takes_its_turn_by_its_kubelets_certificate_and_writes_no_lease() {
    let node = due();
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert!(lock(&node)["lastHolder"].starts_with("node-1_"), "{:?}", lock(&node));
    assert!(!lock(&node).contains_key("holderIdentity"), "it is given up");
    assert!(node.fake.world(|w| w.cluster.leases.is_empty()));
    assert_eq!(node.fake.details("put"), Vec::<String>::new());
}

#[test]
fn a_worker_heeds_what_control_planes_write_where_those_of_0_1_0_write_it_too() {
    let pause = json!({"since": "2020-01-01T00:00:00Z", "reason": "holidays"}).to_string();
    let harm = json!({"cp2": {"at": "2020-01-01T00:00:00Z", "outcome": "rolled-back", "reason": "x"}}).to_string();
    for (name, holder, annotations, gate, words) in [
        (NOTES, "", json!({"certwarden.io/pause": pause}), Gate::Paused, "holidays"),
        (NOTES, "", json!({"certwarden.io/harm": harm}), Gate::ClusterLock, "the renewal of cp2"),
        (CONTROL_PLANE, "cp1_00000001", json!({}), Gate::ClusterLock, "cp1 holds the cluster's lock"),
    ] {
        let node = due();
        node.fake.world(|w| w.cluster.write(name, holder, 1200, &annotations));
        assert_waits(&node.renew_due(), gate, words);
        assert!(node.ids().is_empty());
    }
}

#[test]
fn a_worker_that_fails_marks_itself_beside_the_others_once_these_are_not_waited_for_any_more() {
    let node = due();
    node.fake.world(|w| w.cluster.maps.set_marks(marks_of("w7", "2020-01-01T00:00:00Z")));
    assert_waits(&node.renew_due(), Gate::ClusterLock, "the renewal of w7");
    node.fake.world(|w| {
        w.elapsed += PATIENCE + MINUTE;
        w.kubelet_dies_if = Some(has_new_identity);
    });
    assert_outcome(&node.renew_due(), Outcome::RolledBack);
    let marks = node.fake.world(|w| w.cluster.maps.marks());
    assert_eq!(marks.keys().collect::<Vec<_>>(), ["node-1", "w7"]);
    assert_eq!(marks["w7"], mark("2020-01-01T00:00:00Z"));
    assert!(node.fake.world(|w| w.cluster.leases.is_empty()), "no Lease of a control plane is written");
}

#[test]
fn a_workers_success_takes_its_own_mark_away() {
    let node = due();
    node.fake.world(|w| w.cluster.maps.set_marks(marks_of("node-1", "2020-01-01T00:00:00Z")));
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert_eq!(node.fake.world(|w| w.cluster.maps.marks()), Data::new());
}

#[test]
fn without_the_manifest_a_worker_waits_says_what_to_apply_and_is_renewed_in_its_emergency() {
    let node = due();
    node.fake.world(|w| w.cluster.maps = ConfigMaps::default());
    assert_waits(&node.renew_due(), Gate::ClusterLock, "apply packaging/kubernetes/fleet.yaml");
    let urgent = worker(DAY);
    urgent.fake.world(|w| w.cluster.maps = ConfigMaps::default());
    assert_outcome(&urgent.renew_due(), Outcome::Verified);
}

#[test]
fn a_worker_with_a_shared_token_goes_on_as_with_0_1_0() {
    let mut node = due();
    let conf = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
                clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]\nusers: [{name: u, user: {token: s3cret}}]\n";
    fs::create_dir_all(node.path("/etc/certwarden")).unwrap();
    fs::write(node.path("/etc/certwarden/fleet.conf"), conf).unwrap();
    node.policy.fleet.kubeconfig = "/etc/certwarden/fleet.conf".into();
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let last = node.fake.world(|w| w.cluster.annotation(LOCK, "certwarden.io/last-holder").map(str::to_owned));
    assert!(last.unwrap().starts_with("node-1_"));
    assert_eq!(lock(&node), Data::new(), "the lock of the others");
}

#[test]
fn the_identity_of_another_node_is_not_used() {
    let node = due();
    let session = node.session();
    let mut inventory = session.inventory.clone();
    inventory.node.name = Some("w9".to_owned());
    let cluster = certwarden::fleet::Cluster::of(&node.host, &node.policy, &inventory).unwrap();
    assert!(!cluster.has_company(), "there is nothing to ask with");
}

#[test]
fn a_control_plane_that_is_given_a_kubelets_kubeconfig_uses_its_own_credential() {
    let mut node = one_of_three();
    node.policy.fleet.kubeconfig = "/etc/kubernetes/kubelet.conf".into();
    assert_outcome(&node.renew(&certwarden::model::planner::Selection::All), Outcome::Verified);
    assert!(node.fake.world(|w| w.cluster.annotation(CONTROL_PLANE, "certwarden.io/last-holder").is_some()));
}

#[test]
fn a_control_plane_waits_for_workers_of_both_kinds_in_a_fleet_that_changes_over() {
    for new in [true, false] {
        let node = one_of_three();
        node.fake.world(|w| {
            w.cluster.maps.apply();
            if new {
                w.cluster.maps.set(LOCK, held_by("w1_00000001", 1));
            } else {
                w.cluster.write(LOCK, "w1_00000001", 1200, &json!({}));
            }
        });
        let begun = node.fake.world(|w| w.elapsed);
        assert_outcome(&node.renew(&certwarden::model::planner::Selection::All), Outcome::Verified);
        let took = node.fake.world(|w| w.elapsed).checked_sub(begun).unwrap();
        assert!(took >= 20 * MINUTE, "{took:?}: it waits for as long as a lock lasts, by either kind");
    }
}

#[test]
fn a_control_plane_waits_for_the_marks_of_workers_once_in_each_renewal_however_often_they_change() {
    let node = one_of_three();
    let all = || node.renew_due();
    let step = PATIENCE / 4;
    for n in 0..4_u32 {
        // another node each time, with another time
        let at = (Timestamp::UNIX_EPOCH + step * n).to_string();
        node.fake.world(|w| w.cluster.maps.set_marks(marks_of(&format!("w{n}"), &at)));
        assert_waits(&all(), Gate::ClusterLock, &format!("the renewal of w{n}"));
        node.fake.world(|w| w.elapsed += step + MINUTE);
    }
    node.fake.world(|w| w.cluster.maps.set_marks(marks_of("w9", "2020-01-09T00:00:00Z")));
    assert_outcome(&all(), Outcome::Verified);
}

#[test]
fn a_worker_whose_lock_changes_hands_all_the_time_is_renewed_in_its_emergency_all_the_same() {
    let node = worker(DAY);
    // its own place in the emergency, and 40 minutes, are over by now
    for transitions in 1..=2 {
        node.fake.world(|w| w.cluster.maps.set(LOCK, held_by("liar_00000001", transitions)));
    }
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert!(lock(&node)["holderIdentity"].starts_with("liar_"), "it went without");
}

#[test]
fn people_see_the_marks_of_both_and_clear_them_all() {
    let mut node = one_of_three();
    node.policy.fleet.kubeconfig = "/etc/kubernetes/kubelet.conf".into(); // as the workers have it
    let harm = json!({"m2": {"at": "2020-01-01T00:00:00Z", "outcome": "rolled-back", "reason": "x"}}).to_string();
    node.fake.world(|w| {
        w.cluster.maps.apply();
        w.cluster.maps.set_marks(marks_of("w1", "2020-01-01T00:00:00Z"));
        w.cluster.write(NOTES, "", 1, &json!({"certwarden.io/harm": harm}));
    });
    let session = node.session();
    let desk = Desk::open(&node.host, &node.policy, &session.inventory, None).unwrap();
    let roster = desk.roster().unwrap();
    assert_eq!(roster.harm.keys().collect::<Vec<_>>(), ["m2", "w1"]);
    assert!(roster.locks.contains_key("configmap/certwarden-worker-0"), "{:?}", roster.locks);
    desk.clear_harm().unwrap();
    assert!(desk.roster().unwrap().harm.is_empty());
}
