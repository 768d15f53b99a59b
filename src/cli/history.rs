//! The history for people.

use std::fmt::Write as _;

use crate::model::plain::one_line;
use crate::txn::history::Past;

/// The transactions as a table, newest first.
pub fn render(past: &[Past]) -> String {
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
    }
    out
}

/// The history as JSON.
#[derive(Debug, serde::Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    transactions: &'a [Past],
}

impl<'a> Document<'a> {
    pub fn new(transactions: &'a [Past]) -> Self {
        Self { schema: "certwarden.history/v1", transactions }
    }
}
