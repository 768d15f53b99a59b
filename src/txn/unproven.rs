//! What is in place and could not be proven, where there was nothing to go back to: its transaction is closed and blocks
//! nothing; it is verified again until it is proven, renewed once more, or taken as it is by a person.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::host::fs::Root;
use crate::model::assess::{Assessment, Severity, overall};
use crate::model::cause::chain;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::Inventory;
use crate::model::ledger::{State, says_the_same};
use crate::model::report::{Outcome, Report};

use super::dir::TxnDir;
use super::ledger::Ledger;
use super::run::Run;
use super::{store, story};

/// A transaction in the state `unproven`.
#[derive(Clone, Debug)]
pub struct Unproven {
    pub dir: TxnDir,
    pub ledger: Ledger,
    /// Logical names of what it renewed and no later transaction has renewed since.
    pub entries: BTreeSet<String>,
}

impl Unproven {
    pub fn reason(&self) -> &str {
        self.ledger.records().last().and_then(|r| r.reason.as_deref()).unwrap_or("no reason is recorded")
    }

    /// When its files went live.
    fn since(&self) -> Option<Timestamp> {
        self.ledger.records().iter().find(|r| r.state == State::Committed).map(|r| r.at)
    }
}

/// What is not proven on this node, oldest first. One whose every entry was renewed again since is no question any more.
/// A ledger that cannot be read says nothing here: whoever has to act stops at it.
pub fn list(root: &Root) -> Vec<Unproven> {
    let dirs = store::list(root).unwrap_or_default();
    // nearly always there is none, and each `check` asks
    if !dirs.iter().any(|dir| Ledger::mentions(root, dir, State::Unproven)) {
        return Vec::new();
    }
    let mut renewed_since = BTreeSet::new();
    let mut found = Vec::new();
    for dir in dirs.into_iter().rev() {
        let Ok(Some(ledger)) = Ledger::load(root, &dir) else { continue };
        if !ledger.state().keeps_backup() {
            continue;
        }
        let own: BTreeSet<String> = ledger.files().iter().map(|f| f.entry.clone()).collect();
        let entries: BTreeSet<String> = own.difference(&renewed_since).cloned().collect();
        renewed_since.extend(own);
        if ledger.state() == State::Unproven && !entries.is_empty() {
            found.push(Unproven { dir, ledger, entries });
        }
    }
    found.reverse();
    found
}

/// Adds to what the disk told: which entries are in place and not proven.
pub fn tell(assessment: &mut Assessment, inventory: &Inventory, unproven: &[Unproven]) {
    for transaction in unproven {
        let judged = assessment.entries.iter_mut().filter(|j| transaction.entries.contains(&j.name));
        for j in judged {
            let since = transaction.since().map(|at| format!(" since {at:.0}")).unwrap_or_default();
            j.severity = j.severity.max(Severity::Warning);
            j.findings.push(Finding::new(
                Problem::Unproven,
                format!(
                    "in place{since} by transaction {}, not proven: {}; the daemon verifies it again, `certwarden recover` at \
                     once",
                    transaction.dir.id,
                    transaction.reason()
                ),
            ));
        }
    }
    if !unproven.is_empty() {
        assessment.verdict = overall(inventory, assessment);
    }
}

/// The new files stay. With what was known before in all but numbers, nothing is recorded and nobody told.
pub fn stays(run: &mut Run<'_>, reason: &str) -> Report {
    let left = run.still_left();
    let known = run.ledger.as_ref().filter(|l| l.state() == State::Unproven).is_some_and(|l| {
        let before = l.records().last().and_then(|r| r.reason.as_deref()).unwrap_or_default();
        says_the_same(before, reason) && l.left().as_deref() == Some(&left[..])
    });
    if known {
        run.report.repeated = true;
        return run.close_with(Outcome::Degraded, reason.to_owned());
    }
    story::degraded(&run.dir.id, reason);
    let (root, at) = (&run.context.host.root, run.context.host.clock.now());
    if let Some(Err(e)) = run.ledger.as_mut().map(|l| l.unproven(root, at, reason, left)) {
        run.report.notes.push(format!("and it could not be recorded: {}", chain(&e)));
    }
    run.close_with(Outcome::Degraded, reason.to_owned())
}
