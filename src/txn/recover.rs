//! Finishing what another process began: after a crash, a power cut, a `kill -9`.

use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::ledger::State;
use crate::model::plan::{Plan, PlannedStep, Step};
use crate::model::report::{Outcome, Report};

use super::engine::{Engine, EngineError};
use super::ledger::Ledger;
use super::lock::Lock;
use super::run::{Run, Stop};
use super::state::DaemonState;
use super::store::{self, TxnDir};
use super::{prove, retention, story, unwind};

/// How far recovery may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Make the files consistent; touch no service. At boot, before the kubelet starts.
    FilesOnly,
    /// Files, services, proof.
    Full,
}

impl Engine<'_> {
    /// Ends every unfinished transaction. None if there is none.
    ///
    /// `operator`: a person asked, so a rollback that failed is tried again.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn recover(&self, reach: Reach, operator: bool) -> Result<Option<Report>, EngineError> {
        let root = &self.host.root;
        // before the kubelet starts nothing can be proven, so that nothing is forgiven either
        let operator = operator && reach == Reach::Full;
        let held_back = || DaemonState::load(root).state.observe_only.is_some();
        if store::list(root)?.is_empty() && !(operator && held_back()) {
            return Ok(None);
        }
        let _lock = Lock::take(root, "recover")?;
        let mut unfinished = store::unfinished(root)?;
        if operator && let Some(failed) = self.failed_rollback()? {
            unfinished.push(failed);
        }
        if operator && unfinished.is_empty() {
            unwind::clear_observe_only(root)?; // its transaction is gone: a person has seen to it
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
        retention::apply(root, self.policy.state.generations);
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
        story::recovering(&dir.id, state);
        let plan: Plan = match root.read(&dir.plan(), 16 << 20).map(|b| serde_json::from_slice(&b)) {
            Ok(Ok(plan)) => plan,
            Ok(Err(source)) => return Err(EngineError::Plan { path: dir.plan(), source }),
            Err(e) => return Err(EngineError::Fs(e)),
        };
        let acts = |s: &PlannedStep| matches!(s.step, Step::Activate { .. } | Step::Verify { .. });
        // of a mounted image only the files are there; the services here are another machine's
        let reach = if !self.host.live && plan.steps.iter().any(acts) { Reach::FilesOnly } else { reach };
        let mut run = Run::resume(*self, &plan, ledger);
        run.begun = Component::ALL.to_vec();
        if run.touched() {
            self.progress.committing();
        }
        Ok(self.settle_run(&mut run, state, reach))
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
                Err(stop) => Some(stuck(run, stop)),
            },
            State::Committed if reach == Reach::FilesOnly => Some(run.close_with(
                Outcome::Interrupted,
                format!("all files of transaction {id} are new; to be activated and verified"),
            )),
            State::Committed => Some(match run.activate_and_verify() {
                Ok(outcome) => run.close(outcome),
                Err(Stop::Failed(reason)) => unwind::roll_back(run, &reason),
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
                        Err(stop) => stuck(run, stop),
                    });
                }
                let report = unwind::finish(run, &reason);
                if report.outcome == Outcome::RolledBack
                    && let Err(e) = unwind::clear_observe_only(&self.host.root)
                {
                    run.report.notes.push(chain(&e));
                }
                Some(report)
            }
            State::Verified | State::RolledBack | State::Discarded => None,
        }
    }
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

/// The files could not be settled: an operator has to look, and the next recovery tries again.
fn stuck(run: &mut Run<'_>, stop: Stop) -> Report {
    let why = stop.sentence();
    run.close_with(Outcome::RollbackFailed, format!("transaction {} cannot be finished: {why}", run.dir.id))
}
