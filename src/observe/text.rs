//! `certwarden status`: the snapshot for a person at a terminal.

use jiff::tz::TimeZone;

use super::line::{clock, remaining};
use super::status::{Doing, Status};
use crate::model::machine::Standing;
use crate::model::plain::one_line;
use crate::model::policy::Mode;

/// Entries that need attention, at most: `certwarden check` has them all.
const MOST_ATTENTION: usize = 5;

/// Some lines without a trailing newline; times are local.
pub fn render(status: &Status) -> String {
    render_in(status, &TimeZone::system())
}

fn render_in(status: &Status, tz: &TimeZone) -> String {
    let mut rows = vec![("daemon", format!("{}, mode {}", doing(status), mode(status.mode)))];
    rows.push(("renewals", standing(status, tz)));
    rows.push(("last check", last_check(status, tz)));
    if let Some(check) = &status.last_check {
        let shown = check.attention.iter().take(MOST_ATTENTION).map(|a| ("", format!("{}: {}", a.name, a.message)));
        rows.extend(shown);
        if let Some(more) = check.attention.len().checked_sub(MOST_ATTENTION).filter(|n| *n > 0) {
            rows.push(("", format!("and {more} more: certwarden check")));
        }
        if let Some(next) = &check.next_end {
            rows.push(("next to end", format!("{} {}", next.name, remaining(next.at, status.at))));
        }
        if let Some(pause) = check.paused.as_ref().filter(|p| !p.is_over(status.at)) {
            rows.push(("paused", pause.to_string()));
        }
        if let Some(waits) = &check.waits {
            let until = waits.until.map_or_else(String::new, |at| format!("until {}: ", clock(at, status.at, tz)));
            rows.push(("waits", format!("{until}{}", waits.why)));
        }
        if check.unfinished {
            rows.push(("unfinished", "a transaction is open: `certwarden recover` ends it".to_owned()));
        }
    }
    if let Some(next) = status.next_check {
        rows.push(("next check", clock(next, status.at, tz)));
    }
    if let Some(t) = &status.last_transaction {
        let id = t.id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        let when = clock(t.ended_at, status.at, tz);
        rows.push(("last renewal", format!("{when} {}: {}{id}", t.outcome.id(), t.reason)));
    }
    rows.extend(status.warnings.iter().map(|w| ("warning", w.clone())));
    rows.iter().map(|(name, value)| format!("{name:<13}{}", one_line(value))).collect::<Vec<_>>().join("\n")
}

fn doing(status: &Status) -> String {
    let word = match status.doing {
        Doing::Idle => "idle",
        Doing::Checking => "checking",
        Doing::Renewing => "renewing",
        Doing::Recovering => "finishing an interrupted transaction",
        Doing::Stopping => "stopping",
        Doing::Ended => "not running",
    };
    status.step.as_ref().map_or_else(|| word.to_owned(), |step| format!("{word}: {step}"))
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

fn standing(status: &Status, tz: &TimeZone) -> String {
    match (&status.standing, status.mode) {
        (Standing::ObserveOnly { since, reason }, _) => {
            let since = clock(*since, status.at, tz);
            format!("none since {since}, a rollback failed: {reason}; repair the node, then `certwarden recover`")
        }
        (Standing::BackingOff { failures, until }, _) => {
            format!("none until {}: {failures} rolled back in a row", clock(*until, status.at, tz))
        }
        (Standing::Free { .. }, Mode::Observe) => "none: mode is observe".to_owned(),
        (Standing::Free { .. }, Mode::Enforce) => "when due".to_owned(),
    }
}

fn last_check(status: &Status, tz: &TimeZone) -> String {
    status.last_check.as_ref().map_or_else(
        || "none yet".to_owned(),
        |c| format!("{} {}, {} certificates", clock(c.at, status.at, tz), c.verdict.label(), c.certificates),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::Outcome;
    use crate::observe::line::tests::{at, status};
    use crate::observe::status::{Attention, Verdict};
    use crate::txn::state::LastTransaction;

    #[test]
    fn a_node_that_is_well_takes_five_lines() {
        let expected = "\
daemon       idle, mode enforce
renewals     when due
last check   12:00 OK, 11 certificates
next to end  apiserver in 312d
next check   13:04";
        assert_eq!(render_in(&status(), &TimeZone::UTC), expected);
    }

    #[test]
    fn what_went_wrong_is_told_with_what_to_do() {
        let mut status = status();
        status.standing = Standing::BackingOff { failures: 3, until: at("2026-11-22T16:00:00Z") };
        status.last_transaction = Some(LastTransaction {
            id: Some("20261122-120000".into()),
            ended_at: at("2026-11-21T12:00:00Z"),
            outcome: Outcome::RolledBack,
            reason: "the kubelet did not start".into(),
            renewed: Vec::new(),
        });
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        status.last_check.as_mut().unwrap().attention = names
            .map(|n| Attention { name: n.into(), verdict: Verdict::Warning, message: "expires in 9d".into() })
            .into();
        let text = render_in(&status, &TimeZone::UTC);
        for line in [
            "renewals     none until 16:00: 3 rolled back in a row",
            "             e: expires in 9d",
            "             and 2 more: certwarden check",
            "last renewal 2026-11-21 12:00 rolled-back: the kubelet did not start (20261122-120000)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("f: expires"), "{text}");
    }
}
