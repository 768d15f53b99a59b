//! strace(1): which calls a run makes, and the same run with a signal or an error put into one of them.
//!
//! `inject=…:when=N` counts per call and per thread (strace(1), and measured), so that a point is a call's name and its
//! number among those of that name in the main thread. The killed call itself is not carried out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Every call by which a process can change a file system. What a run does not call costs nothing.
const CHANGING: &str = "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,rename,renameat,renameat2,link,linkat,\
    symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,fsync,fdatasync,sync,syncfs,sync_file_range,truncate,ftruncate,\
    fallocate,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,\
    utime,utimes,utimensat,futimesat,creat,open,openat,openat2";

/// A run that takes longer hangs: the slowest takes seconds, on a busy machine.
const LIMIT: &str = "120";

/// One call of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Point {
    pub call: String,
    /// From 1, among the calls of this name.
    pub nth: usize,
    /// As strace shows it, with paths: for people, and to tell what a call is about.
    pub line: String,
}

impl Point {
    /// Whether it opens without making or cutting anything.
    pub fn only_opens(&self) -> bool {
        let opens = matches!(self.call.as_str(), "open" | "openat" | "openat2");
        opens && !self.line.contains("O_CREAT") && !self.line.contains("O_TRUNC")
    }

    /// Whether it puts a new file into a live place.
    pub fn is_live_rename(&self) -> bool {
        self.call == "renameat" && self.line.contains(".certwarden-new")
    }

    pub fn kill(&self) -> String {
        format!("inject={}:signal=KILL:when={}", self.call, self.nth)
    }

    pub fn stop(&self) -> String {
        format!("inject={}:signal=STOP:when={}", self.call, self.nth)
    }

    pub fn fail(&self, error: &str) -> String {
        format!("inject={}:error={error}:when={}", self.call, self.nth)
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// None: by a signal.
    pub code: Option<i32>,
    pub killed: bool,
    /// Standard output and error.
    pub text: String,
}

/// The binary to test; `$CERTWARDEN_BIN` names another than the one that was built with these tests.
fn program() -> PathBuf {
    std::env::var_os("CERTWARDEN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_certwarden").into(), PathBuf::from)
}

/// certwarden on the tree `root`.
pub fn certwarden(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT]).arg(program()).arg("--root").arg(root).args(args);
    bare(command)
}

/// The same under strace with these injections; none: nothing is traced.
pub fn injected(root: &Path, args: &[&str], inject: &[String]) -> Command {
    logged(root, args, inject, Path::new("/dev/null"))
}

/// The same; what strace sees of it goes to `log`.
pub fn logged(root: &Path, args: &[&str], inject: &[String], log: &Path) -> Command {
    if inject.is_empty() {
        return certwarden(root, args);
    }
    let calls: Vec<&str> = inject.iter().filter_map(|i| i.strip_prefix("inject=")?.split(':').next()).collect();
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT, "strace", "-f", "-qq", "-o"]).arg(log);
    // five times as fast, and deaf to `signal=` (strace 6.1)
    if !inject.iter().any(|i| i.contains(":signal=")) {
        command.arg("--seccomp-bpf");
    }
    command.arg("-e").arg(format!("trace={}", calls.join(","))).args(inject.iter().flat_map(|i| ["-e", i]));
    command.arg(program()).arg("--root").arg(root).args(args);
    bare(command)
}

/// Follow children and threads, stamp each call with nanoseconds and how long it took, name the files.
pub const TIMES: [&str; 6] =
    ["-f", "--seccomp-bpf", "-qq", "-T", "--absolute-timestamps=format:unix,precision:ns", "-y"];

/// A run whose calls are timed.
pub fn timed(root: &Path, args: &[&str], trace: &[&str], log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(TIMES).arg("-o").arg(log).args(trace).arg(program()).arg("--root").arg(root).args(args);
    bare(command)
}

fn bare(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

pub fn end(mut command: Command) -> Ended {
    let out = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // timeout(1) ends like its child, or with 137 where that was killed
    let killed = out.status.signal() == Some(9) || out.status.code() == Some(137);
    Ended { code: out.status.code().filter(|_| !killed), killed, text }
}

/// All calls of a run that change a file system, in their order, with what it said. `opens`: and those that only open.
pub fn points(root: &Path, args: &[&str], inject: &[String], opens: bool) -> (Vec<Point>, Ended) {
    let log = root.with_extension("strace");
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT, "strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "300", "-o"]).arg(&log);
    command.arg("-e").arg(format!("trace={CHANGING}")).args(inject.iter().flat_map(|i| ["-e", i]));
    command.arg(program()).arg("--root").arg(root).args(args);
    let ended = end(bare(command));
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    fs::remove_file(&log).unwrap();
    (parse(&text, root).into_iter().filter(|p| opens || !p.only_opens()).collect(), ended)
}

fn parse(log: &str, root: &Path) -> Vec<Point> {
    let root = root.display().to_string();
    let mut lines = log.lines().filter_map(|l| l.split_once(' ')).peekable();
    let main = lines.peek().map(|(pid, _)| (*pid).to_owned());
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let own = lines.filter(|(pid, _)| Some(*pid) == main.as_deref()).map(|(_, rest)| rest.trim());
    // an interrupted call is counted where it begins
    let begun = own.filter(|l| !l.starts_with(['<', '-', '+', '?']));
    begun
        .filter_map(|line| {
            let call = line.split_once('(')?.0.to_owned();
            let nth = count.entry(call.clone()).or_default();
            *nth += 1;
            Some(Point { nth: *nth, line: line.replace(&root, ""), call })
        })
        .collect()
}

/// What is missing on this machine for any of this.
pub fn missing() -> Option<&'static str> {
    let tool =
        |name: &str| ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|d| PathBuf::from(d).join(name).exists());
    if !tool("strace") {
        return Some("strace is not installed (`tools/setup torture`)");
    }
    let traced = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    (!traced.is_ok_and(|o| o.status.success())).then_some("strace may not trace here (ptrace is forbidden)")
}
