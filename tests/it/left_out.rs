//! What is due, expired, missing or broken and cannot be renewed here is never "nothing is due" and never exit 0: the table of
//! commands, of what is due, and of why it cannot be, by the programs themselves on whole trees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support;
use certwarden::cli::combinations::{COMMANDS, combinations};
use certwarden::model::policy::Span;
use certwarden::model::schedule::{Schedule, Who};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::said::run;
use support::{DAY, Layout, Options, Tree, copy, snapshot};
use tempfile::TempDir;

/// Rows of the table that are about who asks, or where (tests/it/permission.rs).
const ELSEWHERE: [&str; 2] = ["the root is no node", "this user may not read all of it"];

/// How a row of `cli/combinations.rs` comes about.
struct Row {
    /// As there, where the exit codes are.
    what: &'static str,
    options: Options,
    spoil: fn(&Tree),
    /// Logical names that `plan` and `renew` leave out, and those that `--all` does.
    left_out: [&'static [&'static str]; 2],
    /// Said by `plan` and by `renew`.
    said: &'static [&'static str],
    /// Logical names that `renew` renews all the same.
    renewed: &'static [&'static str],
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
const ALL_BUT_APISERVER: [&str; 9] = [
    "admin.conf",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
    "scheduler.conf",
];
const ALL_BUT_SCHEDULER: [&str; 9] = [
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
];
const SIGNED_BY_CA: [&str; 5] =
    ["admin.conf", "apiserver", "apiserver-kubelet-client", "controller-manager.conf", "scheduler.conf"];

fn healthy() -> Options {
    Options::default()
}

/// Everything but what is the kubelet's.
fn due() -> Options {
    let own = |o: Options| o.left_of("kubelet-client", 300 * DAY).left_of("kubelet-serving", 300 * DAY);
    own(Options { left: 20 * DAY, ..Options::default() })
}

fn worker() -> Options {
    Options { layout: Layout::Worker, ..Options::default() }
}

