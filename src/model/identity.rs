//! The kubelet's own credential as it lies on the disk: link, dated file behind it, and the kubeconfig that names them
//! (client-go: `util/certificate/certificate_store.go`). The entries of the inventory say what is in them.

use std::path::PathBuf;

use jiff::Timestamp;

use super::finding::{Finding, Problem};
use super::inventory::{Content, Credential};
pub use super::on_disk::{Config, Good, Lies, OnDisk};

/// The link that the kubelet keeps, in its directory of certificates.
pub const CURRENT: &str = "kubelet-client-current.pem";
/// The link that it makes on the way to a new one. A plain file of this name stops its rotation for good.
pub const UPDATED: &str = "kubelet-client-updated.pem";
/// What the node authorizer takes a node by (kubernetes: `pkg/auth/nodeidentifier/default.go`).
pub const USER: &str = "system:node:";
pub const GROUP: &str = "system:nodes";

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
