//! From what is renewed to the steps that do it: made, proven, put in place, taken up, verified.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Basis, changed, identity, serving};
use crate::model::component::Component;
use crate::model::consumer::{self, OtherUse, Uptake};
use crate::model::inventory::{Entry, Form, Inventory};
use crate::model::plan::{Activation, Check, Item, PlannedStep, Proof, Socket, Source, Step};
use crate::model::policy::{ActivateKubelet, OtherPods};
use crate::model::serving::SERVING;
use crate::model::wiring;

/// What is done with these items, in order.
pub(super) fn steps(
    basis: Basis<'_>,
    items: &[Item],
    source: &Source,
    others: &[OtherUse],
    spared: &BTreeSet<Component>,
) -> Vec<PlannedStep> {
    let names: Vec<String> = items.iter().map(|i| i.name.clone()).collect();
    let files: Vec<PathBuf> = items.iter().flat_map(|i| i.form.files()).map(PathBuf::from).collect();
    let mut steps = Vec::new();
    let mut add = |step, reason: String| steps.push(PlannedStep { step, reason });
    add(Step::Backup { files: files.clone() }, "so that every file can be put back as it was".to_owned());
    add(Step::Stage { names: names.clone() }, made(source));
    add(Step::Validate { names }, "a new credential must be at least what the old one is".to_owned());
    for (name, proof) in proofs(basis, items) {
        add(Step::Rehearse { name, proof }, "proven before it is live".to_owned());
    }
    let held = if basis.live && items.iter().any(|i| i.form.by_name()) { ", with the kubelet stopped" } else { "" };
    add(Step::Commit { files }, format!("all renames back to back{held}"));
    if basis.live {
        for (component, how, reason) in activations(basis, items, others, spared) {
            add(Step::Activate { component, how }, reason);
        }
        // last: the node does not wait for what is none of its components
        for other in others.iter().filter(|_| basis.policy.activate.other_pods == OtherPods::Restart) {
            let reason = format!("activate.other-pods is restart, and it sees {}", other.entries.join(", "));
            add(Step::ActivateOther { container: other.container.clone() }, reason);
        }
        for (check, reason) in checks(basis, items, others) {
            add(Step::Verify { check }, reason);
        }
    }
    if let Some(admin) = items.iter().find(|i| i.name == "admin.conf")
        && !basis.inventory.copies.is_empty()
    {
        let (original, copies) = (admin.form.path().to_path_buf(), basis.inventory.copies.clone());
        add(Step::Refresh { original, copies }, "last: what they hold works until the new one is proven".to_owned());
    }
    steps
}

fn made(source: &Source) -> String {
    match source {
        Source::Kubeadm => "made by kubeadm in a private copy; nothing live changes".to_owned(),
        Source::Local => "signed with the CA keys on this disk; nothing live changes".to_owned(),
        Source::SelfMade | Source::Identity { .. } => format!("by {source}; nothing live changes"),
        Source::Generation { .. } => format!("taken from {source}; nothing live changes"),
    }
}

/// Under `--root` nothing answers, but a handshake in memory needs nobody.
fn proofs(basis: Basis<'_>, items: &[Item]) -> Vec<(String, Proof)> {
    let of = |i: &Item| {
        if let Some(proof) = identity::proof(basis.inventory, i) {
            return vec![(i.name.clone(), proof)];
        }
        let entries = i.names().filter_map(|name| basis.inventory.get(name));
        let proofs = |e: &Entry| wiring::proofs(basis.inventory, e).into_iter().map(|p| (e.name.clone(), p)).collect();
        entries.flat_map(|e| -> Vec<(String, Proof)> { proofs(e) }).collect()
    };
    items.iter().flat_map(of).filter(|(_, p)| basis.live || matches!(p, Proof::Handshake { .. })).collect()
}

/// Who must take up what has changed, in the order of [`Component::ALL`].
fn activations(
    basis: Basis<'_>,
    items: &[Item],
    others: &[OtherUse],
    spared: &BTreeSet<Component>,
) -> Vec<(Component, Activation, String)> {
    let changed = changed(basis, items);
    let processes = processes_use(&changed, others);
    Component::ALL
        .into_iter()
        .filter_map(|component| {
            let used: Vec<&Entry> = changed.iter().copied().filter(|e| e.used_by.contains(&component)).collect();
            let (how, reason) = match component {
                Component::Kubelet if used.is_empty() && spared.contains(&component) => return None,
                Component::Kubelet if !changed.is_empty() && changed.iter().all(|e| reloaded_by_the_kubelet(e)) => {
                    serving_pair(basis)?
                }
                Component::Kubelet => kubelets(basis, &used, processes)?,
                _ => pods(basis.inventory, component, &used)?,
            };
            Some((component, how, reason))
        })
        .collect()
}

/// Whether a component might be restarted for these entries.
pub(super) fn is_activated_by(basis: Basis<'_>, component: Component, entries: &[&Entry]) -> bool {
    let used: Vec<&Entry> = entries.iter().copied().filter(|e| e.used_by.contains(&component)).collect();
    match component {
        Component::Kubelet => !used.is_empty(),
        _ => pods(basis.inventory, component, &used).is_some(),
    }
}

