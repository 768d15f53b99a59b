//! One line for `systemctl status` (`STATUS=`): what a person wants to know first.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::status::{CheckSeen, Doing, Status};
use crate::model::machine::Standing;
use crate::model::policy::Mode;
use crate::model::report::Outcome;

/// The line. Times are local, of `tz`; dates are left out for today's.
pub fn line(status: &Status, tz: &TimeZone) -> String {
    let step = status.step.as_deref();
    let doing = match status.doing {
        Doing::Renewing => Some(with_step("renewing", step)),
        Doing::Recovering => Some(with_step("finishing an interrupted transaction", step)),
        Doing::Stopping => Some(with_step("stopping", step)),
        Doing::Ended => Some("stopped".to_owned()),
        Doing::Idle | Doing::Checking => None,
    };
    if let Some(doing) = doing {
        return doing;
    }
    let mut parts = Vec::new();
    parts.extend(held_back(status, tz));
    parts.extend(status.warnings.first().cloned());
    parts.extend(refused(status));
    parts.push(status.last_check.as_ref().map_or_else(|| "no check yet".to_owned(), |c| certificates(c, status.at)));
    parts.push(times(status, tz));
    parts.join("; ")
}

/// Why the last attempt changed nothing, while something still needs attention.
fn refused(status: &Status) -> Option<String> {
    let last = status.last_transaction.as_ref().filter(|t| t.outcome == Outcome::Refused)?;
    let pending = status.last_check.as_ref().is_some_and(|c| !c.attention.is_empty());
    pending.then(|| format!("last renewal refused: {}", last.reason))
}

fn with_step(what: &str, step: Option<&str>) -> String {
    step.map_or_else(|| what.to_owned(), |step| format!("{what}: {step}"))
}

/// Why nothing is renewed, if nothing is.
fn held_back(status: &Status, tz: &TimeZone) -> Option<String> {
    match &status.standing {
        Standing::ObserveOnly { reason, .. } => {
            Some(format!("OBSERVING ONLY, a rollback failed ({reason}): repair, then `certwarden recover`"))
        }
        Standing::BackingOff { failures, until } => {
            let times = if *failures == 1 { "a rollback".to_owned() } else { format!("{failures} rollbacks") };
            Some(format!("backing off until {} after {times}", clock(*until, status.at, tz)))
        }
        Standing::Free { .. } if status.mode == Mode::Observe => Some("observe mode".to_owned()),
        Standing::Free { .. } => {
            let pause = status.last_check.as_ref()?.paused.as_ref().filter(|p| !p.is_over(status.at))?;
            Some(format!("{} {pause}", if pause.hard { "PAUSED" } else { "paused" }))
        }
    }
}

fn certificates(check: &CheckSeen, now: Timestamp) -> String {
    if check.unfinished {
        return "an interrupted transaction is open: `certwarden recover` ends it".to_owned();
    }
    let next = check.next_end.as_ref().map(|n| format!(", next: {} {}", n.name, remaining(n.at, now)));
    match check.attention.first() {
        Some(worst) => {
            let (bad, all) = (check.attention.len(), check.certificates);
            format!("{}: {bad} of {all} certificates; {}: {}", check.verdict.label(), worst.name, worst.message)
        }
        None => format!("{} certificates{}", check.certificates, next.unwrap_or_default()),
    }
}

fn times(status: &Status, tz: &TimeZone) -> String {
    let last = status.last_check.as_ref().map(|c| format!("last check {}", clock(c.at, status.at, tz)));
    let next = match (status.next_check, &last) {
        (Some(next), Some(_)) => Some(format!("next {}", clock(next, status.at, tz))),
        (Some(next), None) => Some(format!("first check {}", clock(next, status.at, tz))),
        (None, _) => Some("checking now".to_owned()),
    };
    last.into_iter().chain(next).collect::<Vec<_>>().join(", ")
}

/// `in 312d`, `in 5h`, `expired 2d ago`: one unit, cut and not rounded, because promising more time than there is misleads.
pub(super) fn remaining(end: Timestamp, now: Timestamp) -> String {
    let seconds = end.as_second().saturating_sub(now.as_second());
    let amount = match seconds.unsigned_abs() {
        s @ 172_800.. => format!("{}d", s / 86_400),
        s @ 7_200.. => format!("{}h", s / 3_600),
        s => format!("{}m", s / 60),
    };
    if seconds >= 0 { format!("in {amount}") } else { format!("expired {amount} ago") }
}

