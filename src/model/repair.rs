//! The kubelet's identity when it is broken or late: which way back, of those that are open on this node.
//!
//! A kubelet that rotates by itself is left alone until it is late; what is broken for good is repaired at once. The order:
//! a good file that is here already, a request with what still authenticates, a request with a bootstrap token, the CA's
//! key where it is on this node, and else the exact words for the operator.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cert::CertFacts;
use super::finding::Problem;
use super::identity::{USER, breaks, sound};
use super::inventory::on_disk::{Config, Good, OnDisk};
use super::inventory::{Content, Entry, Inventory, Owner};
use super::policy::DueBefore;

/// Logical name of the kubelet's client credential.
pub const CLIENT: &str = "kubelet-client";
/// Logical name of the kubeconfig that names it.
pub const CONFIG: &str = "kubelet.conf";

/// Where a new identity comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Way {
    /// A file of this node that is good.
    Adopt {
        file: PathBuf,
        /// In a kubeconfig.
        embedded: bool,
    },
    /// A certificate signing request, filed with this credential.
    Request { with: With, server: String },
    /// The CA's key is on this node.
    Sign,
}

/// What a request is filed with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum With {
    /// The node's own, from a PEM file.
    Own { file: PathBuf },
    /// A bootstrap token, from a kubeconfig.
    Bootstrap { config: PathBuf },
}

impl Way {
    /// Whether somebody signs, and not a file that is here is used.
    fn is_new(&self) -> bool {
        !matches!(self, Self::Adopt { .. })
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Adopt { file, .. } => write!(f, "the good identity in {}", file.display()),
            Self::Request { with: With::Own { .. }, .. } => {
                f.write_str("a certificate signing request with the node's own credential")
            }
            Self::Request { with: With::Bootstrap { config }, .. } => {
                write!(f, "a certificate signing request with the token in {}", config.display())
            }
            Self::Sign => f.write_str("the CA key on this disk"),
        }
    }
}

