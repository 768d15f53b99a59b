//! What is left out makes nobody worse off: a component with a credential that is broken on the disk goes on with what it has
//! in memory, and is not restarted for what else is renewed.

use std::collections::BTreeSet;
use std::fs;

use crate::fake;
use crate::support;
use certwarden::model::component::Component;
use certwarden::model::plan::{Plan, Step};
use certwarden::model::planner::Selection;
use certwarden::model::report::{Outcome, Report};
use fake::node::{Node, assert_outcome, assert_unchanged, on_the_loopback, temp};
use support::{DAY, Options, Tree};

/// Whom the plan brings to use new files.
fn activated(plan: &Plan) -> Vec<Component> {
    let steps = plan.parts().flat_map(|part| &part.steps);
    let component = |s: &Step| match s {
        Step::Activate { component, .. } => Some(*component),
        _ => None,
    };
    steps.filter_map(|s| component(&s.step)).collect()
}

fn names(report: &Report) -> BTreeSet<&str> {
    report.all().flat_map(|r| &r.left_out).map(|s| s.name.as_str()).collect()
}

fn reason<'r>(report: &'r Report, name: &str) -> &'r str {
    &report.left_out.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{:?}", report.left_out)).reason
}

#[test]
fn an_api_server_whose_key_is_gone_runs_on_while_the_others_are_renewed() {
    let node = Node::due();
    fs::remove_file(node.path("/etc/kubernetes/pki/apiserver.key")).unwrap();
    let cert = node.read("/etc/kubernetes/pki/apiserver.crt");
    let plan = node.plan(&Selection::Due);
    assert!(!activated(&plan).contains(&Component::KubeApiserver), "{:?}", activated(&plan));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!((report.exit_code(), report.renewed.len(), names(&report)), (1, 9, BTreeSet::from(["apiserver"])));
    assert_eq!(node.read("/etc/kubernetes/pki/apiserver.crt"), cert);
    let stopped = node.fake.details("stop-container");
    assert!(!stopped.iter().any(|c| c.starts_with("kube-apiserver")), "{stopped:?}");
    node.assert_nothing_left_over();
    // once more: the rest is new, and this is no attempt at anything
    let (before, transactions) = (node.live(), node.ids().len());
    let again = node.renew_due();
    assert_outcome(&again, Outcome::LeftOut);
    assert_eq!((again.exit_code(), node.ids().len()), (1, transactions));
    assert_unchanged(&before, &node);
}

#[test]
fn what_would_restart_who_could_not_start_again_is_left_out_with_it() {
    let node = Node::due();
    fs::remove_file(node.path("/etc/kubernetes/pki/etcd/peer.key")).unwrap();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(names(&report), BTreeSet::from(["etcd-peer", "etcd-server"]));
    let why = reason(&report, "etcd-server");
    assert!(why.starts_with("etcd might have to be restarted for it, and could not start again: "), "{why}");
    assert!(why.ends_with("/etc/kubernetes/pki/etcd/peer.key does not exist"), "{why}");
    assert!(!node.fake.details("stop-container").iter().any(|c| c.starts_with("etcd")));
    // by name it is all or nothing
    let named = node.renew(&Selection::Names(vec!["etcd-server".into()]));
    assert_outcome(&named, Outcome::Refused);
    assert!(named.reason.contains("etcd might have to be restarted"), "{}", named.reason);
}

#[test]
fn a_kubelet_that_could_not_start_again_is_not_restarted_although_it_always_is() {
    for (what, left) in [("expired", -DAY), ("dangling", 300 * DAY)] {
        let dir = temp();
        let options = Options { external_ca: true, left: 20 * DAY, ..Options::default() };
        let tree = Tree::build(dir.path(), options.left_of("kubelet-client", left));
        on_the_loopback(&tree);
        let node = Node::at(dir);
        if what == "dangling" {
            fs::remove_file(node.path("/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem")).unwrap();
        }
        let plan = node.plan(&Selection::Due);
        assert!(!activated(&plan).contains(&Component::Kubelet), "{what}: {:?}", activated(&plan));
        assert!(plan.items.iter().any(|i| i.name == "etcd-server"), "{what}: the rest is renewed");
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        assert_eq!(report.exit_code(), 1, "{what}");
        assert!(names(&report).contains("kubelet-client"), "{what}: {:?}", names(&report));
        assert!(node.fake.details("restart").is_empty(), "{what}");
        assert!(node.fake.world(|w| w.kubelet.is_running()), "{what}");
    }
}

#[test]
fn a_key_that_does_not_fit_is_mended_before_anybody_is_restarted_for_the_others() {
    let node = Node::due_but(&[("etcd-healthcheck-client", -DAY)]);
    fs::copy(node.path("/etc/kubernetes/pki/front-proxy-client.key"), node.path("/etc/kubernetes/pki/apiserver.key"))
        .unwrap();
    let plan = node.plan(&Selection::Due);
    let first: Vec<&str> = plan.items.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(first, ["apiserver", "etcd-healthcheck-client"], "what has no way back, and what nobody starts with");
}
