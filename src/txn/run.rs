//! One plan being carried out: what is known of it, and its ledger.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::model::cert::{CertFacts, parse_pem};
use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::ledger::{FileRecord, State};
use crate::model::plan::{Item, Plan, Step};
use crate::model::report::{Outcome, Report};

use super::before::Before;
use super::dir::TxnDir;
use super::engine::Context;
use super::ledger::Ledger;
use super::live::Live;
use super::stop::Stop;
use super::story;

/// Whose work a run goes on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Its own.
    Here,
    /// Another process began the transaction.
    Resumed,
    /// The same, and what it does has been done before and will be again: it is logged in debug records only.
    ProvenAgain,
}

/// A transaction that is being carried out.
pub struct Run<'a> {
    pub context: Context<'a>,
    pub plan: &'a Plan,
    pub dir: TxnDir,
    pub ledger: Option<Ledger>,
    pub report: Report,
    /// How the node was before anything was touched, and which gates are overridden.
    pub before: Before,
    /// What has become of its processes since.
    pub live: Live,
    pub origin: Origin,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<'a> Run<'a> {
    /// `forced`: soft gates that the operator overrides.
    pub fn new(context: Context<'a>, plan: &'a Plan, dir: TxnDir, forced: Vec<Gate>) -> Self {
        let now = context.host.clock.now();
        let mut report = Report::new(Outcome::Refused, "", now);
        report.transaction = Some(dir.id.clone());
        let before = Before { forced, ..Before::default() };
        Self { context, plan, dir, ledger: None, report, before, live: Live::new(now), origin: Origin::Here }
    }

    /// A run over a transaction that another process began.
    pub fn resume(context: Context<'a>, plan: &'a Plan, ledger: Ledger) -> Self {
        let mut run = Self::new(context, plan, ledger.dir().clone(), Vec::new());
        let mut records = ledger.records().iter().rev();
        let swapped = records.find(|r| r.state != State::Unproven);
        run.live.swapped_at = swapped.map_or(run.live.swapped_at, |r| r.at);
        run.origin = Origin::Resumed;
        run.live.touched.left = ledger.left();
        run.before = Before::load(&context.host.root, &run.dir);
        run.ledger = Some(ledger.driven_by(context.host.by.clone()));
        run
    }

    /// Who has not taken up the new files, after all that this run has done.
    pub fn still_left(&self) -> Vec<Component> {
        let planned = self.plan.steps.iter().filter_map(|s| match &s.step {
            Step::Activate { component, .. } => Some(*component),
            _ => None,
        });
        let wanted = |c: &Component| self.live.touched.left.as_ref().is_none_or(|left| left.contains(c));
        planned.filter(wanted).filter(|c| !self.live.touched.activated.contains(c)).collect()
    }

    /// What it is at least: a time that the ledger records has passed, whatever the clock of a machine shows that has
    /// just booted. A clock that is synchronised knows better: the one that was recorded may have run ahead.
    pub fn now_at_least(&self) -> Timestamp {
        if self.context.host.services.clock_synchronised() == Some(true) {
            return self.context.host.clock.now();
        }
        let recorded = self.ledger.as_ref().and_then(|l| l.records().last()).map(|r| r.at);
        self.context.host.clock.now().max(recorded.unwrap_or(Timestamp::MIN))
    }

    /// Whether live files may have changed.
    pub fn touched(&self) -> bool {
        self.ledger.as_ref().is_some_and(|l| !matches!(l.state(), State::Open | State::Staged | State::Discarded))
    }

    /// The live files as they were; none before the backup.
    pub fn files(&self) -> Vec<FileRecord> {
        self.ledger.as_ref().map(|l| l.files().to_vec()).unwrap_or_default()
    }

    pub fn enter(&mut self, state: State, reason: Option<&str>) -> Result<(), Stop> {
        let at = self.context.host.clock.now();
        let root = &self.context.host.root;
        Ok(self.ledger_mut()?.enter(root, state, at, reason)?)
    }

    pub fn ledger_mut(&mut self) -> Result<&mut Ledger, Stop> {
        self.ledger.as_mut().ok_or_else(|| Stop::Failed("the plan has no backup step".to_owned()))
    }

    pub fn item(&self, name: &str) -> Result<&'a Item, Stop> {
        self.plan.item(name).ok_or_else(|| Stop::Failed(format!("{name} is not in the plan")))
    }

    /// SHA-256 of the staged files by live path.
    pub fn digests(&self) -> BTreeMap<PathBuf, String> {
        self.ledger.as_ref().map(|l| l.digests().clone()).unwrap_or_default()
    }

    /// The leaf that an entry has on the disk now.
    pub fn on_disk(&self, entry: &str) -> Result<CertFacts, Stop> {
        let found = self.context.inventory.get(entry);
        let entry = found.ok_or_else(|| Stop::Failed(format!("{entry} is not in the inventory")))?;
        let bytes = self.context.host.root.read_secret(entry.path())?;
        let first = parse_pem(&bytes)?.into_iter().next();
        first.ok_or_else(|| Stop::Failed(format!("{} holds no certificate", entry.path().display())))
    }

    /// Whether what the plan replaced could still be used at `now`: nothing else is worth going back to.
    pub fn old_still_work(&self, now: Timestamp) -> bool {
        self.plan.items.iter().all(|i| i.old_not_after.is_some_and(|end| end > now))
    }

    pub fn close(&mut self, outcome: Outcome) -> Report {
        let names: Vec<&str> = self.plan.items.iter().map(|i| i.name.as_str()).collect();
        let reason = match outcome {
            Outcome::DryRun => format!("{} would be renewed; nothing was changed", names.join(", ")),
            _ => format!("{} renewed and {}", names.join(", "), story::proof(&self.report, self.context.host.live)),
        };
        self.close_with(outcome, reason)
    }

    pub fn close_with(&mut self, outcome: Outcome, reason: String) -> Report {
        let mut report = self.report.clone();
        report.outcome = outcome;
        report.reason = reason;
        report
    }
}
