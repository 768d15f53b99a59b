//! External programs: a closed list, by absolute path, with a clean environment, a time limit and bounded output.

mod child;
pub mod descendants;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::model::plain;

/// Every program that certwarden runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    Kubeadm,
    Kubelet,
    Systemctl,
    Journalctl,
    /// certwarden itself, for its hidden subcommands.
    Certwarden,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::Kubelet => "kubelet",
            Self::Systemctl => "systemctl",
            Self::Journalctl => "journalctl",
            Self::Certwarden => "certwarden",
        }
    }
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub program: Program,
    pub args: Vec<OsString>,
    pub limit: Duration,
}

/// What a program did. Output is cut to the last 64 KiB of each stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Exit code; None if a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// How it ended, for a sentence: `exited with code 1`, `was killed by SIGKILL`.
    pub fn ending(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(n)) => match nix::sys::signal::Signal::try_from(n) {
                Ok(s) => format!("was killed by {s}"),
                Err(_) => format!("was killed by signal {n}"),
            },
            (None, None) => "ended in an unknown way".to_owned(),
        }
    }

    /// The last non-empty line of stderr, else of stdout: usually the reason.
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        plain::line(text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no output"), plain::SENTENCE)
    }
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("{program} is not installed (looked for {})", looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound { program: &'static str, looked: Vec<PathBuf> },
    /// Root would run what somebody else may write.
    #[error("{} is not run as root: {why}; correct it with `chown root:root` and `chmod 0755`", path.display())]
    Untrusted { path: PathBuf, why: String },
    /// Root would run what somebody else may put there.
    #[error("nothing in {} is run as root: {why}; correct it with `chown root:root` and `chmod 0755`", dir.display())]
    UntrustedDir { dir: PathBuf, why: String },
    #[error("start {}", path.display())]
    Start {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("watch {}", path.display())]
    Watch {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} did not end within {}s and was killed", path.display(), limit.as_secs())]
    TimedOut { path: PathBuf, limit: Duration },
}

/// Runs programs.
pub trait Programs: Send + Sync {
    /// Runs to the end or to the limit; then the whole process group is killed.
    ///
    /// # Errors
    /// [`ExecError`]. A non-zero exit is not an error but an [`Output`].
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError>;

    /// As [`run`](Self::run), with the last `keep` bytes of each stream instead of 64 KiB.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn run_keeping(&self, invocation: &Invocation, keep: usize) -> Result<Output, ExecError> {
        let _ = keep; // a fake says what it says
        self.run(invocation)
    }

    /// Where the program is, if it is installed.
    fn path(&self, program: Program) -> Option<PathBuf>;
}

/// Where the programs of a node are: distributions' packages, then what administrators install by hand.
const DIRS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"];
/// What a child may search. Fixed: our own `PATH` is whatever the administrator's shell had.
const CHILD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The running binary, even after a package upgrade has replaced the file it was started from: the staging
/// subcommand is always of the same version as its caller.
const SELF: &str = "/proc/self/exe";
/// A package manager that is just writing the file (ETXTBSY, execve(2)) gets half a second.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Whom a time limit kills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Group {
    /// The program leads a process group, which is killed as a whole.
    Own,
    /// The program stays in our group, and whoever started us kills us together.
    Ours,
}

/// The machine's own programs.
#[derive(Debug)]
pub struct Exec {
    dirs: Vec<PathBuf>,
    certwarden: PathBuf,
    group: Group,
}

impl Default for Exec {
    fn default() -> Self {
        Self::with_dirs(DIRS.iter().map(PathBuf::from).collect())
    }
}

impl Exec {
    /// Looks for programs in `dirs` (absolute paths), in this order.
    pub fn with_dirs(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, certwarden: PathBuf::from(SELF), group: Group::Own }
    }

    /// Takes `binary` for [`Program::Certwarden`] instead of the running one. For tests, whose running binary is the test.
    #[must_use]
    pub fn with_certwarden(self, binary: PathBuf) -> Self {
        Self { certwarden: binary, ..self }
    }

    /// Leaves programs in our own process group. For a process that is itself run by an [`Exec`]: its time limit
    /// must reach our children too, even if we are killed before we could pass it on.
    #[must_use]
    pub fn in_our_group(self) -> Self {
        Self { group: Group::Ours, ..self }
    }

    fn candidates(&self, program: Program) -> Vec<PathBuf> {
        match program {
            Program::Certwarden => vec![self.certwarden.clone()],
            other => self.dirs.iter().map(|d| d.join(other.name())).collect(),
        }
    }

    fn command(&self, path: &Path, invocation: &Invocation) -> Command {
        let mut command = Command::new(path);
        command
            .arg0(invocation.program.name())
            .args(&invocation.args)
            // no NOTIFY_SOCKET, WATCHDOG_PID, KUBECONFIG, LD_* or proxies: only what is said here
            .env_clear()
            .env("PATH", CHILD_PATH)
            .env("LANG", "C")
            .env("HOME", "/root")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.group == Group::Own {
            command.process_group(0);
        }
        command
    }
}

