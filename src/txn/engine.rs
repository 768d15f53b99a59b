//! The engine: carries out a plan, step by step, and undoes it if a step fails. It makes no choices.
//!
//! One engine runs on one thread and blocks there; `cli` calls it on its only thread, the daemon on one of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::fs::FsError;
use crate::model::audit::audit;
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::inventory::Inventory;
use crate::model::plan::{Plan, Skipped};
use crate::model::policy::Policy;
use crate::model::report::{Outcome, Report};

use super::ledger::LedgerError;
use super::lock::{Lock, LockError};
use super::progress::Progress;
use super::run::{Run, Stop};
use super::state::StateError;
use super::steps::unit;
use super::turn::{Take, Turn};
use super::{retention, store, story, unwind};

/// What the engine works with.
#[derive(Clone, Copy, Debug)]
pub struct Engine<'a> {
    pub host: &'a Host,
    pub policy: &'a Policy,
    pub inventory: &'a Inventory,
    pub progress: &'a Progress,
    /// This node's turn among others, which is kept meanwhile; None: there is nobody to tell.
    pub turn: Option<&'a dyn Turn>,
}

/// How a plan is to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stage, validate, rehearse, report, discard.
    pub dry_run: bool,
    /// Soft gates that the operator overrides.
    pub forced: Vec<Gate>,
    /// Gates found closed before the engine was asked, by `verify::gates`.
    pub refusals: Vec<Refusal>,
    /// What was noticed before: sentences for the report.
    pub notes: Vec<String>,
}

/// Why the engine could not even begin. Everything later is told in a [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("prepare the transaction")]
    Fs(#[from] FsError),
    #[error("allow renewals again")]
    State(#[from] StateError),
    /// `recover` has to end it first.
    #[error("transaction {id} is unfinished; run `certwarden recover` first")]
    Unfinished { id: String },
    #[error("several transactions are not proven: {ids}; name the one to accept")]
    SeveralUnproven { ids: String },
}

impl Engine<'_> {
    /// Carries out the plan under the lock of this node, after `take` has taken its turn among others; None: there are none.
    ///
    /// # Errors
    /// [`EngineError`] if nothing was begun.
    pub fn carry_out(&self, plan: &Plan, options: &Options, take: Option<&Take<'_>>) -> Result<Report, EngineError> {
        let started = self.host.clock.now();
        if let Some(not_begun) = not_begun(plan, started) {
            return Ok(not_begun);
        }
        let _lock = Lock::take(&self.host.root, if options.dry_run { "renew --dry-run" } else { "renew" })?;
        if let Some((dir, _)) = store::unfinished(&self.host.root)?.into_iter().next() {
            return Err(EngineError::Unfinished { id: dir.id });
        }
        if let Some(refused) = self.refused(plan, options) {
            return Ok(Report { left_out: plan.left_out().cloned().collect(), ..refused });
        }
        let turn = match take.map(|take| take(&|| self.should_stop())).transpose() {
            Ok(turn) => turn,
            Err(refusal) => return Ok(self.refusal(vec![refusal])),
        };
        let dir = match store::create(&self.host.root, started) {
            Ok(dir) => dir,
            Err(e) => {
                // nothing was begun: the others need not wait until it ends by itself
                if let Some(turn) = turn {
                    turn.give_up();
                }
                return Err(e.into());
            }
        };
        story::opened(&dir.id, plan, self.host.by.as_deref());
        let mut run = Run::new(Engine { turn: turn.as_deref(), ..*self }, plan, dir);
        run.forced.clone_from(&options.forced);
        run.report.left_out.extend(plan.left_out().cloned());
        run.report.notes.extend(options.notes.iter().cloned());
        run.report.notes.extend(by_reason("not renewed: ", plan.skipped.iter().filter(|s| !s.due)));
        let left_alone = plan.others.iter().filter(|o| !plan.restarts(&o.container));
        run.report.notes.extend(left_alone.map(|o| format!("left alone: {}", o.sentence())));
        let mut report = match run.all(options.dry_run) {
            Ok(outcome) => run.close(outcome),
            Err(stop) => stopped(&mut run, stop, options.dry_run),
        };
        report.started_at = started;
        report.ended_at = self.host.clock.now();
        report.notes.extend(turn.map(|turn| turn.end(&report)).unwrap_or_default());
        retention::keep_report(&self.host.root, &report, options.dry_run);
        retention::apply(&self.host.root, &self.policy.state, retention::asked_time(self.host));
        Ok(report)
    }

    /// Whether whoever drives the engine wants it to end now. Asked in every wait, so that this node's turn is kept here.
    pub fn should_stop(&self) -> bool {
        if let Some(turn) = self.turn {
            turn.beat();
        }
        self.progress.should_stop()
    }

    fn refused(&self, plan: &Plan, options: &Options) -> Option<Report> {
        let now = self.host.clock.now();
        if let Some(violation) = audit(plan, self.inventory).first() {
            story::refused(&violation.to_string());
            return Some(Report::new(Outcome::Refused, violation.to_string(), now));
        }
        let refusals = standing(&options.refusals, &options.forced, plan.emergency);
        if refusals.is_empty() { None } else { Some(self.refusal(refusals)) }
    }

    fn refusal(&self, refusals: Vec<Refusal>) -> Report {
        let now = self.host.clock.now();
        let first = refusals.first().map(ToString::to_string).unwrap_or_default();
        refusals.iter().for_each(story::closed_gate);
        let more = if refusals.len() > 1 { format!(" (and {} more)", refusals.len() - 1) } else { String::new() };
        let mut report = Report::new(Outcome::Refused, format!("gate {first}{more}"), now);
        report.refusals = refusals;
        report
    }
}

