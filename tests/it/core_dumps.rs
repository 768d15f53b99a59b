//! No program of certwarden leaves its memory behind when it crashes. The kernel's `core_pattern` is set for the length of a test, so this
//! needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it cannot do"
)]

use std::fs;
use std::io::{PipeReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
/// For a process to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `core_pattern` that is a pipe, for which RLIMIT_CORE = 0 does not count (core(5)), until it is dropped.
struct Piped(String);

impl Piped {
    fn set() -> Option<Self> {
        let before = fs::read_to_string(PATTERN).ok()?;
        (geteuid().is_root() && fs::write(PATTERN, "|/bin/dd of=/dev/null").is_ok()).then_some(Self(before))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = fs::write(PATTERN, &self.0);
    }
}

fn aborted(mut child: Child) -> ExitStatus {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGABRT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    status
}

/// Starts `program`, which waits for somebody to read what it says, and returns when its limit for core dumps is `limit`.
fn waiting(program: &str, root: &Path, limit: &str) -> (Child, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut command = Command::new("/bin/sh");
    // as systemd starts it, and as a shell of somebody who takes this for enough
    command.args(["-c", "ulimit -S -c 0; exec \"$@\"", "-", program, "check", "--root"]).arg(root);
    let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let began = Instant::now();
    while core_limits(&child) != [limit, limit] {
        assert!(began.elapsed() < PATIENCE, "{program}: {:?}", core_limits(&child));
        std::thread::sleep(Duration::from_millis(20));
    }
    (child, reader)
}

/// The soft and the hard limit.
fn core_limits(child: &Child) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    core.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

#[test]
fn a_program_that_crashes_with_keys_in_its_memory_leaves_no_core_even_where_cores_are_piped() {
    let Some(_piped) = Piped::set() else {
        assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "CI can set {PATTERN}");
        return eprintln!("NOT TESTED: {PATTERN} cannot be set; run as root");
    };
    let sleeping = |limit: &str| {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("prlimit --core={limit} --pid $$; exec sleep 60")])
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        while fs::read_to_string(&comm).unwrap() != "sleep\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    assert!(aborted(sleeping("0:0")).core_dumped(), "nothing is dumped through a pipe here: this test proves nothing");
    assert!(!aborted(sleeping("1:1")).core_dumped(), "what inherits the limit 1, as kubeadm does, is not dumped");

    let dir = tempfile::tempdir().unwrap();
    for program in [env!("CARGO_BIN_EXE_certwarden"), env!("CARGO_BIN_EXE_certwarden-full")] {
        let (child, _reader) = waiting(program, dir.path(), "1");
        assert!(!aborted(child).core_dumped(), "{program}");
    }
}
