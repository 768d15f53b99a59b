//! The journal of a unit, read by `journalctl -o json`: bounded in time, lines and bytes.

use std::ffi::OsString;
use std::time::Duration;

use jiff::Timestamp;

use super::exec::{ExecError, Invocation, Output, Program, Programs};

/// `journalctl` may have to open gigabytes of journal files.
const LIMIT: Duration = Duration::from_secs(15);
/// The newest of them; a kubelet that cannot reach its API server writes some in a second.
const LINES: u32 = 5000;
/// A record is some 600 bytes.
const BYTES: usize = 4 << 20;

/// The newest records of `unit` since `since`, the oldest first, one JSON object in a line. `search`: only those whose
/// message has this pattern, where journalctl can look for one (it was built with PCRE2); else all.
///
/// # Errors
/// Why there are none to be had, in a sentence.
pub fn unit(programs: &dyn Programs, unit: &str, since: Timestamp, search: &str) -> Result<Vec<String>, String> {
    let found = run(programs, unit, since, Some(search));
    let output = match found {
        // without PCRE2, or so much journal that looking through it takes too long: the newest as they are
        Err(ExecError::TimedOut { .. }) => run(programs, unit, since, None),
        Ok(output) if !output.success() && !output.stderr.trim().is_empty() => run(programs, unit, since, None),
        other => other,
    };
    let output = output.map_err(|e| e.to_string())?;
    // 1 with a pattern: nothing matches it (journalctl(1))
    if output.success() || output.stderr.trim().is_empty() {
        return Ok(output.stdout.lines().filter(|l| l.starts_with('{')).map(str::to_owned).collect());
    }
    Err(format!("journalctl {}: {}", output.ending(), output.last_words()))
}

fn run(programs: &dyn Programs, unit: &str, since: Timestamp, search: Option<&str>) -> Result<Output, ExecError> {
    let mut args = vec![
        format!("--unit={unit}"),
        "--output=json".to_owned(),
        "--output-fields=MESSAGE".to_owned(),
        "--no-pager".to_owned(),
        "--quiet".to_owned(),
        // the locale's time is the machine's; seconds since the epoch are nobody's
        format!("--since=@{}", since.as_second()),
        format!("--lines={LINES}"),
    ];
    args.extend(search.map(|s| format!("--grep={s}")));
    let args = args.into_iter().map(OsString::from).collect();
    programs.run_keeping(&Invocation { program: Program::Journalctl, args, limit: LIMIT }, BYTES)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;

    /// Answers in turn, and remembers whether it was asked for a pattern.
    struct Journal(Mutex<Vec<Output>>, Mutex<Vec<bool>>);

    impl Programs for Journal {
        fn run(&self, invocation: &Invocation) -> Result<Output, ExecError> {
            let searched = invocation.args.iter().any(|a| a.to_string_lossy().starts_with("--grep="));
            self.1.lock().unwrap().push(searched);
            Ok(self.0.lock().unwrap().remove(0))
        }

        fn path(&self, _: Program) -> Option<PathBuf> {
            None
        }
    }

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { code: Some(code), signal: None, stdout: stdout.into(), stderr: stderr.into() }
    }

    fn asked(answers: Vec<Output>) -> (Result<Vec<String>, String>, Vec<bool>) {
        let journal = Journal(Mutex::new(answers), Mutex::default());
        let lines = unit(&journal, "kubelet.service", Timestamp::UNIX_EPOCH, "x509|expired");
        (lines, journal.1.into_inner().unwrap())
    }

    #[test]
    fn a_journalctl_that_cannot_search_is_asked_for_everything() {
        let without = output(1, "", "Compiled without pattern matching support");
        let (lines, asked) = asked(vec![without, output(0, "-- Boot --\n{\"MESSAGE\":\"a\"}\n{}\n", "")]);
        assert_eq!((lines.unwrap().len(), asked), (2, vec![true, false]));
    }

    #[test]
    fn nothing_found_is_no_failure_and_a_journal_that_cannot_be_read_is() {
        assert_eq!(asked(vec![output(1, "", "")]), (Ok(Vec::new()), vec![true]));
        let denied = || output(1, "", "No journal files were opened due to insufficient permissions.");
        let (lines, _) = asked(vec![denied(), denied()]);
        assert_eq!(
            lines.unwrap_err(),
            "journalctl exited with code 1: No journal files were opened due to insufficient permissions."
        );
    }
}
