//! A kubeadm that fits the cluster and does not do what it is there for.

use crate::fake;
use certwarden::model::cert::parse_pem;
use certwarden::model::plan::Source;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Renewer;
use certwarden::model::report::Outcome;
use fake::kubeadm::{Kubeadm, LIFE_DAYS};
use fake::node::{Node, assert_outcome, assert_unchanged};
use fake::{At, at_step, forget_steps};
use jiff::SignedDuration;

fn node(renewer: Renewer, kubeadm: Kubeadm) -> Node {
    let mut node = Node::due();
    node.policy.renew.renewer = renewer;
    node.fake.world(|w| w.kubeadm = Some(kubeadm));
    node
}

fn made_by_kubeadm(node: &Node) -> bool {
    let chain = parse_pem(&node.read("/etc/kubernetes/pki/apiserver.crt")).unwrap();
    chain[0].not_after > node.fake.world(|w| w.now) + SignedDuration::from_hours((LIFE_DAYS - 1) * 24)
}

const BAD: [(Kubeadm, &str); 4] = [
    (Kubeadm::Crashes, "was killed by SIGSEGV"),
    (Kubeadm::Hangs, "kubeadm hung while renewing"),
    (Kubeadm::Lies, "did not renew"),
    (Kubeadm::WeakKey, "is not fit to be used"),
];

#[test]
fn what_kubeadm_cannot_make_certwarden_signs_where_the_choice_was_left_to_it_and_says_so() {
    for (kubeadm, why) in BAD {
        let node = node(Renewer::Auto, kubeadm);
        assert_eq!(node.plan(&Selection::Due).source, Source::Kubeadm);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        assert!(!made_by_kubeadm(&node), "{kubeadm:?}: all of it is of one maker");
        let told = |n: &&String| n.starts_with("kubeadm was not used: ") && n.contains(why);
        assert_eq!(report.notes.iter().filter(told).count(), 1, "{kubeadm:?}: {:?}", report.notes);
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
    }
}

#[test]
fn a_kubeadm_that_works_is_used() {
    let node = node(Renewer::Auto, Kubeadm::Works);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(made_by_kubeadm(&node));
    assert!(!report.notes.iter().any(|n| n.contains("kubeadm was not used")), "{:?}", report.notes);
}

#[test]
fn an_explicit_kubeadm_does_not_fall_back() {
    for (kubeadm, why) in BAD {
        let node = node(Renewer::Kubeadm, kubeadm);
        let before = node.live();
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains(why), "{kubeadm:?}: {}", report.reason);
        assert_unchanged(&before, &node);
        node.assert_nothing_left_over();
    }
}

#[test]
fn where_certwarden_cannot_sign_either_both_reasons_are_told() {
    let node = node(Renewer::Auto, Kubeadm::Crashes);
    let (key, before) = (node.path("/etc/kubernetes/pki/ca.key"), node.live());
    forget_steps();
    let gone = key.clone();
    at_step(At::Text("signing instead"), move || std::fs::rename(&gone, gone.with_extension("aside")).unwrap());
    let report = node.renew_due();
    forget_steps();
    std::fs::rename(key.with_extension("aside"), key).unwrap();
    assert_outcome(&report, Outcome::Refused);
    for why in ["was killed by SIGSEGV", "certwarden cannot sign instead of kubeadm either", "ca.key"] {
        assert!(report.reason.contains(why), "{}", report.reason);
    }
    assert_unchanged(&before, &node);
}
