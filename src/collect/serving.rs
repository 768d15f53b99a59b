//! The kubelet's serving certificate: rotated, configured, or its own.

use std::path::PathBuf;

use super::catalogue;
use super::load::{self, Expected};
use super::node_identity::plain_file;
use super::{Scene, forget, has_finding, keys, pair_form};
use crate::model::cert::CertFacts;
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
    let in_its_place = owner == Owner::None;
    if in_its_place && !scene.lies(&cert) {
        return None; // the kubelet makes it at its next start
    }
    let authority = signer.and_then(|name| scene.authority(name));
    let wanted = Expected { signer: authority, usages: &["serverAuth"], ..Expected::default() };
    let mut content = load::pair(scene, &cert, &key, wanted);
    if let Content::Readable(credential) = &mut content {
        credential.findings.extend(plain_file(scene, &cert));
    }
    if in_its_place {
        (owner, signer) = whose(scene, &content);
    } else if owner != Owner::Kubelet && has_finding(&content, Problem::WrongIssuer) {
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
        trusted_by: None,
        impact: catalogue::KUBELET_SERVING.to_owned(),
        content,
    })
}

/// Who renews what lies where the kubelet puts the pair that it makes for itself. It makes that once and never again while
/// both files can be read (kubernetes: `cmd/kubelet/app/server.go:InitializeTLS`), so that certwarden does; what somebody has
/// put in its place is his.
fn whose(scene: &Scene<'_>, content: &Content) -> (Owner, Option<&'static str>) {
    let Content::Readable(credential) = content else { return (Owner::None, None) };
    if made_by_kubelet(&credential.chain) {
        return (Owner::Certwarden, None);
    }
    let authority = scene.authority("ca").filter(|ca| keys::leads_to(&credential.chain, &ca.issuers));
    (Scene::owner(authority, false), authority.map(|_| "ca"))
}

/// A leaf for `HOST@SECONDS` and behind it the CA `HOST-ca@SECONDS` that issued it, whose key nobody has kept (client-go:
/// `util/cert/cert.go:GenerateSelfSignedCertKeyWithFixtures`).
fn made_by_kubelet(chain: &[CertFacts]) -> bool {
    let [leaf, ca] = chain else { return false };
    let host = |name: &Option<String>, mark: &str| {
        let (host, seconds) = name.as_deref()?.rsplit_once(mark)?;
        seconds.parse::<u64>().ok().map(|_| host.to_owned())
    };
    let (of_leaf, of_ca) = (host(&leaf.common_name, "@"), host(&ca.common_name, "-ca@"));
    of_leaf.is_some() && of_leaf == of_ca && ca.is_ca && !leaf.is_ca && leaf.claims_issuer(ca) && ca.claims_issuer(ca)
}
