//! What the parent and the staging process say to each other, as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Change;

/// What the parent wants. A JSON file in `workdir`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Absolute path; the file must be called `kubeadm`.
    pub kubeadm: PathBuf,
    /// `certs renew`, or `alpha certs renew` before 1.20.
    pub verb: Vec<String>,
    /// The `--config` document.
    pub config: PathBuf,
    /// `/etc/kubernetes`: kubeadm's constant `KubernetesDir`.
    pub kubernetes_dir: PathBuf,
    /// kubeadm's `certificatesDir`.
    pub pki_dir: PathBuf,
    /// An empty directory for root only; the changed files come to `out/` below it, by their live path.
    pub workdir: PathBuf,
    /// For each name.
    pub limit_secs: u64,
    /// Empty: kubeadm is only asked for its version.
    pub names: Vec<Name>,
}

/// A credential by kubeadm's name and the live files it consists of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    pub name: String,
    pub files: Vec<PathBuf>,
}

/// What happened, one JSON document on stdout.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// In the order asked for; ends with the first that failed.
    pub names: Vec<Done>,
    /// What changed and should not have: reason enough to take nothing.
    pub unexpected: Vec<Unexpected>,
    /// Keys were in memory that this kernel may have written to the swap device.
    #[serde(default)]
    pub may_be_swapped: bool,
    /// What `kubeadm version` printed, if no names were asked for.
    pub version: Option<String>,
    /// Why staging itself failed.
    pub error: Option<String>,
}

/// One run of kubeadm.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    pub name: String,
    /// None: a signal or the time limit ended it.
    pub code: Option<i32>,
    pub timed_out: bool,
    /// `exited with code 1`, `was killed by SIGKILL`, …
    pub ending: String,
    /// kubeadm's reason.
    pub last_words: String,
    /// As in the order.
    pub changed: Vec<PathBuf>,
    pub took_ms: u64,
}

/// A change that nobody asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unexpected {
    /// While renewing this.
    pub name: String,
    pub path: PathBuf,
    pub change: Change,
}
