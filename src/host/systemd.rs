//! systemd as the service manager: over D-Bus, or by `systemctl` when the bus is down.
//!
//! `systemctl`, run by root, speaks to PID 1 over `/run/systemd/private` and needs no bus; zbus cannot use that
//! socket, since PID 1 answers there under a well-known name, which zbus refuses as a sender.

mod bus;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod systemctl;
mod transient;

pub use transient::{Later, Once};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::host::exec::Programs;
use crate::model::unit::Loaded;
use bus::Bus;
use systemctl::Systemctl;

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
    /// When it last became inactive, its processes gone; systemd's `InactiveEnterTimestamp`, in microseconds of the wall
    /// clock. None: never, or not known (`systemctl` prints whole seconds).
    pub inactive_since: Option<Timestamp>,
    /// A job is queued or running for the unit.
    pub has_job: bool,
    /// Its files have changed since systemd read them (`NeedDaemonReload`).
    pub need_daemon_reload: bool,
    /// What systemd read it from: the unit's file, its drop-ins, its environment files.
    pub sources: Vec<PathBuf>,
    /// Time limits of the unit, zero if unknown or infinite: [`stop_limit`](Self::stop_limit) has an end.
    pub timeout_start: Duration,
    pub timeout_stop: Duration,
    pub restart_delay: Duration,
}

impl UnitStatus {
    pub fn is_running(&self) -> bool {
        self.active_state == "active" && self.sub_state == "running" && self.main_pid != 0
    }

    /// How long a stop is waited for.
    pub fn stop_limit(&self) -> Duration {
        Verb::Stop.limit(self)
    }

    /// How long a restart is waited for.
    pub fn restart_limit(&self) -> Duration {
        Verb::Restart.limit(self)
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

/// What to do with a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Restart,
    Stop,
    Start,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// How long a job of this kind may take, by the unit's own limits.
    fn limit(self, status: &UnitStatus) -> Duration {
        let phases: &[Duration] = match self {
            Self::Restart => &[status.timeout_stop, status.timeout_start],
            Self::Stop => &[status.timeout_stop],
            Self::Start => &[status.timeout_start],
        };
        if phases.iter().any(Duration::is_zero) {
            return UNLIMITED_JOB; // zero: infinite or unknown
        }
        phases.iter().sum::<Duration>().saturating_add(JOB_MARGIN).min(LONGEST_JOB)
    }
}

/// Beyond the unit's own limits: jobs before ours in the queue, SIGKILL and the reaping of what it left.
const JOB_MARGIN: Duration = Duration::from_secs(30);
/// For a unit without limits (`TimeoutStartSec=infinity`): no kubelet that is ever coming back takes longer.
const UNLIMITED_JOB: Duration = Duration::from_secs(5 * 60);
/// However long the unit says: a transaction must end.
pub const LONGEST_JOB: Duration = Duration::from_secs(15 * 60);
/// For each of the answers to what a unit has loaded: somebody waits for a `check`, and without them its files are read.
const LOADED: Duration = Duration::from_secs(2);
/// Lines of a failure's log: enough for its reason.
const LOG_LINES: usize = 20;
/// Characters of a log line: the reason stands at the beginning, the rest is stack traces.
const LOG_LINE: usize = 500;

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

    /// Has a program run later, until `stop` of [`Later::timer`]. That it is to be run already is no error.
    ///
    /// # Errors
    /// [`SystemdError`].
    fn run_later(&self, later: &Later) -> Result<(), SystemdError>;

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

/// What systemd has loaded for a unit. None if it does not answer soon.
pub fn loaded(unit: &str) -> Option<Loaded> {
    loaded_at(bus::SYSTEM_BUS, unit, LOADED)
}

/// The same on the bus at a D-Bus address, with a time limit for each answer.
pub fn loaded_at(address: &str, unit: &str, limit: Duration) -> Option<Loaded> {
    Bus::new(address).with_limits(limit, limit).loaded(unit).ok()
}

/// Why the bus gave no answer.
#[derive(Debug)]
enum Failure {
    /// The bus cannot be used; systemd itself may be well.
    Bus(String),
    /// systemd has answered, or has let the time pass.
    Systemd(SystemdError),
}

/// systemd. Holds no connection between operations.
pub struct Systemd {
    bus: Bus,
    systemctl: Systemctl,
}

impl std::fmt::Debug for Systemd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Systemd").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Systemd {
    /// systemd on the system bus. `programs` runs `systemctl` and `journalctl`.
    pub fn new(programs: Arc<dyn Programs>) -> Self {
        Self::at(bus::SYSTEM_BUS, programs)
    }

