//! A node's outside parties, faked: every method can succeed, fail, hang (until the fake clock has passed any
//! limit) and lie. The file system is real: a temporary root.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwarden::host::Host;
use certwarden::host::clock::Clock;
use certwarden::host::cri::{Container, ContainerRuntime, CriError};
use certwarden::host::exec::{ExecError, Invocation, Output, Program, Programs};
use certwarden::host::fs::Root;
use certwarden::host::kube::{Answer, Connection, KubeApi, KubeError, NodeReady, WhoAmI};
use certwarden::host::systemd::{JobResult, ServiceManager, SystemdError, UnitStatus};
use certwarden::model::cert::parse_pem;
use jiff::Timestamp;

/// What the next call of a method does instead of succeeding.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error.
    Fail(String),
    /// Takes so long that every limit has passed, then an error.
    Hang,
    /// Claims success and does nothing.
    Lie,
}

/// The state of the faked world.
#[derive(Debug)]
pub struct World {
    pub now: Timestamp,
    pub elapsed: Duration,
    /// (method, fault), taken in order by the calls of that method. `*` in front of the method: for ever.
    pub faults: VecDeque<(String, Fault)>,
    pub calls: Vec<String>,
    pub kubelet: UnitStatus,
    /// With this, the kubelet dies whenever the predicate says so about the root.
    pub kubelet_dies_if: Option<fn(&Path) -> bool>,
    pub never_ready_if: Option<fn(&Path) -> bool>,
    pub root: PathBuf,
    pub starts: u32,
    pub containers: Vec<Container>,
    pub api_is_down: bool,
    pub node_ready: bool,
    /// Whether the lease and the heartbeat move with the clock.
    pub heartbeat: bool,
}

/// A handle on the world, shared by all fakes of a host.
#[derive(Clone, Debug)]
pub struct Fake(pub Arc<Mutex<World>>);

impl Fake {
    /// A healthy control-plane node at `now` with its files below `root`.
    pub fn new(root: &Path, now: Timestamp) -> Self {
        let container = |name: &str| Container {
            id: format!("{name}-0"),
            name: name.to_owned(),
            pod: format!("{name}-node1"),
            namespace: "kube-system".to_owned(),
            running: true,
            attempt: 0,
            created_ns: 0,
        };
        let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
        Self(Arc::new(Mutex::new(World {
            now,
            elapsed: Duration::ZERO,
            faults: VecDeque::new(),
            calls: Vec::new(),
            kubelet: UnitStatus {
                load_state: "loaded".into(),
                active_state: "active".into(),
                sub_state: "running".into(),
                result: "success".into(),
                invocation_id: "invocation-0".into(),
                main_pid: 100,
                restart_delay: Duration::from_secs(10),
                ..UnitStatus::default()
            },
            kubelet_dies_if: None,
            never_ready_if: None,
            root: root.to_owned(),
            starts: 0,
            containers: names.into_iter().map(container).collect(),
            api_is_down: false,
            node_ready: true,
            heartbeat: true,
        })))
    }

    /// The host made of the fakes, taken for a live one.
    pub fn host(&self) -> Host {
        let root = Root::open(&self.world(|w| w.root.clone())).unwrap();
        Host {
            root,
            live: true,
            services: Box::new(self.clone()),
            kube: Box::new(self.clone()),
            runtime: Box::new(self.clone()),
            programs: std::sync::Arc::new(self.clone()),
            clock: Box::new(self.clone()),
        }
    }

    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn fault(&self, method: &str, fault: Fault) {
        self.world(|w| w.faults.push_back((method.to_owned(), fault)));
    }

    pub fn calls(&self, method: &str) -> Vec<String> {
        self.world(|w| w.calls.iter().filter(|c| c.starts_with(method)).cloned().collect())
    }

