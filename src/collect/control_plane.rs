//! What kubeadm makes on control-plane nodes: leaves and kubeconfigs; and etcd as a service of its own.

use std::path::{Path, PathBuf};

use super::catalogue::{self, CONFIGS, Config, PAIRS, Pair};
use super::load::{self, Expected};
use super::{KUBERNETES, Scene, authorities, has_finding, kubeconfigs, pair_form};
use crate::model::component::Component;
use crate::model::consumer;
use crate::model::finding::Problem;
use crate::model::inventory::{Content, Credential, Entry, Form, Owner, Role};
use crate::model::kubeconfig::{Identity, Kubeconfig};
use Component::{Etcd, KubeApiserver};

/// etcd's settings where kubespray runs it as a service (`etcd_deployment_type: host`).
const ETCD_ENV: &str = "/etc/etcd.env";

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

/// For what is wrong by kubeadm's measure and meant so by the operator.
pub(super) fn forget(content: &mut Content, problem: Problem) {
    if let Content::Readable(Credential { findings, .. }) = content {
        findings.retain(|f| f.id != problem);
    }
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
    let wrong_ca = loaded.as_ref().ok().and_then(|config| kubeconfigs::wrong_ca(scene, path, config));
    let in_clear = loaded.as_ref().ok().and_then(|config| kubeconfigs::in_clear(path, config));
    let mut content = match loaded {
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
            Identity::Apart { .. } => load::apart(scene, path, &config, expected),
            Identity::Other => {
                let note = format!("{} authenticates without a certificate: nothing to check", path.display());
                scene.notes.push(note);
                scene.notes.extend(in_clear.map(|finding| finding.message));
                return None;
            }
        },
    };
    if let Content::Readable(credential) = &mut content {
        credential.findings.extend(wrong_ca.into_iter().chain(in_clear));
    }
    Some(Entry {
        name: name.to_owned(),
        form,
        owner,
        used_by: Vec::new(),
        signer: Some("ca".to_owned()),
        trusted_by: None,
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
            trusted_by: None,
            impact: spec.impact.to_owned(),
        })
    });
    entries.collect()
}

pub(super) fn etcd_setting(scene: &Scene<'_>, name: &str) -> Option<PathBuf> {
    let text = scene.root.read_text(Path::new(ETCD_ENV)).ok()?;
    let line = text.lines().rev().find_map(|l| l.trim().strip_prefix(name)?.trim().strip_prefix('='))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}
