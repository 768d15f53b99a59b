//! The kubelet's serving certificate: configured, rotated, or its own.

use std::path::PathBuf;

use super::catalogue;
use super::control_plane::forget;
use super::load::{self, Expected};
use super::node_identity::plain_file;
use super::{Scene, has_finding, pair_form};
use crate::model::component::Component;
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Entry, Owner};

/// `kubelet-serving`: rotated, configured or self-signed.
pub(super) fn entry(scene: &Scene<'_>) -> Option<Entry> {
    let kubelet = &scene.kubelet.kubelet;
    if !scene.kubelet.present {
        return None;
    }
    let current = kubelet.cert_dir.join("kubelet-server-current.pem");
    let in_dir = |name: &str| kubelet.cert_dir.join(name);
    let (cert, key, mut owner, mut signer): (PathBuf, PathBuf, Owner, Option<&str>) =
        match (&scene.kubelet.tls_cert, &scene.kubelet.tls_key) {
            // the kubelet's own order: configured files win (kubernetes: cmd/kubelet/app/server.go:InitializeTLS)
            (Some(cert), Some(key)) => {
                (cert.clone(), key.clone(), Scene::owner(scene.authority("ca"), false), Some("ca"))
            }
            _ if kubelet.server_tls_bootstrap => (current.clone(), current, Owner::Kubelet, Some("ca")),
            _ => (in_dir("kubelet.crt"), in_dir("kubelet.key"), Owner::None, None),
        };
    if owner == Owner::None && !scene.lies(&cert) {
        return None; // the kubelet makes it at its next start
    }
    let authority = signer.and_then(|name| scene.authority(name));
    let wanted = Expected { signer: authority, usages: &["serverAuth"], ..Expected::default() };
    let mut content = load::pair(scene, &cert, &key, wanted);
    if let Content::Readable(credential) = &mut content {
        credential.findings.extend(plain_file(scene, &cert));
    }
    if owner != Owner::Kubelet && has_finding(&content, Problem::WrongIssuer) {
        // configured on purpose, from another CA
        forget(&mut content, Problem::WrongIssuer);
        (owner, signer) = (Owner::External, None);
    }
    Some(Entry {
        name: "kubelet-serving".to_owned(),
        form: pair_form(cert, key),
        owner,
        used_by: vec![Component::Kubelet],
        signer: signer.map(str::to_owned),
        impact: catalogue::KUBELET_SERVING.to_owned(),
        content,
    })
}
