//! What kubeadm makes on control-plane nodes: leaves and kubeconfigs; and etcd as a service of its own.

use std::path::Path;

use super::catalogue::{self, CONFIGS, Config, PAIRS, Pair};
use super::etcd_env::etcd_setting;
use super::kubeconfigs::{Wanted, kubeconfig_entry};
use super::load::{self, Expected};
use super::{KUBERNETES, Scene, authorities, forget, has_finding, pair_form};
use crate::model::component::Component;
use crate::model::consumer;
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Entry, Owner, Role};
use Component::{Etcd, KubeApiserver};

/// Leaves in files of their own.
pub(super) fn pairs(scene: &Scene<'_>) -> Vec<Entry> {
    PAIRS.iter().filter_map(|spec| pair(scene, spec)).collect()
}

fn pair(scene: &Scene<'_>, spec: &Pair) -> Option<Entry> {
    let default = |end: &str| scene.pki_dir.join(format!("{}.{end}", spec.base));
    let flagged = spec.flags.and_then(|(component, cert, key)| {
        let cert = scene.path_flag(component, cert)?;
        let key = scene.path_flag(component, key).unwrap_or_else(|| cert.with_extension("key"));
        Some((cert, key))
    });
    let wanted = flagged.is_some() || expected_without_flag(scene, spec);
    let (cert, key) = flagged.unwrap_or_else(|| (default("crt"), default("key")));
    if !wanted && !scene.lies(&cert) {
        return None;
    }
    let kubeadms_place = cert == default("crt");
    let trusted = authorities::trusted(scene, spec);
    let allowed = front_proxy_name(scene, spec);
    let expected = Expected {
        signer: trusted,
        common_name: if kubeadms_place { allowed.as_deref().or(spec.common_name) } else { None },
        organizations: &[],
        usages: spec.usages,
    };
    let mut content = load::pair(scene, &cert, &key, expected);
    let found = authorities::signer(scene, &content, trusted);
    let mut owner = authorities::owner(scene, spec, found, kubeadms_place);
    let mut signer = Some(found.map_or_else(|| spec.signer.to_owned(), |s| s.name.clone()));
    let trusted_by = trusted.map(|t| t.name.clone()).filter(|name| signer.as_ref() != Some(name));
    if !kubeadms_place && has_finding(&content, Problem::WrongIssuer) {
        // an operator put a certificate of another CA here on purpose: the flag says so
        forget(&mut content, Problem::WrongIssuer);
        (owner, signer) = (Owner::External, None);
    }
    Some(Entry {
        name: spec.name.to_owned(),
        form: pair_form(cert, key),
        owner,
        used_by: consumer::components(spec.name).filter(|c| scene.container(*c).is_some()).collect(),
        signer,
        trusted_by,
        impact: spec.impact.to_owned(),
        content,
    })
}

/// Whether kubeadm would have made it although no flag names it.
fn expected_without_flag(scene: &Scene<'_>, spec: &Pair) -> bool {
    spec.name == "etcd-healthcheck-client"
        && scene.path_flag(Etcd, "cert-file").is_some_and(|c| c.starts_with(&scene.pki_dir))
}

/// The API servers of the aggregation layer accept these names only, if any are given.
fn front_proxy_name(scene: &Scene<'_>, spec: &Pair) -> Option<String> {
    if spec.name != "front-proxy-client" {
        return None;
    }
    let names = scene.container(KubeApiserver)?.flag("requestheader-allowed-names")?;
    // with several names any will do; then nothing is said
    (!names.contains(',')).then(|| names.to_owned())
}

/// kubeadm's kubeconfigs.
pub(super) fn configs(scene: &mut Scene<'_>) -> Vec<Entry> {
    if scene.role != Role::ControlPlane {
        return admin_copy(scene).into_iter().collect();
    }
    CONFIGS.iter().filter_map(|spec| config(scene, spec)).collect()
}

/// Elsewhere an admin.conf is somebody's copy of a control plane's: nothing of the node needs it, and it is copied anew.
fn admin_copy(scene: &mut Scene<'_>) -> Option<Entry> {
    let spec = CONFIGS.iter().find(|spec| spec.name == "admin.conf")?;
    let path = Path::new(KUBERNETES).join(spec.name);
    if !scene.lies(&path) {
        return None;
    }
    let entry = kubeconfig_entry(scene, spec.name, &path, &Wanted { spec: Some(spec), kubeadms_place: true })?;
    Some(Entry { owner: Owner::None, impact: catalogue::COPY.to_owned(), ..entry })
}

fn config(scene: &mut Scene<'_>, spec: &Config) -> Option<Entry> {
    let place = Path::new(KUBERNETES).join(spec.name);
    let flagged = spec.component.and_then(|c| scene.path_flag(c, "kubeconfig"));
    let running = spec.component.is_none_or(|c| scene.container(c).is_some());
    let path = flagged.clone().unwrap_or_else(|| place.clone());
    if flagged.is_none() && !running && !scene.lies(&path) {
        return None;
    }
    let entry = kubeconfig_entry(scene, spec.name, &path, &Wanted { spec: Some(spec), kubeadms_place: path == place })?;
    let absent = matches!(&entry.content, Content::Unusable(f) if f.id == Problem::Missing) && spec.optional;
    let content = if absent { Content::Absent } else { entry.content };
    Some(Entry { content, used_by: spec.component.into_iter().filter(|_| running).collect(), ..entry })
}

/// etcd outside of Kubernetes. Nothing here can activate a new certificate there, so it is somebody else's.
pub(super) fn systemd_etcd(scene: &Scene<'_>, known: &[Entry]) -> Vec<Entry> {
    let spec = |name: &str| PAIRS.iter().find(|p| p.name == name);
    let found = [
        ("etcd-server", "ETCD_CERT_FILE", "ETCD_KEY_FILE"),
        ("etcd-peer", "ETCD_PEER_CERT_FILE", "ETCD_PEER_KEY_FILE"),
    ];
    let entries = found.into_iter().filter_map(|(name, cert, key)| {
        if known.iter().any(|e| e.name == name) {
            return None;
        }
        let (cert, key) = (etcd_setting(scene, cert)?, etcd_setting(scene, key)?);
        let spec = spec(name)?;
        let signer = scene.authority(spec.signer);
        let expected = Expected { signer, usages: spec.usages, ..Expected::default() };
        Some(Entry {
            name: name.to_owned(),
            content: load::pair(scene, &cert, &key, expected),
            form: pair_form(cert, key),
            owner: Owner::External,
            used_by: vec![Etcd],
            signer: Some(spec.signer.to_owned()),
            trusted_by: None,
            impact: spec.impact.to_owned(),
        })
    });
    entries.collect()
}