fn settings(tree: &Tree, text: &str) {
    tree.write("/etc/certwarden/certwarden.toml", text, 0o644);
    for dir in ["/etc/certwarden", "/etc"] {
        fs::set_permissions(tree.at(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    vec![
        Row {
            what: "nothing is due",
            options: healthy(),
            spoil: |_| {},
            left_out: [&[], &[]],
            said: &["nothing is due"],
            renewed: &[],
        },
        Row {
            what: "all is due and can be renewed",
            options: due(),
            spoil: |_| {},
            left_out: [&[], &[]],
            said: &[],
            renewed: &LEAVES,
        },
        Row {
            what: "a worker's identity has expired: no CA key, no API",
            options: worker().left_of("kubelet-client", -DAY),
            spoil: |_| {},
            left_out: [&["kubelet-client"], &["kubelet-client"]],
            said: &["kubeadm kubeconfig user", "ssh node-1"],
            renewed: &[],
        },
        Row {
            what: "the whole pki and all kubeconfigs are gone",
            options: healthy(),
            spoil: |t| {
                fs::remove_dir_all(t.at("/etc/kubernetes/pki")).unwrap();
                for name in ["admin", "controller-manager", "scheduler", "kubelet"] {
                    t.remove(&format!("/etc/kubernetes/{name}.conf"));
                }
            },
            left_out: [&GONE, &GONE],
            said: &[
                "kubeadm init phase certs apiserver --config FILE",
                "kubeadm init phase certs etcd-peer --config FILE",
                "kubeadm init phase kubeconfig scheduler --config FILE",
                "would make another CA",
            ],
            renewed: &[],
        },
        Row {
            what: "all kubeconfigs are gone, the CA is here",
            options: healthy(),
            spoil: |t| {
                for name in ["admin", "controller-manager", "scheduler", "kubelet"] {
                    t.remove(&format!("/etc/kubernetes/{name}.conf"));
                }
            },
            left_out: [
                &["admin.conf", "controller-manager.conf", "kubelet-client", "scheduler.conf"],
                &["admin.conf", "controller-manager.conf", "kubelet-client", "scheduler.conf"],
            ],
            said: &[
                "kubeadm init phase kubeconfig kubelet --config FILE",
                "kubeadm init phase kubeconfig admin --config",
            ],
            renewed: &[],
        },
        Row {
            what: "a key file is missing, nothing is due",
            options: healthy(),
            spoil: |t| t.remove("/etc/kubernetes/pki/apiserver.key"),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["apiserver.key does not exist", "kubeadm init phase certs apiserver --config FILE"],
            renewed: &[],
        },
        Row {
            what: "a key file is missing, all is due",
            options: due(),
            spoil: |t| t.remove("/etc/kubernetes/pki/apiserver.key"),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["apiserver.key does not exist", "kubeadm init phase certs apiserver --config FILE"],
            renewed: &ALL_BUT_APISERVER,
        },
        Row {
            what: "a key file is a link to nowhere, all is due",
            options: due(),
            spoil: |t| t.link("/etc/kubernetes/pki/apiserver.key", "/nowhere"),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["is a symbolic link to /nowhere"],
            renewed: &ALL_BUT_APISERVER,
        },
        Row {
            what: "a leaf is empty, nothing is due",
            options: healthy(),
            spoil: |t| t.write("/etc/kubernetes/pki/apiserver.crt", "", 0o644),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["apiserver.crt is empty", "kubeadm init phase certs apiserver --config FILE"],
            renewed: &[],
        },
        Row {
            what: "a leaf is empty, all is due",
            options: due(),
            spoil: |t| t.write("/etc/kubernetes/pki/apiserver.crt", "", 0o644),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["apiserver.crt is empty"],
            renewed: &ALL_BUT_APISERVER,
        },
        Row {
            what: "a leaf is a directory, all is due",
            options: due(),
            spoil: |t| {
                t.remove("/etc/kubernetes/pki/apiserver.crt");
                fs::create_dir(t.at("/etc/kubernetes/pki/apiserver.crt")).unwrap();
            },
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["is a directory, not a regular file"],
            renewed: &ALL_BUT_APISERVER,
        },
        Row {
            what: "a key is an empty file",
            options: healthy(),
            spoil: |t| t.write("/etc/kubernetes/pki/apiserver.key", "", 0o600),
            left_out: [&["apiserver"], &[]],
            said: &["apiserver.key is empty; only `certwarden renew apiserver` replaces it"],
            renewed: &[],
        },
        Row {
            what: "a kubeconfig is empty, all is due",
            options: due(),
            spoil: |t| t.write("/etc/kubernetes/scheduler.conf", "", 0o600),
            left_out: [&["scheduler.conf"], &["scheduler.conf"]],
            said: &["scheduler.conf is empty", "kubeadm init phase kubeconfig scheduler --config FILE"],
            renewed: &ALL_BUT_SCHEDULER,
        },
        Row {
            what: "`/var/lib/kubelet` is missing, all is due",
            options: due(),
            spoil: |t| fs::remove_dir_all(t.at("/var/lib/kubelet")).unwrap(),
            left_out: [&["kubelet-client"], &["kubelet-client"]],
            said: &["/var/lib/kubelet does not exist", "that directory back"],
            renewed: &LEAVES,
        },
        Row {
            what: "what an external CA signs is due",
            options: Options { external_ca: true, ..due() },
            spoil: |_| {},
            left_out: [&SIGNED_BY_CA, &SIGNED_BY_CA],
            said: &["the key of ca is not on this node", "a certificate of CN=kube-apiserver"],
            renewed: &[
                "apiserver-etcd-client",
                "etcd-healthcheck-client",
                "etcd-peer",
                "etcd-server",
                "front-proxy-client",
            ],
        },
        Row {
            what: "what an external CA signs is not due",
            options: Options { external_ca: true, ..healthy() },
            spoil: |_| {},
            left_out: [&[], &[]],
            said: &["nothing is due"],
            renewed: &[],
        },
        Row {
            what: "the CAs have expired",
            options: Options { ca_left: -DAY, ..due() },
            spoil: |_| {},
            left_out: [&UNDER_AN_EXPIRED_CA, &["ca", "etcd-ca", "front-proxy-ca", "kubelet-client"]],
            said: &["a CA is never renewed automatically", "rotate it first"],
            renewed: &[],
        },
        Row {
            what: "another CA has signed it",
            options: healthy(),
            spoil: |t| {
                let stranger = support::Ca::new("kubernetes", support::KeyKind::P256, 3000 * DAY);
                let leaf = t.leaf(&stranger, "apiserver", ("kube-apiserver", None), support::Usage::Server);
                t.pair("/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key", &leaf);
            },
            left_out: [&["apiserver"], &[]],
            said: &["was not issued by any CA in", "only `certwarden renew apiserver` replaces it"],
            renewed: &[],
        },
        Row {
            what: "`renew.exclude` names what is due and works",
            options: healthy().left_of("apiserver", 20 * DAY),
            spoil: |t| settings(t, "[renew]\nexclude = [\"apiserver\"]\n"),
            left_out: [&[], &[]],
            said: &["nothing is due but what renew.exclude names: apiserver"],
            renewed: &[],
        },
        Row {
            what: "`renew.exclude` names what has expired",
            options: healthy().left_of("apiserver", -DAY),
            spoil: |t| settings(t, "[renew]\nexclude = [\"apiserver\"]\n"),
            left_out: [&["apiserver"], &["apiserver"]],
            said: &["renew.exclude names it, so that it is renewed by name only"],
            renewed: &[],
        },
    ]
}

const GONE: [&str; 14] = [
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "ca",
    "controller-manager.conf",
    "etcd-ca",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-ca",
    "front-proxy-client",
    "kubelet-client",
    "scheduler.conf",
];
const UNDER_AN_EXPIRED_CA: [&str; 14] = GONE;

fn certwarden() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_certwarden"))
}

/// A tree for one command: each changes what it is given.
fn fresh(of: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    copy(of, dir.path());
    dir
}

fn names(skipped: &Value) -> BTreeSet<String> {
    let all = skipped.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(|s| s["due"] == true).map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

/// Names that a report with its earlier ones leaves out, and those that it renewed.
fn of_report(report: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let earlier = report["earlier"].as_array().cloned().unwrap_or_default();
    let all = || earlier.iter().chain([report]);
    let renewed = all().flat_map(|r| r["renewed"].as_array().cloned().unwrap_or_default());
    let renewed = renewed.map(|r| r["name"].as_str().unwrap().to_owned()).collect();
    (all().flat_map(|r| names(&r["left_out"])).collect(), renewed)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// The exit codes that the reference promises.
fn codes(what: &str) -> Vec<(&'static str, i32)> {
    let found = combinations().into_iter().find(|c| c.what == what);
    let codes = found.unwrap_or_else(|| panic!("the reference has no row `{what}`")).codes;
    COMMANDS.into_iter().zip(codes.map(i32::from)).collect()
}

#[test]
fn every_row_of_the_reference_is_tried_here_or_where_it_is_about_who_asks() {
    let tried: BTreeSet<&str> = rows().iter().map(|r| r.what).chain(ELSEWHERE).collect();
    let promised: BTreeSet<&str> = combinations().iter().map(|c| c.what).collect();
    assert_eq!(tried, promised);
}

#[test]
fn what_is_due_and_cannot_be_renewed_here_is_told_by_every_command() {
    for row in rows() {
        let built = TempDir::new().unwrap();
        let tree = Tree::build(built.path(), row.options.clone());
        (row.spoil)(&tree);
        let codes = codes(row.what);
        let rehearsed = codes.iter().find(|c| c.0 == "renew").map(|c| ("renew --dry-run", c.1)).unwrap();
        for (command, code) in codes.into_iter().chain([rehearsed]) {
            let dir = fresh(built.path());
            let args: Vec<&str> = command.split(' ').collect();
            let said = run(certwarden(), dir.path(), &args, None);
            assert_eq!(said.code, code, "{}: {command}: {}", row.what, said.text);
            let fine = row.left_out[0].is_empty() || (command.ends_with("--all") && row.left_out[1].is_empty());
            assert!(fine || !said.text.contains("othing is due"), "{}: {command}: {}", row.what, said.text);
            if command == "plan" || command == "renew" {
                for phrase in row.said {
                    assert!(
                        said.text.contains(phrase),
                        "{}: {command} does not say `{phrase}`: {}",
                        row.what,
                        said.text
                    );
                }
            }
        }
    }
}

#[test]
fn a_plan_foresees_exactly_what_a_renewal_leaves_out_and_what_it_renews() {
    for row in rows() {
        let built = TempDir::new().unwrap();
        let tree = Tree::build(built.path(), row.options.clone());
        (row.spoil)(&tree);
        for (all, expected) in [None, Some("--all")].into_iter().zip(row.left_out) {
            let json = |command: &str, root: &Path| -> (Value, i32) {
                let args: Vec<&str> = [command, "-o", "json"].into_iter().chain(all).collect();
                let said = run(certwarden(), root, &args, None);
                (serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {}", said.text)), said.code)
            };
            let dir = fresh(built.path());
            let before = snapshot(dir.path());
            let (plan, planned) = json("plan", dir.path());
            assert_eq!(snapshot(dir.path()), before, "{}: to plan changes nothing", row.what);
            let (report, renewed) = json("renew", dir.path());
            let (left_out, new) = of_report(&report);
            assert_eq!(names(&plan["skipped"]), set(expected), "{} {all:?}", row.what);
            // an expired CA closes a gate for those that were asked for
            let refused = report["outcome"] == "refused";
            assert_eq!((left_out, renewed), (set(expected), planned), "{} {all:?}: {report}", row.what);
            let parts = std::iter::successors(Some(&plan), |part| Some(&part["then"]).filter(|p| p.is_object()));
            let items = parts.flat_map(|part| part["items"].as_array().unwrap());
            let items: BTreeSet<String> = items.map(|i| i["name"].as_str().unwrap().to_owned()).collect();
            assert!(refused || new == items, "{} {all:?}: planned {items:?}, renewed {new:?}", row.what);
            if all.is_none() {
                assert_eq!(new, set(row.renewed), "{}", row.what);
                let again = run(certwarden(), dir.path(), &["renew"], None);
                let code = i32::from(!expected.is_empty());
                assert_eq!(again.code, code, "{}: once more, with nothing left to renew: {}", row.what, again.text);
            }
        }
    }
}

#[test]
fn what_is_named_is_renewed_whole_or_not_at_all_and_knows_of_nothing_else() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), due());
    tree.remove("/etc/kubernetes/pki/apiserver.key");
    let before = snapshot(&tree.at("/etc"));
    for args in [&["apiserver"][..], &["admin.conf", "apiserver"], &["admin.conf", "ca"]] {
        for command in ["plan", "renew"] {
            let said = run(certwarden(), dir.path(), &[&[command], args].concat(), None);
            assert_eq!(said.code, 1, "{command} {args:?}: {}", said.text);
            assert!(said.text.contains("does not exist") || said.text.contains("a CA is never"), "{}", said.text);
        }
        assert_eq!(snapshot(&tree.at("/etc")), before, "{args:?}: half of it was renewed");
    }
    for command in ["plan", "renew"] {
        let said = run(certwarden(), dir.path(), &[command, "admin.conf"], None);
        assert_eq!(said.code, 0, "{command} admin.conf: {}", said.text);
        assert!(!said.text.contains("apiserver.key"), "nobody asked for it: {}", said.text);
    }
}

#[test]
fn a_rollback_to_what_is_gone_changes_nothing_and_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), due());
    let old = tree.read("/etc/kubernetes/pki/apiserver.crt");
    assert_eq!(run(certwarden(), dir.path(), &["renew"], None).code, 0);
    let key = "/etc/kubernetes/pki/apiserver.key";
    let aside = tree.read(key);
    tree.remove(key);
    let before = snapshot(&tree.at("/etc"));
    let said = run(certwarden(), dir.path(), &["rollback"], None);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("apiserver.key does not exist"), "{}", said.text);
    assert!(said.text.contains("put back by hand, from the backup of transaction 000001-"), "{}", said.text);
    assert_eq!(snapshot(&tree.at("/etc")), before);
    tree.write(key, aside, 0o600);
    let said = run(certwarden(), dir.path(), &["rollback"], None);
    assert_eq!((said.code, tree.read("/etc/kubernetes/pki/apiserver.crt")), (0, old), "{}", said.text);
    let said = run(certwarden(), dir.path(), &["recover"], None);
    assert!(said.code == 0 && said.text.contains("no transaction is unfinished"), "{}", said.text);
}

