//! The kubelet's own credentials, and copies of credentials that people keep.

use std::path::{Path, PathBuf};

use super::catalogue;
use super::control_plane::forget;
use super::load::{self, Expected};
use super::{Scene, has_finding, pair_form};
use crate::model::component::Component;
use crate::model::inventory::{Content, Credential, Entry, Finding, Form, Owner, Problem};
use crate::model::kubeconfig::{Identity, Kubeconfig};

/// What the node authorizer wants to see (kubernetes: `pkg/auth/nodeidentifier/default.go`).
const NODE: &str = "system:node:";
const NODES: &[&str] = &["system:nodes"];

/// `kubelet-client`, and `kubelet.conf` where that holds an identity of its own besides.
pub(super) fn client(scene: &mut Scene<'_>) -> Vec<Entry> {
    let Some(conf) = scene.kubelet.kubelet.kubeconfig.clone() else { return Vec::new() };
    let current = scene.kubelet.kubelet.cert_dir.join("kubelet-client-current.pem");
    let config = load::kubeconfig(scene.root, &conf);
    let mut entries = Vec::new();
    match &config {
        Ok(Kubeconfig { identity: Identity::Embedded { cert, key }, .. }) => {
            let rotated = scene.lies(&current);
            let name = if rotated { "kubelet.conf" } else { "kubelet-client" };
            entries.extend(
                config.iter().map(|c| embedded(scene, name, &conf, c, (cert, key), rotated.then_some(&*current))),
            );
            if rotated {
                entries.push(by_file(scene, &current, &current, None));
            }
        }
        Ok(config) => {
            if let Some((cert, key)) = load::referred(&conf, &config.identity) {
                entries.push(by_file(scene, &cert, &key, config.server.clone()));
            } else {
                scene.notes.push(format!("{} authenticates without a certificate: nothing to check", conf.display()));
            }
        }
        Err(finding) if scene.lies(&current) => {
            // the kubeconfig is what is broken; the identity behind it can be seen all the same
            let broken =
                entry(scene, "kubelet.conf", Form::Kubeconfig { path: conf }, Content::Unusable(finding.clone()));
            entries.push(Entry { owner: Owner::None, impact: catalogue::KUBELET_CONF.to_owned(), ..broken });
            entries.push(by_file(scene, &current, &current, None));
        }
        Err(finding) => {
            let form = Form::Kubeconfig { path: conf };
            entries.push(entry(scene, "kubelet-client", form, Content::Unusable(finding.clone())));
        }
    }
    entries
}

fn expected<'a>(scene: &'a Scene<'_>, own: Option<&'a str>, usages: &'a [&'a str]) -> Expected<'a> {
    Expected { signer: scene.authority("ca"), common_name: own.or(Some(NODE)), organizations: NODES, usages }
}

fn own_name(scene: &Scene<'_>) -> Option<String> {
    scene.kubelet.hostname_override.as_ref().map(|name| format!("{NODE}{name}"))
}

fn by_file(scene: &Scene<'_>, cert: &Path, key: &Path, server: Option<String>) -> Entry {
    let own = own_name(scene);
    let mut content = load::pair(scene, cert, key, expected(scene, own.as_deref(), &["clientAuth"]));
    if let Content::Readable(credential) = &mut content {
        credential.server = server;
        credential.findings.extend(plain_file(scene, cert));
    }
    let made = entry(scene, "kubelet-client", pair_form(cert.to_path_buf(), key.to_path_buf()), content);
    if lost(scene, &made) { Entry { owner: Owner::Certwarden, ..made } } else { made }
}

/// The kubelet rotates with the certificate that it has: an expired one is refused, and it cannot even start with it
/// (kubernetes: `pkg/kubelet/certificate/bootstrap/bootstrap.go:isClientConfigStillValid`). Where the CA can sign here, that is the way back.
fn lost(scene: &Scene<'_>, entry: &Entry) -> bool {
    let expired = entry.leaf().is_some_and(|leaf| leaf.not_after <= scene.now);
    expired && scene.authority("ca").is_some_and(|ca| ca.has_key)
}

/// A plain file in the link's place stops the kubelet's rotation for good
/// (client-go: `util/certificate/certificate_store.go:updateSymlink`).
fn plain_file(scene: &Scene<'_>, path: &Path) -> Option<Finding> {
    let ours = path.file_name().is_some_and(|n| n == "kubelet-client-current.pem" || n == "kubelet-server-current.pem");
    let link = || scene.root.symlink_metadata(path).map_or(true, |m| m.is_symlink());
    let message =
        || format!("{} is a file where the kubelet wants a symbolic link: it cannot rotate any more", path.display());
    (ours && !link()).then(|| Finding::new(Problem::NotASymlink, message()))
}

fn embedded(
    scene: &Scene<'_>,
    name: &str,
    conf: &Path,
    config: &Kubeconfig,
    pair: (&[u8], &[u8]),
    rotated: Option<&Path>,
) -> Entry {
    let own = own_name(scene);
    let mut content = load::embedded(scene, conf, config, pair, expected(scene, own.as_deref(), &["clientAuth"]));
    if let Content::Readable(Credential { findings, .. }) = &mut content {
        let file = rotated.map_or_else(|| "kubelet-client-current.pem".into(), |p| p.display().to_string());
        let message = format!(
            "{} holds an identity of its own, which the kubelet never renews and needs at its start; \
             let client-certificate and client-key name {file}",
            conf.display()
        );
        findings.push(Finding::new(Problem::EmbeddedIdentity, message));
    }
    let made = entry(scene, name, Form::Kubeconfig { path: conf.to_path_buf() }, content);
    let impact = if rotated.is_some() { catalogue::KUBELET_CONF } else { catalogue::KUBELET_CLIENT };
    Entry { owner: Scene::owner(scene.authority("ca"), false), impact: impact.to_owned(), ..made }
}

fn entry(scene: &Scene<'_>, name: &str, form: Form, content: Content) -> Entry {
    let rotates = scene.kubelet.kubelet.rotate_certificates;
    Entry {
        name: name.to_owned(),
        form,
        owner: if rotates { Owner::Kubelet } else { Scene::owner(scene.authority("ca"), false) },
        used_by: vec![Component::Kubelet],
        signer: Some("ca".to_owned()),
        impact: catalogue::KUBELET_CLIENT.to_owned(),
        content,
    }
}

/// `kubelet-serving`: rotated, configured or self-signed.
pub(super) fn serving(scene: &Scene<'_>) -> Option<Entry> {
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
