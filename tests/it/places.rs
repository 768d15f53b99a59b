//! Two paths to one file: one credential, whatever it is called.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fake;
use certwarden::model::inventory::Form;
use certwarden::model::plan::Step;
use certwarden::model::planner::Selection;
use certwarden::model::report::Outcome;
use fake::node::{Node, assert_outcome, assert_unchanged};

const SNI: &str = "kube-apiserver:tls-sni-cert-key";
const PEER: &str = "etcd-peer";

fn flag(node: &Node, component: &str, flag: &str) {
    let path = node.path(&format!("/etc/kubernetes/manifests/{component}.yaml"));
    let text = fs::read_to_string(&path).unwrap();
    let first = format!("    - {component}\n");
    fs::write(&path, text.replace(&first, &format!("{first}    - {flag}\n"))).unwrap();
}

/// The API server's own pair once more, by way of a linked directory.
fn by_a_linked_directory() -> Node {
    let node = Node::due();
    symlink("pki", node.path("/etc/kubernetes/ssl")).unwrap();
    let ssl = "/etc/kubernetes/ssl/apiserver";
    flag(&node, "kube-apiserver", &format!("--tls-sni-cert-key={ssl}.crt,{ssl}.key:apiserver.example"));
    node
}

/// etcd serves clients and peers with one pair, as many installers have it.
fn one_pair_for_both() -> Node {
    let node = Node::due();
    let path = node.path("/etc/kubernetes/manifests/etcd.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/etcd/peer.", "/etcd/server.")).unwrap();
    node
}

#[test]
fn one_file_by_two_paths_is_renewed_once_for_all_who_use_it() {
    for (node, name, other) in [(by_a_linked_directory(), "apiserver", SNI), (one_pair_for_both(), "etcd-server", PEER)]
    {
        for selection in [Selection::Due, Selection::All, Selection::Names(vec![other.to_owned()])] {
            let plan = node.plan(&selection);
            let them: Vec<_> = plan.items.iter().filter(|i| i.names().any(|n| n == name || n == other)).collect();
            assert_eq!(them.len(), 1, "{them:?}");
            assert_eq!(them[0].names().count(), 2);
            assert_eq!(plan.skipped, []);
        }
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        assert!([name, other].iter().all(|n| report.in_place().contains(&(*n).to_owned())), "{:?}", report.in_place());
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        assert_outcome(&node.renew_due(), Outcome::NothingToDo);
    }
}

#[test]
fn a_key_of_two_certificates_is_not_replaced_for_one_of_them() {
    let node = Node::due();
    symlink("pki", node.path("/etc/kubernetes/ssl")).unwrap();
    let (pki, other) = ("/etc/kubernetes/pki/apiserver", "/etc/kubernetes/pki/other.crt");
    fs::copy(node.path(&format!("{pki}.crt")), node.path(other)).unwrap();
    flag(&node, "kube-apiserver", &format!("--tls-sni-cert-key={other},/etc/kubernetes/ssl/apiserver.key"));
    let plan = node.plan(&Selection::Due);
    for name in ["apiserver", SNI] {
        let why = plan.skipped.iter().find(|s| s.name == name).unwrap();
        assert!(why.reason.contains("is one of ") && why.reason.ends_with("part them"), "{}", why.reason);
    }
    assert_outcome(&node.renew_due(), Outcome::Verified);
    node.assert_pairs_fit();
}

#[test]
fn a_plan_with_one_file_twice_ends_before_anything_is_staged() {
    let node = by_a_linked_directory();
    let before = node.live();
    let session = node.session();
    let mut plan = session.plan(&Selection::Due).unwrap();
    let i = plan.items.iter().position(|i| i.name == "apiserver").unwrap();
    let again = |path: &std::path::Path| std::path::PathBuf::from(path.to_str().unwrap().replace("/pki/", "/ssl/"));
    let mut twice = plan.items[i].clone();
    let Form::Pair { cert, key } = &twice.form else { panic!("{:?}", twice.form) };
    (twice.form, twice.name) = (Form::Pair { cert: again(cert), key: again(key) }, SNI.to_owned());
    let more = twice.form.files().iter().map(std::path::PathBuf::from).collect::<Vec<_>>();
    plan.items.push(twice);
    for planned in &mut plan.steps {
        if let Step::Backup { files } | Step::Commit { files } = &mut planned.step {
            files.extend(more.clone());
        }
    }
    let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("are one file by two paths"), "{}", report.reason);
    assert_unchanged(&before, &node);
}