/// What is to become of the kubelet's identity.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "choice")]
pub enum Choice {
    /// It is well, or nobody's business.
    #[default]
    Nothing,
    Repair(Repair),
    /// Nothing on this node leads back.
    Operator {
        reason: String,
        remedy: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Repair {
    /// A new dated file with the link to it, by the first of these that works; empty: the present one is good.
    pub ways: Vec<Way>,
    /// The kubeconfig is to name the link.
    pub reference: bool,
    /// The kubelet cannot start, or will not be able to soon.
    pub urgent: bool,
    /// Why: a clause.
    pub reason: String,
    /// When what is there now ends, if it can be used at all.
    pub until: Option<Timestamp>,
}

/// The choice. Pure: by what is on the disk.
pub fn choose(inventory: &Inventory, threshold: &DueBefore, now: Timestamp) -> Choice {
    let disk = &inventory.node.kubelet.identity;
    let Some(entry) = inventory.get(CLIENT).filter(|_| !disk.current.as_os_str().is_empty()) else {
        return Choice::Nothing;
    };
    let present = Present { inventory, disk, entry, now };
    if inventory.node.distribution.is_some() || present.as_somebody_set_it_up() || disk.config == Config::Other {
        return Choice::Nothing;
    }
    if entry.leaf().is_some_and(|l| l.not_before > now) {
        return Choice::Nothing; // it is the clock that wants repair
    }
    // where the CA itself was made anew, whose the node is to be is a person's decision, for all leaves alike
    let others = inventory.entries.iter().filter(|e| e.name != CLIENT && e.name != CONFIG && e.signer == entry.signer);
    if has(entry, Problem::WrongIssuer) && others.into_iter().any(|e| has(e, Problem::WrongIssuer)) {
        return Choice::Nothing;
    }
    let reference = disk.config != Config::Current;
    present.in_whose_name(match (present.leaf(), present.trouble()) {
        (Some(leaf), None) => {
            let late = late(entry, leaf, threshold, now);
            if late.is_none() && !reference {
                return Choice::Nothing;
            }
            let ways = if let Some(late) = late { present.renewal(late.urgent) } else { Vec::new() };
            let urgent = late.is_some_and(|l| l.urgent);
            let reason = late.map_or_else(|| present.about_config(), |l| l.reason.to_owned());
            present.finish(Repair { ways, reference, urgent, reason, until: Some(leaf.not_after) }, late.is_some())
        }
        (_, trouble) => {
            let until = present.leaf().map(|l| l.not_after);
            let reason = trouble.unwrap_or_else(|| present.about_config());
            present.finish(Repair { ways: present.back(), reference, urgent: until.is_none(), reason, until }, true)
        }
    })
}

/// A new one although the present one is good and not late: where the kubelet does not rotate it, nobody is raced.
pub fn on_request(inventory: &Inventory) -> Option<Repair> {
    let disk = &inventory.node.kubelet.identity;
    let kubeadms = inventory.node.distribution.is_none();
    let entry = inventory.get(CLIENT).filter(|e| kubeadms && off(e) && disk.config == Config::Current)?;
    let present = Present { inventory, disk, entry, now: inventory.collected_at };
    let until = Some(present.leaf()?.not_after);
    let ways = present.renewal(true);
    let reason = "asked for by name".to_owned();
    (!ways.is_empty()).then_some(Repair { ways, reference: false, urgent: false, reason, until })
}

#[derive(Clone, Copy)]
struct Late {
    urgent: bool,
    reason: &'static str,
}

/// Seconds left from which on certwarden takes the kubelet's rotation in hand.
pub fn threshold(entry: &Entry, leaf: &CertFacts, due: &DueBefore) -> i64 {
    let life = leaf.not_after.as_second().saturating_sub(leaf.not_before.as_second()).max(0);
    if off(entry) {
        // as the kubelet would, and not before: such a certificate may live for an hour in all
        due.renew_before.seconds().min(life / 100 * 30)
    } else {
        due.kubelet.seconds(life)
    }
}

fn off(entry: &Entry) -> bool {
    has(entry, Problem::RotationOff)
}

fn late(entry: &Entry, leaf: &CertFacts, due: &DueBefore, now: Timestamp) -> Option<Late> {
    let (left, threshold) = (leaf.seconds_left(now), threshold(entry, leaf, due));
    let reason = if off(entry) {
        "it ends soon, and the kubelet does not rotate it"
    } else {
        "the kubelet should have rotated it by now"
    };
    let urgent = left <= due.emergency_before.seconds().min(threshold / 2);
    (left <= threshold).then_some(Late { urgent, reason })
}

fn has(entry: &Entry, problem: Problem) -> bool {
    matches!(&entry.content, Content::Readable(c) if c.findings.iter().any(|f| f.id == problem))
}

#[derive(Clone, Copy)]
struct Present<'a> {
    inventory: &'a Inventory,
    disk: &'a OnDisk,
    entry: &'a Entry,
    now: Timestamp,
}

impl Present<'_> {
    /// The kubeconfig names other files than the link, and they are well: somebody looks after them.
    fn as_somebody_set_it_up(&self) -> bool {
        matches!(self.disk.config, Config::Elsewhere { there: true, .. }) && self.leaf().is_some()
    }

    /// The leaf of an identity that the kubelet can log in with, wherever it lies.
    fn leaf(&self) -> Option<&CertFacts> {
        let Content::Readable(c) = &self.entry.content else { return None };
        c.chain.first().filter(|l| sound(c) && l.not_before <= self.now && l.not_after > self.now)
    }

    /// What is wrong with the identity or with how it lies there, beyond its age.
    fn trouble(&self) -> Option<String> {
        match &self.entry.content {
            Content::Absent => Some(format!("{} does not exist", self.disk.current.display())),
            Content::Unusable(finding) => Some(finding.message.clone()),
            Content::Readable(c) => match c.findings.iter().find(|f| breaks(f)) {
                Some(finding) => Some(finding.message.clone()),
                None if self.leaf().is_none() => {
                    let leaf = c.chain.first()?;
                    Some(format!("it is valid from {} to {} only", leaf.not_before, leaf.not_after))
                }
                None => None,
            },
        }
    }

    fn about_config(&self) -> String {
        let config = self.inventory.get(CONFIG).map(|e| &e.content);
        match config {
            Some(Content::Unusable(finding)) => finding.message.clone(),
            Some(Content::Readable(c)) => {
                let found = c.findings.iter().find(|f| f.id == Problem::EmbeddedIdentity);
                found.map(|f| f.message.clone()).unwrap_or_default()
            }
            _ => "the kubelet's kubeconfig does not name its link".to_owned(),
        }
    }

