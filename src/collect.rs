//! Reads the node into an [`Inventory`]. Never fails: what is missing, damaged or forbidden is a value in it.
//!
//! Paths are discovered, not assumed: the kubelet's command line and configuration say where the static pods are,
//! their flags say where certificates are, and kubeadm's defaults fill what nobody says.

mod age;
mod authorities;
mod catalogue;
mod control_plane;
mod copies;
mod distribution;
mod doubles;
mod egress;
mod etcd_env;
mod extras;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod issued;
mod keys;
mod kubeconfigs;
mod kubelet;
mod load;
mod manifests;
mod names;
mod naming;
mod node_identity;
mod ownership;
mod serving;
mod unit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::fs::Root;
use crate::model::cert::{CertFacts, Refusal};
use crate::model::component::Component;
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Credential, Entry, Form, Inventory, Node, Owner, Role};
use crate::model::policy::Kubeconfigs;
use crate::model::version::Version;
pub use kubeconfigs::open_to_all;
use load::Authority;
use manifests::Container;

const KUBERNETES: &str = "/etc/kubernetes";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
const PKI: &str = "/etc/kubernetes/pki";

/// What has been found so far, for the parts that make entries of it.
struct Scene<'a> {
    root: &'a Root,
    now: Timestamp,
    containers: Vec<Container>,
    kubelet: kubelet::Found,
    pki_dir: PathBuf,
    role: Role,
    /// Of Kubernetes, by the API server's image; None where that does not tell.
    minor: Option<u32>,
    authorities: Vec<Authority>,
    /// What this node's API server serves, as far as it could be read.
    served: Option<kubeconfigs::Served>,
    notes: Vec<String>,
}

impl Scene<'_> {
    fn container(&self, component: Component) -> Option<&Container> {
        self.containers.iter().find(|c| c.component == Some(component))
    }

    fn path_flag(&self, component: Component, flag: &str) -> Option<PathBuf> {
        self.container(component)?.path_flag(flag)
    }

    fn authority(&self, name: &str) -> Option<&Authority> {
        self.authorities.iter().find(|a| a.name == name)
    }

    /// Why the components of this node's version refuse a certificate.
    fn refusals<'c>(&self, cert: &'c CertFacts) -> impl Iterator<Item = &'c Refusal> {
        let minor = self.minor;
        cert.raw.refusals.iter().filter(move |r| r.since.is_none_or(|since| minor.is_none_or(|minor| minor >= since)))
    }

    /// Something is there, be it only a link to nowhere.
    fn lies(&self, path: &Path) -> bool {
        self.root.symlink_metadata(path).is_ok()
    }

    /// Whose job a leaf of `signer` is, given that it lies where kubeadm puts it or not.
    fn owner(signer: Option<&Authority>, kubeadms_place: bool) -> Owner {
        match signer {
            Some(ca) if ca.has_key && kubeadms_place => Owner::Kubeadm,
            Some(ca) if ca.has_key => Owner::Certwarden,
            _ => Owner::External,
        }
    }
}

/// Takes the inventory of the node below `root`; copies of admin.conf are looked for where `wanted` says.
pub fn collect(root: &Root, now: Timestamp, wanted: &Kubeconfigs) -> Inventory {
    let mut notes = Vec::new();
    let kubelet = kubelet::find(root, &mut notes);
    let manifests = kubelet.kubelet.static_pod_path.clone().unwrap_or_else(|| MANIFESTS.into());
    let containers = manifests::read_all(root, &manifests, &mut notes);
    let mut scene = Scene {
        pki_dir: pki_dir(&containers, &kubelet),
        role: Role::Unknown,
        minor: minor(&containers),
        authorities: Vec::new(),
        served: None,
        root,
        now,
        containers,
        kubelet,
        notes,
    };
    scene.role = role(&scene);
    scene.authorities = authorities::find(&scene);

    let mut leaves = control_plane::pairs(&scene);
    scene.served = kubeconfigs::Served::of(&scene, &leaves);
    leaves.extend(control_plane::configs(&mut scene));
    leaves.extend(control_plane::systemd_etcd(&scene, &leaves));
    let identity = node_identity::client(&mut scene, &leaves);
    leaves.extend(identity);
    leaves.extend(serving::entry(&scene));
    let (copies, left_behind) = copies::find(&mut scene, &leaves, wanted);
    leaves.extend(left_behind);
    let mut cas = authorities::entries(&scene);
    extras::add(&mut scene, &mut leaves, &mut cas);
    let distribution = distribution::recognise(root);
    if let Some(distribution) = distribution {
        distribution::add(&scene, distribution, &mut leaves);
        let (name, renewal) = (distribution.name(), distribution.renewal());
        scene.notes.push(format!(
            "this is a node of {name}: watched, and never changed; its certificates are renewed {renewal}"
        ));
    }
    doubles::add(&mut scene, &mut leaves);
    ownership::add(root, &mut leaves);
    leaves.sort_by(|a, b| a.name.cmp(&b.name));
    cas.sort_by(|a, b| a.name.cmp(&b.name));
    leaves.append(&mut cas);

    if scene.role == Role::Unknown && distribution.is_none() {
        scene.notes.push(format!(
            "neither static pods nor a kubelet were found below {}; is this a Kubernetes node?",
            root.path().display()
        ));
    }
    let kubelet_dir = std::mem::take(&mut scene.kubelet.root_dir);
    let mut node = Node { distribution, ..node(scene, &leaves) };
    age::add(root, &kubelet_dir, now, &mut node, &mut leaves);
    Inventory { collected_at: now, node, entries: leaves, copies }
}

