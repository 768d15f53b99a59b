//! A node's outside parties, faked: services, API, container runtime, programs, clock. Every call is recorded with
//! the engine's step that it belongs to, and can fail, hang (until the fake clock has passed any limit), lie, or be
//! where the process dies. The file system is real: a temporary root.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod access;
pub mod cluster;
pub mod config_maps;
pub mod kubeadm;
pub mod node;
pub mod signer;
pub mod socket;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwarden::host::Host;
use certwarden::host::clock::Clock;
use certwarden::host::cri::{Container, ContainerRuntime, CriError, Exit};
use certwarden::host::exec::{ExecError, Invocation, Output, Program, Programs};
use certwarden::host::fs::Root;
use certwarden::host::kube::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI};
use certwarden::host::systemd::{JobResult, Later, ServiceManager, SystemdError, UnitStatus};
use certwarden::model::cert::parse_pem;
use certwarden::model::inventory::ContainerRef;
use certwarden::txn::progress::Progress;
use cluster::Write;
use jiff::{SignedDuration, Timestamp};

thread_local! {
    static STEP: RefCell<String> = const { RefCell::new(String::new()) };
    static STEPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static AT_STEP: RefCell<Vec<(At, Act)>> = const { RefCell::new(Vec::new()) };
}

/// A step of the engine's progress on this thread, since [`forget_steps`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    Number(usize),
    /// The first that begins so.
    Text(&'static str),
}

type Act = Box<dyn FnOnce()>;

/// For `Progress::with_listener`: the calls that follow belong to this step.
pub fn begin_step(step: &str) {
    STEP.with_borrow_mut(|s| step.clone_into(s));
    let number = STEPS.with_borrow_mut(|steps| {
        steps.push(step.to_owned());
        steps.len() - 1
    });
    let is_now = |at: At| match at {
        At::Number(n) => n == number,
        At::Text(text) => step.starts_with(text),
    };
    // taken out first: an act may look at the steps itself
    let due = AT_STEP.with_borrow_mut(|acts| acts.extract_if(.., |(at, _)| is_now(*at)).collect::<Vec<_>>());
    for (_, act) in due {
        act();
    }
}

/// Done once when the step begins, before any of its work.
pub fn at_step(at: At, act: impl FnOnce() + 'static) {
    AT_STEP.with_borrow_mut(|acts| acts.push((at, Box::new(act))));
}

/// Begins to count steps anew, with nothing to be done at any of them.
pub fn forget_steps() {
    AT_STEP.with_borrow_mut(Vec::clear);
    STEPS.with_borrow_mut(Vec::clear);
}

/// All steps since [`forget_steps`].
pub fn steps() -> Vec<String> {
    STEPS.with_borrow(Clone::clone)
}

/// What a call does instead of succeeding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    Fail,
    /// Takes so long that every limit has passed, then an error.
    Hang,
    /// Claims success and does or tells the wrong thing.
    Lie,
    /// systemd: the machine is going down.
    ShutDown,
}

/// One call of an outside party.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    pub step: String,
    pub method: &'static str,
    pub detail: String,
}

/// A predicate about the root.
pub type About = fn(&Path) -> bool;
type Hook = Box<dyn FnOnce(&Path) + Send>;

/// How the process died: unwound without the panic hook, so that nothing is printed.
#[derive(Debug)]
pub struct Crash;

