//! The kubelet's own credential as it lies on the disk: link, dated file behind it, and the kubeconfig that names them
//! (client-go: `util/certificate/certificate_store.go`). The entries of the inventory say what is in them.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::cert::CertFacts;
use super::finding::{Finding, Problem};
use super::inventory::{Content, Credential};

/// The link that the kubelet keeps, in its directory of certificates.
pub const CURRENT: &str = "kubelet-client-current.pem";
/// The link that it makes on the way to a new one. A plain file of this name stops its rotation for good.
pub const UPDATED: &str = "kubelet-client-updated.pem";
/// What the node authorizer takes a node by (kubernetes: `pkg/auth/nodeidentifier/default.go`).
pub const USER: &str = "system:node:";
pub const GROUP: &str = "system:nodes";

/// The node whose kubelet the API server takes the owner of this certificate for.
pub fn node_of(leaf: &CertFacts) -> Option<&str> {
    let name = leaf.common_name.as_deref()?.strip_prefix(USER)?;
    (leaf.organizations.contains(GROUP) && !name.is_empty()).then_some(name)
}

/// What lies where, beyond what the entries tell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OnDisk {
    /// Where the kubelet keeps its link; empty where there is no kubelet.
    pub current: PathBuf,
    pub lies: Lies,
    /// A plain file where the kubelet wants to make a link.
    pub obstacle: Option<PathBuf>,
    /// The same of the link to its serving certificate.
    pub serving_obstacle: Option<PathBuf>,
    pub config: Config,
    /// The API server, as the kubelet's kubeconfig says, else the nearest that does.
    pub server: Option<String>,
    /// Files that hold an identity of this node which is good now, the one that lasts longest first. Looked for only
    /// where the present one is not.
    pub good: Vec<Good>,
    /// A kubeconfig to bootstrap with is there.
    pub bootstrap: Option<PathBuf>,
    /// The key of the cluster's CA is here and fits.
    pub can_sign: bool,
}

/// What is at the link's own path.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Lies {
    #[default]
    Nothing,
    Link {
        to: PathBuf,
    },
    File,
    /// A directory, a FIFO, a device: it is never opened, and moved aside.
    Obstructed,
}

/// How the kubelet's kubeconfig tells who the kubelet is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Config {
    #[default]
    Missing,
    /// By the link.
    Current,
    /// By other files.
    Elsewhere { cert: PathBuf, there: bool },
    /// In itself, as kubeadm 1.16 and older left it on the first node.
    Embedded { until: Option<Timestamp> },
    /// By a token or a program: none of our business.
    Other,
    /// It cannot be read or understood.
    Unusable,
}

/// A file with an identity that would do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Good {
    pub file: PathBuf,
    pub not_after: Timestamp,
    /// In the kubelet's kubeconfig, and not in a PEM file.
    pub embedded: bool,
}

impl Good {
    /// The credential in `file`, if the kubelet can log in with it at `now`.
    pub fn of(file: PathBuf, content: &Content, embedded: bool, now: Timestamp) -> Option<Self> {
        let Content::Readable(credential) = content else { return None };
        let leaf = credential.chain.first()?;
        let good = sound(credential) && leaf.not_before <= now && leaf.not_after > now;
        good.then_some(Self { file, not_after: leaf.not_after, embedded })
    }
}

/// Whether nothing is wrong with a credential, however it lies there.
pub fn sound(credential: &Credential) -> bool {
    credential.findings.iter().all(|f| !breaks(f) || lies_wrong(f))
}

/// Whether a kubelet cannot use it, or cannot rotate it.
pub fn breaks(finding: &Finding) -> bool {
    use Problem as P;
    let itself = matches!(finding.id, P::KeyMismatch | P::WrongIssuer | P::WrongIdentity);
    let file = matches!(finding.id, P::Missing | P::Unreadable | P::Malformed | P::Empty | P::DanglingSymlink);
    itself || file || lies_wrong(finding)
}

/// About where it lies, not about what it is.
fn lies_wrong(finding: &Finding) -> bool {
    matches!(finding.id, Problem::NotASymlink | Problem::EmbeddedIdentity | Problem::RotationBlocked)
}
