//! Programs that flood, hang, ignore signals, die, leave children behind or should not be run at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use certwarden::host::exec::{Exec, ExecError, Invocation, Output, Program, Programs};

struct Bin(tempfile::TempDir);

impl Bin {
    /// A directory with a shell script called `kubeadm`.
    fn with(script: &str) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        fs::write(made.kubeadm(), format!("#!/bin/bash\n{script}\n")).unwrap();
        made.chmod(0o755);
        made
    }

    fn kubeadm(&self) -> PathBuf {
        self.0.path().join("kubeadm")
    }

    fn chmod(&self, mode: u32) {
        fs::set_permissions(self.kubeadm(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn run(&self, limit: Duration) -> Result<Output, ExecError> {
        let exec = Exec::with_dirs(vec![self.0.path().to_path_buf()]);
        exec.run(&Invocation { program: Program::Kubeadm, args: vec!["certs".into()], limit })
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

const LONG: Duration = Duration::from_secs(60);
/// Far less than what the scripts would take, far more than a loaded machine needs.
const SOON: Duration = Duration::from_secs(30);

/// Whether the process is gone (a zombie is) before `SOON` is over.
fn dies(process: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < SOON {
        let state = fs::read_to_string(Path::new("/proc").join(process.trim()).join("stat"));
        match state {
            Ok(line) if !line.contains(") Z ") => std::thread::sleep(Duration::from_millis(10)),
            _ => return true,
        }
    }
    false
}

#[test]
fn output_and_exit_code_come_back() {
    let output = Bin::with("echo out $0 $1; echo err >&2; exit 3").run(LONG).unwrap();
    assert_eq!((output.code, output.signal), (Some(3), None));
    assert!(output.stdout.contains("kubeadm certs"), "{}", output.stdout);
    assert_eq!(output.stderr, "err\n");
    assert_eq!(output.ending(), "exited with code 3");
    assert_eq!(output.last_words(), "err");
}

#[test]
fn the_environment_is_what_we_say_and_nothing_else() {
    let output = Bin::with("/usr/bin/env | /usr/bin/sort; pwd; read -t 1 line || echo no-input").run(LONG).unwrap();
    let names: Vec<&str> = output.stdout.lines().filter_map(|l| l.split_once('=')).map(|(n, _)| n).collect();
    // PWD, SHLVL and _ are bash's own
    let foreign: Vec<_> =
        names.iter().filter(|n| !["PATH", "LANG", "HOME", "PWD", "SHLVL", "_", "OLDPWD"].contains(*n)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(output.stdout.contains("LANG=C\n") && output.stdout.contains("HOME=/root\n"), "{}", output.stdout);
    assert!(output.stdout.ends_with("/\nno-input\n"), "{}", output.stdout);
}

#[test]
fn a_flood_is_drained_and_its_end_is_kept() {
    let script =
        "head -c 30000000 /dev/zero | tr '\\0' x; echo END; head -c 5000000 /dev/zero | tr '\\0' y >&2; echo BAD >&2";
    let output = Bin::with(script).run(LONG).unwrap();
    assert!(output.success());
    assert_eq!((output.stdout.len(), output.stderr.len()), (65536, 65536));
    assert!(output.stdout.ends_with("xEND\n") && output.stderr.ends_with("yBAD\n"));
}

#[test]
fn a_program_that_hangs_is_ended_with_its_children() {
    let bin = Bin::with("sleep 1000 & echo $! > $(dirname $0)/pid; wait");
    let bin_dir = bin.0.path().to_path_buf();
    let start = Instant::now();
    let error = bin.run(Duration::from_millis(700)).unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < SOON);
    assert!(bin_dir.join("pid").exists(), "the script did not get to start its child");
    assert!(dies(&bin.file("pid")));
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let start = Instant::now();
    let error = Bin::with("trap '' TERM; while :; do sleep 1; done").run(Duration::from_millis(500)).unwrap_err();
    assert!(error.to_string().contains("did not end"), "{error}");
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_program_that_floods_for_ever_meets_its_limit() {
    let start = Instant::now();
    assert!(matches!(Bin::with("yes").run(Duration::from_millis(500)), Err(ExecError::TimedOut { .. })));
    assert!(start.elapsed() < SOON);
}

#[test]
fn children_that_keep_the_output_open_do_not_hold_us_up_and_do_not_live_on() {
    let bin = Bin::with("sleep 1000 & echo $! > $(dirname $0)/pid; echo done");
    let start = Instant::now();
    let output = bin.run(LONG).unwrap();
    assert_eq!(output.stdout, "done\n");
    assert!(start.elapsed() < SOON);
    assert!(dies(&bin.file("pid")));
}

#[test]
fn a_child_in_a_session_of_its_own_does_not_hold_us_up() {
    let bin = Bin::with("setsid sleep 20 & echo done");
    let start = Instant::now();
    assert_eq!(bin.run(LONG).unwrap().stdout, "done\n");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_signal_is_named() {
    let output = Bin::with("kill -KILL $$").run(LONG).unwrap();
    assert_eq!((output.code, output.signal), (None, Some(9)));
    assert_eq!(output.ending(), "was killed by SIGKILL");
}

#[test]
fn a_missing_program_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let exec = Exec::with_dirs(vec![dir.path().join("a"), dir.path().join("b")]);
    assert_eq!(exec.path(Program::Kubeadm), None);
    let error = exec.run(&Invocation { program: Program::Kubeadm, args: Vec::new(), limit: LONG }).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("kubeadm is not installed (looked for") && text.contains("/a/kubeadm, "), "{text}");
}

#[test]
fn what_cannot_be_executed_is_an_error() {
    let bin = Bin::with("exit 0");
    bin.chmod(0o644);
    assert!(matches!(bin.run(LONG), Err(ExecError::Start { .. })));
    fs::write(bin.kubeadm(), "\x7fELF rubbish").unwrap();
    bin.chmod(0o755);
    assert!(matches!(bin.run(LONG), Err(ExecError::Start { .. })));
}

#[test]
fn root_does_not_run_what_others_may_write() {
    if !nix::unistd::geteuid().is_root() {
        return; // an unprivileged user can harm only itself
    }
    let bin = Bin::with("exit 0");
    for mode in [0o775, 0o757, 0o777] {
        bin.chmod(mode);
        let text = bin.run(LONG).unwrap_err().to_string();
        assert!(text.contains("lets others than root write it"), "{text}");
    }
    bin.chmod(0o755);
    assert!(bin.run(LONG).unwrap().success());
    std::os::unix::fs::chown(bin.kubeadm(), Some(1234), None).unwrap();
    let text = bin.run(LONG).unwrap_err().to_string();
    assert!(text.contains("it belongs to user 1234"), "{text}");
}

#[test]
fn a_program_in_a_directory_that_others_may_write_is_passed_over() {
    if !nix::unistd::geteuid().is_root() {
        return; // an unprivileged user can harm only itself
    }
    // owner, group, mode of the first directory; what is wrong with it
    for (uid, gid, mode, why) in [
        (0, 0, 0o755, None),
        (0, 50, 0o755, None),
        (0, 0, 0o775, None),
        (0, 50, 0o2775, Some("its mode 2775 lets group 50 write it")),
        (0, 0, 0o777, Some("its mode 0777 lets everybody write it")),
        (1234, 0, 0o755, Some("it belongs to user 1234")),
    ] {
        let (first, second) = (Bin::with("echo first"), Bin::with("echo second"));
        let dir = first.0.path();
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        let exec = Exec::with_dirs(vec![dir.to_path_buf(), second.0.path().to_path_buf()]);
        let chosen = if why.is_some() { (&second, "second\n") } else { (&first, "first\n") };
        let invocation = Invocation { program: Program::Kubeadm, args: Vec::new(), limit: LONG };
        assert_eq!(exec.path(Program::Kubeadm), Some(chosen.0.kubeadm()), "{uid} {gid} {mode:o}");
        assert_eq!(exec.run(&invocation).unwrap().stdout, chosen.1, "{uid} {gid} {mode:o}");
        if let Some(why) = why {
            let text = first.run(LONG).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains(&dir.display().to_string()), "{text}");
        }
    }
}

#[test]
fn certwarden_is_the_running_binary() {
    // here that is the test itself, which can list its tests
    let invocation = Invocation { program: Program::Certwarden, args: vec!["--list".into()], limit: LONG };
    let output = Exec::default().run(&invocation).unwrap();
    assert!(output.stdout.contains("certwarden_is_the_running_binary: test"), "{}", output.stdout);
}
