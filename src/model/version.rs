//! Versions of Kubernetes, and what each kubeadm understands.

use serde::Serialize;

/// A release, without what follows a `-` or `+`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// `v1.34.2`, `1.20.2-00`, `v1.28.1+k3s1`; None for labels such as `stable-1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(|p| p.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }

    /// The version that an image's tag says.
    pub fn of_image(image: &str) -> Option<Self> {
        let (_, tag) = image.split('@').next()?.rsplit_once(':')?;
        Self::parse(tag)
    }

    /// `certs` left `alpha` in 1.20 (kubernetes PR 94938).
    pub fn renew_verb(self) -> Vec<String> {
        let verb: &[&str] = if self.minor < 20 { &["alpha", "certs", "renew"] } else { &["certs", "renew"] };
        verb.iter().map(|s| (*s).to_owned()).collect()
    }

    /// The configuration version to write for this kubeadm.
    pub fn writes(self) -> &'static str {
        match self.minor {
            ..15 => "kubeadm.k8s.io/v1beta1",
            15..22 => "kubeadm.k8s.io/v1beta2",
            22..31 => "kubeadm.k8s.io/v1beta3",
            _ => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Whether this kubeadm reads that configuration version, as far as is known here. Of a newer one than v1beta4 neither is
    /// known who reads it nor what may be written into it.
    pub fn reads(self, api_version: &str) -> bool {
        match api_version {
            "kubeadm.k8s.io/v1beta1" => (13..22).contains(&self.minor),
            "kubeadm.k8s.io/v1beta2" => (15..27).contains(&self.minor),
            "kubeadm.k8s.io/v1beta3" => self.minor >= 22,
            "kubeadm.k8s.io/v1beta4" => self.minor >= 31,
            _ => false,
        }
    }

    /// Whether `encryptionAlgorithm` may have this value (kubernetes: `apis/kubeadm/v1beta4/types.go`).
    pub fn makes(self, algorithm: &str) -> bool {
        match algorithm {
            "ECDSA-P256" | "RSA-2048" | "RSA-3072" | "RSA-4096" => true,
            "ECDSA-P384" => self.minor >= 34,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_be_looked_up_in_the_network_are_no_versions() {
        for label in ["stable-1", "latest", "ci/latest-1.30", "v1.30", "", "v1.2.3.4", "vx.1.2"] {
            assert_eq!(Version::parse(label), None, "{label}");
        }
        let v = Version::parse("v1.20.2-dirty\n").unwrap();
        assert_eq!((v.major, v.minor, v.patch), (1, 20, 2));
        assert_eq!(Version::of_image("127.0.0.1:5000/kube-scheduler:v1.20.2@sha256:0"), Some(Version { ..v }));
        assert_eq!(Version::of_image("127.0.0.1:5000/kube-scheduler"), None);
    }

    #[test]
    fn each_kubeadm_reads_the_configuration_that_it_is_given() {
        for minor in 13..45 {
            let kubeadm = Version { major: 1, minor, patch: 0 };
            assert!(kubeadm.reads(kubeadm.writes()), "1.{minor}");
            assert!(!kubeadm.reads("kubeadm.k8s.io/v1beta5") && !kubeadm.reads("kubeadm.k8s.io/v1"), "1.{minor}");
        }
    }
}
