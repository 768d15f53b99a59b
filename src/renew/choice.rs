//! Who makes the new certificates: kubeadm, or certwarden with the CA keys on the disk.

use jiff::Timestamp;

use super::kubeadm;
use crate::host::Host;
use crate::host::exec::Program;
use crate::model::component::Component;
use crate::model::inventory::{Inventory, Node};
use crate::model::plan::{Maker, Source};
use crate::model::policy::{Policy, Renewer};
use crate::model::version::Version;

/// What must be valid for the API server to answer the administrator on this node. kubeadm wants to know the cluster's
/// configuration from it, and would go by what is guessed.
const ANSWERS_BY: [&str; 4] = ["admin.conf", "apiserver", "apiserver-etcd-client", "etcd-server"];

/// The renewer for this node now, and why. Asks kubeadm for its version, in a private copy of the node's files.
pub fn choose(host: &Host, policy: &Policy, inventory: &Inventory, now: Timestamp) -> Maker {
    let maker = |source, why: &str| Maker { source, why: why.to_owned() };
    if !host.live {
        return maker(Source::Local, "kubeadm works on a running system only");
    }
    match policy.renew.renewer {
        Renewer::Kubeadm => maker(Source::Kubeadm, "renew.renewer says so"),
        Renewer::Local => maker(Source::Local, "renew.renewer says so"),
        Renewer::Auto => match unfit(host, policy, inventory, now) {
            Err(why) => Maker { source: Source::Local, why },
            Ok(why) => Maker { source: Source::Kubeadm, why },
        },
    }
}

/// Whether certwarden signs what kubeadm was to make and did not, or made unfit: only where the operator left the choice.
pub fn falls_back(source: &Source, policy: &Policy) -> bool {
    *source == Source::Kubeadm && policy.renew.renewer == Renewer::Auto
}

/// Why kubeadm cannot be used, or why it can.
fn unfit(host: &Host, policy: &Policy, inventory: &Inventory, now: Timestamp) -> Result<String, String> {
    if host.programs.path(Program::Kubeadm).is_none() {
        return Err("kubeadm is not installed".to_owned());
    }
    let expired = |name: &&&str| inventory.get(name).and_then(|e| e.leaf()).is_some_and(|l| l.not_after <= now);
    let dark: Vec<&str> = ANSWERS_BY.iter().filter(expired).copied().collect();
    if !dark.is_empty() {
        let list = dark.join(", ");
        return Err(format!("{list} expired, so that kubeadm cannot ask the API server about the cluster"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok("its version is asked by root only".to_owned());
    }
    let version = kubeadm::installed(host, &inventory.node, policy).map_err(|e| crate::model::cause::chain(&e))?;
    skew(version, running(&inventory.node))
}

fn running(node: &Node) -> Option<Version> {
    node.static_pods.get(&Component::KubeApiserver)?.version
}

/// kubeadm handles clusters of its own minor version and of the one before (kubernetes.io: "Version Skew Policy", kubeadm;
/// kubernetes: `cmd/kubeadm/app/constants/constants.go:MinimumControlPlaneVersion`).
fn skew(kubeadm: Version, cluster: Option<Version>) -> Result<String, String> {
    let Some(cluster) = cluster else {
        return Ok(format!("kubeadm {kubeadm} is here; the cluster's version is not known"));
    };
    let (own, its) = ((kubeadm.major, kubeadm.minor), (cluster.major, cluster.minor));
    if own == its || own == (its.0, its.1 + 1) {
        Ok(format!("kubeadm {kubeadm} fits the cluster's {cluster}"))
    } else {
        let which = if own < its { "older" } else { "newer" };
        Err(format!("kubeadm {kubeadm} is {which} than the cluster's {cluster} allows"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadm_is_used_for_its_own_minor_version_and_the_one_before() {
        let v = |text| Version::parse(text).unwrap();
        for (kubeadm, cluster, fits) in [
            ("v1.20.2", "v1.20.15", true),
            ("v1.21.0", "v1.20.2", true),
            ("v1.22.0", "v1.20.2", false),
            ("v1.19.9", "v1.20.0", false),
            ("v2.20.0", "v1.20.0", false),
        ] {
            let said = skew(v(kubeadm), Some(v(cluster)));
            assert_eq!(said.is_ok(), fits, "{said:?}");
            let (Ok(why) | Err(why)) = said;
            assert!(why.contains(kubeadm) && why.contains(cluster), "{why}");
        }
        assert!(skew(v("v1.20.2"), None).is_ok());
    }
}