/// A step failed or the process is asked to stop.
fn stopped(run: &mut Run<'_>, stop: Stop, dry_run: bool) -> Report {
    if !run.touched() {
        let reason = match stop {
            Stop::Failed(reason) | Stop::Passing(reason) | Stop::Unrecorded(reason) => reason,
            Stop::Asked => "stopped before anything live was touched".to_owned(),
        };
        run.discard(&reason, dry_run);
        return run.close_with(Outcome::Refused, reason);
    }
    match stop {
        Stop::Failed(reason) | Stop::Passing(reason) => unwind::roll_back(run, &reason),
        Stop::Unrecorded(why) => unrecorded(run, &why),
        Stop::Asked => {
            unit::release(run);
            let reason = "the new files are in place; the next start activates and verifies them".to_owned();
            story::interrupted(&run.dir.id, &reason);
            run.close_with(Outcome::Interrupted, reason)
        }
    }
}

/// Everything is proven, and the record of it is missing: whoever comes next proves it again and records it.
pub fn unrecorded(run: &mut Run<'_>, why: &str) -> Report {
    unit::release(run);
    let reason = format!(
        "the new files are in place and proven, which could not be recorded ({why}); the next recovery does it"
    );
    story::interrupted(&run.dir.id, &reason);
    run.close_with(Outcome::Interrupted, reason)
}

/// Of a plan that there is nothing to do by, or not all that it has to do together.
fn not_begun(plan: &Plan, at: Timestamp) -> Option<Report> {
    let blocks = by_reason("left out: ", plan.skipped.iter().filter(|s| s.blocks));
    let due = by_reason("", plan.left_out());
    let (outcome, reason) = if !blocks.is_empty() {
        let others = if plan.is_empty() { "" } else { "; name the others to renew them without it" };
        let reason = format!("{}{others}", blocks.join("; "));
        story::refused(&reason);
        (Outcome::Refused, reason)
    } else if !plan.is_empty() {
        return None;
    } else if !due.is_empty() {
        (Outcome::LeftOut, format!("what is due or broken is not renewed here: {}", due.join("; ")))
    } else {
        (Outcome::NothingToDo, nothing(plan))
    };
    let mut report = Report::new(outcome, reason, at);
    report.left_out = plan.skipped.iter().filter(|s| s.due || s.blocks).cloned().collect();
    let others = plan.skipped.iter().filter(|s| !(s.due || s.blocks));
    report.notes.extend(others.filter_map(|s| Some(format!("{} needs {}", s.name, s.needed.as_ref()?))));
    Some(report)
}

/// A sentence for each reason, with everything that it keeps from being renewed.
fn by_reason<'a>(head: &str, skipped: impl Iterator<Item = &'a Skipped>) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for s in skipped {
        by_reason.entry(&s.reason).or_default().push(&s.name);
    }
    by_reason.iter().map(|(reason, names)| format!("{head}{}: {reason}", names.join(", "))).collect()
}

/// Where there is nothing to do: what is not due either is told where it was asked for.
fn nothing(plan: &Plan) -> String {
    let excluded = match plan.excluded.as_slice() {
        [] => String::new(),
        names => format!(" but what renew.exclude names: {}", names.join(", ")),
    };
    let others: Vec<String> = by_reason("; not renewed here: ", plan.skipped.iter());
    format!("nothing is due{excluded}{}", others.concat())
}
