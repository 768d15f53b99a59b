//! The plan: ordered steps with their reasons, and no choice left. `certwarden plan` prints it,
//! `certwarden renew` carries out exactly it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component::Component;
use super::consumer::{DYNAMIC, OtherUse, Uptake};
use super::inventory::{ContainerRef, Copy, Form, Owner};
use super::repair::Way;

pub const SCHEMA: &str = "certwarden.plan/v1";

/// What will be done, in order.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    pub schema: String,
    pub created_at: Timestamp,
    /// Kubernetes node name, if known.
    pub node: Option<String>,
    pub source: Source,
    /// Why it is made by that: a clause. Empty in plans written before there was a choice.
    #[serde(default)]
    pub source_reason: String,
    /// What is renewed. Empty: nothing is due, and there are no steps.
    pub items: Vec<Item>,
    pub steps: Vec<PlannedStep>,
    /// Less than `emergency-before` is left on something, or it has expired: soft gates give way.
    pub emergency: bool,
    /// What is not renewed, with the reason and the remedy: what was asked for and cannot be had, and everything else that
    /// is due or broken.
    pub skipped: Vec<Skipped>,
    /// What is due and works, and `renew.exclude` names it.
    #[serde(default)]
    pub excluded: Vec<String>,
    /// Half of it is not what was asked for: an item that turns out not to be had takes the others with it.
    #[serde(skip)]
    pub whole: bool,
    /// Static pods besides the components that see what changes; restarted only where a step says so.
    #[serde(default)]
    pub others: Vec<OtherUse>,
    /// What is renewed after this, in a transaction of its own that has a way back, unless this one leaves the node in
    /// doubt. Not in the `plan.json` of a transaction, which is about one.
    #[serde(skip)]
    pub then: Option<Box<Plan>>,
}

impl Plan {
    /// This plan and what follows it: one transaction each.
    pub fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |part| part.then.as_deref())
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What is due or broken and stays as it is.
    pub fn left_out(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.iter().filter(|s| s.due)
    }

    /// Whether a static pod that is none of the components gets a new container.
    pub fn restarts(&self, other: &ContainerRef) -> bool {
        self.steps.iter().any(|s| matches!(&s.step, Step::ActivateOther { container } if container == other))
    }

    /// Whether a component gets a new container.
    pub fn makes_new(&self, wanted: Component) -> bool {
        let new = |how: &Activation| matches!(how, Activation::NewContainer { .. });
        self.steps
            .iter()
            .any(|s| matches!(&s.step, Step::Activate { component, how } if *component == wanted && new(how)))
    }

    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.names().any(|n| n == name))
    }
}

/// The source of a plan, and why it is that one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Maker {
    pub source: Source,
    /// A clause.
    pub why: String,
}

/// Where the new files come from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Source {
    /// `kubeadm certs renew NAME` in a private copy.
    Kubeadm,
    /// Signed by certwarden with the CA key on the disk.
    Local,
    /// Issued by a CA that is made for it and whose key is thrown away.
    SelfMade,
    /// The kubelet's own, by the first of these ways that works.
    Identity { ways: Vec<Way> },
    /// The backup of an earlier transaction (`certwarden rollback`).
    Generation { transaction: String },
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kubeadm => f.write_str("kubeadm"),
            Self::Local => f.write_str("the CA key on this disk"),
            Self::SelfMade => f.write_str("a CA of its own, whose key is thrown away"),
            Self::Identity { ways } if ways.is_empty() => f.write_str("the identity that is there"),
            Self::Identity { ways } => {
                let all: Vec<String> = ways.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", else "))
            }
            Self::Generation { transaction } => write!(f, "the backup of transaction {transaction}"),
        }
    }
}

/// One credential that will be replaced.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Item {
    pub name: String,
    pub form: Form,
    /// Whose job it is: kubeadm refuses what is not its own, whatever the plan's source.
    #[serde(default = "kubeadms")]
    pub owner: Owner,
    /// Logical name of the issuing CA and the file that holds its certificates.
    pub signer: String,
    pub ca: PathBuf,
    pub ca_key: PathBuf,
    /// The bundle by which those verify it who it is made for, where that is not `ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    pub old_serial: Option<String>,
    pub old_not_after: Option<Timestamp>,
    pub reason: String,
    /// As whom the kubelet's identity must be issued; None for what copies its predecessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Logical names of further entries that are the very same files by other paths: renewed with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

impl Item {
    /// Issued by a CA that lies in its own file and whose key nobody has.
    pub fn is_self_made(&self) -> bool {
        self.ca == self.form.path()
    }

    /// All logical names of these files.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.also)
    }
}

/// Plans written before there was a field for it are kubeadm's.
fn kubeadms() -> Owner {
    Owner::Kubeadm
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Skipped {
    pub name: String,
    pub reason: String,
    /// What somebody elsewhere has to make: subject, names, usages, and where it goes.
    #[serde(default)]
    pub needed: Option<String>,
    /// It was asked for, so that the rest is not done without it: half of what was asked for is not what was asked for.
    #[serde(default)]
    pub blocks: bool,
    /// It is due or broken: to leave it out is told by the exit code.
    #[serde(default)]
    pub due: bool,
}

impl Skipped {
    /// Something that should have been renewed.
    pub fn due(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into(), needed: None, blocks: false, due: true }
    }
}

