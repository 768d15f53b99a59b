//! Nodes that something else than kubeadm has set up: recognised, watched, and never written.

use crate::fake;
use crate::support;
use certwarden::model::assess::Severity;
use certwarden::model::distribution::Distribution;
use certwarden::model::inventory::{Entry, Owner};
use certwarden::model::planner::Selection;
use certwarden::model::report::Outcome;
use fake::node::{Node, assert_unchanged, temp};
use support::{Ca, DAY, KeyKind, Layout, Options, Tree, Usage, snapshot};

/// A tree with nothing of kubeadm's in it, filled by `fill`.
fn bare(fill: impl FnOnce(&Tree)) -> Node {
    let dir = temp();
    let tree = Tree::build(dir.path(), Options { layout: Layout::Worker, ..Options::default() });
    for path in ["etc/kubernetes", "var/lib/kubelet", "usr/lib/systemd"] {
        std::fs::remove_dir_all(dir.path().join(path)).unwrap();
    }
    fill(&tree);
    std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
    std::fs::create_dir_all(dir.path().join("var/lib/certwarden")).unwrap();
    let mut node = Node::at(dir);
    node.policy.renew.exclude.clear();
    node
}

fn pairs(tree: &Tree, dir: &str, names: &[&str], left: i64) {
    let ca = Ca::new("some-ca", KeyKind::P256, 3000 * DAY);
    for name in names {
        let leaf = ca.issue((name, None), Usage::Both, &["localhost"], left);
        tree.pair(&format!("{dir}/{name}.crt"), &format!("{dir}/{name}.key"), &leaf);
    }
    tree.write(&format!("{dir}/some-ca.crt"), ca.cert_pem(), 0o644);
}

/// Recognised by `distribution`, with entries of these names, and left alone whatever is asked for.
#[track_caller]
fn assert_watched(node: &Node, distribution: Distribution, names: &[&str]) {
    let inventory = node.inventory();
    assert_eq!(inventory.node.distribution, Some(distribution));
    for name in names {
        let entry = inventory.get(name).unwrap_or_else(|| {
            let known: Vec<_> = inventory.entries.iter().map(|e| e.name.as_str()).collect();
            panic!("{name}: {known:?}")
        });
        assert!(entry.leaf().is_some(), "{name}: {:?}", entry.content);
        assert!(
            entry.is_ca() || matches!(entry.owner, Owner::Distribution | Owner::Kubelet),
            "{name}: {:?}",
            entry.owner
        );
    }
    assert!(inventory.node.notes.iter().any(|n| n.contains(distribution.name())), "{:?}", inventory.node.notes);
    let others = |e: &Entry| e.owner == Owner::Distribution;
    let session = node.session();
    let judged = session.inventory.entries.iter().zip(&session.assessment.entries);
    let due = judged.filter(|(e, _)| others(e)).any(|(_, j)| j.severity > Severity::Ok);
    let before = (node.live(), snapshot(&node.path("/var")));
    let all: Vec<String> = inventory.entries.iter().map(|e| e.name.clone()).collect();
    for selection in [Selection::Due, Selection::All, Selection::Names(all)] {
        let plan = node.plan(&selection);
        assert!(plan.is_empty(), "{selection:?}: {plan:?}");
        let report = node.renew(&selection);
        assert!(
            matches!(report.outcome, Outcome::NothingToDo | Outcome::LeftOut | Outcome::Refused),
            "{selection:?}: {report:?}"
        );
        if due && selection == Selection::Due {
            assert_eq!((report.outcome, report.exit_code()), (Outcome::LeftOut, 1), "{}", report.reason);
            assert!(report.reason.contains(distribution.renewal()), "how it is renewed: {}", report.reason);
        }
    }
    assert_unchanged(&before.0, node);
    let kept = |lines: &[String]| lines.iter().filter(|l| !l.contains("/var/lib/certwarden")).count();
    assert_eq!(kept(&snapshot(&node.path("/var"))), kept(&before.1));
}

const RANCHER: [&str; 3] = ["client-admin", "serving-kube-apiserver", "client-auth-proxy"];

fn rancher(tree: &Tree, data: &str, left: i64) {
    pairs(tree, &format!("{data}/server/tls"), &RANCHER, left);
    pairs(tree, &format!("{data}/server/tls/etcd"), &["server-client", "peer-server-client"], left);
    pairs(tree, &format!("{data}/agent"), &["client-kubelet", "serving-kubelet"], left);
}

