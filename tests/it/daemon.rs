//! The daemon as systemd sees it: a process of its own, real signals, a real notification socket. Behind it stands
//! an engine that fails, hangs, dies and lies. The process is this test binary once more, with one test selected;
//! so the shipped binary needs no door for tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking; the process under test complains on stderr"
)]

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certwarden::daemon::{CheckResult, Measured, Work, run};
use certwarden::host::fs::Root;
use certwarden::model::fleet::notes::Pause;
use certwarden::model::machine::Standing;
use certwarden::model::policy::{Mode, Policy, Span};
use certwarden::model::report::{Outcome, Renewed, Report};
use certwarden::model::schedule::{Schedule, Who};
use certwarden::observe::{CheckSeen, Doing, NextEnd, Status, Verdict, read};
use certwarden::txn::progress::{Phase, Progress};
use certwarden::txn::state::{DaemonState, ObserveOnly};
use jiff::Timestamp;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything that is waited for on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TREE: &str = "CERTWARDEN_TEST_TREE";

/// An engine that does what files in its tree say.
struct Puppet(PathBuf);

impl Puppet {
    fn says(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn mark(&self, name: &str) {
        use std::io::Write;
        let path = self.0.join(name);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
    }

    fn renewed() -> Vec<Renewed> {
        vec![Renewed {
            name: "apiserver".into(),
            path: "/etc/kubernetes/pki/apiserver.crt".into(),
            old_serial: None,
            new_serial: "01".into(),
            not_after: Timestamp::UNIX_EPOCH,
        }]
    }
}

impl Work for Puppet {
    fn check(&mut self, _: &Policy, _: &Arc<Progress>) -> CheckResult {
        self.mark("checks");
        let due = if self.says("due") { vec!["apiserver".to_owned()] } else { Vec::new() };
        let seen = CheckSeen {
            at: Timestamp::now(),
            verdict: if due.is_empty() { Verdict::Ok } else { Verdict::Warning },
            certificates: 11,
            next_end: Some(NextEnd { name: "apiserver".into(), at: Timestamp::now() + Duration::from_secs(900_000) }),
            attention: Vec::new(),
            unfinished: self.says("unfinished"),
            waits: None,
            paused: self.says("paused").then(|| Pause::new(Timestamp::UNIX_EPOCH, None, "etcd restore").hard(true)),
        };
        let measured = Measured { page: format!("puppet_looked {}\n", Timestamp::now()), ..Measured::default() };
        CheckResult {
            seen,
            due,
            clock_trusted: true,
            waits: None,
            retry_at: None,
            unproven: self.says("unproven"),
            server: None,
            measured,
            target: None,
            lasting: Vec::new(),
        }
    }