fn minor(containers: &[Container]) -> Option<u32> {
    let image = containers.iter().find(|c| c.component == Some(Component::KubeApiserver))?.image.as_deref()?;
    Version::of_image(image).map(|version| version.minor)
}

/// By what runs: a copy of a file makes no control plane.
fn role(scene: &Scene<'_>) -> Role {
    use Component::{Etcd, KubeApiserver, KubeControllerManager, KubeScheduler};
    let pods = [KubeApiserver, KubeControllerManager, KubeScheduler].iter().any(|c| scene.container(*c).is_some());
    // manifests may have been moved away for a moment; these files together only a control plane has
    let pki = |file: &str| scene.lies(&scene.pki_dir.join(file));
    let files = || {
        pki("apiserver.crt")
            && pki("apiserver.key")
            && scene.lies(&Path::new(KUBERNETES).join("controller-manager.conf"))
    };
    let etcd = || scene.container(Etcd).is_some();
    if pods || files() {
        Role::ControlPlane
    } else if etcd() {
        Role::Etcd
    } else if scene.kubelet.present {
        Role::Worker
    } else {
        Role::Unknown
    }
}

/// kubeadm's `certificatesDir`: where the components' CA is, if it is called as kubeadm calls it.
fn pki_dir(containers: &[Container], kubelet: &kubelet::Found) -> PathBuf {
    const HINTS: [(Component, &str, &str); 4] = [
        (Component::KubeApiserver, "client-ca-file", "ca.crt"),
        (Component::KubeApiserver, "tls-cert-file", "apiserver.crt"),
        (Component::KubeControllerManager, "root-ca-file", "ca.crt"),
        (Component::KubeControllerManager, "client-ca-file", "ca.crt"),
    ];
    let dir_of = |path: PathBuf, name: &str| -> Option<PathBuf> {
        (path.file_name()? == name).then(|| path.parent().map(Path::to_path_buf))?
    };
    HINTS
        .iter()
        .find_map(|(component, flag, name)| {
            let container = containers.iter().find(|c| c.component == Some(*component))?;
            dir_of(container.path_flag(flag)?, name)
        })
        .or_else(|| dir_of(kubelet.client_ca.clone()?, "ca.crt"))
        .unwrap_or_else(|| PKI.into())
}

fn node(scene: Scene<'_>, entries: &[Entry]) -> Node {
    let (name, name_doubt) = naming::name(&scene, entries);
    // the kubelet names its pods by what it calls itself, which is another name then
    let of_pods = name.as_deref().filter(|_| name_doubt.is_none());
    let (mut static_pods, mut other_pods) = (BTreeMap::new(), Vec::new());
    for container in &scene.containers {
        match container.component {
            // the first container of a component, as everywhere here
            Some(component) if !static_pods.contains_key(&component) => {
                static_pods.insert(component, container.static_pod(of_pods));
            }
            _ => other_pods.push(container.other_pod(of_pods)),
        }
    }
    Node {
        name,
        name_doubt,
        role: scene.role,
        distribution: None,
        static_pods,
        other_pods,
        kubelet: scene.kubelet.kubelet,
        pki_dir: scene.pki_dir,
        notes: scene.notes,
    }
}

/// As the kubelet makes its node name of it (kubernetes: `pkg/util/node/node.go:GetHostname`).
pub fn host_name(root: &Root) -> Option<String> {
    kernel_host_name(root).map(|name| name.to_ascii_lowercase())
}

/// As the kernel has it.
fn kernel_host_name(root: &Root) -> Option<String> {
    // /etc/hostname is what the kernel is told at boot
    let kernels = || root.read_text(Path::new("/proc/sys/kernel/hostname")).ok().filter(|_| root.is_live());
    let text = kernels().or_else(|| root.read_text(Path::new("/etc/hostname")).ok())?;
    let name = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?;
    Some(name.to_owned())
}

/// An entry for a leaf that lies in files.
fn pair_form(cert: PathBuf, key: PathBuf) -> Form {
    if cert == key { Form::Combined { path: cert } } else { Form::Pair { cert, key } }
}

/// Whether the credential was issued by a CA that we know.
/// For what is wrong by kubeadm's measure and meant so by the operator.
fn forget(content: &mut Content, problem: Problem) {
    if let Content::Readable(Credential { findings, .. }) = content {
        findings.retain(|f| f.id != problem);
    }
}

fn has_finding(content: &Content, problem: Problem) -> bool {
    matches!(content, Content::Readable(c) if c.findings.iter().any(|f| f.id == problem))
}
