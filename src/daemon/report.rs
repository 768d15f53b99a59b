//! What the daemon writes to the journal about itself. The engine tells its own story; together a whole renewal is
//! meant to read in less than 40 lines, so a look that sees what the last one saw is not told.

use jiff::{SignedDuration, Timestamp};

use crate::config::ConfigError;
use crate::host::journal::{CRIT, NOTICE, id};
use crate::model::event::{News, Reason};
use crate::model::fleet::notes::Pause;
use crate::model::machine::Standing;
use crate::model::policy::Mode;
use crate::model::report::{Outcome, Report};
use crate::observe::CheckSeen;

/// A hard pause is told again after this: it may let certificates expire.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// More than this of entries in one record is a list, not a line.
const MOST_NAMES: usize = 4;

pub(super) fn started(mode: Mode, files: usize, next: Timestamp) {
    tracing::info!(
        MESSAGE_ID = id::DAEMON_STARTED.as_str(),
        "certwarden {} started: mode {}, {files} configuration files, first check at {next:.0}",
        env!("CARGO_PKG_VERSION"),
        match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        },
    );
}

/// Told to end in the middle of a transaction.
pub(super) fn finishing(step: &str) {
    tracing::info!("told to end while `{step}`: what is not committed is discarded, what is committed is finished");
}

pub(super) fn stopped() {
    tracing::info!(MESSAGE_ID = id::DAEMON_STOPPED.as_str(), "certwarden stopped");
}

/// A time that only one excursion of the clock has shown is no longer believed.
pub(super) fn outweighed(ahead: Timestamp, now: Timestamp) {
    tracing::warn!(
        "the clock has shown {ahead:.0} once, and {now:.0} or earlier at five checks in a row since: the earlier time was an \
         error and no longer closes the gate clock"
    );
}

/// Told at INFO if it differs from the last one in anything but time.
pub(super) fn checked(before: Option<&CheckSeen>, seen: &CheckSeen, due: &[String]) {
    let what = |c: &CheckSeen| {
        let names: Vec<_> = c.attention.iter().map(|a| (a.name.clone(), a.verdict)).collect();
        (c.verdict, c.certificates, c.unfinished, names)
    };
    let text = summary(seen, due);
    if before.map(what) == Some(what(seen)) {
        tracing::debug!(MESSAGE_ID = id::CHECK_DONE.as_str(), "{text}");
    } else {
        tracing::info!(MESSAGE_ID = id::CHECK_DONE.as_str(), "{text}");
    }
}

/// What has been told, so that each thing is told once and again when it comes back.
#[derive(Debug, Default)]
pub(super) struct Told {
    due: Vec<String>,
    wrong: Vec<(Reason, String)>,
    paused: Option<(Pause, Timestamp)>,
    left_out: Vec<(String, String)>,
}

impl Told {
    /// What is due and stays as it is. A transaction has told it itself; an attempt that began none comes again at every look.
    pub(super) fn left_out(&mut self, report: &Report) {
        let all = report.all().flat_map(|r| &r.left_out);
        let left_out: Vec<_> = all.map(|s| (s.name.clone(), s.reason.clone())).collect();
        if report.outcome == Outcome::LeftOut && left_out != self.left_out {
            tracing::warn!(MESSAGE_ID = id::REFUSED.as_str(), "{}", report.reason);
        }
        self.left_out = left_out;
    }

    /// Whether somebody has paused this node, as the last look found it.
    pub(super) fn paused(&mut self, pause: Option<&Pause>, now: Timestamp) {
        let known = self.paused.as_ref();
        let Some(pause) = pause else {
            if self.paused.take().is_some() {
                tracing::info!(target: NOTICE, MESSAGE_ID = id::RESUMED.as_str(), "not paused any more");
            }
            return;
        };
        let again = |(told, at): &(Pause, Timestamp)| told != pause || (pause.hard && now.duration_since(*at) >= DAILY);
        if known.is_none_or(again) {
            if pause.hard {
                tracing::warn!(
                    MESSAGE_ID = id::PAUSED.as_str(),
                    "paused {pause}; certificates that expire meanwhile are not renewed; `certwarden resume` ends it"
                );
            } else {
                tracing::info!(target: NOTICE, MESSAGE_ID = id::PAUSED.as_str(), "paused {pause}; `certwarden resume` ends it");
            }
            self.paused = Some((pause.clone(), now));
        }
    }

