//! Pairs of `--tls-sni-cert-key`: what is served is measured by each name.

use std::fs;

use crate::fake;
use certwarden::model::component::Component;
use certwarden::model::planner::Selection;
use certwarden::model::report::{Consumer, Outcome};
use fake::node::{APISERVER, Node, assert_outcome, assert_unchanged};
use fake::socket::{Served, Uptake, serve_by_name};

const PKI: &str = "/etc/kubernetes/pki";

/// A node whose API server serves its own pair to most, and another one to who asks for `names`: a pair that the flag has
/// with this text behind it.
fn with_sni(text: &str, names: &[&'static str], uptake: Uptake) -> Node {
    let mut node = Node::due();
    let at = |base: &str, end: &str| format!("{PKI}/{base}.{end}");
    // of the cluster's CA, for localhost and node-1
    for end in ["crt", "key"] {
        fs::copy(node.path(&at("apiserver", end)), node.path(&at("vip", end))).unwrap();
    }
    let (own, vip) = ([at("apiserver", "crt"), at("apiserver", "key")], [at("vip", "crt"), at("vip", "key")]);
    let mut served = vec![Served { name: None, pair: [&own[0], &own[1]], uptake: Uptake::Reload }];
    served.extend(names.iter().map(|name| Served { name: Some(*name), pair: [&vip[0], &vip[1]], uptake }));
    let port = serve_by_name(&node, "kube-apiserver", &served);
    let path = node.path("/etc/kubernetes/manifests/kube-apiserver.yaml");
    let flags = format!("secure-port={port}\n    - --tls-sni-cert-key={},{}{text}\n", vip[0], vip[1]);
    let manifest = fs::read_to_string(&path).unwrap().replace(&format!("secure-port={APISERVER}\n"), &flags);
    fs::write(path, manifest).unwrap();
    node.fake.world(|w| w.ports.insert(port, "kube-apiserver"));
    node.policy.verify.timeout = certwarden::model::policy::Span::secs(40);
    node
}

/// The flag's names, and those that are asked for.
const NAMES: [(&str, &[&str]); 3] = [
    (":api.example,10.0.0.9", &["api.example"]),
    (":*.example", &["certwarden.example"]),
    ("", &["localhost", "node-1"]),
];

#[test]
fn what_is_served_for_a_name_is_measured_and_left_alone_where_it_is_new() {
    for (text, names) in NAMES {
        let node = with_sni(text, names, Uptake::Reload);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        let seen: Vec<_> = report.sockets.iter().filter(|s| s.name.is_some()).collect();
        assert_eq!(seen.iter().map(|s| s.name.as_deref().unwrap()).collect::<Vec<_>>(), names);
        assert!(seen.iter().all(|s| s.ok && s.entry == "kube-apiserver:tls-sni-cert-key"), "{seen:?}");
        assert_ne!(report.sockets.iter().find(|s| s.entry == "apiserver").unwrap().expected, seen[0].expected);
        let apiserver = Consumer::Component(Component::KubeApiserver);
        assert!(!report.restarted.iter().any(|r| r.component == apiserver));
    }
}

#[test]
fn an_api_server_that_serves_the_old_pair_for_one_name_is_restarted() {
    let node = with_sni(":api.example", &["api.example"], Uptake::Restart);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let apiserver = Consumer::Component(Component::KubeApiserver);
    assert_eq!(report.restarted.iter().filter(|r| r.component == apiserver).count(), 1);
}

#[test]
fn an_api_server_that_goes_on_serving_the_old_pair_for_one_name_is_a_reason_to_roll_back() {
    let node = with_sni(":api.example", &["api.example"], Uptake::Never);
    let before = node.live();
    let report = node.renew(&Selection::Due);
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("(api.example) after a restart"), "{}", report.reason);
    assert_unchanged(&before, &node);
}
