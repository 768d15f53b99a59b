//! What must hold of everything that kubeadm and the cluster tell.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use serde_json::Value;

use super::cluster_config::understood;
use super::staging::{Answer, Order, words};
use crate::host::exec::Output;
use crate::model::fuzz::texts;
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
        assert!(!said.is_empty() && said.chars().count() <= 300 && !said.contains(char::is_control), "{said:?}");
    }
}
