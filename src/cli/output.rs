//! Standard output and error, and the exit codes (DESIGN §8).

use std::io::{self, Write as _};

use serde::Serialize;

use super::terminal;

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

/// Prints to standard output, whole lines. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // nothing can be done about a failure, and nobody reads about it
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
}

/// Prints a document as JSON.
pub fn print_json<T: Serialize>(document: &T) -> u8 {
    match serde_json::to_string_pretty(document) {
        Ok(text) => {
            print(&text);
            0
        }
        Err(e) => fail(&e, SOFTWARE),
    }
}

/// Tells an error with its causes on standard error.
pub fn fail(e: &dyn std::error::Error, code: u8) -> u8 {
    complain(&crate::model::cause::chain(e), code)
}

/// Tells a sentence on standard error.
pub fn complain(sentence: &str, code: u8) -> u8 {
    terminal::rest();
    let _ = writeln!(io::stderr(), "certwarden: {sentence}");
    code
}
