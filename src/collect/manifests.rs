//! Static pod manifests: which components run here, with which flags, and what of the host they see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::host::fs::{FsError, Root};
use crate::model::component::Component;
use crate::model::inventory::{ContainerRef, Mount, OtherPod, SniPair, StaticPod};
use crate::model::version::Version;
use crate::model::yaml::{self, YamlError};

/// More files than any node has static pods; the directory may have been mistaken for another.
const MAX_MANIFESTS: usize = 256;

/// The flag that may be repeated, each value counting.
pub(super) const SNI: &str = "tls-sni-cert-key";

/// One container of a static pod that has flags.
#[derive(Clone, Debug)]
pub(super) struct Container {
    /// None for what is not part of Kubernetes (load balancers, agents).
    pub(super) component: Option<Component>,
    pub(super) name: String,
    /// `metadata` of the pod.
    pub(super) pod: Option<String>,
    pub(super) namespace: String,
    /// In their order; a flag may be repeated (`--tls-sni-cert-key`).
    pub(super) flags: Vec<(String, String)>,
    pub(super) manifest: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) image: Option<String>,
}

impl Container {
    /// The last value of a flag, as the component itself takes it.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A path inside the container as the host names it.
    pub(super) fn on_host(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let inner = self.mounts.iter().filter_map(|m| Some((m, path.strip_prefix(&m.mount_path).ok()?)));
        match inner.min_by_key(|(_, rest)| rest.as_os_str().len()) {
            Some((m, rest)) if rest.as_os_str().is_empty() => m.host_path.clone(),
            Some((m, rest)) => m.host_path.join(rest),
            None => path.to_path_buf(),
        }
    }

    pub(super) fn path_flag(&self, name: &str) -> Option<PathBuf> {
        self.flag(name).map(|v| self.on_host(v))
    }

    pub(super) fn static_pod(&self, node: Option<&str>) -> StaticPod {
        StaticPod {
            manifest: self.manifest.clone(),
            container: self.reference(node),
            flags: self.flags.iter().cloned().collect::<BTreeMap<_, _>>(),
            sni: self.flags.iter().filter(|(flag, _)| flag == SNI).filter_map(|(_, v)| self.sni_pair(v)).collect(),
            mounts: self.mounts.clone(),
            version: self.image.as_deref().and_then(Version::of_image),
            started_at: None,
        }
    }

    /// `cert,key` or `cert,key:name,name` (kubernetes: `component-base/cli/flag/namedcertkey_flag.go:Set`).
    pub(super) fn sni_pair(&self, value: &str) -> Option<SniPair> {
        let (pair, names) = value.split_once(':').unwrap_or((value, ""));
        let (cert, key) = pair.split_once(',')?;
        let names = names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        Some(SniPair { cert: self.on_host(cert.trim()), key: self.on_host(key.trim()), names })
    }

    pub(super) fn other_pod(&self, node: Option<&str>) -> OtherPod {
        let container = self.reference(node);
        OtherPod { manifest: self.manifest.clone(), container, mounts: self.mounts.clone() }
    }

    fn reference(&self, node: Option<&str>) -> ContainerRef {
        let pod = self.pod.as_ref().zip(node).map(|(pod, node)| format!("{pod}-{}", node.to_ascii_lowercase()));
        ContainerRef { namespace: self.namespace.clone(), pod, name: self.name.clone() }
    }
}

/// Of a pod that does not say (kubernetes: `pkg/kubelet/config/common.go:applyDefaults`).
const DEFAULT_NAMESPACE: &str = "default";

/// All containers of all manifests in `dir`. What cannot be read or understood goes to `notes`.
pub(super) fn read_all(root: &Root, dir: &Path, notes: &mut Vec<String>) -> Vec<Container> {
    let names = match root.list(dir) {
        Ok(names) => names,
        Err(FsError::NotFound { .. }) => return Vec::new(),
        Err(e) => {
            notes.push(format!("static pods unknown: {e}"));
            return Vec::new();
        }
    };
    let mut containers = Vec::new();
    // as the kubelet: every file, whatever its ending, but no dot-files (pkg/kubelet/config/file.go:extractFromDir)
    for name in names.iter().filter(|n| !n.starts_with('.')).take(MAX_MANIFESTS) {
        let path = dir.join(name);
        match root.read_text(&path) {
            Ok(text) => match parse(&text, &path) {
                Ok(found) => containers.extend(found),
                Err(e) => notes.push(format!("{} is not a pod manifest: {e}", path.display())),
            },
            Err(FsError::NotAFile { .. }) if root.metadata(&path).is_ok_and(|m| m.is_dir()) => {}
            Err(e) => notes.push(format!("manifest not read: {e}")),
        }
    }
    containers
}

/// The containers of one manifest. Pure.
pub(super) fn parse(text: &str, manifest: &Path) -> Result<Vec<Container>, YamlError> {
    let pod: Pod = yaml::parse(text)?;
    let spec = pod.spec.unwrap_or_default();
    let metadata = pod.metadata.unwrap_or_default();
    let volumes = spec.volumes.unwrap_or_default();
    let containers = spec.containers.unwrap_or_default().into_iter();
    Ok(containers.map(|c| container(c, &metadata, &volumes, manifest)).collect())
}

