//! Kubernetes that is not kubeadm's: recognised and watched, never written. Each renews its certificates by itself.

use serde::Serialize;

/// Who has set up the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    K3s,
    Rke2,
    MicroK8s,
    K0s,
    OpenShift,
    Eks,
    Aks,
    Gke,
}

impl Distribution {
    pub const ALL: [Self; 8] =
        [Self::K3s, Self::Rke2, Self::MicroK8s, Self::K0s, Self::OpenShift, Self::Eks, Self::Aks, Self::Gke];

    /// As it calls itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Rke2 => "RKE2",
            Self::MicroK8s => "MicroK8s",
            Self::K0s => "k0s",
            Self::OpenShift => "OpenShift",
            Self::Eks => "EKS",
            Self::Aks => "AKS",
            Self::Gke => "GKE",
        }
    }

    /// What shows it.
    pub fn mark(self) -> &'static str {
        match self {
            // k3s: pkg/daemons/control/deps/deps.go (DataDir), and the same in RKE2
            Self::K3s => "/var/lib/rancher/k3s",
            Self::Rke2 => "/var/lib/rancher/rke2",
            // microk8s: scripts/wrappers/refresh_certs.py ($SNAP_DATA/certs)
            Self::MicroK8s => "/var/snap/microk8s/current/certs",
            // k0s: pkg/constant/constant_posix.go:DataDirDefault
            Self::K0s => "/var/lib/k0s",
            Self::OpenShift => "/etc/machine-config-daemon",
            Self::Eks => "/etc/eks",
            // AKS: parts/linux/cloud-init/artifacts/cse_config.sh:configureKubeletServerCert
            Self::Aks => "/etc/kubernetes/azure.json",
            Self::Gke => "/home/kubernetes/kube-env",
        }
    }

    /// Directories whose certificates are watched, besides what the kubelet's configuration names.
    pub fn directories(self) -> &'static [&'static str] {
        match self {
            Self::K3s => &[
                "/var/lib/rancher/k3s/server/tls",
                "/var/lib/rancher/k3s/server/tls/etcd",
                "/var/lib/rancher/k3s/agent",
            ],
            Self::Rke2 => &[
                "/var/lib/rancher/rke2/server/tls",
                "/var/lib/rancher/rke2/server/tls/etcd",
                "/var/lib/rancher/rke2/agent",
            ],
            Self::MicroK8s => &["/var/snap/microk8s/current/certs"],
            Self::K0s => &["/var/lib/k0s/pki", "/var/lib/k0s/pki/etcd", "/var/lib/k0s/kubelet/pki"],
            Self::Aks => &["/etc/kubernetes/certs"],
            Self::OpenShift | Self::Eks | Self::Gke => &[],
        }
    }

    /// How its certificates are renewed: a clause.
    pub fn renewal(self) -> &'static str {
        match self {
            Self::K3s => "at a start of k3s in their last 90 days, or by `k3s certificate rotate`",
            Self::Rke2 => "at a start of rke2 in their last 90 days, or by `rke2 certificate rotate`",
            Self::MicroK8s => "by `microk8s refresh-certs`",
            Self::K0s => "at a start of k0s",
            Self::OpenShift => "by its operators",
            Self::Eks | Self::Aks | Self::Gke => "by the provider and the kubelet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Distribution;

    #[test]
    fn none_is_taken_for_another() {
        for a in Distribution::ALL {
            for b in Distribution::ALL.into_iter().filter(|b| *b != a) {
                assert!(!a.mark().starts_with(b.mark()) && a.name() != b.name(), "{a:?} {b:?}");
            }
        }
    }
}
