//! Who is asked about the cluster: not one API server but all that are known. The one that a stacked control plane talks to is
//! its own as a rule, and goes away for a moment in its own transaction; the lock must not go with it.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::host::clock::Clock;
use crate::host::kube::{Connection, KubeApi, KubeError, config_map, lease};
use crate::model::cert::parse_pem;
use crate::model::fleet::lease::{Call, Reply};
use crate::model::fleet::place::{Kind, Place};
use crate::model::fleet::wait::PACE;
use crate::model::identity;
use crate::model::inventory::Inventory;
use crate::verify::api::{administrators, by_kubeconfig};

/// For one answer. An API server that needs longer is not well, and there are others.
const LIMIT: Duration = Duration::from_secs(5);

/// One credential, and the servers that take it, the configured one first.
pub struct Asker<'a> {
    api: &'a dyn KubeApi,
    clock: &'a dyn Clock,
    to: Vec<Connection>,
    /// Who answered last.
    best: Cell<usize>,
    /// Between two requests.
    pace: Duration,
    /// When the last one was sent, by the clock since boot.
    sent: Cell<Option<Duration>>,
    /// Nobody is asked for longer, by the same clock.
    until: Cell<Option<Duration>>,
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
    ///
    /// # Errors
    /// Why it cannot be used, in a clause that names the file.
    pub fn with(host: &'a Host, kubeconfig: &Path) -> Result<Self, String> {
        by_kubeconfig(host, kubeconfig, LIMIT).map(|to| Self::new(host, to, &[]))
    }

    fn new(host: &'a Host, to: Connection, servers: &[String]) -> Self {
        let first = Connection { limit: LIMIT, ..to };
        let others = servers.iter().filter(|url| **url != first.server);
        let others: Vec<Connection> = others.map(|url| Connection { server: url.clone(), ..first.clone() }).collect();
        let to = std::iter::once(first).chain(others).collect();
        let (api, clock) = (&*host.kube, &*host.clock);
        let (sent, until) = (Cell::new(None), Cell::new(None));
        Self { api, clock, to, best: Cell::new(0), pace: Duration::ZERO, sent, until }
    }

    /// The node whose kubelet's identity this is; None: somebody else's.
    pub fn node(&self) -> Option<String> {
        let chain = parse_pem(&self.to.first()?.identity.as_ref()?.cert).ok()?;
        identity::node_of(chain.first()?).map(str::to_owned)
    }

    /// The same, a worker's.
    #[must_use]
    pub fn unhurried(self) -> Self {
        Self { pace: PACE, ..self }
    }

    /// Does what asks, for so long in all, and returns what is left of that time.
    pub fn within<T>(&self, budget: Duration, ask: impl FnOnce() -> T) -> (T, Duration) {
        let until = self.clock.since_boot().saturating_add(budget);
        self.until.set(Some(until));
        let done = ask();
        self.until.set(None);
        (done, until.saturating_sub(self.clock.since_boot()))
    }

    /// All connections, beginning with the one that answered last, as long as there is time.
    fn in_turn(&self) -> impl Iterator<Item = (usize, Connection)> {
        let best = self.best.get();
        self.to.iter().enumerate().cycle().skip(best).take(self.to.len()).map_while(|(at, to)| {
            let clock = self.clock.since_boot();
            let rests = self.sent.get().map(|sent| self.pace.saturating_sub(clock.saturating_sub(sent)));
            if let Some(rest) = rests.filter(|rest| !rest.is_zero()) {
                self.clock.sleep(rest);
            }
            let now = self.clock.since_boot();
            self.sent.set(Some(now));
            let limit = self.until.get().map_or(to.limit, |until| to.limit.min(until.saturating_sub(now)));
            (!limit.is_zero()).then(|| (at, Connection { limit, ..to.clone() }))
        })
    }

    /// One request about a lock or notes. Reads go on to the next server; a write whose fate is not known does not: the one who
    /// asked reads first.
    pub fn exchange(&self, namespace: &str, place: &Place, call: &Call) -> Reply {
        let mut last = Reply::Silence("nobody answered in time".to_owned());
        for (at, to) in self.in_turn() {
            last = match place.kind {
                Kind::Lease => lease::exchange(self.api, &to, namespace, &place.name, call),
                Kind::ConfigMap => config_map::exchange(self.api, &to, namespace, &place.name, call),
            };
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
        let nobody = || KubeError::Unreachable {
            server: "the cluster".to_owned(),
            detail: "nobody answered in time".to_owned(),
        };
        let mut last = Err(nobody());
        for (at, to) in self.in_turn() {
            last = ask(self.api, &to);
            if !last.as_ref().is_err_and(KubeError::cannot_tell) {
                self.best.set(at);
                break;
            }
        }
        last
    }
}
