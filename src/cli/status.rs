//! `certwarden status`: what the daemon last saw and will do next.

use std::path::PathBuf;

use serde::Serialize;

use crate::host::clock::{Clock as _, SystemClock};
use crate::host::fs::{FsError, Root};
use crate::model::layers::Brief;
use crate::observe::{self, Status};
use crate::watch;

use super::output::{complain, fail, not_allowed, print, print_json};

/// The daemon does not run.
pub const NOT_RUNNING: u8 = 3;

/// The snapshot, and what another process knows.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// Of `certwarden watch`, where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<&'a Brief>,
}

/// Tells the daemon's snapshot.
pub fn run(root: &Root, json: bool) -> u8 {
    let status = match observe::read(root) {
        Ok(status) => status,
        Err(observe::ObserveError::Fs(FsError::NotFound { .. })) => {
            let hint = "the daemon has not run since boot; `systemctl enable --now certwarden` starts it";
            return complain(hint, NOT_RUNNING);
        }
        Err(e) => return not_allowed(root).unwrap_or_else(|| fail(&e, NOT_RUNNING)),
    };
    let layers = watch::found(root).known().cloned();
    if json {
        print_json(&Told { status: &status, layers: layers.as_ref() });
    } else {
        let now = SystemClock::default().now();
        let layers = layers.map(|brief| format!("\n{}", watch::render(&brief, now))).unwrap_or_default();
        print(&(observe::render(&status) + &layers));
    }
    // a killed daemon cannot take back what it has published
    if root.is_live() && !is_alive(root, &status) {
        let hint =
            format!("the daemon (pid {}) is not running any more: this is what it saw at {}", status.pid, status.at);
        return complain(&hint, NOT_RUNNING);
    }
    0
}

fn is_alive(root: &Root, status: &Status) -> bool {
    let comm = root.read_text(&PathBuf::from(format!("/proc/{}/comm", status.pid)));
    comm.is_ok_and(|name| name.trim_end() == env!("CARGO_PKG_NAME"))
}
