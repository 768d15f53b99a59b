//! The approver at work: looks for requests of kubelets for serving certificates, decides ([`approve`]) and says so. Off
//! unless the configuration says otherwise; on a thread of its own, so that nothing waits for the API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::collect::collect;
use crate::host::fs::Root;
use crate::host::journal::id;
use crate::host::kube::Connection;
use crate::host::{Host, crypto};
use crate::model::addresses::{self, Addresses};
use crate::model::approve::{self, Decision, Filed, Known};
use crate::model::cause::chain;
use crate::model::csr::{self, SERVING_SIGNER, Stage};
use crate::model::inventory::Role;
use crate::model::policy::{Approver as Rules, Policy};
use crate::verify::{REQUEST, api, pages};

/// Decided in one pass; the rest is there in the next.
const AT_ONCE: usize = 50;
/// Approvals of this age count against `approver.per-hour`.
const HOUR: i64 = 3600;

/// What came of requests: `approved`, `denied`, `failed`.
pub type Tally = BTreeMap<&'static str, u64>;

/// The thread, once there is one, and what it shares with the daemon.
#[derive(Debug, Default)]
pub(super) struct Approver {
    shared: Arc<Mutex<Shared>>,
    runs: bool,
}

#[derive(Debug, Default)]
struct Shared {
    policy: Policy,
    tally: Tally,
}

impl Approver {
    /// Goes by this configuration from now on.
    pub(super) fn configure(&mut self, root: &Root, policy: &Policy) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).policy = policy.clone();
        if !policy.approver.enabled || self.runs || !root.is_live() {
            return;
        }
        let (shared, path) = (Arc::clone(&self.shared), root.path().to_path_buf());
        let run = move || match Root::open(&path) {
            Ok(root) => forever(&mut Host::new(root), &shared),
            Err(e) => tracing::error!("the approver cannot begin: {}", chain(&e)),
        };
        match std::thread::Builder::new().name("approver".into()).spawn(run) {
            Ok(_) => self.runs = true,
            Err(e) => tracing::error!("the approver cannot begin: {e}"),
        }
    }

    /// What has been decided since it was last asked.
    pub(super) fn take(&self) -> Tally {
        std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).tally)
    }
}

/// It ends with the process: a request is decided by one call or not at all.
fn forever(host: &mut Host, shared: &Mutex<Shared>) {
    let mut trouble = String::new();
    loop {
        let policy = shared.lock().unwrap_or_else(PoisonError::into_inner).policy.clone();
        host.root.trust(&policy.gates.trusted_owners);
        if policy.approver.enabled {
            let mut tally = Tally::new();
            let now = here(host, &policy).and_then(|()| pass(host, &policy.approver, &mut tally)).err();
            told(&mut trouble, now.unwrap_or_default());
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            for (what, n) in tally {
                *shared.tally.entry(what).or_default() += n;
            }
        }
        host.clock.sleep(policy.approver.interval.0);
    }
}

/// What is told once is not told again every few seconds.
fn told(before: &mut String, now: String) {
    if *before != now && !now.is_empty() {
        tracing::warn!("the approver cannot work: {now}");
    } else if *before != now {
        tracing::info!("the approver works again");
    }
    *before = now;
}

fn here(host: &Host, policy: &Policy) -> Result<(), String> {
    match collect(&host.root, host.clock.now(), &policy.kubeconfigs).node.role {
        Role::ControlPlane => Ok(()),
        _ => Err("approver.enabled is for control planes, and this node is none".to_owned()),
    }
}

