//! The inventory: every credential that the node depends on, as found on its disk. Possibly incomplete,
//! and incompleteness is a value: what could not be read is an entry with a reason, never a green one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cert::CertFacts;
use super::component::Component;
use super::distribution::Distribution;
use super::finding::Finding;
use super::identity::OnDisk;
use super::version::Version;

/// Everything found on one node at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Inventory {
    pub collected_at: Timestamp,
    pub node: Node,
    /// In the order in which they are shown: leaves by name, then CAs.
    pub entries: Vec<Entry>,
    /// Copies of admin.conf that hold what it holds, and follow it when it is renewed.
    pub copies: Vec<Copy>,
}

/// A copy of a kubeconfig.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Copy {
    pub path: PathBuf,
    /// The operator told us of this file; else it was found in a home, and must be identical.
    pub told: bool,
}

impl Inventory {
    /// The entry with this logical name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }
}

/// What the node is, from its manifests, its kubelet's unit and its files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Node {
    /// The Kubernetes node name, if it can be known without the API (kubelet identity, `--hostname-override`, host name).
    pub name: Option<String>,
    /// Why nobody may sign in that name without a person's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_doubt: Option<NameDoubt>,
    pub role: Role,
    /// Who has set it up, if not kubeadm: then nothing on it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Static pods by component; absent components have no manifest here.
    pub static_pods: BTreeMap<Component, StaticPod>,
    /// Containers of static pods that are none of the components: load balancers, agents, sidecars.
    pub other_pods: Vec<OtherPod>,
    pub kubelet: Kubelet,
    /// kubeadm's `certificatesDir`: `/etc/kubernetes/pki`, or what the manifests say.
    pub pki_dir: PathBuf,
    /// What could not be read or understood on the way; shown, never fatal.
    pub notes: Vec<String>,
}

/// A node's name that is a guess, or that the cluster's CA contradicts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NameDoubt {
    /// A clause.
    pub reason: String,
    /// What a person does about it.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    ControlPlane,
    Worker,
    /// A member of etcd and nothing of the cluster's own: its kubelet, if there is one, belongs to no cluster.
    Etcd,
    /// Neither manifests nor a kubelet were found.
    #[default]
    Unknown,
}

/// One static pod: where its manifest is and what its flags say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StaticPod {
    pub manifest: PathBuf,
    pub container: ContainerRef,
    /// `--flag=value` of the component's container, without the dashes. The last one wins, as in the component itself.
    pub flags: BTreeMap<String, String>,
    /// `--tls-sni-cert-key`, in their order: the only flag of which each value counts.
    pub sni: Vec<SniPair>,
    pub mounts: Vec<Mount>,
    /// Files of the host that its flags name: the component reads many of them at its start only.
    #[serde(skip)]
    pub named: Vec<PathBuf>,
    /// By the image's tag.
    pub version: Option<Version>,
    pub image: Option<Image>,
    /// When its present container was made, which is when its process began; None on a node that does not run.
    pub started_at: Option<Timestamp>,
}

/// What a container is made of.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Image {
    /// With a tag or a digest.
    pub name: String,
    /// The registry is asked for every container that is made, whether the image is here or not.
    pub always_pulled: bool,
}

impl Image {
    /// As a pod's spec says (kubernetes: `pkg/apis/core/v1/defaults.go:SetDefaults_Container`;
    /// `pkg/kubelet/images/image_manager.go:applyDefaultImageTag`).
    pub fn new(name: &str, pull_policy: Option<&str>) -> Self {
        let last = name.rsplit('/').next().unwrap_or(name);
        let name = if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") };
        let always_pulled = match pull_policy {
            Some("IfNotPresent" | "Never") => false,
            Some("Always") => true,
            _ => name.split('@').next().is_some_and(|tagged| tagged.ends_with(":latest")),
        };
        Self { name, always_pulled }
    }
}

/// A certificate that is served to who asks for one of its names by TLS.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SniPair {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// As the flag has them, `*.` at the beginning stands for any label; empty: the certificate's own.
    pub names: Vec<String>,
}

/// A container of a static pod of which nothing is known but its manifest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OtherPod {
    pub manifest: PathBuf,
    pub container: ContainerRef,
    pub mounts: Vec<Mount>,
    pub image: Option<Image>,
    /// What it runs: the first program of its command, else its image, both without directory and tag.
    pub program: Option<String>,
    /// Files on the host that its command line names.
    pub named: Vec<PathBuf>,
    /// As of [`StaticPod`].
    pub started_at: Option<Timestamp>,
}

