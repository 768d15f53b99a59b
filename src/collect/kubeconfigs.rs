//! Kubeconfigs and what they trust: those that configuration files name, and whether the CA in one verifies the API server of
//! this node that it talks to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::catalogue::{self, Config};
use super::keys::{self, Issuer};
use super::load::{self, Expected};
use super::manifests::Container;
use super::names::Names;
use super::{Scene, authorities, forget, pair_form};
use crate::host::fs::Root;
use crate::model::cert::{self, CertFacts};
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry, Form, Owner};
use crate::model::kubeconfig::{self, Identity, Kubeconfig, Material};
use crate::model::pem;
use crate::model::yaml;

/// Flags whose kubeconfig is for this cluster's API server.
const OF_THE_CLUSTER: [&str; 3] = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
/// Keys of configuration files whose value is the path of a kubeconfig (kubernetes: `WebhookConnectionInfo`,
/// `WebhookAdmission`, `ImagePolicyWebhook`, `ClientConnectionConfiguration`).
const KEYS: [&str; 3] = ["kubeConfigFile", "kubeconfig", "kubeConfig"];

/// What this node's API server shows to its clients.
#[derive(Debug)]
pub(super) struct Served {
    /// With those by name (SNI).
    chains: Vec<Vec<CertFacts>>,
    /// The certificates of this node's CAs that issued one of them, DER.
    issuers: Vec<Vec<u8>>,
    /// Hosts under which it is this one, or one of the same cluster.
    hosts: BTreeSet<String>,
}

impl Served {
    pub(super) fn of(scene: &Scene<'_>, leaves: &[Entry]) -> Option<Self> {
        let container = scene.container(Component::KubeApiserver)?;
        let chain = |content: &Content| match content {
            Content::Readable(c) if !c.chain.is_empty() => Some(c.chain.clone()),
            _ => None,
        };
        let mut chains: Vec<_> =
            leaves.iter().filter(|e| e.name == "apiserver").filter_map(|e| chain(&e.content)).collect();
        let leaf = chains.first()?.first()?;
        let mut hosts: BTreeSet<String> = leaf.sans.iter().filter_map(|san| host_of_san(san)).collect();
        hosts.extend(["127.0.0.1", "::1", "localhost"].map(str::to_owned));
        hosts.extend(container.flag("advertise-address").map(str::to_owned));
        let sni = container.flags.iter().filter(|(flag, _)| flag == super::manifests::SNI);
        for pair in sni.filter_map(|(_, value)| container.sni_pair(value)) {
            let file = load::read(scene.root, &pair.cert).ok();
            chains.extend(file.and_then(|file| cert::parse_pem(&file.bytes).ok()));
        }
        let all = scene.authorities.iter().filter_map(|a| match &a.content {
            Content::Readable(c) => Some((a, c)),
            _ => None,
        });
        let issued = |(a, c): (&load::Authority, &crate::model::inventory::Credential)| -> Vec<Vec<u8>> {
            let of =
                a.issuers.iter().filter(|i| chains.iter().any(|chain| keys::leads_to(chain, std::slice::from_ref(i))));
            let now = scene.now;
            of.flat_map(|i| c.chain.iter().filter(move |f| i.is(f) && f.not_after > now).map(|f| f.der.clone()))
                .collect()
        };
        // the first bundle will do: it is what nearly every kubeconfig holds
        let issuers = all.map(issued).find(|found| !found.is_empty()).unwrap_or_default();
        Some(Self { chains, issuers, hosts })
    }
}

fn host_of_san(san: &str) -> Option<String> {
    let name = san.strip_prefix("DNS:").or_else(|| san.strip_prefix("IP:"))?;
    Some(name.to_ascii_lowercase())
}

/// The host of a URL, an address in its shortest form.
fn host_of_url(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    Some(host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string()))
}

/// Whether what its user says to the server can be read and answered by others.
pub(super) fn in_clear(path: &Path, config: &Kubeconfig) -> Option<Finding> {
    let server = config.in_clear()?;
    let message = format!(
        "{} speaks to {server} without encryption: whoever is on the way reads what is sent, a token too, and can answer \
         whatever it wants; make the server https:// there",
        path.display()
    );
    Some(Finding::new(Problem::ClearText, message))
}

/// The same of kubeconfigs that are no entries: certwarden's own, where they are.
pub fn open_to_all(root: &Root, paths: &[&Path]) -> Vec<Finding> {
    let finding = |path: &&Path| in_clear(path, &load::kubeconfig(root, path).ok()?);
    paths.iter().filter_map(finding).collect()
}