/// `13:04` today, `2026-11-23 13:04` on any other day.
pub fn clock(at: Timestamp, now: Timestamp, tz: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(tz.clone()), now.to_zoned(tz.clone()));
    let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::fleet::notes::Pause;
    use crate::observe::status::{Attention, NextEnd, SCHEMA, Verdict};

    pub(in crate::observe) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(in crate::observe) fn status() -> Status {
        Status {
            schema: SCHEMA.into(),
            version: "0.1.0".into(),
            pid: 1,
            at: at("2026-11-22T12:05:00Z"),
            mode: Mode::Enforce,
            doing: Doing::Idle,
            step: None,
            standing: Standing::Free { failures: 0 },
            last_check: Some(CheckSeen {
                at: at("2026-11-22T12:00:00Z"),
                verdict: Verdict::Ok,
                certificates: 11,
                next_end: Some(NextEnd { name: "apiserver".into(), at: at("2027-09-30T13:00:00Z") }),
                attention: Vec::new(),
                unfinished: false,
                waits: None,
                paused: None,
            }),
            next_check: Some(at("2026-11-22T13:04:00Z")),
            last_transaction: None,
            warnings: Vec::new(),
        }
    }

    fn said(change: impl FnOnce(&mut Status)) -> String {
        let mut status = status();
        change(&mut status);
        line(&status, &TimeZone::UTC)
    }

    #[test]
    fn the_line_says_what_a_person_wants_to_know_first() {
        let attention = |s: &mut Status| {
            let check = s.last_check.as_mut().unwrap();
            check.verdict = Verdict::Critical;
            check.attention = vec![Attention {
                name: "admin.conf".into(),
                verdict: Verdict::Critical,
                message: "expires in 2d".into(),
            }];
        };
        assert_eq!(said(|_| {}), "11 certificates, next: apiserver in 312d; last check 12:00, next 13:04");
        assert_eq!(
            said(attention),
            "CRITICAL: 1 of 11 certificates; admin.conf: expires in 2d; last check 12:00, next 13:04"
        );
        let renewing = |s: &mut Status| {
            s.doing = Doing::Renewing;
            s.step = Some("waiting for kube-scheduler".into());
        };
        assert_eq!(said(renewing), "renewing: waiting for kube-scheduler");
        let backing_off =
            |s: &mut Status| s.standing = Standing::BackingOff { failures: 2, until: at("2026-11-23T01:00:00Z") };
        assert!(said(backing_off).starts_with("backing off until 2026-11-23 01:00 after 2 rollbacks; 11 certificates"));
        let failed = |s: &mut Status| {
            s.standing = Standing::ObserveOnly { since: s.at, reason: "the kubelet does not start".into() };
        };
        assert!(said(failed).starts_with("OBSERVING ONLY, a rollback failed (the kubelet does not start): repair"));
        assert!(said(|s| s.mode = Mode::Observe).starts_with("observe mode; 11"));
        let paused = |hard| {
            move |s: &mut Status| {
                let pause = Pause::new(s.at, Some(at("2026-11-23T01:00:00Z")), "etcd restore").hard(hard);
                s.last_check.as_mut().unwrap().paused = Some(pause);
            }
        };
        let until = "until 2026-11-23T01:00:00Z";
        assert!(said(paused(false)).starts_with(&format!("paused {until}: etcd restore; 11")));
        assert!(said(paused(true)).starts_with(&format!("PAUSED {until}, in an emergency too: etcd restore; 11")));
        let rejected = |s: &mut Status| s.warnings = vec!["configuration rejected, the old one stays".into()];
        assert!(said(rejected).starts_with("configuration rejected, the old one stays; 11"));
        assert_eq!(said(|s| s.last_check = None), "no check yet; first check 13:04");
    }

    #[test]
    fn remaining_time_is_never_overstated() {
        let now = at("2026-01-01T00:00:00Z");
        for (end, text) in [
            ("2026-01-03T23:59:59Z", "in 2d"),
            ("2026-01-02T23:59:59Z", "in 47h"),
            ("2026-01-01T01:59:59Z", "in 119m"),
            ("2026-01-01T00:00:00Z", "in 0m"),
            ("2025-12-31T23:00:00Z", "expired 60m ago"),
            ("2025-12-01T00:00:00Z", "expired 31d ago"),
        ] {
            assert_eq!(remaining(at(end), now), text, "{end}");
        }
    }
}