impl Programs for Exec {
    fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
        self.run_keeping(invocation, child::KEPT)
    }

    fn run_keeping(&self, invocation: &Invocation, keep: usize) -> Result<Output, ExecError> {
        let looked = self.candidates(invocation.program);
        let path = match chosen(&looked) {
            None => return Err(ExecError::NotFound { program: invocation.program.name(), looked }),
            Some(found) => found?,
        };
        if path != Path::new(SELF) {
            trusted(&path)?;
        }
        let mut command = self.command(&path, invocation);
        let mut tries = 0;
        let process = loop {
            match command.spawn() {
                Err(e) if e.raw_os_error() == Some(Errno::ETXTBSY as i32) && tries < BUSY_TRIES => {
                    tries += 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                other => break other.map_err(|source| ExecError::Start { path: path.clone(), source })?,
            }
        };
        match child::watch(process, self.group == Group::Own, invocation.limit, keep) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(ExecError::TimedOut { path, limit: invocation.limit }),
            Err(source) => Err(ExecError::Watch { path, source }),
        }
    }

    fn path(&self, program: Program) -> Option<PathBuf> {
        let candidates = self.candidates(program);
        // one that is there and refused is named all the same: running it says why not
        chosen(&candidates)?.ok().or_else(|| candidates.into_iter().find(|p| p.is_file()))
    }
}

/// The first program that is there, in a directory where nobody could have put another one in its place; else why
/// the first was passed over. None: there is none at all.
fn chosen(candidates: &[PathBuf]) -> Option<Result<PathBuf, ExecError>> {
    let mut first = None;
    for path in candidates.iter().filter(|p| p.is_file()) {
        match path.parent().map_or(Ok(()), directory) {
            Ok(()) => return Some(Ok(path.clone())),
            Err(e) => first = first.or(Some(Err(e))),
        }
    }
    first
}

/// Debian before 13 gives `/usr/local/bin` to the group staff, which may write there (Debian policy §9.1.2).
fn directory(dir: &Path) -> Result<(), ExecError> {
    if dir.starts_with("/proc") || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let meta = dir.metadata().map_err(|source| ExecError::Start { path: dir.to_path_buf(), source })?;
    match foreign_hand(meta.uid(), meta.gid(), meta.mode()) {
        Some(why) => Err(ExecError::UntrustedDir { dir: dir.to_path_buf(), why }),
        None => Ok(()),
    }
}

/// Who else than root could put something into a directory.
fn foreign_hand(uid: u32, gid: u32, mode: u32) -> Option<String> {
    match mode {
        _ if uid != 0 => Some(format!("it belongs to user {uid}")),
        _ if mode & 0o002 != 0 => Some(format!("its mode {:04o} lets everybody write it", mode & 0o7777)),
        _ if mode & 0o020 != 0 && gid != 0 => Some(format!("its mode {:04o} lets group {gid} write it", mode & 0o7777)),
        _ => None,
    }
}

/// The program at `path` with every link resolved, if nobody but root could have written it or put it there.
///
/// # Errors
/// [`ExecError::Untrusted`], [`ExecError::UntrustedDir`]; [`ExecError::Start`] if it is not there or cannot be run.
pub fn trusted_program(path: &Path) -> Result<PathBuf, ExecError> {
    let start = |source| ExecError::Start { path: path.to_path_buf(), source };
    let real = path.canonicalize().map_err(start)?;
    // the links on the way count as much as where they lead
    path.ancestors().chain(real.ancestors()).skip(1).filter(|d| d.is_dir()).try_for_each(directory)?;
    if !real.is_file() {
        return Err(start(std::io::Error::from(std::io::ErrorKind::NotFound)));
    }
    trusted(&real)?;
    Ok(real)
}

/// Refuses a program that somebody else than root could have written, when we are root.
fn trusted(path: &Path) -> Result<(), ExecError> {
    let start = |source| ExecError::Start { path: path.to_path_buf(), source };
    let meta = path.metadata().map_err(start)?;
    access(path, AccessFlags::X_OK).map_err(|e| start(e.into()))?;
    let untrusted = |why: String| Err(ExecError::Untrusted { path: path.to_path_buf(), why });
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if meta.uid() != 0 {
        return untrusted(format!("it belongs to user {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return untrusted(format!("its mode {:04o} lets others than root write it", meta.mode() & 0o7777));
    }
    Ok(())
}