/// One look at all requests, and a decision about each that is open.
///
/// # Errors
/// A clause: why nothing could be looked at. What fails for one request is counted and told.
pub fn pass(host: &Host, rules: &Rules, tally: &mut Tally) -> Result<(), String> {
    let to = api::by_kubeconfig(host, &rules.kubeconfig, REQUEST)?;
    let filter = format!("&fieldSelector=spec.signerName%3D{}", SERVING_SIGNER.replace('/', "%2F"));
    let objects = pages::items(host, &to, csr::PATH, &filter)?;
    let all: Vec<(Filed, Value)> = objects.into_iter().filter_map(|o| Some((approve::filed(&o)?, o))).collect();
    let mut open: Vec<&(Filed, Value)> = all.iter().filter(|(filed, _)| filed.is_open()).collect();
    if open.is_empty() {
        return Ok(());
    }
    open.sort_by_key(|(filed, _)| filed.created);
    let nodes = nodes(host, &to)?;
    let mut approved: BTreeMap<&str, usize> = BTreeMap::new();
    for (filed, _) in all.iter().filter(|(f, _)| is_recent(f, host.clock.now().as_second())) {
        *approved.entry(filed.username.as_str()).or_default() += 1;
    }
    for (filed, object) in open.into_iter().take(AT_ONCE) {
        let so_far = approved.entry(filed.username.as_str()).or_default();
        let decision = decide(host, filed, &nodes, *so_far, rules);
        let Some(what) = carry_out(host, &to, filed, object, &decision) else { continue };
        *tally.entry(what).or_default() += 1;
        *so_far += usize::from(what == "approved");
    }
    Ok(())
}

fn is_recent(filed: &Filed, now: i64) -> bool {
    let approved = matches!(filed.stage, Stage::Approved | Stage::Issued { .. });
    approved && filed.created.is_none_or(|at| now.saturating_sub(at.as_second()) < HOUR)
}

fn nodes(host: &Host, to: &Connection) -> Result<BTreeMap<String, Addresses>, String> {
    let objects = pages::items(host, to, "/api/v1/nodes", "")?;
    Ok(objects.iter().filter_map(addresses::named).collect())
}

fn decide(host: &Host, filed: &Filed, nodes: &BTreeMap<String, Addresses>, approved: usize, rules: &Rules) -> Decision {
    let own = filed.node().unwrap_or_default();
    let mut others = Addresses::default();
    for (_, node) in nodes.iter().filter(|(name, _)| *name != own) {
        others.names.extend(node.names.iter().cloned());
        others.ips.extend(node.ips.iter().copied());
    }
    let signed = filed.asked.as_ref().is_ok_and(|asked| crypto::is_self_signed_request(&asked.der));
    let known = Known { node: nodes.get(own), others: &others, signed, approved, now: host.clock.now() };
    approve::decide(filed, known, rules)
}

/// What is to be counted; None: nothing was decided, or somebody else did.
fn carry_out(host: &Host, to: &Connection, filed: &Filed, object: &Value, decision: &Decision) -> Option<&'static str> {
    let Some(body) = approve::decided(object.clone(), decision, host.clock.now()) else {
        tracing::debug!("request {} is looked at again: {decision:?}", filed.name);
        return None;
    };
    let (name, who) = (filed.name.as_str(), filed.username.as_str());
    // a name is of the characters of a DNS name, or the API server would not have it
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b));
    let path = format!("{}/{name}/approval", csr::PATH);
    let answer = if plain { host.kube.put(to, &path, &body.to_string()).map_err(|e| chain(&e)) } else { return None };
    match answer.map(|a| a.status) {
        Ok(200 | 201) => {}
        // somebody else was faster, or it is gone
        Ok(404 | 409) => return None,
        Ok(status) => return Some(failed(name, &format!("the API server answered {status}"))),
        Err(why) => return Some(failed(name, &why)),
    }
    if let Decision::Deny(why) = decision {
        tracing::warn!(
            MESSAGE_ID = id::REQUEST_REFUSED.as_str(),
            cw_request = name,
            cw_user = who,
            "denied request {name} of {who} for a serving certificate: {why}"
        );
        return Some("denied");
    }
    let names = filed.asked.as_ref().map(|a| a.sans.join(", ")).unwrap_or_default();
    tracing::info!(
        MESSAGE_ID = id::REQUEST_APPROVED.as_str(),
        cw_request = name,
        cw_user = who,
        "approved request {name} of {who} for a serving certificate: {names}"
    );
    Some("approved")
}

fn failed(name: &str, why: &str) -> &'static str {
    tracing::warn!("request {name} is decided, and that cannot be said: {why}");
    "failed"
}
