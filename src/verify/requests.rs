//! The certificate signing requests of this node, as far as the API tells. Best effort: no answer is no finding.

use crate::host::Host;
use crate::host::kube::Connection;
use crate::model::assess::{Assessment, Severity};
use crate::model::csr::{self, CLIENT_SIGNER, Request, SERVING_SIGNER};
use crate::model::inventory::{Inventory, Owner};
use crate::model::repair::{CLIENT, Choice};
use crate::model::rotation::Rotation;
use crate::model::serving::SERVING;

use super::api;

/// Whether there may be requests to tell of: the rotation is at hand or late, or something of the kubelet's is missing. A
/// healthy node asks nobody.
pub fn worth_asking(inventory: &Inventory, assessment: &Assessment) -> bool {
    let entry = |name| inventory.get(name).filter(|e| e.owner == Owner::Kubelet);
    let at_hand = |name| {
        let leaf = entry(name).and_then(|e| e.leaf());
        leaf.is_some_and(|l| !matches!(Rotation::of(l, assessment.at), Rotation::NotDue { .. }))
    };
    let unwell = |name| entry(name).is_some() && assessment.get(name).is_some_and(|j| j.severity > Severity::Ok);
    assessment.identity != Choice::Nothing || [CLIENT, SERVING].into_iter().any(|n| at_hand(n) || unwell(n))
}

/// The requests for this node's client and serving certificates; None: they cannot be had.
pub fn own(host: &Host, inventory: &Inventory) -> Option<Vec<Request>> {
    let to = api::kubelets(host, inventory)?;
    let mut all = list(host, &to, CLIENT_SIGNER)?;
    if inventory.node.kubelet.server_tls_bootstrap {
        all.extend(list(host, &to, SERVING_SIGNER).unwrap_or_default());
    }
    Some(all)
}

pub(super) fn list(host: &Host, to: &Connection, signer: &str) -> Option<Vec<Request>> {
    // those of a cluster of thousands, in an hour at most (kubernetes: pkg/controller/certificates/cleaner)
    let signer = signer.replace('/', "%2F");
    let path = format!("{}?fieldSelector=spec.signerName%3D{signer}&limit=500", csr::PATH);
    let answer = host.kube.get(to, &path).ok().filter(|a| a.status == 200)?;
    csr::parse_list(&answer.body).ok()
}

/// Adds what the requests tell to what the disk told.
pub fn tell(assessment: &mut Assessment, inventory: &Inventory, requests: &[Request]) {
    let Some(node) = inventory.node.name.as_deref() else { return };
    let at = assessment.at;
    for (name, signer) in [(CLIENT, CLIENT_SIGNER), (SERVING, SERVING_SIGNER)] {
        let found = csr::findings(requests, node, signer, at);
        let judged = assessment.entries.iter_mut().find(|j| j.name == name);
        if let (Some(finding), Some(judged)) = (found, judged) {
            judged.severity = judged.severity.max(Severity::Warning);
            judged.findings.push(finding);
        }
    }
    assessment.verdict = crate::model::assess::overall(inventory, assessment);
}
