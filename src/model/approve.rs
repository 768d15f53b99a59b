//! The approver's decision: whether a request for a kubelet's serving certificate is what this node's kubelet would file.
//!
//! Everything must hold, and what nobody thought of is refused. A signer copies from a request whatever it understands
//! (kubernetes: `pkg/controller/certificates/signer/signer.go:sign`), so that nothing is passed over.
//!
//! What is a forgery for certain is denied. What cannot be told, because two nodes say the same of themselves or because nobody
//! but the node itself says it, is left to a person: else one node could get another's requests denied.

pub mod cluster;
mod filed;
mod ips;
mod names;
pub mod neighbours;
pub mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use super::asked::Asked;
use super::csr::{SERVING_SIGNER, Stage};
use super::identity::{GROUP, USER};
use super::plain;
use super::policy::Approver;
use cluster::Cluster;
pub use filed::{decided, filed};
use names::objection;
use neighbours::Neighbours;

/// A node's kubelet files its request before the API has its newest addresses (kubernetes:
/// `pkg/kubelet/kubelet_node_status.go:setNodeStatus` keeps them, then sends them): what does not fit yet may fit soon.
const SETTLES: i64 = 60;
/// Within which its node must exist: kubelets register first.
const REGISTERS: i64 = 300;
/// Names and addresses in one request: each may have to be looked for.
const MOST_SANS: usize = 32;

/// A request as the API server has it.
#[derive(Clone, Debug)]
pub struct Filed {
    pub name: String,
    pub signer: String,
    /// Who filed it, as the API server authenticated him.
    pub username: String,
    pub groups: Vec<String>,
    pub usages: Vec<String>,
    /// Life that is asked for.
    pub expiration_seconds: Option<i64>,
    pub created: Option<Timestamp>,
    pub stage: Stage,
    /// What is asked for, or why it cannot be told.
    pub asked: Result<Asked, String>,
}

impl Filed {
    /// The node whose kubelet filed it, by the name that the API server authenticated.
    pub fn node(&self) -> Option<&str> {
        self.username.strip_prefix(USER).filter(|node| !node.is_empty())
    }

    /// Whether somebody has to decide.
    pub fn is_open(&self) -> bool {
        self.signer == SERVING_SIGNER && self.stage == Stage::Pending
    }
}

/// The control plane that decides, as it knows itself.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Its own Node; None: it cannot be told for certain.
    pub node: Option<&'a str>,
    /// Which of the addresses in question are on its own interfaces.
    pub local: &'a BTreeSet<IpAddr>,
}

/// What is known besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub neighbours: &'a Neighbours,
    pub cluster: &'a Cluster,
    pub here: Here<'a>,
    /// Whether this node's kubelet answered at an address, where that was tried.
    pub answered: &'a BTreeMap<IpAddr, bool>,
    /// It is signed with the key that it names.
    pub signed: bool,
    /// Serving requests of this node that were approved within the last hour.
    pub approved: usize,
    pub now: Timestamp,
}

impl Known<'_> {
    /// Whether this node is a control plane by a word other than its own.
    fn is_control_plane(&self, node: &str) -> bool {
        self.here.node == Some(node) || self.neighbours.get(node).is_some_and(|n| n.control_plane)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    Approve,
    /// With the reason, a clause.
    Deny(String),
    /// Looked at again: what it is about may not have come to be known yet.
    Wait(String),
    /// Left to a person, with the reason, a clause.
    Undecided(String),
    /// It is to be seen whether this node's kubelet answers at these addresses; then decide again.
    Ask(Vec<IpAddr>),
}

/// Why a node may not have a name or an address.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Objection {
    /// It never can be the node's.
    Forged(String),
    /// Not even the node's own status has it, perhaps not yet.
    Unknown(String),
    /// Nobody can tell whose it is.
    Unclear(String),
    /// Only the node itself says so.
    Unproven(IpAddr),
}

