//! External programs: a closed list, by absolute path, with a clean environment, a time limit and bounded output.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Every program that certwarden runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    Kubeadm,
    Kubelet,
    Systemctl,
    Journalctl,
    /// certwarden itself, for the hidden staging subcommand.
    Certwarden,
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
    pub fn last_words(&self) -> &str {
        let last = |s: &'_ str| -> Option<usize> { s.lines().position(|l| !l.trim().is_empty()) };
        let text = if last(&self.stderr).is_some() { &self.stderr } else { &self.stdout };
        text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no output").trim()
    }
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("{program} is not installed (looked for {})", looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound { program: &'static str, looked: Vec<PathBuf> },
    #[error("start {}", path.display())]
    Start {
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

    /// Where the program is, if it is installed.
    fn path(&self, program: Program) -> Option<PathBuf>;
}
