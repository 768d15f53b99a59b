//! `certwarden diagnose`: gather, decide, say so.

use std::fmt::Write as _;

use super::args::Output;
use super::output::{USAGE, complain, print_json, print_painted};
use super::terminal;
use crate::app::session::Session;
use crate::model::assess::Severity;
use crate::model::diagnose::facts::{Certificate, Keeper};
use crate::model::diagnose::{self, Diagnosis, Playbook, RootCause, Step};
use crate::model::plan::Skipped;
use crate::model::planner::Selection;
use crate::model::similar::question;
use crate::txn::state::DaemonState;
use crate::verify::diagnose::{Look, clients, facts};
use crate::watch;

/// Subjects that are no certificates.
const KUBELET: &str = "kubelet";
const CLIENTS: &str = "clients";
const LAYERS: &str = "layers";
/// All of them.
const SUBJECTS: [&str; 3] = [KUBELET, CLIENTS, LAYERS];

/// Goes through the playbooks. The gravest root cause is the exit code.
pub fn run(session: &Session<'_>, subject: Option<&str>, all: bool, output: Output) -> u8 {
    let names: Vec<&str> = session.inventory.entries.iter().map(|e| e.name.as_str()).collect();
    let subject = subject.unwrap_or(KUBELET);
    if !all && !SUBJECTS.contains(&subject) && !names.contains(&subject) {
        let known: Vec<&str> = SUBJECTS.into_iter().chain(names).collect();
        let meant = question(subject, &known);
        return complain(
            &format!("there is nothing to diagnose called {subject}; known: {}{meant}", known.join(", ")),
            USAGE,
        );
    }
    terminal::count();
    let look = Look {
        host: session.host,
        inventory: &session.inventory,
        assessment: &session.assessment,
        policy: session.policy,
        progress: &terminal::step,
    };
    let playbooks = match subject {
        CLIENTS if !all => vec![diagnose::clients(&clients(look))],
        LAYERS if !all => vec![diagnose::layers(&watch::found(&session.host.root), session.assessment.at)],
        _ => with_facts(session, look, subject, all),
    };
    terminal::rest();
    let diagnosis = Diagnosis::new(session.assessment.at, session.inventory.node.name.clone(), playbooks);
    match output {
        Output::Json => {
            print_json(&diagnosis);
        }
        Output::Table => {
            let severity = diagnosis.playbooks.iter().map(Playbook::severity).max().unwrap_or(Severity::Unknown);
            print_painted(&terminal::headline(severity, &render(&diagnosis), terminal::colour()));
        }
    }
    diagnosis.exit_code()
}

fn with_facts(session: &Session<'_>, look: Look<'_>, subject: &str, all: bool) -> Vec<Playbook> {
    let memory = DaemonState::load_and_warn(&session.host.root);
    let (gates, left_out) = outlook(session, look.progress);
    let keeper = Keeper {
        observe_only: memory.observe_only.map(|o| o.reason),
        back_off_until: memory.back_off_until,
        last: memory
            .last_transaction
            .map(|t| format!("last transaction, {:.0}, {}: {}", t.ended_at, t.outcome.id(), t.reason)),
        gates,
        left_out,
    };
    let known = facts(look, keeper, memory.last_seen);
    if all {
        let bad = |c: &&Certificate| c.severity != Severity::Ok && !c.absent;
        let named = known.certificates.iter().filter(bad).map(|c| diagnose::named(&known, c));
        let first = [diagnose::kubelet(&known), diagnose::clients(&clients(look))];
        // opt-in: who does not watch them has nothing to hear about them
        let layers = watch::found(&session.host.root);
        let layers = layers.known().is_some().then(|| diagnose::layers(&layers, session.assessment.at));
        return first.into_iter().chain(layers).chain(named).collect();
    }
    match known.certificate(subject) {
        Some(certificate) => vec![diagnose::named(&known, certificate)],
        None => vec![diagnose::kubelet(&known)],
    }
}

/// What would be in the way of a renewal now, if something is due, and what it would leave out.
fn outlook(session: &Session<'_>, progress: &dyn Fn(&str)) -> (Vec<String>, Vec<Skipped>) {
    progress("asking the gates");
    let Ok(plan) = session.plan(&Selection::Due) else { return (Vec::new(), Vec::new()) };
    let gates = if plan.is_empty() { Vec::new() } else { session.closed_gates(&plan) };
    (gates.iter().map(ToString::to_string).collect(), plan.left_out().cloned().collect())
}

/// For people: what it is first, then how it was found.
fn render(diagnosis: &Diagnosis) -> String {
    let parts: Vec<String> = diagnosis.playbooks.iter().map(playbook).collect();
    parts.join("\n")
}

fn playbook(playbook: &Playbook) -> String {
    let mut out = String::new();
    cause(&mut out, &format!("{}: {}", playbook.subject, playbook.root_cause.id), &playbook.root_cause);
    for also in &playbook.also {
        cause(&mut out, &format!("besides: {}", also.id), also);
    }
    let _ = writeln!(out, "\nSTEPS");
    for (number, step) in playbook.steps.iter().enumerate() {
        told(&mut out, number + 1, step);
    }
    out
}

fn cause(out: &mut String, head: &str, cause: &RootCause) {
    let _ = writeln!(out, "{} {head}", cause.severity.label());
    let _ = writeln!(out, "  {}", cause.text);
    for line in &cause.evidence {
        let _ = writeln!(out, "  - {line}");
    }
    for (n, remedy) in cause.remedy.iter().enumerate() {
        let lead = if n == 0 { "  do " } else { "     " };
        match &remedy.command {
            Some(command) => {
                let _ = writeln!(out, "{lead} {command}\n        {}", remedy.what);
            }
            None => {
                let _ = writeln!(out, "{lead} {}", remedy.what);
            }
        }
    }
    if cause.severity != Severity::Ok {
        let _ = writeln!(out, "  more certwarden runbook {}", cause.runbook);
    }
}

fn told(out: &mut String, number: usize, step: &Step) {
    let by = step.identity.as_ref().map(|by| format!(" [{by}]")).unwrap_or_default();
    let _ = writeln!(out, "{number:>2} {:<8} {:<13} {}{by}", step.verdict.label(), step.id, step.text);
    for line in step.evidence.iter().filter(|_| shown(step)) {
        let _ = writeln!(out, "            - {line}");
    }
    for line in step.unseen.iter().filter(|_| shown(step) || step.verdict == Severity::Unknown) {
        let _ = writeln!(out, "            not seen: {line}");
    }
}

/// What is well is one line, but for the Node, of which everybody wants to know more.
fn shown(step: &Step) -> bool {
    step.verdict != Severity::Ok || matches!(step.id, "node" | "change")
}
