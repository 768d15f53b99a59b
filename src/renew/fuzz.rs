//! What must hold of everything that kubeadm and the cluster tell.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use jiff::Timestamp;
use serde_json::Value;

use super::cluster_config::understood;
use super::csr::fits;
use super::staging::{Answer, Order, words};
use crate::host::crypto;
use crate::host::exec::Output;
use crate::model::cert::parse_pem;
use crate::model::compare::node_identity;
use crate::model::csr::{self, Kind, Stage};
use crate::model::fuzz::texts;
use crate::model::plain;
use crate::model::version::Version;

/// A `ClusterConfiguration` that is understood is the same after it was written for kubeadm.
pub fn cluster_config(data: &[u8]) {
    let Some([version, text]) = texts(data) else { return };
    let parsed = Version::parse(version);
    if let Some(v) = parsed {
        assert_eq!(Version::parse(&v.to_string()), parsed);
        assert!(v.reads(v.writes()) || v.minor < 13, "{v} does not read what is written for it");
    }
    for kubeadm in
        [parsed.unwrap_or(Version { major: 1, minor: 34, patch: 2 }), Version { major: 1, minor: 20, patch: 2 }]
    {
        if let Ok(cluster) = understood(text, kubeadm) {
            let printed = serde_json::to_string_pretty(&Value::Object(cluster.clone())).unwrap();
            assert_eq!(understood(&printed, kubeadm), Ok(cluster));
        }
    }
}

/// The staging process' answer and order, and kubeadm's last words: one line that a terminal can be shown.
pub fn staging(data: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Answer>(data) {
        let printed = serde_json::to_string(&answer).unwrap();
        let again: Answer = serde_json::from_str(&printed).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), printed);
    }
    let _ = serde_json::from_slice::<Order>(data);
    let Some([stdout, stderr]) = texts(data) else { return };
    for code in [Some(0), Some(1), None] {
        let output = Output { code, signal: None, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        let said = words(&output);
        assert!(!said.is_empty() && said.chars().count() <= 300 && said.chars().all(plain::is_plain), "{said:?}");
    }
}

/// The key that the certificates of the seeds are for. Nobody else's.
const KEY: &[u8] = include_bytes!("../../fuzz/request.key");

/// A certificate signing request as the API tells it, and a certificate as whoever signs issues it: nothing of either reaches
/// a terminal raw, and what is accepted is the node's, for its key, in time.
pub fn request(data: &[u8]) {
    let Ok(body) = std::str::from_utf8(data) else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let Ok(request) = csr::parse(body) else { return };
    // in what nobody reads there may be numbers that no value can hold
    if let Ok(value) = serde_json::from_str::<Value>(body) {
        assert_eq!(csr::from_value(&value).ok(), Some(request.clone()));
    }
    let node = request.username.trim_start_matches("system:node:").to_owned();
    for kind in [Kind::Client, Kind::Serving] {
        let _ = csr::rotating(std::slice::from_ref(&request), &node, kind, now);
        if let Some(found) = csr::findings(std::slice::from_ref(&request), &node, kind.signer(), now) {
            assert!(found.message.chars().all(plain::is_plain) && found.message.chars().count() < 1000, "{found:?}");
        }
        let filed = csr::request(kind, &request.name, body.as_bytes(), None);
        let filed = csr::parse(&filed).unwrap();
        assert_eq!((&filed.name, filed.signer.as_str(), &filed.stage), (&request.name, kind.signer(), &Stage::Pending));
    }
    if let Stage::Issued { certificate } = &request.stage {
        issued(certificate, now);
    }
}

fn issued(certificate: &[u8], now: Timestamp) {
    const USER: &str = "system:node:node-1";
    let accepted = fits(certificate, KEY, &[]);
    let Ok(chain) = parse_pem(certificate) else {
        assert!(accepted.is_err());
        return;
    };
    let Some(leaf) = chain.first() else { return };
    let own = crypto::public_key_der(KEY).unwrap();
    assert_eq!(accepted.is_ok(), leaf.spki == own, "{accepted:?}");
    for old in [None, Some(leaf)] {
        let objections = node_identity(USER, Kind::Client.usage(), old, leaf, &[], now);
        assert!(objections.iter().all(|o| !o.message.is_empty()));
        let fit = leaf.common_name.as_deref() == Some(USER)
            && leaf.organizations.iter().eq(["system:nodes"])
            && !leaf.is_ca
            && leaf.not_before <= now
            && leaf.not_after > now
            && leaf.usages.contains("clientAuth");
        assert!(fit || !objections.is_empty(), "{leaf:?}");
        assert!(old.is_none() || !objections.is_empty(), "it has the key of the old one");
    }
}
