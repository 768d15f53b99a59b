//! The history for people.

use std::fmt::Write as _;

use crate::model::act::Act;
use crate::model::plain::one_line;
use crate::txn::history::Past;

/// The transactions as a table, newest first.
pub fn render(past: &[Past], acts: &[Act]) -> String {
    transactions(past) + &decisions(acts)
}

/// What people decided, newest first: JSON has all that is kept.
fn decisions(acts: &[Act]) -> String {
    const SHOWN: usize = 10;
    let mut out = String::new();
    if acts.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\nDECIDED BY PEOPLE");
    for act in acts.iter().take(SHOWN) {
        let _ = writeln!(out, "{}  {}", act.at.strftime("%Y-%m-%d %H:%M"), one_line(&act.to_string()));
    }
    if let Some(more) = acts.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        let _ = writeln!(out, "and {more} older: certwarden history -o json");
    }
    out
}

fn who(past: &Past) -> Option<String> {
    let forced = || format!(", who overrode the gates {}", past.forced.join(", "));
    let forced = if past.forced.is_empty() { String::new() } else { forced() };
    (!past.by.is_empty()).then(|| format!("by {}{forced}", past.by.join(", then ")))
}

fn transactions(past: &[Past]) -> String {
    if past.is_empty() {
        return "No transactions yet\n".to_owned();
    }
    let mut out = format!("{:<24}  {:<16}  {:<15}  {:<6}  ENTRIES\n", "ID", "OPENED", "STATE", "BACKUP");
    for p in past {
        let opened = p.opened_at.map_or("-".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M").to_string());
        let state = p.state.map_or("damaged", |s| s.name());
        let backup = if p.backup { "yes" } else { "no" };
        let mut entries = p.entries.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        if p.entries.len() > 3 {
            let _ = write!(entries, " and {} more", p.entries.len() - 3);
        }
        let entries = one_line(&entries);
        let _ = writeln!(out, "{:<24}  {opened:<16}  {state:<15}  {backup:<6}  {entries}", p.id);
        if let Some(reason) = &p.reason {
            let _ = writeln!(out, "    {}", one_line(reason));
        }
        if let Some(who) = who(p) {
            let _ = writeln!(out, "    {}", one_line(&who));
        }
    }
    out
}

/// The history as JSON.
#[derive(Debug, serde::Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    transactions: &'a [Past],
    /// What people decided, newest first.
    #[serde(skip_serializing_if = "<[Act]>::is_empty")]
    acts: &'a [Act],
}

impl<'a> Document<'a> {
    pub fn new(transactions: &'a [Past], acts: &'a [Act]) -> Self {
        Self { schema: "certwarden.history/v1", transactions, acts }
    }
}
