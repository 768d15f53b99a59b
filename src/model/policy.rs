//! The policy: what the operator wants, with every value valid by construction.
//!
//! The structs are also the schema of the configuration file: `config` merges the fragments and
//! deserialises the result into [`Policy`], so that a key exists in exactly one place.

mod fleet;
mod life;
mod network;
mod span;
mod told;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use fleet::{Days, Fleet, Freeze, Lock, Maintenance, Windows};
pub use life::DueBefore;
pub use network::Network;
pub use span::{Span, Threshold};
pub use told::{Cluster, Hook, Metrics, Occasion, Probe, StartTls};

/// Everything that can be configured. `Default` is the shipped behaviour.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    pub mode: Mode,
    pub check: Check,
    pub renew: Renew,
    pub kubeconfigs: Kubeconfigs,
    pub kubelet: Kubelet,
    pub activate: Activate,
    pub verify: Verify,
    pub gates: Gates,
    pub exec: Exec,
    pub state: State,
    pub metrics: Metrics,
    pub cluster: Cluster,
    pub hook: Vec<Hook>,
    pub fleet: Fleet,
    pub windows: Windows,
    pub freeze: Freeze,
    pub maintenance: Maintenance,
    pub approver: Approver,
    pub probe: Vec<Probe>,
}

/// Whether the daemon acts. `certwarden renew` acts in either mode: a person asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Enforce,
    Observe,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// How often the daemon looks.
    pub interval: Span,
    /// A CA is reported this long before its end; it is never renewed automatically.
    pub ca_warn_before: Span,
}

impl Default for Check {
    fn default() -> Self {
        Self { interval: Span::secs(3600), ca_warn_before: Span::days(180) }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Renew {
    /// Time left at which a certificate is due; at most a third of the life that renewals give.
    pub renew_before: Span,
    /// Time left at which soft gates give way, at most a tenth of the life that renewals give. A warning turns critical here too.
    pub emergency_before: Span,
    pub renewer: Renewer,
    /// Logical names that are checked but never renewed by the daemon or `--all`.
    pub exclude: Vec<String>,
    /// Life of what the local renewer signs; kubeadm's is the cluster's own configuration.
    pub validity: Span,
}

impl Default for Renew {
    fn default() -> Self {
        Self {
            renew_before: Span::days(30),
            emergency_before: Span::days(3),
            renewer: Renewer::default(),
            exclude: Vec::new(),
            validity: Span::days(365),
        }
    }
}

/// Copies of admin.conf that follow it when it is renewed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubeconfigs {
    /// Home directories whose `.kube/config` is refreshed if it is admin.conf, byte for byte.
    pub homes: Vec<PathBuf>,
    /// Files that are refreshed if they hold admin.conf's identity, whatever else is in them.
    pub copies: Vec<PathBuf>,
}

impl Default for Kubeconfigs {
    fn default() -> Self {
        Self { homes: vec!["/root".into()], copies: Vec::new() }
    }
}

/// Who makes new certificates.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renewer {
    /// kubeadm where it is installed, fits the cluster's version and can ask the API server; else certwarden itself.
    #[default]
    Auto,
    /// `kubeadm certs renew` in a private copy of the node's files, or nobody.
    Kubeadm,
    /// certwarden signs with the CA key on the disk. Always used under `--root`.
    Local,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// Time left at which the kubelet's own rotation is taken to have failed (it rotates at 70–90 % of life).
    pub renew_before: Threshold,
    /// How long a renewal waits for the answer to a certificate signing request. The controller manager approves and signs
    /// within a second; a person does not, and is looked for again at the next check.
    pub request_timeout: Span,
}

impl Default for Kubelet {
    fn default() -> Self {
        Self { renew_before: Threshold::Percent(10), request_timeout: Span::secs(60) }
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Activate {
    pub kubelet: ActivateKubelet,
    pub other_pods: OtherPods,
}

/// What is done with static pods that certwarden does not know and that mount a file which was renewed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherPods {
    /// Told in plan and report: whoever wrote the manifest knows whether it re-reads its files.
    #[default]
    Report,
    /// They get new containers, after the control plane and before the kubelet.
    Restart,
}

/// When a renewal ends with a restart of the kubelet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivateKubelet {
    /// After every renewal of something that a process of this node uses: a kubelet that cannot start again is found now,
    /// with somebody to roll back. What only people use (admin.conf, super-admin.conf) restarts nothing.
    #[default]
    Always,
    /// Only if something that the kubelet reads has changed.
    WhenNeeded,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verify {
    /// How long the node may take to prove itself before the transaction is rolled back.
    pub timeout: Span,
    /// How long a restarted unit must stay the same process. Longer than its `RestartSec` plus start-up.
    pub stability: Span,
}

impl Default for Verify {
    fn default() -> Self {
        Self { timeout: Span::secs(300), stability: Span::secs(30) }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gates {
    pub clock_synchronised: Requirement,
    /// Free space that the state directory and every target directory must have, in MiB.
    pub free_mib: u64,
    /// Users besides root (names or ids) that may own a directory on the way to a certificate.
    pub trusted_owners: Vec<String>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { clock_synchronised: Requirement::Require, free_mib: 16, trusted_owners: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    Require,
    Ignore,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exec {
    /// Time limit of one `kubeadm certs renew NAME`.
    pub kubeadm_timeout: Span,
}

impl Default for Exec {
    fn default() -> Self {
        Self { kubeadm_timeout: Span::secs(120) }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct State {
    /// Closed transactions, with their backups, that are kept.
    pub generations: usize,
    /// Backups of these that are older are removed.
    pub max_age: Span,
}

impl Default for State {
    fn default() -> Self {
        Self { generations: 5, max_age: Span::days(90) }
    }
}

/// Who may have a serving certificate without a person looking at it (`model::approve`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approver {
    /// On control planes only, and only by the daemon.
    pub enabled: bool,
    /// Whose rights it uses.
    pub kubeconfig: PathBuf,
    /// How often it looks for requests.
    pub interval: Span,
    /// Requests of one node that are approved within an hour.
    pub per_hour: usize,
    /// DNS names that a node may have besides its own; `{node}` stands for that.
    pub names: Vec<String>,
    /// Networks (`10.0.0.0/24`) that every address must be in, and that vouch for it; empty: the kubelet itself must be seen there.
    pub networks: Vec<Network>,
    /// The longest life that a request may ask for.
    pub longest: Span,
}

impl Default for Approver {
    fn default() -> Self {
        Self {
            enabled: false,
            kubeconfig: "/etc/kubernetes/admin.conf".into(),
            // a kubelet looks for its certificate by a watch, and `kubectl logs` fails until then
            interval: Span::secs(15),
            // a kubelet asks anew at each start
            per_hour: 6,
            names: Vec::new(),
            networks: Vec::new(),
            longest: Span::days(366),
        }
    }
}
