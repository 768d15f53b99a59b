//! A plan for people: each step and its reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::assess::Assessment;
use crate::model::finding::Problem;
use crate::model::gate::Refusal;
use crate::model::plan::{Activation, Check, Plan, Step};

/// Between two transactions.
pub const THEN: &str =
    "\nThen, in a transaction of its own that can go back (what comes first has nothing to go back to):\n\n";

/// One transaction's plan as text.
pub fn render(plan: &Plan, gates: &[Refusal]) -> String {
    let mut out = String::new();
    if plan.is_empty() {
        let _ = writeln!(out, "{}", nothing(plan));
    } else {
        let _ = writeln!(out, "{} to be renewed by {}: {}", count(plan.items.len()), plan.source, plan.source_reason);
        for item in &plan.items {
            let end = item.old_not_after.map_or("unknown".to_owned(), |t| t.strftime("%Y-%m-%d").to_string());
            let names: Vec<&str> = item.names().map(String::as_str).collect();
            let _ = writeln!(out, "  {}  (until {end}): {}", names.join(" = "), item.reason);
        }
        let _ = writeln!(out, "\nSteps:");
        for (i, planned) in plan.steps.iter().enumerate() {
            let _ = writeln!(out, "{:>3}. {}\n     {}", i + 1, sentence(&planned.step), planned.reason);
        }
    }
    for other in plan.others.iter().filter(|o| !plan.restarts(&o.container)) {
        let _ = writeln!(out, "left alone {}", other.sentence());
    }
    for s in &plan.skipped {
        let how = if s.due || s.blocks { "left out" } else { "skipped" };
        let _ = writeln!(out, "{how} {}: {}", s.name, s.reason);
        if let Some(needed) = &s.needed {
            let _ = writeln!(out, "  it needs {needed}");
        }
    }
    if !plan.is_empty() && plan.skipped.iter().any(|s| s.blocks) {
        let _ = writeln!(out, "\n`renew` would refuse: not all that was asked for can be renewed");
    }
    if !gates.is_empty() {
        let _ = writeln!(out, "\nClosed gates (`renew` would refuse):");
    }
    for gate in gates {
        let soft = if gate.gate.is_hard() { "hard" } else { "soft: --force overrides it" };
        let _ = writeln!(out, "  {} ({soft}): {}\n    {}", gate.gate, gate.reason, gate.remedy);
    }
    if plan.emergency && !plan.is_empty() {
        let _ = writeln!(out, "\nThis is an emergency: soft gates give way");
    }
    out
}

/// The first line of a plan without steps.
fn nothing(plan: &Plan) -> String {
    if plan.skipped.iter().any(|s| s.due || s.blocks) {
        return "Nothing can be renewed here of what is due, broken or asked for:".to_owned();
    }
    match plan.excluded.as_slice() {
        [] => "Nothing to do: nothing is due".to_owned(),
        names => format!("Nothing to do: nothing is due but what renew.exclude names: {}", names.join(", ")),
    }
}

/// What would close a gate if something were due, each once.
pub fn foresight(assessment: &Assessment) -> String {
    let found = assessment.entries.iter().flat_map(|j| &j.findings).filter(|f| f.id == Problem::Ownership);
    let told: BTreeSet<&str> = found.map(|f| f.message.as_str()).collect();
    told.into_iter().map(|message| format!("once something is due: {message}\n")).collect::<Vec<_>>().concat()
}

fn count(n: usize) -> String {
    if n == 1 { "1 certificate".to_owned() } else { format!("{n} certificates") }
}

/// What a step does, in a clause.
pub fn sentence(step: &Step) -> String {
    match step {
        Step::Backup { files } => format!("back up {} files", files.len()),
        Step::Stage { names } => format!("stage {}", count(names.len())),
        Step::Validate { .. } => "validate what was staged".to_owned(),
        Step::Rehearse { name, proof } => format!("rehearse {name}: {}", proof.describe()),
        Step::Commit { files } => format!("commit {} files", files.len()),
        Step::Activate { component, how } => match how {
            Activation::ReloadOrRestart { sockets, .. } => {
                let at: Vec<String> = sockets.iter().map(ToString::to_string).collect();
                format!("see {component} serve the new leaf on {}", at.join(", "))
            }
            Activation::NewContainer { .. } => format!("have the kubelet make a new {component} container"),
            Activation::RestartUnit { unit } => format!("restart {unit}"),
        },
        Step::ActivateOther { container } => format!("have the kubelet make a new container of {container}"),
        Step::Verify { check } => match check {
            Check::Served(s) => format!("verify that {s} serves {}", s.entry),
            Check::Health { component, url } => format!("verify that {component} is well ({url})"),
            Check::EtcdMembers { .. } => "verify that etcd has its members".to_owned(),
            Check::Credential { name, proof } => format!("verify {name}: {}", proof.describe()),
            Check::Aggregated { name } => format!("verify {name}: aggregated APIs answer as before"),
            Check::NodeReady { node } => format!("verify that node {node} is Ready again"),
        },
        Step::Refresh { copies, .. } => {
            let paths: Vec<String> = copies.iter().map(|c| c.path.display().to_string()).collect();
            format!("refresh the copies {}", paths.join(", "))
        }
    }
}

/// The plan as JSON, with the gates that are closed for it.
#[derive(Debug, serde::Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    gates: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<Box<Document<'a>>>,
}

impl<'a> Document<'a> {
    /// `gates`: those that are closed for a part of the plan.
    pub fn new(plan: &'a Plan, gates: &dyn Fn(&Plan) -> Vec<Refusal>) -> Self {
        let then = plan.then.as_deref().map(|rest| Box::new(Self::new(rest, gates)));
        Self { plan, gates: gates(plan), then }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assess::{Judged, Severity};
    use crate::model::finding::Finding;
    use crate::model::repair::Choice;

    #[test]
    fn what_will_close_a_gate_is_told_once_although_nothing_is_due() {
        let judged = |name: &str, id: Problem| Judged {
            name: name.to_owned(),
            severity: Severity::Warning,
            findings: vec![Finding::new(id, "/etc/kubernetes belongs to user 998")],
            effective_end: None,
            seconds_left: None,
            due: false,
            emergency: false,
        };
        let entries = vec![judged("apiserver", Problem::Ownership), judged("admin.conf", Problem::Ownership)];
        let others = vec![judged("apiserver", Problem::LoosePermissions)];
        let of = |entries| {
            let at = jiff::Timestamp::UNIX_EPOCH;
            foresight(&Assessment {
                at,
                verdict: Severity::Warning,
                entries,
                information: Vec::new(),
                in_memory: Vec::new(),
                identity: Choice::Nothing,
                serving: None,
            })
        };
        assert_eq!(of(entries), "once something is due: /etc/kubernetes belongs to user 998\n");
        assert_eq!(of(others), "");
    }
}
