//! Units that exist only while they are needed: programs of the operator, each run once, and one of ours that runs should we
//! be killed.
//!
//! The former not as children: the daemon's sandbox would hold for them (no write access, four capabilities, no fork bomb's end but
//! ours), and what they leave behind would belong to the daemon. systemd gives each its own control group, kills all of it
//! when the time is over, and puts what it says into the journal, at a bounded rate.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use zbus::Variant;

use crate::host::core_dump;

/// Between SIGTERM and SIGKILL.
const STOP: Duration = Duration::from_secs(5);
/// Lines within [`LOG_INTERVAL`]; what is more is dropped by journald, with a line that says how much.
const LOG_BURST: u32 = 200;
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Processes of one program; a fork bomb ends here.
const TASKS: u64 = 256;

/// A program that is run once.
#[derive(Clone, Debug)]
pub struct Once {
    /// Of the unit, with `.service`.
    pub unit: String,
    /// For a person, and in the journal (`journalctl -t`).
    pub identifier: String,
    pub description: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// `NAME=value`; nothing else is in its environment but what systemd gives every service.
    pub environment: Vec<String>,
    pub stdin: Vec<u8>,
    pub limit: Duration,
}

impl Once {
    /// systemd: `src/core/dbus-service.c`, `dbus-execute.c`, `dbus-unit.c`.
    pub(super) fn properties(&self) -> Vec<(&'static str, Variant<'_>)> {
        let path = String::from_utf8_lossy(self.program.as_os_str().as_bytes()).into_owned();
        let mut argv = vec![path.clone()];
        argv.extend(self.args.iter().cloned());
        vec![
            ("Description", self.description.as_str().into()),
            // the job ends when the program has, and TimeoutStartUSec= holds for all of its life
            ("Type", "oneshot".into()),
            ("ExecStart", vec![(path, argv, false)].into()),
            ("StandardInput", "data".into()),
            ("StandardInputData", self.stdin.clone().into()),
            ("SyslogIdentifier", self.identifier.as_str().into()),
            ("Environment", self.environment.clone().into()),
            ("WorkingDirectory", "/".into()),
            ("UMask", 0o077_u32.into()),
            ("TimeoutStartUSec", micros(self.limit).into()),
            ("TimeoutStopUSec", micros(STOP).into()),
            ("LogRateLimitIntervalUSec", micros(LOG_INTERVAL).into()),
            ("LogRateLimitBurst", LOG_BURST.into()),
            ("TasksMax", TASKS.into()),
            ("LimitCORE", core_dump::LIMIT.into()),
            // a failure is told by us, and leaves no failed unit that somebody has to reset
            ("CollectMode", "inactive-or-failed".into()),
        ]
    }

    /// How long the end of the job may take.
    pub(super) fn patience(&self) -> Duration {
        self.limit.saturating_add(STOP).saturating_add(super::JOB_MARGIN)
    }
}

/// A program that systemd runs later, and again and again, until the timer is stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Later {
    /// Of its two units, without a suffix.
    pub unit: &'static str,
    pub description: String,
    pub program: PathBuf,
    pub args: Vec<&'static str>,
    /// From now to the first time.
    pub after: Duration,
    /// From the end of one to the next.
    pub again: Duration,
}

impl Later {
    pub fn timer(&self) -> String {
        format!("{}.timer", self.unit)
    }

    pub(super) fn service(&self) -> String {
        format!("{}.service", self.unit)
    }

    /// systemd: `src/core/dbus-timer.c:bus_timer_set_transient_property`.
    pub(super) fn timer_properties(&self) -> Vec<(&'static str, Variant<'_>)> {
        let times =
            vec![("OnActiveSec".to_owned(), micros(self.after)), ("OnUnitInactiveSec".to_owned(), micros(self.again))];
        vec![
            ("Description", self.description.as_str().into()),
            ("TimersMonotonic", times.into()),
            // systemd's own is a minute
            ("AccuracyUSec", micros(Duration::from_secs(1)).into()),
            ("CollectMode", "inactive-or-failed".into()),
        ]
    }

    pub(super) fn service_properties(&self) -> Vec<(&'static str, Variant<'_>)> {
        let path = String::from_utf8_lossy(self.program.as_os_str().as_bytes()).into_owned();
        let mut argv = vec![path.clone()];
        argv.extend(self.args.iter().map(|arg| (*arg).to_owned()));
        vec![
            ("Description", self.description.as_str().into()),
            ("Type", "oneshot".into()),
            ("ExecStart", vec![(path, argv, false)].into()),
            ("CollectMode", "inactive-or-failed".into()),
        ]
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
