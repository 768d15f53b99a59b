//! HTTPS as the API server, etcd and the kubelet speak it: with client certificates, under time limits.

pub mod config_map;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod https;
pub mod lease;
pub mod nodes;
mod objects;
pub mod servers;
pub mod stream;

use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

pub use https::Https;

use crate::model::plain;

/// Where to connect and as whom. `Debug` shows no key.
#[derive(Clone)]
pub struct Connection {
    /// `https://host:port` (or `http://…` for health ports).
    pub server: String,
    /// PEM bundle to verify the server by; None: the certificate is not verified (self-signed health ports).
    pub ca: Option<Vec<u8>>,
    pub identity: Option<Identity>,
    /// Added to every request (`X-Remote-User` of the front proxy).
    pub headers: Vec<(String, String)>,
    /// For the whole request: connect, handshake, answer.
    pub limit: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A client certificate (chain) and its key, both PEM. `Debug` shows no key.
#[derive(Clone)]
pub struct Identity {
    pub cert: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// No connection, no answer in time, 5xx: says nothing about the credential.
    #[error("{server} does not answer: {detail}")]
    Unreachable { server: String, detail: String },
    /// We do not accept the server's certificate. Says nothing about ours.
    #[error("the certificate of {server} is not accepted: {detail}")]
    Untrusted { server: String, detail: String },
    /// The server refused our certificate in the TLS handshake.
    #[error("{server} refused our certificate: {detail}")]
    Tls { server: String, detail: String },
    /// 401: the server does not accept who we are.
    #[error("{server} does not accept the credential (401 Unauthorized)")]
    Unauthorized { server: String },
    /// Any other answer that was not wanted.
    #[error("{server} answered {path} with {status}: {detail}")]
    Status { server: String, path: String, status: u16, detail: String },
    /// It answered something that is not what it should be.
    #[error("{server} answered {path} with something unreadable: {detail}")]
    Malformed { server: String, path: String, detail: String },
    /// The connection cannot even be tried: bad URL, PEM or key.
    #[error("cannot use the credential for {server}: {detail}")]
    Setup { server: String, detail: String },
}

impl KubeError {
    /// Whether this says nothing about the credential: "cannot tell" is not "failed".
    pub fn cannot_tell(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Untrusted { .. })
    }
}

/// An answer that cannot be read: why, which may quote what is in it.
pub fn malformed(server: String, path: String, why: &dyn std::fmt::Display) -> KubeError {
    KubeError::Malformed { server, path, detail: plain::line(&why.to_string(), plain::SENTENCE) }
}

/// An answer of any status. The body is cut at 1 MiB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Who the API server says we are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WhoAmI {
    /// By `SelfSubjectReview` (v1, v1beta1, v1alpha1).
    User { name: String, groups: Vec<String> },
    /// The server is too old for it; `SelfSubjectAccessReview` was accepted, so the credential is.
    Authenticated,
}

/// The Ready condition of a Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeReady {
    /// `True`, `False`, `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    pub heartbeat: Option<Timestamp>,
}

/// A node's Lease.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeLease {
    pub renewed: Option<Timestamp>,
    /// `leaseDurationSeconds`: the kubelet's `nodeLeaseDurationSeconds`.
    pub seconds: Option<u32>,
}

/// The HTTPS side of the node and its cluster.
pub trait KubeApi: Send {
    /// GET.
    ///
    /// # Errors
    /// [`KubeError`]; an HTTP error status is an [`Answer`], except 401.
    fn get(&self, to: &Connection, path: &str) -> Result<Answer, KubeError>;

    /// POST of a JSON body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn post(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError>;

    /// PUT of a JSON body: replaces the object, if its `resourceVersion` is still that of the body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn put(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError>;

    /// PATCH of a JSON body of this kind (`application/merge-patch+json`, `application/strategic-merge-patch+json`).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn patch(&self, to: &Connection, path: &str, kind: &str, json: &str) -> Result<Answer, KubeError> {
        let _ = (path, kind, json);
        Err(KubeError::Setup { server: to.server.clone(), detail: "nothing can be changed by this".to_owned() })
    }

    /// What the server's clock shows, by the `Date` of any answer (RFC 9110 §6.6.1); None: it does not say.
    fn date(&self, to: &Connection) -> Option<Timestamp> {
        let _ = to;
        None
    }

    /// # Errors
    /// [`KubeError`].
    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError>;

    /// # Errors
    /// [`KubeError`].
    fn node_ready(&self, to: &Connection, node: &str) -> Result<NodeReady, KubeError>;

    /// The node's lease in `kube-node-lease`.
    ///
    /// # Errors
    /// [`KubeError`].
    fn node_lease(&self, to: &Connection, node: &str) -> Result<NodeLease, KubeError>;

    /// `data.ClusterConfiguration` of the config map `kube-system/kubeadm-config`; None if there is no such map.
    ///
    /// # Errors
    /// [`KubeError`].
    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError>;
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
