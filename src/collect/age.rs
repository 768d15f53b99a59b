//! Since when the static pods run. For every start of a container the kubelet makes a file, its termination log, in the
//! directory that the pod has for that container (kubernetes: `pkg/kubelet/kuberuntime/kuberuntime_container.go:makeMounts`):
//! the directory's time is that of the last start. A few look-ups, where a walk through /proc would be one for each process,
//! and would meet the API servers of other clusters that run on this node as ordinary pods.

use std::fs::Metadata;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::host;
use crate::host::fs::{FsError, Root};
use crate::model::inventory::{Content, Entry, Node};
use crate::model::process;

/// On the running system, fills in when each static pod started, and finds what has changed behind its back.
pub(super) fn add(root: &Root, kubelet_dir: &Path, now: Timestamp, node: &mut Node, leaves: &mut [Entry]) {
    if (node.static_pods.is_empty() && node.other_pods.is_empty()) || !root.is_live() {
        return;
    }
    started(root, kubelet_dir, now, node);
    for entry in leaves {
        let readers = process::readers(node, entry);
        if readers.is_empty() {
            continue;
        }
        let Some(changed) = modified(root.metadata(entry.path())) else { continue };
        if let Content::Readable(credential) = &mut entry.content {
            credential.findings.extend(readers.iter().filter_map(|reader| reader.outdated(changed)));
        }
    }
}

fn started(root: &Root, kubelet_dir: &Path, now: Timestamp, node: &mut Node) {
    let pods = kubelet_dir.join("pods");
    let ids = root.list(&pods).unwrap_or_default();
    // what a directory tells of the time before the boot is about a process that is no more
    let Some(boot) = boot(root, now) else { return };
    let last_start = |name: &str| {
        let containers = ids.iter().filter(|id| is_static(id)).map(|id| pods.join(id).join("containers"));
        let starts = containers.filter_map(|dir| modified(root.symlink_metadata(&dir.join(name))));
        starts.max().filter(|at| *at >= boot)
    };
    for pod in node.static_pods.values_mut() {
        pod.started_at = last_start(&pod.container.name);
    }
    for pod in &mut node.other_pods {
        pod.started_at = last_start(&pod.container.name);
    }
}

/// The id of a pod from a file is a digest, without the dashes that the API server's have
/// (kubernetes: `pkg/kubelet/config/common.go:applyDefaults`).
fn is_static(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn modified(metadata: Result<Metadata, FsError>) -> Option<Timestamp> {
    metadata.ok()?.modified().ok()?.try_into().ok()
}

/// When init began: in a container that is a node (kind, systemd-nspawn), long after the machine did.
fn boot(root: &Root, now: Timestamp) -> Option<Timestamp> {
    // proc_uptime(5): seconds, with a fraction
    let text = root.read_text(Path::new("/proc/uptime")).ok()?;
    let up: i64 = text.split(['.', ' ']).next()?.parse().ok()?;
    let age = up.checked_sub(host::process::began(root, 1)?)?;
    // the machine's age is rounded down
    now.checked_sub(SignedDuration::from_secs(age.checked_add(1)?)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::component::Component::{self, KubeApiserver, KubeScheduler};
    use crate::model::policy::Kubeconfigs;

    /// A pod's directory for a container that was made so many seconds ago.
    fn container(root: &Path, id: &str, name: &str, ago: u64) {
        let dir = root.join("var/lib/kubelet/pods").join(id).join("containers").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::File::open(dir).unwrap().set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
    }

    #[test]
    fn the_last_start_of_a_static_pod_since_the_boot_counts_and_no_other_cluster_is_mistaken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/kubernetes/manifests")).unwrap();
        for name in ["kube-apiserver", "kube-scheduler"] {
            let text = format!("spec: {{containers: [{{name: {name}, image: 'r/{name}:v1.34.2'}}]}}");
            fs::write(dir.path().join("etc/kubernetes/manifests").join(name), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        fs::write(dir.path().join("proc/uptime"), "25000.12 9.9\n").unwrap();
        let stat = format!("1 (a) b) S{} 2000000 0", " 0".repeat(18));
        fs::write(dir.path().join("proc/1/stat"), stat).unwrap();
        container(dir.path(), "0123456789abcdef0123456789abcdef", "kube-apiserver", 4000);
        container(dir.path(), "1123456789abcdef0123456789abcdef", "kube-apiserver", 3000);
        container(dir.path(), "11234567-89ab-cdef-0123-456789abcdef", "kube-apiserver", 10);
        container(dir.path(), "2123456789abcdef0123456789abcdef", "kube-scheduler", 6000);
        let vip = "spec: {containers: [{name: vip, image: 'r/kube-vip:v1', args: [manager]}]}";
        fs::write(dir.path().join("etc/kubernetes/manifests/vip"), vip).unwrap();
        container(dir.path(), "3123456789abcdef0123456789abcdef", "vip", 2000);
        let (root, now) = (Root::open(dir.path()).unwrap(), Timestamp::now());
        let mut node = crate::collect::collect(&root, now, &Kubeconfigs::default()).node;
        let ages = |node: &Node| {
            let of = |c: Component| Some(now.as_second() - node.static_pods.get(&c)?.started_at?.as_second());
            [of(KubeApiserver), of(KubeScheduler)]
        };
        assert_eq!(ages(&node), [None, None], "a tree has no processes");
        started(&root, Path::new("/var/lib/kubelet"), now, &mut node);
        let [apiserver, scheduler] = ages(&node);
        assert!(apiserver.is_some_and(|age| (2999..=3001).contains(&age)), "{apiserver:?}");
        assert_eq!(scheduler, None, "it has not run since the boot");
        let [other] = node.other_pods.as_slice() else { panic!("{:?}", node.other_pods) };
        let age = other.started_at.map(|at| now.as_second() - at.as_second());
        assert!(age.is_some_and(|age| (1999..=2001).contains(&age)), "{other:?}");
        assert_eq!(other.program.as_deref(), Some("kube-vip"));
        fs::remove_file(dir.path().join("proc/uptime")).unwrap();
        node.static_pods.values_mut().for_each(|pod| pod.started_at = None);
        started(&root, Path::new("/var/lib/kubelet"), now, &mut node);
        assert_eq!(ages(&node), [None, None]);
    }
}
