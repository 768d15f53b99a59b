//! One plan being carried out: what the transaction knows, and the steps up to the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::host::fs::FsError;
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::inventory::{ContainerRef, Form};
use crate::model::ledger::{FileRecord, LINK, State};
use crate::model::plan::{Item, Plan, Proof, Source, Step};
use crate::model::repair::Way;
use crate::model::report::{Consumer, CredentialSeen, Outcome, Report, When};
use crate::renew::Staged;
use crate::verify::gates;
use crate::verify::material::material;
use crate::verify::node::Restart;
use crate::verify::prove::prove;

use super::engine::Engine;
use super::ledger::Ledger;
use super::steps::container::{Stopped, Who, replace};
use super::steps::{activate, pods, refresh as copies, verify as checks};
use super::store::TxnDir;
use super::{before, files, story};

pub use super::stop::Stop;

/// Time limit of a step that works on files only: generous, because fsync on a loaded disk is slow.
pub(super) const FILES_LIMIT: Duration = Duration::from_secs(60);

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

/// A transaction at work.
pub struct Run<'a> {
    pub engine: Engine<'a>,
    pub plan: &'a Plan,
    pub dir: TxnDir,
    pub ledger: Option<Ledger>,
    pub report: Report,
    /// How the node was before anything was touched.
    pub before: before::Before,
    /// When the new files went live; what is younger took them.
    pub swapped_at: Timestamp,
    /// Containers that ran at that time: they are older than the files, whatever a clock says that is set meanwhile.
    pub older: BTreeSet<String>,
    /// The last restart of the kubelet by this run.
    pub kubelet_restart: Option<Restart>,
    /// Whether it was restarted since the last swap of files, and came up for good.
    pub kubelet_is_up: Option<bool>,
    /// It was stopped and not started again.
    pub holds_kubelet: bool,
    /// The old files are being put back, or are back.
    pub going_back: bool,
    pub origin: Origin,
    /// Who has not taken up the new files yet; None: nobody, as far as is known.
    pub left: Option<Vec<Component>>,
    /// Soft gates that the operator overrides.
    pub forced: Vec<Gate>,
    /// Components whose activation has begun, so that a rollback activates them again.
    pub begun: Vec<Component>,
    /// The same of other static pods.
    pub others_begun: Vec<ContainerRef>,
    /// Whose containers were stopped, or perhaps were.
    pub stopped: Vec<Consumer>,
    /// Stopped beside another one, and not yet waited for.
    pub stopped_early: BTreeMap<Component, Stopped>,
    /// Components whose activation has ended well.
    pub activated: Vec<Component>,
    pub(super) staged: Option<Staged>,
    /// What kubeadm was to make: its own did not come to anything.
    pub(super) signed_instead: bool,
    /// From when to when each staged credential is valid, by name.
    pub(super) validity: BTreeMap<String, (Timestamp, Timestamp)>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<'a> Run<'a> {
    pub fn new(engine: Engine<'a>, plan: &'a Plan, dir: TxnDir) -> Self {
        let now = engine.host.clock.now();
        let mut report = Report::new(Outcome::Refused, "", now);
        report.transaction = Some(dir.id.clone());
        Self {
            engine,
            plan,
            dir,
            ledger: None,
            report,
            before: before::Before::default(),
            swapped_at: now,
            older: BTreeSet::new(),
            kubelet_restart: None,
            kubelet_is_up: None,
            holds_kubelet: false,
            going_back: false,
            origin: Origin::Here,
            left: None,
            forced: Vec::new(),
            begun: Vec::new(),
            others_begun: Vec::new(),
            stopped: Vec::new(),
            stopped_early: BTreeMap::new(),
            activated: Vec::new(),
            staged: None,
            signed_instead: false,
            validity: BTreeMap::new(),
        }
    }

    /// A run over a transaction that another process began.
    pub fn resume(engine: Engine<'a>, plan: &'a Plan, ledger: Ledger) -> Self {
        let mut run = Self::new(engine, plan, ledger.dir().clone());
        let mut records = ledger.records().iter().rev();
        run.swapped_at = records.find(|r| r.state != State::Unproven).map_or(run.swapped_at, |r| r.at);
        run.origin = Origin::Resumed;
        run.left = ledger.left();
        run.before = before::Before::load(&engine.host.root, &run.dir);
        run.forced.clone_from(&run.before.forced);
        run.ledger = Some(ledger.driven_by(engine.host.by.clone()));
        run
    }

    /// Every step of the plan; a dry run ends before the commit.
    pub fn all(&mut self, dry_run: bool) -> Result<Outcome, Stop> {
        if self.engine.host.live {
            self.before = before::look(self);
            self.before.forced.clone_from(&self.forced);
            self.before.keep(&self.engine.host.root, &self.dir)?;
        }
        for planned in &self.plan.steps {
            if dry_run && self.asks(&planned.step) {
                self.report.notes.push("a dry run files no certificate signing request".to_owned());
                self.discard("dry run", true);
                return Ok(Outcome::DryRun);
            }
            if dry_run && planned.step.changes_node() {
                self.discard("dry run", true);
                return Ok(Outcome::DryRun);
            }
            self.told_step(&planned.step)?;
        }
        self.finish()
    }

    /// Whether the step asks somebody for a certificate.
    fn asks(&self, step: &Step) -> bool {
        let by_request = |w: &Way| matches!(w, Way::Request { .. });
        let Source::Identity { ways } = &self.plan.source else { return false };
        matches!(step, Step::Stage { .. }) && ways.iter().any(by_request)
    }

    /// What a committed transaction still has to do: take up and prove. What has been taken up is not restarted again.
    pub fn activate_and_verify(&mut self) -> Result<Outcome, Stop> {
        let wanted = self.left.clone();
        for planned in &self.plan.steps {
            let wanted = match &planned.step {
                Step::Activate { component, .. } => wanted.as_ref().is_none_or(|left| left.contains(component)),
                Step::ActivateOther { .. } => wanted.is_none(),
                Step::Verify { .. } | Step::Refresh { .. } => true,
                _ => false,
            };
            if wanted {
                self.told_step(&planned.step)?;
            }
        }
        self.finish()
    }

    /// Who has not taken up the new files, after all that this run has done.
    pub fn still_left(&self) -> Vec<Component> {
        let planned = self.plan.steps.iter().filter_map(|s| match &s.step {
            Step::Activate { component, .. } => Some(*component),
            _ => None,
        });
        let wanted = |c: &Component| self.left.as_ref().is_none_or(|left| left.contains(c));
        planned.filter(wanted).filter(|c| !self.activated.contains(c)).collect()
    }

    fn finish(&mut self) -> Result<Outcome, Stop> {
        pods::compare(self);
        self.prove()?;
        // only now: until the record is durable, what lies beside the live files is what a rollback needs
        self.sweep();
        story::verified(&self.dir.id, &self.report, self.engine.host.live);
        Ok(if self.engine.host.live { Outcome::Verified } else { Outcome::Committed })
    }

    fn prove(&mut self) -> Result<(), Stop> {
        match self.ledger_mut()?.state() {
            State::Verified => Ok(()),
            // a disk that takes no record is no fault of the new files, and a rollback would have to record as much
            _ => self.enter(State::Verified, None).map_err(|e| Stop::Unrecorded(e.sentence())),
        }
    }

    fn told_step(&mut self, step: &Step) -> Result<(), Stop> {
        story::step(&self.dir.id, step.id());
        let clock = self.engine.host.clock.as_ref();
        let began = clock.monotonic();
        let done = self.step(step);
        self.report.spent(step.account(), clock.monotonic().saturating_sub(began));
        if let Err(Stop::Failed(reason) | Stop::Passing(reason)) = &done {
            story::step_failed(&self.dir.id, step.id(), reason, self.origin == Origin::ProvenAgain);
        }
        done
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        if self.engine.should_stop() {
            return Err(Stop::Asked);
        }
        match step {
            Step::Backup { .. } => self.back_up(),
            Step::Stage { .. } => self.stage(),
            Step::Validate { .. } => self.validate(),
            Step::Rehearse { name, proof } => self.rehearse(name, proof),
            Step::Commit { .. } => self.commit(),
            Step::Activate { component, how } => {
                self.keep_lock();
                if !self.begun.contains(component) {
                    self.begun.push(*component);
                }
                activate::activate(self, *component, how)?;
                self.activated.push(*component);
                Ok(())
            }
            Step::ActivateOther { container } => {
                self.others_begun.push(container.clone());
                replace(self, &Who::other(self, container))
            }
            Step::Verify { check } => checks::verify(self, check),
            Step::Refresh { original, copies } => {
                // whatever becomes of people's copies, the transaction is proven
                self.prove()?;
                self.engine.progress.step("refreshing copies", FILES_LIMIT);
                copies::refresh(self, original, copies);
                Ok(())
            }
        }
    }

    /// Uses a credential: the staged one in a rehearsal, else the live one.
    pub fn put_to_use(&self, name: &str, proof: &Proof, when: When) -> Result<CredentialSeen, Stop> {
        let host = self.engine.host;
        let item = self.item(name)?;
        let read = |path: &Path| -> Result<Zeroizing<Vec<u8>>, FsError> {
            match when {
                When::Rehearsal => host.root.read_secret(&self.rehearsed(path)),
                When::Verification => host.root.read_secret(path),
            }
        };
        let material = material(&item.form, &read)?;
        Ok(prove(host, name, proof, &material, when))
    }

    /// Where what will be at `path` lies now: staged, or live behind a link that stays as it is.
    fn rehearsed(&self, path: &Path) -> PathBuf {
        let staged = self.ledger.as_ref().and_then(|l| l.digests().get(path));
        let stays = |i: &Item| matches!(&i.form, Form::Reference { link, .. } if link == path);
        match staged.map(|d| d.strip_prefix(LINK)) {
            Some(Some(target)) => self.dir.new_file(Path::new(target)),
            None if self.plan.items.iter().any(stays) => path.to_path_buf(),
            _ => self.dir.new_file(path),
        }
    }

    fn commit(&mut self) -> Result<(), Stop> {
        let (root, dir) = (&self.engine.host.root, self.dir.clone());
        self.engine.progress.step("putting the new files in place", FILES_LIMIT);
        story::rehearsed(&self.dir.id, &self.report.credentials);
        let records = self.ledger_mut()?.files().to_vec();
        self.nobody_else_at_work()?;
        self.still_in_time()?;
        let prepared = files::prepare_new(root, &dir, &records, &self.digests())?;
        if checks::old_still_work(self, self.now_at_least()) {
            files::prepare_old(root, &dir, &records)?;
        }
        prepared.unchanged(&records)?;
        self.still_our_turn()?;
        self.enter(State::Committing, None)?;
        self.engine.progress.committing();
        self.hold_kubelet()?;
        prepared.unchanged(&records)?;
        self.swapped_at = self.engine.host.clock.now(); // should it fail half-way
        prepared.put_in_place()?;
        self.swapped_at = self.engine.host.clock.now();
        self.enter(State::Committed, None)?;
        if self.engine.host.live {
            self.older = before::running(self);
        }
        story::committed(&dir.id, records.len());
        Ok(())
    }

    /// The clock may have been stepped since the validation: what is issued in the future is not put in.
    fn still_in_time(&self) -> Result<(), Stop> {
        let now = self.engine.host.clock.now();
        let outside = self.validity.iter().find(|(_, (from, to))| now < *from || now >= *to);
        outside.map_or(Ok(()), |(name, (from, to))| {
            Err(Stop::Failed(format!(
                "the clock was set meanwhile: it is {now}, and the staged {name} is valid from {from} to {to}; look at \
                 the clock, then run again"
            )))
        })
    }

    /// What it is at least: a time that the ledger records has passed, whatever the clock of a machine shows that has
    /// just booted. A clock that is synchronised knows better: the one that was recorded may have run ahead.
    pub fn now_at_least(&self) -> Timestamp {
        if self.engine.host.services.clock_synchronised() == Some(true) {
            return self.engine.host.clock.now();
        }
        let recorded = self.ledger.as_ref().and_then(|l| l.records().last()).map(|r| r.at);
        self.engine.host.clock.now().max(recorded.unwrap_or(Timestamp::MIN))
    }

    /// Staging takes its time: a `kubeadm upgrade` may have begun meanwhile.
    fn nobody_else_at_work(&self) -> Result<(), Stop> {
        let found: Vec<Refusal> =
            self.engine.host.live.then(|| gates::processes(self.engine.host)).flatten().into_iter().collect();
        match standing(&found, &self.forced, self.plan.emergency).first() {
            Some(refusal) => Err(Stop::Failed(format!("gate {refusal}"))),
            None => Ok(()),
        }
    }

    /// Whether live files may have changed.
    pub fn touched(&self) -> bool {
        self.ledger.as_ref().is_some_and(|l| !matches!(l.state(), State::Open | State::Staged | State::Discarded))
    }

    /// Ends a transaction that touched nothing. What it made is removed; failures to do so are noted.
    pub fn discard(&mut self, reason: &str, leave_no_trace: bool) {
        let host = self.engine.host;
        let root = &host.root;
        if leave_no_trace {
            story::dry_run(&self.dir.id);
        } else {
            story::discarded(&self.dir.id, reason);
        }
        let swept = files::sweep(root, &self.files()).map_err(|e| chain(&e));
        let closed = match self.ledger {
            Some(_) => self.enter(State::Discarded, Some(reason)).map_err(Stop::sentence),
            None => Ok(()),
        };
        let gone = if leave_no_trace || self.ledger.is_none() {
            root.remove_tree(&self.dir.path()).map_err(|e| chain(&e))
        } else {
            [self.dir.old_dir(), self.dir.new_dir(), self.dir.work()]
                .iter()
                .try_for_each(|d| root.remove_tree(d))
                .map_err(|e| chain(&e))
        };
        for failure in [swept, closed, gone].into_iter().filter_map(Result::err) {
            self.report.notes.push(format!("clearing up failed: {failure}; `certwarden recover` tries again"));
        }
    }

    /// Removes what lies beside the live files, while the ledger is open: whoever comes after a crash sweeps again. What
    /// fails is tried again by [`super::retention`].
    fn sweep(&mut self) {
        if let Err(e) = files::sweep(&self.engine.host.root, &self.files()) {
            self.report.notes.push(format!("clearing up failed: {}; the next transaction tries again", chain(&e)));
        }
    }

    fn files(&self) -> Vec<FileRecord> {
        self.ledger.as_ref().map(|l| l.files().to_vec()).unwrap_or_default()
    }

    pub fn enter(&mut self, state: State, reason: Option<&str>) -> Result<(), Stop> {
        let at = self.engine.host.clock.now();
        let root = &self.engine.host.root;
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

    pub fn close(&mut self, outcome: Outcome) -> Report {
        let names: Vec<&str> = self.plan.items.iter().map(|i| i.name.as_str()).collect();
        let reason = match outcome {
            Outcome::DryRun => format!("{} would be renewed; nothing was changed", names.join(", ")),
            _ => format!("{} renewed and {}", names.join(", "), story::proof(&self.report, self.engine.host.live)),
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
