//! What is listed and watched.

use serde::Serialize;

/// What a person calls the objects: the plural of the API, and the label `resource`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Secrets,
    ConfigMaps,
    /// cert-manager's.
    Certificates,
    ValidatingWebhookConfigurations,
    MutatingWebhookConfigurations,
    ApiServices,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Secrets,
        Self::ConfigMaps,
        Self::Certificates,
        Self::ValidatingWebhookConfigurations,
        Self::MutatingWebhookConfigurations,
        Self::ApiServices,
    ];

    pub fn id(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::ConfigMaps => "configmaps",
            Self::Certificates => "certificates",
            Self::ValidatingWebhookConfigurations => "validatingwebhookconfigurations",
            Self::MutatingWebhookConfigurations => "mutatingwebhookconfigurations",
            Self::ApiServices => "apiservices",
        }
    }
}

/// Objects that are listed and watched by one request each.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    pub kind: Kind,
    pub path: &'static str,
    /// URL-encoded; empty: all.
    pub selector: &'static str,
    /// The one object that is wanted: namespace and name.
    pub(super) only: Option<(&'static str, &'static str)>,
    /// Values in `data` that hold certificates.
    pub(super) keys: &'static [&'static str],
}

const fn all(kind: Kind, path: &'static str) -> Feed {
    Feed { kind, path, selector: "", only: None, keys: &[] }
}

const fn one(
    kind: Kind,
    path: &'static str,
    only: (&'static str, &'static str),
    selector: &'static str,
    keys: &'static [&'static str],
) -> Feed {
    Feed { kind, path, selector, only: Some(only), keys }
}

/// Everything that is watched.
///
/// istio: `security/pkg/pki/ca/ca.go` (`ca-cert.pem`, `cert-chain.pem`, `root-cert.pem`), cert-manager's istio-csr and `cacerts` of
/// type kubernetes.io/tls have `tls.crt`; linkerd2: `pkg/k8s/k8s.go`, `charts/linkerd-control-plane/templates/identity.yaml`.
pub const FEEDS: &[Feed] = &[
    Feed {
        kind: Kind::Secrets,
        path: "/api/v1/secrets",
        selector: "type%3Dkubernetes.io%2Ftls",
        only: None,
        keys: &["tls.crt", "ca.crt"],
    },
    one(
        Kind::Secrets,
        "/api/v1/namespaces/istio-system/secrets",
        ("istio-system", "istio-ca-secret"),
        "metadata.name%3Distio-ca-secret",
        &["ca-cert.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "ca.crt"],
    ),
    one(
        Kind::Secrets,
        "/api/v1/namespaces/istio-system/secrets",
        ("istio-system", "cacerts"),
        "metadata.name%3Dcacerts",
        &["ca-cert.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "ca.crt"],
    ),
    one(
        Kind::Secrets,
        "/api/v1/namespaces/linkerd/secrets",
        ("linkerd", "linkerd-identity-issuer"),
        "metadata.name%3Dlinkerd-identity-issuer",
        &["crt.pem", "tls.crt", "ca.crt"],
    ),
    one(
        Kind::ConfigMaps,
        "/api/v1/namespaces/istio-system/configmaps",
        ("istio-system", "istio-ca-root-cert"),
        "metadata.name%3Distio-ca-root-cert",
        &["root-cert.pem"],
    ),
    one(
        Kind::ConfigMaps,
        "/api/v1/namespaces/linkerd/configmaps",
        ("linkerd", "linkerd-identity-trust-roots"),
        "metadata.name%3Dlinkerd-identity-trust-roots",
        &["ca-bundle.crt"],
    ),
    all(Kind::Certificates, "/apis/cert-manager.io/v1/certificates"),
    all(Kind::ValidatingWebhookConfigurations, "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
    all(Kind::MutatingWebhookConfigurations, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
    all(Kind::ApiServices, "/apis/apiregistration.k8s.io/v1/apiservices"),
];

impl Feed {
    /// Whether an object of this name is this feed's: the server may answer with what was not asked for, and what has a feed
    /// of its own is not that of all Secrets.
    pub(super) fn wants(&self, namespace: &str, name: &str) -> bool {
        match self.only {
            Some(only) => only == (namespace, name),
            None => !FEEDS.iter().any(|f| f.kind == self.kind && f.only == Some((namespace, name))),
        }
    }
}