/// The state of the faked world.
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct World {
    pub now: Timestamp,
    pub elapsed: Duration,
    pub root: PathBuf,
    pub calls: Vec<Call>,
    /// By the number of the call in `calls`.
    pub fault_at: BTreeMap<usize, Fault>,
    /// Every call of a method, from now on.
    pub always: BTreeMap<&'static str, Fault>,
    /// All calls, those of the clock too.
    pub ticks: u64,
    pub crash_at: Option<u64>,
    /// Done at a tick, e.g. by somebody else who writes to the node.
    pub hook_at: Option<(u64, Hook)>,
    /// Names of the calls at each tick, to find the one that is wanted.
    pub tick_names: Vec<String>,
    pub kubelet: UnitStatus,
    pub kubelet_started: Timestamp,
    /// How long after its start the kubelet posts its first status: 1.36 takes 0.7 s (measured), 1.20 takes 6 to 12 s.
    pub first_status: SignedDuration,
    /// `nodeLeaseDurationSeconds`.
    pub lease_seconds: u32,
    /// The kubelet renews its lease and posts no status while this is so.
    pub never_posts_if: Option<About>,
    /// The last status that the kubelet before this one posted.
    pub old_status: Timestamp,
    /// A kubelet posts once more just before it ends.
    pub last_words_at_its_end: bool,
    pub kubelet_dies_if: Option<About>,
    pub never_ready_if: Option<About>,
    pub starts: u32,
    pub boots: u32,
    pub containers: Vec<Container>,
    /// What each component read when it started: digest of its kubeconfig.
    pub loaded: BTreeMap<String, Vec<u8>>,
    pub broken: BTreeSet<String>,
    pub api_is_down: bool,
    pub node_ready: bool,
    pub members: usize,
    pub unhealthy_members: usize,
    pub clock_synchronised: Option<bool>,
    pub other_timer_active: bool,
    pub stopping: bool,
    /// What systemd runs later, if nobody takes it back.
    pub later: Option<Later>,
    /// Components by the port of a real socket.
    pub ports: BTreeMap<u16, &'static str>,
    /// The driver asks to stop at the first call of a step that begins so.
    pub stop_at: Option<&'static str>,
    pub progress: Option<Arc<Progress>>,
    /// What the step of `progress` had left when a job of systemd was begun.
    pub left_at_jobs: Vec<(&'static str, Option<Duration>)>,
    /// This component goes away for good at the first call of a step that begins so.
    pub dies_at_step: Option<(&'static str, &'static str)>,
    /// So many members of etcd are ill from the first call of a step that begins so.
    pub ill_at_step: Option<(&'static str, usize)>,
    /// Every call of a method in steps that begin so.
    pub fault_in: Option<(&'static str, &'static str, Fault)>,
    /// The kubelet makes no containers until it has been restarted so many times.
    pub idle_restarts: u32,
    /// A pod that runs until the kubelet is restarted, as `namespace/name`.
    pub evicts: Option<String>,
    /// Containers of that name end at once while this is so, and are made again as time passes.
    pub crashes_if: Option<(&'static str, About)>,
    /// The runtime says only so often how a container ended, then it has forgotten all; None: it forgets nothing.
    pub exits_told: Option<usize>,
    /// Images that are not on the node, by a part of their names.
    pub removed_images: Vec<&'static str>,
    /// A server, by the end of its URL, that refuses every credential while this is so.
    pub refuses_if: Option<(&'static str, About)>,
    /// Components that run and answer 500 when they are asked for their health, while this is so.
    pub ill_if: Vec<(&'static str, About)>,
    /// What the one aggregated API answers, by the root; None: there is none.
    pub aggregated: Option<fn(&Path) -> u16>,
    /// Who answers certificate signing requests; None: nobody knows of any.
    pub signer: Option<signer::Signer>,
    pub cluster: cluster::Cluster,
    /// None: it is not installed.
    pub kubeadm: Option<kubeadm::Kubeadm>,
    /// What the cluster's config map of kubeadm says; None: there is none.
    pub cluster_configuration: Option<String>,
    /// Requests about Leases vanish while this is so: each takes all of its time.
    pub leases_vanish_if: Option<About>,
    /// What that took, in all.
    pub vanished: Duration,
}

/// A handle on the world, shared by all fakes of a host.
#[derive(Clone)]
pub struct Fake(pub Arc<Mutex<World>>);

/// So many readings of the clock follow the announcement of the commit until the first rename: two looks whether old and
/// new files are in time, the record `committing`, the time of the swap.
pub const TO_FIRST_RENAME: u64 = 4;

pub const PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

fn container_of(name: &str) -> Container {
    Container {
        id: format!("{name}-0"),
        name: name.to_owned(),
        pod: format!("{name}-node-1"),
        namespace: "kube-system".to_owned(),
        running: true,
        attempt: 0,
        created_ns: 0,
    }
}

impl Fake {
    /// A healthy control-plane node with its files below `root`.
    #[allow(clippy::too_many_lines, reason = "one line for each switch of the world")]
    pub fn new(root: &Path) -> Self {
        // the beginning of a second: so the calls of two runs are the same, wherever they wait for a part of one
        let now = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
        let kubelet = UnitStatus {
            load_state: "loaded".into(),
            active_state: "active".into(),
            sub_state: "running".into(),
            result: "success".into(),
            invocation_id: "invocation-0".into(),
            main_pid: 4_000_000,
            restart_delay: Duration::from_secs(10),
            ..UnitStatus::default()
        };
        let mut world = World {
            now,
            elapsed: Duration::ZERO,
            root: root.to_owned(),
            calls: Vec::new(),
            fault_at: BTreeMap::new(),
            always: BTreeMap::new(),
            ticks: 0,
            crash_at: None,
            hook_at: None,
            tick_names: Vec::new(),
            kubelet,
            kubelet_started: now - SignedDuration::from_secs(100_003),
            first_status: SignedDuration::from_secs(2),
            lease_seconds: 40,
            never_posts_if: None,
            old_status: now - SignedDuration::from_secs(200_000),
            last_words_at_its_end: false,
            kubelet_dies_if: None,
            never_ready_if: None,
            starts: 0,
            boots: 0,
            containers: PODS.into_iter().map(container_of).collect(),
            loaded: BTreeMap::new(),
            broken: BTreeSet::new(),
            api_is_down: false,
            node_ready: true,
            members: 1,
            unhealthy_members: 0,
            clock_synchronised: Some(true),
            other_timer_active: false,
            stopping: false,
            later: None,
            ports: BTreeMap::new(),
            stop_at: None,
            progress: None,
            left_at_jobs: Vec::new(),
            dies_at_step: None,
            ill_at_step: None,
            fault_in: None,
            idle_restarts: 0,
            evicts: None,
            crashes_if: None,
            exits_told: None,
            removed_images: Vec::new(),
            refuses_if: None,
            ill_if: Vec::new(),
            aggregated: None,
            signer: None,
            cluster: cluster::Cluster::default(),
            kubeadm: None,
            cluster_configuration: None,
            leases_vanish_if: None,
            vanished: Duration::ZERO,
        };
        PODS.iter().chain(&["kubelet"]).for_each(|c| world.load(c));
        Self(Arc::new(Mutex::new(world)))
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
            programs: Arc::new(self.clone()),
            clock: Box::new(self.clone()),
            by: None,
        }
    }

    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn always(&self, method: &'static str, fault: Fault) {
        self.world(|w| w.always.insert(method, fault));
    }

    pub fn calls(&self) -> Vec<Call> {
        self.world(|w| w.calls.clone())
    }

    /// Details of the calls of a method.
    pub fn details(&self, method: &str) -> Vec<String> {
        self.calls().into_iter().filter(|c| c.method == method).map(|c| c.detail).collect()
    }

    fn tick(&self, name: &str) {
        let (crash, hook, root) = self.world(|w| {
            w.ticks += 1;
            let step = STEP.with_borrow(Clone::clone);
            if let Some(progress) = w.progress.as_ref().filter(|_| w.stop_at.is_some_and(|s| step.starts_with(s))) {
                if w.stopping { progress.stop() } else { progress.stop_before_commit() }
            }
            if let Some((_, component)) = w.dies_at_step.take_if(|(s, _)| step.starts_with(*s)) {
                w.containers.iter_mut().filter(|c| c.name == component).for_each(|c| c.running = false);
                w.broken.insert(component.to_owned());
            }
            if let Some((_, ill)) = w.ill_at_step.take_if(|(s, _)| step.starts_with(*s)) {
                w.unhealthy_members = ill;
            }
            w.tick_names.push(format!("{step}/{name}"));
            let hook = w.hook_at.take_if(|(at, _)| *at == w.ticks).map(|(_, hook)| hook);
            (w.crash_at == Some(w.ticks), hook, w.root.clone())
        });
        if let Some(hook) = hook {
            hook(&root);
        }
        if crash {
            std::panic::resume_unwind(Box::new(Crash)); // outside of the lock: the world goes on
        }
    }

    /// Records the call and finds the fault that is meant for it.
    fn call(&self, method: &'static str, detail: &str) -> Option<Fault> {
        self.tick(method);
        self.world(|w| {
            let step = STEP.with_borrow(Clone::clone);
            let lasting = w.fault_in.filter(|(s, m, _)| step.starts_with(s) && *m == method).map(|(.., fault)| fault);
            let fault = w.fault_at.get(&w.calls.len()).or_else(|| w.always.get(method)).copied().or(lasting);
            w.calls.push(Call { step, method, detail: detail.to_owned() });
            if fault == Some(Fault::Hang) {
                w.pass(Duration::from_secs(60));
                w.elapsed += Duration::from_secs(3600); // the wall clock stays near the real one, which OpenSSL goes by
            }
            fault
        })
    }
}

impl World {
    /// The control planes of a cluster whose etcd has so many members, this node first.
    fn peers(&self) -> Vec<String> {
        (0..self.members).map(|i| if i == 0 { "node-1".to_owned() } else { format!("m{i}") }).collect()
    }

    pub fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.now += SignedDuration::try_from(time).unwrap();
    }

    /// Steps the wall clock, as NTP or a hand does. What beats in a rhythm goes on by the new time; what was written
    /// down stays.
    pub fn step(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.kubelet_started += SignedDuration::from_secs(seconds);
    }

    /// No container and no invocation is the one of another boot.
    pub fn boot(&mut self, (starts, boots): (u32, u32)) {
        (self.starts, self.boots) = (starts + 1, boots + 1);
        self.kubelet.invocation_id = format!("invocation-{}", self.starts);
        let boots = self.boots;
        self.containers.iter_mut().for_each(|c| c.id = format!("{}-boot{boots}", c.name));
    }

    /// Takes the faked wall clock back to the real one, with all that was seen by it: a handshake in memory goes by
    /// the real one.
    pub fn rejoin_real_time(&mut self) {
        let ahead = self.now.duration_since(Timestamp::now());
        self.now -= ahead;
        self.kubelet_started -= ahead;
        self.old_status -= ahead;
        self.kubelet.inactive_since = self.kubelet.inactive_since.map(|at| at - ahead);
        let ahead = i64::try_from(ahead.as_nanos()).unwrap();
        self.containers.iter_mut().filter(|c| c.created_ns != 0).for_each(|c| c.created_ns -= ahead);
    }

    fn load(&mut self, component: &str) {
        let file = match component {
            "kube-controller-manager" => "etc/kubernetes/controller-manager.conf",
            "kube-scheduler" => "etc/kubernetes/scheduler.conf",
            _ => return,
        };
        let bytes = std::fs::read(self.root.join(file)).unwrap_or_default();
        self.loaded.insert(component.to_owned(), bytes);
    }

    pub fn start_kubelet(&mut self) {
        if self.kubelet.is_running() {
            self.end_kubelet();
        }
        self.starts += 1;
        let dies = self.kubelet_dies_if.is_some_and(|f| f(&self.root));
        self.kubelet.invocation_id = format!("invocation-{}", self.starts);
        self.kubelet.main_pid = if dies { 0 } else { 4_000_000 + self.starts };
        let (active, sub, result) =
            if dies { ("activating", "auto-restart", "exit-code") } else { ("active", "running", "success") };
        self.kubelet.active_state = active.into();
        self.kubelet.sub_state = sub.into();
        self.kubelet.result = result.into();
        self.kubelet.exec_main_status = i32::from(dies);
        self.idle_restarts = self.idle_restarts.saturating_sub(1);
        if !dies {
            self.kubelet_started = self.now;
            for name in PODS {
                if !self.runs(name) {
                    self.new_container(name);
                }
            }
        }
    }

    fn end_kubelet(&mut self) {
        self.old_status = if self.last_words_at_its_end { self.now } else { self.last_status() };
        self.kubelet.inactive_since = Some(self.now);
    }

    pub fn stop_kubelet(&mut self) {
        self.end_kubelet();
        self.kubelet.active_state = "activating".into();
        self.kubelet.sub_state = "auto-restart".into();
        self.kubelet.result = "exit-code".into();
        self.kubelet.main_pid = 0;
    }

    pub fn runs(&self, name: &str) -> bool {
        self.containers.iter().any(|c| c.name == name && c.running)
    }

    fn crashes(&self, name: &str) -> bool {
        self.crashes_if.is_some_and(|(n, so)| n == name && so(&self.root))
    }

    pub fn new_container(&mut self, name: &str) {
        if self.idle_restarts > 0 {
            return;
        }
        self.load(name);
        let now = i64::try_from(self.now.as_nanosecond()).unwrap();
        let runs = !self.broken.contains(name) && !self.crashes(name);
        for c in self.containers.iter_mut().filter(|c| c.name == name) {
            c.attempt += 1;
            c.id = format!("{}-{}-{}", c.name, self.boots, c.attempt);
            c.created_ns = now;
            c.running = runs;
        }
    }

    fn stop_container(&mut self, id: &str) {
        let Some(name) = self.containers.iter().find(|c| c.id == id).map(|c| c.name.clone()) else { return };
        self.containers.iter_mut().filter(|c| c.id == id).for_each(|c| c.running = false);
        if self.kubelet.is_running() {
            self.new_container(&name);
        }
    }

    fn ready(&self) -> bool {
        self.node_ready && self.kubelet.is_running() && !self.never_ready_if.is_some_and(|f| f(&self.root))
    }

    /// The lease's last renewal: a quarter of its duration after the one before, from the kubelet's start on (kubernetes:
    /// `pkg/kubelet/kubelet.go:nodeLeaseRenewIntervalFraction`).
    fn last_renewal(&self) -> Timestamp {
        let running = self.now.as_second() - self.kubelet_started.as_second();
        let every = i64::from(self.lease_seconds / 4);
        let end = if self.kubelet.is_running() { running } else { 0 };
        self.kubelet_started + SignedDuration::from_secs(end / every * every + i64::from(end > 1) * 2)
    }

    /// The last status: the first some time after the start, then one every 5 min (`nodeStatusReportFrequency`).
    fn last_status(&self) -> Timestamp {
        let first = self.kubelet_started + self.first_status;
        let posts = self.kubelet.is_running() && !self.never_posts_if.is_some_and(|so| so(&self.root));
        if !posts || self.now < first {
            return self.old_status;
        }
        first + SignedDuration::from_secs(self.now.duration_since(first).as_secs() / 300 * 300)
    }

    fn ill(&self, server: &str, path: &str) -> bool {
        let component = match server.rsplit_once(':').map_or("", |(_, port)| port) {
            "10257" => "kube-controller-manager",
            "10259" => "kube-scheduler",
            _ if path.starts_with("/readyz") => "kube-apiserver",
            _ => return false,
        };
        self.ill_if.iter().any(|(who, so)| *who == component && so(&self.root))
    }

    /// Whether whoever listens at the URL is there.
    fn answers(&self, server: &str) -> bool {
        let port = server.rsplit_once(':').map_or("", |(_, port)| port);
        if let Some(component) = port.parse().ok().and_then(|p: u16| self.ports.get(&p)) {
            return self.runs(component) && !(self.api_is_down && *component == "kube-apiserver");
        }
        match port {
            "10248" | "3" => self.kubelet.is_running(),
            "10257" => self.runs("kube-controller-manager"),
            "10259" => self.runs("kube-scheduler"),
            "2379" | "2381" | "2" => self.runs("etcd"),
            _ => self.runs("kube-apiserver") && !self.api_is_down,
        }
    }
}

impl Clock for Fake {
    fn now(&self) -> Timestamp {
        self.tick("now");
        self.world(|w| w.now)
    }
    fn monotonic(&self) -> Duration {
        self.world(|w| w.elapsed)
    }
    fn sleep(&self, time: Duration) {
        self.tick("sleep");
        self.world(|w| {
            w.pass(time);
            // as the kubelet does, without its back-off
            if let Some((name, _)) = w.crashes_if.filter(|(name, _)| !w.runs(name) && w.kubelet.is_running()) {
                w.new_container(name);
            }
        });
    }
}

impl Fake {
    fn job(&self, verb: &'static str, unit: &str, act: fn(&mut World)) -> Result<JobResult, SystemdError> {
        self.world(|w| w.left_at_jobs.extend(w.progress.as_ref().map(|p| (verb, p.snapshot().left))));
        match self.call(verb, unit) {
            Some(Fault::ShutDown) => Err(SystemdError::ShuttingDown { unit: unit.to_owned() }),
            Some(Fault::Fail) => Ok(JobResult("failed".into())),
            Some(Fault::Hang) => Err(SystemdError::TimedOut { what: unit.to_owned(), limit: Duration::from_secs(90) }),
            Some(Fault::Lie) => Ok(JobResult("done".into())),
            None => {
                self.world(act);
                Ok(JobResult("done".into()))
            }
        }
    }
}

impl ServiceManager for Fake {
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        match self.call("status", unit) {
            Some(Fault::Hang) => Err(SystemdError::TimedOut { what: unit.into(), limit: Duration::from_secs(25) }),
            Some(Fault::Lie) => Ok(UnitStatus::default()),
            Some(_) => Err(SystemdError::Unreachable { detail: "no bus".into() }),
            None if unit == "kubelet.service" => Ok(self.world(|w| w.kubelet.clone())),
            None => {
                let active = self.world(|w| w.other_timer_active);
                let state = if active { "active" } else { "inactive" };
                Ok(UnitStatus { active_state: state.into(), ..UnitStatus::default() })
            }
        }
    }
    fn restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("restart", unit, World::start_kubelet)
    }
    fn stop(&self, unit: &str) -> Result<JobResult, SystemdError> {
        if Path::new(unit).extension().is_some_and(|e| e == "timer") {
            return self.job("cancel", unit, |w| w.later = None);
        }
        self.job("stop", unit, World::stop_kubelet)
    }
    fn start(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("start", unit, World::start_kubelet)
    }
    fn run_later(&self, later: &Later) -> Result<(), SystemdError> {
        match self.call("run-later", &later.timer()) {
            Some(Fault::Lie) => Ok(()),
            Some(Fault::Hang) => Err(SystemdError::TimedOut { what: later.timer(), limit: Duration::from_secs(30) }),
            Some(_) => Err(SystemdError::Unreachable { detail: "no bus".into() }),
            None => {
                self.world(|w| {
                    w.later.get_or_insert_with(|| later.clone());
                });
                Ok(())
            }
        }
    }
    fn system_state(&self) -> Result<String, SystemdError> {
        Ok(self.world(|w| if w.stopping { "stopping" } else { "running" }.to_owned()))
    }
    fn clock_synchronised(&self) -> Option<bool> {
        self.world(|w| w.clock_synchronised)
    }
    fn log_tail(&self, _unit: &str, _invocation: &str) -> Vec<String> {
        vec!["the last words of the kubelet".into()]
    }
}

impl ContainerRuntime for Fake {
    fn containers(&self, _socket: &Path, wanted: &ContainerRef) -> Result<Vec<Container>, CriError> {
        let is_wanted = |c: &&Container| {
            (&c.name, &c.namespace) == (&wanted.name, &wanted.namespace)
                && wanted.pod.as_ref().is_none_or(|p| *p == c.pod)
        };
        match self.call("containers", &wanted.name) {
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "list containers", limit: Duration::from_secs(10) }),
            Some(Fault::Lie) => Ok(Vec::new()),
            Some(_) => Err(CriError::Call { what: "list containers", detail: "refused".into() }),
            None => Ok(self.world(|w| w.containers.iter().filter(is_wanted).cloned().collect())),
        }
    }
    fn pods(&self, _socket: &Path) -> Result<BTreeSet<String>, CriError> {
        match self.call("pods", "") {
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "list pods", limit: Duration::from_secs(15) }),
            Some(Fault::Lie) => Ok(BTreeSet::new()),
            Some(_) => Err(CriError::Call { what: "list pods", detail: "refused".into() }),
            None => Ok(self.world(|w| {
                let pods = w.containers.iter().filter(|c| c.running).map(|c| format!("{}/{}", c.namespace, c.pod));
                pods.chain(w.evicts.clone().filter(|_| w.starts == 0)).collect()
            })),
        }
    }
    fn exit(&self, _socket: &Path, id: &str) -> Result<Option<Exit>, CriError> {
        self.call("exit", id);
        let log = PathBuf::from("/var/log/pods/last.log");
        let left = self.world(|w| w.exits_told.as_mut().map(|left| std::mem::replace(left, left.saturating_sub(1))));
        if left == Some(0) {
            return Ok(None);
        }
        Ok(self.world(|w| w.containers.iter().any(|c| c.id == id && !c.running)).then(|| Exit {
            code: 1,
            reason: "Error".into(),
            message: String::new(),
            log: Some(log),
        }))
    }
    fn has_image(&self, _socket: &Path, name: &str) -> Result<bool, CriError> {
        match self.call("has-image", name) {
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "find an image", limit: Duration::from_secs(10) }),
            Some(Fault::Lie) => Ok(false),
            Some(_) => Err(CriError::Call { what: "find an image", detail: "refused".into() }),
            None => Ok(self.world(|w| !w.removed_images.iter().any(|removed| name.contains(removed)))),
        }
    }
    fn stop(&self, _socket: &Path, id: &str, _grace: Duration) -> Result<(), CriError> {
        match self.call("stop-container", id) {
            Some(Fault::Hang) => Err(CriError::TimedOut { what: "stop a container", limit: Duration::from_secs(40) }),
            Some(Fault::Lie) => Ok(()),
            Some(_) => Err(CriError::Call { what: "stop a container", detail: "refused".into() }),
            None => {
                self.world(|w| w.stop_container(id));
                Ok(())
            }
        }
    }
}