/// Whether the CA in a kubeconfig does not verify the API server of this node that it names. What it says of others' servers
/// cannot be told from here.
pub(super) fn wrong_ca(scene: &Scene<'_>, path: &Path, config: &Kubeconfig) -> Option<Finding> {
    let shown = scene.served.as_ref()?;
    let host = config.server.as_deref().and_then(host_of_url)?;
    if config.insecure || !shown.hosts.contains(&host) {
        return None;
    }
    let beside = |file: &Path| load::read(scene.root, &kubeconfig::relative_to(path, file)).map(|held| held.bytes);
    let pem = config.ca.clone()?.pem(beside).ok()?;
    let same = |block: pem::Block<'_>| block.decode().is_ok_and(|der| shown.issuers.contains(&der));
    if pem::blocks(&pem).map_while(Result::ok).any(same) {
        return None;
    }
    let finding = |why: &str| {
        let (config_file, server_url) = (path.display(), config.server.as_deref().unwrap_or_default());
        let message = format!(
            "{config_file} does not trust {server_url}: {why}; put the CA of the API server into certificate-authority-data"
        );
        Some(Finding::new(Problem::WrongCa, message))
    };
    let Ok(bundle) = cert::parse_pem(&pem) else { return finding("its CA is no certificate") };
    let valid = bundle.iter().filter(|ca| ca.not_before <= scene.now && ca.not_after > scene.now);
    let issuers: Vec<Issuer> = valid.filter_map(Issuer::new).collect();
    if shown.chains.iter().any(|chain| keys::leads_to(chain, &issuers)) {
        return None;
    }
    finding("its CA did not issue what this node's API server serves, or has expired")
}

/// Kubeconfigs that the files name which a component's flag names: `--config` of the scheduler, admission, authorization and audit
/// webhooks; with the flag.
pub(super) fn of_files(scene: &Scene<'_>, container: &Container) -> Vec<(String, PathBuf)> {
    let is_config = |flag: &str| flag == "config" || flag.ends_with("-config") || flag.ends_with("config-file");
    let mut found = Vec::new();
    if container.component.is_none() {
        return found; // what the files of others mean nobody knows
    }
    for (flag, value) in container.flags.iter().filter(|(flag, v)| v.starts_with('/') && is_config(flag)) {
        let path = container.on_host(value);
        let Ok(text) = scene.root.read_text(&path) else { continue };
        let Ok(document) = yaml::parse::<Value>(&text) else { continue };
        if document.get("clusters").is_some() && document.get("users").is_some() {
            found.push((flag.clone(), path));
            continue;
        }
        let mut paths = Vec::new();
        named(&document, &mut paths);
        // a plugin's own file is named by the admission configuration
        let plugins = document.get("plugins").and_then(Value::as_array).into_iter().flatten();
        for file in plugins.filter_map(|p| p.get("path")?.as_str()) {
            let text = scene.root.read_text(&container.on_host(&beside(value, file))).unwrap_or_default();
            if let Ok(document) = yaml::parse::<Value>(&text) {
                named(&document, &mut paths);
            }
        }
        found.extend(paths.iter().map(|p| (flag.clone(), container.on_host(&beside(value, p)))));
    }
    found
}

/// Relative to the file that names it.
fn beside(file: &str, path: &str) -> String {
    let dir = Path::new(file).parent().unwrap_or(Path::new("/"));
    dir.join(path).display().to_string()
}

fn named(document: &Value, paths: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(path) if KEYS.contains(&key.as_str()) && !path.is_empty() => paths.push(path.to_owned()),
                    _ => named(value, paths),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, paths)),
        _ => {}
    }
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
    let wrong_ca = loaded.as_ref().ok().and_then(|config| wrong_ca(scene, path, config));
    let in_clear = loaded.as_ref().ok().and_then(|config| in_clear(path, config));
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

/// Whether a flag names a kubeconfig.
pub(super) fn is_flag(flag: &str) -> bool {
    flag.ends_with("kubeconfig")
}

/// The entry for a kubeconfig that a flag of a static pod names, or a file that one names.
pub(super) fn entry(
    scene: &mut Scene<'_>,
    container: &Container,
    flag: &str,
    path: &Path,
    names: &mut Names,
) -> Option<Entry> {
    let wanted = Wanted { spec: None, kubeadms_place: false };
    let entry = kubeconfig_entry(scene, &names.next(container, flag), path, &wanted)?;
    let used_by: Vec<Component> = container.component.into_iter().collect();
    let mut entry = Entry { used_by, ..entry };
    // of a webhook elsewhere nobody knows who should have issued its client's certificate
    let known = container.component.is_some() && OF_THE_CLUSTER.contains(&flag);
    if !known && super::has_finding(&entry.content, Problem::WrongIssuer) {
        forget(&mut entry.content, Problem::WrongIssuer);
        let signer = match &entry.content {
            Content::Readable(c) => scene.authorities.iter().find(|a| keys::leads_to(&c.chain, &a.issuers)),
            _ => None,
        };
        entry.signer = signer.map(|s| s.name.clone());
        entry.owner = signer.map_or(Owner::External, |s| Scene::owner(Some(s), false));
    }
    Some(entry)
}

/// A bundle in a file that a kubeconfig names and no flag does.
pub(super) fn bundle(scene: &Scene<'_>, name: &str, path: &Path) -> Option<load::Authority> {
    let config = load::kubeconfig(scene.root, path).ok()?;
    let Some(Material::File(file)) = config.ca else { return None };
    let cert = kubeconfig::relative_to(path, &file);
    if scene.authorities.iter().any(|a| a.cert == cert) {
        return None;
    }
    Some(load::authority(scene, &format!("{name}:certificate-authority"), cert.clone(), authorities::ca_key(&cert)))
}
