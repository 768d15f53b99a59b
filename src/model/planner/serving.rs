//! A serving certificate that the cluster signs, in a plan: asked for in the kubelet's stead.

use jiff::Timestamp;

use super::{Basis, Selection, pending, unsigned_item};
use crate::model::identity::USER;
use crate::model::inventory::{Entry, Form, Inventory, Owner};
use crate::model::plan::{Item, Maker, Skipped, Socket, Source};
pub(super) use crate::model::serving::SERVING;
use crate::model::wiring;

/// Whether the entry is its matter: what lies in files of somebody's own is not.
pub(super) fn takes(entry: &Entry) -> bool {
    entry.name == SERVING && entry.owner == Owner::Kubelet
}

/// A transaction of its own, where it was asked for and is wanted.
pub(super) fn part(
    basis: Basis<'_>,
    selection: &Selection,
    asked: &[&Entry],
    skipped: &mut Vec<Skipped>,
    now: Timestamp,
) -> Option<(Vec<Item>, Maker)> {
    let entry = asked.first()?;
    let mut skip = |reason: &str| skipped.push(pending::skipped(basis, selection, entry, reason.to_owned()));
    let Some(repair) = basis.assessment.serving.as_ref() else {
        skip("the kubelet rotates it by itself");
        return None;
    };
    if !basis.live {
        skip("it has to be asked for by the running node");
        return None;
    }
    let Form::Combined { path: link } = &entry.form else { return None };
    let file = link.with_file_name(now.strftime("kubelet-server-%Y-%m-%d-%H-%M-%S.pem").to_string());
    // whatever lies where the kubelet would make its next link becomes one too
    let obstacle = basis.inventory.node.kubelet.identity.serving_obstacle.clone();
    let form = Form::Dated { file, link: link.clone(), obstacle };
    let base = unsigned_item(basis.inventory, entry, repair.reason.clone());
    let user = basis.inventory.node.name.as_ref().map(|n| format!("{USER}{n}"));
    let item = Item { form, owner: Owner::Certwarden, old_not_after: repair.until, user, ..base };
    let maker = Maker { source: Source::Identity { ways: repair.ways.clone() }, why: repair.reason.clone() };
    Some((vec![item], maker))
}

/// Where what did not exist before is to be served.
pub(super) fn socket(inventory: &Inventory, items: &[Item]) -> Option<Socket> {
    let new = inventory.get(SERVING).is_some_and(|e| e.leaf().is_none()) && items.iter().any(|i| i.name == SERVING);
    wiring::kubelet_socket(&inventory.node).filter(|_| new)
}