/// How a static pod takes up the entries that it uses: measured on the sockets that serve them, by a new container
/// where nothing shows whether it did. None: it reads them when it needs them, and their use proves it.
fn pods(inventory: &Inventory, component: Component, used: &[&Entry]) -> Option<(Activation, String)> {
    let node = &inventory.node;
    node.static_pods.get(&component)?;
    let sockets: Vec<Socket> = wiring::sockets(inventory)
        .into_iter()
        .filter(|s| s.component == component && used.iter().any(|e| e.name == s.entry))
        .collect();
    let shown = |e: &Entry| sockets.iter().any(|s| s.entry == e.name);
    let uptakes = || used.iter().map(|e| (*e, consumer::uptake(node, component, e)));
    let health = wiring::health_url(node, component);
    let unseen: Vec<String> = uptakes()
        .filter(|(e, (uptake, _))| *uptake == Uptake::NewProcess && !shown(e))
        .map(|(e, (_, how))| format!("{}: {component} {how}", e.name))
        .collect();
    if !unseen.is_empty() {
        return Some((Activation::NewContainer { health }, unseen.join("; ")));
    }
    let (uptake, how) =
        uptakes().filter(|(e, _)| shown(e)).map(|(_, uptake)| uptake).max_by_key(|(uptake, _)| *uptake)?;
    let names: Vec<&str> = used.iter().filter(|e| shown(e)).map(|e| e.name.as_str()).collect();
    let reason = format!("{}: {component} {how}; restarted only if it does not serve the new one", names.join(", "));
    Some((Activation::ReloadOrRestart { uptake, sockets, health }, reason))
}

/// Whether some process of this node uses what changes.
fn processes_use(changed: &[&Entry], others: &[OtherUse]) -> bool {
    !others.is_empty() || changed.iter().any(|e| !only_people_use(e))
}

/// A kubeconfig that no process of this node is started with: admin.conf and its like.
fn only_people_use(entry: &Entry) -> bool {
    entry.used_by.is_empty() && matches!(entry.form, Form::Kubeconfig { .. })
}

/// `processes`: some process of this node uses what changes. A restart re-runs the admission of every pod and brings every
/// pending change of the kubelet to life: nobody gets that for a kubeconfig that only people use.
fn kubelets(basis: Basis<'_>, used: &[&Entry], processes: bool) -> Option<(Activation, String)> {
    let kubelet = &basis.inventory.node.kubelet;
    let reason = match basis.policy.activate.kubelet {
        ActivateKubelet::Always if !processes => return None,
        ActivateKubelet::Always => "activate.kubelet is always: a kubelet that cannot start is found now",
        ActivateKubelet::WhenNeeded if used.is_empty() => return None,
        ActivateKubelet::WhenNeeded => "something that it reads has changed",
    };
    kubelet.port?;
    Some((Activation::RestartUnit { unit: kubelet.unit.clone() }, reason.to_owned()))
}

/// The pair that the kubelet serves with, where it is read from files that it does not rotate itself. Since 1.31 it reads
/// them again by itself (kubernetes: `pkg/kubelet/kubelet.go`, `ReloadKubeletServerCertificateFile`).
fn reloaded_by_the_kubelet(entry: &Entry) -> bool {
    entry.name == SERVING && matches!(entry.form, Form::Pair { .. })
}

/// Nobody verifies what the kubelet signs itself: that alone is no reason for a restart, which re-runs the admission of every
/// pod. Its version is not known here, so that its socket is asked.
fn serving_pair(basis: Basis<'_>) -> Option<(Activation, String)> {
    let node = &basis.inventory.node;
    let sockets: Vec<Socket> = wiring::kubelet_socket(node).into_iter().collect();
    let reason =
        format!("{SERVING}: the kubelet reads it again by itself since 1.31; restarted only if it does not serve it");
    let activation = Activation::ReloadOrRestart { uptake: consumer::DYNAMIC, sockets, health: None };
    node.kubelet.port.map(|_| (activation, reason))
}

/// What must hold afterwards. Of what only people use: that it is accepted, and nothing else. No process takes it up, so that
/// nothing that ails the node now can come of it, and a rollback would cure nothing.
fn checks(basis: Basis<'_>, items: &[Item], others: &[OtherUse]) -> Vec<(Check, String)> {
    let inventory = basis.inventory;
    let processes = processes_use(&changed(basis, items), others);
    let mut all = if processes { of_the_control_plane(inventory, items) } else { Vec::new() };
    for (name, proof) in proofs(basis, items) {
        // a handshake in memory was made with the very same bytes before the commit
        if !matches!(proof, Proof::Handshake { .. }) {
            all.push((Check::Credential { name, proof }, "accepted as who it should be".to_owned()));
        }
    }
    if items.iter().any(|i| i.name == "front-proxy-client") {
        let check = Check::Aggregated { name: "front-proxy-client".to_owned() };
        all.push((check, "aggregated APIs must answer as before".to_owned()));
    }
    if let Some(node) = inventory.node.name.clone().filter(|_| processes) {
        all.push((Check::NodeReady { node }, "Ready by a heartbeat newer than the restart".to_owned()));
    }
    all
}

fn of_the_control_plane(inventory: &Inventory, items: &[Item]) -> Vec<(Check, String)> {
    let mut all = Vec::new();
    for socket in wiring::sockets(inventory).into_iter().chain(serving::socket(inventory, items)) {
        all.push((Check::Served(socket), "what is on the wire must be what is on the disk".to_owned()));
    }
    for component in Component::ALL {
        // etcd is asked through its members; there may be no answer from any of them
        let asked = component != Component::Etcd;
        if let Some(url) = wiring::health_url(&inventory.node, component).filter(|_| asked) {
            all.push((Check::Health { component, url }, "it must say that it is healthy".to_owned()));
        }
    }
    all.extend(wiring::etcd_members(&inventory.node).map(|check| (check, "no member may be lost".to_owned())));
    all
}
