//! The approver's decision: whether a request for a kubelet's serving certificate is what this node's kubelet would file.
//!
//! Everything must hold, and what nobody thought of is refused. A signer copies from a request whatever it understands
//! (kubernetes: `pkg/controller/certificates/signer/signer.go:sign`), so that nothing is passed over.

mod filed;
mod names;

use jiff::Timestamp;

use super::addresses::Addresses;
use super::asked::Asked;
use super::csr::{SERVING_SIGNER, Stage};
use super::identity::{GROUP, USER};
use super::plain;
use super::policy::Approver;
pub use filed::{decided, filed};
use names::objection;

/// A node's kubelet files its request before the API has its newest addresses (kubernetes:
/// `pkg/kubelet/kubelet_node_status.go:setNodeStatus` keeps them, then sends them): what does not fit yet may fit soon.
const SETTLES: i64 = 60;
/// Within which its node must exist: kubelets register first.
const REGISTERS: i64 = 300;

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

/// What is known besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// None: there is no such Node.
    pub node: Option<&'a Addresses>,
    /// Of every other Node.
    pub others: &'a Addresses,
    /// It is signed with the key that it names.
    pub signed: bool,
    /// Serving requests of this node that were approved within the last hour.
    pub approved: usize,
    pub now: Timestamp,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    Approve,
    /// With the reason, a clause.
    Deny(String),
    /// Looked at again: what it is about may not have come to be known yet.
    Wait(String),
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
    let Some(own) = known.node else {
        let why = format!("there is no Node {node}");
        return if young(REGISTERS) { Decision::Wait(why) } else { Decision::Deny(why) };
    };
    if let Some(why) = asked.sans.iter().find_map(|san| objection(san, node, own, known.others, rules)) {
        return if young(SETTLES) { Decision::Wait(why) } else { Decision::Deny(why) };
    }
    if known.approved >= rules.per_hour {
        return Decision::Deny(format!("{} requests of {node} were approved within the hour already", known.approved));
    }
    Decision::Approve
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
