//! A node tree in a temporary directory, and a host on which only programs and files are real.

#![allow(clippy::unused_self, clippy::struct_field_names, reason = "a small library")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use certwarden::host::Host;
use certwarden::host::clock::SystemClock;
use certwarden::host::cri::{Container, ContainerRuntime, CriError, Exit};
use certwarden::host::crypto::sign_like;
use certwarden::host::exec::Exec;
use certwarden::host::fs::Root;
use certwarden::host::kube::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI};
use certwarden::host::systemd::{JobResult, Later, ServiceManager, SystemdError, UnitStatus};
use certwarden::model::cert::KeyAlgorithm;
use certwarden::model::component::Component;
use certwarden::model::inventory::{self, ContainerRef, Form, StaticPod};
use certwarden::model::plan::{Item, Source};
use certwarden::model::policy::{Policy, Span};
use certwarden::model::version::Version;
use certwarden::renew::{RenewError, Request, Staged, renewer};
use jiff::Timestamp;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// A kubeadm that renews the name it is given ($3), from files made beforehand.
pub const RENEW: &str =
    "case $3 in *.conf) cp $NEXT/$3 $K/$3;; *) cp $NEXT/$3.key $NEXT/$3.crt $K/pki/;; esac; echo $3 renewed";

/// Whether this test may make mount namespaces: root with `CAP_SYS_ADMIN`. Without it there is no staging to be tested.
pub fn private_mounts() -> bool {
    let probe = std::process::Command::new("unshare").args(["--mount", "true"]).output();
    let may = probe.is_ok_and(|o| o.status.success());
    assert!(may || std::env::var_os("CERTWARDEN_CI").is_none(), "CI must be able to make mount namespaces");
    if !may {
        // not by eprintln!, which the test runner swallows
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: no private mounts (not root?)\n");
    }
    may
}

pub struct Node {
    pub dir: tempfile::TempDir,
    pub host: Host,
    pub node: inventory::Node,
    pub now: Timestamp,
    policy: Policy,
}

type Identity = (Vec<u8>, Vec<u8>);

