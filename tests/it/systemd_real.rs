//! The adapters against a real systemd and a real containerd, in a machine made to be thrown away.
//!
//! They make, break and stop units and stop a control-plane container, so they never run by themselves:
//! `CERTWARDEN_REAL_SYSTEMD=1 systemd_real --ignored --test-threads=1 --nocapture`, as root in the machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking; figures are for the reader")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certwarden::host::cri::{Container, ContainerRuntime, Cri};
use certwarden::host::exec::{ExecError, Invocation, Output, Program, Programs};
use certwarden::host::systemd::{Later, ServiceManager, Systemd, SystemdError};
use certwarden::model::inventory::ContainerRef;

/// Programs without the limits of the real thing.
struct Plain;

impl Programs for Plain {
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
        let path = self.path(invocation.program).unwrap();
        let output = Command::new(path).args(&invocation.args).env("LC_ALL", "C").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(Output { code: output.status.code(), signal: None, stdout, stderr })
    }

    fn path(&self, program: Program) -> Option<PathBuf> {
        Some(PathBuf::from(if program == Program::Journalctl { "/usr/bin/journalctl" } else { "/usr/bin/systemctl" }))
    }
}

fn systemd() -> Systemd {
    assert!(std::env::var_os("CERTWARDEN_REAL_SYSTEMD").is_some(), "only in a machine made to be thrown away");
    Systemd::new(Arc::new(Plain))
}

fn systemctl(args: &[&str]) {
    assert!(Command::new("/usr/bin/systemctl").args(args).status().unwrap().success(), "systemctl {args:?}");
}

/// A unit of the test's own; removed at the end.
struct Unit(String);

impl Unit {
    fn new(name: &str, service: &str) -> Self {
        let name = format!("certwarden-test-{name}.service");
        std::fs::write(format!("/run/systemd/system/{name}"), format!("[Service]\n{service}\n")).unwrap();
        systemctl(&["daemon-reload"]);
        Self(name)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let stopped = Command::new("/usr/bin/systemctl").args(["kill", "-s", "KILL", &self.0]).status();
        let removed = std::fs::remove_file(format!("/run/systemd/system/{}", self.0));
        println!("cleanup of {}: {stopped:?} {removed:?}", self.0);
    }
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begin.elapsed()
}

#[test]
#[ignore = "makes units on the machine it runs on"]
fn a_harmless_unit_is_restarted_and_its_status_tells_so() {
    let systemd = systemd();
    let unit = Unit::new("sleep", "ExecStart=/bin/sleep infinity");
    assert!(systemd.start(&unit.0).unwrap().is_done());
    let before = systemd.status(&unit.0).unwrap();
    let begin = Instant::now();
    assert!(systemd.restart(&unit.0).unwrap().is_done());
    println!("restart: {:?}", begin.elapsed());
    let begin = Instant::now();
    let after = systemd.status(&unit.0).unwrap();
    println!("status: {:?} {after:?}", begin.elapsed());
    assert!(after.is_running());
    assert_ne!(before.invocation_id, after.invocation_id);
    assert_ne!(before.main_pid, after.main_pid);
    assert_eq!(after.timeout_stop, Duration::from_secs(90));
    assert!(systemd.stop(&unit.0).unwrap().is_done());
    assert_eq!(systemd.status(&unit.0).unwrap().active_state, "inactive");
    println!("system: {}, clock: {:?}", systemd.system_state().unwrap(), systemd.clock_synchronised());
}

#[test]
#[ignore = "makes units on the machine it runs on"]
fn a_binary_that_exits_at_once_is_a_job_done_and_a_unit_that_is_not_running() {
    let systemd = systemd();
    let service = "ExecStart=/bin/sh -c 'echo no certificate >&2; exit 1'\nRestart=always\nRestartSec=10";
    let unit = Unit::new("exits", service);
    assert!(systemd.restart(&unit.0).unwrap().is_done());
    let gone = || systemd.status(&unit.0).unwrap().sub_state == "auto-restart";
    println!("auto-restart after {:?}", until("auto-restart", Duration::from_secs(5), gone));
    let status = systemd.status(&unit.0).unwrap();
    assert!(!status.is_running());
    assert_eq!((status.result.as_str(), status.exec_main_status), ("exit-code", 1));
    let log = systemd.log_tail(&unit.0, &status.invocation_id);
    println!("{log:?}");
    assert!(log.iter().any(|l| l == "no certificate"), "{log:?}");
    assert!(systemd.stop(&unit.0).unwrap().is_done());
}

#[test]
#[ignore = "makes units on the machine it runs on"]
fn a_process_that_ignores_sigterm_is_waited_for_as_long_as_its_unit_says() {
    let systemd = systemd();
    let service = "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=4";
    let unit = Unit::new("hangs", service);
    assert!(systemd.start(&unit.0).unwrap().is_done());
    std::thread::sleep(Duration::from_millis(300)); // the shell needs a moment to set its trap, and nothing tells when
    let begin = Instant::now();
    assert!(systemd.restart(&unit.0).unwrap().is_done());
    println!("restart of a hung process: {:?}", begin.elapsed());
    assert!(begin.elapsed() >= Duration::from_secs(4));
    // somebody else stops it meanwhile: not fought
    std::thread::sleep(Duration::from_millis(300));
    systemctl(&["--no-block", "stop", &unit.0]);
    let refused = systemd.restart(&unit.0);
    assert!(matches!(refused, Err(SystemdError::StopQueued { .. })), "{refused:?}");
}

