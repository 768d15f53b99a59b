//! What is due or broken and is no item of a plan: why not, and what has to be done instead. "Nothing is due" is said only
//! where there is none of it.

use jiff::Timestamp;

use super::{Basis, Selection, blocks, ca_is_out_of_date, item, needed, not_here, remake, told};
use crate::model::assess::{Judged, Severity, is_fatal};
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Entry, Inventory, Owner};
use crate::model::plan::{Item, Plan, Skipped};
use crate::model::repair::{CLIENT, CONFIG};
use crate::model::serving::SERVING;

const EXCLUDED: &str = "renew.exclude names it, so that it is renewed by name only";

/// Adds what is due or broken and neither an item nor accounted for yet. Who names things hears of these only.
pub(super) fn complete(basis: Basis<'_>, selection: &Selection, plan: &mut Plan, now: Timestamp) {
    if blocks(selection) {
        return;
    }
    let known = |name: &str| {
        // the kubelet's certificate and its kubeconfig are one identity: whoever repairs it sees to both
        let its_own = |n: &str| n == CONFIG || n == CLIENT;
        let is_it = |known: &str| known == name || (its_own(name) && its_own(known));
        let planned = plan.parts().flat_map(|part| &part.items).flat_map(Item::names).any(|known| is_it(known));
        planned || plan.skipped.iter().any(|s| is_it(&s.name))
    };
    let entries = basis.inventory.entries.iter().zip(&basis.assessment.entries);
    let (mut found, mut excluded) = (Vec::new(), Vec::new());
    let pending =
        |(e, j): &(&Entry, &Judged)| is_pending(e, j) && !known(&e.name) && !is_cured_with_the_server(basis, j);
    for (entry, judged) in entries.filter(pending) {
        if !basis.policy.renew.exclude.contains(&entry.name) {
            let reason = reason(basis, entry, judged, now);
            found.push(skipped(basis, selection, entry, reason));
        } else if is_broken(judged) {
            let reason = format!("{}; {EXCLUDED}", told(judged));
            found.push(Skipped::due(&entry.name, reason));
        } else {
            excluded.push(entry.name.clone());
        }
    }
    // a process has it: no file is to be renewed
    let ended = basis.assessment.in_memory.iter().filter(|(_, j)| is_broken(j));
    found.extend(ended.map(|(held, j)| Skipped::due(&held.name, told(j))));
    plan.skipped.extend(found);
    plan.excluded = excluded;
}

/// The entry as what is left out.
pub(super) fn skipped(basis: Basis<'_>, selection: &Selection, entry: &Entry, reason: String) -> Skipped {
    let judged = basis.assessment.get(&entry.name);
    let due = judged.is_some_and(|j| is_pending(entry, j));
    let needed = remedy(basis.inventory, entry);
    Skipped { name: entry.name.clone(), reason, needed, blocks: blocks(selection), due }
}

/// Why nothing is done about an entry that is due or broken, and what has to be done, beyond what its findings say: clauses.
/// None for what is well, and for what is renewed.
pub fn why_not(basis: Basis<'_>, entry: &Entry, now: Timestamp) -> Vec<String> {
    let Some(judged) = basis.assessment.get(&entry.name).filter(|j| is_pending(entry, j)) else { return Vec::new() };
    let its_own_way = entry.name == CLIENT || entry.name == CONFIG || entry.name == SERVING;
    let why = if basis.policy.renew.exclude.contains(&entry.name) {
        Some(EXCLUDED.to_owned())
    } else if judged.due && (its_own_way || can_be(basis, entry, now)) {
        return Vec::new();
    } else {
        why(basis, entry, judged, now).clause
    };
    let needed = remedy(basis.inventory, entry).map(|n| format!("it needs {n}"));
    why.filter(|why| !told(judged).contains(why.as_str())).into_iter().chain(needed).collect()
}

/// Whether somebody has to see to it, whoever that is.
fn is_pending(entry: &Entry, judged: &Judged) -> bool {
    let peoples = entry.owner == Owner::None && entry.used_by.is_empty() && !entry.is_ca();
    if peoples || matches!(entry.content, Content::Absent) {
        return false;
    }
    // what others renew is due when it would be here; a CA is nobody's to renew until it is about to take all with it
    let others = matches!(entry.owner, Owner::External | Owner::Distribution) && has(judged, Problem::Expiring);
    let ca = entry.is_ca() && judged.severity == Severity::Critical;
    judged.due || is_broken(judged) || ca || (others && !entry.is_ca())
}

/// A kubeconfig that does not trust this node's API server because another CA has issued the server's certificate: nothing is
/// wrong with the kubeconfig, and a new serving certificate is what it needs.
fn is_cured_with_the_server(basis: Basis<'_>, judged: &Judged) -> bool {
    let server = basis.assessment.get("apiserver").is_some_and(|j| has(j, Problem::WrongIssuer));
    let mut fatal = judged.findings.iter().filter(|f| is_fatal(f.id));
    server && !judged.due && fatal.all(|f| f.id == Problem::WrongCa)
}

fn is_broken(judged: &Judged) -> bool {
    judged.findings.iter().any(|f| is_fatal(f.id))
}

fn has(judged: &Judged, problem: Problem) -> bool {
    judged.findings.iter().any(|f| f.id == problem)
}

fn can_be(basis: Basis<'_>, entry: &Entry, now: Timestamp) -> bool {
    ca_is_out_of_date(basis.inventory, entry, now).is_none() && item(basis, entry, String::new()).is_ok()
}

/// Why something is not renewed without being named.
struct Why {
    /// What its findings say belongs to it.
    told: bool,
    clause: Option<String>,
}

fn why(basis: Basis<'_>, entry: &Entry, judged: &Judged, now: Timestamp) -> Why {
    let besides = |clause: String| Why { told: true, clause: Some(clause) };
    if entry.is_ca() {
        return besides("a CA is never renewed automatically".to_owned());
    }
    if let Some(clause) = ca_is_out_of_date(basis.inventory, entry, now) {
        return Why { told: false, clause: Some(clause) };
    }
    match item(basis, entry, String::new()) {
        Err(_) if matches!(entry.content, Content::Unusable(_)) => Why { told: true, clause: None },
        Err(_) if matches!(entry.owner, Owner::None | Owner::Kubelet) => Why { told: true, clause: None },
        Err(clause) => Why { told: false, clause: Some(clause) },
        // a new one is like the old one
        Ok(_) if has(judged, Problem::WrongIdentity) => besides("a renewal would keep that".to_owned()),
        // it could be: whether it should is a person's decision
        Ok(_) => besides(format!("only `certwarden renew {}` replaces it", entry.name)),
    }
}

/// The same as a sentence.
fn reason(basis: Basis<'_>, entry: &Entry, judged: &Judged, now: Timestamp) -> String {
    let Why { told: with, clause } = why(basis, entry, judged, now);
    with.then(|| told(judged)).into_iter().chain(clause).collect::<Vec<_>>().join("; ")
}

/// What has to be done about it elsewhere, or by a person.
fn remedy(inventory: &Inventory, entry: &Entry) -> Option<String> {
    if let Some(way) = remake(inventory, entry) {
        return Some(way.to_string());
    }
    not_here(inventory, entry).and_then(|_| needed(entry))
}
