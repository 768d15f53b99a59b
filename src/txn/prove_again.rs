//! What is in place and not proven is verified again, or accepted by a person.

use crate::model::ledger::State;
use crate::model::report::{Outcome, Report};

use super::engine::{Context, EngineError};
use super::lock::Lock;
use super::run::{Origin, Run};
use super::steps::unit;
use super::stop::Stop;
use super::unproven::{self, Unproven};
use super::{forward, history, resume, retention, story};

/// Verifies again what is not proven, and goes on with what has not taken it up. The report is that of the newest
/// transaction with news, or of the newest; None: everything is proven.
pub fn prove_again(context: Context<'_>) -> Option<Report> {
    let mut told: Option<Report> = None;
    for unproven in unproven::list(&context.host.root) {
        if context.should_stop() {
            break;
        }
        let Some(report) = prove_one(context, unproven) else { continue };
        if !report.repeated || told.as_ref().is_none_or(|t| t.repeated) {
            told = Some(report);
        }
    }
    told
}

fn prove_one(context: Context<'_>, unproven: Unproven) -> Option<Report> {
    let started = context.host.clock.now();
    story::proving_again(&unproven.dir.id);
    let (plan, note) = resume::plan(context, &unproven.dir, &unproven.ledger);
    if resume::needs_the_node(context, &plan) {
        return None;
    }
    let mut run = Run::resume(context, &plan, unproven.ledger);
    run.origin = Origin::ProvenAgain;
    run.report.notes.extend(note);
    context.progress.committing();
    let done = resume::reachable(&run).and_then(|()| forward::activate_and_verify(&mut run));
    unit::release(&mut run);
    let mut report = match done {
        Ok(outcome) => run.close(outcome),
        Err(Stop::Asked) => return None,
        Err(stop) => {
            let why = stop.sentence();
            unproven::stays(&mut run, &format!("{why}; the old certificates have expired, so the new ones stay"))
        }
    };
    report.started_at = started;
    report.ended_at = context.host.clock.now();
    if !report.repeated {
        retention::keep_report(&context.host.root, &report, false);
    }
    Some(report)
}

/// Closes an unproven transaction by a person's word: this one, or the only one there is. None: there is none, or not this.
///
/// # Errors
/// [`EngineError`]; several and none named is [`EngineError::SeveralUnproven`].
pub fn accept(context: Context<'_>, id: Option<&str>, who: &str) -> Result<Option<Report>, EngineError> {
    let root = &context.host.root;
    let _lock = Lock::take(root, "recover --accept")?;
    let mut all = unproven::list(root);
    if let Some(id) = id {
        all.retain(|u| u.dir.id == id);
    }
    let Some(mut unproven) = all.pop() else { return Ok(None) };
    unproven.ledger = unproven.ledger.driven_by(context.host.by.clone());
    if !all.is_empty() {
        let ids = all.into_iter().chain([unproven]).map(|u| u.dir.id).collect::<Vec<_>>().join(", ");
        return Err(EngineError::SeveralUnproven { ids });
    }
    let sentence = format!("accepted by {who}, not proven: {}", unproven.reason());
    let at = context.host.clock.now();
    unproven.ledger.enter(root, State::Accepted, at, Some(&sentence))?;
    story::accepted(&unproven.dir.id, &sentence);
    let transaction = Some(unproven.dir.id.clone());
    if let Some(kept) = history::report(root, &unproven.dir.id) {
        let kept = Report { outcome: Outcome::Committed, reason: sentence.clone(), ended_at: at, ..kept };
        retention::keep_report(root, &kept, false);
    }
    retention::apply(root, &context.policy.state, retention::asked_time(context.host));
    Ok(Some(Report { transaction, ..Report::new(Outcome::Committed, sentence, at) }))
}
