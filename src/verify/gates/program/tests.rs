use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::host::systemd::UnitStatus;
use crate::model::inventory::{Kubelet, Node, Role};
use crate::verify::testing::{Script, host_at};

#[test]
fn the_kubelet_that_was_started_counts_wherever_it_lies_and_no_wrapper_does() {
    const DELETED: &str = "/opt/bin/kubelet (deleted)";
    // by its executable, if that is shown; else by the first word of its command; its file is new
    for (exe, args, age, closed) in [
        (Some(DELETED), "", Age::Old, true),
        (Some("/opt/bin/kubelet"), "/opt/bin/kubelet", Age::Old, false),
        (Some("/usr/bin/bash (deleted)"), "/bin/bash /opt/bin/kubelet.sh", Age::Old, false),
        (None, "/opt/bin/kubelet --v=2", Age::Old, true),
        (None, "/opt/bin/kubelet --v=2", Age::New, false),
        (None, "/opt/bin/kubelet-1.34 --v=2", Age::Old, true),
        (None, "/bin/bash /opt/bin/kubelet", Age::Old, false),
        (None, "kubelet --v=2", Age::Old, false),
        (None, "/opt/other/kubelet", Age::Old, false),
        (None, "", Age::Old, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for program in ["opt/bin/kubelet", "opt/bin/kubelet-1.34", "bin/bash", "usr/bin/kubelet"] {
            put(dir.path(), program, "");
        }
        put(dir.path(), "proc/7/cmdline", &args.replace(' ', "\0"));
        // a tick is 10 ms; the name of the program may hold anything
        let ticks = if matches!(age, Age::Old) { 100 } else { 1_000_000_000_000_u64 };
        put(dir.path(), "proc/7/stat", &format!("7 (a) b) S{} {ticks} 0", " 0".repeat(18)));
        put(dir.path(), "proc/stat", "cpu 1\nbtime 1000000000\n");
        if let Some(exe) = exe {
            std::os::unix::fs::symlink(exe, dir.path().join("proc/7/exe")).unwrap();
        }
        let running = Script::units([Ok(unit(7))]);
        let host = Host { services: Box::new(running), ..host_at(dir.path()) };
        let gate = kubelet_binary(&host, &inventory()).map(|r| r.gate);
        assert_eq!(gate, closed.then_some(Gate::KubeletBinary), "{exe:?} {args}");
    }
}

enum Age {
    Old,
    New,
}

fn unit(main_pid: u32) -> UnitStatus {
    UnitStatus {
        load_state: "loaded".into(),
        active_state: "active".into(),
        sub_state: "running".into(),
        result: "success".into(),
        invocation_id: "1".into(),
        main_pid,
        n_restarts: 0,
        exec_main_status: 0,
        ..UnitStatus::default()
    }
}

fn inventory() -> Inventory {
    let kubelet = Kubelet { unit: "kubelet.service".into(), ..Kubelet::default() };
    let node = Node { role: Role::ControlPlane, kubelet, ..Node::default() };
    Inventory { collected_at: Timestamp::UNIX_EPOCH, node, entries: Vec::new(), copies: Vec::new() }
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A kubelet whose process may not be looked into, in the given start, which began at that second.
fn running(root: &Path, invocation: &str, began: i64) -> Host {
    put(root, "proc/7/cmdline", "/opt/bin/kubelet\0--v=2");
    put(root, "proc/stat", &format!("cpu 1\nbtime {began}\n"));
    put(root, "proc/7/stat", &format!("7 (kubelet) S{} 0 0", " 0".repeat(18)));
    let status = UnitStatus { invocation_id: invocation.into(), ..unit(7) };
    Host { services: Box::new(Script::units([Ok(status)])), ..host_at(root) }
}

fn remember(host: &Host) -> bool {
    let Some(known) = to_remember(host, &inventory()) else { return false };
    host.root.write(Path::new(REMEMBERED), &serde_json::to_vec(&known).unwrap(), 0o600).unwrap();
    true
}

/// As a package manager does, with the time that it had when the package was made.
fn replace(kubelet: &Path, content: &str) {
    let aside = kubelet.with_extension("new");
    fs::write(&aside, content).unwrap();
    fs::File::options().write(true).open(&aside).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(9)).unwrap();
    fs::rename(aside, kubelet).unwrap();
}

#[test]
fn what_is_remembered_of_a_start_tells_another_kubelet_from_a_file_that_was_only_touched() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var/lib/certwarden")).unwrap();
    put(dir.path(), "opt/bin/kubelet", "1.35.0");
    let kubelet = dir.path().join("opt/bin/kubelet");
    let now = Timestamp::now().as_second();
    let host = running(dir.path(), "first", now + 5);
    let closed = |host: &Host| kubelet_binary(host, &inventory()).is_some();
    assert!(remember(&host) && !remember(&host), "once for each start");
    // from here on the file is younger than the process
    let host = running(dir.path(), "first", now - 100);
    assert!(!closed(&host));
    fs::set_permissions(&kubelet, fs::Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(&kubelet, kubelet.with_extension("ostree")).unwrap();
    assert!(!closed(&host), "chmod, another name");
    replace(&kubelet, "1.35.0");
    assert!(!closed(&host), "the same version again");
    replace(&kubelet, "1.35.1");
    assert!(closed(&host), "another one, of the same size and time");
    replace(&kubelet, "1.35.0");
    assert!(!closed(&host), "the old one is back");
    fs::remove_file(&kubelet).unwrap();
    replace(&kubelet, "1.35.1");
    // another start is nothing that is remembered; this one is older than the file
    let host = running(dir.path(), "second", now - 100);
    assert!(closed(&host) && !remember(&host), "what may be another one is not remembered as the one that runs");
    let host = running(dir.path(), "third", now + 5);
    assert!(!closed(&host) && remember(&host));
    for damage in ["", "{", "[]"] {
        put(dir.path(), "var/lib/certwarden/kubelet-program.json", damage);
        assert!(remember(&host), "{damage:?}");
    }
}

#[test]
fn a_kubelet_that_was_only_touched_before_anybody_looked_closes_no_gate() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "opt/bin/kubelet", "1.35.0");
    let kubelet = dir.path().join("opt/bin/kubelet");
    let Ok(born) = fs::metadata(&kubelet).unwrap().created() else { return }; // a file system without births
    let born = i64::try_from(born.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    std::thread::sleep(Duration::from_millis(1_100)); // its ctime is of a later second
    fs::set_permissions(&kubelet, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(fs::metadata(&kubelet).unwrap().ctime() > born);
    assert!(kubelet_binary(&running(dir.path(), "first", born), &inventory()).is_none());
}

#[test]
fn a_process_that_may_be_looked_into_is_compared_with_what_lies_in_its_place() {
    for (on_disk, closed) in [(Some("1.35.0"), false), (Some("1.35.1"), true), (None, true)] {
        let dir = tempfile::tempdir().unwrap();
        let host = running(dir.path(), "first", 1_000);
        // what the kernel calls it, and opens nevertheless
        put(dir.path(), "opt/bin/kubelet (deleted)", "1.35.0");
        std::os::unix::fs::symlink("/opt/bin/kubelet (deleted)", dir.path().join("proc/7/exe")).unwrap();
        if let Some(content) = on_disk {
            put(dir.path(), "opt/bin/kubelet", content);
        }
        assert_eq!(kubelet_binary(&host, &inventory()).is_some(), closed, "{on_disk:?}");
    }
}
