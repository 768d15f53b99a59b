//! Who is asked about the cluster: not one API server but all that are known. The one that a stacked control plane talks to is
//! its own as a rule, and goes away for a moment in its own transaction; the lock must not go with it.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::host::kube::{Connection, KubeApi, KubeError, lease};
use crate::model::fleet::lease::{Call, Reply};
use crate::model::inventory::Inventory;
use crate::verify::api::{administrators, by_kubeconfig};

/// For one answer. An API server that needs longer is not well, and there are others.
const LIMIT: Duration = Duration::from_secs(5);

/// One credential, and the servers that take it, the configured one first.
pub struct Asker<'a> {
    api: &'a dyn KubeApi,
    to: Vec<Connection>,
    /// Who answered last.
    best: Cell<usize>,
}

impl std::fmt::Debug for Asker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").field("to", &self.to).finish_non_exhaustive()
    }
}

impl<'a> Asker<'a> {
    /// With the administrator's credential of a control plane.
    pub fn administrator(host: &'a Host, inventory: &Inventory, servers: &[String]) -> Option<Self> {
        administrators(host, inventory).map(|to| Self::new(host, to, servers))
    }

    /// With a kubeconfig of certwarden's own.
    pub fn with(host: &'a Host, kubeconfig: &Path) -> Option<Self> {
        let to = by_kubeconfig(host, kubeconfig, LIMIT).inspect_err(|why| tracing::debug!("nobody is asked: {why}"));
        Some(Self::new(host, to.ok()?, &[]))
    }

    fn new(host: &'a Host, to: Connection, servers: &[String]) -> Self {
        let first = Connection { limit: LIMIT, ..to };
        let others = servers.iter().filter(|url| **url != first.server);
        let others: Vec<Connection> = others.map(|url| Connection { server: url.clone(), ..first.clone() }).collect();
        let to = std::iter::once(first).chain(others).collect();
        Self { api: &*host.kube, to, best: Cell::new(0) }
    }

    /// All connections, beginning with the one that answered last.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Connection)> {
        let best = self.best.get();
        self.to.iter().enumerate().cycle().skip(best).take(self.to.len())
    }

    /// One request about a Lease. Reads go on to the next server; a write whose fate is not known does not: the one who
    /// asked reads first.
    pub fn lease(&self, namespace: &str, name: &str, call: &Call) -> Reply {
        let mut last = Reply::Silence("no API server is known".to_owned());
        for (at, to) in self.in_turn() {
            last = lease::exchange(self.api, to, namespace, name, call);
            if !matches!(last, Reply::Silence(_)) {
                self.best.set(at);
                return last;
            }
            self.best.set((at + 1) % self.to.len().max(1));
            if *call != Call::Get {
                break;
            }
        }
        last
    }

    /// The first answer to a read.
    ///
    /// # Errors
    /// The last one's [`KubeError`].
    pub fn read<T>(&self, ask: impl Fn(&dyn KubeApi, &Connection) -> Result<T, KubeError>) -> Result<T, KubeError> {
        let nobody =
            || KubeError::Unreachable { server: "the cluster".to_owned(), detail: "no server is known".to_owned() };
        let mut last = Err(nobody());
        for (at, to) in self.in_turn() {
            last = ask(self.api, to);
            if !last.as_ref().is_err_and(KubeError::cannot_tell) {
                self.best.set(at);
                break;
            }
        }
        last
    }
}
