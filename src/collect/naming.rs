//! What the node is called, and how far that is certain. What the cluster's CA has issued to this host outweighs what its
//! host name or a flag lets guess: a host that was renamed is still the node that the cluster knows, and to sign another
//! name would make another Node. A guess counts where nothing that was issued says otherwise.

use std::collections::BTreeSet;

use super::issued::Issued;
use super::{Scene, has_finding, host_name, node_identity};
use crate::model::finding::Problem;
use crate::model::inventory::{Entry, NameDoubt};

/// What the kubelet calls itself, as far as that can be told without what was issued.
enum Claim {
    /// `--hostname-override`.
    Flag(String),
    Host(String),
    /// Neither is known, or it is not what counts. A clause.
    Unknown(String),
}

impl Claim {
    fn of(scene: &Scene<'_>) -> Self {
        let kubelet = &scene.kubelet;
        match (&kubelet.hostname_override, &kubelet.doubt, host_name(scene.root)) {
            (Some(name), ..) => Self::Flag(name.clone()),
            (None, Some(doubt), _) => Self::Unknown(format!("the kubelet's command line is not known: {doubt}")),
            (None, None, _) if kubelet.named_by_cloud => Self::Unknown("a cloud provider names the node".to_owned()),
            (None, None, Some(name)) if name != "localhost" => Self::Host(name),
            (None, None, _) => Self::Unknown("this host has no name".to_owned()),
        }
    }

    /// Names of one host that differ in the domain only are not told apart: not everybody's `/etc/hostname` is what the
    /// kernel says.
    fn agrees(&self, name: &str) -> bool {
        match self {
            Self::Flag(own) => own == name,
            Self::Host(own) => first_label(own) == first_label(name),
            Self::Unknown(_) => true,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Flag(own) | Self::Host(own) => Some(own),
            Self::Unknown(_) => None,
        }
    }
}

fn first_label(name: &str) -> Option<&str> {
    name.split('.').next()
}

/// The node's name, and why nobody may sign for it where that is so.
pub(super) fn name(scene: &Scene<'_>, entries: &[Entry]) -> (Option<String>, Option<NameDoubt>) {
    let claim = Claim::of(scene);
    let own = entries.iter().filter(|e| e.name == "kubelet-client" || e.name == "kubelet.conf");
    let mut issued: Vec<Issued> = own.filter_map(|e| Issued::of(&e.content, scene)).collect();
    if !issued.iter().any(|i| i.valid && claim.agrees(&i.name)) {
        issued.extend(node_identity::issued_before(scene));
    }
    // one that is valid and agrees, then one that is valid, then one that was
    issued.sort_by_key(|i| (!(i.valid && claim.agrees(&i.name)), !i.valid));
    match (issued.first(), &claim) {
        (Some(found), _) if claim.agrees(&found.name) => (Some(found.name.clone()), None),
        (Some(_), claim) if claim.name().is_some_and(|name| vouched_for(claim, name, entries)) => {
            (claim.name().map(str::to_owned), None)
        }
        (Some(found), claim) => (Some(found.name.clone()), claim.name().map(|name| renamed(scene, &found.name, name))),
        (None, Claim::Flag(name) | Claim::Host(name)) => (Some(name.clone()), None),
        (None, Claim::Unknown(why)) => (host_name(scene.root), Some(unknown(why))),
    }
}

/// Whether what a control plane serves with was issued for this name, too: then it is the identity that is another's.
fn vouched_for(claim: &Claim, name: &str, entries: &[Entry]) -> bool {
    let serving = |e: &&Entry| matches!(e.name.as_str(), "apiserver" | "etcd-server" | "etcd-peer" | "kubelet-serving");
    let ours = |e: &&Entry| e.signer.is_some() && !has_finding(&e.content, Problem::WrongIssuer);
    let leaves = entries.iter().filter(serving).filter(ours).filter_map(Entry::leaf);
    let names: BTreeSet<&str> = leaves.flat_map(|l| l.sans.iter().filter_map(|san| san.strip_prefix("DNS:"))).collect();
    match claim {
        // every API server is called so
        Claim::Host(own) if matches!(first_label(own), Some("kubernetes" | "localhost")) => false,
        Claim::Host(_) => names.iter().any(|n| first_label(n) == first_label(name)),
        _ => names.contains(name),
    }
}

fn renamed(scene: &Scene<'_>, was: &str, is: &str) -> NameDoubt {
    let dir = scene.kubelet.kubelet.cert_dir.display();
    NameDoubt {
        reason: format!(
            "the cluster's CA knows this host as node `{was}`, and it would now be `{is}`: was it renamed?"
        ),
        remedy: format!(
            "give the host its name back (hostnamectl hostname {was}) or start the kubelet with --hostname-override={was}; \
             if it is to be a new node: kubectl delete node {was}, mv {dir}/kubelet-client-*.pem elsewhere, \
             certwarden renew kubelet-client"
        ),
    }
}

fn unknown(why: &str) -> NameDoubt {
    NameDoubt {
        reason: format!("the node's name is not known for certain ({why})"),
        remedy: "look with systemctl cat kubelet and kubectl get nodes what this node is called; say it to the kubelet by \
                 --hostname-override=NAME in KUBELET_EXTRA_ARGS (/etc/default/kubelet), then certwarden renew kubelet-client"
            .to_owned(),
    }
}
