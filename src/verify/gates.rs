//! Gates: reasons not to touch the node now, looked for before anything is begun (DESIGN §6).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::Host;
use crate::host::fs::FsError;
use crate::host::process;
use crate::model::assess::Assessment;
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::{ContainerRef, Inventory, Problem};
use crate::model::plan::{Activation, Item, Plan, PlannedStep, Source, Step};
use crate::model::policy::{Policy, Requirement};

use super::api::connections;
use super::etcd;

/// A clock that is behind what it showed before by more than this was stepped back; less is NTP at work.
const CLOCK_SLACK_SECONDS: i64 = 60;

/// What the gates are judged by.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub inventory: &'a Inventory,
    pub assessment: &'a Assessment,
    pub policy: &'a Policy,
    pub plan: &'a Plan,
    /// The latest wall-clock time that certwarden has seen on this node.
    pub last_seen: Option<Timestamp>,
}

/// What everything that asks the API server relies on.
const CLUSTER_CA: &str = "ca";

/// Every closed gate, forced or not.
pub fn closed(host: &Host, view: View<'_>) -> Vec<Refusal> {
    let mut found = Vec::new();
    found.extend(ca(view, host.live, host.clock.now()));
    found.extend(disk(host, view));
    if host.live {
        found.extend(clock(host, view));
        found.extend(processes(host));
        found.extend(kubelet_binary(host, view.inventory));
        found.extend(other_renewer(host));
        found.extend(not_ready(host, view));
        found.extend(quorum(host, view));
        found.extend(activation(host, view));
    }
    found
}

fn refusal(gate: Gate, reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(gate, reason, remedy)
}

/// What a CA signs after its end, or before its beginning, nobody accepts. Where the cluster's own has ended, nothing can
/// be proven on a running node, and what another one signed stays as it is too.
fn ca(view: View<'_>, live: bool, now: Timestamp) -> Option<Refusal> {
    if matches!(view.plan.source, Source::Generation { .. }) {
        return None;
    }
    let mut signers: BTreeSet<&str> = view.plan.items.iter().map(|i| i.signer.as_str()).collect();
    if live && view.inventory.get(CLUSTER_CA).is_some_and(|e| e.leaf().is_some()) {
        signers.insert(CLUSTER_CA);
    }
    signers.into_iter().find_map(|name| {
        let remedy = "rotate the CA first; leaves signed by it would not be accepted";
        match view.inventory.get(name).and_then(|e| e.leaf()) {
            None => Some(refusal(Gate::Ca, format!("the CA {name} cannot be read"), "repair its certificate file")),
            Some(ca) if ca.not_after <= now => {
                Some(refusal(Gate::Ca, format!("the CA {name} has expired on {}", ca.not_after), remedy))
            }
            Some(ca) if ca.not_before > now => Some(refusal(
                Gate::Ca,
                format!("the CA {name} is not valid before {}", ca.not_before),
                "check the clock of this machine",
            )),
            Some(_) => None,
        }
    })
}

fn disk(host: &Host, view: View<'_>) -> Option<Refusal> {
    let need = view.policy.gates.free_mib.saturating_mul(1 << 20);
    let targets: Vec<&Path> = view.plan.items.iter().flat_map(|i| i.form.files()).collect();
    if let Some(refusal) = targets.iter().find_map(|path| not_replaceable(host, path)) {
        return Some(refusal);
    }
    let state = Path::new("/var/lib/certwarden/lock");
    targets.into_iter().chain([state]).find_map(|path| {
        let free = host.root.place(path).and_then(|p| p.free_bytes()).ok()?;
        (free < need).then(|| {
            let dir = path.parent().unwrap_or(Path::new("/")).display();
            let reason = format!("only {} MiB are free in {dir}, and {} are wanted", free >> 20, need >> 20);
            refusal(Gate::Disk, reason, "free some space, or lower gates.free-mib")
        })
    })
}

/// Found out at the commit, it would be a rollback.
fn not_replaceable(host: &Host, path: &Path) -> Option<Refusal> {
    let place = match host.root.place(path) {
        Ok(place) => place,
        Err(e @ FsError::Untrusted { .. }) => {
            let remedy = "whoever has that user has this node";
            return Some(refusal(Gate::Ownership, e.to_string(), remedy));
        }
        Err(_) => return None, // another's question
    };
    let e = place.replaceable().err()?;
    let dir = place.path().parent().unwrap_or(Path::new("/")).display();
    let remedy = match e {
        // the sandbox opens the directories of kubeadm only; a link may lead elsewhere
        FsError::ReadOnly { .. } if host.live => format!(
            "add `ReadWritePaths={dir}` to certwarden.service and certwarden-recover.service with a drop-in, unless it is mounted read-only"
        ),
        FsError::ReadOnly { .. } => "mount it writable".to_owned(),
        FsError::Immutable { .. } => "somebody froze it for a reason: ask first".to_owned(),
        FsError::MountPoint { .. } => "a file that is mounted by itself can only be written in place".to_owned(),
        _ => "run as root".to_owned(),
    };
    Some(refusal(Gate::Disk, format!("{} cannot be replaced: {}", place.path().display(), chain(&e)), remedy))
}