    fn transact(&mut self, _: &Policy, progress: &Arc<Progress>) -> Report {
        self.mark("transactions");
        progress.step("waiting for kube-scheduler", Duration::from_secs(3));
        assert!(!self.says("die"), "the engine dies");
        while self.says("hang") {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.says("after-commit") {
            progress.committing();
        }
        while self.says("slow") {
            progress.step("taking its time", Duration::from_secs(30));
            if progress.should_stop() && progress.snapshot().phase == Phase::BeforeCommit {
                return Report::new(Outcome::Refused, "asked to stop before the commit", Timestamp::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let outcome = match () {
            () if self.says("roll-back") => Outcome::RolledBack,
            () if self.says("roll-back-fails") => Outcome::RollbackFailed,
            () => Outcome::Verified, // a lie as long as it stays due
        };
        let mut report = Report::new(outcome, "so it went", Timestamp::now());
        report.transaction = Some("20261122-120000".into());
        report.renewed = Self::renewed();
        report
    }

    fn recover(&mut self, _: &Policy, _: &Arc<Progress>) -> Option<Report> {
        self.mark("recoveries");
        std::fs::remove_file(self.0.join("unfinished")).unwrap();
        Some(Report::new(Outcome::RolledBack, "a dead process left it", Timestamp::now()))
    }
}

/// The other process. As a test of its own it does nothing: only the tests below give it a tree.
#[test]
fn the_process_under_test() {
    if let Some(tree) = std::env::var_os(TREE).map(PathBuf::from) {
        certwarden::host::journal::init(certwarden::host::journal::Target::Stderr, false);
        let result = run(Root::open(&tree).unwrap(), Box::new(Puppet(tree.join("puppet"))));
        if let Err(e) = result {
            eprintln!("error: {e}");
            std::process::exit(e.exit_code().into());
        }
        std::process::exit(0);
    }
}

/// A node's tree and the service manager's end of the socket.
struct Node {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
    daemon: Option<Child>,
    /// Everything that was said, in order.
    said: Vec<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Node {
    fn new(orders: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        for directory in ["puppet", "etc", "run"] {
            std::fs::create_dir(dir.path().join(directory)).unwrap();
        }
        std::fs::write(dir.path().join("etc/machine-id"), prompt_machine_id()).unwrap();
        let node = Self { dir, socket, daemon: None, said: Vec::new() };
        for order in orders {
            node.order(order);
        }
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn root(&self) -> Root {
        Root::open(self.dir.path()).unwrap()
    }

    fn order(&self, name: &str) {
        std::fs::write(self.path("puppet").join(name), "").unwrap();
    }

    fn withdraw(&self, name: &str) {
        std::fs::remove_file(self.path("puppet").join(name)).unwrap();
    }

    fn configure(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let directory = self.path("etc/certwarden");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = directory.join("certwarden.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn start(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon::the_process_under_test", "--nocapture", "--test-threads=1"]);
        command.env(TREE, self.dir.path()).env("NOTIFY_SOCKET", self.path("notify"));
        command.env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
        let log = std::fs::File::create(self.path("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Takes what the daemon says until `wanted` is part of it.
    fn hear(&mut self, wanted: &str) -> String {
        let heard = self.hear_within(wanted, PATIENCE);
        heard.unwrap_or_else(|| panic!("`{wanted}` was not said, but\n{}\nlog:\n{}", self.said.join("\n"), self.log()))
    }

    fn hear_within(&mut self, wanted: &str, time: Duration) -> Option<String> {
        let end = Instant::now() + time;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                self.said.push(text.clone());
                if text.contains(wanted) {
                    return Some(text);
                }
            }
        }
        None
    }

    /// Waits until the published status is as wanted.
    fn see(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = read(&self.root());
            match status {
                Ok(status) if wanted(&status) => return status,
                status => assert!(Instant::now() < end, "{what} was never seen: {status:?}\nlog:\n{}", self.log()),
            }
            self.hear_within("", Duration::from_millis(50)); // empties the socket, which would block the daemon
        }
    }

    /// How often the engine was asked to.
    fn count(&self, mark: &str) -> usize {
        std::fs::read(self.path("puppet").join(mark)).map_or(0, |marks| marks.len())
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.path("log")) {
            file.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Waits for the end of the process.
    fn end(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                self.daemon = None;
                return status.code().unwrap();
            }
            assert!(Instant::now() < end, "it does not end; log:\n{}", self.log());
            self.hear_within("", Duration::from_millis(50));
        }
    }
}

/// A machine whose first look comes as early as any: tests wait for nothing that they do not test.
fn prompt_machine_id() -> String {
    let soon = |id: &String| {
        let schedule = Schedule::new(Span::secs(3600), &Who::of("node-1", id));
        schedule.first(Timestamp::UNIX_EPOCH).as_second() == 2
    };
    (0..1000).map(|n| format!("{n:032x}")).find(soon).unwrap()
}

fn idle_after(looks: usize) -> impl Fn(&Node, &Status) -> bool {
    move |node, status| node.count("checks") >= looks && status.doing == Doing::Idle
}

#[test]
fn it_is_ready_before_the_first_look_and_says_what_it_saw() {
    let mut node = Node::new(&[]);
    node.start();
    node.hear("READY=1");
    assert_eq!(node.count("checks"), 0, "READY does not wait for a look");
    node.hear("STATUS=no check yet; first check ");
    node.hear("STATUS=11 certificates, next: apiserver in 10d; last check ");
    let status = node.see("the first look", |s| s.last_check.is_some() && s.doing == Doing::Idle);
    assert_eq!((status.schema.as_str(), status.mode), ("certwarden.status/v1", Mode::Enforce));
    assert!(status.next_check.unwrap() > status.at);
    assert_eq!(node.count("transactions"), 0);
    assert!(DaemonState::load(&node.root()).state.last_seen.is_some(), "a trusted time is remembered");
}

#[test]
fn a_hard_pause_is_a_warning_in_the_journal_a_line_of_the_status_and_a_metric() {
    let mut node = Node::new(&["paused"]);
    node.start();
    node.hear("STATUS=PAUSED until somebody resumes, in an emergency too: etcd restore; ");
    let status = node.see("the pause", |s| s.last_check.as_ref().is_some_and(|c| c.paused.is_some()));
    assert!(
        certwarden::observe::render(&status).contains("\npaused       until somebody resumes, in an emergency too")
    );
    let warned = |log: &str| {
        log.lines()
            .filter(|l| l.starts_with("warning: paused until somebody resumes, in an emergency too: etcd restore; "))
            .count()
    };
    assert_eq!(warned(&node.log()), 1, "{}", node.log());
    let page = std::fs::read_to_string(node.path("run/certwarden/metrics.prom")).unwrap();
    assert!(page.contains("certwarden_suspended{reason=\"hard-pause\"} 1"), "{page}");
    node.withdraw("paused");
    node.signal(Signal::SIGHUP);
    node.see("its end", |s| s.last_check.as_ref().is_some_and(|c| c.paused.is_none()));
}

#[test]
fn what_is_due_is_renewed_once_even_if_the_engine_lies_and_it_stays_due() {
    let mut node = Node::new(&["due"]);
    node.start();
    node.see("the look after the renewal", |s| s.last_transaction.is_some() && s.doing == Doing::Idle);
    let state = DaemonState::load(&node.root()).state;
    assert_eq!(state.last_transaction.unwrap().outcome, Outcome::Verified);
    let looks = node.count("checks");
    node.signal(Signal::SIGHUP); // a reload looks soon
    let end = Instant::now() + PATIENCE;
    while node.count("checks") == looks {
        assert!(Instant::now() < end);
        node.hear_within("", Duration::from_millis(50));
    }
    node.see("the end of that look", |s| s.doing == Doing::Idle && s.last_check.is_some());
    assert_eq!(node.count("transactions"), 1);
}

#[test]
fn after_a_rollback_it_backs_off_across_restarts_and_says_until_when() {
    let mut node = Node::new(&["due", "roll-back"]);
    node.start();
    node.hear("STATUS=renewing: ");
    node.hear("STATUS=backing off until ");
    let backing_off = |s: &Status| matches!(s.standing, Standing::BackingOff { failures: 1, .. });
    node.see("the back-off", |s| backing_off(s) && s.doing == Doing::Idle);
    node.signal(Signal::SIGKILL);
    let _ = node.daemon.take().unwrap().wait();
    let looks = node.count("checks");
    node.start();
    let idle = idle_after(looks + 1);
    let end = Instant::now() + PATIENCE;
    while !read(&node.root()).is_ok_and(|s| idle(&node, &s) && s.pid == node.daemon.as_ref().unwrap().id()) {
        assert!(Instant::now() < end, "{}", node.log());
        node.hear_within("", Duration::from_millis(50));
    }
    assert_eq!(node.count("transactions"), 1);
    assert!(backing_off(&read(&node.root()).unwrap()));
}

#[test]
fn after_a_failed_rollback_it_only_observes_until_an_operator_has_acted() {
    let mut node = Node::new(&["due", "roll-back-fails"]);
    node.start();
    node.hear("STATUS=OBSERVING ONLY, a rollback failed (so it went)");
    node.see("idleness", |s| s.doing == Doing::Idle);
    let state = DaemonState::load(&node.root()).state;
    assert!(matches!(&state.observe_only, Some(ObserveOnly { reason, .. }) if reason == "so it went"));
    node.withdraw("roll-back-fails");
    // what `certwarden recover` does
    DaemonState::change(&node.root(), |state| (state.observe_only, state.decided_at) = (None, Some(Timestamp::now())))
        .unwrap();
    node.signal(Signal::SIGHUP);
    node.see("a renewal", |s| s.last_transaction.as_ref().is_some_and(|t| t.outcome == Outcome::Verified));
}

#[test]
fn a_transaction_that_a_dead_process_left_open_is_ended_before_anything_is_renewed() {
    let mut node = Node::new(&["due", "unfinished"]);
    node.start();
    node.hear("STATUS=finishing an interrupted transaction");
    node.see("its end", |s| s.last_transaction.is_some() && s.doing == Doing::Idle);
    assert_eq!((node.count("recoveries"), node.count("transactions")), (1, 0));
}

#[test]
fn in_observe_mode_nothing_is_renewed() {
    let mut node = Node::new(&["due", "unfinished"]);
    node.configure("mode = \"observe\"");
    node.start();
    // to end what somebody else began is no renewal
    let status = node.see("a recovery and a look", |s| {
        s.doing == Doing::Idle && s.last_check.as_ref().is_some_and(|c| !c.unfinished)
    });
    assert_eq!(status.mode, Mode::Observe);
    assert_eq!((node.count("recoveries"), node.count("transactions")), (1, 0));
}

#[test]
fn the_watchdog_is_fed_while_a_step_is_in_time_and_not_when_it_hangs() {
    let mut node = Node::new(&["due", "hang"]);
    node.start();
    node.hear("STATUS=renewing: waiting for kube-scheduler");
    node.hear("WATCHDOG=1");
    let silent = Duration::from_secs(4);
    let end = Instant::now() + PATIENCE;
    while node.hear_within("WATCHDOG=1", silent).is_some() {
        assert!(Instant::now() < end, "a hanging engine is called alive");
    }
    assert!(node.log().contains("`waiting for kube-scheduler` does not end"), "{}", node.log());
    node.withdraw("hang");
    node.hear("WATCHDOG=1");
}

#[test]
fn told_to_end_before_the_commit_it_discards_and_ends() {
    let mut node = Node::new(&["due", "slow"]);
    node.start();
    node.hear("STATUS=renewing: taking its time");
    node.signal(Signal::SIGTERM);
    node.hear("STOPPING=1");
    assert_eq!(node.end(), 0);
    let last = DaemonState::load(&node.root()).state.last_transaction.unwrap();
    assert_eq!(last.reason, "asked to stop before the commit");
}

#[test]
fn told_to_end_after_the_commit_it_finishes_and_asks_systemd_for_the_time() {
    let mut node = Node::new(&["due", "slow", "after-commit"]);
    node.start();
    node.hear("STATUS=renewing: taking its time");
    node.signal(Signal::SIGTERM);
    node.hear("EXTEND_TIMEOUT_USEC=30000000");
    node.signal(Signal::SIGTERM); // impatience changes nothing
    node.hear("EXTEND_TIMEOUT_USEC=30000000");
    node.withdraw("slow");
    assert_eq!(node.end(), 0);
    let last = DaemonState::load(&node.root()).state.last_transaction.unwrap();
    assert_eq!(last.outcome, Outcome::Verified);
}

#[test]
fn told_to_end_while_idle_it_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut node = Node::new(&[]);
        node.start();
        node.hear("READY=1");
        node.signal(signal);
        node.hear("STOPPING=1");
        assert_eq!(node.end(), 0);
        assert_eq!(node.count("checks"), 0);
    }
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_says_so_until_a_good_one_comes() {
    let mut node = Node::new(&["due"]);
    node.configure("mode = \"observe\"");
    node.start();
    node.see("a look", |s| s.last_check.is_some() && s.doing == Doing::Idle);
    node.configure("mode = \"enforce\"\nstabilty = \"1m\"");
    node.signal(Signal::SIGHUP);
    let reloading = node.hear("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    node.hear("READY=1");
    let told = "new configuration rejected, the old one stays in force: /etc/certwarden/certwarden.toml:2:1: stabilty: \
                unknown key; did you mean `verify.stability`?";
    let status = node.see("the rejection", |s| !s.warnings.is_empty());
    assert_eq!((status.warnings, status.mode), (vec![told.to_owned()], Mode::Observe));
    assert_eq!(node.count("transactions"), 0);
    node.configure("mode = \"enforce\"");
    node.signal(Signal::SIGHUP);
    let status = node.see("the renewal", |s| s.last_transaction.is_some());
    assert!(status.warnings.is_empty());
}

#[test]
fn a_configuration_that_is_bad_at_the_start_ends_it_with_78() {
    let mut node = Node::new(&[]);
    node.configure("mod = 1");
    node.start();
    assert_eq!(node.end(), 78);
    assert!(node.log().contains("/etc/certwarden/certwarden.toml:1:1: mod: unknown key; did you mean `mode`?"));
}

#[test]
fn an_engine_that_dies_ends_the_daemon_so_that_systemd_starts_it_anew() {
    let mut node = Node::new(&["due", "die"]);
    node.start();
    assert_eq!(node.end(), 70);
    assert!(node.log().contains("the engine died in the middle of a job"), "{}", node.log());
}

/// An empty file system over `path` of the node's tree, until it is dropped; None where that is not allowed.
struct Mounted(PathBuf);

impl Mounted {
    fn over(node: &Node, path: &str, flags: MsFlags) -> Option<Self> {
        let path = node.path(path);
        std::fs::create_dir_all(&path).unwrap();
        match mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some("size=64k")) {
            Ok(()) => Some(Self(path)),
            Err(e) => {
                assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "CI must be able to mount: {e}");
                eprintln!("skipped: {e}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_directory_that_appears_where_the_service_cannot_write_makes_it_start_anew() {
    let mut node = Node::new(&[]);
    node.start();
    node.see("the first look", |s| s.doing == Doing::Idle && s.last_check.is_some());
    let Some(_made_later) = Mounted::over(&node, "etc/kubernetes", MsFlags::MS_RDONLY) else { return };
    assert_eq!(node.end(), 79, "{}", node.log());
    assert!(node.log().contains("/etc/kubernetes was made or replaced"), "{}", node.log());
    // and only once: it is as it was at this start
    node.start();
    let looks = node.count("checks") + 1;
    let idle = idle_after(looks);
    let end = Instant::now() + PATIENCE;
    while !read(&node.root()).is_ok_and(|s| idle(&node, &s)) {
        assert!(Instant::now() < end, "{}", node.log());
        node.hear_within("", Duration::from_millis(50));
    }
    for _ in 0..3 {
        node.hear("WATCHDOG=1"); // each is a turn of the loop
    }
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), 0);
}

#[test]
fn a_directory_that_appears_and_can_be_written_is_no_reason_to_start_anew() {
    let mut node = Node::new(&[]);
    node.start();
    node.see("the first look", |s| s.doing == Doing::Idle && s.last_check.is_some());
    let Some(_made_later) = Mounted::over(&node, "etc/kubernetes", MsFlags::empty()) else { return };
    for _ in 0..3 {
        node.hear("WATCHDOG=1");
    }
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), 0);
}

#[test]
fn a_state_directory_that_cannot_be_written_stops_nothing_and_is_said_once() {
    let mut node = Node::new(&["due", "roll-back"]);
    std::fs::create_dir_all(node.path("var/lib")).unwrap();
    std::fs::write(node.path("var/lib/certwarden"), "a file where the directory should be").unwrap();
    node.start();
    node.hear("STATUS=backing off until ");
    node.see("idleness", |s| s.doing == Doing::Idle);
    assert_eq!(node.log().matches("cannot be remembered across a restart").count(), 1, "{}", node.log());
}

#[test]
fn idle_it_holds_little_memory_and_wakes_only_for_the_watchdog() {
    let mut node = Node::new(&[]);
    node.start();
    node.see("a look", |s| s.last_check.is_some() && s.doing == Doing::Idle);
    let pid = node.daemon.as_ref().unwrap().id();
    let anonymous = field(&format!("/proc/{pid}/status"), "RssAnon:");
    assert!(anonymous <= 4096, "{anonymous} KiB of anonymous memory; the bar is 4 MiB");
    // the thread that waits, not the harness's
    let wakes = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let count = |t: &Path| field(&t.join("status").display().to_string(), "voluntary_ctxt_switches:");
        tasks.map(|t| count(&t.unwrap().path())).sum()
    };
    let before = wakes();
    let start = Instant::now();
    node.hear_within("nothing", Duration::from_secs(4));
    let (woken, seconds) = (wakes() - before, start.elapsed().as_secs());
    // WATCHDOG_USEC is 1 s here: a sign of life each half second
    assert!(woken <= 2 * seconds + 4, "{woken} wake-ups in {seconds} s");
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn metrics_follow_what_happens_and_what_was_counted_survives_a_restart() {
    let mut node = Node::new(&["due", "roll-back"]);
    let metrics = |node: &Node| std::fs::read_to_string(node.path("run/certwarden/metrics.prom")).unwrap_or_default();
    node.configure("[check]\ninterval = \"1h\"\n[metrics]\ntextfile-directories = [\"/collector\"]\n");
    std::fs::create_dir(node.path("collector")).unwrap();
    node.start();
    node.see("the end of the transaction", |s| s.last_transaction.is_some() && s.doing == Doing::Idle);
    // the text is written right after the status
    let until = Instant::now() + PATIENCE;
    let rolled_back = "certwarden_transactions_total{outcome=\"rolled-back\"} 1\n";
    while !(metrics(&node).contains(rolled_back) && metrics(&node).contains("state=\"idle\"} 1\n")) {
        assert!(Instant::now() < until, "{}", metrics(&node));
        node.hear_within("", Duration::from_millis(50));
    }
    let text = metrics(&node);
    assert!(text.starts_with("puppet_looked "), "the node's part comes from the look");
    assert!(text.contains("certwarden_suspended{reason=\"back-off\"} 1\n"), "{text}");
    assert!(text.contains("certwarden_renewal_failures_total{certificate=\"apiserver\"} 1\n"));
    assert!(text.contains("certwarden_renewal_consecutive_failures 1\n"));
    assert_eq!(std::fs::read_to_string(node.path("collector/certwarden.prom")).unwrap(), text);
    let looks = node.count("checks");
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), 0);
    node.withdraw("due");
    node.start();
    let counted = format!("certwarden_checks_total {}\n", looks + 1);
    while !metrics(&node).contains(&counted) {
        assert!(Instant::now() < until, "{}", metrics(&node));
        node.hear_within("", Duration::from_millis(50));
    }
    assert!(metrics(&node).contains(rolled_back), "{}", metrics(&node));
}
