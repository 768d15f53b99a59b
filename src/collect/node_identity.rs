//! The kubelet's own credential: the entries for it, and how it lies on the disk.

use std::path::{Path, PathBuf};

use super::catalogue;
use super::issued::Issued;
use super::load::{self, Expected};
use super::{Scene, kubeconfigs, pair_form};
use crate::host::fs::Root;
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::identity::{self, CURRENT, UPDATED};
use crate::model::inventory::on_disk::{Config, Good, Lies, OnDisk};
use crate::model::inventory::{Content, Credential, Entry, Form, Owner};
use crate::model::kubeconfig::{Identity, Kubeconfig};

const NODES: &[&str] = &[identity::GROUP];
/// So many of the kubelet's dated files are looked at: it makes one in a year, and never removes any.
const LOOKED_AT: usize = 16;

/// `kubelet-client`, and `kubelet.conf` where there is something to say of it besides.
pub(super) fn client(scene: &mut Scene<'_>, leaves: &[Entry]) -> Vec<Entry> {
    let Some(conf) = scene.kubelet.kubelet.kubeconfig.clone() else { return Vec::new() };
    let current = scene.kubelet.kubelet.cert_dir.join(CURRENT);
    let config = load::kubeconfig(scene.root, &conf);
    let mut entries = entries(scene, &conf, &current, &config);
    let wrong_ca = config.as_ref().ok().and_then(|config| kubeconfigs::wrong_ca(scene, &conf, config));
    let in_clear = config.as_ref().ok().and_then(|config| kubeconfigs::in_clear(&conf, config));
    // it is the kubeconfig's, and the kubelet is who cannot use it
    match entries.first_mut().map(|e| &mut e.content) {
        Some(Content::Readable(c)) => c.findings.extend(wrong_ca.into_iter().chain(in_clear)),
        Some(_) => {}
        None => scene.notes.extend(in_clear.map(|finding| finding.message)),
    }
    scene.kubelet.kubelet.identity = on_disk(scene, &conf, current, &config, &entries, leaves);
    entries
}

fn entries(scene: &mut Scene<'_>, conf: &Path, current: &Path, config: &Result<Kubeconfig, Finding>) -> Vec<Entry> {
    let by_link = |scene: &Scene<'_>, server| by_file(scene, current, current, server);
    match config {
        Ok(Kubeconfig { identity: Identity::Embedded { cert, key }, .. }) => {
            let rotated = scene.lies(current);
            let name = if rotated { "kubelet.conf" } else { "kubelet-client" };
            let own = |c| embedded(scene, name, conf, c, (cert, key), rotated.then_some(current));
            let mut entries: Vec<Entry> = config.iter().map(own).collect();
            if rotated {
                entries.push(by_link(scene, None));
            }
            entries
        }
        Ok(config) => match load::referred(conf, &config.identity) {
            Some((cert, _)) if !scene.lies(&cert) && scene.lies(current) => {
                let message = format!(
                    "{} names {}, which does not exist; let client-certificate and client-key name {}",
                    conf.display(),
                    cert.display(),
                    current.display()
                );
                let finding = Finding::new(Problem::PointsNowhere, message);
                vec![broken(scene, conf, finding), by_link(scene, config.server.clone())]
            }
            Some((cert, key)) => vec![by_file(scene, &cert, &key, config.server.clone())],
            None => {
                scene.notes.push(format!("{} authenticates without a certificate: nothing to check", conf.display()));
                Vec::new()
            }
        },
        // the kubeconfig is what is broken; the identity behind it can be seen all the same
        Err(finding) if scene.lies(current) || !dated(scene.root, current).is_empty() => {
            vec![broken(scene, conf, finding.clone()), by_link(scene, None)]
        }
        Err(finding) => {
            let form = Form::Kubeconfig { path: conf.to_path_buf() };
            vec![entry(scene, "kubelet-client", form, Content::Unusable(finding.clone()))]
        }
    }
}

fn broken(scene: &Scene<'_>, conf: &Path, finding: Finding) -> Entry {
    let form = Form::Kubeconfig { path: conf.to_path_buf() };
    let broken = entry(scene, "kubelet.conf", form, Content::Unusable(finding));
    Entry { owner: Owner::None, impact: catalogue::KUBELET_CONF.to_owned(), ..broken }
}