/// A container by the names that the kubelet gives the container runtime.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ContainerRef {
    pub namespace: String,
    /// `metadata.name` and the node's name (kubernetes: `pkg/kubelet/config/common.go:generatePodName`); None: the
    /// node's name is not known, and any pod will do.
    pub pod: Option<String>,
    /// As the pod's spec calls the container.
    pub name: String,
}

impl std::fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{}/{pod}/{}", self.namespace, self.name),
            None => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

/// A host path that a container sees, as a directory or as a single file.
#[derive(Clone, Debug, Serialize)]
pub struct Mount {
    pub host_path: PathBuf,
    pub mount_path: PathBuf,
}

/// The kubelet as its unit, its arguments and its configuration file describe it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kubelet {
    /// systemd unit, normally `kubelet.service`.
    pub unit: String,
    /// `--kubeconfig`; None where none was found.
    pub kubeconfig: Option<PathBuf>,
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `--cert-dir`, default `/var/lib/kubelet/pki`.
    pub cert_dir: PathBuf,
    /// `rotateCertificates` (kubeadm: true).
    pub rotate_certificates: bool,
    pub server_tls_bootstrap: bool,
    pub static_pod_path: Option<PathBuf>,
    /// `healthzBindAddress:healthzPort`; None when the port is 0.
    pub healthz: Option<String>,
    /// Port of the kubelet's own API, 10250; None when there is no kubelet.
    pub port: Option<u16>,
    /// The one address that its API listens on; None for all.
    pub address: Option<String>,
    /// Path of the CRI socket, without `unix://`.
    pub cri_socket: Option<PathBuf>,
    /// Path of the socket for images, where it is another.
    pub image_socket: Option<PathBuf>,
    /// Its configuration file and what is merged into it, as far as they are there.
    pub configs: Vec<PathBuf>,
    /// How its own credential lies on the disk.
    pub identity: OnDisk,
}

/// One credential or CA.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// kubeadm's own name where it has one (`apiserver`, `admin.conf`, `etcd-peer`, `ca` …), else
    /// `kubelet-client`, `kubelet-serving`, or `<component>:<flag>` for what a manifest points at besides.
    pub name: String,
    pub form: Form,
    pub owner: Owner,
    /// Components that hold it, as far as manifests and kubelet configuration say.
    pub used_by: Vec<Component>,
    /// Logical name of the CA that should have issued it; None for CAs and self-signed ones.
    pub signer: Option<String>,
    /// Logical name of the bundle by which those verify it who it is made for, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_by: Option<String>,
    /// What stops working when it expires, in a clause.
    pub impact: String,
    pub content: Content,
}

impl Entry {
    /// The file that a person would look at.
    pub fn path(&self) -> &Path {
        self.form.path()
    }

    /// The leaf (first) certificate, if the entry could be read.
    pub fn leaf(&self) -> Option<&CertFacts> {
        match &self.content {
            Content::Readable(c) => c.chain.first(),
            Content::Absent | Content::Unusable(_) => None,
        }
    }

    /// The API server's URL, of a kubeconfig that could be read.
    pub fn server(&self) -> Option<&str> {
        match &self.content {
            Content::Readable(c) => c.server.as_deref(),
            Content::Absent | Content::Unusable(_) => None,
        }
    }

    pub fn is_ca(&self) -> bool {
        matches!(self.form, Form::Ca { .. })
    }

    /// A throw-away CA of its own has issued it and lies behind it, as the kubelet makes them: nobody can verify it, and
    /// certwarden makes the next one.
    pub fn is_self_made(&self) -> bool {
        self.owner == Owner::Certwarden && self.signer.is_none() && !self.is_ca()
    }
}

