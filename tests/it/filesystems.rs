//! The certificates on every file system and behind every kind of mount and link that is seen on nodes, with what a
//! rename would lose; and files that cannot be replaced, which is found before anything is touched.
//!
//! Needs root, loop devices, mkfs and chattr. Where they are missing the tests say that they were skipped, and fail if
//! `CERTWARDEN_CI` is set: there everything must be there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::fake;
use certwarden::model::gate::Gate;
use certwarden::model::ledger::State;
use certwarden::model::planner::Selection;
use certwarden::model::report::Outcome;
use certwarden::txn::recover::Reach;
use fake::node::{Live, Node, assert_outcome, assert_unchanged};
use fake::{At, at_step, forget_steps};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const KUBERNETES: &str = "/etc/kubernetes";
const PKI: &str = "/etc/kubernetes/pki";

/// Whether mounts can be made that only this thread sees; says so if not.
fn may_mount() -> bool {
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).ok()
    };
    private().is_some() || skipped("no private mounts (not root, or in a chroot)")
}

fn skipped(why: &str) -> bool {
    assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "CI must be able to run this: {why}");
    // not by eprintln!, which the test runner swallows
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
    false
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&o.stderr))),
        Err(e) => Err(format!("{program}: {e}")),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file system in a file, mounted at `at` until this thread ends.
fn make_fs(kind: &str, images: &Path, at: &Path) -> Result<(), String> {
    // one each: an image that is mounted is not made anew
    let image = images.join(format!("{kind}-{}.img", fs::read_dir(images).unwrap().count()));
    // the least that mkfs.xfs takes; sparse
    fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let force = if kind == "ext4" { "-F" } else { "-f" };
    run(&format!("mkfs.{kind}"), &["-q", force, text(&image)])?;
    fs::create_dir_all(at).unwrap();
    run("mount", &["-t", kind, "-o", "loop", text(&image), text(at)])
}

/// Moves the directory's content to where `make` puts a file system, which is then seen in its place.
fn onto(dir: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let kept = dir.with_extension("kept");
    fs::rename(dir, &kept).unwrap();
    fs::create_dir(dir).unwrap();
    make(dir)?;
    run("cp", &["-a", &format!("{}/.", kept.display()), text(dir)])?;
    fs::remove_dir_all(kept).unwrap();
    Ok(())
}

type Place = fn(&Node, &Path) -> Result<(), String>;

