//! The scheduler task: what the unit runs.
//!
//! One thread waits (signals, the clock, the end of a job) and never does anything that can hang; jobs run on the
//! engine's thread, one at a time ([`work`]). What to do is decided by [`model::machine`](crate::model::machine); this
//! module feeds it events and carries out its effects ([`driver`]), and tells systemd and everybody else how it is.
//!
//! The watchdog is fed on every turn of the loop, unless the step that the engine has announced is beyond its own
//! time limit: then something hangs, and systemd kills and restarts us. The ledger is made for that.

mod again;
mod alarm;
pub mod approver;
mod clocks;
mod cluster;
mod driver;
mod hooks;
mod memory;
mod metrics;
mod mounts;
mod node;
mod report;
mod signals;
mod work;

pub use cluster::Target;
pub use hooks::tell_hooks;
pub use node::NodeWork;
pub use work::{CheckResult, Measured, Work};

use std::path::PathBuf;

use crate::config::{ConfigError, EXIT_CONFIG};
use crate::host::fs::Root;
use crate::model::machine::IllegalTransition;

/// Exit code of a daemon that wants to be started anew (`RestartForceExitStatus=` of its unit).
pub const EXIT_ANEW: u8 = 79;

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("wait for events")]
    Runtime(#[source] std::io::Error),
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("start a thread for the engine")]
    Thread(#[source] std::io::Error),
    #[error("the engine died in the middle of a job; a transaction it left open is finished after the restart")]
    EngineDied,
    #[error("{} was made or replaced after the start; starting anew to be able to write there", .0.display())]
    Outdated(PathBuf),
    #[error("defect in the state machine")]
    Illegal(#[from] IllegalTransition),
}

impl DaemonError {
    /// 78 for a configuration that cannot be used, 79 for a start anew, else 70 (sysexits(3), `EX_SOFTWARE`): the unit
    /// restarts us after both of the latter, and calls only 70 a failure.
    pub fn exit_code(&self) -> u8 {
        const EX_SOFTWARE: u8 = 70;
        match self {
            Self::Config(_) => EXIT_CONFIG,
            Self::Outdated(_) => EXIT_ANEW,
            _ => EX_SOFTWARE,
        }
    }
}

/// Runs until SIGTERM or SIGINT. Says READY as soon as the configuration is read; the first look follows.
///
/// # Errors
/// [`DaemonError`]: what cannot be repaired from inside.
pub fn run(root: Root, work: Box<dyn Work>) -> Result<(), DaemonError> {
    let settings = crate::config::load(&root)?;
    // one thread: the engine has its own, and every further one costs a stack
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(DaemonError::Runtime)?;
    runtime.block_on(async {
        let signals = signals::listen().map_err(DaemonError::Signals)?;
        let alarm = alarm::Alarm::new().map_err(DaemonError::Runtime)?;
        driver::Driver::new(root, settings, work).run(signals, alarm).await
    })
}
