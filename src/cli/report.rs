//! A transaction's report for people.

use std::fmt::Write as _;

use crate::model::report::{Outcome, Report, SocketSeen, Took, When};

/// The report as text of at most 100 columns where names allow it, transaction by transaction.
pub fn render(report: &Report) -> String {
    report.all().map(transaction).collect::<Vec<_>>().join("\n")
}

fn transaction(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}", heading(report.outcome), report.reason);
    for refusal in &report.refusals {
        let _ = writeln!(out, "  gate {}: {}\n    {}", refusal.gate, refusal.reason, refusal.remedy);
    }
    renewed(report, &mut out);
    if !report.credentials.is_empty() {
        let _ = writeln!(out);
        for c in &report.credentials {
            let proven = match c.proven {
                Some(true) => "yes",
                Some(false) => "REFUSED",
                None => "cannot tell",
            };
            let when = if c.when == When::Rehearsal { " (before the commit)" } else { "" };
            let detail = if c.proven == Some(true) { String::new() } else { format!(": {}", c.detail) };
            let _ = writeln!(out, "{proven:<10} {} by {}{when}{detail}", c.name, c.against);
        }
    }
    sockets(&report.sockets, &mut out);
    for r in &report.restarted {
        let id = |id: &Option<String>| id.as_deref().map_or("none".to_owned(), |i| i.chars().take(12).collect());
        let _ = writeln!(out, "restarted  {}: {} → {}", r.component, id(&r.old_id), id(&r.new_id));
    }
    if let Some(node) = &report.node {
        let _ = writeln!(out, "node       {}", node.detail);
    }
    for left in &report.left_out {
        // what ended the attempt is its reason already
        if report.transaction.is_some() {
            let _ = writeln!(out, "left out   {}: {}", left.name, left.reason);
        }
        if let Some(needed) = &left.needed {
            let _ = writeln!(out, "note       {} needs {needed}", left.name);
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note       {note}");
    }
    let long: Vec<String> = report.took.iter().filter(|t| t.milliseconds >= SHOWN).map(seconds).collect();
    if !long.is_empty() {
        let _ = writeln!(out, "took       {}", long.join(", "));
    }
    if let Some(id) = &report.transaction
        && matches!(report.outcome, Outcome::Verified | Outcome::Committed)
    {
        let _ = writeln!(out, "\nTo go back: certwarden rollback {id}");
    }
    out
}

/// In milliseconds: shorter steps are no answer to where the time went.
const SHOWN: u64 = 500;

fn seconds(took: &Took) -> String {
    format!("{} {}.{} s", took.step, took.milliseconds / 1000, took.milliseconds % 1000 / 100)
}

fn heading(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NothingToDo => "Nothing to do",
        Outcome::LeftOut => "Left out, nothing was changed",
        Outcome::DryRun => "Dry run",
        Outcome::Refused => "Refused, nothing was changed",
        Outcome::Verified => "Done",
        Outcome::Committed => "Done, not verified",
        Outcome::Degraded => "DEGRADED",
        Outcome::Interrupted => "Interrupted",
        Outcome::RolledBack => "FAILED and rolled back",
        Outcome::RollbackFailed => "FAILED, AND THE ROLLBACK FAILED",
    }
}

fn renewed(report: &Report, out: &mut String) {
    if report.renewed.is_empty() {
        return;
    }
    let width = report.renewed.iter().map(|r| r.name.len()).max().unwrap_or(4).max(4);
    let _ = writeln!(out, "\n{:<width$}  {:<16}  {:<16}  NOT AFTER", "NAME", "OLD SERIAL", "NEW SERIAL");
    for r in &report.renewed {
        let short = |serial: &str| -> String { serial.chars().take(16).collect() };
        let old = r.old_serial.as_deref().map_or("-".to_owned(), short);
        let date = r.not_after.strftime("%Y-%m-%d %H:%M");
        let _ = writeln!(out, "{:<width$}  {old:<16}  {:<16}  {date}", r.name, short(&r.new_serial));
    }
}

fn sockets(sockets: &[SocketSeen], out: &mut String) {
    if sockets.is_empty() {
        return;
    }
    let _ = writeln!(out);
    for s in sockets {
        let seen = s.serial.as_deref().unwrap_or("no answer");
        let verdict = if s.ok { "as on disk".to_owned() } else { format!("on disk: {}", s.expected) };
        let _ = writeln!(out, "serves     {} {}: serial {seen} ({}, {verdict})", s.component, s.place(), s.entry);
    }
}