    /// Records the call and takes the next fault that is meant for it.
    fn call(&self, method: &str, detail: &str) -> Option<Fault> {
        self.world(|w| {
            w.calls.push(format!("{method} {detail}"));
            let at = w.faults.iter().position(|(m, _)| m == method || m.strip_prefix('*') == Some(method))?;
            let fault = match w.faults[at].0.starts_with('*') {
                true => w.faults[at].1.clone(),
                false => w.faults.remove(at)?.1,
            };
            if matches!(fault, Fault::Hang) {
                w.pass(Duration::from_secs(3600));
            }
            Some(fault)
        })
    }
}

impl World {
    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.now = self.now.checked_add(jiff::SignedDuration::try_from(time).unwrap()).unwrap();
    }

    fn start_kubelet(&mut self) {
        self.starts += 1;
        let dies = self.kubelet_dies_if.is_some_and(|f| f(&self.root));
        self.kubelet.invocation_id = format!("invocation-{}", self.starts);
        self.kubelet.main_pid = if dies { 0 } else { 100 + self.starts };
        let (active, sub, result) =
            if dies { ("activating", "auto-restart", "exit-code") } else { ("active", "running", "success") };
        self.kubelet.active_state = active.into();
        self.kubelet.sub_state = sub.into();
        self.kubelet.result = result.into();
        self.kubelet.exec_main_status = i32::from(dies);
    }

    fn ready(&self) -> bool {
        self.node_ready && self.kubelet.is_running() && !self.never_ready_if.is_some_and(|f| f(&self.root))
    }
}

impl Clock for Fake {
    fn now(&self) -> Timestamp {
        self.world(|w| w.now)
    }
    fn monotonic(&self) -> Duration {
        self.world(|w| w.elapsed)
    }
    fn sleep(&self, time: Duration) {
        self.world(|w| w.pass(time));
    }
}

impl Fake {
    fn job(&self, verb: &str, unit: &str) -> Result<JobResult, SystemdError> {
        let timed_out = || SystemdError::TimedOut { what: unit.to_owned(), limit: Duration::from_secs(90) };
        match self.call(verb, unit) {
            Some(Fault::Fail(word)) if word == "shutdown" => Err(SystemdError::ShuttingDown { unit: unit.to_owned() }),
            Some(Fault::Fail(word)) => Ok(JobResult(word)),
            Some(Fault::Hang) => Err(timed_out()),
            Some(Fault::Lie) => Ok(JobResult("done".into())),
            None => {
                self.world(World::start_kubelet);
                Ok(JobResult("done".into()))
            }
        }
    }
}

impl ServiceManager for Fake {
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        match self.call("status", unit) {
            Some(Fault::Fail(detail)) => Err(SystemdError::Unreachable { detail }),
            Some(Fault::Hang) => Err(SystemdError::TimedOut { what: unit.into(), limit: Duration::from_secs(25) }),
            Some(Fault::Lie) => Ok(UnitStatus::default()),
            None if unit == "kubelet.service" => Ok(self.world(|w| w.kubelet.clone())),
            None => Ok(UnitStatus { load_state: "not-found".into(), ..UnitStatus::default() }),
        }
    }
    fn restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("restart", unit)
    }
    fn stop(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("stop", unit)
    }
    fn start(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("start", unit)
    }
    fn system_state(&self) -> Result<String, SystemdError> {
        Ok("running".into())
    }
    fn clock_synchronised(&self) -> Option<bool> {
        match self.call("clock", "") {
            Some(Fault::Fail(_)) => Some(false),
            Some(_) => None,
            None => Some(true),
        }
    }
    fn log_tail(&self, _unit: &str, _invocation: &str) -> Vec<String> {
        vec!["the last words of the kubelet".into()]
    }
}

