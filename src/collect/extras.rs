//! What manifests point at besides: serving certificates of controller managers, SNI pairs, other agents' files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::catalogue;
use super::load::{self, Authority, Expected};
use super::manifests::{Container, SNI};
use super::names::Names;
use super::{Scene, authorities, egress, kubeconfigs, pair_form};
use crate::model::component::Component;
use crate::model::inventory::{Content, Entry, Form, Owner};

/// How a flag for a certificate becomes the one for its key, in Kubernetes and etcd.
const KEY_FLAGS: [(&str, &str); 5] = [
    ("cert-file", "private-key-file"),
    ("cert-file", "key-file"),
    ("certfile", "keyfile"),
    ("client-certificate", "client-key"),
    ("cert", "key"),
];

/// From this many pairs on a thread is worth its start.
const MANY: usize = 200;
/// A node has better things to do with its processors.
const MAX_THREADS: usize = 4;

/// Adds an entry for each file that a flag names and no entry has yet.
pub(super) fn add(scene: &mut Scene<'_>, leaves: &mut Vec<Entry>, cas: &mut Vec<Entry>) {
    let mut seen: BTreeSet<PathBuf> = leaves.iter().chain(&*cas).flat_map(files_of).collect();
    // a kubeconfig that refers to files is known by them
    seen.extend(catalogue::CONFIGS.iter().map(|c| Path::new(super::KUBERNETES).join(c.name)));
    let mut names = Names::default();
    for container in std::mem::take(&mut scene.containers) {
        add_of(scene, &container, &mut names, &mut seen, leaves, cas);
        scene.containers.push(container);
    }
}

fn add_of(
    scene: &mut Scene<'_>,
    container: &Container,
    names: &mut Names,
    seen: &mut BTreeSet<PathBuf>,
    leaves: &mut Vec<Entry>,
    cas: &mut Vec<Entry>,
) {
    let used_by: Vec<Component> = container.component.into_iter().collect();
    let (mut pairs, mut config_files) = (Vec::new(), kubeconfigs::of_files(scene, container));
    for (flag, value) in container.flags.iter().filter(|(_, v)| v.contains('/')) {
        if authorities::is_ca_flag(flag) {
            continue; // known already
        }
        if kubeconfigs::is_flag(flag) && (container.component.is_some() || container.is_of_host(value)) {
            config_files.push((flag.clone(), container.on_host(value)));
        } else if let Some((cert, key)) = pair_of(container, flag, value)
            && seen.insert(cert.clone())
        {
            pairs.push((names.next(container, flag), cert, key));
        }
    }
    for proxy in egress::proxies(scene, container) {
        if let Some((cert, key)) = proxy.pair.filter(|(cert, _)| seen.insert(cert.clone())) {
            pairs.push((names.next(container, egress::FLAG), cert, key));
        }
        if let Some(ca) = proxy.ca.filter(|ca| seen.insert(ca.clone())) {
            let name = names.next(container, &format!("{}:ca", egress::FLAG));
            let ca = load::authority(scene, &name, ca.clone(), authorities::ca_key(&ca));
            cas.push(Entry { used_by: used_by.clone(), ..authorities::entry(scene, &ca) });
        }
    }
    leaves.extend(pair_entries(scene, pairs, &used_by));
    for (flag, path) in config_files {
        if seen.insert(path.clone()) {
            let entry = kubeconfigs::entry(scene, container, &flag, &path, names);
            if let Some(ca) = entry.as_ref().and_then(|e| kubeconfigs::bundle(scene, &e.name, &path)) {
                cas.push(Entry { used_by: used_by.clone(), ..authorities::entry(scene, &ca) });
            }
            leaves.extend(entry);
        }
    }
}

/// In the order of `pairs`. Many are shared among the processors: reading is waiting, and signatures are arithmetic.
fn pair_entries(scene: &Scene<'_>, pairs: Vec<(String, PathBuf, PathBuf)>, used_by: &[Component]) -> Vec<Entry> {
    let load = |pairs: Vec<(String, PathBuf, PathBuf)>| -> Vec<Entry> {
        let entry = |(name, cert, key)| pair_entry(scene, name, cert, key, used_by.to_vec());
        pairs.into_iter().map(entry).collect()
    };
    if pairs.len() < MANY {
        return load(pairs);
    }
    // reads a dozen files of control groups
    let shares = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let mut rest = pairs;
    let share = rest.len().div_ceil(shares);
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        while rest.len() > share {
            let part = rest.split_off(rest.len() - share);
            let again = part.clone();
            // without a thread to be had we do it ourselves
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || load(part));
            others.push((thread.ok(), again));
        }
        let mut entries = load(rest);
        for (thread, part) in others.into_iter().rev() {
            entries.extend(thread.and_then(|t| t.join().ok()).unwrap_or_else(|| load(part)));
        }
        entries
    })
}

/// The certificate and key that a flag names, if it names a certificate that has a key.
fn pair_of(container: &Container, flag: &str, value: &str) -> Option<(PathBuf, PathBuf)> {
    if flag == SNI {
        return container.sni_pair(value).map(|pair| (pair.cert, pair.key));
    }
    if flag.starts_with("cluster-signing-") {
        return None; // CAs of the controller manager's signers
    }
    let key = KEY_FLAGS.iter().find_map(|(cert, key)| {
        let stem = flag.strip_suffix(cert)?;
        container.path_flag(&format!("{stem}{key}"))
    })?;
    Some((container.on_host(value), key))
}

fn pair_entry(scene: &Scene<'_>, name: String, cert: PathBuf, key: PathBuf, used_by: Vec<Component>) -> Entry {
    let content = load::pair(scene, &cert, &key, Expected::default());
    let issued = |a: &&Authority| match &content {
        Content::Readable(c) => super::keys::leads_to(&c.chain, &a.issuers),
        _ => false,
    };
    // nothing says who should have issued it; if one of our CAs did, so be it
    let signer = scene.authorities.iter().find(issued);
    Entry {
        name,
        form: pair_form(cert, key),
        owner: signer.map_or(Owner::External, |s| Scene::owner(Some(s), false)),
        used_by,
        signer: signer.map(|s| s.name.clone()),
        trusted_by: None,
        impact: catalogue::OTHER.to_owned(),
        content,
    }
}

fn files_of(entry: &Entry) -> Vec<PathBuf> {
    match &entry.form {
        // a CA's key path is a guess until it is there
        Form::Ca { cert, .. } => vec![cert.clone()],
        form => form.files().into_iter().map(Path::to_path_buf).collect(),
    }
}
