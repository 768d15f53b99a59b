//! Every program that certwarden runs, in every way a program can misbehave: missing, broken, hanging, flooding,
//! killed, survived by its children, exchanged while it runs. Each ends in time, with an error or an output that says
//! so, and what it said is bounded. Enumerated: a new program does not compile here until it is listed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certwarden::host::exec::{Exec, ExecError, Invocation, Output, Program, Programs};
use certwarden::host::systemd::{ServiceManager, Systemd};

const PROGRAMS: [Program; 5] =
    [Program::Kubeadm, Program::Kubelet, Program::Systemctl, Program::Journalctl, Program::Certwarden];

fn number(program: Program) -> usize {
    match program {
        Program::Kubeadm => 0,
        Program::Kubelet => 1,
        Program::Systemctl => 2,
        Program::Journalctl => 3,
        Program::Certwarden => 4,
    }
}

/// Less than the scripts would take, more than a loaded machine needs to start one.
const LIMIT: Duration = Duration::from_secs(3);
/// With the time that SIGTERM and what is left behind are given, on a loaded machine.
const SOON: Duration = Duration::from_secs(45);
const KEPT: usize = 64 << 10;

type Ran = Result<Output, ExecError>;

/// What the file is, and what must come of running it.
struct Fault {
    what: &'static str,
    make: fn(&Path),
    is: fn(&Ran) -> bool,
}

fn script(text: &'static str) -> impl Fn(&Path) {
    move |path: &Path| write(path, &format!("#!/bin/bash\n{text}\n"), 0o755)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn timed_out(ran: &Ran) -> bool {
    matches!(ran, Err(ExecError::TimedOut { .. }))
}

fn not_started(ran: &Ran) -> bool {
    matches!(ran, Err(ExecError::Start { .. }))
}

fn not_found(ran: &Ran) -> bool {
    matches!(ran, Err(ExecError::NotFound { .. }))
}

fn signal(ran: &Ran, number: i32) -> bool {
    matches!(ran, Ok(o) if o.code.is_none() && o.signal == Some(number) && !o.success() && o.ending().contains("SIG"))
}

fn says(ran: &Ran, text: &str) -> bool {
    matches!(ran, Ok(o) if o.success() && o.stdout == text)
}

const FAULTS: &[Fault] = &[
    Fault { what: "missing", make: |_| {}, is: not_found },
    Fault { what: "a directory", make: |p| fs::create_dir(p).unwrap(), is: not_found },
    Fault {
        what: "a dangling link",
        make: |p| std::os::unix::fs::symlink("/nowhere/at/all", p).unwrap(),
        is: not_found,
    },
    Fault { what: "not executable", make: |p| write(p, "#!/bin/bash\n", 0o644), is: not_started },
    Fault { what: "a bad interpreter", make: |p| write(p, "#!/no/such/interpreter\n", 0o755), is: not_started },
    Fault { what: "half an ELF file", make: |p| write(p, "\x7fELF\x02\x01\x01", 0o755), is: not_started },
    Fault { what: "empty", make: |p| write(p, "", 0o755), is: not_started },
    Fault { what: "hangs", make: |p| script("sleep 600")(p), is: timed_out },
    Fault {
        what: "hangs and ignores SIGTERM",
        make: |p| script("trap '' TERM INT HUP; while :; do sleep 1; done")(p),
        is: timed_out,
    },
    Fault { what: "stops itself", make: |p| script("kill -STOP $$")(p), is: timed_out },
    Fault { what: "floods stdout for ever", make: |p| script("exec yes")(p), is: timed_out },
    Fault { what: "floods stderr for ever", make: |p| script("exec yes >&2")(p), is: timed_out },
    Fault {
        what: "floods and ends",
        make: |p| script("head -c 20000000 /dev/zero; echo END")(p),
        is: |r| matches!(r, Ok(o) if o.success() && o.stdout.ends_with("END\n")),
    },
    Fault {
        what: "writes what is no text",
        make: |p| script("printf '\\377\\000\\376ok'")(p),
        is: |r| matches!(r, Ok(o) if o.stdout.ends_with("ok")),
    },
    Fault { what: "killed", make: |p| script("kill -KILL $$")(p), is: |r| signal(r, 9) },
    Fault { what: "segmentation fault", make: |p| script("kill -SEGV $$")(p), is: |r| signal(r, 11) },
    Fault {
        what: "fails without a word",
        make: |p| script("exit 7")(p),
        is: |r| matches!(r, Ok(o) if o.code == Some(7) && o.last_words() == "no output"),
    },
    Fault {
        what: "leaves a child with the output",
        make: |p| script("sleep 600 & echo done")(p),
        is: |r| says(r, "done\n"),
    },
    Fault {
        what: "leaves a daemon with the output",
        make: |p| script("setsid sleep 60 & echo done")(p),
        is: |r| says(r, "done\n"),
    },
    Fault {
        what: "leaves a grandchild that floods",
        make: |p| script("(setsid timeout 60 yes &) ; sleep 0.1; exit 0")(p),
        is: |r| matches!(r, Ok(o) if o.success()),
    },
    Fault { what: "closes its output and hangs", make: |p| script("exec >&- 2>&-; sleep 600")(p), is: timed_out },
    Fault {
        what: "exchanged by another while it runs",
        make: |p| script("echo '#!/bin/bash' > $0.new; chmod 755 $0.new; mv $0.new $0; echo old")(p),
        is: |r| says(r, "old\n"),
    },
    Fault { what: "removed while it runs", make: |p| script("rm $0; echo done")(p), is: |r| says(r, "done\n") },
    Fault { what: "emptied while it runs", make: |p| script("sed -i d $0; : > $0; echo done")(p), is: Result::is_ok },
    Fault { what: "waits for input", make: |p| script("read line; echo $?")(p), is: |r| says(r, "1\n") },
];

fn exec(dir: &Path, program: Program) -> (Exec, PathBuf) {
    let path = dir.join(program.name());
    (Exec::with_dirs(vec![dir.to_path_buf()]).with_certwarden(path.clone()), path)
}

#[test]
fn every_program_in_every_misbehaviour_ends_in_time_and_says_what_it_was() {
    for (i, program) in PROGRAMS.into_iter().enumerate() {
        assert_eq!(number(program), i);
    }
    // the faults do not wait for one another
    std::thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || {
                for program in PROGRAMS {
                    let dir = tempfile::tempdir().unwrap();
                    let (exec, path) = exec(dir.path(), program);
                    (fault.make)(&path);
                    let start = Instant::now();
                    let ran = exec.run(&Invocation { program, args: vec!["x".into()], limit: LIMIT });
                    assert!((fault.is)(&ran), "{}: {}: {ran:?}", program.name(), fault.what);
                    assert!(start.elapsed() < SOON, "{}: {} took {:?}", program.name(), fault.what, start.elapsed());
                    match ran {
                        Ok(output) => assert!(output.stdout.len() <= 3 * KEPT && output.stderr.len() <= 3 * KEPT),
                        Err(e) => {
                            let said = e.to_string();
                            assert!(said.contains(program.name()) && said.len() < 500, "{said}");
                        }
                    }
                }
            });
        }
    });
}