#[test]
fn a_rollback_of_what_is_no_longer_on_the_node_is_not_done() {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), healthy());
    assert_eq!(run(certwarden(), dir.path(), &["renew", "front-proxy-client"], None).code, 0);
    let flag = |l: &&str| !l.contains("proxy-client");
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    tree.write(manifest, tree.read(manifest).lines().filter(flag).collect::<Vec<_>>().join("\n"), 0o600);
    for end in ["crt", "key"] {
        tree.remove(&format!("/etc/kubernetes/pki/front-proxy-client.{end}"));
    }
    let said = run(certwarden(), dir.path(), &["rollback"], None);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("front-proxy-client: it is no longer on this node"), "{}", said.text);
}

/// The first look of a machine with this id comes two seconds after a start or a reload.
fn prompt_machine_id() -> String {
    let soon = |id: &String| {
        Schedule::new(Span::secs(3600), &Who::of("node-1", id)).first(Timestamp::UNIX_EPOCH).as_second() == 2
    };
    (0..1000).map(|n| format!("{n:032x}")).find(soon).unwrap()
}

fn published(tree: &Tree) -> Option<Value> {
    serde_json::from_slice(&fs::read(tree.at("/run/certwarden/status.json")).ok()?).ok()
}

#[test]
fn a_daemon_that_cannot_renew_what_is_due_says_so_once_and_does_not_call_it_a_renewal() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "the daemon needs root");
        eprintln!("NOT TESTED: the daemon needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), healthy());
    fs::remove_dir_all(tree.at("/var/lib/kubelet")).unwrap();
    tree.write("/etc/machine-id", prompt_machine_id(), 0o644);
    settings(&tree, "mode = \"enforce\"\n");
    let log = dir.path().join("log");
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_certwarden-full"));
    daemon.arg("--root").arg(&tree.root).arg("daemon").stderr(fs::File::create(&log).unwrap());
    let mut daemon = daemon.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let began = Instant::now();
    let mut looks = BTreeSet::new();
    // a look, an attempt, and a look after it; then once more by each reload
    while looks.len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(120), "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        let Some(status) = published(&tree) else { continue };
        let waits = &status["last_check"]["waits"];
        if status["doing"] == "idle" && !waits.is_null() && looks.insert(status["last_check"]["at"].to_string()) {
            assert_eq!(waits["until"], Value::Null, "{status}");
            assert!(
                waits["why"].as_str().unwrap().contains("kubelet-client: /var/lib/kubelet does not exist"),
                "{status}"
            );
            assert_eq!((&status["last_transaction"], &status["standing"]["standing"]), (&Value::Null, &"free".into()));
            kill(pid, Signal::SIGHUP).unwrap();
        }
    }
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    let said = fs::read_to_string(&log).unwrap();
    let told = said.lines().filter(|l| l.contains("is not renewed here: kubelet-client")).count();
    assert_eq!(told, 1, "{said}");
    let metrics = fs::read_to_string(tree.at("/run/certwarden/metrics.prom")).unwrap();
    let count = metrics.lines().find_map(|l| l.strip_prefix("certwarden_transactions_total{outcome=\"left-out\"} "));
    assert!(count.unwrap().parse::<u32>().unwrap() >= 3, "{metrics}");
    assert!(!tree.at("/var/lib/certwarden/transactions").exists(), "nothing was begun");
}
