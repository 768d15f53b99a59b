//! The CAs of the node: what its components trust, and the keys that can sign for it. Who signs a leaf is found by what
//! verifies it and by which key belongs to which certificate, not by the names of files: a bundle may be called anything, and
//! its key may lie elsewhere or not at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::catalogue::{self, Pair};
use super::load::{self, Authority};
use super::manifests::Container;
use super::names::Names;
use super::{Scene, keys};
use crate::model::component::Component;
use crate::model::inventory::{Content, Entry, Form, Owner, Role};
use Component::{Etcd, KubeApiserver, KubeControllerManager};

/// Where kubeadm keeps the CAs that it makes, below `certificatesDir`, without ending.
const KUBEADMS: [(&str, &str); 3] = [("ca", "ca"), ("front-proxy-ca", "front-proxy-ca"), ("etcd-ca", "etcd/ca")];
/// A directory of certificates has not so many keys.
const MOST_KEYS: usize = 64;

/// The CAs of this node, read once: every leaf is held against one of them.
pub(super) fn find(scene: &Scene<'_>) -> Vec<Authority> {
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
        .or_else(|| super::etcd_env::etcd_setting(scene, "ETCD_TRUSTED_CA_FILE"));
    let (front_wanted, etcd_wanted) = (front.is_some(), etcd.is_some());
    let mut found = Found { scene, keys: Keys::default(), seen: BTreeSet::new(), all: Vec::new() };
    // where nobody takes client certificates and no cluster is known, its CA is missing nowhere
    let cluster =
        scene.role == Role::ControlPlane || (scene.role == Role::Worker && scene.kubelet.kubelet.kubeconfig.is_some());
    found.add("ca", &ca, cluster, None);
    found.add("front-proxy-ca", &front.unwrap_or_else(|| pki("front-proxy-ca.crt")), front_wanted, None);
    found.add("etcd-ca", &etcd.unwrap_or_else(|| pki("etcd/ca.crt")), etcd_wanted, None);
    found.flagged();
    // one that no flag names signs all the same
    for (_, file) in KUBEADMS {
        let cert = pki(&format!("{file}.crt"));
        if scene.lies(&cert.with_extension("key")) {
            found.add(&format!("ca-file:{}", cert.display()), &cert, false, None);
        }
    }
    found.all
}

struct Found<'s, 'a> {
    scene: &'s Scene<'a>,
    keys: Keys,
    seen: BTreeSet<PathBuf>,
    all: Vec<Authority>,
}

impl Found<'_, '_> {
    fn add(&mut self, name: &str, cert: &Path, wanted: bool, user: Option<Component>) {
        if (wanted || self.scene.lies(cert)) && self.seen.insert(cert.to_path_buf()) {
            let mut authority = load::authority(self.scene, name, cert.to_path_buf(), ca_key(cert));
            if !authority.has_key {
                self.keys.help(self.scene, &mut authority);
            }
            authority.used_by.extend(user);
            self.all.push(authority);
        }
    }

    /// `<component>:<flag>` for each bundle that a flag names besides.
    fn flagged(&mut self) {
        let mut names = Names::default();
        let scene = self.scene;
        for container in &scene.containers {
            for (flag, value) in container.flags.iter().filter(|(flag, v)| v.starts_with('/') && is_ca_flag(flag)) {
                let path = container.on_host(value);
                if !self.seen.contains(&path) {
                    let wanted = container.component.is_some() || container.is_of_host(value);
                    self.add(&names.next(container, flag), &path, wanted, container.component);
                }
            }
        }
        if let Some(path) = scene.kubelet.client_ca.clone().filter(|path| !self.seen.contains(path)) {
            self.add("kubelet:client-ca-file", &path, true, Some(Component::Kubelet));
        }
    }
}

/// Flags that name a CA bundle, of Kubernetes, etcd and the proxies beside them.
pub(super) fn is_ca_flag(flag: &str) -> bool {
    const ENDINGS: [&str; 5] = ["ca-file", "cafile", "certificate-authority", "ca-cert", "ca-certs"];
    let signing = flag.starts_with("cluster-signing-") && flag.ends_with("cert-file");
    signing || ENDINGS.iter().any(|end| flag.ends_with(end))
}

/// `ca.crt` → `ca.key`, `ca.pem` → `ca-key.pem` (kubespray's etcd).
pub(super) fn ca_key(cert: &Path) -> PathBuf {
    match (cert.file_stem().and_then(|s| s.to_str()), cert.extension().and_then(|e| e.to_str())) {
        (Some(stem), Some("pem")) => cert.with_file_name(format!("{stem}-key.pem")),
        _ => cert.with_extension("key"),
    }
}

