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

use super::engine::{Engine, EngineError};
use super::ledger::Ledger;
use super::lock::Lock;
use super::recover::reachable;
use super::run::{Origin, Run, Stop};
use super::steps::unit;
use super::store::{self, TxnDir};
use super::{history, retention, story};

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
pub(super) fn stays(run: &mut Run<'_>, reason: &str) -> Report {
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
    let (root, at) = (&run.engine.host.root, run.engine.host.clock.now());
    if let Some(Err(e)) = run.ledger.as_mut().map(|l| l.unproven(root, at, reason, left)) {
        run.report.notes.push(format!("and it could not be recorded: {}", chain(&e)));
    }
    run.close_with(Outcome::Degraded, reason.to_owned())
}

impl Engine<'_> {
    /// Verifies again what is not proven, and goes on with what has not taken it up. The report is that of the newest
    /// transaction with news, or of the newest; None: everything is proven.
    pub(super) fn prove_again(&self) -> Option<Report> {
        let mut told: Option<Report> = None;
        for unproven in list(&self.host.root) {
            if self.should_stop() {
                break;
            }
            let Some(report) = self.prove_one(unproven) else { continue };
            if !report.repeated || told.as_ref().is_none_or(|t| t.repeated) {
                told = Some(report);
            }
        }
        told
    }

    fn prove_one(&self, unproven: Unproven) -> Option<Report> {
        let started = self.host.clock.now();
        story::proving_again(&unproven.dir.id);
        let (plan, note) = self.plan_of(&unproven.dir, &unproven.ledger);
        if self.needs_the_node(&plan) {
            return None;
        }
        let mut run = Run::resume(*self, &plan, unproven.ledger);
        run.origin = Origin::ProvenAgain;
        run.report.notes.extend(note);
        self.progress.committing();
        let done = reachable(&run).and_then(|()| run.activate_and_verify());
        unit::release(&mut run);
        let mut report = match done {
            Ok(outcome) => run.close(outcome),
            Err(Stop::Asked) => return None,
            Err(stop) => {
                let why = stop.sentence();
                stays(&mut run, &format!("{why}; the old certificates have expired, so the new ones stay"))
            }
        };
        report.started_at = started;
        report.ended_at = self.host.clock.now();
        if !report.repeated {
            retention::keep_report(&self.host.root, &report, false);
        }
        Some(report)
    }

    /// Closes an unproven transaction by a person's word: this one, or the only one there is. None: there is none, or not this.
    ///
    /// # Errors
    /// [`EngineError`]; several and none named is [`EngineError::SeveralUnproven`].
    pub fn accept(&self, id: Option<&str>, who: &str) -> Result<Option<Report>, EngineError> {
        let root = &self.host.root;
        let _lock = Lock::take(root, "recover --accept")?;
        let mut all = list(root);
        if let Some(id) = id {
            all.retain(|u| u.dir.id == id);
        }
        let Some(mut unproven) = all.pop() else { return Ok(None) };
        unproven.ledger = unproven.ledger.driven_by(self.host.by.clone());
        if !all.is_empty() {
            let ids = all.into_iter().chain([unproven]).map(|u| u.dir.id).collect::<Vec<_>>().join(", ");
            return Err(EngineError::SeveralUnproven { ids });
        }
        let sentence = format!("accepted by {who}, not proven: {}", unproven.reason());
        let at = self.host.clock.now();
        unproven.ledger.enter(root, State::Accepted, at, Some(&sentence))?;
        story::accepted(&unproven.dir.id, &sentence);
        let transaction = Some(unproven.dir.id.clone());
        if let Some(kept) = history::report(root, &unproven.dir.id) {
            let kept = Report { outcome: Outcome::Committed, reason: sentence.clone(), ended_at: at, ..kept };
            retention::keep_report(root, &kept, false);
        }
        retention::apply(root, &self.policy.state, retention::asked_time(self.host));
        Ok(Some(Report { transaction, ..Report::new(Outcome::Committed, sentence, at) }))
    }
}
