//! What a transaction tells the journal: a whole renewal in less than 40 lines, each with a stable message id.
//! Reports, ledgers and exit codes are for programs; these lines are for the person who reads them at 3 a.m.

use std::path::Path;

use crate::host::journal::{ALERT, NOTICE, about, id};
use crate::model::component::Component;
use crate::model::gate::Refusal;
use crate::model::ledger::State;
use crate::model::plan::Plan;
use crate::model::report::{Consumer, CredentialSeen, Report};

pub(super) fn opened(txn: &str, plan: &Plan, by: Option<&str>) {
    let names: Vec<&str> = plan.items.iter().map(|i| i.name.as_str()).collect();
    tracing::info!(
        target: NOTICE,
        MESSAGE_ID = id::PLAN_MADE.as_str(),
        cw_txn = txn,
        cw_by = by,
        "transaction {txn}: {} to be renewed by {} ({}): {}",
        names.len(),
        plan.source,
        plan.source_reason,
        names.join(", ")
    );
    for skipped in &plan.skipped {
        left_out(txn, &skipped.name, &skipped.reason);
    }
}

fn left_out(txn: &str, name: &str, reason: &str) {
    tracing::warn!(
        MESSAGE_ID = id::CERTIFICATE_PROBLEM.as_str(),
        cw_txn = txn,
        cw_cert = name,
        cw_problem = reason,
        "{name} is left out: {reason}"
    );
}

pub(super) fn refused(reason: &str) {
    tracing::warn!(MESSAGE_ID = id::REFUSED.as_str(), "refused, nothing was changed: {reason}");
}

pub(super) fn closed_gate(refusal: &Refusal) {
    if refusal.until.is_some() {
        // it opens by itself
        tracing::info!(MESSAGE_ID = id::REFUSED.as_str(), cw_gate = refusal.gate.id(), "not now: gate {refusal}");
        return;
    }
    tracing::warn!(
        MESSAGE_ID = id::REFUSED.as_str(),
        cw_gate = refusal.gate.id(),
        "refused, nothing was changed: gate {refusal}"
    );
}

pub(super) fn step(txn: &str, step: &str) {
    tracing::debug!(MESSAGE_ID = id::STEP_BEGUN.as_str(), cw_txn = txn, cw_step = step, "{step}");
}

/// `again`: it was told when it failed first.
pub(super) fn step_failed(txn: &str, step: &str, reason: &str, again: bool) {
    if again {
        tracing::debug!(MESSAGE_ID = id::STEP_FAILED.as_str(), cw_txn = txn, cw_step = step, "failed again: {reason}");
        return;
    }
    tracing::error!(MESSAGE_ID = id::STEP_FAILED.as_str(), cw_txn = txn, cw_step = step, "failed: {reason}");
}

pub(super) fn signed_instead(txn: &str, why: &str) {
    tracing::warn!(
        MESSAGE_ID = id::STEP_FAILED.as_str(),
        cw_txn = txn,
        cw_step = "stage",
        "kubeadm was not used: {why}; certwarden signed instead"
    );
}

pub(super) fn staged(txn: &str, names: usize) {
    tracing::info!(
        MESSAGE_ID = id::STEP_DONE.as_str(),
        cw_txn = txn,
        cw_step = "validate",
        "{names} staged and validated"
    );
}

pub(super) fn rehearsed(txn: &str, seen: &[CredentialSeen]) {
    let proven = seen.iter().filter(|c| c.proven == Some(true)).count();
    let silent: Vec<&str> = seen.iter().filter(|c| c.proven.is_none()).map(|c| c.name.as_str()).collect();
    let silent = if silent.is_empty() { String::new() } else { format!("; cannot tell: {}", silent.join(", ")) };
    tracing::info!(
        MESSAGE_ID = id::STEP_DONE.as_str(),
        cw_txn = txn,
        cw_step = "rehearse",
        "{proven} of {} rehearsals passed, nothing live is changed yet{silent}",
        seen.len()
    );
}

pub(super) fn committed(txn: &str, files: usize) {
    tracing::info!(MESSAGE_ID = id::COMMITTED.as_str(), cw_txn = txn, "{files} files are in place");
}

pub(super) fn refreshed(txn: &str, copy: &Path, original: &Path) {
    tracing::info!(
        MESSAGE_ID = id::STEP_DONE.as_str(),
        cw_txn = txn,
        cw_step = "refresh",
        "{}, a copy of {}, was refreshed too",
        copy.display(),
        original.display()
    );
}

pub(super) fn not_refreshed(txn: &str, copy: &Path, why: &str) {
    tracing::warn!(
        MESSAGE_ID = id::STEP_FAILED.as_str(),
        cw_txn = txn,
        cw_step = "refresh",
        "{} was not refreshed: {why}",
        copy.display()
    );
}

