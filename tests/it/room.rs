//! Others in the same room: whoever else works on the node's certificates while a renewal is under way, at every step.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::fake;
use certwarden::model::gate::Gate;
use certwarden::model::planner::Selection;
use certwarden::model::report::Outcome;
use fake::node::{Node, assert_outcome, assert_unchanged};
use fake::{At, at_step, forget_steps, steps};

const COMMIT: &str = "putting the new files in place";

/// The steps of a clean renewal.
fn told() -> Vec<String> {
    forget_steps();
    assert_outcome(&Node::due().renew_due(), Outcome::Verified);
    steps()
}

/// A renewal during which `act` is done as the step begins.
fn meanwhile(at: usize, act: impl FnOnce(&Path) + 'static) -> (Node, certwarden::model::report::Report) {
    let node = Node::due();
    forget_steps();
    let root = node.dir.path().to_owned();
    at_step(At::Number(at), move || act(&root));
    let report = node.renew_due();
    (node, report)
}

/// Another, good pair for the API server, from the same CA.
fn renewed_by_hand() -> Arc<Vec<(PathBuf, Vec<u8>)>> {
    let other = Node::due();
    assert_outcome(&other.renew(&Selection::Names(vec!["apiserver".into()])), Outcome::Verified);
    let files = ["etc/kubernetes/pki/apiserver.key", "etc/kubernetes/pki/apiserver.crt"];
    Arc::new(files.map(|f| (PathBuf::from(f), other.read(f))).to_vec())
}

#[test]
fn kubeadm_by_hand_before_the_commit_keeps_what_it_made_and_ours_is_given_up() {
    let (told, by_hand) = (told(), renewed_by_hand());
    let backup = told.iter().position(|t| t == "backing up").unwrap();
    let commit = told.iter().position(|t| t == COMMIT).unwrap();
    let mut last = String::new();
    for (at, text) in told.iter().enumerate().take(commit + 1).skip(backup + 1) {
        let word = text.split_whitespace().next().unwrap().to_owned();
        if word == std::mem::replace(&mut last, word.clone()) {
            continue; // one rehearsal stands for all
        }
        for in_place in [true, false] {
            let files = Arc::clone(&by_hand);
            let (node, report) = meanwhile(at, move |root| {
                for (path, bytes) in files.iter() {
                    let path = root.join(path);
                    if in_place {
                        fs::write(path, bytes).unwrap(); // as kubeadm does
                    } else {
                        // as editors do
                        fs::write(path.with_extension("swp"), bytes).unwrap();
                        fs::rename(path.with_extension("swp"), path).unwrap();
                    }
                }
            });
            assert_outcome(&report, Outcome::Refused);
            assert!(report.reason.contains("has changed since it was backed up"), "{}", report.reason);
            for (path, bytes) in by_hand.iter() {
                assert_eq!(&node.read(&path.display().to_string()), bytes, "{} at {text}", path.display());
            }
            node.assert_pairs_fit();
            node.assert_nothing_left_over();
            assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
        }
    }
}

#[test]
fn kubeadm_by_hand_after_the_commit_is_not_undone_by_a_rollback() {
    let (told, by_hand) = (told(), renewed_by_hand());
    let restart = told.iter().position(|t| t.starts_with("restarting")).unwrap();
    let files = Arc::clone(&by_hand);
    let node = Node::due();
    forget_steps();
    let root = node.dir.path().to_owned();
    node.fake.world(|w| w.kubelet_dies_if = Some(|root| changed(root, "etc/kubernetes/scheduler.conf")));
    at_step(At::Number(restart), move || {
        files.iter().for_each(|(path, bytes)| fs::write(root.join(path), bytes).unwrap());
    });
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.notes.iter().any(|n| n.contains("replaced by somebody else")), "{:?}", report.notes);
    for (path, bytes) in by_hand.iter() {
        assert_eq!(&node.read(&path.display().to_string()), bytes);
    }
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
}

fn changed(root: &Path, file: &str) -> bool {
    let modified = |file: &str| fs::metadata(root.join(file)).unwrap().modified().unwrap();
    modified(file) > modified("etc/kubernetes/pki/etcd/ca.crt")
}