impl Programs for Fake {
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
        self.call("run", &format!("{:?}", invocation.program));
        let (kubeadm, root, now) = self.world(|w| (w.kubeadm, w.root.clone(), w.now));
        if let Some(kubeadm) = kubeadm.filter(|_| invocation.program == Program::Certwarden) {
            return Ok(kubeadm::answer(kubeadm, &invocation.args, &root, now));
        }
        Err(ExecError::NotFound { program: "program", looked: Vec::new() })
    }
    fn path(&self, program: Program) -> Option<PathBuf> {
        (program == Program::Kubeadm && self.world(|w| w.kubeadm.is_some())).then(|| "/usr/bin/kubeadm".into())
    }
}

impl Fake {
    /// None: the call is to succeed. `Lie` is for the caller to tell.
    fn ask(&self, method: &'static str, to: &Connection) -> Result<bool, KubeError> {
        let server = to.server.clone();
        let unreachable = |detail: &str| KubeError::Unreachable { server: server.clone(), detail: detail.into() };
        let fault = self.call(method, &to.server);
        if !self.world(|w| w.answers(&to.server)) {
            return Err(unreachable("connection refused"));
        }
        let refuses = |w: &mut World| w.refuses_if.is_some_and(|(url, so)| to.server.ends_with(url) && so(&w.root));
        match fault {
            _ if self.world(refuses) => Err(KubeError::Unauthorized { server }),
            Some(Fault::Fail | Fault::ShutDown) => Err(KubeError::Unauthorized { server }),
            Some(Fault::Hang) => Err(unreachable("timed out")),
            Some(Fault::Lie) => Ok(true),
            None => Ok(false),
        }
    }
}

