//! Who uses what: which component holds which credential, how it comes to use a new one, and how soon.
//!
//! This is the one place for it. What is not in the table is taken for the worst: held since the start of the process.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::component::Component;
use super::inventory::{ContainerRef, Entry, Mount, Node, OtherPod};

/// How a component comes to use a new credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "within")]
pub enum Uptake {
    /// Reads its files anew for every connection that it makes.
    Connection,
    /// Re-reads its files by itself; the served certificate is measured, and the component is restarted only if it
    /// did not take it within this time.
    Reload(Duration),
    /// Holds what it read at start: only a new process takes the new credential.
    NewProcess,
}

/// That a component uses a credential.
#[derive(Debug)]
pub struct Use {
    /// Logical name of the entry.
    pub entry: &'static str,
    pub component: Component,
    pub uptake: Uptake,
    /// How it loads the credential, in a clause.
    pub how: &'static str,
}

/// A file event, and a resync at the latest after a minute; 1.20 polls. A margin for a loaded machine on top.
pub const DYNAMIC: Uptake = Uptake::Reload(Duration::from_secs(90));
/// Within the first handshake, really; a margin for a loaded machine.
const HANDSHAKE: Uptake = Uptake::Reload(Duration::from_secs(15));

/// Every use, in the order of activation.
pub const USES: [Use; 16] = [
    // etcd: client/pkg/transport/listener.go:baseConfig, GetCertificate and GetClientCertificate read the files
    used("etcd-server", Component::Etcd, HANDSHAKE, "reads it at every handshake"),
    used("etcd-peer", Component::Etcd, HANDSHAKE, "reads it at every handshake"),
    // kubernetes: apiserver/pkg/server/dynamiccertificates/dynamic_serving_content.go
    used("apiserver", Component::KubeApiserver, DYNAMIC, "re-reads it on a file event or after a minute"),
    used("kube-apiserver:tls-sni-cert-key", Component::KubeApiserver, DYNAMIC, "re-reads it as its first pair"),
    // kube-aggregator/pkg/apiserver/apiserver.go: "aggregator-proxy-cert", the same mechanism
    used("front-proxy-client", Component::KubeApiserver, DYNAMIC, "re-reads it on a file event or after a minute"),
    // pkg/kubelet/client/kubelet_client.go (ReloadTLSFiles); client-go/transport/cert_rotation.go closes open
    // connections when its poll (CertCallbackRefreshDuration, 5 min) finds another certificate
    used("apiserver-kubelet-client", Component::KubeApiserver, Uptake::Connection, "reads it for new connections"),
    // etcd's client reads it as its server does; open connections stay usable (etcd verifies at the handshake only)
    used("apiserver-etcd-client", Component::KubeApiserver, Uptake::Connection, "reads it for new connections"),
    // client-go/transport/transport.go: embedded data is a static certificate; the mount is a single file besides
    // (kubeadm: phases/controlplane/volumes.go)
    used("controller-manager.conf", Component::KubeControllerManager, Uptake::NewProcess, "reads it at its start only"),
    used("kube-controller-manager:tls-cert-file", Component::KubeControllerManager, DYNAMIC, "re-reads it by itself"),
    used(
        "kube-controller-manager:tls-sni-cert-key",
        Component::KubeControllerManager,
        DYNAMIC,
        "re-reads it by itself",
    ),
    used("scheduler.conf", Component::KubeScheduler, Uptake::NewProcess, "reads it at its start only"),
    used("kube-scheduler:tls-cert-file", Component::KubeScheduler, DYNAMIC, "re-reads it by itself"),
    used("kube-scheduler:tls-sni-cert-key", Component::KubeScheduler, DYNAMIC, "re-reads it by itself"),
    // pkg/kubelet/certificate: its manager does not look at the file after its start
    used("kubelet-client", Component::Kubelet, Uptake::NewProcess, "reads it at its start only"),
    used("kubelet.conf", Component::Kubelet, Uptake::NewProcess, "reads it at its start only"),
    // since 1.31 it re-reads tlsCertFile (ReloadKubeletServerCertificateFile); before, and what it made itself, not
    used("kubelet-serving", Component::Kubelet, Uptake::NewProcess, "reads it at its start, before 1.31 only then"),
];

const fn used(entry: &'static str, component: Component, uptake: Uptake, how: &'static str) -> Use {
    Use { entry, component, uptake, how }
}

/// The components that the table knows to hold the entry.
pub fn components(entry: &str) -> impl Iterator<Item = Component> {
    USES.iter().filter(move |u| u.entry == base(entry)).map(|u| u.component)
}