/// A step and why it is in the plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlannedStep {
    #[serde(flatten)]
    pub step: Step,
    pub reason: String,
}

/// One step. Data only: `txn::forward` and `txn::unwind` know how each is done and undone.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// Copy the live files with all their attributes into the transaction.
    Backup { files: Vec<PathBuf> },
    /// Make the new files in the transaction's staging directory.
    Stage { names: Vec<String> },
    /// Compare each staged credential with what it replaces and with its CA.
    Validate { names: Vec<String> },
    /// Prove a staged credential before it is live.
    Rehearse { name: String, proof: Proof },
    /// Put all new files in place.
    Commit { files: Vec<PathBuf> },
    /// Bring a component to use the new files.
    Activate { component: Component, how: Activation },
    /// Have a new container made of a static pod that is none of the components (`activate.other-pods`).
    ActivateOther { container: ContainerRef },
    /// Prove by use.
    Verify { check: Check },
    /// Bring copies of a kubeconfig, people's own, to what it holds now. What cannot be refreshed is told.
    Refresh { original: PathBuf, copies: Vec<Copy> },
}

impl Step {
    /// The step's name, as it is written in JSON.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Stage { .. } => "stage",
            Self::Validate { .. } => "validate",
            Self::Rehearse { .. } => "rehearse",
            Self::Commit { .. } => "commit",
            Self::Activate { .. } => "activate",
            Self::ActivateOther { .. } => "activate-other",
            Self::Verify { .. } => "verify",
            Self::Refresh { .. } => "refresh",
        }
    }

    /// What its time is counted under: its name, and what it brings to use.
    pub fn account(&self) -> String {
        match self {
            Self::Activate { component, .. } => format!("{} {component}", self.id()),
            _ => self.id().to_owned(),
        }
    }

    /// Whether live files or processes may differ once this step has begun.
    pub fn changes_node(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Activate { .. } | Self::ActivateOther { .. } | Self::Refresh { .. })
    }
}

/// How a component is brought to use new files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Activation {
    /// Measure the sockets; make a new container only if one does not serve the new leaf in time. Its health is then
    /// asked at `health` (a URL), if known.
    ReloadOrRestart {
        uptake: Uptake,
        sockets: Vec<Socket>,
        #[serde(default)]
        health: Option<String>,
    },
    /// Stop the container through the CRI; the kubelet makes a new one. Health is asked at `health` (a URL), if known.
    NewContainer { health: Option<String> },
    /// Restart the systemd unit and see it stable.
    RestartUnit { unit: String },
}

impl Activation {
    /// Whether the component may read its files again only after a minute, which can pass while others start.
    pub fn may_take_a_minute(&self) -> bool {
        matches!(self, Self::ReloadOrRestart { uptake, .. } if *uptake == DYNAMIC)
    }
}

/// A listening socket and the entry whose leaf it must serve.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Socket {
    pub component: Component,
    /// `host:port`, IPv6 in brackets.
    pub address: String,
    /// Logical name of the entry.
    pub entry: String,
    /// The host name that a client asks for by TLS (SNI); None: it asks for the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// What a credential can be proven against.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "against")]
pub enum Proof {
    /// The API server at `server` (a URL) must say that we are `user`.
    ApiServer { server: String, ca: PathBuf, user: String },
    /// The API server must accept an identity that this front-proxy client asserts.
    FrontProxy { server: String, ca: PathBuf },
    /// etcd at `endpoint` (a URL) must answer a health request.
    Etcd { endpoint: String, ca: PathBuf },
    /// The kubelet's API at `address` (`host:port`) must accept us.
    Kubelet { address: String },
    /// A TLS handshake in memory, by each of the `names` that clients dial, with the bundle `ca` that clients hold.
    Handshake { ca: PathBuf, names: Vec<String> },
}

impl Proof {
    /// For tables: what it is proven against.
    pub fn describe(&self) -> String {
        match self {
            Self::ApiServer { server, user, .. } => format!("API server {server} as {user}"),
            Self::FrontProxy { server, .. } => format!("API server {server} as authenticating proxy"),
            Self::Etcd { endpoint, .. } => format!("etcd {endpoint}"),
            Self::Kubelet { address } => format!("kubelet API {address}"),
            Self::Handshake { names, .. } => format!("TLS handshake as {}", names.join(", ")),
        }
    }
}

/// One thing that must hold at the end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "check")]
pub enum Check {
    /// The socket serves the leaf that is on the disk.
    Served(Socket),
    /// The URL answers 200.
    Health { component: Component, url: String },
    /// etcd has as many members as before, and a quorum of them is well.
    EtcdMembers { endpoint: String },
    /// The credential on the disk is accepted.
    Credential { name: String, proof: Proof },
    /// What the API server gets from aggregated API servers it still gets, now with the new front-proxy client.
    Aggregated { name: String },
    /// The node's lease advances and Ready is True by a heartbeat newer than the restart; "no worse" if it was not Ready before.
    NodeReady { node: String },
}
