//! Proof by use: how the node was before, and whether it is well again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::fs::MAX_FILE;
use crate::host::systemd::UnitStatus;
use crate::model::cert::{CertFacts, parse_pem};
use crate::model::component::Component;
use crate::model::health::{Judgement, NodeSnapshot};
use crate::model::inventory::Form;
use crate::model::plan::{Check, Proof, Step};
use crate::model::report::When;
use crate::model::wiring;
use crate::verify::REQUEST;
use crate::verify::api::connections;
use crate::verify::health;
use crate::verify::material::{Material, material};
use crate::verify::node::NodeWatch;
use crate::verify::prove::etcd_members;
use crate::verify::served::{Expected, await_served};

use super::run::{Run, Stop, chain};

/// The node before anything was touched: what "no worse" is measured by.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// None: the API could not be asked.
    pub node: Option<NodeSnapshot>,
    pub kubelet: Option<UnitStatus>,
    /// Members of etcd, where one runs here and answers.
    pub etcd_members: Option<usize>,
}

/// Looks before anything is touched. What cannot be seen is None.
pub fn before(run: &Run<'_>) -> Before {
    let (host, node) = (run.engine.host, &run.engine.inventory.node);
    run.engine.progress.step("looking at the node as it is", REQUEST * 3);
    let seen = node.name.as_ref().and_then(|name| {
        let to = connections(host, run.engine.inventory).into_iter().next()?;
        NodeWatch::start(host, &to, name).before().cloned()
    });
    let kubelet = node.kubelet.port.and_then(|_| host.services.status(&node.kubelet.unit).ok());
    Before {
        node: seen,
        kubelet,
        etcd_members: etcd_proof(run).and_then(|(name, proof)| members(run, &name, &proof).ok()),
    }
}

/// One check of the plan; what cannot be told is noted and passes.
pub fn verify(run: &mut Run<'_>, check: &Check) -> Result<(), Stop> {
    let limit = run.engine.policy.verify.timeout.0;
    match check {
        Check::Served(socket) => {
            run.engine.progress.step(format!("asking {} what it serves", socket.address), limit);
            let expected = [Expected { socket: socket.clone(), serial: on_disk(run, &socket.entry)?.serial }];
            let seen = await_served(run.engine.host, &expected, None, limit, &|| !run.engine.progress.should_stop());
            let wrong = seen.iter().find(|s| !s.ok).cloned();
            run.report.sockets.extend(seen);
            match wrong {
                Some(_) if run.engine.progress.should_stop() => Err(Stop::Asked),
                Some(s) if s.serial.is_none() => {
                    run.report.notes.push(format!("{} does not answer: what it serves cannot be told", s.address));
                    Ok(())
                }
                Some(s) => Err(Stop::Failed(format!(
                    "{} serves serial {}, but {} on the disk has {}",
                    s.address,
                    s.serial.unwrap_or_default(),
                    s.entry,
                    s.expected
                ))),
                None => Ok(()),
            }
        }
        Check::Health { component, url } => await_health(run, *component, url, limit),
        Check::EtcdMembers { .. } => etcd_as_before(run),
        Check::Credential { name, proof } => credential(run, name, proof),
        Check::NodeReady { node } => node_ready(run, node),
    }
}

/// The leaf that an entry has on the disk now.
pub fn on_disk(run: &Run<'_>, entry: &str) -> Result<CertFacts, Stop> {
    let found = run.engine.inventory.get(entry);
    let entry = found.ok_or_else(|| Stop::Failed(format!("{entry} is not in the inventory")))?;
    let bytes = run.engine.host.root.read_secret(entry.path())?;
    let first = parse_pem(&bytes)?.into_iter().next();
    first.ok_or_else(|| Stop::Failed(format!("{} holds no certificate", entry.path().display())))
}

fn credential(run: &mut Run<'_>, name: &str, proof: &Proof) -> Result<(), Stop> {
    run.engine.progress.step(format!("using the new {name}"), REQUEST * 3);
    let seen = run.put_to_use(name, proof, When::Verification)?;
    let refused = seen.proven == Some(false);
    let sentence = format!("the new {name} was refused by {}: {}", seen.against, seen.detail);
    run.report.credentials.push(seen);
    if refused { Err(Stop::Failed(sentence)) } else { Ok(()) }
}

/// Waits until the component says that it is well.
pub fn await_health(run: &mut Run<'_>, component: Component, url: &str, limit: Duration) -> Result<(), Stop> {
    run.engine.progress.step(format!("waiting for {component} to say that it is well"), limit + REQUEST);
    let keep_going = || !run.engine.progress.should_stop();
    let seen = health::await_health(run.engine.host, component, url, (None, None), limit, &keep_going);
    if seen.ok {
        return Ok(());
    }
    if run.engine.progress.should_stop() {
        return Err(Stop::Asked);
    }
    // in the dark the API server was away before anything was touched: no worse
    if component == Component::KubeApiserver && run.before.node.is_none() {
        run.report.notes.push(format!("{component} is not well, as before: {}", seen.detail));
        return Ok(());
    }
    Err(Stop::Failed(format!("{component} is not well: {}", seen.detail)))
}