impl ContainerRuntime for Fake {
    fn containers(&self, socket: &Path, name: &str) -> Result<Vec<Container>, CriError> {
        match self.call("containers", name) {
            Some(Fault::Fail(detail)) => Err(CriError::Call { what: "list containers", detail }),
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "list containers", limit: Duration::from_secs(10) }),
            Some(Fault::Lie) => Ok(Vec::new()),
            None => {
                let _ = socket;
                Ok(self.world(|w| w.containers.iter().filter(|c| c.name == name).cloned().collect()))
            }
        }
    }
    fn stop(&self, _socket: &Path, id: &str, _grace: Duration) -> Result<(), CriError> {
        match self.call("stop-container", id) {
            Some(Fault::Fail(detail)) => Err(CriError::Call { what: "stop a container", detail }),
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "stop a container", limit: Duration::from_secs(40) }),
            Some(Fault::Lie) => Ok(()),
            None => {
                self.world(|w| {
                    let now = i64::try_from(w.now.as_nanosecond()).unwrap();
                    for c in w.containers.iter_mut().filter(|c| c.id == id) {
                        c.attempt += 1;
                        c.id = format!("{}-{}", c.name, c.attempt);
                        c.created_ns = now;
                    }
                });
                Ok(())
            }
        }
    }
}

impl Programs for Fake {
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
        self.call("run", &format!("{:?}", invocation.program));
        Err(ExecError::NotFound { program: "program", looked: Vec::new() })
    }
    fn path(&self, _program: Program) -> Option<PathBuf> {
        None
    }
}

impl Fake {
    fn ask(&self, method: &str, to: &Connection) -> Result<(), KubeError> {
        let server = to.server.clone();
        let unreachable = |detail: &str| KubeError::Unreachable { server: server.clone(), detail: detail.into() };
        let fault = self.call(method, &to.server);
        if self.world(|w| w.api_is_down) {
            return Err(unreachable("connection refused"));
        }
        match fault {
            Some(Fault::Fail(word)) if word == "401" => Err(KubeError::Unauthorized { server }),
            Some(Fault::Fail(detail)) => Err(unreachable(&detail)),
            Some(Fault::Hang) => Err(unreachable("timed out")),
            Some(Fault::Lie) => Err(KubeError::Malformed { server, path: "/".into(), detail: "rubbish".into() }),
            None => Ok(()),
        }
    }
}

impl KubeApi for Fake {
    fn get(&self, to: &Connection, _path: &str) -> Result<Answer, KubeError> {
        self.ask("get", to)?;
        Ok(Answer { status: 200, body: r#"{"health":"true"}"#.into() })
    }
    fn post(&self, to: &Connection, _path: &str, _json: &str) -> Result<Answer, KubeError> {
        self.ask("post", to)?;
        Ok(Answer { status: 200, body: r#"{"members":[{"ID":"1"}]}"#.into() })
    }
    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError> {
        self.ask("whoami", to)?;
        let asserted = to.headers.iter().find(|(name, _)| name == "X-Remote-User").map(|(_, user)| user.clone());
        let own = || {
            let chain = parse_pem(&to.identity.as_ref().unwrap().cert).unwrap();
            chain.first().unwrap().common_name.clone().unwrap()
        };
        Ok(WhoAmI::User { name: asserted.unwrap_or_else(own), groups: Vec::new() })
    }
    fn node_ready(&self, to: &Connection, _node: &str) -> Result<NodeReady, KubeError> {
        self.ask("node_ready", to)?;
        Ok(self.world(|w| NodeReady {
            status: if w.ready() { "True" } else { "False" }.into(),
            reason: "KubeletReady".into(),
            message: String::new(),
            heartbeat: w.heartbeat.then_some(w.now),
        }))
    }
    fn lease_renewed(&self, to: &Connection, _node: &str) -> Result<Option<Timestamp>, KubeError> {
        self.ask("lease_renewed", to)?;
        Ok(self.world(|w| (w.heartbeat && w.kubelet.is_running()).then_some(w.now)))
    }
    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError> {
        self.ask("cluster_configuration", to)?;
        Ok(None)
    }
}