fn clock(host: &Host, view: View<'_>) -> Option<Refusal> {
    let now = host.clock.now();
    let remedy = "set the clock (chrony, systemd-timesyncd), then run again";
    let doubtful = |reason: String, remedy: String| Refusal {
        doubts_emergency: !was_urgent(view),
        ..refusal(Gate::Clock, reason, remedy)
    };
    if let Some(seen) = view.last_seen
        && seen.as_second() > now.as_second().saturating_add(CLOCK_SLACK_SECONDS)
    {
        return Some(doubtful(format!("the clock shows {now}, but has shown {seen} before"), remedy.to_owned()));
    }
    let unsynchronised = host.services.clock_synchronised() == Some(false);
    if unsynchronised && view.policy.gates.clock_synchronised == Requirement::Require {
        let remedy = format!("{remedy}; or set gates.clock-synchronised = \"ignore\" where it is kept by other means");
        return Some(doubtful("the clock is not synchronised".to_owned(), remedy));
    }
    None
}

/// Whether something was urgent already when the clock was last trusted: then the emergency is none of a clock that
/// booted a year ahead, whose certificates nobody would accept after its correction.
fn was_urgent(view: View<'_>) -> bool {
    let before = view.policy.renew.emergency_before.seconds();
    let urgent = |end: Timestamp, seen: Timestamp| end.as_second().saturating_sub(seen.as_second()) <= before;
    view.last_seen
        .is_some_and(|seen| view.plan.items.iter().filter_map(|i| i.old_not_after).any(|end| urgent(end, seen)))
}

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
fn kubelet_binary(host: &Host, inventory: &Inventory) -> Option<Refusal> {
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

/// kubespray's timer renews behind our back, restarts all four pods at once and keeps no backup.
fn other_renewer(host: &Host) -> Option<Refusal> {
    const TIMER: &str = "k8s-certs-renew.timer";
    let status = host.services.status(TIMER).ok()?;
    (status.active_state == "active").then(|| {
        refusal(
            Gate::OtherRenewer,
            format!("{TIMER} is active"),
            format!("choose one: `systemctl disable --now {TIMER}`"),
        )
    })
}

/// etcd takes its leaves without a restart; should it not, restarting this member must not end the quorum. Where its own
/// leaves have expired, they may be why the others are away, and renewing them is the only way back.
pub fn quorum(host: &Host, view: View<'_>) -> Option<Refusal> {
    let restarts = |s: &PlannedStep| matches!(s.step, Step::Activate { component: Component::Etcd, .. });
    view.plan.steps.iter().find(|s| restarts(s))?;
    let now = host.clock.now();
    if etcds(view).any(|i| i.old_not_after.is_none_or(|end| end <= now)) {
        return None;
    }
    let members = etcd::ask(host, view.inventory)?.ok()?;
    if members.can_spare_one() {
        return None;
    }
    let well = if members.unhealthy.is_empty() {
        "all of them well".to_owned()
    } else {
        format!("{} of them well (not: {})", members.healthy, members.unhealthy.join(", "))
    };
    let reason = format!("etcd has {} voting members, {well}: none can be spared for a restart", members.voters);
    let remedy = "bring etcd to three healthy members or more; or `renew --force quorum`, since etcd normally takes its \
                  certificates without a restart, and is then restarted only if it does not";
    Some(refusal(Gate::Quorum, reason, remedy))
}

/// What etcd itself uses of the plan's items.
pub fn etcds(view: View<'_>) -> impl Iterator<Item = &Item> {
    let of_etcd = move |i: &&Item| view.inventory.get(&i.name).is_some_and(|e| e.used_by.contains(&Component::Etcd));
    view.plan.items.iter().filter(of_etcd)
}

/// What can be found out only after the commit is found out too late: the rollback would need the same.
fn activation(host: &Host, view: View<'_>) -> Option<Refusal> {
    let socket = view.inventory.node.kubelet.cri_socket.as_deref();
    let silent = |container: &ContainerRef| {
        let why = match socket {
            None => "its socket is not known".to_owned(),
            Some(socket) => host.runtime.containers(socket, container).err()?.to_string(),
        };
        let reason = format!("the container runtime cannot be asked about {container}: {why}");
        let remedy = "see that the runtime answers on the kubelet's containerRuntimeEndpoint";
        Some(refusal(Gate::Activation, reason, remedy))
    };
    view.plan.steps.iter().find_map(|planned| match &planned.step {
        Step::ActivateOther { container } => silent(container),
        Step::Activate { component, how: Activation::NewContainer { .. } | Activation::ReloadOrRestart { .. } } => {
            silent(&view.inventory.node.static_pods.get(component)?.container)
        }
        Step::Activate { how: Activation::RestartUnit { unit }, .. } => {
            let state = host.services.status(unit).ok()?.load_state;
            matches!(state.as_str(), "masked" | "not-found" | "bad-setting" | "error").then(|| {
                let remedy = format!("see `systemctl status {unit}`");
                refusal(Gate::Activation, format!("{unit} is {state}, so that it cannot be restarted"), remedy)
            })
        }
        _ => None,
    })
}

/// A node that is not Ready although nothing has expired has another illness.
fn not_ready(host: &Host, view: View<'_>) -> Option<Refusal> {
    let curable = |f: &crate::model::inventory::Finding| {
        // the scheduler's or the controller-manager's old certificate takes no node its Ready
        !matches!(
            f.id,
            Problem::Expiring
                | Problem::CaExpiresFirst
                | Problem::StaleCopy
                | Problem::RotationOverdue
                | Problem::RotationOff
                | Problem::LoosePermissions
                | Problem::Ownership
                | Problem::ProcessOlderThanCertificate
        )
    };
    if view.assessment.entries.iter().any(|j| j.findings.iter().any(curable)) {
        return None;
    }
    let node = view.inventory.node.name.as_deref()?;
    let to = connections(host, view.inventory);
    let ready = to.iter().find_map(|c| host.kube.node_ready(c, node).ok())?;
    (ready.status != "True").then(|| {
        let reason = format!("node {node} is not Ready ({}), and no certificate is the cause", ready.reason);
        refusal(Gate::NotReady, reason, "make the node Ready first")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::host::systemd::UnitStatus;
    use crate::model::inventory::{Kubelet, Node, Role};
    use crate::verify::testing::{Script, host_at};

    #[test]
    fn a_directory_that_is_read_only_for_us_is_found_before_anything_is_begun() {
        use nix::mount::{MsFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "srv/pki/a.crt", "");
        fs::create_dir_all(dir.path().join("etc/kubernetes")).unwrap();
        std::os::unix::fs::symlink("/srv/pki/a.crt", dir.path().join("etc/kubernetes/a.crt")).unwrap();
        let writable = host_at(dir.path());
        assert_eq!(not_replaceable(&writable, Path::new("/etc/kubernetes/a.crt")), None);
        assert_eq!(not_replaceable(&writable, Path::new("/none/a.crt")), None, "another's question");
        // mounts are this thread's own
        let frozen = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).ok()?;
            let pki = dir.path().join("srv/pki");
            let change = |source: Option<&Path>, target: &Path, flags| {
                mount(source, target, None::<&str>, flags, None::<&str>).unwrap();
            };
            // in a chroot `/` is no mount point (EINVAL): there nothing keeps the mounts to this thread
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).ok()?;
            change(Some(&pki), &pki, MsFlags::MS_BIND);
            change(None, &pki, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
            let (live, image) = (host_at(dir.path()), Host { live: false, ..host_at(dir.path()) });
            let at = Path::new("/etc/kubernetes/a.crt");
            Some((not_replaceable(&live, at).unwrap(), not_replaceable(&image, at).unwrap()))
        });
        let Some((live, image)) = frozen.join().unwrap() else { return }; // only root can mount, and not in a chroot
        assert_eq!(live.gate, Gate::Disk);
        assert!(live.reason.starts_with("/srv/pki/a.crt cannot be replaced: "), "{live}");
        assert!(live.remedy.starts_with("add `ReadWritePaths=/srv/pki` to certwarden.service and"), "{live}");
        assert_eq!(image.remedy, "mount it writable");
    }

    #[test]
    fn a_way_that_somebody_else_can_turn_closes_a_hard_gate() {
        if !nix::unistd::geteuid().is_root() {
            return; // an unprivileged user can harm only itself
        }
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "pki/a.crt", "");
        let (host, at) = (host_at(Path::new("/")), dir.path().join("pki/a.crt"));
        assert_eq!(not_replaceable(&host, &at), None);
        std::os::unix::fs::chown(dir.path().join("pki"), Some(1234), None).unwrap();
        let refusal = not_replaceable(&host, &at).unwrap();
        assert!(refusal.gate == Gate::Ownership && refusal.gate.is_hard());
        assert!(refusal.reason.contains("it belongs to user 1234"), "{refusal}");
        assert!(refusal.reason.contains("gates.trusted-owners"), "what to do: {refusal}");
    }

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
        let kubelet = Kubelet {
            unit: "kubelet.service".into(),
            kubeconfig: None,
            bootstrap_kubeconfig: None,
            cert_dir: PathBuf::new(),
            rotate_certificates: true,
            server_tls_bootstrap: false,
            static_pod_path: None,
            healthz: None,
            port: None,
            address: None,
            cri_socket: None,
            identity: crate::model::identity::OnDisk::default(),
        };
        let node = Node {
            name: None,
            role: Role::ControlPlane,
            static_pods: BTreeMap::new(),
            other_pods: Vec::new(),
            kubelet,
            pki_dir: PathBuf::new(),
            notes: Vec::new(),
        };
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