/// The keys that lie about where CAs do, for a bundle that has none of its own name.
#[derive(Default)]
struct Keys(Option<Vec<(PathBuf, load::Held)>>);

impl Keys {
    /// Gives a bundle the key that belongs to one of its certificates, if there is one on this node.
    fn help(&mut self, scene: &Scene<'_>, authority: &mut Authority) {
        let Content::Readable(credential) = &authority.content else { return };
        let all = self.0.get_or_insert_with(|| candidates(scene));
        let fits = |(_, held): &&(PathBuf, load::Held)| keys::belongs(&held.bytes, &credential.chain).unwrap_or(false);
        if let Some((path, _)) = all.iter().find(fits) {
            let key = path.clone();
            *authority = Authority {
                used_by: authority.used_by.clone(),
                ..load::authority(scene, &authority.name, authority.cert.clone(), key)
            };
        }
    }
}

fn candidates(scene: &Scene<'_>) -> Vec<(PathBuf, load::Held)> {
    let signing = scene.container(KubeControllerManager).into_iter().flat_map(signing_keys);
    let mut paths: Vec<PathBuf> = signing.collect();
    paths.extend(KUBEADMS.iter().map(|(_, file)| scene.pki_dir.join(format!("{file}.key"))));
    for dir in [scene.pki_dir.clone(), scene.pki_dir.join("etcd")] {
        let names = scene.root.list(&dir).unwrap_or_default();
        let is_key = |n: &&String| Path::new(n).extension().is_some_and(|e| e == "key") || n.ends_with("-key.pem");
        paths.extend(names.iter().filter(is_key).take(MOST_KEYS).map(|name| dir.join(name)));
    }
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    paths.into_iter().filter_map(|path| Some((path.clone(), load::read(scene.root, &path).ok()?))).collect()
}

fn signing_keys(container: &Container) -> impl Iterator<Item = PathBuf> + '_ {
    let signing = container.flags.iter().filter(|(f, _)| f.starts_with("cluster-signing-") && f.ends_with("key-file"));
    signing.map(|(_, value)| container.on_host(value))
}

/// The bundle by which those verify a leaf who it is made for.
pub(super) fn trusted<'s>(scene: &'s Scene<'_>, spec: &Pair) -> Option<&'s Authority> {
    let kubelets = || scene.kubelet.client_ca.clone().filter(|_| spec.name == "apiserver-kubelet-client");
    let path = spec.trust.and_then(|(component, flag)| scene.path_flag(component, flag)).or_else(kubelets);
    let at = |path: PathBuf| scene.authorities.iter().find(|a| a.cert == path && !a.issuers.is_empty());
    path.and_then(at).or_else(|| scene.authority(spec.signer))
}

/// Who signs the successor of a leaf that `trusted` is to verify: a key of one of its certificates; else the CA on this node
/// that issued the leaf and has its key, where the leaf leads on to `trusted`.
pub(super) fn signer<'s>(
    scene: &'s Scene<'_>,
    content: &Content,
    trusted: Option<&'s Authority>,
) -> Option<&'s Authority> {
    let Content::Readable(credential) = content else { return trusted };
    let leads = |a: &Authority| keys::leads_to(&credential.chain, &a.issuers);
    match trusted {
        Some(own) if own.has_key || own.issuers.is_empty() || !leads(own) => Some(own),
        Some(_) => scene.authorities.iter().find(|a| a.has_key && leads(a)).or(trusted),
        None => None,
    }
}

/// Whose job a leaf is that `spec` describes: kubeadm signs with the key in its own place only.
pub(super) fn owner(scene: &Scene<'_>, spec: &Pair, signer: Option<&Authority>, kubeadms_place: bool) -> Owner {
    let own = KUBEADMS.iter().find(|(name, _)| *name == spec.signer);
    let key = own.map(|(_, file)| scene.pki_dir.join(format!("{file}.key")));
    Scene::owner(signer, kubeadms_place && signer.is_none_or(|s| Some(&s.key) == key.as_ref()))
}

pub(super) fn entries(scene: &Scene<'_>) -> Vec<Entry> {
    scene.authorities.iter().map(|a| entry(scene, a)).collect()
}

pub(super) fn entry(scene: &Scene<'_>, a: &Authority) -> Entry {
    let mut used_by = a.used_by.clone();
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
    let external = matches!(scene.role, Role::ControlPlane | Role::Etcd) && !a.key_lies;
    Entry {
        name: a.name.clone(),
        form: Form::Ca { cert: a.cert.clone(), key: a.key.clone() },
        owner: if external { Owner::External } else { Owner::None },
        used_by,
        signer: None,
        trusted_by: None,
        impact: catalogue::CA.to_owned(),
        content: a.content.clone(),
    }
}
