//! Finishing what another process began: after a crash, a power cut, a `kill -9`.

use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::ledger::State;
use crate::model::report::{Consumer, Outcome, Report};

use super::dir::TxnDir;
use super::engine::{Context, EngineError};
use super::ledger::Ledger;
use super::lock::Lock;
use super::prove_again::prove_again;
use super::run::Run;
use super::state::{DaemonState, Loaded, clear_observe_only};
use super::steps::commit;
use super::steps::discard::discard;
use super::stop::Stop;
use super::{forward, resume, retention, retry, store, story, unwind};

/// How far recovery may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Make the files consistent; touch no service. At boot, before the kubelet starts.
    FilesOnly,
    /// Files, services, proof.
    Full,
}

/// Ends every unfinished transaction; where there is none, verifies again what is in place and not proven. None if there
/// is neither.
///
/// `operator`: a person asked, so a rollback that failed is tried again.
///
/// # Errors
/// [`EngineError`].
pub fn recover(context: Context<'_>, reach: Reach, operator: bool) -> Result<Option<Report>, EngineError> {
    let root = &context.host.root;
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
    if operator && let Some(failed) = failed_rollback(context)? {
        unfinished.push(failed);
    }
    if operator && unfinished.is_empty() {
        clear_observe_only(context.host)?; // its transaction is gone: a person has seen to it
    }
    let mut last = None;
    for (dir, ledger) in unfinished {
        let started = context.host.clock.now();
        if let Some(mut report) = settle(context, &dir, ledger, reach)? {
            report.started_at = started;
            report.ended_at = context.host.clock.now();
            retention::keep_report(root, &report, false);
            last = Some(report);
        }
    }
    if last.is_none() && reach == Reach::Full {
        last = prove_again(context);
    }
    retention::apply(root, &context.policy.state, retention::asked_time(context.host));
    Ok(last)
}

/// The newest transaction, if its rollback failed.
fn failed_rollback(context: Context<'_>) -> Result<Option<(TxnDir, Option<Ledger>)>, EngineError> {
    let Some(dir) = store::list(&context.host.root)?.pop() else { return Ok(None) };
    let ledger = Ledger::load(&context.host.root, &dir)?;
    Ok(ledger.filter(|l| l.state() == State::RollbackFailed).map(|l| (dir, Some(l))))
}

fn settle(
    context: Context<'_>,
    dir: &TxnDir,
    ledger: Option<Ledger>,
    reach: Reach,
) -> Result<Option<Report>, EngineError> {
    let root = &context.host.root;
    let Some(ledger) = ledger else {
        // it died before its first record: nothing was touched
        root.remove_tree(&dir.path())?;
        return Ok(None);
    };
    let state = ledger.state();
    story::recovering(&dir.id, state, context.host.by.as_deref());
    let (plan, note) = resume::plan(context, dir, &ledger);
    let reach = if resume::needs_the_node(context, &plan) { Reach::FilesOnly } else { reach };
    let mut run = Run::resume(context, &plan, ledger);
    run.live.touched.begun = Component::ALL.to_vec();
    run.live.touched.others_begun = plan.others.iter().map(|o| o.container.clone()).collect();
    // what the process that died has stopped is not known
    let others = plan.others.iter().map(|o| Consumer::Other(o.container.to_string()));
    run.live.touched.stopped = Component::ALL.into_iter().map(Consumer::from).chain(others).collect();
    run.report.notes.extend(note);
    if run.touched() {
        context.progress.committing();
        if let Err(stop) = resume::reachable(&run) {
            return Ok(Some(retry::stuck(&mut run, stop)));
        }
    }
    Ok(settle_run(context, &mut run, state, reach))
}

fn settle_run(context: Context<'_>, run: &mut Run<'_>, state: State, reach: Reach) -> Option<Report> {
    let id = run.dir.id.clone();
    match state {
        State::Open | State::Staged => {
            discard(run, "found unfinished; nothing live had been touched", false);
            Some(
                run.close_with(Outcome::NothingToDo, format!("transaction {id} had touched nothing and was discarded")),
            )
        }
        State::Committing => match settle_committing(run) {
            Ok(State::Committed) => settle_run(context, run, State::Committed, reach),
            Ok(_) => settle_run(context, run, State::RollingBack, reach),
            Err(stop) => Some(retry::stuck(run, stop)),
        },
        State::Committed if reach == Reach::FilesOnly => Some(run.close_with(
            Outcome::Interrupted,
            format!("all files of transaction {id} are new; to be activated and verified"),
        )),
        State::Committed => Some(match forward::activate_and_verify(run) {
            Ok(outcome) => run.close(outcome),
            Err(Stop::Failed(reason)) => unwind::roll_back(run, &reason),
            // a node that does not answer yet says nothing about the new files
            Err(Stop::Passing(why)) => retry::later(run, &why),
            Err(Stop::Unrecorded(why)) => forward::unrecorded(run, &why),
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
                && let Err(e) = clear_observe_only(context.host)
            {
                run.report.notes.push(chain(&e));
            }
            Some(report)
        }
        State::Verified | State::Unproven | State::Accepted | State::RolledBack | State::Discarded => None,
    }
}

/// Back, or forward where the old ones have expired.
fn settle_committing(run: &mut Run<'_>) -> Result<State, Stop> {
    if run.old_still_work(run.now_at_least()) {
        unwind::files_back(run, "the commit was cut short")?;
        return Ok(State::RollingBack);
    }
    commit::forward(run)?;
    Ok(State::Committed)
}

/// Why the rollback was begun.
fn first_reason(run: &Run<'_>) -> Option<String> {
    let records = run.ledger.as_ref()?.records();
    records.iter().find(|r| r.state == State::RollingBack)?.reason.clone()
}