/// Decides. Call it for [open](Filed::is_open) requests only.
pub fn decide(filed: &Filed, known: Known<'_>, rules: &Approver) -> Decision {
    let (Some(node), true) = (filed.node(), filed.groups.iter().any(|g| g == GROUP)) else {
        return Decision::Deny(format!("it was filed by {}, which is no node", short(&filed.username)));
    };
    let asked = match &filed.asked {
        Ok(asked) => asked,
        Err(why) => return Decision::Deny(why.clone()),
    };
    if let Some(why) = form(filed, asked, known.signed, rules) {
        return Decision::Deny(why);
    }
    let age = filed.created.map(|at| known.now.as_second().saturating_sub(at.as_second()));
    let young = |limit| age.is_none_or(|age| age < limit);
    let Some(own) = known.neighbours.get(node) else {
        return match format!("there is no Node {node}") {
            why if young(REGISTERS) => Decision::Wait(why),
            why if known.neighbours.is_complete() => Decision::Deny(why),
            why => Decision::Undecided(format!("{why}, or it is too large to be read")),
        };
    };
    let all: Vec<Objection> = asked.sans.iter().filter_map(|san| objection(san, node, own, &known, rules)).collect();
    match worst(&all, young(SETTLES)) {
        Some(decision) => decision,
        None if known.approved >= rules.per_hour => {
            Decision::Deny(format!("{} requests of {node} were approved within the hour already", known.approved))
        }
        None => proven(&all, node, known, young(SETTLES)),
    }
}

/// What the gravest objection leads to; None: there is none but that something is to be proven.
fn worst(all: &[Objection], young: bool) -> Option<Decision> {
    let first = |of: fn(&Objection) -> Option<&String>| all.iter().find_map(of).cloned();
    if let Some(why) = first(|o| if let Objection::Forged(why) = o { Some(why) } else { None }) {
        return Some(Decision::Deny(why));
    }
    if let Some(why) = first(|o| if let Objection::Unknown(why) = o { Some(why) } else { None }) {
        return Some(if young { Decision::Wait(why) } else { Decision::Deny(why) });
    }
    let why = first(|o| if let Objection::Unclear(why) = o { Some(why) } else { None })?;
    Some(if young { Decision::Wait(why) } else { Decision::Undecided(why) })
}

/// Every address that is to be proven must be the kubelet's by its own certificate, which is shown there.
fn proven(all: &[Objection], node: &str, known: Known<'_>, young: bool) -> Decision {
    let needed = || all.iter().filter_map(|o| if let Objection::Unproven(ip) = o { Some(*ip) } else { None });
    if let Some(ip) = needed().find(|ip| known.answered.get(ip) == Some(&false)) {
        let why = format!(
            "{ip} is claimed by the Node {node} alone: no kubelet answers there with its certificate, and no network in \
             approver.networks vouches for it"
        );
        return if young { Decision::Wait(why) } else { Decision::Undecided(why) };
    }
    let open: Vec<IpAddr> = needed().filter(|ip| !known.answered.contains_key(ip)).collect();
    if open.is_empty() { Decision::Approve } else { Decision::Ask(open) }
}

/// What is wrong with the request itself, whatever its names are.
fn form(filed: &Filed, asked: &Asked, signed: bool, rules: &Approver) -> Option<String> {
    if !signed {
        return Some("it is not signed with the key that it names".to_owned());
    }
    if asked.common_names != [filed.username.as_str()] || asked.organizations != [GROUP] || asked.other_parts > 0 {
        return Some(format!("its subject is `{}`, not O={GROUP}, CN={}", short(&asked.subject), filed.username));
    }
    if !usages_fit(&filed.usages) {
        let usages = short(&filed.usages.join(", "));
        return Some(format!("its usages are {usages}, not digital signature, server auth (and key encipherment)"));
    }
    if asked.key.strength() < 112 {
        return Some(format!("its key is too weak or of a kind that is not known: {}", asked.key));
    }
    if !asked.besides.is_empty() {
        return Some(format!("it asks for more than names: {}", short(&asked.besides.join(", "))));
    }
    let longest = rules.longest.seconds();
    if let Some(seconds) = filed.expiration_seconds.filter(|s| *s > longest) {
        return Some(format!("it asks for {seconds} s of life, and approver.longest is {}", rules.longest));
    }
    if asked.sans.len() > MOST_SANS {
        return Some(format!("it asks for {} names and addresses", asked.sans.len()));
    }
    // kubernetes: `pkg/apis/certificates/helpers.go:ValidateKubeletServingCSR`
    asked.sans.is_empty().then(|| "it asks for no name and no address".to_owned())
}

/// kubernetes: `pkg/apis/certificates/helpers.go:kubeletServingRequiredUsages`, `kubeletServingRequiredUsagesNoRSA`.
fn usages_fit(usages: &[String]) -> bool {
    let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    matches!(
        sorted.as_slice(),
        ["digital signature", "server auth"] | ["digital signature", "key encipherment", "server auth"]
    )
}

/// What somebody else wrote, fit to be printed.
fn short(text: &str) -> String {
    plain::line(text, plain::CLAUSE)
}

#[cfg(test)]
mod tests;