fn etcd_as_before(run: &mut Run<'_>) -> Result<(), Stop> {
    let Some((name, proof)) = etcd_proof(run) else { return Ok(()) };
    match (run.before.etcd_members, members(run, &name, &proof)) {
        (Some(before), Ok(now)) if now < before => {
            Err(Stop::Failed(format!("etcd has {now} members, and had {before} before")))
        }
        (_, Err(why)) => {
            run.report.notes.push(format!("etcd's members cannot be told: {why}"));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// With two members a restart of either loses the quorum.
pub fn may_restart_etcd(run: &Run<'_>) -> Result<(), Stop> {
    let known = etcd_proof(run).and_then(|(name, proof)| members(run, &name, &proof).ok());
    match known.or(run.before.etcd_members) {
        Some(2) => Err(Stop::Failed(
            "etcd did not take its new certificates by itself, and restarting one of two members would lose the quorum"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// A credential with which etcd can be asked, and where.
fn etcd_proof(run: &Run<'_>) -> Option<(String, Proof)> {
    let inventory = run.engine.inventory;
    ["etcd-healthcheck-client", "apiserver-etcd-client", "etcd-server"].iter().find_map(|name| {
        let entry = inventory.get(name)?;
        entry.leaf()?;
        let proof = wiring::proofs(inventory, entry).into_iter().find(|p| matches!(p, Proof::Etcd { .. }))?;
        Some(((*name).to_owned(), proof))
    })
}

fn members(run: &Run<'_>, name: &str, proof: &Proof) -> Result<usize, String> {
    let Proof::Etcd { endpoint, ca } = proof else { return Err("not an etcd endpoint".to_owned()) };
    let entry = run.engine.inventory.get(name).ok_or("not in the inventory")?;
    let material = live_material(run, &entry.form).map_err(|e| stop_text(&e))?;
    let ca = run.engine.host.root.read(ca, MAX_FILE).map_err(|e| chain(&e))?;
    etcd_members(run.engine.host, endpoint, &ca, &material).map(|m| m.total).map_err(|e| chain(&e))
}

fn node_ready(run: &mut Run<'_>, node: &str) -> Result<(), Stop> {
    let (host, limit) = (run.engine.host, run.engine.policy.verify.timeout.0);
    run.engine
        .progress
        .step(format!("waiting for node {node} to report Ready again"), limit.saturating_mul(2) + REQUEST);
    let Some(to) = connections(host, run.engine.inventory).into_iter().next() else {
        run.report.notes.push(format!("whether node {node} is Ready cannot be told: no credential to ask with"));
        return Ok(());
    };
    let since = run.restarted_kubelet_at.unwrap_or_else(|| without_restart(run.swapped_at));
    let watch = NodeWatch::resume(node, run.before.node.clone());
    let (seen, judgement) = watch.await_ready(host, &to, since, limit, &|| !run.engine.progress.should_stop());
    run.report.node = Some(seen);
    match judgement {
        Judgement::Healthy => Ok(()),
        Judgement::CannotTell(_) if run.engine.progress.should_stop() => Err(Stop::Asked),
        Judgement::CannotTell(why) => {
            run.report.notes.push(format!("whether node {node} is Ready cannot be told: {why}"));
            Ok(())
        }
        Judgement::NotYet(why) | Judgement::Failed(why) => {
            Err(Stop::Failed(format!("node {node} is not Ready again: {why}")))
        }
    }
}

/// A kubelet that goes on running reports its status every 5 minutes, half as much again when it was spread
/// (kubernetes: `pkg/kubelet/kubelet_node_status.go`, nodeStatusReportFrequency): then a younger heartbeat than this
/// cannot be asked for, and its lease has to tell that it lives.
fn without_restart(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_mins(10)).unwrap_or(at)
}

fn live_material(run: &Run<'_>, form: &Form) -> Result<Material, Stop> {
    Ok(material(form, &|path| run.engine.host.root.read_secret(path))?)
}

fn stop_text(stop: &Stop) -> String {
    match stop {
        Stop::Failed(why) => why.clone(),
        Stop::Asked => "stopped".to_owned(),
    }
}

/// Whether what the plan replaced could still be used at `now`: nothing else is worth going back to.
pub fn old_still_work(run: &Run<'_>, now: Timestamp) -> bool {
    run.plan.items.iter().all(|i| i.old_not_after.is_some_and(|end| end > now))
}

/// The sockets of the plan, which must serve what is on the disk after a rollback too.
pub fn served_again(run: &mut Run<'_>) -> Vec<Stop> {
    let checks: Vec<Check> = run
        .plan
        .steps
        .iter()
        .filter_map(|s| match &s.step {
            Step::Verify { check: check @ (Check::Served(_) | Check::NodeReady { .. }) } => Some(check.clone()),
            _ => None,
        })
        .collect();
    run.report.sockets.clear();
    checks.iter().filter_map(|c| verify(run, c).err()).collect()
}
