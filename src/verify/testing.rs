//! Fakes for the unit tests of `verify`: a scripted service manager and API, a clock that moves when one sleeps.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::clock::{Clock, SystemClock};
use crate::host::cri::{Container, ContainerRuntime, CriError, Exit};
use crate::host::exec::{ExecError, Invocation, Output, Program, Programs};
use crate::host::fs::Root;
use crate::host::kube::{Answer, Connection, Https, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI};
use crate::host::systemd::{JobResult, Later, ServiceManager, SystemdError, UnitStatus};
use crate::model::health::NodeSnapshot;
use crate::model::inventory::ContainerRef;

/// What is answered, one by one; the last one for ever.
#[derive(Default)]
pub(crate) struct Script {
    units: RefCell<VecDeque<Result<UnitStatus, ()>>>,
    nodes: RefCell<VecDeque<Option<NodeSnapshot>>>,
}

impl Script {
    pub(crate) fn units(list: impl IntoIterator<Item = Result<UnitStatus, ()>>) -> Self {
        Self { units: RefCell::new(list.into_iter().collect()), ..Self::default() }
    }

    pub(crate) fn nodes(list: impl IntoIterator<Item = Option<NodeSnapshot>>) -> Self {
        Self { nodes: RefCell::new(list.into_iter().collect()), ..Self::default() }
    }
}

fn next<T: Clone>(queue: &RefCell<VecDeque<T>>) -> T {
    let mut queue = queue.borrow_mut();
    if queue.len() > 1 { queue.pop_front().unwrap() } else { queue.front().cloned().unwrap() }
}

/// Real clock, real HTTPS, no services; the root is `/`.
pub(crate) fn host() -> Host {
    host_at(Path::new("/"))
}

pub(crate) fn host_at(root: &Path) -> Host {
    Host {
        live: true,
        root: Root::open(root).unwrap(),
        services: Box::new(Script::default()),
        kube: Box::new(Https),
        runtime: Box::new(Nothing),
        programs: std::sync::Arc::new(Nothing),
        clock: Box::new(SystemClock::default()),
        by: None,
    }
}

/// Scripted services or nodes, and time that only passes when somebody sleeps.
pub(crate) fn host_with(script: Script) -> Host {
    let Script { units, nodes } = script;
    Host {
        live: true,
        services: Box::new(Script { units, ..Script::default() }),
        kube: Box::new(Script { nodes, ..Script::default() }),
        clock: Box::new(Stepping::default()),
        ..host()
    }
}

pub(crate) fn connection() -> Connection {
    let server = "https://127.0.0.1:6443".to_owned();
    Connection { server, ca: None, identity: None, headers: Vec::new(), limit: Duration::from_secs(1) }
}

#[derive(Default)]
struct Stepping(Cell<Duration>);

impl Clock for Stepping {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.0.get()
    }

    fn sleep(&self, time: Duration) {
        self.0.set(self.0.get() + time);
    }
}

impl ServiceManager for Script {
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        next(&self.units).map_err(|()| SystemdError::TimedOut { what: unit.to_owned(), limit: Duration::from_secs(1) })
    }

    fn restart(&self, _: &str) -> Result<JobResult, SystemdError> {
        unreachable!("verify changes nothing")
    }

    fn stop(&self, _: &str) -> Result<JobResult, SystemdError> {
        unreachable!("verify changes nothing")
    }

    fn start(&self, _: &str) -> Result<JobResult, SystemdError> {
        unreachable!("verify changes nothing")
    }

    fn run_later(&self, _: &Later) -> Result<(), SystemdError> {
        unreachable!("verify changes nothing")
    }

    fn system_state(&self) -> Result<String, SystemdError> {
        Ok("running".to_owned())
    }

    fn clock_synchronised(&self) -> Option<bool> {
        None
    }

    fn log_tail(&self, _: &str, _: &str) -> Vec<String> {
        vec!["a line".to_owned(), "the last line".to_owned(), " ".to_owned()]
    }
}

impl Script {
    fn node(&self) -> Result<NodeSnapshot, KubeError> {
        let silent =
            || KubeError::Unreachable { server: "https://n".to_owned(), detail: "connection refused".to_owned() };
        self.nodes.borrow().front().cloned().unwrap().ok_or_else(silent)
    }
}

impl KubeApi for Script {
    fn get(&self, _: &Connection, _: &str) -> Result<Answer, KubeError> {
        unreachable!("not scripted")
    }

    fn post(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        unreachable!("not scripted")
    }

    fn put(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        unreachable!("verify changes nothing")
    }

    fn whoami(&self, _: &Connection) -> Result<WhoAmI, KubeError> {
        unreachable!("not scripted")
    }

    fn node_ready(&self, _: &Connection, _: &str) -> Result<NodeReady, KubeError> {
        let node = self.node();
        if node.is_err() {
            drop(next(&self.nodes));
        }
        let NodeSnapshot { ready, reason, heartbeat, .. } = node?;
        Ok(NodeReady { status: ready, reason, message: String::new(), heartbeat })
    }

    fn node_lease(&self, _: &Connection, _: &str) -> Result<NodeLease, KubeError> {
        let node = self.node()?;
        drop(next(&self.nodes));
        Ok(NodeLease { renewed: node.lease, seconds: node.lease_seconds })
    }

    fn cluster_configuration(&self, _: &Connection) -> Result<Option<String>, KubeError> {
        Ok(None)
    }
}

struct Nothing;

impl ContainerRuntime for Nothing {
    fn has_image(&self, _: &Path, _: &str) -> Result<bool, CriError> {
        unreachable!("not scripted")
    }
    fn containers(&self, _: &Path, _: &ContainerRef) -> Result<Vec<Container>, CriError> {
        Ok(Vec::new())
    }

    fn pods(&self, _: &Path) -> Result<BTreeSet<String>, CriError> {
        Ok(BTreeSet::new())
    }

    fn exit(&self, _: &Path, _: &str) -> Result<Option<Exit>, CriError> {
        Ok(None)
    }

    fn stop(&self, _: &Path, _: &str, _: Duration) -> Result<(), CriError> {
        unreachable!("verify changes nothing")
    }
}

impl Programs for Nothing {
    fn run(&self, _: &Invocation) -> Result<Output, ExecError> {
        unreachable!("verify runs nothing")
    }

    fn path(&self, _: Program) -> Option<PathBuf> {
        None
    }
}
