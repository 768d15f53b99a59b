//! What must hold of every file that is read into an inventory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use openssl::x509::X509;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::keys::{self, Issuer};
use super::{kubelet as kubelets, manifests};
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::fs::Root;
use crate::model::assess::assess;
use crate::model::audit::audit;
use crate::model::cert::{self, CertFacts};
use crate::model::command;
use crate::model::fuzz::{parts, texts};
use crate::model::pem;
use crate::model::places::Places;
use crate::model::plan::{Maker, Source};
use crate::model::planner::{Basis, Selection, plan};
use crate::model::policy::Policy;
use crate::model::unit::{self, Machine, Service};
use crate::model::yaml;

/// PEM files: certificates, keys, bundles, and the kubelet's with both. Blocks survive being printed; that one
/// certificate issued another is said only where OpenSSL says so too.
pub fn pem(data: &[u8]) {
    let blocks: Vec<_> =
        pem::blocks(data).filter_map(Result::ok).filter_map(|b| Some((b.label, b.decode().ok()?))).collect();
    let print = |(label, der): &(&str, Zeroizing<Vec<u8>>)| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    };
    let printed: String = blocks.iter().map(print).collect();
    let again: Vec<_> = pem::blocks(printed.as_bytes()).map(|b| b.map(|b| (b.label, b.decode()))).collect();
    let expected: Vec<_> = blocks.iter().map(|(label, der)| Ok((*label, Ok(der.clone())))).collect();
    assert_eq!(again, expected, "printed blocks are the blocks");

    let chain = cert::parse_pem(data);
    let _ = keys::belongs(data, chain.as_deref().unwrap_or_default());
    let Ok(chain) = chain else { return };
    assert!(!chain.is_empty());
    for issuer in chain.iter().take(3) {
        for subject in chain.iter().take(3) {
            issued(issuer, subject);
        }
    }
    let issuers: Vec<Issuer> = chain.iter().take(3).filter_map(Issuer::new).collect();
    let _ = keys::leads_to(&chain, &issuers);
}

fn issued(issuer: &CertFacts, subject: &CertFacts) {
    if Issuer::new(issuer).is_some_and(|i| i.issued(subject)) {
        let cert = X509::from_der(&subject.der).unwrap_or_else(|e| panic!("OpenSSL does not read it: {e}"));
        let key = openssl::pkey::PKey::public_key_from_der(&issuer.spki).unwrap_or_else(|e| panic!("no key: {e}"));
        assert!(cert.verify(&key).unwrap_or(false), "OpenSSL does not believe the signature");
    }
}

/// One certificate.
pub fn der(data: &[u8]) {
    let Ok(facts) = CertFacts::from_der(data, 1) else { return };
    assert_eq!(facts.der, data);
    assert!(!facts.serial.is_empty() && facts.serial.bytes().all(|b| b.is_ascii_hexdigit()), "{}", facts.serial);
    let json = serde_json::to_string(&facts).unwrap();
    let again: CertFacts = serde_json::from_str(&json).unwrap();
    assert_eq!(CertFacts { spki: facts.spki.clone(), der: facts.der.clone(), raw: facts.raw.clone(), ..again }, facts);
    let _ = facts.key_algorithm.strength();
    issued(&facts, &facts);
}

/// One private key, its kind chosen by the first byte: the fast readers make of it what OpenSSL's general one does.
pub fn key(data: &[u8]) {
    let Some((kind, der)) = data.split_first() else { return };
    let label = match kind {
        b'r' => "RSA PRIVATE KEY",
        b'e' => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    if let (Ok(fast), Ok(slow)) = (keys::public_bits(label, der), keys::any_public_bits(der)) {
        assert_eq!(fast, slow, "{label}");
    }
}

/// The kubelet's unit, drop-in and environment file.
pub fn unit(data: &[u8]) {
    let Some([fragment, drop_in, environment]) = texts(data) else { return };
    let machine = Machine { host_name: Some("n".to_owned()), machine_id: None, unit: "kubelet.service".to_owned() };
    let service = Service::parse([fragment, drop_in], &machine);
    let mut variables = service.environment;
    variables.extend(unit::file(environment).unwrap_or_default());
    let Ok(words) = unit::expand(&service.exec_start, &variables) else { return };
    assert!(words.iter().map(|w| w.len() + 1).sum::<usize>() <= unit::MAX_ARGUMENTS);
    let quote = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    let line = format!("[Service]\nExecStart={}\n", words.iter().map(quote).collect::<Vec<_>>().join(" "));
    let plain = words.first().is_some_and(|w| !w.starts_with(['-', '@', ':', '+', '!', '|']) && !w.is_empty());
    if plain && words.iter().all(|w| !w.contains(['\n', '\r'])) {
        assert_eq!(Service::parse([line.as_str()], &machine).exec_start, words, "quoted and read again");
    }
    for program in command::programs(&words, &variables) {
        assert!(manifests::flags(&program.words).iter().all(|(name, _)| !name.is_empty()));
    }
}

/// The kubelet's configuration, a file of `--config-dir`, and its flags.
pub fn kubelet(data: &[u8]) {
    let Some([config, drop_in, arguments]) = texts(data) else { return };
    let Ok(mut config) = yaml::parse::<kubelets::Config>(config) else { return };
    if config.client_ca().is_none() {
        config.authentication = None; // without a CA it says nothing
    }
    assert_eq!(config.clone().overlaid(kubelets::Config::default()), config, "nothing changes nothing");
    assert_eq!(kubelets::Config::default().overlaid(config.clone()), config);
    let over = yaml::parse::<kubelets::Config>(drop_in).unwrap_or_default();
    let merged = config.overlaid(over.clone());
    assert_eq!(merged.clone().overlaid(over), merged, "what was laid over once is laid over");
    let flags = kubelets::Flags(manifests::flags(&words_of(arguments)));
    if let Some(address) = kubelets::healthz(&flags, &merged) {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        assert!(port.is_some_and(|p| p > 0), "{address}");
    }
    assert!(kubelets::address(&flags, &merged).is_none_or(|a| !a.is_empty()));
}

fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A static pod manifest: every flag and path of it can be asked for.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(containers) = manifests::parse(text, Path::new("/etc/kubernetes/manifests/a.yaml")) else { return };
    for container in containers {
        for (name, value) in &container.flags {
            assert!(!name.is_empty());
            let last = container.flags.iter().rev().find(|(n, v)| n == name && !v.is_empty());
            assert_eq!(container.flag(name), last.map(|(_, v)| v.as_str()), "the last one counts");
            let _ = container.on_host(value);
        }
        for mount in &container.mounts {
            let inside = mount.mount_path.to_str().map(|path| container.on_host(path));
            let hosts: Vec<_> = container.mounts.iter().map(|m| &m.host_path).collect();
            assert!(inside.is_none_or(|path| hosts.contains(&&path)), "a mount leads to none of the host's paths");
        }
        let _ = container.static_pod(Some("node-1"));
    }
}

