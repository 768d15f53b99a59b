//! A transaction from its beginning to its end: the lock, the audit, the gates, the steps, and the way back where one fails. It
//! makes no choices: the plan has none left.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::audit::audit;
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::plan::{Plan, Skipped};
use crate::model::report::{Outcome, Report};

use super::engine::{Context, EngineError};
use super::lock::Lock;
use super::run::Run;
use super::steps::discard::discard;
use super::steps::unit;
use super::stop::Stop;
use super::turn::Take;
use super::{forward, retention, store, story, unwind};

/// How a plan is to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stage, validate, rehearse, report, discard.
    pub dry_run: bool,
    /// Soft gates that the operator overrides.
    pub forced: Vec<Gate>,
    /// Gates found closed beforehand, by `verify::gates`.
    pub refusals: Vec<Refusal>,
    /// What was noticed before: sentences for the report.
    pub notes: Vec<String>,
}

/// Carries out the plan under the lock of this node, after `take` has taken its turn among others; None: there are none.
///
/// # Errors
/// [`EngineError`] if nothing was begun.
pub fn carry_out(
    context: Context<'_>,
    plan: &Plan,
    options: &Options,
    take: Option<&Take<'_>>,
) -> Result<Report, EngineError> {
    let started = context.host.clock.now();
    if let Some(not_begun) = not_begun(plan, started) {
        return Ok(not_begun);
    }
    let _lock = Lock::take(&context.host.root, if options.dry_run { "renew --dry-run" } else { "renew" })?;
    if let Some((dir, _)) = store::unfinished(&context.host.root)?.into_iter().next() {
        return Err(EngineError::Unfinished { id: dir.id });
    }
    if let Some(refused) = refused(context, plan, options) {
        return Ok(Report { left_out: plan.left_out().cloned().collect(), ..refused });
    }
    let turn = match take.map(|take| take(&|| context.should_stop())).transpose() {
        Ok(turn) => turn,
        Err(refusal) => return Ok(closed(context, vec![refusal])),
    };
    let dir = match store::create(&context.host.root, started) {
        Ok(dir) => dir,
        Err(e) => {
            // nothing was begun: the others need not wait until it ends by itself
            if let Some(turn) = turn {
                turn.give_up();
            }
            return Err(e.into());
        }
    };
    story::opened(&dir.id, plan, context.host.by.as_deref());
    let mut run = Run::new(Context { turn: turn.as_deref(), ..context }, plan, dir, options.forced.clone());
    run.report.left_out.extend(plan.left_out().cloned());
    run.report.notes.extend(options.notes.iter().cloned());
    run.report.notes.extend(by_reason("not renewed: ", plan.skipped.iter().filter(|s| !s.due)));
    let left_alone = plan.others.iter().filter(|o| !plan.restarts(&o.container));
    run.report.notes.extend(left_alone.map(|o| format!("left alone: {}", o.sentence())));
    let mut report = match forward::all(&mut run, options.dry_run) {
        Ok(outcome) => run.close(outcome),
        Err(stop) => stopped(&mut run, stop, options.dry_run),
    };
    report.started_at = started;
    report.ended_at = context.host.clock.now();
    report.notes.extend(turn.map(|turn| turn.end(&report)).unwrap_or_default());
    retention::keep_report(&context.host.root, &report, options.dry_run);
    retention::apply(&context.host.root, &context.policy.state, retention::asked_time(context.host));
    Ok(report)
}

fn refused(context: Context<'_>, plan: &Plan, options: &Options) -> Option<Report> {
    let now = context.host.clock.now();
    if let Some(violation) = audit(plan, context.inventory).first() {
        story::refused(&violation.to_string());
        return Some(Report::new(Outcome::Refused, violation.to_string(), now));
    }
    let refusals = standing(&options.refusals, &options.forced, plan.emergency);
    if refusals.is_empty() { None } else { Some(closed(context, refusals)) }
}

fn closed(context: Context<'_>, refusals: Vec<Refusal>) -> Report {
    let now = context.host.clock.now();
    let first = refusals.first().map(ToString::to_string).unwrap_or_default();
    refusals.iter().for_each(story::closed_gate);
    let more = if refusals.len() > 1 { format!(" (and {} more)", refusals.len() - 1) } else { String::new() };
    let mut report = Report::new(Outcome::Refused, format!("gate {first}{more}"), now);
    report.refusals = refusals;
    report
}

/// A step failed or the process is asked to stop.
fn stopped(run: &mut Run<'_>, stop: Stop, dry_run: bool) -> Report {
    if !run.touched() {
        let reason = match stop {
            Stop::Failed(reason) | Stop::Passing(reason) | Stop::Unrecorded(reason) => reason,
            Stop::Asked => "stopped before anything live was touched".to_owned(),
        };
        discard(run, &reason, dry_run);
        return run.close_with(Outcome::Refused, reason);
    }
    match stop {
        Stop::Failed(reason) | Stop::Passing(reason) => unwind::roll_back(run, &reason),
        Stop::Unrecorded(why) => forward::unrecorded(run, &why),
        Stop::Asked => {
            unit::release(run);
            let reason = "the new files are in place; the next start activates and verifies them".to_owned();
            story::interrupted(&run.dir.id, &reason);
            run.close_with(Outcome::Interrupted, reason)
        }
    }
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