impl Fake {
    fn vanishes(&self, to: &Connection, path: &str) -> Result<(), KubeError> {
        let gone = self.world(|w| {
            let gone = path.contains("/kube-system/leases") && w.leases_vanish_if.is_some_and(|about| about(&w.root));
            if gone {
                w.elapsed += to.limit;
                w.vanished += to.limit;
            }
            gone
        });
        let silence = || KubeError::Unreachable { server: to.server.clone(), detail: "timed out".into() };
        if gone { Err(silence()) } else { Ok(()) }
    }

    /// What RBAC refuses to a node.
    fn refuses(to: &Connection, verb: &str, path: &str) -> Option<Answer> {
        let refused = access::refuses(verb, path) && access::node(to).is_some();
        refused.then(|| Answer { status: 403, body: format!("{verb} of {path} is forbidden") })
    }

    fn requests(&self, to: &Connection, path: &str, json: Option<&str>) -> Option<Answer> {
        self.world(|w| {
            let now = w.now;
            w.signer.as_mut()?.answer(to, path, json, now)
        })
    }
}

impl KubeApi for Fake {
    fn get(&self, to: &Connection, path: &str) -> Result<Answer, KubeError> {
        let lies = self.ask("get", to)?;
        self.vanishes(to, path)?;
        if let Some(refusal) = Self::refuses(to, "get", path) {
            return Ok(refusal);
        }
        if self.world(|w| w.ill(&to.server, path)) {
            return Ok(Answer { status: 500, body: "[-]poststarthook/stuck failed".into() });
        }
        if let Some(answer) = self.requests(to, path, None) {
            return Ok(answer);
        }
        if let Some(answer) = self.world(|w| w.cluster.get(path, &w.peers())).filter(|_| !lies) {
            return Ok(answer);
        }
        if let Some(status) = self.world(|w| w.aggregated.map(|a| a(&w.root))) {
            let own = r#"{"metadata":{"name":"v1."},"spec":{"version":"v1"}}"#;
            let other = r#"{"metadata":{"name":"v1.m"},"spec":{"service":{"name":"m"},"group":"m","version":"v1"}}"#;
            match path {
                "/apis/apiregistration.k8s.io/v1/apiservices" => {
                    return Ok(Answer { status: 200, body: format!(r#"{{"items":[{own},{other}]}}"#) });
                }
                "/apis/m/v1" => return Ok(Answer { status, body: String::new() }),
                _ => {}
            }
        }
        Ok(Answer { status: if lies { 500 } else { 200 }, body: r#"{"health":"true"}"#.into() })
    }
    fn post(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError> {
        let lies = self.ask("post", to)?;
        if let Some(refusal) = Self::refuses(to, "create", path) {
            return Ok(refusal);
        }
        if let Some(answer) = self.requests(to, path, Some(json)) {
            return Ok(answer);
        }
        if lies {
            return Ok(Answer { status: 200, body: r#"{"members":[]}"#.into() });
        }
        let lease = |w: &mut World| {
            w.cluster.clock = w.elapsed;
            w.cluster.change(Write::Create, path, json)
        };
        if let Some(answer) = self.world(lease) {
            return Ok(answer);
        }
        let (peers, ill) = self.world(|w| (w.peers(), w.unhealthy_members));
        let member = |(i, name): (usize, &String)| {
            let url = if i < ill { "" } else { "https://127.0.0.1:2" };
            let peer = if i == 0 { "https://node-1:2380".to_owned() } else { format!("https://10.0.0.{i}:2380") };
            format!(r#"{{"name":"{name}","clientURLs":["{url}"],"peerURLs":["{peer}"]}}"#)
        };
        let list: Vec<String> = peers.iter().enumerate().map(member).collect();
        Ok(Answer { status: 200, body: format!(r#"{{"members":[{}]}}"#, list.join(",")) })
    }
    fn put(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError> {
        let lies = self.ask("put", to)?;
        self.vanishes(to, path)?;
        if let Some(refusal) = Self::refuses(to, "update", path) {
            return Ok(refusal);
        }
        let lease = |w: &mut World| {
            w.cluster.clock = w.elapsed;
            w.cluster.change(Write::Replace, path, json)
        };
        let done = self.world(|w| w.signer.as_mut().and_then(|s| s.decide(path, json)).or_else(|| lease(w)));
        Ok(done.filter(|_| !lies).unwrap_or(Answer { status: 500, body: String::new() }))
    }
    fn patch(&self, to: &Connection, path: &str, kind: &str, json: &str) -> Result<Answer, KubeError> {
        if kind != "application/json-patch+json" {
            let detail = "nothing else can be changed so".to_owned();
            return Err(KubeError::Setup { server: to.server.clone(), detail });
        }
        let lies = self.ask("patch", to)?;
        if let Some(refusal) = Self::refuses(to, "patch", path) {
            return Ok(refusal);
        }
        let node = access::node(to);
        let done = self.world(|w| w.cluster.maps.patch(path, json, node.as_deref()));
        Ok(done.filter(|_| !lies).unwrap_or(Answer { status: 500, body: String::new() }))
    }
    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError> {
        if self.ask("whoami", to)? {
            return Ok(WhoAmI::User { name: "system:anonymous".into(), groups: Vec::new() });
        }
        let asserted = to.headers.iter().find(|(name, _)| name == "X-Remote-User").map(|(_, user)| user.clone());
        let own = || {
            let chain = parse_pem(&to.identity.as_ref().unwrap().cert).unwrap();
            chain.first().unwrap().common_name.clone().unwrap()
        };
        Ok(WhoAmI::User { name: asserted.unwrap_or_else(own), groups: Vec::new() })
    }
    fn node_ready(&self, to: &Connection, _node: &str) -> Result<NodeReady, KubeError> {
        let lies = self.ask("node_ready", to)?;
        Ok(self.world(|w| NodeReady {
            status: if w.ready() && !lies { "True" } else { "False" }.into(),
            reason: "KubeletReady".into(),
            message: String::new(),
            heartbeat: Some(Timestamp::from_second(w.last_status().as_second()).unwrap()),
        }))
    }
    fn node_lease(&self, to: &Connection, _node: &str) -> Result<NodeLease, KubeError> {
        let lies = self.ask("node_lease", to)?;
        Ok(self.world(|w| NodeLease { renewed: (!lies).then(|| w.last_renewal()), seconds: Some(w.lease_seconds) }))
    }
    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError> {
        self.ask("cluster_configuration", to)?;
        Ok(self.world(|w| w.cluster_configuration.clone()))
    }
}