pub(super) fn activated(txn: &str, consumer: &Consumer, how: &str) {
    tracing::info!(
        MESSAGE_ID = id::STEP_DONE.as_str(),
        cw_txn = txn,
        cw_step = "activate",
        cw_component = %consumer,
        OBJECT_SYSTEMD_UNIT = about(*consumer == Consumer::Component(Component::Kubelet)),
        "{consumer} {how}"
    );
}

/// How far the renewal is proven.
pub(super) fn proof(report: &Report, live: bool) -> String {
    if !live {
        return "in place; nothing was restarted or asked, because this root is not the running system".to_owned();
    }
    let unproven = report.unproven();
    if unproven.is_empty() {
        return "proven by use".to_owned();
    }
    format!("proven as far as can be told from this node; no answer about {}", unproven.join(", "))
}

pub(super) fn verified(txn: &str, report: &Report, live: bool) {
    for r in &report.renewed {
        tracing::info!(
            MESSAGE_ID = id::STEP_DONE.as_str(),
            cw_txn = txn,
            cw_step = "verify",
            cw_cert = r.name,
            OBJECT_SYSTEMD_UNIT = about(r.name.starts_with("kubelet")),
            "{} is valid until {} (serial {}, was {})",
            r.name,
            r.not_after,
            r.new_serial,
            r.old_serial.as_deref().unwrap_or("unreadable")
        );
    }
    let node = report.node.as_ref().map(|n| format!("; node: {}", n.detail)).unwrap_or_default();
    let (count, proof) = (report.renewed.len(), proof(report, live));
    tracing::info!(
        target: NOTICE,
        MESSAGE_ID = id::VERIFIED.as_str(),
        cw_txn = txn,
        OBJECT_SYSTEMD_UNIT = about(live), // it ends with a restart of the kubelet, as a rule
        "{count} renewed and {proof}{node}"
    );
}

pub(super) fn dry_run(txn: &str) {
    tracing::info!(MESSAGE_ID = id::DISCARDED.as_str(), cw_txn = txn, "dry run ended: nothing was changed");
}

pub(super) fn discarded(txn: &str, reason: &str) {
    tracing::warn!(MESSAGE_ID = id::DISCARDED.as_str(), cw_txn = txn, "nothing live was changed: {reason}");
}

pub(super) fn degraded(txn: &str, reason: &str) {
    tracing::error!(MESSAGE_ID = id::DEGRADED.as_str(), cw_txn = txn, "{reason}; see `certwarden history {txn}`");
}

/// What could not be proven is verified again.
pub(super) fn proving_again(txn: &str) {
    tracing::debug!(cw_txn = txn, "verifying transaction {txn} again");
}

/// A person has taken an unproven transaction as it is.
pub(super) fn accepted(txn: &str, sentence: &str) {
    tracing::warn!(MESSAGE_ID = id::ACCEPTED.as_str(), cw_txn = txn, "transaction {txn} {sentence}");
}

pub(super) fn rolling_back(txn: &str, reason: &str) {
    tracing::error!(
        MESSAGE_ID = id::ROLLING_BACK.as_str(),
        cw_txn = txn,
        OBJECT_SYSTEMD_UNIT = about(true),
        "rolling back: {reason}"
    );
}

pub(super) fn rolled_back(txn: &str) {
    tracing::warn!(
        MESSAGE_ID = id::ROLLED_BACK.as_str(),
        cw_txn = txn,
        OBJECT_SYSTEMD_UNIT = about(true),
        "rolled back: all files are the old ones, and what was restarted runs with them; see `certwarden history {txn}`"
    );
}

pub(super) fn rollback_failed(txn: &str, sentence: &str) {
    tracing::error!(
        target: ALERT,
        MESSAGE_ID = id::ROLLBACK_FAILED.as_str(),
        cw_txn = txn,
        OBJECT_SYSTEMD_UNIT = about(true),
        "{sentence}; only observing until the cause is removed and `certwarden recover` succeeds"
    );
}

/// A recovery that could not go on, and is tried again. Files may be half new meanwhile: an error.
pub(super) fn hindered(txn: &str, reason: &str) {
    tracing::error!(MESSAGE_ID = id::INTERRUPTED.as_str(), cw_txn = txn, "{reason}");
}

pub(super) fn interrupted(txn: &str, reason: &str) {
    tracing::warn!(MESSAGE_ID = id::INTERRUPTED.as_str(), cw_txn = txn, "interrupted: {reason}");
}

pub(super) fn recovering(txn: &str, state: State, by: Option<&str>) {
    tracing::warn!(
        MESSAGE_ID = id::RECOVERED.as_str(),
        cw_txn = txn,
        cw_state = state.name(),
        cw_by = by,
        "finishing transaction {txn}, which was found {state}"
    );
}
