//! Finishing what another process began: after a crash, a power cut, a `kill -9`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::host::fs::Root;
use crate::model::assess::assess;
use crate::model::cause::chain;
use crate::model::cert::parse_pem;
use crate::model::component::Component;
use crate::model::inventory::Form;
use crate::model::kubeconfig::{self, Identity};
use crate::model::ledger::State;
use crate::model::places::Places;
use crate::model::plan::{Plan, PlannedStep, Step};
use crate::model::planner::{self, Basis};
use crate::model::report::{Consumer, Outcome, Report};

use super::engine::{Engine, EngineError, unrecorded};
use super::ledger::Ledger;
use super::lock::Lock;
use super::run::{Run, Stop};
use super::state::{DaemonState, Loaded};
use super::steps::verify as prove;
use super::store::{self, TxnDir};
use super::{files, retention, retry, story, unwind};

/// A plan has some tens of steps; far above any.
const MAX_PLAN: u64 = 16 << 20;

/// How far recovery may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Make the files consistent; touch no service. At boot, before the kubelet starts.
    FilesOnly,
    /// Files, services, proof.
    Full,
}

impl Engine<'_> {
    /// Ends every unfinished transaction; where there is none, verifies again what is in place and not proven. None if there
    /// is neither.
    ///
    /// `operator`: a person asked, so a rollback that failed is tried again.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn recover(&self, reach: Reach, operator: bool) -> Result<Option<Report>, EngineError> {
        let root = &self.host.root;
        // before the kubelet starts nothing can be proven, so that nothing is forgiven either
        let operator = operator && reach == Reach::Full;
        let held_back = || {
            let Loaded { state, damage } = DaemonState::load(root);
            state.observe_only.is_some() || damage.is_some()
        };
        if store::list(root)?.is_empty() && !(operator && held_back()) {
            return Ok(None);
        }
        let _lock = Lock::take(root, "recover")?;
        let mut unfinished = store::unfinished(root)?;
        if operator && let Some(failed) = self.failed_rollback()? {
            unfinished.push(failed);
        }
        if operator && unfinished.is_empty() {
            unwind::clear_observe_only(self.host)?; // its transaction is gone: a person has seen to it
        }
        let mut last = None;
        for (dir, ledger) in unfinished {
            let started = self.host.clock.now();
            if let Some(mut report) = self.settle(&dir, ledger, reach)? {
                report.started_at = started;
                report.ended_at = self.host.clock.now();
                retention::keep_report(root, &report, false);
                last = Some(report);
            }
        }
        if last.is_none() && reach == Reach::Full {
            last = self.prove_again();
        }
        retention::apply(root, &self.policy.state, retention::asked_time(self.host));
        Ok(last)
    }

    /// The newest transaction, if its rollback failed.
    fn failed_rollback(&self) -> Result<Option<(TxnDir, Option<Ledger>)>, EngineError> {
        let Some(dir) = store::list(&self.host.root)?.pop() else { return Ok(None) };
        let ledger = Ledger::load(&self.host.root, &dir)?;
        Ok(ledger.filter(|l| l.state() == State::RollbackFailed).map(|l| (dir, Some(l))))
    }

    fn settle(&self, dir: &TxnDir, ledger: Option<Ledger>, reach: Reach) -> Result<Option<Report>, EngineError> {
        let root = &self.host.root;
        let Some(ledger) = ledger else {
            // it died before its first record: nothing was touched
            root.remove_tree(&dir.path())?;
            return Ok(None);
        };
        let state = ledger.state();
        story::recovering(&dir.id, state, self.host.by.as_deref());
        let (plan, note) = self.plan_of(dir, &ledger);
        let reach = if self.needs_the_node(&plan) { Reach::FilesOnly } else { reach };
        let mut run = Run::resume(*self, &plan, ledger);
        run.begun = Component::ALL.to_vec();
        run.others_begun = plan.others.iter().map(|o| o.container.clone()).collect();
        // what the process that died has stopped is not known
        let others = plan.others.iter().map(|o| Consumer::Other(o.container.to_string()));
        run.stopped = Component::ALL.into_iter().map(Consumer::from).chain(others).collect();
        run.report.notes.extend(note);
        if run.touched() {
            self.progress.committing();
            if let Err(stop) = reachable(&run) {
                return Ok(Some(retry::stuck(&mut run, stop)));
            }
        }
        Ok(self.settle_run(&mut run, state, reach))
    }

    /// Of a mounted image only the files are there; the services here are another machine's.
    pub(super) fn needs_the_node(&self, plan: &Plan) -> bool {
        let acts = |s: &PlannedStep| matches!(s.step, Step::Activate { .. } | Step::Verify { .. });
        !self.host.live && plan.steps.iter().any(acts)
    }

    /// The plan of a transaction that another process began, and what is to be said of it.
    pub(super) fn plan_of(&self, dir: &TxnDir, ledger: &Ledger) -> (Plan, Option<String>) {
        match read_plan(&self.host.root, dir) {
            Ok(plan) => (plan, None),
            // the files must be made consistent all the same: what is to be put back is in the ledger
            Err(why) => (self.plan_from_ledger(dir, ledger), Some(format!("{why}; recovering by the ledger alone"))),
        }
    }

    /// The plan's place is taken by that of putting everything back which the ledger names.
    fn plan_from_ledger(&self, dir: &TxnDir, ledger: &Ledger) -> Plan {
        let now = self.host.clock.now();
        let names: BTreeSet<String> = ledger.files().iter().map(|f| f.entry.clone()).collect();
        let assessment = assess(self.inventory, self.policy, now);
        let places = Places::default();
        let basis = Basis {
            inventory: self.inventory,
            assessment: &assessment,
            policy: self.policy,
            live: self.host.live,
            places: &places,
        };
        let mut plan = planner::plan_restore(basis, &names, &dir.id, now);
        for item in &mut plan.items {
            // of the backup: what is live may be new
            let bytes = self.host.root.read_secret(&dir.old(item.form.path())).ok();
            item.old_not_after = bytes.and_then(|b| end_of(&item.form, &b));
        }
        plan
    }

    fn settle_run(&self, run: &mut Run<'_>, state: State, reach: Reach) -> Option<Report> {
        let id = run.dir.id.clone();
        match state {
            State::Open | State::Staged => {
                run.discard("found unfinished; nothing live had been touched", false);
                Some(run.close_with(
                    Outcome::NothingToDo,
                    format!("transaction {id} had touched nothing and was discarded"),
                ))
            }
            State::Committing => match settle_committing(run) {
                Ok(State::Committed) => self.settle_run(run, State::Committed, reach),
                Ok(_) => self.settle_run(run, State::RollingBack, reach),
                Err(stop) => Some(retry::stuck(run, stop)),
            },
            State::Committed if reach == Reach::FilesOnly => Some(run.close_with(
                Outcome::Interrupted,
                format!("all files of transaction {id} are new; to be activated and verified"),
            )),
            State::Committed => Some(match run.activate_and_verify() {
                Ok(outcome) => run.close(outcome),
                Err(Stop::Failed(reason)) => unwind::roll_back(run, &reason),
                // a node that does not answer yet says nothing about the new files
                Err(Stop::Passing(why)) => retry::later(run, &why),
                Err(Stop::Unrecorded(why)) => unrecorded(run, &why),
                Err(Stop::Asked) => run.close_with(Outcome::Interrupted, "stopped; the next start goes on".to_owned()),
            }),
            State::RollingBack | State::RollbackFailed => {
                // the first error is not to be lost by those that follow it
                let reason = first_reason(run).unwrap_or_else(|| format!("transaction {id} was found {state}"));
                if reach == Reach::FilesOnly {
                    return Some(match unwind::files_back(run, &reason) {
                        Ok(()) => run.close_with(
                            Outcome::Interrupted,
                            format!("all files of transaction {id} are old again; to be verified"),
                        ),
                        Err(stop) => retry::stuck(run, stop),
                    });
                }
                let report = unwind::finish(run, &reason);
                if report.outcome == Outcome::RolledBack
                    && let Err(e) = unwind::clear_observe_only(self.host)
                {
                    run.report.notes.push(chain(&e));
                }
                Some(report)
            }
            State::Verified | State::Unproven | State::Accepted | State::RolledBack | State::Discarded => None,
        }
    }
}

