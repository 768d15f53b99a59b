//! `certwarden status`: what the daemon last saw and will do next.

use std::path::PathBuf;

use crate::host::fs::{FsError, Root};
use crate::observe::{self, Status};

use super::output::{complain, fail, print, print_json};

/// The daemon does not run.
pub const NOT_RUNNING: u8 = 3;

/// Tells the daemon's snapshot.
pub fn run(root: &Root, json: bool) -> u8 {
    let status = match observe::read(root) {
        Ok(status) => status,
        Err(observe::ObserveError::Fs(FsError::NotFound { .. })) => {
            let hint = "the daemon has not run since boot; `systemctl enable --now certwarden` starts it";
            return complain(hint, NOT_RUNNING);
        }
        Err(e) => return fail(&e, NOT_RUNNING),
    };
    if json {
        print_json(&status);
    } else {
        print(&observe::render(&status));
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
    // `certwarden-full`, as a rule
    comm.is_ok_and(|name| name.starts_with(env!("CARGO_PKG_NAME")))
}
