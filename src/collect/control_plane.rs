//! What kubeadm makes on control-plane nodes: CAs, leaves, kubeconfigs; and etcd as a service of its own.

use std::path::{Path, PathBuf};

use super::catalogue::{self, CONFIGS, Config, PAIRS, Pair};
use super::load::{self, Authority, Expected};
use super::{KUBERNETES, Scene, has_finding, pair_form};
use crate::model::component::Component;
use crate::model::consumer;
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Credential, Entry, Form, Owner, Role};
use crate::model::kubeconfig::{Identity, Kubeconfig};
use Component::{Etcd, KubeApiserver, KubeControllerManager};

/// etcd's settings where kubespray runs it as a service (`etcd_deployment_type: host`).
const ETCD_ENV: &str = "/etc/etcd.env";

/// The CAs of this node, read once: every leaf is held against one of them.
pub(super) fn authorities<'a>(scene: &Scene<'a>) -> Vec<Authority<'a>> {
    let pki = |file: &str| scene.pki_dir.join(file);
    let ca = scene
        .path_flag(KubeApiserver, "client-ca-file")
        .or_else(|| scene.path_flag(KubeControllerManager, "client-ca-file"))
        .or_else(|| scene.kubelet.client_ca.clone())
        .unwrap_or_else(|| pki("ca.crt"));
    let front = scene.path_flag(KubeApiserver, "requestheader-client-ca-file");
    let etcd = scene
        .path_flag(Etcd, "trusted-ca-file")
        .or_else(|| scene.path_flag(KubeApiserver, "etcd-cafile"))
        .or_else(|| etcd_setting(scene, "ETCD_TRUSTED_CA_FILE"));
    let mut found = Vec::new();
    let mut add = |name: &str, cert: PathBuf, wanted: bool| {
        if wanted || scene.lies(&cert) {
            let key = ca_key(&cert);
            found.push(load::authority(scene, name, cert, key));
        }
    };
    add("ca", ca, scene.role != Role::Unknown);
    let (front_wanted, etcd_wanted) = (front.is_some(), etcd.is_some());
    add("front-proxy-ca", front.unwrap_or_else(|| pki("front-proxy-ca.crt")), front_wanted);
    add("etcd-ca", etcd.unwrap_or_else(|| pki("etcd/ca.crt")), etcd_wanted);
    found
}

/// `ca.crt` → `ca.key`, `ca.pem` → `ca-key.pem` (kubespray's etcd).
pub(super) fn ca_key(cert: &Path) -> PathBuf {
    match (cert.file_stem().and_then(|s| s.to_str()), cert.extension().and_then(|e| e.to_str())) {
        (Some(stem), Some("pem")) => cert.with_file_name(format!("{stem}-key.pem")),
        _ => cert.with_extension("key"),
    }
}

pub(super) fn authority_entries(scene: &Scene<'_>) -> Vec<Entry> {
    scene.authorities.iter().map(|a| authority_entry(scene, a, Vec::new())).collect()
}

pub(super) fn authority_entry(scene: &Scene<'_>, a: &Authority<'_>, mut used_by: Vec<Component>) -> Entry {
    let wanted: &[Component] = match a.name.as_str() {
        "ca" => &Component::ALL,
        "front-proxy-ca" => &[KubeApiserver],
        "etcd-ca" => &[Etcd, KubeApiserver],
        _ => &[],
    };
    let here = |c: &&Component| scene.container(**c).is_some() || (**c == Component::Kubelet && scene.kubelet.present);
    used_by.extend(wanted.iter().filter(here));
    used_by.retain(|c| a.name != "ca" || *c != Etcd);
    // only where a key could be expected does its absence say that the CA is kept elsewhere; one that is damaged says not
    let external = scene.role == Role::ControlPlane && !a.key_lies;
    Entry {
        name: a.name.clone(),
        form: Form::Ca { cert: a.cert.clone(), key: a.key.clone() },
        owner: if external { Owner::External } else { Owner::None },
        used_by,
        signer: None,
        impact: catalogue::CA.to_owned(),
        content: a.content.clone(),
    }
}

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
    let signer = scene.authority(spec.signer);
    let allowed = front_proxy_name(scene, spec);
    let expected = Expected {
        signer,
        common_name: if kubeadms_place { allowed.as_deref().or(spec.common_name) } else { None },
        organizations: &[],
        usages: spec.usages,
    };
    let mut content = load::pair(scene, &cert, &key, expected);
    let mut owner = Scene::owner(signer, kubeadms_place);
    let mut signer = Some(spec.signer.to_owned());
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

/// For what is wrong by kubeadm's measure and meant so by the operator.
pub(super) fn forget(content: &mut Content, problem: Problem) {
    if let Content::Readable(Credential { findings, .. }) = content {
        findings.retain(|f| f.id != problem);
    }
}

/// kubeadm's kubeconfigs.
pub(super) fn configs(scene: &mut Scene<'_>) -> Vec<Entry> {
    if scene.role != Role::ControlPlane {
        return Vec::new();
    }
    CONFIGS.iter().filter_map(|spec| config(scene, spec)).collect()
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

/// What is asked of a kubeconfig.
pub(super) struct Wanted<'a> {
    pub(super) spec: Option<&'a Config>,
    pub(super) kubeadms_place: bool,
}

/// The entry for a component's kubeconfig. None if it holds no certificate.
pub(super) fn kubeconfig_entry(scene: &mut Scene<'_>, name: &str, path: &Path, wanted: &Wanted<'_>) -> Option<Entry> {
    let loaded = load::kubeconfig(scene.root, path);
    if let Ok(Kubeconfig { other_users, .. }) = &loaded
        && !other_users.is_empty()
    {
        let note = format!(
            "{} has further users ({}): they are kept, and nobody renews them",
            path.display(),
            other_users.join(", ")
        );
        scene.notes.push(note);
    }
    let signer = scene.authority("ca");
    let expected = Expected {
        signer,
        common_name: wanted.spec.map(|s| s.common_name),
        organizations: wanted.spec.map_or(&[], |s| s.organizations),
        usages: &["clientAuth"],
    };
    let mut form = Form::Kubeconfig { path: path.to_path_buf() };
    let mut owner = Scene::owner(signer, wanted.kubeadms_place);
    let content = match loaded {
        Err(finding) => Content::Unusable(finding),
        Ok(config) => match &config.identity {
            Identity::Embedded { cert, key } => load::embedded(scene, path, &config, (cert, key), expected),
            Identity::Files { .. } => {
                let (cert, key) = load::referred(path, &config.identity)?;
                // kubeadm renews embedded identities only
                owner = Scene::owner(signer, false);
                let mut content = load::pair(scene, &cert, &key, expected);
                form = pair_form(cert, key);
                if let Content::Readable(c) = &mut content {
                    c.server = config.server;
                }
                content
            }
            Identity::Other => {
                let note = format!("{} authenticates without a certificate: nothing to check", path.display());
                scene.notes.push(note);
                return None;
            }
        },
    };
    Some(Entry {
        name: name.to_owned(),
        form,
        owner,
        used_by: Vec::new(),
        signer: Some("ca".to_owned()),
        impact: wanted.spec.map_or(catalogue::OTHER, |s| s.impact).to_owned(),
        content,
    })
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
            impact: spec.impact.to_owned(),
        })
    });
    entries.collect()
}

fn etcd_setting(scene: &Scene<'_>, name: &str) -> Option<PathBuf> {
    let text = scene.root.read_text(Path::new(ETCD_ENV)).ok()?;
    let line = text.lines().rev().find_map(|l| l.trim().strip_prefix(name)?.trim().strip_prefix('='))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}
