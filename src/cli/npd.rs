//! `certwarden npd-plugin`: what node-problem-detector's custom plugin monitor asks every few minutes. Reads the daemon's
//! snapshot, and nothing else.

use super::output::print;
use crate::host::fs::Root;
use crate::model::plain;
use crate::observe::{self, Status, Verdict};

/// Its exit codes (node-problem-detector: `pkg/custompluginmonitor/types/types.go`).
const FINE: u8 = 0;
const PROBLEM: u8 = 1;
const UNKNOWN: u8 = 2;
/// Its `max_output_length`.
const LONGEST: usize = 80;

/// One line, at most 80 bytes.
pub fn run(root: &Root) -> u8 {
    let (code, text) = match observe::read(root) {
        Ok(status) => judge(&status),
        Err(_) => (UNKNOWN, "certwarden has not run since boot".to_owned()),
    };
    print(&plain::in_bytes(&text, LONGEST));
    code
}

fn judge(status: &Status) -> (u8, String) {
    let Some(check) = &status.last_check else { return (UNKNOWN, "no check yet".to_owned()) };
    let worst = check.attention.first().map(|a| format!("{}: {}", a.name, a.message));
    match check.verdict {
        Verdict::Critical => (PROBLEM, worst.unwrap_or_else(|| "a certificate is critical".to_owned())),
        Verdict::Unknown => (UNKNOWN, "certificates cannot be read".to_owned()),
        Verdict::Ok | Verdict::Warning => (FINE, "certificates are healthy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_daemon_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(&Root::open(dir.path()).unwrap()), UNKNOWN);
    }
}