    /// What is newly due, and what has newly gone wrong: `journalctl -p warning` shows what somebody should look at.
    pub(super) fn news(&mut self, due: &[String], lasting: &[News]) {
        let names =
            due.iter().filter(|name| !self.due.contains(name)).map(String::as_str).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            tracing::info!(target: NOTICE, MESSAGE_ID = id::CERTIFICATE_DUE.as_str(), cw_cert = names, "due for renewal: {names}");
        }
        let new =
            |news: &&News| !self.wrong.iter().any(|(reason, about)| (*reason, about) == (news.reason, &news.about));
        let (expired, others): (Vec<_>, Vec<_>) =
            lasting.iter().filter(new).partition(|n| n.reason == Reason::CertificateExpired);
        let names = expired.iter().map(|n| n.about.as_str()).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            tracing::error!(target: CRIT, MESSAGE_ID = id::CERTIFICATE_EXPIRED.as_str(), cw_cert = names, "expired: {names}");
        }
        // what expires soon is due, or is told by the line about the look
        for news in others.iter().filter(|n| n.reason != Reason::CertificateExpiringSoon) {
            let (cert, problem) = (news.about.as_str(), news.reason.id());
            let note = &news.note;
            tracing::warn!(
                MESSAGE_ID = id::CERTIFICATE_PROBLEM.as_str(),
                cw_cert = cert,
                cw_problem = problem,
                "{note}"
            );
        }
        self.due = due.to_vec();
        self.wrong = lasting.iter().map(|n| (n.reason, n.about.clone())).collect();
    }
}

/// The wall clock has moved by `step` more than time has passed.
pub(super) fn clock_stepped(step: SignedDuration) {
    let way = if step.is_negative() { "was set back" } else { "was set ahead, or the machine slept," };
    let (seconds, size) = (step.as_secs(), step.abs());
    tracing::warn!(MESSAGE_ID = id::CLOCK_STEPPED.as_str(), cw_seconds = seconds, "the clock {way} by {size:#}");
}

fn summary(seen: &CheckSeen, due: &[String]) -> String {
    let named: Vec<_> = seen.attention.iter().take(MOST_NAMES).map(|a| format!("{}: {}", a.name, a.message)).collect();
    let more = match seen.attention.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let named = if named.is_empty() { String::new() } else { format!("; {}{more}", named.join(", ")) };
    let due = if due.is_empty() { String::new() } else { format!("; due: {}", due.join(", ")) };
    format!("{}: {} certificates checked{named}{due}", seen.verdict.label(), seen.certificates)
}

/// A change of what the daemon may do.
pub(super) fn standing(before: &Standing, now: &Standing) {
    match (before, now) {
        (_, Standing::BackingOff { failures, until }) if before != now => {
            tracing::warn!(
                MESSAGE_ID = id::BACKING_OFF.as_str(),
                cw_until = %until,
                "rolled back (rollback {failures} in a row): no renewal before {until:.0}; see `certwarden history`"
            );
        }
        (before, Standing::ObserveOnly { reason, .. }) if !matches!(before, Standing::ObserveOnly { .. }) => {
            tracing::error!(
                    target: CRIT,
            MESSAGE_ID = id::OBSERVING_ONLY.as_str(),
                    "nothing is renewed any more, a rollback failed: {reason}; repair the node, then run `certwarden recover`"
                );
        }
        (Standing::ObserveOnly { .. }, Standing::Free { .. }) => tracing::info!("renewals are allowed again"),
        _ => {}
    }
}

pub(super) fn reloaded(files: usize) {
    tracing::info!(target: NOTICE,
        MESSAGE_ID = id::CONFIG_RELOADED.as_str(), "configuration read again, {files} files");
}

/// Each problem is a record of its own, with its path; the returned sentence is for the status.
pub(super) fn rejected(error: &ConfigError) -> String {
    for problem in &error.problems {
        tracing::error!(
            MESSAGE_ID = id::CONFIG_REJECTED.as_str(),
            cw_path = %problem.path.display(),
            "configuration rejected, the old one stays in force: {problem}"
        );
    }
    let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
    let more = error.problems.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    format!("new configuration rejected, the old one stays in force: {first}{more}")
}
