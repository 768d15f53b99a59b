//! Names of this node that the cluster's CA has issued an identity for.

use super::{Scene, has_finding};
use crate::model::finding::Problem;
use crate::model::identity::{GROUP, USER};
use crate::model::inventory::Content;

/// A name that the cluster's CA has issued an identity for.
pub(super) struct Issued {
    pub(super) name: String,
    /// It is within its dates.
    pub(super) valid: bool,
}

impl Issued {
    /// The node that a credential is for, if the cluster's CA issued it.
    pub(super) fn of(content: &Content, scene: &Scene<'_>) -> Option<Self> {
        let Content::Readable(credential) = content else { return None };
        let leaf = credential.chain.first()?;
        let name = leaf.common_name.as_deref()?.strip_prefix(USER).filter(|n| !n.is_empty())?;
        let ours = leaf.organizations.contains(GROUP) && !has_finding(content, Problem::WrongIssuer);
        let valid = leaf.not_before <= scene.now && leaf.not_after > scene.now;
        ours.then(|| Self { name: name.to_owned(), valid })
    }
}
