//! Whoever may not read a node gets no answer about it, and no remedy against what is there and cannot be seen: exit 77, "run as
//! root", by every command. And a root that is no node is called that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and one that could not be made says so"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::support;
use support::said::run;
use support::{DAY, Options, Tree, snapshot};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// The programs where everybody may start them; None: only root can become somebody else.
fn for_everybody() -> Option<(TempDir, PathBuf)> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "CI must be root");
        eprintln!("NOT TESTED: only root can become somebody else");
        return None;
    }
    let dir = TempDir::new().unwrap();
    open_to_all(dir.path());
    for program in [env!("CARGO_BIN_EXE_certwarden"), env!("CARGO_BIN_EXE_certwarden-full")] {
        let own = dir.path().join(Path::new(program).file_name().unwrap());
        fs::copy(program, &own).unwrap();
        open_to_all(&own);
    }
    let program = dir.path().join("certwarden");
    Some((dir, program))
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// All of a tree, for which `each` is called.
fn walk(dir: &Path, each: &dyn Fn(&Path)) {
    each(dir);
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() { walk(&path, each) } else { each(&path) }
    }
}

fn tree(options: Options) -> (TempDir, Tree) {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), options);
    open_to_all(dir.path());
    (dir, tree)
}

const ALL: [&[&str]; 18] = [
    &["check"],
    &["check", "apiserver"],
    &["check", "-o", "json"],
    &["plan"],
    &["plan", "--all", "-o", "json"],
    &["plan", "apiserver"],
    &["renew"],
    &["renew", "--all"],
    &["renew", "--dry-run", "--all"],
    &["renew", "apiserver"],
    &["rollback"],
    &["recover"],
    &["diagnose"],
    &["diagnose", "apiserver"],
    &["diagnose", "--all", "-o", "json"],
    &["fleet"],
    &["pause"],
    &["resume"],
];

#[test]
fn whoever_may_not_read_is_told_to_be_root_and_nothing_else_by_every_command() {
    let Some((_programs, certwarden)) = for_everybody() else { return };
    // as kubeadm leaves it; then with one thing only that others may not read
    let kubeadms = |_: &Tree| {};
    let one_key = |t: &Tree| {
        walk(&t.root, &|path| open_up(path));
        fs::set_permissions(t.at("/etc/kubernetes/pki/apiserver.key"), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let one_directory = |t: &Tree| {
        walk(&t.root, &|path| open_up(path));
        fs::set_permissions(t.at("/var/lib/kubelet/pki"), fs::Permissions::from_mode(0o700)).unwrap();
    };
    for (what, close) in [
        ("kubeadm's modes", &kubeadms as &dyn Fn(&Tree)),
        ("one key", &one_key),
        ("the kubelet's directory", &one_directory),
    ] {
        for left in [300 * DAY, 20 * DAY, -DAY] {
            let (_dir, tree) = tree(Options { left, ..Options::default() });
            close(&tree);
            let before = snapshot(&tree.root);
            // `watch` reads its kubeconfig and nothing else of the node
            let watch: &[&[&str]] = if what == "kubeadm's modes" { &[&["watch", "--once"]] } else { &[] };
            for args in ALL.iter().chain(watch) {
                let said = run(&certwarden, &tree.root, args, Some(NOBODY));
                assert_eq!(said.code, 77, "{what}, {left}: {args:?}: {}", said.text);
                assert!(said.text.contains("run as root"), "{what}, {left}: {args:?}: {}", said.text);
                assert_eq!(said.text.lines().count(), 1, "{what}, {left}: {args:?}: {}", said.text);
            }
            assert_eq!(snapshot(&tree.root), before, "{what}");
        }
    }
}

fn open_up(path: &Path) {
    if !fs::symlink_metadata(path).unwrap().is_symlink() {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_configuration_and_a_state_that_may_not_be_read_are_no_faults_of_theirs() {
    let Some((_programs, certwarden)) = for_everybody() else { return };
    let (_dir, tree) = tree(Options::default());
    tree.write("/etc/certwarden/certwarden.toml", "mode = \"observe\"\n", 0o600);
    tree.write("/var/lib/certwarden/state.json", "{}", 0o600);
    tree.write("/run/certwarden/status.json", "{}", 0o600);
    fs::set_permissions(tree.at("/var/lib/certwarden"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(tree.at("/etc"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.at("/etc/certwarden"), fs::Permissions::from_mode(0o755)).unwrap();
    for args in [
        &["config", "check"][..],
        &["config", "show"],
        &["check"],
        &["history"],
        &["history", "000001-20261122T063633Z"],
        &["status"],
    ] {
        let said = run(&certwarden, &tree.root, args, Some(NOBODY));
        assert_eq!(said.code, 77, "{args:?}: {}", said.text);
        assert!(said.text.contains("run as root"), "{args:?}: {}", said.text);
    }
    fs::set_permissions(&tree.root, fs::Permissions::from_mode(0o700)).unwrap();
    let said = run(&certwarden, &tree.root, &["check"], Some(NOBODY));
    assert_eq!(said.code, 77, "the root itself: {}", said.text);
}

#[test]
fn whoever_may_read_all_of_it_gets_answers_and_may_not_write_says_so() {
    let Some((_programs, certwarden)) = for_everybody() else { return };
    let (_dir, tree) = tree(Options { left: 20 * DAY, ..Options::default() });
    walk(&tree.root, &|path| open_up(path));
    let before = snapshot(&tree.root);
    assert_eq!(run(&certwarden, &tree.root, &["check"], Some(NOBODY)).code, 1);
    assert_eq!(run(&certwarden, &tree.root, &["plan"], Some(NOBODY)).code, 0);
    for args in [&["renew"][..], &["renew", "--all"], &["renew", "--dry-run"]] {
        let said = run(&certwarden, &tree.root, args, Some(NOBODY));
        assert!(said.code == 77 && said.text.contains("run as root"), "{args:?}: {} {}", said.code, said.text);
    }
    assert_eq!(snapshot(&tree.root), before);
    // and all of it his own
    walk(&tree.root, &|path| {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_file() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    });
    chown(&tree.root, Some(NOBODY), Some(NOBODY)).unwrap();
    let said = run(&certwarden, &tree.root, &["renew"], Some(NOBODY));
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!(run(&certwarden, &tree.root, &["check"], Some(NOBODY)).code, 0);
}

#[test]
fn a_root_that_is_no_node_is_called_that() {
    let certwarden = Path::new(env!("CARGO_BIN_EXE_certwarden"));
    let dir = TempDir::new().unwrap();
    for (args, code) in [
        (&["check"][..], 3),
        (&["plan"], 1),
        (&["plan", "--all"], 1),
        (&["renew"], 1),
        (&["renew", "--all"], 1),
        (&["renew", "--dry-run"], 1),
        (&["renew", "apiserver"], 1),
        (&["rollback"], 1),
        (&["diagnose"], 3),
    ] {
        let said = run(certwarden, dir.path(), args, None);
        assert_eq!(said.code, code, "{args:?}: {}", said.text);
        assert!(!said.text.contains("othing is due"), "{args:?}: {}", said.text);
        let told = ["there is no Kubernetes node below", "is this a Kubernetes node?", "no-node"];
        assert!(told.iter().any(|t| said.text.contains(t)), "{args:?}: {}", said.text);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left there");
}
