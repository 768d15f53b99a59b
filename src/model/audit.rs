//! The audit: a second pair of eyes on a finished plan. Safety rules stand here once more, apart from the planner
//! that could be wrong, and a plan that breaks one is not carried out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::component::Component;
use super::inventory::Inventory;
use super::plan::{Activation, Plan, Source, Step};

/// A rule that a plan breaks: a mistake in certwarden, not of the operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the plan breaks a safety rule and is not carried out: {0}; please report this")]
pub struct Violation(String);

/// All rules that the plan breaks; none for a plan that may be carried out.
pub fn audit(plan: &Plan, inventory: &Inventory) -> Vec<Violation> {
    let mut found = Vec::new();
    order(plan, &mut found);
    files(plan, inventory, &mut found);
    activations(plan, &mut found);
    found.into_iter().map(Violation).collect()
}

/// Rank of a step: a later rank never comes before an earlier one.
fn rank(step: &Step) -> u8 {
    match step {
        Step::Backup { .. } => 0,
        Step::Stage { .. } => 1,
        Step::Validate { .. } => 2,
        Step::Rehearse { .. } => 3,
        Step::Commit { .. } => 4,
        Step::Activate { .. } => 5,
        Step::Verify { .. } => 6,
        Step::Refresh { .. } => 7,
    }
}

fn order(plan: &Plan, found: &mut Vec<String>) {
    let ranks: Vec<u8> = plan.steps.iter().map(|s| rank(&s.step)).collect();
    if !ranks.is_sorted() {
        found.push("steps are out of order".to_owned());
    }
    for (rank, what) in [(0, "backup"), (1, "staging"), (2, "validation"), (4, "commit")] {
        let occurs: Vec<&u8> = ranks.iter().filter(|r| **r == rank).collect();
        if occurs.len() != usize::from(!plan.is_empty()) {
            found.push(format!("{what} occurs {} times", occurs.len()));
        }
    }
}

fn files(plan: &Plan, inventory: &Inventory, found: &mut Vec<String>) {
    let of_items: BTreeSet<&Path> = plan.items.iter().flat_map(|i| i.form.files()).collect();
    let as_set = |files: &'_ [PathBuf]| files.iter().cloned().collect::<BTreeSet<PathBuf>>();
    let wanted: BTreeSet<PathBuf> = of_items.iter().map(PathBuf::from).collect();
    for step in &plan.steps {
        match &step.step {
            Step::Backup { files } if as_set(files) != wanted => {
                found.push("not exactly the files of its items are backed up".to_owned());
            }
            Step::Refresh { original, copies } => {
                let manifests =
                    |p: &Path| inventory.node.static_pods.values().any(|pod| pod.manifest.parent() == p.parent());
                if !of_items.contains(original.as_path()) {
                    found.push(format!("it refreshes copies of {}, which it does not renew", original.display()));
                }
                if let Some(c) = copies.iter().find(|c| of_items.contains(c.path.as_path()) || manifests(&c.path)) {
                    found.push(format!("{} is no copy", c.path.display()));
                }
            }
            Step::Commit { files } if as_set(files) != wanted => {
                found.push("not exactly the files of its items are replaced".to_owned());
            }
            _ => {}
        }
    }
    let counted: usize = plan.items.iter().map(|i| i.form.files().len()).sum();
    if counted != of_items.len() {
        found.push("two items share a file".to_owned());
    }
    for ca in inventory.entries.iter().filter(|e| e.is_ca()) {
        for file in ca.form.files() {
            if of_items.contains(file) {
                found.push(format!("it replaces the CA file {}", file.display()));
            }
        }
    }
    for pod in inventory.node.static_pods.values() {
        let manifests = pod.manifest.parent();
        if of_items.iter().any(|f| f.parent() == manifests) {
            found.push("it writes into the manifests directory".to_owned());
        }
    }
    if !matches!(plan.source, Source::Generation { .. }) && plan.items.iter().any(|i| i.ca.as_os_str().is_empty()) {
        found.push("an item has no CA".to_owned());
    }
}

fn activations(plan: &Plan, found: &mut Vec<String>) {
    let order: Vec<Component> = plan
        .steps
        .iter()
        .filter_map(|s| match &s.step {
            Step::Activate { component, .. } => Some(*component),
            _ => None,
        })
        .collect();
    if !order.is_sorted() {
        found.push("components are activated out of order".to_owned());
    }
    if order.iter().collect::<BTreeSet<_>>().len() != order.len() {
        found.push("a component is activated twice".to_owned());
    }
    let unit_for_pod = plan.steps.iter().any(|s| match &s.step {
        Step::Activate { component, how: Activation::RestartUnit { .. } } => *component != Component::Kubelet,
        Step::Activate { component, how: Activation::NewContainer { .. } } => *component == Component::Kubelet,
        _ => false,
    });
    if unit_for_pod {
        found.push("a component is restarted in another component's way".to_owned());
    }
}
