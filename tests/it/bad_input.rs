//! Everything that can lie where a credential should: a clear finding, never a panic, never a change.

#![allow(missing_debug_implementations, reason = "made by proptest's macro")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use proptest::prelude::*;
use serde_json::Value;
use support::{DAY, Options, Tree, Usage};
use tempfile::TempDir;

const CERT: &str = "/etc/kubernetes/pki/apiserver.crt";
const KEY: &str = "/etc/kubernetes/pki/apiserver.key";
const CONF: &str = "/etc/kubernetes/scheduler.conf";

/// Spoils a tree, checks it, and gives the problem ids of the entry. Asserts what holds of all bad input.
fn problems_after(name: &str, spoil: impl FnOnce(&Tree)) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    spoil(&tree);
    let (code, document) = checked(&tree);
    let entry = document["entries"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    for problem in entry["problems"].as_array().unwrap() {
        let message = problem["message"].as_str().unwrap();
        assert!(message.len() > 10 && !message.ends_with('.'), "{message}");
        assert!(!message.contains("LS0t") && !message.contains("PRIVATE"), "quotes a key: {message}");
    }
    assert_ne!(code, 0, "{entry}");
    entry["problems"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
}

/// Exit code and document; the run is bounded in time and changes nothing.
fn checked(tree: &Tree) -> (i32, Value) {
    let before = support::snapshot(&tree.root);
    let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
    command.arg("--root").arg(&tree.root).args(["check", "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    assert_eq!(before, support::snapshot(&tree.root), "check changed something");
    (output.status.code().expect("ended by a signal"), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn an_empty_certificate() {
    assert_eq!(problems_after("apiserver", |t| t.write(CERT, "", 0o644)), ["empty"]);
    assert_eq!(problems_after("apiserver", |t| t.write(CERT, " \n\n", 0o644)), ["empty"]);
}

#[test]
fn an_empty_key() {
    assert_eq!(problems_after("apiserver", |t| t.write(KEY, "", 0o600)), ["empty"]);
}

#[test]
fn a_truncated_certificate() {
    for part in [10, 40, 90, 99] {
        let cut = |t: &Tree| {
            let pem = t.read(CERT);
            t.write(CERT, &pem[..pem.len() * part / 100], 0o644);
        };
        assert_eq!(problems_after("apiserver", cut), ["malformed"], "{part} %");
    }
}

#[test]
fn a_truncated_key() {
    let cut = |t: &Tree| {
        let pem = t.read(KEY);
        t.write(KEY, &pem[..pem.len() / 2], 0o600);
    };
    assert_eq!(problems_after("apiserver", cut), ["malformed"]);
}

#[test]
fn the_key_of_another_certificate() {
    let swap = |t: &Tree| t.write(KEY, t.read("/etc/kubernetes/pki/front-proxy-client.key"), 0o600);
    assert_eq!(problems_after("apiserver", swap), ["key-mismatch"]);
    let swap = |t: &Tree| {
        let (one, other) =
            (t.ca.issue(("a", None), Usage::Client, &[], DAY), t.ca.issue(("b", None), Usage::Client, &[], DAY));
        let mixed = support::Leaf { cert_pem: one.cert_pem, key_pem: other.key_pem };
        t.write(CONF, t.kubeconfig("system:kube-scheduler", &support::embedded(&mixed)), 0o600);
    };
    assert!(problems_after("scheduler.conf", swap).contains(&"key-mismatch".to_owned()));
}

#[test]
fn a_missing_certificate_and_a_missing_key() {
    assert_eq!(problems_after("apiserver", |t| t.remove(CERT)), ["missing"]);
    assert_eq!(problems_after("apiserver", |t| t.remove(KEY)), ["missing"]);
    assert_eq!(problems_after("scheduler.conf", |t| t.remove(CONF)), ["missing"]);
}

#[test]
fn a_directory_where_a_file_should_be() {
    let directory = |path: &'static str| {
        move |t: &Tree| {
            t.remove(path);
            fs::create_dir(t.at(path)).unwrap();
        }
    };
    assert_eq!(problems_after("apiserver", directory(CERT)), ["malformed"]);
    assert_eq!(problems_after("apiserver", directory(KEY)), ["malformed", "loose-permissions"]);
    assert_eq!(problems_after("scheduler.conf", directory(CONF)), ["malformed"]);
}

#[test]
fn a_fifo_does_not_hang() {
    let fifo = |path: &'static str| {
        move |t: &Tree| {
            t.remove(path);
            nix::unistd::mkfifo(&t.at(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
    };
    assert_eq!(problems_after("apiserver", fifo(CERT)), ["malformed"]);
    assert_eq!(problems_after("scheduler.conf", fifo(CONF)), ["malformed"]);
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    fifo("/etc/kubernetes/manifests/kube-scheduler.yaml")(&tree);
    let (_, document) = checked(&tree);
    assert!(document["notes"][0].as_str().unwrap().contains("kube-scheduler.yaml is a FIFO"), "{document}");
}

#[test]
fn a_certificate_of_a_gibibyte_is_not_read() {
    let huge = |t: &Tree| File::create(t.at(CERT)).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(problems_after("apiserver", huge), ["malformed"]);
}

#[test]
fn a_dangling_link_is_a_finding_and_not_a_panic() {
    let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    assert_eq!(problems_after("kubelet-client", |t| t.link(current, "/nowhere.pem")), ["dangling-symlink"]);
    assert_eq!(problems_after("apiserver", |t| t.link(CERT, "../../nowhere")), ["dangling-symlink"]);
}

#[test]
fn a_link_that_leads_to_itself() {
    assert_eq!(problems_after("apiserver", |t| t.link(CERT, "apiserver.crt")), ["dangling-symlink"]);
}

#[test]
fn a_link_out_of_the_root_stays_within_it() {
    // on this machine /etc/passwd exists; in the tree it does not
    assert_eq!(problems_after("apiserver", |t| t.link(CERT, "/etc/passwd")), ["dangling-symlink"]);
    let up = "../../../../../../../../../../../../etc/passwd";
    assert_eq!(problems_after("apiserver", |t| t.link(CERT, up)), ["dangling-symlink"]);
    let own = |t: &Tree| {
        t.write("/etc/passwd", "the tree's own", 0o644);
        t.link(CERT, "/etc/passwd");
    };
    assert_eq!(problems_after("apiserver", own), ["malformed"]);
}

#[test]
fn rubbish_of_all_kinds() {
    let utf16: Vec<u8> = "-----BEGIN CERTIFICATE-----".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let der_rubbish = "-----BEGIN CERTIFICATE-----\nMIIB/////////w==\n-----END CERTIFICATE-----\n";
    for rubbish in [&utf16[..], &[0x30, 0x82, 0xff, 0xff, 0, 1], der_rubbish.as_bytes(), &[0; 4096], b"hello"] {
        assert_eq!(problems_after("apiserver", |t| t.write(CERT, rubbish, 0o644)), ["malformed"]);
        assert_eq!(problems_after("apiserver", |t| t.write(KEY, rubbish, 0o600)), ["malformed"]);
        assert_eq!(problems_after("scheduler.conf", |t| t.write(CONF, rubbish, 0o600)), ["malformed"]);
    }
}

#[test]
fn a_kubeconfig_with_two_users_of_one_name() {
    let two = |t: &Tree| t.write(CONF, t.read(CONF) + "- name: system:kube-scheduler\n  user: {}\n", 0o600);
    assert_eq!(problems_after("scheduler.conf", two), ["malformed"]);
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(",");
        let _ = writeln!(text, "a{i}: &a{i} [{refs}]");
    }
    text
}

#[test]
fn an_alias_bomb() {
    assert_eq!(problems_after("scheduler.conf", |t| t.write(CONF, bomb(), 0o600)), ["malformed"]);
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    tree.write("/etc/kubernetes/manifests/etcd.yaml", bomb(), 0o600);
    let (_, document) = checked(&tree);
    assert!(document["notes"][0].as_str().unwrap().contains("etcd.yaml is not a pod manifest"), "{document}");
}

#[test]
fn a_damaged_ca() {
    let ca = "/etc/kubernetes/pki/ca.crt";
    assert_eq!(problems_after("ca", |t| t.write(ca, "x", 0o644)), ["malformed"]);
    let foreign = |t: &Tree| t.write("/etc/kubernetes/pki/ca.key", t.etcd_ca.key_pem(), 0o600);
    assert_eq!(problems_after("ca", foreign), ["key-mismatch"]);
}

#[test]
fn a_kubelet_configuration_that_is_not_one() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    tree.write("/var/lib/kubelet/config.yaml", "- 1\n- 2\n", 0o644);
    let (code, document) = checked(&tree);
    assert!(document["notes"][0].as_str().unwrap().contains("/var/lib/kubelet/config.yaml"), "{document}");
    assert_eq!((code, &document["role"]), (0, &"control-plane".into()), "defaults serve");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_certificate_is_a_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        use std::sync::OnceLock;
        static PEM: OnceLock<Vec<u8>> = OnceLock::new();
        let pem = PEM.get_or_init(|| {
            let ca = support::Ca::new("ca", support::KeyKind::P256, DAY);
            [ca.issue(("leaf", Some("o")), Usage::Both, &["a", "b"], DAY).combined(), ca.cert_pem()].concat()
        });
        let der = openssl::x509::X509::from_pem(pem).unwrap().to_der().unwrap();
        for original in [pem, &der] {
            let mut bytes = original.clone();
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = certwarden::model::cert::parse_pem(&bytes);
            let _ = certwarden::model::cert::CertFacts::from_der(&bytes, 1);
            bytes.truncate(cut.index(bytes.len()));
            let _ = certwarden::model::cert::parse_pem(&bytes);
            let _ = certwarden::model::cert::CertFacts::from_der(&bytes, 1);
        }
    }
}