    /// While the present identity is good. With the CA's key only when time runs out: whoever does not approve a request
    /// may have a reason.
    fn renewal(&self, urgent: bool) -> Vec<Way> {
        let with = With::Own { file: self.disk.current.clone() };
        let request = self.disk.server.clone().map(|server| Way::Request { with, server });
        request.into_iter().chain(self.signing().filter(|_| urgent)).collect()
    }

    /// Where there is none.
    fn back(&self) -> Vec<Way> {
        if let Some(Good { file, embedded, .. }) = self.disk.good.first() {
            return vec![Way::Adopt { file: file.clone(), embedded: *embedded }];
        }
        let request = |config: &PathBuf| {
            let with = With::Bootstrap { config: config.clone() };
            Some(Way::Request { with, server: self.disk.server.clone()? })
        };
        self.disk.bootstrap.as_ref().and_then(request).into_iter().chain(self.signing()).collect()
    }

    fn signing(&self) -> Option<Way> {
        let ca = self.inventory.get("ca")?;
        let well = matches!(&ca.content, Content::Readable(c) if !c.findings.iter().any(breaks));
        // on a worker its key is not expected, and nobody says that it is missing
        let here = ca.owner != Owner::External && self.disk.can_sign;
        let name = self.inventory.node.name.is_some();
        (well && here && name).then_some(Way::Sign)
    }

    /// A new identity is for the node's name: where that is in doubt it is a person who says it.
    fn in_whose_name(&self, choice: Choice) -> Choice {
        let Some(doubt) = &self.inventory.node.name_doubt else { return choice };
        let reason = match choice {
            Choice::Nothing => return choice,
            Choice::Repair(repair) if !repair.ways.iter().any(Way::is_new) => return Choice::Repair(repair),
            Choice::Repair(Repair { reason, .. }) | Choice::Operator { reason, .. } => reason,
        };
        Choice::Operator { reason: format!("{reason}; {}", doubt.reason), remedy: doubt.remedy.clone() }
    }

    fn finish(&self, repair: Repair, identity: bool) -> Choice {
        if identity && repair.ways.is_empty() {
            let reason = format!(
                "{}; and there is no good file of this node, no server or credential to ask for one, no bootstrap token, and no CA key",
                repair.reason
            );
            return Choice::Operator { reason, remedy: self.remedy() };
        }
        let nobody_to_ask = self.disk.server.is_none();
        if repair.reference && nobody_to_ask {
            let reason = format!("{}; and no kubeconfig on this node says where the API server is", repair.reason);
            return Choice::Operator { reason, remedy: self.remedy() };
        }
        Choice::Repair(repair)
    }

    /// What makes a kubeconfig with an identity in it, which certwarden then takes apart.
    fn remedy(&self) -> String {
        let node = self.inventory.node.name.as_deref().unwrap_or("NODE");
        let config = self.inventory.node.kubelet.kubeconfig.as_deref().map(|p| p.display().to_string());
        let config = config.unwrap_or_else(|| "/etc/kubernetes/kubelet.conf".to_owned());
        if self.signing().is_some() {
            return format!(
                "mv -f {config} {config}.old; kubeadm init phase kubeconfig kubelet --config FILE && certwarden renew {CLIENT}"
            );
        }
        format!(
            "on a control-plane node: kubectl -n kube-system get cm kubeadm-config -o jsonpath={{.data.ClusterConfiguration}} \
             > c.yaml && kubeadm kubeconfig user --config c.yaml --org system:nodes --client-name {USER}{node} | \
             ssh {node} 'umask 077; cat > {config}; certwarden renew {CLIENT}' (before 1.21: kubeadm alpha kubeconfig user)"
        )
    }
}

impl Repair {
    /// Whether an entry is replaced.
    pub fn touches(&self, name: &str) -> bool {
        match name {
            CLIENT => !self.ways.is_empty(),
            CONFIG => self.reference,
            _ => false,
        }
    }

    /// It needs nothing but the CA's key, so that it may go with what else is signed on this node.
    pub fn is_signing(&self) -> bool {
        self.ways.as_slice() == [Way::Sign]
    }
}
