//! Which versions of Kubernetes certwarden has been run on, and whether a cluster is newer than all of them.

use super::component::Component;
use super::finding::{Finding, Problem};
use super::inventory::Node;
use super::version::Version;

/// Major and minor of the newest one that docs/versions.toml has a renewal on; tests/it/versions.rs compares.
pub const NEWEST: (u32, u32) = (1, 36);

/// For who runs a cluster that is newer. None where the version cannot be known: a worker's disk does not say it, and a node that is
/// not kubeadm's is only watched.
pub(super) fn untested(node: &Node) -> Option<Finding> {
    beyond(NEWEST, node)
}

fn beyond((major, minor): (u32, u32), node: &Node) -> Option<Finding> {
    let version = cluster_version(node).filter(|v| (v.major, v.minor) > (major, minor))?;
    let message = format!("Kubernetes {version} is newer than any that certwarden was tested on ({major}.{minor})");
    Some(Finding::new(Problem::UntestedVersion, message))
}

/// By the images of this node's own control plane, the API server's first: it is what a cluster's version means.
fn cluster_version(node: &Node) -> Option<Version> {
    const ORDER: [Component; 3] =
        [Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler];
    let ours = |c: &Component| node.static_pods.get(c).and_then(|pod| pod.version);
    ORDER.iter().find_map(ours).filter(|_| node.distribution.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::distribution::Distribution;
    use crate::model::inventory::StaticPod;

    fn node(images: &[(Component, &str)]) -> Node {
        let pod = |image: &str| StaticPod { version: Version::of_image(image), ..StaticPod::default() };
        Node { static_pods: images.iter().map(|(c, image)| (*c, pod(image))).collect(), ..Node::default() }
    }

    #[test]
    fn only_a_newer_minor_is_told_and_only_where_the_control_plane_says_its_version() {
        use Component::{Etcd, KubeApiserver, KubeScheduler};
        for (images, told) in [
            (&[(KubeApiserver, "k8s/kube-apiserver:v1.36.9")][..], false),
            (&[(KubeApiserver, "k8s/kube-apiserver:v1.37.0")], true),
            (&[(KubeApiserver, "k8s/kube-apiserver:v2.0.0")], true),
            (&[(KubeApiserver, "k8s/kube-apiserver:v1.20.2")], false),
            // in the middle of an upgrade the API server is ahead
            (&[(KubeApiserver, "k8s/kube-apiserver:v1.37.0"), (KubeScheduler, "k8s/kube-scheduler:v1.36.2")], true),
            (&[(KubeApiserver, "k8s/kube-apiserver@sha256:0"), (KubeScheduler, "k8s/kube-scheduler:v1.37.0")], true),
            (&[(KubeApiserver, "k8s/kube-apiserver@sha256:0")], false),
            // etcd counts otherwise
            (&[(Etcd, "k8s/etcd:3.6.8-0")], false),
            (&[], false),
        ] {
            let found = beyond((1, 36), &node(images));
            assert_eq!(found.is_some(), told, "{images:?}: {found:?}");
        }
        let mut of_others = node(&[(KubeApiserver, "rancher/hardened-kubernetes:v1.37.0-rke2r1")]);
        of_others.distribution = Some(Distribution::Rke2);
        assert_eq!(beyond((1, 36), &of_others), None);
    }

    #[test]
    fn what_is_told_names_both_versions() {
        let found = beyond((1, 36), &node(&[(Component::KubeApiserver, "k8s/kube-apiserver:v1.37.1")])).unwrap();
        assert_eq!(found.id, Problem::UntestedVersion);
        assert_eq!(found.message, "Kubernetes v1.37.1 is newer than any that certwarden was tested on (1.36)");
    }
}
