//! One look at all requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::{Memory, Tally, gather};
use crate::collect::collect;
use crate::host::fs::MAX_FILE;
use crate::host::kube::Connection;
use crate::host::{Host, crypto};
use crate::model::approve::cluster::Cluster;
use crate::model::approve::queue::Queue;
use crate::model::approve::{self, Decision, Filed, Here, Known};
use crate::model::cause::chain;
use crate::model::csr::{self, SERVING_SIGNER, Stage};
use crate::model::inventory::{Inventory, Role};
use crate::model::policy::{Approver as Rules, Policy};
use crate::verify::{REQUEST, api, pages};

/// Decided in one pass; the rest is there in the next.
const AT_ONCE: usize = 50;
/// Approvals of this age count against `approver.per-hour`.
const HOUR: i64 = 3600;
/// How often Nodes are looked at while nobody asks for anything: one that comes and goes in between is never known.
const LOOK: i64 = 300;
/// Requests of which it is known that they were told: more than that are told again.
const MOST_TOLD: usize = 10_000;
/// Addresses in a request that are looked for on this host; one with more is refused.
const MOST_LOCAL: usize = 64;

/// What a decision goes by, of one pass.
struct Scene<'a> {
    host: &'a Host,
    to: Connection,
    rules: &'a Rules,
    cluster: Cluster,
    /// This control plane's own Node.
    node: Option<String>,
    /// Who issues the kubelets' certificates, PEM.
    ca: Vec<u8>,
}

/// One look at all requests, and a decision about each that is open.
///
/// # Errors
/// A clause: why nothing could be looked at. What fails for one request is counted and told.
pub fn pass(host: &Host, policy: &Policy, memory: &mut Memory, tally: &mut Tally) -> Result<(), String> {
    let rules = &policy.approver;
    let inventory = collect(&host.root, host.clock.now(), &policy.kubeconfigs);
    if inventory.node.role != Role::ControlPlane {
        return Err("approver.enabled is for control planes, and this node is none".to_owned());
    }
    let to = api::by_kubeconfig(host, &rules.kubeconfig, REQUEST)?;
    let now = host.clock.now();
    let (queue, approved) = requests(host, &to, now)?;
    memory.leave_out(queue.left_out);
    if queue.is_empty() {
        (memory.undecided, memory.told) = (0, BTreeSet::new());
        let due = memory.looked.is_none_or(|at| now.as_second().saturating_sub(at.as_second()) >= LOOK);
        return if due { memory.look(host, &to) } else { Ok(()) };
    }
    if memory.knows(&queue, rules, now) {
        return Ok(());
    }
    memory.look(host, &to)?;
    let scene = scene(host, to, rules, &inventory)?;
    work(&scene, queue, approved, memory, tally);
    Ok(())
}

fn scene<'a>(host: &'a Host, to: Connection, rules: &'a Rules, inventory: &Inventory) -> Result<Scene<'a>, String> {
    let cluster = gather::cluster(host, &to, inventory)?;
    let node = inventory.node.name.clone().filter(|_| inventory.node.name_doubt.is_none());
    let ca = inventory.get("ca").ok_or("there is no CA of the cluster")?;
    let ca = host.root.read(ca.path(), MAX_FILE).map_err(|e| chain(&e))?;
    Ok(Scene { host, to, rules, cluster, node, ca })
}

type Waiting = Queue<(Filed, Value)>;
/// Approvals within the hour, by who asked.
type Approved = BTreeMap<String, usize>;

/// The requests that are open, and how many of each user were approved lately.
fn requests(host: &Host, to: &Connection, now: Timestamp) -> Result<(Waiting, Approved), String> {
    let filter = format!("&fieldSelector=spec.signerName%3D{}", SERVING_SIGNER.replace('/', "%2F"));
    let (mut queue, mut approved) = (Waiting::default(), Approved::new());
    let unread = pages::each(host, to, csr::PATH, &filter, &mut |object| {
        let Some(filed) = approve::filed(&object) else { return };
        if filed.is_open() {
            let (user, created, size) = (filed.username.clone(), filed.created, object.to_string().len());
            queue.offer(&user, created, size, (filed, object));
        } else if is_recent(&filed, now.as_second()) {
            *approved.entry(filed.username).or_default() += 1;
        }
    });
    queue.left_out += unread.map_err(|e| e.to_string())?;
    Ok((queue, approved))
}

fn is_recent(filed: &Filed, now: i64) -> bool {
    let approved = matches!(filed.stage, Stage::Approved | Stage::Issued { .. });
    approved && filed.created.is_none_or(|at| now.saturating_sub(at.as_second()) < HOUR)
}

/// Decides about all that wait, one of each user before the second of any.
fn work(scene: &Scene<'_>, queue: Waiting, mut approved: Approved, memory: &mut Memory, tally: &mut Tally) {
    let (mut decided, mut undecided, mut whole) = (0, BTreeSet::new(), true);
    memory.undecided = 0;
    memory.seen.begin(scene.host.clock.now());
    let mut last = None;
    for (user, (filed, object)) in queue.in_turn(&memory.last) {
        let so_far = approved.entry(user.clone()).or_default();
        let decision = decide(scene, &filed, *so_far, memory);
        if let Decision::Undecided(why) = &decision {
            memory.undecided += 1;
            super::left_to_a_person(&filed, why, memory.told.contains(&filed.name));
            undecided.insert(filed.name.clone());
        }
        if let Some(what) = super::carry_out(scene.host, &scene.to, &filed, &object, &decision) {
            *tally.entry(what).or_default() += 1;
            *so_far += usize::from(what == "approved");
            decided += 1;
        }
        // whoever had no turn begins the next pass
        if decided >= AT_ONCE {
            (last, whole) = (Some(user), false);
            break;
        }
        if memory.seen.is_tired() {
            last.get_or_insert(user);
        }
    }
    memory.last = last.unwrap_or_default();
    // what was not come to this time may have been told before
    if !whole && memory.told.len() < MOST_TOLD {
        undecided.append(&mut memory.told);
    }
    memory.told = undecided;
    memory.judged = Some((scene.rules.clone(), scene.host.clock.now()));
}

/// Everything about one request is asked until it can be decided.
fn decide(scene: &Scene<'_>, filed: &Filed, approved: usize, memory: &mut Memory) -> Decision {
    let node = filed.node().unwrap_or_default();
    let now = scene.host.clock.now();
    let asked = filed.asked.as_ref().ok();
    let ips = asked.into_iter().flat_map(|a| &a.sans).filter_map(|san| san.strip_prefix("IP:")?.parse::<IpAddr>().ok());
    let local: BTreeSet<IpAddr> = ips.take(MOST_LOCAL).filter(|ip| (memory.view.local)(*ip)).collect();
    let signed = asked.is_some_and(|asked| crypto::is_self_signed_request(&asked.der));
    let mut answered = BTreeMap::new();
    loop {
        let known = Known {
            neighbours: &memory.neighbours,
            cluster: &scene.cluster,
            here: Here { node: scene.node.as_deref(), local: &local },
            answered: &answered,
            signed,
            approved,
            now,
        };
        let ips = match approve::decide(filed, known, scene.rules) {
            Decision::Ask(ips) => ips,
            decision => return decision,
        };
        let before = answered.len();
        for ip in ips {
            match memory.seen.ask(&memory.view, node, ip, &scene.ca, now) {
                Some(answer) => answered.insert(ip, answer),
                None => return Decision::Wait(format!("whether its kubelet answers at {ip} is seen in the next pass")),
            };
        }
        if answered.len() == before {
            return Decision::Wait("its addresses are looked at again".to_owned());
        }
    }
}