#[test]
fn servers_of_rancher_are_watched_with_their_agents_and_etcd() {
    for (distribution, data, prefix) in
        [(Distribution::K3s, "/var/lib/rancher/k3s", "k3s"), (Distribution::Rke2, "/var/lib/rancher/rke2", "rke2")]
    {
        let node = bare(|t| rancher(t, data, 20 * DAY));
        let name = |n: &str| format!("{prefix}:{n}");
        let names: Vec<String> =
            ["serving-kube-apiserver", "etcd/server-client", "agent/serving-kubelet", "some-ca"].map(name).to_vec();
        assert_watched(&node, distribution, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(node.session().assessment.verdict, Severity::Warning, "what ends is told");
    }
}

#[test]
fn microk8s_and_k0s_are_watched_where_they_keep_theirs() {
    let node =
        bare(|t| pairs(t, "/var/snap/microk8s/current/certs", &["server", "front-proxy-client", "kubelet"], DAY));
    assert_watched(&node, Distribution::MicroK8s, &["microk8s:server", "microk8s:front-proxy-client"]);
    assert_eq!(node.session().assessment.verdict, Severity::Critical);
    let node = bare(|t| {
        pairs(t, "/var/lib/k0s/pki", &["server", "admin", "apiserver-kubelet-client"], 300 * DAY);
        // a public key is no certificate
        t.write("/var/lib/k0s/pki/sa.key", "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n", 0o600);
        pairs(t, "/var/lib/k0s/pki/etcd", &["server", "peer"], 300 * DAY);
    });
    assert_watched(&node, Distribution::K0s, &["k0s:server", "k0s:etcd/peer"]);
    assert_eq!(node.session().assessment.verdict, Severity::Ok);
}

#[test]
fn nodes_of_providers_are_watched_by_what_their_kubelets_configuration_names() {
    for (distribution, mark) in [
        (Distribution::Eks, "/etc/eks/image-credential-provider/config.json"),
        (Distribution::Aks, "/etc/kubernetes/azure.json"),
        (Distribution::Gke, "/home/kubernetes/kube-env"),
        (Distribution::OpenShift, "/etc/machine-config-daemon/currentconfig"),
    ] {
        let dir = temp();
        let options =
            Options { layout: Layout::Worker, server_tls_bootstrap: true, left: 10 * DAY, ..Options::default() };
        let tree = Tree::build(dir.path(), options);
        tree.remove("/var/lib/kubelet/kubeadm-flags.env");
        tree.write(mark, "{}", 0o600);
        std::fs::create_dir_all(dir.path().join("var/lib/certwarden")).unwrap();
        let mut node = Node::at(dir);
        node.policy.kubelet.renew_before =
            certwarden::model::policy::Threshold::Time(certwarden::model::policy::Span::days(30));
        assert_watched(&node, distribution, &["kubelet-client", "kubelet-serving"]);
    }
}

#[test]
fn a_leftover_beside_kubeadms_own_changes_nothing() {
    for mark in ["/var/lib/k0s/pki/server.crt", "/etc/eks/x", "/var/lib/rancher/k3s/agent/x"] {
        let dir = temp();
        let tree = Tree::build(dir.path(), Options { left: 20 * DAY, ..Options::default() });
        tree.write(mark, "x", 0o600);
        let node = Node::at(dir);
        assert_eq!(node.inventory().node.distribution, None, "{mark}");
        assert!(node.session().assessment.due().count() > 5, "{mark}");
    }
}

#[test]
fn damage_in_a_distributions_directory_is_told_and_no_panic() {
    let node = bare(|t| {
        t.write("/var/lib/rancher/k3s/server/tls/client-admin.crt", "rubbish", 0o600);
        t.write("/var/lib/rancher/k3s/server/tls/empty.crt", "", 0o600);
        std::fs::create_dir_all(t.at("/var/lib/rancher/k3s/server/tls/directory.crt")).unwrap();
        t.link("/var/lib/rancher/k3s/server/tls/nowhere.crt", "/nowhere");
    });
    assert_eq!(node.inventory().entries.len(), 4);
    assert_ne!(node.session().assessment.verdict, Severity::Ok);
}
