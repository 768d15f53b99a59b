//! kubeadm's certificates and kubeconfigs: names, places, issuers, and what stops when one expires
//! (kubernetes: `cmd/kubeadm/app/phases/certs/certlist.go`, `.../phases/kubeconfig/kubeconfig.go`). Who uses them is
//! in `model::consumer`.

use crate::model::component::Component;
use Component::{Etcd, KubeApiserver, KubeControllerManager, KubeScheduler};

/// A certificate file with a key file.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) name: &'static str,
    /// Component and flags that say where it is.
    pub(super) flags: Option<(Component, &'static str, &'static str)>,
    /// Below `certificatesDir`, without ending.
    pub(super) base: &'static str,
    pub(super) signer: &'static str,
    /// Component and flag that say what those verify it by who it is made for.
    pub(super) trust: Option<(Component, &'static str)>,
    pub(super) common_name: Option<&'static str>,
    pub(super) usages: &'static [&'static str],
    pub(super) impact: &'static str,
}

pub(super) const PAIRS: [Pair; 7] = [
    Pair {
        name: "apiserver",
        flags: Some((KubeApiserver, "tls-cert-file", "tls-private-key-file")),
        base: "apiserver",
        signer: "ca",
        trust: Some((KubeControllerManager, "root-ca-file")),
        common_name: None,
        usages: &["serverAuth"],
        impact: "no client can talk to this API server any more, kubelets and controllers among them",
    },
    Pair {
        name: "apiserver-etcd-client",
        flags: Some((KubeApiserver, "etcd-certfile", "etcd-keyfile")),
        base: "apiserver-etcd-client",
        signer: "etcd-ca",
        trust: Some((Etcd, "trusted-ca-file")),
        common_name: None,
        usages: &["clientAuth"],
        impact: "this API server loses etcd and can neither read nor write",
    },
    Pair {
        name: "apiserver-kubelet-client",
        flags: Some((KubeApiserver, "kubelet-client-certificate", "kubelet-client-key")),
        base: "apiserver-kubelet-client",
        signer: "ca",
        trust: None, // the kubelet's own configuration says it
        common_name: Some("kube-apiserver-kubelet-client"),
        usages: &["clientAuth"],
        impact: "kubectl logs, exec, attach and port-forward fail on every node",
    },
    Pair {
        name: "front-proxy-client",
        flags: Some((KubeApiserver, "proxy-client-cert-file", "proxy-client-key-file")),
        base: "front-proxy-client",
        signer: "front-proxy-ca",
        trust: Some((KubeApiserver, "requestheader-client-ca-file")),
        common_name: None, // compared with --requestheader-allowed-names
        usages: &["clientAuth"],
        impact: "aggregated APIs such as metrics-server's fail",
    },
    Pair {
        name: "etcd-server",
        flags: Some((Etcd, "cert-file", "key-file")),
        base: "etcd/server",
        signer: "etcd-ca",
        trust: Some((KubeApiserver, "etcd-cafile")),
        common_name: None,
        usages: &["serverAuth"],
        impact: "no API server can talk to this etcd member any more",
    },
    Pair {
        name: "etcd-peer",
        flags: Some((Etcd, "peer-cert-file", "peer-key-file")),
        base: "etcd/peer",
        signer: "etcd-ca",
        trust: Some((Etcd, "peer-trusted-ca-file")),
        common_name: None,
        usages: &["serverAuth", "clientAuth"],
        impact: "this etcd member is cut off from the others",
    },
    Pair {
        name: "etcd-healthcheck-client",
        flags: None,
        base: "etcd/healthcheck-client",
        signer: "etcd-ca",
        trust: Some((Etcd, "trusted-ca-file")),
        common_name: None,
        usages: &["clientAuth"],
        impact: "etcd cannot be asked for its health with this identity any more",
    },
];

/// A kubeconfig with an embedded identity, issued by the cluster's CA.
#[derive(Debug)]
pub(super) struct Config {
    /// kubeadm's name, also the name of the file in /etc/kubernetes.
    pub(super) name: &'static str,
    /// The component whose `--kubeconfig` it is.
    pub(super) component: Option<Component>,
    pub(super) common_name: &'static str,
    pub(super) organizations: &'static [&'static str],
    /// Not on joined control-plane nodes, not before 1.29.
    pub(super) optional: bool,
    pub(super) impact: &'static str,
}

pub(super) const CONFIGS: [Config; 4] = [
    Config {
        name: "admin.conf",
        component: None,
        common_name: "kubernetes-admin",
        // 1.29 and later, and before
        organizations: &["kubeadm:cluster-admins", "system:masters"],
        optional: false,
        impact: "administrators and kubeadm lose their access from this node",
    },
    Config {
        name: "controller-manager.conf",
        component: Some(KubeControllerManager),
        common_name: "system:kube-controller-manager",
        organizations: &[],
        optional: false,
        impact: "the controller manager of this node stops, and with the last one every controller and the signing of kubelet certificates",
    },
    Config {
        name: "scheduler.conf",
        component: Some(KubeScheduler),
        common_name: "system:kube-scheduler",
        organizations: &[],
        optional: false,
        impact: "the scheduler of this node stops, and with the last one no pod is placed",
    },
    Config {
        name: "super-admin.conf",
        component: None,
        common_name: "kubernetes-super-admin",
        organizations: &["system:masters"],
        optional: true,
        impact: "the emergency access that bypasses RBAC is lost",
    },
];

pub(super) const KUBELET_CLIENT: &str =
    "the kubelet loses the API server: the node becomes NotReady and its pods are moved away";
pub(super) const KUBELET_CONF: &str = "the kubelet cannot start again, whatever it has rotated to meanwhile";
pub(super) const KUBELET_SERVING: &str = "clients that verify the kubelet's own API cannot use it";
pub(super) const CA: &str = "nothing that it issued is accepted any more";
pub(super) const COPY: &str = "kubectl fails for whoever uses this copy";
pub(super) const OTHER_OF_DISTRIBUTION: &str = "what it is for stops working";
pub(super) const OTHER: &str = "what this flag is for stops working";
