//! systemd as certwarden sees it over D-Bus, played by a scripted peer: what was measured of systemd 252 and 257 for
//! restarts that end in every possible way. `systemd_real.rs` asks a real one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certwarden::host::exec::{ExecError, Invocation, Output, Program, Programs};
use certwarden::host::systemd::{JobResult, ServiceManager, Systemd, SystemdError, loaded_at};
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::wire::ObjectPath;
use zbus::{Connection, Message, MessageStream, Variant, connection};

const UNIT: &str = "kubelet.service";
const JOB: &str = "/org/freedesktop/systemd1/job/77";
const LIMIT: Duration = Duration::from_secs(5);

/// What the peer does when it is asked to restart.
#[derive(Clone, Copy, Debug)]
enum Restart {
    /// Announces the end of the job before it even answers the call, as PID 1 can.
    Ends(&'static str),
    /// First announces the ends of other jobs, of the same unit too.
    EndsAmongOthers(&'static str),
    /// Answers, and never announces an end.
    NeverEnds,
    Refuses(&'static str),
    NeverAnswers,
    /// Closes the connection after it has answered.
    HangsUp,
}

/// A bus with a systemd on it, as far as the product uses them.
struct Bus {
    _dir: tempfile::TempDir,
    address: String,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Bus {
    fn new(restart: Restart) -> Self {
        Self::with_job(restart, None)
    }

    /// With a job of a kind queued already.
    fn with_job(restart: Restart, queued: Option<&'static str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let peer = Peer { restart, queued, log: Arc::clone(&log) };
                    // the client hanging up is not this side's failure
                    tokio::spawn(async move { peer.serve(stream).await.unwrap_or(()) });
                }
            });
        });
        Self { address: format!("unix:path={}", path.display()), _dir: dir, calls }
    }

    fn systemd(&self, programs: &Arc<Fake>) -> Systemd {
        self.impatient(programs, LIMIT)
    }

    fn impatient(&self, programs: &Arc<Fake>, limit: Duration) -> Systemd {
        Systemd::with_limits(&self.address, Arc::clone(programs) as Arc<dyn Programs>, limit, limit)
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

struct Peer {
    restart: Restart,
    queued: Option<&'static str>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    async fn serve(self, stream: tokio::net::UnixStream) -> zbus::Result<()> {
        let bus = connection::Builder::unix_stream(stream.into_std().map_err(zbus::Error::from)?)
            .server(zbus::Guid::generate())
            .p2p()
            .build()
            .await?;
        let mut messages = MessageStream::from(&bus);
        while let Some(message) = poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
            let message = message?;
            if message.message_type() == Type::MethodCall && self.answer(&bus, &message).await?.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// None: hang up.
    async fn answer(&self, bus: &Connection, call: &Message) -> zbus::Result<Option<()>> {
        let header = call.header();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        self.log.lock().unwrap().push(member.clone());
        let unit = ObjectPath::try_from("/org/freedesktop/systemd1/unit/kubelet_2eservice")?;
        match member.as_str() {
            "Hello" => bus.reply(&header, &":1.7").await?,
            "GetNameOwner" => bus.reply(&header, &":1.0").await?,
            "LoadUnit" => bus.reply(&header, &unit).await?,
            "GetAll" => bus.reply(&header, &self.properties()?).await?,
            "Get" => {
                let (_, property): (String, String) = call.body().deserialize()?;
                let value = match property.as_str() {
                    "JobType" => Variant::from(self.queued.unwrap_or("none")),
                    "NTPSynchronized" => Variant::from(true),
                    _ => Variant::from("degraded"),
                };
                bus.reply(&header, &value).await?;
            }
            "RestartUnit" | "StopUnit" | "StartUnit" => return self.job(bus, call).await,
            _ => bus.reply(&header, &()).await?,
        }
        Ok(Some(()))
    }

    async fn job(&self, bus: &Connection, call: &Message) -> zbus::Result<Option<()>> {
        let (_, mode): (String, String) = call.body().deserialize()?;
        assert_eq!(mode, "replace");
        let header = call.header();
        let job = ObjectPath::try_from(JOB)?;
        match self.restart {
            Restart::Ends(result) => ended(bus, JOB, UNIT, result).await?,
            Restart::EndsAmongOthers(result) => {
                for id in 0..200 {
                    ended(bus, &format!("/org/freedesktop/systemd1/job/1{id}"), "other.service", "done").await?;
                }
                ended(bus, "/org/freedesktop/systemd1/job/76", UNIT, "canceled").await?;
                ended(bus, JOB, UNIT, result).await?;
            }
            Restart::NeverEnds | Restart::HangsUp => {}
            Restart::NeverAnswers => return Ok(Some(())),
            Restart::Refuses(name) => {
                bus.reply_error(&header, format!("org.freedesktop.systemd1.{name}"), &"no").await?;
                return Ok(Some(()));
            }
        }
        bus.reply(&header, &job).await?;
        Ok(if matches!(self.restart, Restart::HangsUp) { None } else { Some(()) })
    }

    fn properties(&self) -> zbus::Result<HashMap<&'static str, Variant<'static>>> {
        let job =
            if self.queued.is_some() { (5_u32, ObjectPath::try_from(JOB)?) } else { (0, ObjectPath::try_from("/")?) };
        Ok(HashMap::from([
            ("Id", Variant::from(UNIT)),
            ("LoadState", Variant::from("loaded")),
            ("ActiveState", Variant::from("activating")),
            ("SubState", Variant::from("auto-restart")),
            ("Result", Variant::from("exit-code")),
            ("Job", Variant::from(job)),
            ("InvocationID", Variant::from((0_u8..16).collect::<Vec<u8>>())),
            ("MainPID", Variant::from(0_u32)),
            ("NRestarts", Variant::from(3_u32)),
            ("ExecMainStatus", Variant::from(1_i32)),
            ("TimeoutStartUSec", Variant::from(u64::MAX)),
            ("TimeoutStopUSec", Variant::from(90_000_000_u64)),
            ("RestartUSec", Variant::from("ten seconds")), // of another type than documented
            ("ExecStartEx", Variant::from(vec![ran(vec!["no-env-expand".to_owned()])])),
            ("ExecStart", Variant::from(vec![ran(false)])),
            ("Environment", Variant::from(vec!["A=b c"])),
            ("EnvironmentFiles", Variant::from(vec![("/etc/default/kubelet", true), ("/etc/k", false)])),
            ("UnsetEnvironment", Variant::from(vec!["B"])),
            ("PassEnvironment", Variant::from(Vec::<String>::new())),
            ("Slice", Variant::from("a-b.slice")),
        ]))
    }
}

/// A command that has run, with its flags or whether its failure is ignored.
fn ran<T>(how: T) -> (String, Vec<String>, T, u64, u64, u64, u64, u32, i32, i32) {
    let argv = ["kubelet", "--hostname-override=n", "$A"].map(str::to_owned).to_vec();
    ("/usr/bin/kubelet".to_owned(), argv, how, 1, 2, 3, 4, 5, 6, 7)
}

async fn ended(bus: &Connection, job: &str, unit: &str, result: &str) -> zbus::Result<()> {
    let signal = Message::signal("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved")
        .sender(":1.0")
        .build(&(7_u32, ObjectPath::try_from(job)?, unit, result))?;
    bus.send(&signal).await
}

/// Programs that answer from a list, by their first distinguishing argument.
#[derive(Default)]
struct Fake {
    answers: Vec<(&'static str, i32, &'static str, &'static str)>,
    ran: Mutex<Vec<String>>,
}

impl Fake {
    fn new(answers: &[(&'static str, i32, &'static str, &'static str)]) -> Arc<Self> {
        Arc::new(Self { answers: answers.to_vec(), ran: Mutex::default() })
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }
}

impl Programs for Fake {
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
        let args: Vec<_> = invocation.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        self.ran.lock().unwrap().push(args.join(" "));
        let Some((_, code, stdout, stderr)) = self.answers.iter().find(|(word, ..)| args.iter().any(|a| a == word))
        else {
            return Err(ExecError::NotFound { program: "systemctl", looked: Vec::new() });
        };
        Ok(Output { code: Some(*code), signal: None, stdout: (*stdout).to_owned(), stderr: (*stderr).to_owned() })
    }

    fn path(&self, _: Program) -> Option<PathBuf> {
        None
    }
}

fn nothing() -> Arc<Fake> {
    Fake::new(&[])
}

#[test]
fn the_end_of_a_job_is_heard_even_if_it_comes_before_the_answer_to_the_call() {
    for result in ["done", "failed", "canceled", "timeout", "dependency", "skipped", "a-word-of-systemd-999"] {
        let bus = Bus::new(Restart::Ends(result));
        assert_eq!(bus.systemd(&nothing()).restart(UNIT).unwrap(), JobResult(result.to_owned()));
        let calls = bus.calls();
        let at = |name: &str| calls.iter().position(|c| c == name);
        assert!(at("Subscribe").unwrap() < at("AddMatch").unwrap(), "{calls:?}");
        assert!(at("AddMatch").unwrap() < at("RestartUnit").unwrap(), "{calls:?}");
    }
}

#[test]
fn the_ends_of_other_jobs_are_not_taken_for_ours() {
    let bus = Bus::new(Restart::EndsAmongOthers("failed"));
    assert_eq!(bus.systemd(&nothing()).restart(UNIT).unwrap().0, "failed");
}

#[test]
fn done_is_reported_as_done_while_the_status_tells_of_the_dead_process() {
    let bus = Bus::new(Restart::Ends("done"));
    let systemd = bus.systemd(&nothing());
    assert!(systemd.restart(UNIT).unwrap().is_done());
    let status = systemd.status(UNIT).unwrap();
    assert!(!status.is_running());
    assert_eq!(status.sub_state, "auto-restart");
    assert_eq!((status.result.as_str(), status.exec_main_status, status.n_restarts), ("exit-code", 1, 3));
    assert_eq!(status.invocation_id, "000102030405060708090a0b0c0d0e0f");
    assert_eq!(status.timeout_stop, Duration::from_secs(90));
    assert_eq!(status.timeout_start, Duration::ZERO, "infinite");
    assert_eq!(status.restart_delay, Duration::ZERO, "a property of an unexpected type is unknown");
}

#[test]
fn what_a_unit_has_loaded_is_read_and_a_bus_that_is_silent_is_not_waited_for() {
    let bus = Bus::new(Restart::Ends("done"));
    let loaded = loaded_at(&bus.address, UNIT, LIMIT).unwrap();
    assert_eq!((loaded.load_state.as_str(), loaded.slice.as_str()), ("loaded", "a-b.slice"));
    let [command] = loaded.commands.as_slice() else { panic!("{loaded:?}") };
    assert_eq!((command.path.as_str(), command.verbatim), ("/usr/bin/kubelet", true));
    assert_eq!(command.argv, ["kubelet", "--hostname-override=n", "$A"]);
    assert_eq!((loaded.environment, loaded.unset_environment), (vec!["A=b c".to_owned()], vec!["B".to_owned()]));
    assert_eq!(loaded.environment_files, [("/etc/default/kubelet".to_owned(), true), ("/etc/k".to_owned(), false)]);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let begin = Instant::now();
    for address in [format!("unix:path={}", path.display()), "unix:path=/nonexistent/bus".to_owned()] {
        assert_eq!(loaded_at(&address, UNIT, Duration::from_millis(300)), None);
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_job_that_never_ends_is_given_up_in_time() {
    let bus = Bus::new(Restart::NeverEnds);
    let begin = Instant::now();
    let e = bus.impatient(&nothing(), Duration::from_millis(500)).restart(UNIT).unwrap_err();
    assert!(matches!(&e, SystemdError::TimedOut { what, .. } if what == "restart kubelet.service"), "{e}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_call_that_is_never_answered_is_given_up_in_time_and_not_made_again_by_systemctl() {
    let bus = Bus::new(Restart::NeverAnswers);
    let programs = nothing();
    let e = bus.impatient(&programs, Duration::from_millis(500)).restart(UNIT).unwrap_err();
    assert!(matches!(e, SystemdError::TimedOut { .. }), "{e}");
    assert_eq!(programs.ran(), Vec::<String>::new());
}

#[test]
fn what_systemd_refuses_is_told_apart() {
    let refused = |name| Bus::new(Restart::Refuses(name)).systemd(&nothing()).restart(UNIT).unwrap_err();
    assert!(matches!(refused("NoSuchUnit"), SystemdError::NoSuchUnit { .. }));
    assert!(matches!(refused("UnitMasked"), SystemdError::Masked { .. }));
    assert!(matches!(refused("TransactionIsDestructive"), SystemdError::ShuttingDown { .. }));
    assert!(matches!(refused("LoadFailed"), SystemdError::Refused { .. }));
}

#[test]
fn an_administrator_who_is_stopping_the_unit_is_not_fought() {
    let bus = Bus::with_job(Restart::Ends("done"), Some("stop"));
    assert!(matches!(bus.systemd(&nothing()).restart(UNIT), Err(SystemdError::StopQueued { .. })));
    assert!(!bus.calls().contains(&"RestartUnit".to_owned()));
    // a queued restart is joined
    let bus = Bus::with_job(Restart::Ends("done"), Some("restart"));
    assert!(bus.systemd(&nothing()).restart(UNIT).unwrap().is_done());
}

const LOADED: (&str, i32, &str, &str) = ("show", 0, "LoadState=loaded\nActiveState=active\nTimeoutStopUSec=1min\n", "");

#[test]
fn without_a_bus_systemctl_does_the_work() {
    let programs = Fake::new(&[LOADED, ("list-jobs", 0, "", ""), ("restart", 0, "", "")]);
    let systemd = Systemd::at("unix:path=/nonexistent/bus", Arc::clone(&programs) as Arc<dyn Programs>);
    assert!(systemd.restart(UNIT).unwrap().is_done());
    assert_eq!(programs.ran().last().unwrap(), "--no-ask-password restart -- kubelet.service");
    assert_eq!(systemd.status(UNIT).unwrap().active_state, "active");
    assert_eq!(systemd.clock_synchronised(), None);
}

#[test]
fn systemctls_refusals_have_the_same_names() {
    let by_systemctl = |answers: &[_]| {
        Systemd::at("unix:path=/nonexistent/bus", Fake::new(answers) as Arc<dyn Programs>).restart(UNIT)
    };
    let jobs = ("list-jobs", 0, "", "");
    let e = by_systemctl(&[("show", 0, "LoadState=not-found\n", "")]).unwrap_err();
    assert!(matches!(e, SystemdError::NoSuchUnit { .. }), "{e}");
    let e = by_systemctl(&[("show", 0, "LoadState=masked\n", "")]).unwrap_err();
    assert!(matches!(e, SystemdError::Masked { .. }), "{e}");
    let e = by_systemctl(&[LOADED, ("list-jobs", 0, "812 kubelet.service stop running\n", "")]).unwrap_err();
    assert!(matches!(e, SystemdError::StopQueued { .. }), "{e}");
    let refused = ("restart", 4, "", "Failed to restart: transaction is destructive\n");
    let e = by_systemctl(&[LOADED, jobs, refused, ("is-system-running", 1, "stopping\n", "")]).unwrap_err();
    assert!(matches!(e, SystemdError::ShuttingDown { .. }), "{e}");
    let result = by_systemctl(&[LOADED, jobs, ("restart", 1, "", "Job for kubelet.service canceled.\n")]).unwrap();
    assert_eq!(result.0, "canceled");
    let e = by_systemctl(&[]).unwrap_err();
    assert!(matches!(&e, SystemdError::Unreachable { detail } if detail.contains("D-Bus: ")), "{e}");
}

#[test]
fn a_bus_that_is_lost_during_the_job_is_replaced_by_systemctl() {
    let bus = Bus::new(Restart::HangsUp);
    let programs = Fake::new(&[LOADED, ("list-jobs", 0, "", ""), ("restart", 0, "", "")]);
    assert!(bus.systemd(&programs).restart(UNIT).unwrap().is_done());
    assert!(bus.calls().contains(&"RestartUnit".to_owned()));
}

#[test]
fn the_state_of_the_system_and_of_the_clock_are_read() {
    let bus = Bus::new(Restart::Ends("done"));
    let systemd = bus.systemd(&nothing());
    assert_eq!(systemd.system_state().unwrap(), "degraded");
    assert_eq!(systemd.clock_synchronised(), Some(true));
}

#[test]
fn called_from_an_asynchronous_task_it_does_not_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let systemd = Systemd::at("unix:path=/nonexistent/bus", Fake::new(&[LOADED]) as Arc<dyn Programs>);
    assert_eq!(runtime.block_on(async { systemd.status(UNIT) }).unwrap().active_state, "active");
}

#[test]
fn the_log_of_a_failure_is_that_of_its_invocation() {
    let id = "0123456789abcdef0123456789abcdef";
    let own = format!("_SYSTEMD_INVOCATION_ID={id}");
    let programs = Fake::new(&[("-o", 0, "first\nE1122 run.go: unable to load bootstrap kubeconfig\n", "")]);
    let systemd = Systemd::at("unix:path=/nonexistent/bus", Arc::clone(&programs) as Arc<dyn Programs>);
    assert_eq!(systemd.log_tail(UNIT, id).last().unwrap(), "E1122 run.go: unable to load bootstrap kubeconfig");
    assert!(programs.ran().first().unwrap().contains(&own));
    assert_eq!(Systemd::at("unix:path=/nonexistent/bus", nothing()).log_tail(UNIT, "--cursor=x"), Vec::<String>::new());
}
