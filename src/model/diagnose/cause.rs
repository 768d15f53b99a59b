//! Root causes by stable id.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One line for each, so that none is without an id, a page and a meaning.
macro_rules! causes {
    ($($name:ident = $id:literal, $page:literal: $meaning:literal,)*) => {
        /// The stable ids.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Cause {
            $(#[doc = $meaning] $name,)*
        }

        impl Cause {
            /// In the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// The page of `certwarden runbook` that says more.
            pub fn runbook(self) -> &'static str {
                match self {
                    $(Self::$name => $page,)*
                }
            }

            /// What it means, in a clause.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

causes! {
    Healthy = "healthy", "diagnose": "nothing is wrong",
    CannotTell = "cannot-tell", "diagnose": "nothing was found, and too much could not be seen",
    Contradiction = "contradiction", "diagnose": "two things were seen that exclude each other",
    NoNode = "no-node", "diagnose": "there is no kubelet on this machine",
    ClockWrong = "clock-wrong", "clock": "this machine's clock is wrong, so that it judges dates wrongly",
    ClockUnsynchronised = "clock-unsynchronised", "clock": "nothing keeps the clock right",
    CaExpired = "ca-expired", "ca": "a CA has expired, and everything below it with it",
    CaRotated = "ca-rotated", "wrong-issuer": "the cluster's CA was replaced, and the kubelet still trusts the old one",
    ServerNameUnknown = "server-name-unknown", "diagnose": "the API server's name does not resolve",
    ServerUnreachable = "server-unreachable", "diagnose": "no packet comes back from the API server's address",
    ServerRefuses = "server-refuses", "diagnose": "nobody listens at the API server's address",
    ApiserverDown = "apiserver-down", "diagnose": "this node's own API server does not run",
    EtcdDown = "etcd-down", "diagnose": "etcd does not run, and the API server cannot without it",
    ControlPlaneExpired = "control-plane-expired", "expired": "certificates of this node's control plane have expired",
    ApiserverExpired = "apiserver-expired", "expired": "the API server's serving certificate has expired",
    ApiserverName = "apiserver-name", "diagnose": "the API server's certificate is for other names than the one dialled",
    ApiserverOtherCa = "apiserver-other-ca", "wrong-issuer": "the API server's certificate is of a CA that the kubelet does not trust",
    ApiserverServesOld = "apiserver-serves-old", "served-differs": "the API server serves another certificate than lies in its file",
    ApiserverUnwell = "apiserver-unwell", "diagnose": "the API server answers with errors of its own",
    KubeconfigBroken = "kubeconfig-broken", "points-nowhere": "kubelet.conf is missing, damaged, or names files that are not there",
    ClientMissing = "client-missing", "missing": "the kubelet's client certificate is not there",
    ClientDamaged = "client-damaged", "malformed": "the kubelet's client certificate or key cannot be used",
    ClientKeyMismatch = "client-key-mismatch", "key-mismatch": "the kubelet's key belongs to another certificate",
    ClientOfAnother = "client-of-another", "wrong-identity": "the kubelet's certificate is for another user than this node",
    ClientOtherCa = "client-other-ca", "wrong-issuer": "the kubelet's client certificate is of another CA than the cluster's",
    ClientExpired = "client-expired", "expired": "the kubelet's client certificate has expired",
    ClientRefused = "client-refused", "diagnose": "the API server does not accept the kubelet's client certificate",
    KubeletStopped = "kubelet-stopped", "KubernetesNodeNotReady": "the kubelet was stopped, or must not start",
    KubeletCrashes = "kubelet-crashes", "KubernetesNodeNotReady": "the kubelet starts and dies, and no certificate is why",
    NodeMissing = "node-missing", "KubernetesNodeNotReady": "the cluster has no Node of this name",
    MayNotRequest = "may-not-request", "request-pending": "the node may not file certificate signing requests",
    ApproverMayNot = "approver-may-not", "request-pending": "the rule that lets the approver approve is not there",
    RequestDenied = "request-denied", "request-denied": "a request of this node was denied",
    RequestFailed = "request-failed", "request-failed": "the signer could not issue",
    SignerDown = "signer-down", "request-not-issued": "nobody signs: the controller manager is down or has no key",
    NotApproved = "not-approved", "request-pending": "a request of this node waits for approval",
    NoRoom = "no-room", "disk": "the kubelet cannot write its new certificate",
    RotationBlocked = "rotation-blocked", "rotation-blocked": "a plain file lies where the kubelet makes its link",
    EmbeddedIdentity = "embedded-identity", "embedded-identity": "kubelet.conf holds a certificate that nobody rotates",
    RotationOff = "rotation-off", "rotation-off": "the kubelet is told not to rotate its certificate",
    RotationStalled = "rotation-stalled", "rotation-overdue": "the kubelet should have rotated and has not even asked",
    NotReadyOther = "not-ready-other", "KubernetesNodeNotReady": "the node is not Ready, and no certificate is why",
    KubeletSilent = "kubelet-silent", "KubernetesNodeNotReady": "the kubelet runs and does not report",
    ServingExpired = "serving-expired", "expired": "the kubelet's serving certificate has expired",
    ServesOld = "serves-old", "served-differs": "a process serves another certificate than lies in its file",
    ServingNotApproved = "serving-not-approved", "request-pending": "the request for the kubelet's serving certificate waits",
    CertificateBad = "certificate-bad", "CertwardenCertificateInvalid": "another certificate of this node is not well",
    CertificateDue = "certificate-due", "expiring": "certificates are due, and nothing is in the way",
    HeldBack = "held-back", "CertwardenRolledBack": "certwarden has rolled back, and holds back",
    ClientExpiring = "client-expiring", "KubernetesClientCertificateExpiresSoon": "a client credential on this node is about to expire or has",
    ClientElsewhere = "client-elsewhere", "KubernetesClientCertificateExpiresSoon": "a client that is not on this node logs in with what is about to expire",
    CertManagerNotReady = "certmanager-not-ready", "CertManagerCertNotReady": "cert-manager says that a Certificate is not ready",
    CertManagerOverdue = "certmanager-overdue", "CertManagerCertRenewalOverdue": "cert-manager should have renewed a Certificate by now, and has not",
    LayerUnreadable = "layer-unreadable", "CertwardenLayerUnreadable": "a Secret or a bundle holds no certificate that can be read",
    ProbeDrift = "probe-drift", "CertwardenProbeDrift": "an endpoint shows another certificate than its Secret holds",
    ProbeRefused = "probe-refused", "CertwardenProbeRefused": "clients refuse what an endpoint shows",
    ProbeFailed = "probe-failed", "CertwardenProbeFailed": "an endpoint shows no certificate at all",
    LayerExpiring = "layer-expiring", "CertwardenLayerExpiring": "a certificate of another layer is about to expire, has expired, or is not valid yet",
    WatchBlind = "watch-blind", "CertwardenWatchBlind": "`certwarden watch` cannot see all objects",
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let id = String::deserialize(d)?;
        let known = Self::ALL.iter().find(|c| c.id() == id);
        known.copied().ok_or_else(|| de::Error::custom("an id that this version does not know"))
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}
