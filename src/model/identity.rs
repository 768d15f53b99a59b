//! What makes a kubelet's own credential good: the names that it goes by, and which findings break it. How it lies on the disk
//! is part of the inventory ([`super::inventory::on_disk`]).

use std::path::PathBuf;

use jiff::Timestamp;

use super::cert::CertFacts;
use super::finding::{Finding, Problem};
use super::inventory::on_disk::Good;
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

/// The credential in `file`, if the kubelet can log in with it at `now`.
pub fn good(file: PathBuf, content: &Content, embedded: bool, now: Timestamp) -> Option<Good> {
    let Content::Readable(credential) = content else { return None };
    let leaf = credential.chain.first()?;
    let good = sound(credential) && leaf.not_before <= now && leaf.not_after > now;
    good.then_some(Good { file, not_after: leaf.not_after, embedded })
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