/// Where the certificates are.
const PLACES: [(&str, Place); 8] = [
    ("pki on ext4", |n, images| onto(&n.path(PKI), |at| make_fs("ext4", images, at))),
    ("pki on xfs", |n, images| onto(&n.path(PKI), |at| make_fs("xfs", images, at))),
    ("pki and pki/etcd as subvolumes of btrfs", |n, images| {
        make_fs("btrfs", images, &n.path("/etc/volume"))?;
        run("btrfs", &["subvolume", "create", text(&n.path("/etc/volume/pki"))])?;
        run("btrfs", &["subvolume", "create", text(&n.path("/etc/volume/pki/etcd"))])?;
        run("cp", &["-a", &format!("{}/.", n.path(PKI).display()), text(&n.path("/etc/volume/pki"))])?;
        fs::remove_dir_all(n.path(PKI)).unwrap();
        symlink("../volume/pki", n.path(PKI)).unwrap();
        Ok(())
    }),
    ("/etc/kubernetes on an overlay", |n, _| {
        let lower = n.path("/lower");
        fs::rename(n.path(KUBERNETES), &lower).unwrap();
        for dir in ["/upper", "/work", KUBERNETES] {
            fs::create_dir(n.path(dir)).unwrap();
        }
        let [lower, upper, work] = ["/lower", "/upper", "/work"].map(|d| n.path(d).display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        run("mount", &["-t", "overlay", "overlay", "-o", &options, text(&n.path(KUBERNETES))])
    }),
    ("etcd's on a tmpfs of its own", |n, _| {
        onto(&n.path("/etc/kubernetes/pki/etcd"), |at| run("mount", &["-t", "tmpfs", "tmpfs", text(at)]))
    }),
    ("/etc/kubernetes a link", |n, _| {
        fs::rename(n.path(KUBERNETES), n.path("/etc/elsewhere")).unwrap();
        symlink("elsewhere", n.path(KUBERNETES)).unwrap();
        Ok(())
    }),
    ("pki a link to ssl, as kubespray has it", |n, _| {
        fs::rename(n.path(PKI), n.path("/etc/kubernetes/ssl")).unwrap();
        symlink("ssl", n.path(PKI)).unwrap();
        Ok(())
    }),
    ("pki a link to another file system", |n, images| {
        make_fs("ext4", images, &n.path("/etc/volume"))?;
        run("cp", &["-a", text(&n.path(PKI)), text(&n.path("/etc/volume/pki"))])?;
        fs::remove_dir_all(n.path(PKI)).unwrap();
        symlink("../volume/pki", n.path(PKI)).unwrap();
        Ok(())
    }),
];

/// An ACL with one user more, a label and an owner: what a rename would lose.
fn adorn(node: &Node) {
    // acl(5) as the kernel takes it (linux/posix_acl_xattr.h): version 2, then tag, permission, id
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, u32::MAX), (0x02, 4, 1234), (0x04, 0, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in entries {
        acl.extend([tag.to_le_bytes(), permission.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    for file in ["apiserver.key", "etcd/server.key"] {
        let key = node.path(PKI).join(file);
        xattr::set(&key, "system.posix_acl_access", &acl).unwrap();
        xattr::set(&key, "security.selinux", b"system_u:object_r:cert_t:s0\0").unwrap();
        std::os::unix::fs::chown(&key, Some(4321), Some(1234)).unwrap();
    }
}

/// Everything of each file but its content and times.
fn attributes(live: &Live) -> Live {
    live.iter().map(|(path, f)| (path.clone(), (Vec::new(), f.1, f.2, f.3, 0, 0, f.6.clone(), f.7.clone()))).collect()
}

#[test]
fn wherever_the_certificates_lie_they_are_renewed_rolled_back_and_recovered_with_all_they_have() {
    if !may_mount() {
        return;
    }
    let images = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for (what, place) in PLACES {
        let made = || {
            let node = Node::due();
            place(&node, images.path()).map(|()| adorn(&node)).map(|()| node)
        };
        let node = match made() {
            Ok(node) => node,
            Err(why) => {
                skipped(&format!("{what}: {why}"));
                continue;
            }
        };
        let before = node.live();
        let labelled = before.values().filter(|f| f.6.iter().any(|(name, _)| name == "security.selinux")).count();
        assert_eq!(labelled, 2, "{what}");
        // rolled back
        node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
        assert_outcome(&node.renew(&Selection::All), Outcome::RolledBack);
        assert_unchanged(&before, &node);
        node.fake.world(|w| w.kubelet_dies_if = None);
        // dead between two renames
        forget_steps();
        let fake = node.fake.clone();
        at_step(At::Text("putting the new files in place"), move || {
            fake.world(|w| w.crash_at = Some(w.ticks + fake::TO_FIRST_RENAME));
        });
        assert!(node.crash(u64::MAX / 2, || drop(node.renew(&Selection::All))), "{what}");
        assert_eq!(node.last_state(), Some(State::Committing), "{what}");
        let first = node.path(PKI).join("apiserver.key");
        fs::rename(first.with_file_name(".apiserver.key.certwarden-new"), &first).unwrap();
        forget_steps();
        assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::RolledBack);
        assert_unchanged(&before, &node);
        // renewed, and restored
        node.fake.world(fake::World::rejoin_real_time);
        assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
        assert_eq!(attributes(&node.live()), attributes(&before), "{what}");
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        node.fake.world(fake::World::rejoin_real_time);
        assert_outcome(&node.rollback(None, &[]).unwrap(), Outcome::Verified);
        assert_eq!(attributes(&node.live()), attributes(&before), "{what}");
        assert!(before.iter().all(|(path, f)| node.live()[path].0 == f.0), "{what}");
        tried += 1;
    }
    assert!(tried > 3, "only {tried} of {}", PLACES.len());
}

fn new_files(root: &Path) -> bool {
    let modified = |file: &str| fs::metadata(root.join(file)).unwrap().modified().unwrap();
    modified("etc/kubernetes/scheduler.conf") > modified("etc/kubernetes/pki/etcd/ca.crt")
}

/// Makes a file or a directory one that cannot be replaced; and back.
type Freeze = (&'static str, fn(&Node) -> Result<(), String>, fn(&Node) -> Result<(), String>);

fn chattr(node: &Node, flag: &str, path: &str) -> Result<(), String> {
    run("chattr", &[flag, text(&node.path(path))])
}

fn bind(node: &Node, path: &str, read_only: bool) -> Result<(), String> {
    let path = node.path(path);
    run("mount", &["--bind", text(&path), text(&path)])?;
    if read_only { run("mount", &["-o", "remount,bind,ro", text(&path)]) } else { Ok(()) }
}

fn unbind(node: &Node, path: &str) -> Result<(), String> {
    run("umount", &[text(&node.path(path))])
}

const KEY: &str = "/etc/kubernetes/pki/etcd/server.key";
const ETCD: &str = "/etc/kubernetes/pki/etcd";

const FREEZES: [Freeze; 7] = [
    ("an immutable file", |n| chattr(n, "+i", KEY), |n| chattr(n, "-i", KEY)),
    ("an append-only file", |n| chattr(n, "+a", KEY), |n| chattr(n, "-a", KEY)),
    ("an immutable directory", |n| chattr(n, "+i", ETCD), |n| chattr(n, "-i", ETCD)),
    ("an append-only directory", |n| chattr(n, "+a", ETCD), |n| chattr(n, "-a", ETCD)),
    ("a directory mounted read-only", |n| bind(n, ETCD, true), |n| unbind(n, ETCD)),
    ("a file mounted read-only", |n| bind(n, KEY, true), |n| unbind(n, KEY)),
    ("a file that is a mount", |n| bind(n, KEY, false), |n| unbind(n, KEY)),
];

#[test]
fn what_cannot_be_replaced_is_said_before_anything_is_touched_and_at_the_commit_at_the_latest() {
    if !may_mount() {
        return;
    }
    let images = tempfile::tempdir().unwrap();
    for (what, freeze, thaw) in FREEZES {
        let node = Node::due();
        if let Err(why) = onto(&node.path(PKI), |at| make_fs("ext4", images.path(), at)).and_then(|()| freeze(&node)) {
            skipped(&format!("{what}: {why}"));
            continue;
        }
        let before = node.live();
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Refused);
        assert_eq!(report.refusals.iter().map(|r| r.gate).collect::<Vec<_>>(), [Gate::Disk], "{what}");
        assert!(report.reason.contains("/pki/etcd"), "{what}: {}", report.reason);
        assert!(node.ids().is_empty(), "{what}: nothing was begun");
        assert_unchanged(&before, &node);
        thaw(&node).unwrap();
        // after the gates, by whoever
        forget_steps();
        let (shared, frozen) = (std::rc::Rc::new(node), std::rc::Rc::new(std::cell::Cell::new(false)));
        let (node, done) = (std::rc::Rc::downgrade(&shared), std::rc::Rc::clone(&frozen));
        at_step(At::Text("rehearsing"), move || {
            freeze(&node.upgrade().unwrap()).unwrap();
            done.set(true);
        });
        let report = shared.renew_due();
        assert!(frozen.get());
        assert_outcome(&report, Outcome::Refused);
        assert_unchanged(&before, &shared);
        thaw(&shared).unwrap();
        shared.recover(Reach::Full, true).unwrap();
        shared.assert_nothing_left_over();
        shared.fake.world(fake::World::rejoin_real_time);
        assert_outcome(&shared.renew_due(), Outcome::Verified);
    }
}