#[test]
#[ignore = "makes units on the machine it runs on"]
fn what_cannot_be_restarted_is_told_apart_with_and_without_a_bus() {
    let unit = Unit::new("failing", "Type=oneshot\nExecStart=/bin/false");
    let masked = "certwarden-test-masked.service";
    systemctl(&["mask", "--runtime", masked]);
    let by_systemctl = Systemd::at("unix:path=/nonexistent/bus", Arc::new(Plain));
    for systemd in [systemd(), by_systemctl] {
        let e = systemd.restart("certwarden-test-nowhere.service").unwrap_err();
        assert!(matches!(e, SystemdError::NoSuchUnit { .. }), "{e:?}");
        assert_eq!(systemd.status("certwarden-test-nowhere.service").unwrap().load_state, "not-found");
        let e = systemd.restart(masked).unwrap_err();
        assert!(matches!(e, SystemdError::Masked { .. }), "{e:?}");
        assert_eq!(systemd.restart(&unit.0).unwrap().0, "failed");
    }
    systemctl(&["unmask", "--runtime", masked]);
}

#[test]
#[ignore = "makes units on the machine it runs on, and stops its message bus for a moment"]
fn with_the_bus_stopped_systemctl_does_the_same() {
    let systemd = systemd();
    let unit = Unit::new("nobus", "ExecStart=/bin/sleep infinity");
    assert!(systemd.start(&unit.0).unwrap().is_done());
    let by_bus = systemd.status(&unit.0).unwrap();
    systemctl(&["stop", "dbus.socket", "dbus.service"]);
    let by_systemctl = systemd.status(&unit.0);
    let begin = Instant::now();
    let restarted = systemd.restart(&unit.0);
    let took = begin.elapsed();
    let state = systemd.system_state();
    systemctl(&["start", "dbus.socket", "dbus.service"]);
    println!("restart without a bus: {took:?}, system {state:?}");
    assert_eq!(by_bus, by_systemctl.unwrap());
    assert!(restarted.unwrap().is_done());
    assert_ne!(systemd.status(&unit.0).unwrap().invocation_id, by_bus.invocation_id);
    assert!(systemd.stop(&unit.0).unwrap().is_done());
}

#[test]
#[ignore = "makes units on the machine it runs on"]
fn what_is_to_run_later_runs_again_and_again_until_it_is_taken_back() {
    let systemd = systemd();
    let ran = std::env::temp_dir().join("certwarden-test-later");
    let times = || std::fs::read(&ran).map_or(0, |marks| marks.len());
    let later = Later {
        unit: "certwarden-test-later",
        description: "test of certwarden".to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c", "printf x >> /tmp/certwarden-test-later"],
        after: Duration::from_secs(3),
        again: Duration::from_secs(1),
    };
    let _ = std::fs::remove_file(&ran);
    systemd.run_later(&later).unwrap();
    systemd.run_later(&later).unwrap(); // it is to be run already
    assert!(systemd.stop(&later.timer()).unwrap().is_done());
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(times(), 0, "taken back before its time");
    systemd.run_later(&later).unwrap();
    println!("three times after {:?}", until("three times", Duration::from_secs(60), || times() >= 3));
    assert!(systemd.stop(&later.timer()).unwrap().is_done());
    std::thread::sleep(Duration::from_secs(2));
    let ended = times();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(times(), ended);
    assert!(matches!(systemd.stop(&later.timer()), Err(SystemdError::NoSuchUnit { .. })), "nothing is left of it");
    std::fs::remove_file(&ran).unwrap();
}

#[test]
#[ignore = "stops the kube-scheduler of the machine it runs on"]
fn a_stopped_scheduler_gets_a_new_container() {
    assert!(std::env::var_os("CERTWARDEN_REAL_SYSTEMD").is_some(), "only in a machine made to be thrown away");
    let socket = Path::new("/run/containerd/containerd.sock");
    let scheduler = ContainerRef { namespace: "kube-system".into(), pod: None, name: "kube-scheduler".into() };
    let running =
        || -> Option<Container> { Cri.containers(socket, &scheduler).unwrap().into_iter().find(|c| c.running) };
    let begin = Instant::now();
    let old = running().unwrap();
    println!("list: {:?} {old:?}", begin.elapsed());
    let begin = Instant::now();
    Cri.stop(socket, &old.id, Duration::from_secs(30)).unwrap();
    println!("stop: {:?}", begin.elapsed());
    until("a new container", Duration::from_secs(60), || running().is_some_and(|c| c.id != old.id));
    println!("the old one: {:?}", Cri.exit(socket, &old.id));
    println!("new container after {:?}: {:?}", begin.elapsed(), running());
    let e = Cri.stop(socket, "0000", Duration::from_secs(1)).unwrap_err();
    println!("{e}");
}