impl Node {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("root");
        for sub in ["etc/kubernetes/pki", "etc/kubernetes/manifests", "var/lib/certwarden", "bin", "next", "work"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        let ca = make("kubernetes", None, None);
        let apiserver = make("kube-apiserver", Some("10.0.0.7"), Some(&ca));
        let admin = make("kubernetes-admin", None, Some(&ca));
        let write = |path: &str, bytes: &[u8], mode: u32| {
            fs::write(root.join(path), bytes).unwrap();
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("etc/kubernetes/pki/ca.crt", &ca.0, 0o644);
        write("etc/kubernetes/pki/ca.key", &ca.1, 0o600);
        write("etc/kubernetes/pki/apiserver.crt", &apiserver.0, 0o644);
        write("etc/kubernetes/pki/apiserver.key", &apiserver.1, 0o600);
        let bundle = [ca.0.clone(), make("next-ca", None, None).0].concat();
        write("etc/kubernetes/admin.conf", kubeconfig(&bundle, &admin, "# kept by us\n").as_bytes(), 0o600);
        write("etc/kubernetes/manifests/kube-apiserver.yaml", MANIFEST.as_bytes(), 0o600);
        let now = Timestamp::now();
        let next = |old: &Identity| {
            let end = Timestamp::from_second(now.as_second() + 365 * 86_400).unwrap();
            let algorithm = KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 };
            let signed = sign_like(&old.0, &ca.0, &ca.1, &algorithm, now, end).unwrap();
            (signed.cert, signed.key.to_vec())
        };
        let fresh = next(&apiserver);
        write("next/apiserver.crt", &fresh.0, 0o644);
        write("next/apiserver.key", &fresh.1, 0o600);
        // as kubeadm writes it: anew, with one certificate of the bundle
        write("next/admin.conf", kubeconfig(&ca.0, &next(&admin), "").as_bytes(), 0o600);
        let policy =
            Policy { exec: certwarden::model::policy::Exec { kubeadm_timeout: Span::secs(2) }, ..Policy::default() };
        Self { host: host(&root), node: node(), now, policy, dir }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.host.root.on_host(Path::new(path))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub fn bin(&self) -> PathBuf {
        self.at("/bin")
    }

    pub fn workdir(&self) -> PathBuf {
        self.at("/work")
    }

    pub fn install(&self, text: &str) {
        fs::write(self.bin().join("kubeadm"), text).unwrap();
        fs::set_permissions(self.bin().join("kubeadm"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A kubeadm 1.34 whose `certs renew` is this script. `$K` is the live directory, `$NEXT` holds good new files.
    pub fn install_kubeadm(&self, script: &str) {
        let (k, next) = (self.at("/etc/kubernetes"), self.at("/next"));
        let version = "[ \"$1\" = version ] && { echo v1.34.2; exit 0; }";
        self.install(&format!("#!/bin/bash\n{version}\nK={} NEXT={}\n{script}\n", k.display(), next.display()));
    }

    pub fn item(&self, name: &str) -> Item {
        let pki = Path::new("/etc/kubernetes/pki");
        let form = if Path::new(name).extension().is_some_and(|e| e == "conf") {
            Form::Kubeconfig { path: Path::new("/etc/kubernetes").join(name) }
        } else {
            Form::Pair { cert: pki.join(format!("{name}.crt")), key: pki.join(format!("{name}.key")) }
        };
        Item {
            name: name.into(),
            form,
            owner: inventory::Owner::Kubeadm,
            signer: "ca".into(),
            ca: pki.join("ca.crt"),
            ca_key: pki.join("ca.key"),
            trust: None,
            old_serial: None,
            old_not_after: None,
            reason: String::new(),
            user: None,
            also: Vec::new(),
        }
    }

    pub fn request<'a>(&'a self, items: &'a [Item]) -> Request<'a> {
        let workdir = Box::leak(Box::new(self.workdir()));
        Request {
            items,
            node: &self.node,
            policy: &self.policy,
            workdir,
            now: self.now,
            patience: certwarden::renew::FOREVER,
        }
    }

    pub fn stage_items(&self, source: &Source, items: &[Item]) -> Result<Staged, RenewError> {
        renewer(source).stage(&self.host, &self.request(items))
    }

    pub fn stage(&self, source: &Source, names: &[&str]) -> Result<Staged, RenewError> {
        let items: Vec<Item> = names.iter().map(|n| self.item(n)).collect();
        self.stage_items(source, &items)
    }

    /// The live files, as if they had been staged.
    pub fn present(&self, name: &str) -> Staged {
        let item = self.item(name);
        let read = |p: &Path| (p.to_path_buf(), self.host.root.read_secret(p).unwrap());
        Staged { files: item.form.files().into_iter().map(read).collect(), ..Staged::default() }
    }

    /// Content, mode, inode and times of every live file.
    pub fn live(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32, u64, i64, i64)> {
        let mut all = BTreeMap::new();
        let mut dirs = vec![self.at("/etc")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let m = path.symlink_metadata().unwrap();
                    let bytes = fs::read(&path).unwrap_or_default();
                    all.insert(path, (bytes, m.mode(), m.ino(), m.mtime_nsec(), m.ctime_nsec()));
                }
            }
        }
        all
    }

    pub fn cluster_says(&mut self, text: &str) {
        self.host.kube = Box::new(Fake { cluster: Some(text.to_owned()) });
    }

    pub fn cluster_is_down(&mut self) {
        self.host.kube = Box::new(Fake { cluster: None });
    }
}

const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: kube-apiserver\n    image: registry.k8s.io/kube-apiserver:v1.33.5\n";

fn node() -> inventory::Node {
    let flags = BTreeMap::from([("advertise-address".to_owned(), "10.0.0.7".to_owned())]);
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml".into();
    inventory::Node {
        name: Some("n1".into()),
        role: inventory::Role::ControlPlane,
        static_pods: BTreeMap::from([(
            Component::KubeApiserver,
            StaticPod { manifest, flags, version: Version::parse("v1.33.5"), ..StaticPod::default() },
        )]),
        kubelet: inventory::Kubelet {
            unit: "kubelet.service".into(),
            cert_dir: "/var/lib/kubelet/pki".into(),
            rotate_certificates: true,
            ..inventory::Kubelet::default()
        },
        pki_dir: "/etc/kubernetes/pki".into(),
        ..inventory::Node::default()
    }
}

/// A self-signed CA, or a leaf for server and client; both PEM.
fn make(cn: &str, address: Option<&str>, ca: Option<&Identity>) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = EcKey::generate(&group).unwrap();
    let pkey = PKey::from_ec_key(key.clone()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let name = name.build();
    let issuer = ca.map(|(cert, key)| (X509::from_pem(cert).unwrap(), PKey::private_key_from_pem(key).unwrap()));
    let mut b = X509Builder::new().unwrap();
    b.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(100, openssl::bn::MsbOption::ONE, false).unwrap();
    b.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    b.set_subject_name(&name).unwrap();
    b.set_issuer_name(issuer.as_ref().map_or(&name, |(c, _)| c.subject_name())).unwrap();
    b.set_pubkey(&pkey).unwrap();
    let now = Timestamp::now().as_second();
    b.set_not_before(&Asn1Time::from_unix(now - 3600).unwrap()).unwrap();
    let days = if ca.is_some() { 3 } else { 3650 };
    b.set_not_after(&Asn1Time::from_unix(now + days * 86_400).unwrap()).unwrap();
    if ca.is_none() {
        b.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        b.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
    } else {
        b.append_extension(KeyUsage::new().critical().digital_signature().build().unwrap()).unwrap();
        b.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build().unwrap()).unwrap();
    }
    if let Some(address) = address {
        let san = SubjectAlternativeName::new().dns("kubernetes").ip(address).build(&b.x509v3_context(None, None));
        b.append_extension(san.unwrap()).unwrap();
    }
    let signer: &PKey<Private> = issuer.as_ref().map_or(&pkey, |(_, k)| k);
    b.sign(signer, MessageDigest::sha256()).unwrap();
    (b.build().to_pem().unwrap(), key.private_key_to_pem().unwrap())
}

fn kubeconfig(ca: &[u8], identity: &Identity, comment: &str) -> String {
    let b64 = openssl::base64::encode_block;
    format!(
        "apiVersion: v1\n{comment}clusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://10.0.0.7:6443\n  \
         name: kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: admin\n  name: admin@kubernetes\n\
         current-context: admin@kubernetes\nkind: Config\nusers:\n- name: admin\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\n",
        b64(ca),
        b64(&identity.0),
        b64(&identity.1)
    )
}

fn host(root: &Path) -> Host {
    Host {
        live: true,
        root: Root::open(root).unwrap(),
        services: Box::new(Fake { cluster: None }),
        kube: Box::new(Fake { cluster: None }),
        runtime: Box::new(Fake { cluster: None }),
        programs: std::sync::Arc::new(
            Exec::with_dirs(vec![root.join("bin")]).with_certwarden(env!("CARGO_BIN_EXE_certwarden").into()),
        ),
        clock: Box::new(SystemClock::default()),
        by: None,
    }
}

/// A cluster that at most tells its configuration.
struct Fake {
    cluster: Option<String>,
}

fn down<T>() -> Result<T, KubeError> {
    Err(KubeError::Unreachable { server: "https://10.0.0.7:6443".into(), detail: "connection refused".into() })
}

impl KubeApi for Fake {
    fn get(&self, _: &Connection, _: &str) -> Result<Answer, KubeError> {
        down()
    }
    fn post(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        down()
    }
    fn put(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        down()
    }
    fn whoami(&self, _: &Connection) -> Result<WhoAmI, KubeError> {
        down()
    }
    fn node_ready(&self, _: &Connection, _: &str) -> Result<NodeReady, KubeError> {
        down()
    }
    fn node_lease(&self, _: &Connection, _: &str) -> Result<NodeLease, KubeError> {
        down()
    }
    fn cluster_configuration(&self, _: &Connection) -> Result<Option<String>, KubeError> {
        self.cluster.clone().map_or_else(down, |text| Ok(Some(text)))
    }
}

fn no_bus<T>() -> Result<T, SystemdError> {
    Err(SystemdError::Unreachable { detail: "not in this test".into() })
}

impl ServiceManager for Fake {
    fn status(&self, _: &str) -> Result<UnitStatus, SystemdError> {
        no_bus()
    }
    fn restart(&self, _: &str) -> Result<JobResult, SystemdError> {
        no_bus()
    }
    fn stop(&self, _: &str) -> Result<JobResult, SystemdError> {
        no_bus()
    }
    fn start(&self, _: &str) -> Result<JobResult, SystemdError> {
        no_bus()
    }
    fn run_later(&self, _: &Later) -> Result<(), SystemdError> {
        no_bus()
    }
    fn system_state(&self) -> Result<String, SystemdError> {
        no_bus()
    }
    fn clock_synchronised(&self) -> Option<bool> {
        None
    }
    fn log_tail(&self, _: &str, _: &str) -> Vec<String> {
        Vec::new()
    }
}

impl ContainerRuntime for Fake {
    fn has_image(&self, _: &Path, name: &str) -> Result<bool, CriError> {
        Err(CriError::Call { what: "find an image", detail: name.to_owned() })
    }
    fn containers(&self, _: &Path, what: &ContainerRef) -> Result<Vec<Container>, CriError> {
        Err(CriError::Call { what: "list", detail: what.to_string() })
    }
    fn pods(&self, socket: &Path) -> Result<BTreeSet<String>, CriError> {
        Err(CriError::Call { what: "list pods", detail: socket.display().to_string() })
    }
    fn exit(&self, _: &Path, id: &str) -> Result<Option<Exit>, CriError> {
        Err(CriError::Call { what: "tell a status", detail: id.to_owned() })
    }
    fn stop(&self, _: &Path, id: &str, _: Duration) -> Result<(), CriError> {
        Err(CriError::Call { what: "stop", detail: id.to_owned() })
    }
}
