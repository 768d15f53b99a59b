//! Gates: reasons not to touch the node now, looked for before anything is begun (docs/architecture.md, "Gates").

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::Host;
use crate::host::fs::FsError;
use crate::host::fs::replace::Place;
use crate::model::assess::Assessment;
use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::component::Component;
use crate::model::finding::Problem;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Inventory;
use crate::model::plan::{Activation, Item, Plan, Source, Step};
use crate::model::policy::{Policy, Requirement};

use super::api::connections;

mod activation;
mod kubelet;
mod pods;
mod processes;
mod program;
mod quorum;

pub use activation::no_other_of;
pub use processes::processes;
pub(super) use program::kubelet_binary;
pub use program::{REMEMBERED, to_remember};
pub use quorum::{etcds, quorum};

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
        found.extend(pending_in_plan(host, view));
        found.extend(kubelet::stopped_by_hand(host, view));
        found.extend(other_renewer(host));
        found.extend(not_ready(host, view));
        found.extend(quorum(host, view));
        found.extend(activation::activation(host, view));
    }
    found
}

/// What would be restarted for certain. Who reloads is asked for when it turns out that it does not.
fn pending_in_plan(host: &Host, view: View<'_>) -> Option<Refusal> {
    view.plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Activate { how: Activation::ReloadOrRestart { .. }, .. } => None,
        Step::Activate { component, .. } => pending_change(host, view.inventory, *component),
        _ => None,
    })
}

/// What a restart of this component would bring into effect beside its new credentials.
pub fn pending_change(host: &Host, inventory: &Inventory, component: Component) -> Option<Refusal> {
    match component {
        Component::Kubelet => kubelet::pending_change(host, inventory),
        _ => pods::pending_change(host, inventory, component),
    }
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
    let issued = view.plan.items.iter().filter(|i| !i.is_self_made());
    let mut signers: BTreeSet<&str> = issued.map(|i| i.signer.as_str()).collect();
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
    // where a name is wanted it does not matter what a link of that name leads to
    let by_name =
        |i: &Item, path: &Path| if i.form.by_name() { host.root.place_by_name(path) } else { host.root.place(path) };
    let of =
        |i: &Item| i.form.files().into_iter().map(|path| (path.to_path_buf(), by_name(i, path))).collect::<Vec<_>>();
    let targets: Vec<(PathBuf, Result<Place, FsError>)> = view.plan.items.iter().flat_map(of).collect();
    if let Some(refusal) = targets.iter().find_map(|(_, place)| not_replaceable(host, place.as_ref())) {
        return Some(refusal);
    }
    let state = PathBuf::from("/var/lib/certwarden/lock");
    let state = (state.clone(), host.root.place(&state));
    targets.into_iter().chain([state]).find_map(|(path, place)| {
        let free = place.and_then(|p| p.free_bytes()).ok()?;
        (free < need).then(|| {
            let dir = path.parent().unwrap_or(Path::new("/")).display();
            let reason = format!("only {} MiB are free in {dir}, and {} are wanted", free >> 20, need >> 20);
            refusal(Gate::Disk, reason, "free some space, or lower gates.free-mib")
        })
    })
}

/// Found out at the commit, it would be a rollback.
fn not_replaceable(host: &Host, place: Result<&Place, &FsError>) -> Option<Refusal> {
    let place = match place {
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
    let urgent = |item: &Item, seen: Timestamp| {
        let life = view.inventory.get(&item.name).and_then(|e| e.leaf()).map_or(i64::MAX, CertFacts::measured_life);
        let left = |end: Timestamp| end.as_second().saturating_sub(seen.as_second());
        item.old_not_after.is_some_and(|end| left(end) <= view.policy.renew.emergency(life))
    };
    view.last_seen.is_some_and(|seen| view.plan.items.iter().any(|item| urgent(item, seen)))
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

/// A node that is not Ready although nothing has expired has another illness.
fn not_ready(host: &Host, view: View<'_>) -> Option<Refusal> {
    let curable = |f: &crate::model::finding::Finding| {
        // the scheduler's or the controller-manager's old certificate takes no node its Ready
        !matches!(
            f.id,
            Problem::Expiring
                | Problem::CaExpiresFirst
                | Problem::StaleCopy
                | Problem::ClearText
                | Problem::RotationOverdue
                | Problem::RotationOff
                | Problem::ShortLived
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
    use std::fs;

    use super::*;
    use crate::verify::testing::host_at;

    #[test]
    fn a_directory_that_is_read_only_for_us_is_found_before_anything_is_begun() {
        use nix::mount::{MsFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "srv/pki/a.crt", "");
        fs::create_dir_all(dir.path().join("etc/kubernetes")).unwrap();
        std::os::unix::fs::symlink("/srv/pki/a.crt", dir.path().join("etc/kubernetes/a.crt")).unwrap();
        let writable = host_at(dir.path());
        assert_eq!(closed_at(&writable, Path::new("/etc/kubernetes/a.crt")), None);
        assert_eq!(closed_at(&writable, Path::new("/none/a.crt")), None, "another's question");
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
            Some((closed_at(&live, at).unwrap(), closed_at(&image, at).unwrap()))
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
        assert_eq!(closed_at(&host, &at), None);
        std::os::unix::fs::chown(dir.path().join("pki"), Some(1234), None).unwrap();
        let refusal = closed_at(&host, &at).unwrap();
        assert!(refusal.gate == Gate::Ownership && refusal.gate.is_hard());
        assert!(refusal.reason.contains("it belongs to user 1234"), "{refusal}");
        assert!(refusal.reason.contains("gates.trusted-owners"), "what to do: {refusal}");
    }

    fn closed_at(host: &Host, path: &Path) -> Option<Refusal> {
        not_replaceable(host, host.root.place(path).as_ref())
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
