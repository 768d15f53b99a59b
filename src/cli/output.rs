//! Standard output and error, and the exit codes (docs/architecture.md, "Command line").

use std::io::{self, Write as _};

use serde::Serialize;

use super::terminal::{self, Painted};
use crate::host::fs::{FsError, Root};
use crate::model::plain;

/// Wrong arguments.
pub const USAGE: u8 = 64;
/// A mistake in certwarden (sysexits(3), `EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// Another certwarden is at work.
pub const BUSY: u8 = 75;
/// Only root may.
pub const NOT_ROOT: u8 = 77;
/// The configuration is faulty.
pub const CONFIG: u8 = 78;

/// Prints to standard output, whole lines. Whatever others have written into it commands no terminal.
pub fn print(text: &str) {
    write(&plain::lines(text));
}

/// Prints what may have colours.
pub fn print_painted(text: &Painted) {
    write(text.as_str());
}

/// A reader that has gone away (`| head`) is no error.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // nothing can be done about a failure, and nobody reads about it
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
}

/// Prints a document as JSON.
pub fn print_json<T: Serialize>(document: &T) -> u8 {
    match serde_json::to_string_pretty(document) {
        Ok(text) => {
            write(&plain::json(&text));
            0
        }
        Err(e) => fail(&e, SOFTWARE),
    }
}

/// Tells an error with its causes on standard error.
pub fn fail(e: &dyn std::error::Error, code: u8) -> u8 {
    complain(&crate::model::cause::chain(e), code)
}

/// The same; where it is a matter of permission, and root would have it, with that.
pub fn fail_or_not_allowed(e: &(dyn std::error::Error + 'static), code: u8) -> u8 {
    let denied =
        |e: &(dyn std::error::Error + 'static)| matches!(e.downcast_ref::<FsError>(), Some(FsError::Permission { .. }));
    let mut causes = std::iter::successors(Some(e), |e| e.source());
    if nix::unistd::geteuid().is_root() || !causes.any(denied) {
        return fail(e, code);
    }
    complain(&format!("{}: run as root", crate::model::cause::chain(e)), NOT_ROOT)
}

/// Tells a sentence on standard error.
pub fn complain(sentence: &str, code: u8) -> u8 {
    terminal::rest();
    let _ = writeln!(io::stderr(), "certwarden: {}", plain::lines(sentence));
    code
}

/// Whoever may not read all of a node takes what is there for missing, and would be given remedies against that: nothing is
/// said at all. Root may read everything, or its words say why not.
pub fn not_allowed(root: &Root) -> Option<u8> {
    let denied = root.denied().filter(|_| !nix::unistd::geteuid().is_root())?;
    Some(complain(&format!("no permission to read {}: run as root", root.on_host(denied).display()), NOT_ROOT))
}
