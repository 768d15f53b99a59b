//! `certwarden export`: the metrics over HTTP.

use std::time::Duration;

use super::output::{SOFTWARE, USAGE, fail};
use crate::host::fs::Root;
use crate::host::journal;
use crate::observe::export::{ExportError, Options, serve};

/// systemd listens meanwhile, and starts it again for the next who asks.
const IDLE: Duration = Duration::from_secs(300);

/// Serves until nobody asks any more; by hand, until it is interrupted.
pub fn run(root: Root, listen: Option<String>) -> u8 {
    journal::init(journal::Target::Detect, false);
    let idle = listen.is_none().then_some(IDLE);
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into);
    let ready = |address: &str| {
        tracing::info!("metrics are served on {address}");
    };
    match serve(root, &Options { listen, credentials, idle }, ready) {
        Ok(()) => 0,
        Err(e @ (ExportError::NoSocket | ExportError::Listen { .. })) => fail(&e, USAGE),
        Err(e) => fail(&e, SOFTWARE),
    }
}