fn on_disk(
    scene: &Scene<'_>,
    conf: &Path,
    current: PathBuf,
    config: &Result<Kubeconfig, Finding>,
    entries: &[Entry],
    leaves: &[Entry],
) -> OnDisk {
    let bootstrap = scene.kubelet.kubelet.bootstrap_kubeconfig.as_deref();
    let bootstrap = bootstrap.and_then(|p| Some((p.to_path_buf(), load::kubeconfig(scene.root, p).ok()?.server?)));
    let beside = |name: &str| leaves.iter().find(|e| e.name == name).and_then(Entry::server).map(str::to_owned);
    let own = config.as_ref().ok().and_then(|c| c.server.clone());
    let server = own.or_else(|| bootstrap.as_ref().map(|(_, server)| server.clone()));
    let fit = |e: &Entry| identity::good(e.path().to_path_buf(), &e.content, false, scene.now).is_some();
    let found = entries.iter().find(|e| e.name == "kubelet-client");
    let lies = lies(scene.root, &current);
    let obstacle = obstacle(scene, &current);
    let needed = !found.is_some_and(fit) || !matches!(lies, Lies::Link { .. }) || obstacle.is_some();
    OnDisk {
        lies,
        good: if needed { good(scene, conf, &current, config) } else { Vec::new() },
        obstacle,
        serving_obstacle: file_at(scene.root, &current.with_file_name("kubelet-server-updated.pem")),
        can_sign: scene.authority("ca").is_some_and(|ca| ca.has_key),
        config: match (config, load::referred_by(conf, config)) {
            (Err(f), _) if f.id == Problem::Missing => Config::Missing,
            (Err(_), _) => Config::Unusable,
            (Ok(_), Some((cert, key))) if cert == current && key == current => Config::Current,
            (Ok(_), Some((cert, _))) => Config::Elsewhere { there: scene.lies(&cert), cert },
            (Ok(Kubeconfig { identity: Identity::Embedded { cert, .. }, .. }), None) => {
                let chain = crate::model::cert::parse_pem(cert).ok();
                Config::Embedded { until: chain.and_then(|c| Some(c.first()?.not_after)) }
            }
            (Ok(_), None) => Config::Other,
        },
        server: server.or_else(|| beside("admin.conf")).or_else(|| beside("controller-manager.conf")),
        bootstrap: bootstrap.map(|(path, _)| path),
        current,
    }
}

fn lies(root: &Root, path: &Path) -> Lies {
    match root.symlink_metadata(path) {
        Err(_) => Lies::Nothing,
        Ok(m) if m.is_symlink() => root.read_link(path).map_or(Lies::Obstructed, |to| Lies::Link { to }),
        Ok(m) if m.is_file() => Lies::File,
        Ok(_) => Lies::Obstructed,
    }
}

/// The kubelet's dated files, the newest first (client-go: `certificate_store.go:filename`; by local time).
fn dated(root: &Root, current: &Path) -> Vec<PathBuf> {
    let Some(dir) = current.parent() else { return Vec::new() };
    let is_dated = |name: &&String| {
        let middle = name.strip_prefix("kubelet-client-").and_then(|n| n.strip_suffix(".pem"));
        middle.is_some_and(|m| m.starts_with(|c: char| c.is_ascii_digit()))
    };
    let names = root.list(dir).unwrap_or_default();
    names.iter().rev().filter(is_dated).take(LOOKED_AT).map(|name| dir.join(name)).collect()
}

/// Every file with an identity that would do now: the plain file in the link's place, dated ones, the kubeconfig's own.
fn good(scene: &Scene<'_>, conf: &Path, current: &Path, config: &Result<Kubeconfig, Finding>) -> Vec<Good> {
    let mut all: Vec<Good> = dated(scene.root, current)
        .into_iter()
        .chain((lies(scene.root, current) == Lies::File).then(|| current.to_path_buf()))
        .filter_map(|file| identity::good(file.clone(), &content(scene, &file, &file), false, scene.now))
        .collect();
    if let Ok(c @ Kubeconfig { identity: Identity::Embedded { cert, key }, .. }) = config {
        let content = judged(scene, |wanted| load::embedded(scene, conf, c, (cert, key), wanted));
        all.extend(identity::good(conf.to_path_buf(), &content, true, scene.now));
    }
    all.sort_by_key(|g| std::cmp::Reverse(g.not_after));
    all
}

/// Whom the cluster's CA has issued identities for that lie here, the newest first.
pub(super) fn issued_before(scene: &Scene<'_>) -> Vec<Issued> {
    let current = scene.kubelet.kubelet.cert_dir.join(CURRENT);
    dated(scene.root, &current).iter().filter_map(|file| Issued::of(&content(scene, file, file), scene)).collect()
}

