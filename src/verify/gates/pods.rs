//! Changes that a new container of a static pod would bring into effect: of its manifest, and of the files that it reads at
//! its start.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::host::Host;
use crate::model::component::Component;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::{Inventory, StaticPod};

use super::refusal;

/// By then the kubelet has read a manifest that was changed (kubernetes: `fileCheckFrequency`, 20 s by default) and the new
/// pod has its containers; what it has not taken it will not take.
const TAKEN: SignedDuration = SignedDuration::from_secs(120);

/// What a new container of this component would bring into effect beside its credentials. By modification time, as for the
/// kubelet. Credentials have findings of their own, and a new one is why the container is made anew.
pub(super) fn pending_change(host: &Host, inventory: &Inventory, component: Component) -> Option<Refusal> {
    let pod = inventory.node.static_pods.get(&component)?;
    let started = pod.started_at?;
    let now = host.clock.now();
    if let Some(at) = modified(host, &pod.manifest).filter(|at| started < *at && now.duration_since(*at) < TAKEN) {
        let manifest = pod.manifest.display();
        let reason = format!("{manifest} was changed at {at:.0}: the kubelet may be making the pod anew");
        let remedy = "wait until the kubelet has taken the change, then run again";
        return Some(refusal(Gate::PendingChange, reason, remedy).until(at.checked_add(TAKEN).ok()));
    }
    let (path, at) = read_at_start(inventory, pod)
        .find_map(|path| modified(host, path).filter(|at| started < *at).map(|at| (path, at)))?;
    let reason = format!(
        "{} was changed at {at:.0}, after {component} started: a new container would bring the change into effect",
        path.display()
    );
    let remedy = format!(
        "check the change, stop the container of {component} with `crictl stop` when you mean it, then run again"
    );
    Some(refusal(Gate::PendingChange, reason, remedy))
}

/// Files that its flags name or that it mounts one by one, without credentials.
fn read_at_start<'a>(inventory: &'a Inventory, pod: &'a StaticPod) -> impl Iterator<Item = &'a PathBuf> {
    let credential = |path: &Path| inventory.entries.iter().any(|e| e.form.files().contains(&path));
    pod.named.iter().chain(pod.mounts.iter().map(|m| &m.host_path)).filter(move |path| !credential(path))
}

/// When a file was written; None for what is no file.
fn modified(host: &Host, path: &Path) -> Option<Timestamp> {
    let metadata = host.root.metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Timestamp::try_from(metadata.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::inventory::{Mount, Node};
    use crate::verify::testing::host_at;

    /// A scheduler that started ten minutes ago, with `flags` that name files, and files that were written so many seconds ago.
    fn closed(files: &[(&str, u64)], named: &[&str], mounts: &[&str]) -> Option<Refusal> {
        let dir = tempfile::tempdir().unwrap();
        for (path, ago) in files {
            let at = dir.path().join(&path[1..]);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            let file = std::fs::File::create(&at).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(*ago)).unwrap();
        }
        let mounts = mounts.iter().map(|m| Mount { host_path: m.into(), mount_path: m.into() }).collect();
        let pod = StaticPod {
            manifest: "/etc/kubernetes/manifests/kube-scheduler.yaml".into(),
            named: named.iter().map(PathBuf::from).collect(),
            mounts,
            started_at: Timestamp::now().checked_sub(SignedDuration::from_secs(600)).ok(),
            ..StaticPod::default()
        };
        let node = Node { static_pods: [(Component::KubeScheduler, pod)].into(), ..Node::default() };
        let inventory =
            Inventory { collected_at: Timestamp::UNIX_EPOCH, node, entries: Vec::new(), copies: Vec::new() };
        pending_change(&host_at(dir.path()), &inventory, Component::KubeScheduler)
    }

    #[test]
    fn a_file_that_is_read_at_the_start_and_was_changed_since_closes_it_with_its_name() {
        const CONFIG: &str = "/etc/kubernetes/scheduler.yaml";
        assert_eq!(closed(&[(CONFIG, 3600)], &[CONFIG], &[]), None, "it is in effect");
        let refusal = closed(&[(CONFIG, 30)], &[CONFIG], &[]).unwrap();
        assert_eq!(refusal.gate, Gate::PendingChange);
        assert!(refusal.reason.starts_with("/etc/kubernetes/scheduler.yaml was changed at "), "{refusal}");
        assert!(closed(&[(CONFIG, 30)], &[], &[CONFIG]).is_some(), "a file that is mounted by itself");
        assert_eq!(closed(&[(CONFIG, 30)], &[], &["/etc/kubernetes"]), None, "a directory has anything in it");
        assert_eq!(closed(&[], &[CONFIG], &[]), None, "a file that is gone is for others to find");
    }

    #[test]
    fn a_manifest_closes_it_until_the_kubelet_has_taken_the_change_and_not_for_ever() {
        const MANIFEST: &str = "/etc/kubernetes/manifests/kube-scheduler.yaml";
        let refusal = closed(&[(MANIFEST, 30)], &[], &[]).unwrap();
        assert!(refusal.until.is_some_and(|at| at > Timestamp::now()), "{refusal:?}");
        assert_eq!(
            closed(&[(MANIFEST, 300)], &[], &[]),
            None,
            "touched, or as good as the old one: nothing is pending"
        );
        assert_eq!(closed(&[(MANIFEST, 3600)], &[], &[]), None);
    }
}
