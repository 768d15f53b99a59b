//! Where the kubelet's own credential lies on the disk, as it was found.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

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