/// How `component` comes to use a new `entry`, and in words.
pub fn uptake(node: &Node, component: Component, entry: &Entry) -> (Uptake, &'static str) {
    let mounts = node.static_pods.get(&component).map(|p| p.mounts.as_slice()).unwrap_or_default();
    if entry.form.files().iter().any(|f| pins(mounts, f)) && component != Component::Kubelet {
        return (Uptake::NewProcess, "mounts it as a single file, so that it sees the old one until its next start");
    }
    let known = USES.iter().find(|u| u.component == component && u.entry == base(&entry.name));
    known.map_or((Uptake::NewProcess, "is not known to re-read it"), |u| (u.uptake, u.how))
}

/// `kube-apiserver:tls-sni-cert-key#2` is a use like the first.
fn base(entry: &str) -> &str {
    entry.split_once('#').map_or(entry, |(base, _)| base)
}

/// Whether a mount is the file itself: a bind mount keeps the inode that it was made with, and a new file that is
/// renamed into place is another.
fn pins(mounts: &[Mount], file: &Path) -> bool {
    mounts.iter().any(|m| m.host_path == file)
}

/// A container of a static pod that is none of the components, and sees files that will change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OtherUse {
    pub container: ContainerRef,
    pub manifest: std::path::PathBuf,
    /// Logical names of the entries that it can see.
    pub entries: Vec<String>,
    /// One of the files is mounted by itself: until it is made anew, the container goes on with the old one for sure.
    pub pinned: bool,
}

impl OtherUse {
    /// For plan and report, where it is left alone.
    pub fn sentence(&self) -> String {
        let (container, entries) = (&self.container, self.entries.join(", "));
        let why = if self.pinned {
            "as a single file, so that it sees the old one until its next start"
        } else {
            "and whether it re-reads them is not known"
        };
        format!("{container}: mounts {entries} {why}; set activate.other-pods = \"restart\" to have it restarted")
    }
}

/// Programs of other static pods that read credentials, each at its start at the latest: load balancers and agents of
/// control planes, and the controllers of clouds by the end of their names. Some of them can be told to reload; that
/// somebody did is not assumed.
const HOLDERS: [&str; 5] = ["kube-vip", "haproxy", "keepalived", "nginx", "envoy"];
const CLOUD: &str = "cloud-controller-manager";

/// How another static pod holds the entry: a clause; None where it does not see it, or where nobody can say whether it
/// reads it at all.
pub fn hold(pod: &OtherPod, entry: &Entry) -> Option<String> {
    let files = entry.form.files();
    if files.iter().any(|f| pins(&pod.mounts, f)) {
        return Some("mounts it as a single file, so that it sees the old one until its next start".to_owned());
    }
    if files.iter().any(|f| pod.named.iter().any(|named| named == f)) {
        return Some("is given it on its command line, and is not known to re-read it".to_owned());
    }
    let program = pod.program.as_deref()?;
    let known = HOLDERS.contains(&program) || program.ends_with(CLOUD);
    (known && files.iter().any(|f| sees(&pod.mounts, f)))
        .then(|| format!("runs {program}, which is not known to re-read it"))
}

fn sees(mounts: &[Mount], file: &Path) -> bool {
    mounts.iter().any(|m| file.starts_with(&m.host_path))
}

/// The containers of unknown static pods that mount a file of `entries`.
pub fn others(node: &Node, entries: &[&Entry]) -> Vec<OtherUse> {
    let mounted = |mounts: &[Mount], e: &Entry| e.form.files().iter().any(|f| sees(mounts, f));
    let of = |pod: &OtherPod| {
        let seen: Vec<&&Entry> = entries.iter().filter(|e| mounted(&pod.mounts, e)).collect();
        (!seen.is_empty()).then(|| OtherUse {
            container: pod.container.clone(),
            manifest: pod.manifest.clone(),
            entries: seen.iter().map(|e| e.name.clone()).collect(),
            pinned: seen.iter().any(|e| e.form.files().iter().any(|f| pins(&pod.mounts, f))),
        })
    };
    node.other_pods.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_use_is_told_twice_and_numbered_flags_are_the_flag() {
        for (i, a) in USES.iter().enumerate() {
            assert!(!USES.iter().skip(i + 1).any(|b| (a.entry, a.component) == (b.entry, b.component)), "{}", a.entry);
        }
        assert_eq!(
            components("kube-apiserver:tls-sni-cert-key#2").collect::<Vec<_>>(),
            [Component::KubeApiserver],
            "a second pair is used as the first"
        );
        assert_eq!(components("etcd-healthcheck-client").count(), 0);
    }

    #[test]
    fn a_mount_of_the_file_itself_pins_it_and_one_of_its_directory_does_not() {
        let mount = |path: &str| Mount { host_path: path.into(), mount_path: "/in".into() };
        let file = Path::new("/etc/kubernetes/pki/apiserver.crt");
        assert!(pins(&[mount("/etc/kubernetes/pki/apiserver.crt")], file));
        assert!(!pins(&[mount("/etc/kubernetes/pki"), mount("/etc/kubernetes/pki/apiserver.key")], file));
    }
}