/// How a credential lies on the disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Form {
    /// A certificate file and its key file.
    Pair { cert: PathBuf, key: PathBuf },
    /// Certificate and key embedded in a kubeconfig's user.
    Kubeconfig { path: PathBuf },
    /// One PEM file with certificate(s) and key; the kubelet's is reached by a symbolic link.
    Combined { path: PathBuf },
    /// A CA certificate (bundle) and, where it is on this node, its key.
    Ca { cert: PathBuf, key: PathBuf },
    /// In a plan: one PEM file with certificate and key as the kubelet names them by date, new or there, and the link that
    /// will lead to it; `obstacle` lies in the way of the kubelet's next link and becomes a link too.
    Dated { file: PathBuf, link: PathBuf, obstacle: Option<PathBuf> },
    /// In a plan: a kubeconfig that will name `link` for certificate and key. `proven`: not before that has been accepted,
    /// because what the kubeconfig has now still works.
    Reference { config: PathBuf, link: PathBuf, proven: bool },
}

impl Form {
    pub fn path(&self) -> &Path {
        match self {
            Self::Pair { cert, .. } | Self::Ca { cert, .. } => cert,
            Self::Kubeconfig { path }
            | Self::Combined { path }
            | Self::Dated { link: path, .. }
            | Self::Reference { config: path, .. } => path,
        }
    }

    /// Whether its names themselves are replaced, and not what a link of that name leads to. Such need not be there before.
    pub fn by_name(&self) -> bool {
        matches!(self, Self::Dated { .. })
    }

    /// Whether its files are made where there are none.
    pub fn may_be_missing(&self) -> bool {
        matches!(self, Self::Dated { .. } | Self::Reference { .. })
    }

    /// The file that holds certificate and key once the plan is carried out.
    pub fn holder(&self) -> &Path {
        match self {
            Self::Dated { file, .. } => file,
            Self::Reference { link, .. } => link,
            other => other.path(),
        }
    }

    /// Every file that changes when the credential is renewed, key first as kubeadm writes them.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Pair { cert, key } | Self::Ca { cert, key } => vec![key, cert],
            Self::Kubeconfig { path } | Self::Combined { path } | Self::Reference { config: path, .. } => vec![path],
            // a link never leads to what is not there yet
            Self::Dated { file, link, obstacle } => {
                [file, link].into_iter().chain(obstacle).map(PathBuf::as_path).collect()
            }
        }
    }
}

/// Whose job the renewal is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// `kubeadm certs renew` can, so certwarden does.
    Kubeadm,
    /// The kubelet rotates it by itself.
    Kubelet,
    /// Nobody else does; certwarden does.
    Certwarden,
    /// Its CA's key is not on this node: somebody outside has to.
    External,
    /// Whatever has set up the node renews it.
    Distribution,
    /// Nobody renews it (CAs, stale copies).
    None,
}

/// What reading the entry's files gave.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "content")]
pub enum Content {
    Readable(Credential),
    /// Not there, and it need not be (`super-admin.conf` on joined nodes). Shown only in wide tables.
    Absent,
    Unusable(Finding),
}

/// A credential that could be read.
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    /// Leaf first. Never empty.
    pub chain: Vec<CertFacts>,
    /// The API server's URL, for kubeconfigs.
    pub server: Option<String>,
    /// Where in a kubeconfig it stands.
    #[serde(skip)]
    pub context: Option<Context>,
    /// What is wrong with it whatever the time is.
    pub findings: Vec<Finding>,
}

/// What a kubeconfig's current context consists of.
#[derive(Clone, Debug)]
pub struct Context {
    pub cluster: String,
    pub user: String,
    /// The cluster's CA bundle, PEM, if it is in the file itself.
    pub ca: Option<Vec<u8>>,
    /// One half of the identity is in the kubeconfig and the other in a file.
    pub apart: bool,
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn an_image_has_a_tag_and_is_pulled_as_the_kubelet_would() {
        for (name, policy, full, always) in [
            ("registry.k8s.io/kube-scheduler:v1.34.0", None, "registry.k8s.io/kube-scheduler:v1.34.0", false),
            ("10.0.0.1:5000/kube-vip", None, "10.0.0.1:5000/kube-vip:latest", true),
            ("kube-vip", Some("IfNotPresent"), "kube-vip:latest", false),
            ("kube-vip:v1", Some("Always"), "kube-vip:v1", true),
            ("kube-vip:v1", Some("Never"), "kube-vip:v1", false),
            ("kube-vip:latest@sha256:0", None, "kube-vip:latest@sha256:0", true),
            ("kube-vip@sha256:0", None, "kube-vip@sha256:0", false),
        ] {
            assert_eq!(
                Image::new(name, policy),
                Image { name: full.into(), always_pulled: always },
                "{name} {policy:?}"
            );
        }
    }
}
