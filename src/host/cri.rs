//! The container runtime over its CRI socket (containerd and CRI-O speak it).

use std::path::Path;
use std::time::Duration;

/// Why the runtime could not do or tell.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("cannot connect to the container runtime at {socket}")]
    Connect {
        socket: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the container runtime failed to {what}: {detail}")]
    Call { what: &'static str, detail: String },
    #[error("the container runtime did not {what} within {}s", limit.as_secs())]
    TimedOut { what: &'static str, limit: Duration },
}

/// A container as the runtime lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    pub id: String,
    /// Name in the pod's spec: `kube-scheduler`.
    pub name: String,
    /// Name of the pod: `kube-scheduler-node1`.
    pub pod: String,
    pub namespace: String,
    pub running: bool,
    /// How often the kubelet has created it before in this sandbox.
    pub attempt: u32,
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
}

/// The container runtime.
pub trait ContainerRuntime: Send {
    /// Containers in `kube-system` whose name is `name`, running or not, newest first.
    ///
    /// # Errors
    /// [`CriError`].
    fn containers(&self, socket: &Path, name: &str) -> Result<Vec<Container>, CriError>;

    /// Asks the runtime to stop a container: SIGTERM, and SIGKILL after `grace`.
    ///
    /// # Errors
    /// [`CriError`].
    fn stop(&self, socket: &Path, id: &str, grace: Duration) -> Result<(), CriError>;
}
