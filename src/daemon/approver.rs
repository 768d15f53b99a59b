//! The approver at work: looks for requests of kubelets for serving certificates, decides ([`approve`]) and says so. Off
//! unless the configuration says otherwise; on a thread of its own, so that nothing waits for the API server.

mod gather;
mod memory;
mod pass;
pub mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::host::Host;
use crate::host::fs::Root;
use crate::host::journal::id;
use crate::host::kube::Connection;
use crate::model::approve::{self, Decision, Filed};
use crate::model::cause::chain;
use crate::model::csr;
use crate::model::policy::Policy;
pub use memory::Memory;
pub use pass::pass;
use view::View;

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
    undecided: usize,
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

    /// What has been decided since it was last asked, and how many requests are left to a person.
    pub(super) fn take(&self) -> (Tally, usize) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut shared.tally), shared.undecided)
    }
}

/// It ends with the process: a request is decided by one call or not at all.
fn forever(host: &mut Host, shared: &Mutex<Shared>) {
    let (mut trouble, mut memory) = (String::new(), Memory::open(&host.root, View::default()));
    loop {
        let policy = shared.lock().unwrap_or_else(PoisonError::into_inner).policy.clone();
        host.root.trust(&policy.gates.trusted_owners);
        if policy.approver.enabled {
            let mut tally = Tally::new();
            let now = pass(host, &policy, &mut memory, &mut tally).err();
            told(&mut trouble, now.unwrap_or_default());
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            for (what, n) in tally {
                *shared.tally.entry(what).or_default() += n;
            }
            shared.undecided = memory.undecided();
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

/// Told once; the metric says it as long as it holds.
fn left_to_a_person(filed: &Filed, why: &str, told: bool) {
    if told {
        return;
    }
    let (name, who) = (filed.name.as_str(), filed.username.as_str());
    tracing::warn!(
        MESSAGE_ID = id::REQUEST_UNDECIDED.as_str(),
        cw_request = name,
        cw_user = who,
        "request {name} of {who} for a serving certificate is left to a person: {why}"
    );
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
