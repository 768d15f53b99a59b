//! Calendar expressions mean what systemd says they mean. Two differences are wanted: systemd 252 skips the first of a month after
//! the end of a year (`*-*-1/7`), and never elapses at a time that a change to summer time leaves out; a window opens an hour later.

use std::process::Command;

use certwarden::model::fleet::calendar::Calendar;
use jiff::Timestamp;
use jiff::tz::TimeZone;

const EXPRESSIONS: [&str; 40] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
    "annually",
    "Sat",
    "Sat,Sun",
    "Mon..Fri",
    "mon,Wednesday 03:00",
    "Sat 02:00",
    "Sat *-*-* 02:00:30",
    "Mon..Fri 22:00",
    "*-*-01",
    "*-*-1..7",
    "Sun *-*-1..7 04:00",
    "*-*-1/7",
    "*-*~01",
    "*-02~01",
    "02~01",
    "Sat *-*~07/1 02:30",
    "Sat *-*~01..07 02:30",
    "*-*~07/2",
    "*-02-29",
    "Fri *-02-29",
    "2027-03-28 04:30",
    "2020-01-01",
    "12-24 18:00",
    "*:0/15",
    "*:*:0/20",
    "12/3:00",
    "0..4/2:15",
    "8..18:05,35",
    "2027..2028-1/3-15 6:07",
    "*-*-* 23:59:59",
    "Tue,Thu,Sat 5:00",
    "*-1,7-1 1:2:3",
];
const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];
const FROM: [&str; 4] = ["2026-11-22 00:00:00", "2027-01-15 20:59:59", "2028-02-28 12:34:56", "2027-06-30 22:15:00"];
/// How many times in a row.
const TIMES: usize = 4;

fn systemd(expression: &str, zone: &str, from: &str) -> Option<Vec<String>> {
    let out = Command::new("systemd-analyze")
        .env("TZ", zone)
        .env("LC_ALL", "C")
        .args(["calendar", "--iterations=4", &format!("--base-time={from} UTC"), expression])
        .output()
        .ok()?;
    assert!(out.status.success(), "systemd refuses `{expression}`: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let utc = |line: &str| line.trim().strip_prefix("(in UTC): ").map(str::to_owned);
    let local = |line: &str| {
        let line = line.trim();
        let at =
            line.strip_prefix("Next elapse: ").or_else(|| line.strip_prefix("Iter. #")?.split_once(": ").map(|x| x.1));
        at.filter(|at| zone == "UTC" && *at != "never").map(str::to_owned)
    };
    Some(text.lines().filter_map(|l| utc(l).or_else(|| local(l))).collect())
}

fn ours(expression: &str, zone: &str, from: &str) -> Vec<String> {
    let calendar: Calendar = expression.parse().unwrap();
    let tz = TimeZone::get(zone).unwrap();
    let mut at: Timestamp = format!("{}Z", from.replace(' ', "T")).parse().unwrap();
    let mut found = Vec::new();
    while found.len() < TIMES {
        let Some(next) = calendar.next(at, &tz) else { break };
        found.push(next.strftime("%a %Y-%m-%d %H:%M:%S UTC").to_string());
        at = next;
    }
    found
}

#[test]
fn calendar_expressions_elapse_when_systemd_says() {
    let (mut compared, mut differ) = (0, Vec::new());
    for expression in EXPRESSIONS {
        for zone in ZONES {
            for from in FROM {
                let Some(theirs) = systemd(expression, zone, from) else { return }; // no systemd here
                let ours = ours(expression, zone, from);
                if ours != theirs {
                    differ.push(format!("`{expression}` in {zone} from {from}: {ours:?}, systemd {theirs:?}"));
                }
                compared += theirs.len();
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(compared > 800, "{compared} times compared");
}

#[test]
fn what_systemd_refuses_is_refused() {
    for expression in [
        "",
        "Mo",
        "Fri..Mon 3:00",
        "25:00",
        "*-13-01",
        "2:60",
        "*-*-32",
        "Sat Sun",
        "*-*-* 1:2:3:4",
        "*/2-01-01",
        "02:00/0",
        "*-*~1/5",
    ] {
        let refused = Command::new("systemd-analyze").args(["calendar", expression]).output();
        let Ok(refused) = refused else { return };
        assert!(!refused.status.success(), "systemd takes `{expression}`");
        assert!(expression.parse::<Calendar>().is_err(), "`{expression}`");
    }
}
