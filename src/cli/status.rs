//! `certwarden status`: what the daemon last saw and will do next.

use crate::host::fs::{FsError, Root};
use crate::observe;

use super::output::{complain, fail, print, print_json};

/// The daemon has not published anything.
const NO_STATUS: u8 = 3;

/// Tells the daemon's snapshot.
pub fn run(root: &Root, json: bool) -> u8 {
    match observe::read(root) {
        Ok(status) if json => print_json(&status),
        Ok(status) => {
            print(&observe::render(&status));
            0
        }
        Err(observe::ObserveError::Fs(FsError::NotFound { .. })) => {
            complain("the daemon has not run since boot; `systemctl enable --now certwarden` starts it", NO_STATUS)
        }
        Err(e) => fail(&e, NO_STATUS),
    }
}
