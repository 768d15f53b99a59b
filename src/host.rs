//! Adapters: one outside party per file. They obey and report; decisions are made in `model` and above.
//!
//! Traits stand at the five boundaries where reality must be replaceable by a fake that can fail, hang and
//! lie: the service manager, the Kubernetes API, the container runtime, external programs, the clock. The file
//! system is never mocked: a temporary root is the fake. All of them block; the transaction engine runs on a
//! thread of its own.

pub mod clock;
pub mod core_dump;
pub mod cri;
pub mod crypto;
pub mod exec;
pub mod fs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod interfaces;
pub mod journal;
pub mod journalctl;
pub mod kube;
pub mod namespace;
pub mod notify;
pub mod process;
pub mod systemd;
pub mod tls;
pub mod zone;

use std::sync::Arc;

use clock::Clock;
use cri::ContainerRuntime;
use exec::Programs;
use fs::Root;
use kube::KubeApi;
use systemd::ServiceManager;

/// The node as certwarden reaches it.
pub struct Host {
    pub root: Root,
    /// Whether this is the running system, with services to restart and to ask, and not a mounted image.
    pub live: bool,
    pub services: Box<dyn ServiceManager>,
    pub kube: Box<dyn KubeApi>,
    pub runtime: Box<dyn ContainerRuntime>,
    pub programs: Arc<dyn Programs>,
    pub clock: Box<dyn Clock>,
    /// The person who runs this process; None: a service does.
    pub by: Option<String>,
}

impl Host {
    /// The real one.
    pub fn new(root: Root) -> Self {
        let programs: Arc<dyn Programs> = Arc::new(exec::Exec::default());
        Self {
            live: root.is_live(),
            root,
            services: Box::new(systemd::Systemd::new(Arc::clone(&programs))),
            kube: Box::new(kube::Https),
            runtime: Box::new(cri::Cri),
            programs,
            clock: Box::new(clock::SystemClock::default()),
            by: None,
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("root", &self.root).finish_non_exhaustive()
    }
}
