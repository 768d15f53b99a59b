//! Static pod manifests: which components run here, with which flags, and what of the host they see.

mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::host::fs::{FsError, Root};
use crate::model::component::Component;
use crate::model::inventory::{ContainerRef, Image, Mount, OtherPod, SniPair, StaticPod};
use crate::model::version::Version;
use crate::model::yaml::{self, YamlError};
pub(super) use run::flags;
use run::{Environment, Run};

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
    pub(super) pull_policy: Option<String>,
    /// What of its command is not understood: a clause.
    pub(super) doubt: Option<String>,
    /// The name of the program that runs, else of the image.
    pub(super) program: Option<String>,
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

    /// Whether a path inside the container is the host's: of what is only in the container nothing is known here.
    pub(super) fn is_of_host(&self, path: &str) -> bool {
        self.mounts.iter().any(|m| Path::new(path).starts_with(&m.mount_path))
    }

    pub(super) fn path_flag(&self, name: &str) -> Option<PathBuf> {
        self.flag(name).map(|v| self.on_host(v))
    }

    /// Paths of the host in its flags' values. Which are files only the disk knows.
    fn named_files(&self) -> Vec<PathBuf> {
        let values = self.flags.iter().filter(|(flag, _)| flag != SNI).map(|(_, value)| value);
        values.filter(|v| v.starts_with('/') && self.is_of_host(v)).map(|v| self.on_host(v)).collect()
    }

    pub(super) fn static_pod(&self, node: Option<&str>) -> StaticPod {
        StaticPod {
            manifest: self.manifest.clone(),
            container: self.reference(node),
            flags: self.flags.iter().cloned().collect::<BTreeMap<_, _>>(),
            sni: self.flags.iter().filter(|(flag, _)| flag == SNI).filter_map(|(_, v)| self.sni_pair(v)).collect(),
            mounts: self.mounts.clone(),
            named: self.named_files(),
            version: self.image.as_deref().and_then(Version::of_image),
            image: self.made_of(),
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
        let files = self.flags.iter().filter(|(_, value)| self.is_of_host(value));
        OtherPod {
            manifest: self.manifest.clone(),
            container: self.reference(node),
            mounts: self.mounts.clone(),
            image: self.made_of(),
            program: self.program.clone(),
            named: files.map(|(_, value)| self.on_host(value)).collect(),
            started_at: None,
        }
    }

    fn made_of(&self) -> Option<Image> {
        let image = self.image.as_deref().filter(|image| !image.is_empty())?;
        Some(Image::new(image, self.pull_policy.as_deref()))
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
                Ok(found) => {
                    notes.extend(found.iter().filter_map(not_understood));
                    containers.extend(found);
                }
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

/// What nobody should have to guess: a component's command that says something before it runs only.
fn not_understood(container: &Container) -> Option<String> {
    let (component, doubt) = (container.component?, container.doubt.as_ref()?);
    let (manifest, name) = (container.manifest.display(), &container.name);
    Some(format!(
        "{manifest}: what container {name}, which should be {component}, runs is not known for certain: {doubt}"
    ))
}

fn container(raw: RawContainer, pod: &Metadata, volumes: &[Volume], manifest: &Path) -> Container {
    let name = raw.name.unwrap_or_default();
    let environment = Environment::of(raw.env.unwrap_or_default());
    let command = raw.command.unwrap_or_default();
    let words: Vec<String> =
        command.iter().chain(&raw.args.unwrap_or_default()).map(|w| environment.expand(w)).collect();
    let run = Run::of(&name, raw.image.as_deref(), !command.is_empty(), &words, &environment.known);
    let mounts = raw.volume_mounts.unwrap_or_default().into_iter().filter_map(|m| {
        let host = volumes.iter().find(|v| v.name == m.name)?.host_path.as_ref()?;
        let host_path = host.path.clone()?;
        // no `join` with nothing: it would end in a slash
        let host_path = m.sub_path.map_or(host_path.clone(), |sub| host_path.join(sub));
        Some(Mount { host_path, mount_path: m.mount_path? })
    });
    Container {
        component: run.component,
        flags: run.flags,
        doubt: run.doubt,
        program: run.program,
        mounts: mounts.collect(),
        image: raw.image,
        pull_policy: raw.image_pull_policy,
        manifest: manifest.to_path_buf(),
        pod: pod.name.clone(),
        namespace: pod.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        name,
    }
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
    image_pull_policy: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    volume_mounts: Option<Vec<VolumeMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    name: Option<String>,
    value: Option<String>,
    value_from: Option<serde::de::IgnoredAny>,
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