fn content(scene: &Scene<'_>, cert: &Path, key: &Path) -> Content {
    judged(scene, |wanted| load::pair(scene, cert, key, wanted))
}

/// Loads an identity and sees whether it is this node's.
fn judged(scene: &Scene<'_>, load: impl FnOnce(Expected<'_>) -> Content) -> Content {
    let own = scene.kubelet.hostname_override.as_ref().map(|name| format!("{}{name}", identity::USER));
    let common_name = own.as_deref().or(Some(identity::USER));
    let wanted = Expected { signer: scene.authority("ca"), common_name, organizations: NODES, usages: &["clientAuth"] };
    let mut content = load(wanted);
    if let Content::Readable(credential) = &mut content
        && own.is_none()
        && scene.kubelet.doubt.is_none()
    {
        let other = credential.chain.first().and_then(|l| another_node(scene, l.common_name.as_deref()?));
        credential.findings.extend(other);
    }
    content
}

/// As the kubelet, which asks for another certificate where the name in it is not its own, and whom the API server
/// forbids that (kubernetes: `plugin/pkg/admission/noderestriction/admission.go:admitCSR`). Names of one host that differ
/// in the domain only are not told apart: not everybody's `/etc/hostname` is what the kernel says.
fn another_node(scene: &Scene<'_>, common_name: &str) -> Option<Finding> {
    let name = common_name.strip_prefix(identity::USER)?;
    let host = super::host_name(scene.root).filter(|h| h != "localhost" && !scene.kubelet.named_by_cloud)?;
    let first = |n: &str| n.split('.').next().map(str::to_owned);
    (first(name) != first(&host)).then(|| {
        let message = format!("it is the identity of node `{name}`, and this host is called `{host}`");
        Finding::new(Problem::WrongIdentity, message)
    })
}

fn by_file(scene: &Scene<'_>, cert: &Path, key: &Path, server: Option<String>) -> Entry {
    let mut content = content(scene, cert, key);
    if let Content::Readable(credential) = &mut content {
        credential.server = server;
        credential.findings.extend(plain_file(scene, cert));
        credential.findings.extend(blocked(scene, cert));
        credential.findings.extend(rotation_off(scene));
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
pub(super) fn plain_file(scene: &Scene<'_>, path: &Path) -> Option<Finding> {
    let ours = path.file_name().is_some_and(|n| n == CURRENT || n == "kubelet-server-current.pem");
    let link = || scene.root.symlink_metadata(path).map_or(true, |m| m.is_symlink());
    let message =
        || format!("{} is a file where the kubelet wants a symbolic link: it cannot rotate any more", path.display());
    (ours && !link()).then(|| Finding::new(Problem::NotASymlink, message()))
}

/// The same of the link that it makes first.
fn obstacle(scene: &Scene<'_>, current: &Path) -> Option<PathBuf> {
    file_at(scene.root, &current.with_file_name(UPDATED))
}

/// What is no link.
fn file_at(root: &Root, path: &Path) -> Option<PathBuf> {
    root.symlink_metadata(path).is_ok_and(|m| !m.is_symlink()).then(|| path.to_path_buf())
}

fn blocked(scene: &Scene<'_>, cert: &Path) -> Option<Finding> {
    let path = cert.file_name().filter(|n| *n == CURRENT).and_then(|_| obstacle(scene, cert))?;
    let message = format!("{} lies where the kubelet would make its next link: it cannot rotate", path.display());
    Some(Finding::new(Problem::RotationBlocked, message))
}

fn rotation_off(scene: &Scene<'_>) -> Option<Finding> {
    let message = "the kubelet does not rotate it (rotateCertificates is false), so that certwarden does";
    (!scene.kubelet.kubelet.rotate_certificates).then(|| Finding::new(Problem::RotationOff, message))
}

fn embedded(
    scene: &Scene<'_>,
    name: &str,
    conf: &Path,
    config: &Kubeconfig,
    pair: (&[u8], &[u8]),
    rotated: Option<&Path>,
) -> Entry {
    let mut content = judged(scene, |wanted| load::embedded(scene, conf, config, pair, wanted));
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
        // by a request where there is no key to sign with
        owner: if rotates { Owner::Kubelet } else { Owner::Certwarden },
        used_by: vec![Component::Kubelet],
        signer: Some("ca".to_owned()),
        trusted_by: None,
        impact: catalogue::KUBELET_CLIENT.to_owned(),
        content,
    }
}
