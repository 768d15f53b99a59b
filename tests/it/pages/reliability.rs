//! `docs/reliability.md`: rows that test runs contribute, merged into one page.
//!
//! A run writes one file `target/reliability/NAME.json`, here by [`record`], from elsewhere by hand:
//!
//! ```json
//! { "whole": true, "rows": [
//!   { "section": "kill", "what": "renew, ext4", "tried": 812, "bad": 0, "note": "412 calls, each with recover" } ] }
//! ```
//! `whole`: false for a bounded run (CI), which proves something but is no figure for the page.
//! `section`: one of [`SECTIONS`]; a new kind of test adds its own there. `what`: unique in its section; a later run
//! replaces the row of the same name, rows of tests that did not run stay as the page has them. `tried`, `bad`: numbers,
//! or absent where the section has no such column. `note`: a short sentence or a figure.
//!
//! `make reliability` merges what is in `target/reliability` into the page. `tests/it/reliability_page.rs` fails when the page
//! shows a bad outcome, or was edited by hand into something that the generator would not write.

#![allow(dead_code, reason = "each user takes what it needs")]
#![allow(unreachable_pub, reason = "included as a module by several crates")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One kind of test on the page.
#[derive(Debug)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub text: &'static str,
    /// Headings of the columns `what`, `tried`, `bad`, `note`; an empty one leaves its column out.
    pub columns: [&'static str; 4],
    /// What `bad` must be.
    pub bar: Bar,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bar {
    Zero,
    /// A mutation must be caught: the harness finds what it is there to find.
    AboveZero,
    None,
}

/// In the order of the page.
pub const SECTIONS: &[Section] = &[
    Section {
        id: "kill",
        title: "Killed at every system call",
        text: "The process is killed (SIGKILL) at the entry of each call that writes, renames, links, syncs, removes or makes something; then \
               `recover`, itself killed at each of its calls once; then `recover` to its end. Bad is: a key that does not fit its certificate, a set \
               that is neither all old nor all new, a wrong owner, mode, time or extended attribute, a file left over, an open ledger, or a next \
               `renew` that fails.",
        columns: ["What", "Kill points", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "power",
        title: "Power cuts",
        text: "As above, but the file system is shut down without flushing anything at that call and mounted again: what was not synced is lost.",
        columns: ["What", "Power cuts", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "model",
        title: "Whatever is lost",
        text: "The operations of a real run, recorded, on the model of a disk that may lose any subset of what was not synced, tear it or leave zeros \
               in its place; the power fails at any of them. Bad is: as above, after the real `recover` on what is left.",
        columns: ["What", "Power cuts", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "mutation",
        title: "Is the harness blind?",
        text: "The power cuts again with fsyncs taken out. Each row must be caught.",
        columns: ["Taken out", "Power cuts", "Caught", "Remarks"],
        bar: Bar::AboveZero,
    },
    Section {
        id: "fault",
        title: "Every call fails",
        text: "An error is injected into each call, and disks are really full or turn read-only. Bad is: anything of the above, an exit code that is \
               not the documented one, or an error without a sentence.",
        columns: ["What", "Faults", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "step",
        title: "Every step fails, every undo runs twice",
        text: "At the engine's level, enumerated over the steps of a plan, so that a new step cannot be forgotten.",
        columns: ["What", "Steps", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "turn",
        title: "Turns, in every interleaving",
        text: "Three control planes on a model of the API server, explored to its end (`tests/it/lease_model.rs`): the deciding code of the lock is the real \
               one, whatever can come in any order does, and each kind of fault comes at any moment, as often as the row says. Bad is: two control \
               planes, or two members of etcd, that restart at once; one that begins and does not know of another's harm; one that is not done \
               in time.",
        columns: ["Faults", "States", "Violations", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "turn-guard",
        title: "Is the model blind?",
        text: "The same with one guard taken out of the agents. Each row must be caught.",
        columns: ["Taken out", "States", "Caught", "Remarks"],
        bar: Bar::AboveZero,
    },
    Section {
        id: "restart",
        title: "Every restart is proven, and no silent kubelet",
        text: "Real kubelets, restarted by renewals at any moment of a second (`vm-tests/long/95-restarts`). Bad is: a healthy node that is taken for \
               not Ready, or a kubelet that never posts its status and is taken for Ready.",
        columns: ["What", "Restarts", "Bad", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "fuzz",
        title: "Fuzzing",
        text: "Everything that is read from disk, from kubeadm or from the API, as arbitrary bytes.",
        columns: ["Parser", "Inputs", "Crashes", "Remarks"],
        bar: Bar::Zero,
    },
    Section {
        id: "outage",
        title: "The longest outage",
        text: "The time in which a key and its certificate on the disk do not match, from the kernel's time stamps of the calls.",
        columns: ["What", "", "", "Seen"],
        bar: Bar::None,
    },
    Section {
        id: "boot",
        title: "Recovery at boot",
        text: "What `certwarden-recover.service` adds to the start of the kubelet.",
        columns: ["What", "", "", "Seen"],
        bar: Bar::None,
    },
];

/// One line of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub section: String,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<u64>,
    #[serde(default)]
    pub note: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Results {
    whole: bool,
    rows: Vec<Row>,
}

/// Writes `target/reliability/NAME.json`. A bounded run leaves what a whole one has found.
pub fn record(name: &str, whole: bool, rows: &[Row]) {
    if !whole {
        return;
    }
    let dir = results_dir();
    fs::create_dir_all(&dir).unwrap();
    let json = serde_json::to_vec_pretty(&Results { whole, rows: rows.to_vec() }).unwrap();
    fs::write(dir.join(format!("{name}.json")), json).unwrap();
}

/// `target/reliability`.
pub fn results_dir() -> PathBuf {
    super::repository().join("target/reliability")
}

/// `docs/reliability.md`.
pub fn page_path() -> PathBuf {
    super::repository().join("docs/reliability.md")
}

/// The rows of all whole runs in `dir`.
///
/// # Errors
/// A sentence naming the file that is not in the format.
pub fn results(dir: &Path) -> Result<Vec<Row>, String> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let wrong = |why: String| format!("{}: {why}", file.display());
        let text = fs::read(&file).map_err(|e| wrong(e.to_string()))?;
        let found: Results = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if let Some(row) = found.rows.iter().find(|r| section(&r.section).is_none()) {
            return Err(wrong(format!("there is no section `{}`", row.section)));
        }
        rows.extend(found.rows.into_iter().filter(|_| found.whole));
    }
    Ok(rows)
}

fn section(id: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|s| s.id == id)
}

/// The rows of `page`, with `new` ones in the places of those of the same name or behind.
pub fn merge(page: &str, new: Vec<Row>) -> Vec<Row> {
    let mut rows = parse(page);
    for row in new {
        match rows.iter_mut().find(|r| (&r.section, &r.what) == (&row.section, &row.what)) {
            Some(old) => *old = row,
            None => rows.push(row),
        }
    }
    rows
}

/// The rows that a page shows.
pub fn parse(page: &str) -> Vec<Row> {
    let (mut rows, mut current) = (Vec::new(), None);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            current = SECTIONS.iter().find(|s| s.title == title);
        }
        let (Some(section), Some(cells)) = (current, line.strip_prefix("| ")) else { continue };
        let cells: Vec<&str> = cells.trim_end_matches('|').split(" | ").map(str::trim).collect();
        if cells.first() == Some(&section.columns[0]) {
            continue; // the headings
        }
        let shown = section.columns.iter().enumerate().filter(|(_, c)| !c.is_empty()).map(|(i, _)| i);
        let cell: BTreeMap<usize, &str> = shown.zip(cells).collect();
        let text = |i: usize| cell.get(&i).copied().unwrap_or_default();
        rows.push(Row {
            section: section.id.to_owned(),
            what: text(0).to_owned(),
            tried: text(1).parse().ok(),
            bad: text(2).parse().ok(),
            note: text(3).to_owned(),
        });
    }
    rows
}

/// The whole page.
pub fn render(rows: &[Row]) -> String {
    let mut page = String::from(
        "# Reliability\n\n<!-- Generated by `make reliability` from the results of `make torture` and others; not to be edited. -->\n\n\
         Every row is a test that runs; `make torture` runs them whole, CI a sample of each.\n",
    );
    for section in SECTIONS {
        let mut own = rows.iter().filter(|r| r.section == section.id).peekable();
        if own.peek().is_none() {
            continue;
        }
        let line = |cells: [String; 4]| {
            let shown = cells.into_iter().zip(section.columns).filter(|(_, c)| !c.is_empty()).map(|(cell, _)| cell);
            format!("| {} |\n", shown.collect::<Vec<_>>().join(" | "))
        };
        let _ = write!(page, "\n## {}\n\n{}\n\n", section.title, section.text);
        page += &line(section.columns.map(str::to_owned));
        page += &line(["---", "---:", "---:", "---"].map(str::to_owned)).replace(' ', "");
        for row in own {
            let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
            page += &line([clean(&row.what), number(row.tried), number(row.bad), clean(&row.note)]);
        }
    }
    page
}

/// What would break a table's line.
fn clean(text: &str) -> String {
    text.replace('|', "/").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rows that do not meet their section's bar, as sentences.
pub fn failures(rows: &[Row]) -> Vec<String> {
    let fails = |row: &&Row| match (section(&row.section).map(|s| s.bar), row.bad) {
        (Some(Bar::Zero), bad) => bad != Some(0) || row.tried.unwrap_or(0) == 0,
        (Some(Bar::AboveZero), bad) => bad.unwrap_or(0) == 0,
        _ => false,
    };
    rows.iter()
        .filter(fails)
        .map(|r| format!("{}: {}: tried {:?}, bad {:?}", r.section, r.what, r.tried, r.bad))
        .collect()
}