/// A node's file system, made once; an input replaces some files of it.
struct Scenery {
    dir: TempDir,
    root: Root,
}

/// The files of an input, in their order.
const FILES: [&str; 7] = [
    "etc/kubernetes/manifests/kube-apiserver.yaml",
    "etc/kubernetes/manifests/etcd.yaml",
    "etc/kubernetes/manifests/other.yaml",
    "var/lib/kubelet/config.yaml",
    "etc/systemd/system/kubelet.service",
    "etc/kubernetes/kubelet.conf",
    "etc/etcd.env",
];

/// A whole node: whatever its files say, its inventory has no name twice and shows no key, and no plan that is made for
/// it breaks a safety rule.
pub fn node(data: &[u8]) {
    thread_local!(static SCENERY: OnceCell<Scenery> = const { OnceCell::new() });
    SCENERY.with(|scenery| judge(scenery.get_or_init(Scenery::make), parts(data)));
}

fn judge(scenery: &Scenery, files: [&[u8]; 7]) {
    for (path, bytes) in FILES.iter().zip(files) {
        fs::write(scenery.dir.path().join(path), bytes).unwrap();
    }
    let (now, policy) = (Timestamp::now(), Policy::default());
    let inventory = super::collect(&scenery.root, now, &policy.kubeconfigs);
    let names: BTreeSet<&str> = inventory.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names.len(), inventory.entries.len(), "a name stands for two entries");
    let json = serde_json::to_string(&inventory).unwrap();
    assert!(!json.contains("PRIVATE KEY"), "the inventory shows a key");
    let assessment = assess(&inventory, &policy, now);
    let all = [Selection::Due, Selection::All, Selection::Names(names.iter().map(|n| (*n).to_owned()).collect())];
    for (selection, live) in all.iter().zip([true, true, false]) {
        let places = Places::default();
        let basis = Basis { inventory: &inventory, assessment: &assessment, policy: &policy, live, places: &places };
        let maker = Maker { source: Source::Kubeadm, why: "asked for".to_owned() };
        let plan = plan(basis, selection, maker, now).unwrap();
        assert_eq!(audit(&plan, &inventory), [], "{plan:?}");
    }
}

impl Scenery {
    /// In memory where that can be had. Leaves are due, so that plans have something in them.
    fn make() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        for path in FILES {
            write(path, b"");
        }
        let soon = |leaf: Leaf| Leaf { days: (-300, 20), ..leaf };
        for (ca_file, leaves) in [
            ("ca", vec![("apiserver", Leaf::server("kube-apiserver", &["IP:127.0.0.1", "DNS:localhost"]))]),
            ("front-proxy-ca", vec![("front-proxy-client", Leaf::client("front-proxy-client", &[]))]),
            (
                "etcd/ca",
                vec![("etcd/server", Leaf::server("a", &["IP:127.0.0.1"])), ("etcd/peer", Leaf::server("a", &[]))],
            ),
        ] {
            let ca = Ca::new(ca_file);
            write(&format!("etc/kubernetes/pki/{ca_file}.crt"), &ca.cert);
            write(&format!("etc/kubernetes/pki/{ca_file}.key"), &ca.key);
            for (file, leaf) in leaves {
                let identity = ca.issue(&soon(leaf));
                write(&format!("etc/kubernetes/pki/{file}.crt"), &identity.cert);
                write(&format!("etc/kubernetes/pki/{file}.key"), &identity.key);
            }
            if ca_file == "ca" {
                let own = ca.issue(&soon(Leaf::client("system:node:a", &["system:nodes"])));
                let file = "var/lib/kubelet/pki/kubelet-client-1.pem";
                write(file, &[own.cert.as_slice(), own.key.as_slice()].concat());
                let link = dir.path().join("var/lib/kubelet/pki/kubelet-client-current.pem");
                std::os::unix::fs::symlink(format!("/{file}"), link).unwrap();
            }
        }
        let root = Root::open(dir.path()).unwrap();
        Self { dir, root }
    }
}