#[test]
fn a_kubelet_that_rotates_its_certificate_meanwhile_goes_its_own_way() {
    const CURRENT: &str = "var/lib/kubelet/pki/kubelet-client-current.pem";
    /// As the kubelet does it (kubernetes: `client-go/util/certificate/certificate_store.go:updateSymlink`).
    fn rotate(root: &Path) {
        let current = root.join(CURRENT);
        let new = current.with_file_name("kubelet-client-2026-11-22-03-00-00.pem");
        // the kubelet's link is absolute: it leads nowhere outside of the tree
        let old = current.with_file_name(fs::read_link(&current).unwrap().file_name().unwrap());
        let text = format!("{}\n", fs::read_to_string(old).unwrap());
        fs::write(&new, text).unwrap();
        let updated = current.with_file_name("kubelet-client-updated.pem");
        symlink("kubelet-client-2026-11-22-03-00-00.pem", &updated).unwrap();
        fs::rename(updated, current).unwrap();
    }
    let told = told();
    let mut last = String::new();
    for (at, text) in told.iter().enumerate() {
        let word = text.split_whitespace().next().unwrap().to_owned();
        if word == std::mem::replace(&mut last, word.clone()) {
            continue;
        }
        let (node, report) = meanwhile(at, rotate);
        assert_outcome(&report, Outcome::Verified);
        let link = fs::read_link(node.path(CURRENT)).unwrap();
        assert!(link.ends_with("kubelet-client-2026-11-22-03-00-00.pem"), "{text}: {}", link.display());
        node.assert_pairs_fit();
    }
    // nor does a rollback take it back
    let node = Node::due();
    forget_steps();
    node.fake.world(|w| w.kubelet_dies_if = Some(|root| changed(root, "etc/kubernetes/scheduler.conf")));
    let root = node.dir.path().to_owned();
    at_step(At::Text("restarting"), move || rotate(&root));
    assert_outcome(&node.renew_due(), Outcome::RolledBack);
    assert!(fs::read_link(node.path(CURRENT)).unwrap().ends_with("kubelet-client-2026-11-22-03-00-00.pem"));
}

#[test]
fn a_second_certwarden_at_any_step_is_told_to_wait_and_changes_nothing() {
    let told = told();
    let mut last = String::new();
    // the lock is taken before the first look at the node
    for (at, text) in told.iter().enumerate().skip(1) {
        let word = text.split_whitespace().next().unwrap().to_owned();
        if word == std::mem::replace(&mut last, word.clone()) {
            continue;
        }
        let codes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&codes);
        let (node, report) = meanwhile(at, move |root| {
            for args in [&["renew", "--all"][..], &["recover"], &["renew", "--all", "--dry-run"]] {
                let done = Command::new(env!("CARGO_BIN_EXE_certwarden")).arg("--root").arg(root).args(args).output();
                seen.lock().unwrap().push(done.unwrap().status.code());
            }
        });
        assert_outcome(&report, Outcome::Verified);
        assert_eq!(*codes.lock().unwrap(), [Some(75); 3], "{text}");
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        assert_eq!(node.ids().len(), 1, "{text}");
    }
}

#[test]
fn kubesprays_timer_and_a_kubeadm_at_work_are_waited_for_also_if_they_begin_meanwhile() {
    let node = Node::due();
    node.fake.world(|w| w.other_timer_active = true);
    let before = node.live();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Refused);
    assert_eq!(report.refusals.iter().map(|r| r.gate).collect::<Vec<_>>(), [Gate::OtherRenewer]);
    assert_unchanged(&before, &node);
    assert!(node.ids().is_empty());

    for (words, gate) in [("upgrade\0apply", "upgrade"), ("certs\0renew\0all", "other-renewer")] {
        let (node, report) = meanwhile(told().iter().position(|t| t == COMMIT).unwrap(), move |root| {
            let process = root.join("proc/4711");
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join("cmdline"), format!("/usr/bin/kubeadm\0{words}\0")).unwrap();
            fs::write(process.join("status"), "Uid:\t0\t0\t0\t0\nNSpid:\t4711\n").unwrap();
        });
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains(&format!("gate {gate}: kubeadm is")), "{}", report.reason);
        node.assert_nothing_left_over();
    }
}

#[test]
fn other_names_of_a_file_keep_the_old_content_and_that_is_said() {
    let node = Node::due();
    let (live, other) = (node.path("/etc/kubernetes/admin.conf"), node.path("/etc/backup-of-admin.conf"));
    fs::hard_link(&live, &other).unwrap();
    let old = fs::read(&other).unwrap();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(
        report.notes.iter().any(|n| n.contains("/etc/kubernetes/admin.conf has 2 names (hard links)")),
        "{:?}",
        report.notes
    );
    assert_eq!(fs::read(&other).unwrap(), old, "a backup by hard link is a backup");
    assert_ne!(fs::read(&live).unwrap(), old);
    assert_eq!(live.metadata().unwrap().nlink(), 1);
}