/// Cuts every time limit short.
struct Hasty(Exec);

impl Programs for Hasty {
    fn run(&self, invocation: &Invocation) -> Ran {
        self.0.run(&Invocation { limit: invocation.limit.min(LIMIT), ..invocation.clone() })
    }
    fn path(&self, program: Program) -> Option<PathBuf> {
        self.0.path(program)
    }
}

#[test]
fn a_systemctl_and_a_journalctl_that_misbehave_are_errors_and_no_good_news() {
    std::thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                for program in [Program::Systemctl, Program::Journalctl] {
                    (fault.make)(&dir.path().join(program.name()));
                }
                let programs = Arc::new(Hasty(Exec::with_dirs(vec![dir.path().to_path_buf()])));
                let systemd = Systemd::at("unix:path=/nonexistent/bus", programs);
                // a script that replaces or removes itself is another one at the second question
                let job = systemd.restart("kubelet.service");
                assert!(
                    !matches!(&job, Ok(result) if result.is_done() && fault.what == "fails without a word"),
                    "{job:?}"
                );
                let status = systemd.status("kubelet.service");
                assert!(!status.as_ref().is_ok_and(certwarden::host::systemd::UnitStatus::is_running), "{status:?}");
                assert_ne!(systemd.system_state().ok().as_deref(), Some("running"), "{}", fault.what);
                assert_eq!(systemd.clock_synchronised(), None);
                let log = systemd.log_tail("kubelet.service", "");
                assert!(log.iter().map(String::len).sum::<usize>() < KEPT, "{}: {} lines", fault.what, log.len());
            });
        }
    });
}