    /// systemd on the bus at a D-Bus address (`unix:path=…`).
    pub fn at(address: &str, programs: Arc<dyn Programs>) -> Self {
        Self { bus: Bus::new(address), systemctl: Systemctl::new(programs) }
    }

    /// As [`at`](Self::at), with other time limits: for the answer to each call, and for the end of each job.
    pub fn with_limits(address: &str, programs: Arc<dyn Programs>, call: Duration, job: Duration) -> Self {
        Self { bus: Bus::new(address).with_limits(call, job), systemctl: Systemctl::new(programs) }
    }

    /// Runs a program as a unit of its own and waits for its end, at most for its time limit and a margin.
    ///
    /// # Errors
    /// [`SystemdError`]: it could not be started, or systemd does not say how it ended.
    pub fn run_once(&self, once: &Once) -> Result<JobResult, SystemdError> {
        self.bus.run_once(once).map_err(no_bus)
    }

    fn job(&self, verb: Verb, unit: &str) -> Result<JobResult, SystemdError> {
        // if the bus was lost after the job was queued, systemctl joins that job or makes another: no harm
        or_systemctl(self.bus.job(verb, unit), || self.systemctl.job(verb, unit))
    }
}

/// Of transient units: `systemd-run` needs the bus as well.
fn no_bus(failure: Failure) -> SystemdError {
    match failure {
        Failure::Systemd(e) => e,
        Failure::Bus(detail) => SystemdError::Unreachable { detail: format!("D-Bus: {detail}") },
    }
}

/// The bus's answer, or `systemctl`'s when the bus cannot be used.
fn or_systemctl<T>(
    bus: Result<T, Failure>,
    systemctl: impl FnOnce() -> Result<T, SystemdError>,
) -> Result<T, SystemdError> {
    match bus {
        Ok(answer) => Ok(answer),
        Err(Failure::Systemd(e)) => Err(e),
        Err(Failure::Bus(bus)) => systemctl().map_err(|e| match e {
            SystemdError::Unreachable { detail } => {
                SystemdError::Unreachable { detail: format!("D-Bus: {bus}; systemctl: {detail}") }
            }
            other => other,
        }),
    }
}

/// As [`or_systemctl`], for questions, which can be asked twice: a hung message bus looks like a hung systemd, and
/// `systemctl` goes round it.
fn ask<T>(bus: Result<T, Failure>, systemctl: impl FnOnce() -> Result<T, SystemdError>) -> Result<T, SystemdError> {
    match bus {
        Err(Failure::Systemd(e @ SystemdError::TimedOut { .. })) => systemctl().map_err(|_| e),
        other => or_systemctl(other, systemctl),
    }
}

impl ServiceManager for Systemd {
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        ask(self.bus.status(unit), || self.systemctl.status(unit))
    }

    fn restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job(Verb::Restart, unit)
    }

    fn stop(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job(Verb::Stop, unit)
    }

    fn start(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job(Verb::Start, unit)
    }

    fn run_later(&self, later: &Later) -> Result<(), SystemdError> {
        self.bus.run_later(later).map_err(no_bus)
    }

    fn system_state(&self) -> Result<String, SystemdError> {
        ask(self.bus.system_state(), || self.systemctl.system_state())
    }

    fn clock_synchronised(&self) -> Option<bool> {
        self.bus.clock_synchronised().ok()
    }

    fn log_tail(&self, unit: &str, invocation_id: &str) -> Vec<String> {
        self.systemctl.log_tail(unit, invocation_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(stop: u64, start: u64) -> UnitStatus {
        UnitStatus {
            timeout_stop: Duration::from_secs(stop),
            timeout_start: Duration::from_secs(start),
            ..UnitStatus::default()
        }
    }

    #[test]
    fn a_restart_is_given_the_units_own_time_to_stop_and_to_start() {
        assert_eq!(Verb::Restart.limit(&limits(90, 90)), Duration::from_secs(210));
        assert_eq!(Verb::Stop.limit(&limits(90, 0)), Duration::from_secs(120));
    }

    #[test]
    fn a_unit_without_limits_or_with_absurd_ones_is_waited_for_within_bounds() {
        assert_eq!(limits(90, 0).restart_limit(), UNLIMITED_JOB);
        assert_eq!((limits(0, 90).stop_limit(), limits(0, 90).restart_limit()), (UNLIMITED_JOB, UNLIMITED_JOB));
        assert_eq!(Verb::Start.limit(&limits(0, 86_400)), LONGEST_JOB);
    }
}
