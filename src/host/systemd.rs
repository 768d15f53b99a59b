//! systemd as the service manager: over D-Bus, or by `systemctl` when the bus is down.

use std::time::Duration;

/// Why systemd could not do or tell.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error("no answer from systemd about {what} within {}s", limit.as_secs())]
    TimedOut { what: String, limit: Duration },
    #[error("unit {unit} does not exist")]
    NoSuchUnit { unit: String },
    #[error("unit {unit} is masked")]
    Masked { unit: String },
    #[error("the machine is shutting down: systemd refuses to restart {unit}")]
    ShuttingDown { unit: String },
    #[error("a job to stop {unit} is queued: an administrator is stopping it")]
    StopQueued { unit: String },
    #[error("systemd refused {what}: {detail}")]
    Refused { what: String, detail: String },
    #[error("neither D-Bus nor systemctl reaches systemd: {detail}")]
    Unreachable { detail: String },
}

/// A unit's state, read at one moment, never cached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `activating`, `failed`, …
    pub active_state: String,
    /// `running`, `auto-restart`, …
    pub sub_state: String,
    /// `success`, `exit-code`, …
    pub result: String,
    /// Hexadecimal; changes at every start, automatic ones included.
    pub invocation_id: String,
    pub main_pid: u32,
    pub n_restarts: u32,
    pub exec_main_status: i32,
    /// Time limits of the unit, zero if unknown or infinite.
    pub timeout_start: Duration,
    pub timeout_stop: Duration,
    pub restart_delay: Duration,
}

impl UnitStatus {
    pub fn is_running(&self) -> bool {
        self.active_state == "active" && self.sub_state == "running" && self.main_pid != 0
    }
}

/// How a job ended: systemd's own word (`done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, …), an open set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JobResult(pub String);

impl JobResult {
    /// `done` says only that systemd did its part: with `Type=simple` the process may be dead already.
    pub fn is_done(&self) -> bool {
        self.0 == "done"
    }
}

/// The service manager.
pub trait ServiceManager: Send {
    /// # Errors
    /// [`SystemdError`] if systemd cannot be asked. A unit that does not exist is a status (`not-found`).
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError>;

    /// Restarts and waits until the job has ended, at most the unit's own start and stop time limits and a margin.
    ///
    /// # Errors
    /// [`SystemdError`]; `StopQueued` if an administrator is stopping the unit just now.
    fn restart(&self, unit: &str) -> Result<JobResult, SystemdError>;

    /// As [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`SystemdError`].
    fn stop(&self, unit: &str) -> Result<JobResult, SystemdError>;

    /// As [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`SystemdError`].
    fn start(&self, unit: &str) -> Result<JobResult, SystemdError>;

    /// Manager state: `running`, `degraded`, `starting`, `stopping`, …
    ///
    /// # Errors
    /// [`SystemdError`].
    fn system_state(&self) -> Result<String, SystemdError>;

    /// Whether the clock is synchronised (timedate1 `NTPSynchronized`); None if it cannot be told.
    fn clock_synchronised(&self) -> Option<bool>;

    /// The last log lines of a unit's invocation, for the reason of a failure. Best effort, bounded.
    fn log_tail(&self, unit: &str, invocation_id: &str) -> Vec<String>;
}
