//! Gates that the process table closes: another kubeadm at work.

use std::path::Path;

use crate::host::Host;
use crate::host::process;
use crate::model::gate::{Gate, Refusal};

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

/// Seconds that two values lose by being rounded down (proc_stat(5): `btime`; proc_pid_stat(5): `starttime`).
const ROUNDED: i64 = 2;

/// The second by which a process had begun, since the epoch. The boot's time and the process's age at it are both rounded down:
/// what was written up to two seconds after it may have been there before.
pub(super) fn started(host: &Host, pid: u32) -> Option<i64> {
    let stat = host.root.read_text(Path::new("/proc/stat")).ok()?;
    let boot: i64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + process::began(&host.root, pid)? + ROUNDED)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::verify::testing::host_at;

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
