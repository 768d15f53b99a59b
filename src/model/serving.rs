//! The kubelet's serving certificate where the cluster signs it (`serverTLSBootstrap`): the kubelet asks for it itself and goes
//! on asking for as long as nobody approves. certwarden asks only where that has come to nothing.

use jiff::Timestamp;

use super::csr::Kind;
use super::finding::Problem;
use super::identity::sound;
use super::inventory::on_disk::Config;
use super::inventory::{Content, Entry, Inventory, Owner};
use super::policy::DueBefore;
use super::repair::{CLIENT, Repair, Way, With, threshold};

/// Logical name of the kubelet's serving credential.
pub const SERVING: &str = "kubelet-serving";

/// What is to be asked for. None: it is well, the kubelet has time yet, or there is nothing to ask with.
pub fn choose(inventory: &Inventory, due: &DueBefore, now: Timestamp) -> Option<Repair> {
    let kubeadms = inventory.node.distribution.is_none();
    let entry = inventory.get(SERVING).filter(|e| e.owner == Owner::Kubelet && kubeadms)?;
    let (reason, until) = trouble(entry, due, now)?;
    let ways = vec![request(inventory, now)?];
    // its pods run on, whoever asks for their logs: no gate gives way for it
    Some(Repair { ways, reference: false, urgent: false, reason, until })
}

/// With the node's own credential: nobody else may ask in its name (kubernetes:
/// `plugin/pkg/admission/noderestriction/admission.go:admitCSR`).
fn request(inventory: &Inventory, now: Timestamp) -> Option<Way> {
    let disk = &inventory.node.kubelet.identity;
    let Content::Readable(own) = &inventory.get(CLIENT)?.content else { return None };
    let valid = own.chain.first().is_some_and(|l| l.not_before <= now && l.not_after > now) && sound(own);
    let server = disk.server.clone().filter(|_| valid && disk.config == Config::Current)?;
    Some(Way::Request { with: With::Own { file: disk.current.clone() }, server })
}

/// Why another is wanted, and when the present one ends.
fn trouble(entry: &Entry, due: &DueBefore, now: Timestamp) -> Option<(String, Option<Timestamp>)> {
    let broken = |finding: &super::finding::Finding| Some((finding.message.clone(), None));
    let credential = match &entry.content {
        Content::Absent => return None,
        Content::Unusable(finding) => return broken(finding),
        Content::Readable(credential) => credential,
    };
    let breaks = |id| matches!(id, Problem::KeyMismatch | Problem::WrongIssuer | Problem::WrongIdentity);
    let file = |id| matches!(id, Problem::Missing | Problem::Unreadable | Problem::Malformed | Problem::Empty);
    if let Some(finding) = credential.findings.iter().find(|f| breaks(f.id) || file(f.id)) {
        return broken(finding);
    }
    let leaf = credential.chain.first()?;
    let late = leaf.not_before <= now && leaf.seconds_left(now) <= threshold(entry, leaf, due);
    late.then(|| ("the kubelet should have rotated it by now".to_owned(), Some(leaf.not_after)))
}

/// Which of a kubelet's certificates an entry is.
pub fn kind(entry: &str) -> Kind {
    if entry == SERVING { Kind::Serving } else { Kind::Client }
}