/// Where a file system is not mounted nothing can be said of what lies on it, and nothing is put there.
pub(super) fn reachable(run: &Run<'_>) -> Result<(), Stop> {
    let records = run.ledger.as_ref().map(Ledger::files).unwrap_or_default();
    Ok(files::reachable(&run.engine.host.root, records)?)
}

/// Back, or forward where the old ones have expired.
fn settle_committing(run: &mut Run<'_>) -> Result<State, Stop> {
    if prove::old_still_work(run, run.now_at_least()) {
        unwind::files_back(run, "the commit was cut short")?;
        return Ok(State::RollingBack);
    }
    unwind::forward(run)?;
    Ok(State::Committed)
}

/// Why the rollback was begun.
fn first_reason(run: &Run<'_>) -> Option<String> {
    let records = run.ledger.as_ref()?.records();
    records.iter().find(|r| r.state == State::RollingBack)?.reason.clone()
}

fn read_plan(root: &Root, dir: &TxnDir) -> Result<Plan, String> {
    let bytes = root.read(&dir.plan(), MAX_PLAN).map_err(|e| chain(&e))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{} is damaged: {e}", dir.plan().display()))
}

/// When the certificate in this file ends.
fn end_of(form: &Form, file: &[u8]) -> Option<Timestamp> {
    let cert = match form {
        Form::Kubeconfig { .. } => match kubeconfig::parse(std::str::from_utf8(file).ok()?).ok()?.identity {
            Identity::Embedded { cert, .. } => cert,
            Identity::Files { .. } | Identity::Apart { .. } | Identity::Other => return None,
        },
        _ => file.to_vec(),
    };
    Some(parse_pem(&cert).ok()?.first()?.not_after)
}