fn container(raw: RawContainer, pod: &Metadata, volumes: &[Volume], manifest: &Path) -> Container {
    let mut words = raw.command.unwrap_or_default();
    words.extend(raw.args.unwrap_or_default());
    if words.first().is_some_and(|w| matches!(basename(w), "sh" | "bash")) {
        words = words.iter().flat_map(|w| w.split_whitespace()).map(str::to_owned).collect();
    }
    let name = raw.name.unwrap_or_default();
    let by_command = || words.iter().find_map(|w| Component::from_name(basename(w)));
    let mounts = raw.volume_mounts.unwrap_or_default().into_iter().filter_map(|m| {
        let host = volumes.iter().find(|v| v.name == m.name)?.host_path.as_ref()?;
        let host_path = host.path.clone()?;
        // no `join` with nothing: it would end in a slash
        let host_path = m.sub_path.map_or(host_path.clone(), |sub| host_path.join(sub));
        Some(Mount { host_path, mount_path: m.mount_path? })
    });
    Container {
        component: Component::from_name(&name).or_else(by_command),
        flags: flags(&words),
        mounts: mounts.collect(),
        image: raw.image,
        manifest: manifest.to_path_buf(),
        pod: pod.name.clone(),
        namespace: pod.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        name,
    }
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `--a=b`, `--a b`, `--a`; one dash will do, as for Go's flag package.
pub(super) fn flags(words: &[String]) -> Vec<(String, String)> {
    let mut flags = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|f| !f.is_empty()) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (flag, words.next_if(|w| !w.starts_with('-')).cloned().unwrap_or_else(|| "true".to_owned())),
        };
        // Go calls one without a name bad syntax; it says nothing
        if !name.is_empty() {
            flags.push((name.to_owned(), value));
        }
    }
    flags
}

#[derive(Deserialize)]
struct Pod {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
struct Spec {
    containers: Option<Vec<RawContainer>>,
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    name: Option<String>,
    image: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    volume_mounts: Option<Vec<VolumeMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: Option<String>,
    mount_path: Option<PathBuf>,
    sub_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: Option<String>,
    host_path: Option<HostPath>,
}

#[derive(Deserialize)]
struct HostPath {
    path: Option<PathBuf>,
}

#[cfg(test)]
#[allow(missing_debug_implementations, reason = "made by proptest's macro")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: apiserver, namespace: kube-system}
spec:
  containers:
  - name: sidecar
    command: [/usr/bin/agent, -v, --cert-file, /tls/a.crt]
  - name: main
    command: [/usr/local/bin/kube-apiserver]
    args: [--tls-cert-file=/old, --tls-cert-file=/in/apiserver.crt, --secure-port, '6443', --anonymous-auth]
    volumeMounts:
    - {name: pki, mountPath: /in}
    - {name: one, mountPath: /in/one.conf}
    - {name: pki, mountPath: /sub/ca.crt, subPath: ca.crt}
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}}
  - {name: one, hostPath: {path: /etc/one.conf, type: FileOrCreate}}
  - {name: none, emptyDir: {}}
";

    #[test]
    fn flags_and_mounts_of_each_container_are_understood() {
        let found = parse(POD, Path::new("/m.yaml")).unwrap();
        assert_eq!(found[0].component, None);
        assert_eq!(found[0].flag("cert-file"), Some("/tls/a.crt"));
        let main = &found[1];
        assert_eq!(main.component, Some(Component::KubeApiserver), "by the command's name");
        assert_eq!(main.flag("tls-cert-file"), Some("/in/apiserver.crt"), "the last one wins");
        assert_eq!((main.flag("secure-port"), main.flag("anonymous-auth")), (Some("6443"), Some("true")));
        assert_eq!(main.path_flag("tls-cert-file").unwrap(), Path::new("/etc/kubernetes/pki/apiserver.crt"));
        assert_eq!(main.on_host("/in/one.conf"), Path::new("/etc/one.conf"), "the longest mount counts");
        assert_eq!(main.on_host("/sub/ca.crt"), Path::new("/etc/kubernetes/pki/ca.crt"), "a part of a volume");
        let of_node = main.static_pod(Some("Node1")).container;
        assert_eq!(of_node.to_string(), "kube-system/apiserver-node1/main", "as the kubelet calls it");
        assert_eq!(found[0].other_pod(None).container.to_string(), "kube-system/sidecar");
    }

    #[test]
    fn json_is_a_manifest_too() {
        let text = r#"{"spec":{"containers":[{"name":"etcd","command":["etcd","--cert-file=/a"]}]}}"#;
        assert_eq!(parse(text, Path::new("/m")).unwrap()[0].flag("cert-file"), Some("/a"));
    }

    proptest! {
        #[test]
        fn damage_is_never_a_panic(at in 0..POD.len(), byte in 0u8..128) {
            let mut bytes = POD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(found) = parse(&String::from_utf8_lossy(&bytes), Path::new("/m")) {
                for c in found {
                    let _ = c.path_flag("tls-cert-file");
                }
            }
        }
    }
}
