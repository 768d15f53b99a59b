//! Who could not start again stays as it is: a component with a credential that is broken and not mended goes on with what it
//! has in memory. What would have it restarted is left out, so that nobody is worse off for what else is renewed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Basis, part, steps};
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry, Inventory};
use crate::model::plan::{Item, Maker, Plan, Skipped, Source};
use crate::model::repair::{CLIENT, CONFIG, Way};
use crate::model::serving::SERVING;

/// The plan without restarts that nobody would come back from. Under `--root` nothing is restarted.
pub fn spare(basis: Basis<'_>, plan: Plan) -> Plan {
    if !basis.live || plan.is_empty() {
        return plan;
    }
    let sure = mended(&plan);
    let (mut held, mut parts) = (Vec::new(), Vec::new());
    for one in plan.parts() {
        let own = one.items.iter().flat_map(Item::names).map(String::as_str);
        let lame = lame(basis.inventory, &sure.iter().copied().chain(own).collect());
        parts.push(without_restarts_of(basis, one, &lame, &mut held));
    }
    let empty = parts.first().cloned();
    parts.retain(|part: &Plan| !part.is_empty());
    let chained = parts.into_iter().rev().fold(None, |then, part| Some(Box::new(Plan { then, ..part })));
    let Some(mut spared) = chained.map(|plan| *plan).or(empty) else { return plan };
    spared.skipped = plan.skipped.into_iter().chain(held).collect();
    spared.excluded = plan.excluded;
    spared
}

fn without_restarts_of(
    basis: Basis<'_>,
    one: &Plan,
    lame: &BTreeMap<Component, String>,
    held: &mut Vec<Skipped>,
) -> Plan {
    let mut items = Vec::new();
    for item in &one.items {
        let Some((component, why)) = restarted(basis, item, lame) else {
            items.push(item.clone());
            continue;
        };
        let reason = format!("{component} might have to be restarted for it, and could not start again: {why}");
        held.push(Skipped { blocks: one.whole, ..Skipped::due(&item.name, reason) });
    }
    if lame.is_empty() {
        return Plan { then: None, ..one.clone() };
    }
    let maker = Maker { source: one.source.clone(), why: one.source_reason.clone() };
    let spared = lame.keys().copied().collect();
    let made = part(basis, items, maker, one.created_at, &spared);
    Plan { whole: one.whole, emergency: one.emergency && made.emergency, ..made }
}

/// Logical names of what will be good when somebody is restarted. What has to be asked for comes last, and may not come.
fn mended(plan: &Plan) -> BTreeSet<&str> {
    let asked = |part: &&Plan| match &part.source {
        Source::Identity { ways } => ways.iter().any(|w| matches!(w, Way::Request { .. })),
        _ => false,
    };
    let items = plan.parts().filter(|part| !asked(part)).flat_map(|part| &part.items);
    items.flat_map(Item::names).map(String::as_str).collect()
}

/// Components that could not start again, and why.
fn lame(inventory: &Inventory, mended: &BTreeSet<&str>) -> BTreeMap<Component, String> {
    let mut lame = BTreeMap::new();
    for entry in inventory.entries.iter().filter(|e| !mended.contains(e.name.as_str())) {
        let Some(why) = keeps_from_starting(inventory, entry) else { continue };
        for component in &entry.used_by {
            lame.entry(*component).or_insert_with(|| why.clone());
        }
    }
    lame
}

/// Files that a component reads at its start, and ends if it cannot. The kubelet also ends with an identity that has expired
/// (kubernetes: `cmd/kubelet/app/server.go`, `pkg/kubelet/certificate/bootstrap/bootstrap.go:isClientConfigStillValid`).
fn keeps_from_starting(inventory: &Inventory, entry: &Entry) -> Option<String> {
    use Problem as P;
    let of_file = |f: &&Finding| {
        matches!(
            f.id,
            P::Missing
                | P::Unreadable
                | P::Malformed
                | P::Empty
                | P::DanglingSymlink
                | P::KeyMismatch
                | P::PointsNowhere
        )
    };
    // it makes what it serves with itself where a file of that is missing
    if entry.name == SERVING {
        return None;
    }
    match &entry.content {
        Content::Absent => None,
        Content::Unusable(finding) => Some(finding.message.clone()),
        // of a CA the certificate is read
        Content::Readable(_) if entry.is_ca() => None,
        Content::Readable(c) => {
            let expired = (entry.name == CLIENT || entry.name == CONFIG)
                && c.chain.first().is_some_and(|leaf| leaf.not_after <= inventory.collected_at);
            let bad = c.findings.iter().find(of_file).map(|f| f.message.clone());
            bad.or_else(|| expired.then(|| format!("{} has expired", entry.name)))
        }
    }
}

/// Who of these might be restarted for an item.
fn restarted<'l>(
    basis: Basis<'_>,
    item: &Item,
    lame: &'l BTreeMap<Component, String>,
) -> Option<(Component, &'l String)> {
    let entries: Vec<&Entry> = item.names().filter_map(|name| basis.inventory.get(name)).collect();
    lame.iter().find(|(component, _)| steps::is_activated_by(basis, **component, &entries)).map(|(c, why)| (*c, why))
}
