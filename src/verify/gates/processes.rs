//! Gates that the process table closes: another kubeadm at work, a kubelet that is not the one on the disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::host::process;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Inventory;

use super::refusal;

/// Another kubeadm at work, seen in the process table.
pub fn processes(host: &Host) -> Option<Refusal> {
    let pids = host.root.list(Path::new("/proc")).ok()?;
    pids.iter().filter(|p| p.bytes().all(|b| b.is_ascii_digit())).find_map(|pid| {
        let process = Path::new("/proc").join(pid);
        let line = host.root.read(&process.join("cmdline"), 1 << 16).ok()?;
        let args: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        if !args.first()?.ends_with(b"kubeadm") {
            return None;
        }
        // one that is there and cannot be looked at counts; one that has ended meanwhile does not
        let counts = host.root.read_text(&process.join("status")).map_or(host.root.exists(&process), |s| may_renew(&s));
        if !counts {
            return None;
        }
        let has = |word: &[u8]| args.iter().skip(1).any(|a| *a == word);
        let remedy = "wait until it has ended";
        if has(b"upgrade") || has(b"join") || has(b"init") || has(b"reset") {
            return Some(refusal(Gate::Upgrade, format!("kubeadm is at work (pid {pid})"), remedy));
        }
        has(b"renew").then(|| refusal(Gate::OtherRenewer, format!("kubeadm is renewing (pid {pid})"), remedy))
    })
}

/// Whether a process can change this node's files, by its `status` (proc_pid_status(5)): root's, and not in a
/// container. Anybody may call a process kubeadm, and must not keep certificates from being renewed with it.
fn may_renew(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    // the first is the real one: a set-user-id program has another effective one
    let roots = field("Uid").is_none_or(|uids| uids.split_whitespace().next() == Some("0"));
    // a number for each PID namespace, from the one that we see on inwards
    let ours = field("NSpid").is_none_or(|pids| pids.split_whitespace().count() == 1);
    roots && ours
}

/// A kubelet whose file was replaced since it started. The kernel marks such a process's executable (proc_pid_exe(5)),
/// but shows it only to those who may trace it; a sandboxed daemon compares when the two began. By ctime: dpkg and rpm
/// give a file the mtime that it had when the package was built, and nobody can set a ctime.
pub(in crate::verify) fn kubelet_binary(host: &Host, inventory: &Inventory) -> Option<Refusal> {
    let unit = &inventory.node.kubelet.unit;
    let pid = host.services.status(unit).ok().map(|s| s.main_pid).filter(|pid| *pid != 0)?;
    let replaced = match host.root.read_link(&PathBuf::from(format!("/proc/{pid}/exe"))) {
        Ok(exe) => exe.to_string_lossy().strip_suffix(" (deleted)").is_some_and(|exe| is_kubelet(Path::new(exe))),
        Err(_) => host.root.metadata(&program(host, pid)?).ok()?.ctime() > started(host, pid)?,
    };
    replaced.then(|| {
        let reason = "the kubelet that runs is not the one on the disk: a restart would be an upgrade";
        refusal(Gate::KubeletBinary, reason, format!("restart {unit} when you mean to, then run again"))
    })
}

/// The kubelet's file as its process was started by: systemd says the whole path (systemd.service(5) "Command lines").
/// None where the unit's process is a script that starts the kubelet: then it is the shell's file.
fn program(host: &Host, pid: u32) -> Option<PathBuf> {
    let line = host.root.read(&PathBuf::from(format!("/proc/{pid}/cmdline")), 1 << 16).ok()?;
    let program = PathBuf::from(OsStr::from_bytes(line.split(|b| *b == 0).next()?));
    (program.is_absolute() && is_kubelet(&program)).then_some(program)
}

/// Also `kubelet-1.34` and its like.
fn is_kubelet(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"kubelet"))
}

/// When a process began, in seconds since the epoch.
fn started(host: &Host, pid: u32) -> Option<i64> {
    let stat = host.root.read_text(Path::new("/proc/stat")).ok()?;
    let boot: i64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + process::began(&host.root, pid)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
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
            timeout_start: Duration::ZERO,
            timeout_stop: Duration::ZERO,
            restart_delay: Duration::ZERO,
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

    #[test]
    fn only_roots_kubeadm_outside_of_containers_closes_a_gate() {
        const ROOT: &str = "Name:\tkubeadm\nUid:\t0\t0\t0\t0\nNSpid:\t77\n";
        for (args, status, gate) in [
            ("/usr/bin/kubeadm upgrade apply", ROOT, Some(Gate::Upgrade)),
            ("kubeadm certs renew all", ROOT, Some(Gate::OtherRenewer)),
            ("kubeadm token list", ROOT, None),
            ("less kubeadm upgrade", ROOT, None),
            // a kernel without PID namespaces
            ("kubeadm upgrade apply", "Uid:\t0\t0\t0\t0\n", Some(Gate::Upgrade)),
            ("kubeadm upgrade apply", "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t77\n", None),
            // `exec -a kubeadm su upgrade`
            ("kubeadm upgrade apply", "Uid:\t1000\t0\t0\t0\nNSpid:\t77\n", None),
            ("kubeadm upgrade apply", "Uid:\t0\t0\t0\t0\nNSpid:\t77\t1\n", None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put(dir.path(), "proc/77/cmdline", &args.replace(' ', "\0"));
            put(dir.path(), "proc/77/status", status);
            assert_eq!(processes(&host_at(dir.path())).map(|r| r.gate), gate, "{args} {status}");
        }
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "proc/77/cmdline", "kubeadm\0upgrade");
        assert!(processes(&host_at(dir.path())).is_some(), "what cannot be looked at counts");
    }
}
