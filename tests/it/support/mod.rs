//! Makes the file system of a kubeadm-like node with real X.509, as kubeadm, kubelet and kubespray write it.
//! Shared by the tests, the benches and `xtask`.

#![allow(dead_code, reason = "each user takes what it needs")]
#![allow(unreachable_pub, reason = "included as a module by several crates")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unnecessary_debug_formatting,
    reason = "a test fails by panicking"
)]

pub mod acceptance;
pub mod odd;
pub mod pki;
pub mod said;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use openssl::base64::encode_block;
pub use pki::{Ca, KeyKind, Leaf, Usage};

pub const DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// `kubeadm init` with stacked etcd.
    ControlPlane,
    /// `kubeadm join`.
    Worker,
    /// kubespray's control plane: `/etc/kubernetes/ssl`, etcd as a service with `/etc/ssl/etcd/ssl`.
    Kubespray,
}

/// What the tree should be like. `Default`: a healthy control plane whose leaves live for 300 days.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Options {
    pub layout: Layout,
    pub node: String,
    pub keys: KeyKind,
    /// Seconds that every leaf has left.
    pub left: i64,
    /// Seconds left by logical name, where it differs.
    pub left_of: BTreeMap<String, i64>,
    pub ca_left: i64,
    /// No `ca.key`.
    pub external_ca: bool,
    pub super_admin: bool,
    /// `kubelet.conf` as kubeadm ≤ 1.16 left it: with an identity of its own.
    pub embedded_kubelet: bool,
    pub server_tls_bootstrap: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layout: Layout::ControlPlane,
            node: "node-1".to_owned(),
            keys: KeyKind::P256,
            left: 300 * DAY,
            left_of: BTreeMap::new(),
            ca_left: 3000 * DAY,
            external_ca: false,
            super_admin: false,
            embedded_kubelet: false,
            server_tls_bootstrap: false,
        }
    }
}

impl Options {
    pub fn left_of(mut self, name: &str, seconds: i64) -> Self {
        self.left_of.insert(name.to_owned(), seconds);
        self
    }
}

/// A node's file system below a directory.
#[derive(Debug)]
pub struct Tree {
    pub root: PathBuf,
    pub options: Options,
    pub ca: Ca,
    pub front_proxy_ca: Ca,
    pub etcd_ca: Ca,
}

impl Tree {
    pub fn build(root: &Path, options: Options) -> Self {
        let ca = |name: &str| Ca::new(name, options.keys, options.ca_left);
        let tree = Self {
            root: root.to_path_buf(),
            ca: ca("kubernetes"),
            front_proxy_ca: ca("front-proxy-ca"),
            etcd_ca: ca("etcd-ca"),
            options,
        };
        tree.kubelet();
        match tree.options.layout {
            Layout::Worker => tree.write("/etc/kubernetes/pki/ca.crt", tree.ca.cert_pem(), 0o644),
            Layout::ControlPlane => tree.control_plane("/etc/kubernetes/pki", true),
            Layout::Kubespray => {
                tree.control_plane("/etc/kubernetes/ssl", false);
                tree.kubespray_etcd();
            }
        }
        tree
    }

    /// A path of the node on this machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        // absolute links lead within the tree
        let link = fs::read_link(self.at(path)).ok().filter(|target| target.is_absolute());
        let path = link.map_or_else(|| self.at(path), |target| self.at(&target.display().to_string()));
        fs::read_to_string(path).unwrap()
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let _ = fs::remove_file(self.at(path));
        symlink(target, self.at(path)).unwrap();
    }

    /// Seconds left of the leaf with this logical name.
    fn left(&self, name: &str) -> i64 {
        self.options.left_of.get(name).copied().unwrap_or(self.options.left)
    }

    /// A leaf as kubeadm would make it under this logical name.
    pub fn leaf(&self, ca: &Ca, name: &str, subject: (&str, Option<&str>), usage: Usage) -> Leaf {
        ca.issue(subject, usage, &["localhost", &self.options.node], self.left(name))
    }

    pub fn pair(&self, cert: &str, key: &str, leaf: &Leaf) {
        self.write(cert, &leaf.cert_pem, 0o644);
        self.write(key, &leaf.key_pem, 0o600);
    }

    /// A CA in `BASE.crt` and `BASE.key`.
    pub fn pair_of(&self, base: &str, ca: &Ca) {
        self.write(&format!("{base}.crt"), ca.cert_pem(), 0o644);
        self.write(&format!("{base}.key"), ca.key_pem(), 0o600);
    }

    fn control_plane(&self, pki: &str, stacked: bool) {
        let o = &self.options;
        for (file, ca) in [("ca", &self.ca), ("front-proxy-ca", &self.front_proxy_ca), ("etcd/ca", &self.etcd_ca)] {
            if stacked || file != "etcd/ca" {
                self.write(&format!("{pki}/{file}.crt"), ca.cert_pem(), 0o644);
                if !(o.external_ca && file == "ca") {
                    self.write(&format!("{pki}/{file}.key"), ca.key_pem(), 0o600);
                }
            }
        }
        let node = (o.node.as_str(), None);
        let (server, client, both) = (Usage::Server, Usage::Client, Usage::Both);
        let kubelet_client = ("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"));
        let mut leaves = vec![
            ("apiserver", "apiserver", &self.ca, ("kube-apiserver", None), server),
            ("apiserver-kubelet-client", "apiserver-kubelet-client", &self.ca, kubelet_client, client),
            ("front-proxy-client", "front-proxy-client", &self.front_proxy_ca, ("front-proxy-client", None), client),
        ];
        if stacked {
            let etcd_client = ("kube-apiserver-etcd-client", None);
            leaves.extend([
                ("apiserver-etcd-client", "apiserver-etcd-client", &self.etcd_ca, etcd_client, client),
                ("etcd-server", "etcd/server", &self.etcd_ca, node, both),
                ("etcd-peer", "etcd/peer", &self.etcd_ca, node, both),
                (
                    "etcd-healthcheck-client",
                    "etcd/healthcheck-client",
                    &self.etcd_ca,
                    ("kube-etcd-healthcheck-client", None),
                    client,
                ),
            ]);
        }
        for (name, base, ca, subject, usage) in leaves {
            let leaf = self.leaf(ca, name, subject, usage);
            self.pair(&format!("{pki}/{base}.crt"), &format!("{pki}/{base}.key"), &leaf);
        }
        let mut configs = vec![
            ("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
            ("controller-manager.conf", "system:kube-controller-manager", None),
            ("scheduler.conf", "system:kube-scheduler", None),
        ];
        if o.super_admin {
            configs.push(("super-admin.conf", "kubernetes-super-admin", Some("system:masters")));
        }
        for (name, user, group) in configs {
            let leaf = self.leaf(&self.ca, name, (user, group), Usage::Client);
            self.write(&format!("/etc/kubernetes/{name}"), self.kubeconfig(user, &embedded(&leaf)), 0o600);
        }
        self.manifests(pki, stacked);
    }

    /// A kubeconfig as kubeadm writes it; `identity` is the indented body of the user.
    pub fn kubeconfig(&self, user: &str, identity: &str) -> String {
        let ca = encode_block(&self.ca.cert_pem());
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://10.0.0.1:6443\n  \
             name: kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: {user}\n  name: {user}@kubernetes\n\
             current-context: {user}@kubernetes\nkind: Config\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n{identity}"
        )
    }

    fn kubelet(&self) {
        let o = &self.options;
        let ca_file =
            if o.layout == Layout::Kubespray { "/etc/kubernetes/ssl/ca.crt" } else { "/etc/kubernetes/pki/ca.crt" };
        self.write(
            "/usr/lib/systemd/system/kubelet.service",
            "[Unit]\nDescription=kubelet\n\n[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\nRestartSec=10\n",
            0o644,
        );
        self.write(
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "# Note: This dropin only works with kubeadm and kubelet v1.11+\n[Service]\n\
             Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
             --kubeconfig=/etc/kubernetes/kubelet.conf\"\n\
             Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"\n\
             EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\n\
             ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n",
            0o644,
        );
        self.write(
            "/var/lib/kubelet/kubeadm-flags.env",
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock\"\n",
            0o644,
        );
        self.write(
            "/var/lib/kubelet/config.yaml",
            format!(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nauthentication:\n  anonymous:\n    enabled: false\n  x509:\n    \
                 clientCAFile: {ca_file}\nhealthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nkind: KubeletConfiguration\n\
                 rotateCertificates: true\nserverTLSBootstrap: {}\nstaticPodPath: /etc/kubernetes/manifests\n",
                o.server_tls_bootstrap
            ),
            0o644,
        );
        self.write("/etc/hostname", format!("{}\n", o.node), 0o644);
        self.kubelet_pki();
    }

    fn kubelet_pki(&self) {
        const PKI: &str = "/var/lib/kubelet/pki";
        let o = &self.options;
        let user = format!("system:node:{}", o.node);
        let subject = (user.as_str(), Some("system:nodes"));
        let client = self.leaf(&self.ca, "kubelet-client", subject, Usage::Client);
        self.write(&format!("{PKI}/kubelet-client-2026-01-02-03-04-05.pem"), client.combined(), 0o600);
        let current = format!("{PKI}/kubelet-client-current.pem");
        self.link(&current, &format!("{PKI}/kubelet-client-2026-01-02-03-04-05.pem"));
        let identity = if o.embedded_kubelet {
            embedded(&self.leaf(&self.ca, "kubelet.conf", subject, Usage::Client))
        } else {
            format!("    client-certificate: {current}\n    client-key: {current}\n")
        };
        self.write("/etc/kubernetes/kubelet.conf", self.kubeconfig(&user, &identity), 0o600);
        if o.server_tls_bootstrap {
            let serving = self.leaf(&self.ca, "kubelet-serving", subject, Usage::Server);
            self.write(&format!("{PKI}/kubelet-server-2026-01-02-03-04-05.pem"), serving.combined(), 0o600);
            let dated = format!("{PKI}/kubelet-server-2026-01-02-03-04-05.pem");
            self.link(&format!("{PKI}/kubelet-server-current.pem"), &dated);
        } else {
            let throw_away = Ca::new(&format!("{}-ca@1700000000", o.node), o.keys, self.left("kubelet-serving"));
            let own = format!("{}@1700000000", o.node);
            let serving = self.leaf(&throw_away, "kubelet-serving", (&own, None), Usage::Server);
            let chain = [serving.cert_pem.clone(), throw_away.cert_pem()].concat();
            self.write(&format!("{PKI}/kubelet.crt"), chain, 0o644);
            self.write(&format!("{PKI}/kubelet.key"), &serving.key_pem, 0o600);
        }
    }

    #[allow(clippy::too_many_lines, reason = "a listing of flags")]
    fn manifests(&self, pki: &str, stacked: bool) {
        let node = &self.options.node;
        let etcd = if stacked {
            (
                format!("{pki}/apiserver-etcd-client.crt"),
                format!("{pki}/apiserver-etcd-client.key"),
                format!("{pki}/etcd/ca.crt"),
            )
        } else {
            let dir = "/etc/ssl/etcd/ssl";
            (format!("{dir}/node-{node}.pem"), format!("{dir}/node-{node}-key.pem"), format!("{dir}/ca.pem"))
        };
        self.manifest(
            "kube-apiserver",
            &[
                "--advertise-address=10.0.0.1".to_owned(),
                format!("--client-ca-file={pki}/ca.crt"),
                format!("--etcd-cafile={}", etcd.2),
                format!("--etcd-certfile={}", etcd.0),
                format!("--etcd-keyfile={}", etcd.1),
                "--etcd-servers=https://127.0.0.1:2379".to_owned(),
                format!("--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt"),
                format!("--kubelet-client-key={pki}/apiserver-kubelet-client.key"),
                format!("--proxy-client-cert-file={pki}/front-proxy-client.crt"),
                format!("--proxy-client-key-file={pki}/front-proxy-client.key"),
                "--requestheader-allowed-names=front-proxy-client".to_owned(),
                format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
                "--secure-port=6443".to_owned(),
                format!("--service-account-key-file={pki}/sa.pub"),
                format!("--tls-cert-file={pki}/apiserver.crt"),
                format!("--tls-private-key-file={pki}/apiserver.key"),
            ],
            &[(pki, "DirectoryOrCreate")],
        );
        let conf = |name: &str| format!("/etc/kubernetes/{name}.conf");
        let manager = conf("controller-manager");
        self.manifest(
            "kube-controller-manager",
            &[
                format!("--authentication-kubeconfig={manager}"),
                format!("--authorization-kubeconfig={manager}"),
                format!("--client-ca-file={pki}/ca.crt"),
                format!("--cluster-signing-cert-file={pki}/ca.crt"),
                format!("--cluster-signing-key-file={pki}/ca.key"),
                format!("--kubeconfig={manager}"),
                format!("--root-ca-file={pki}/ca.crt"),
            ],
            &[(pki, "DirectoryOrCreate"), (&manager, "FileOrCreate")],
        );
        let scheduler = conf("scheduler");
        self.manifest("kube-scheduler", &[format!("--kubeconfig={scheduler}")], &[(&scheduler, "FileOrCreate")]);
        if stacked {
            self.manifest(
                "etcd",
                &[
                    format!("--cert-file={pki}/etcd/server.crt"),
                    "--client-cert-auth=true".to_owned(),
                    format!("--key-file={pki}/etcd/server.key"),
                    "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379".to_owned(),
                    "--listen-metrics-urls=http://127.0.0.1:2381".to_owned(),
                    format!("--peer-cert-file={pki}/etcd/peer.crt"),
                    format!("--peer-key-file={pki}/etcd/peer.key"),
                    format!("--peer-trusted-ca-file={pki}/etcd/ca.crt"),
                    format!("--trusted-ca-file={pki}/etcd/ca.crt"),
                ],
                &[(&format!("{pki}/etcd"), "DirectoryOrCreate")],
            );
        }
    }

    /// A static pod with one container, its command line as kubeadm lays it out.
    pub fn manifest(&self, component: &str, flags: &[String], mounts: &[(&str, &str)]) {
        let mut text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {component}\n  namespace: kube-system\nspec:\n  containers:\n  \
             - command:\n    - {component}\n"
        );
        for flag in flags {
            let _ = writeln!(text, "    - {flag}");
        }
        let _ =
            write!(text, "    image: registry.k8s.io/{component}:v1.34.0\n    name: {component}\n    volumeMounts:\n");
        for (i, (path, _)) in mounts.iter().enumerate() {
            let _ = write!(text, "    - mountPath: {path}\n      name: v{i}\n");
        }
        text += "  hostNetwork: true\n  volumes:\n";
        for (i, (path, kind)) in mounts.iter().enumerate() {
            let _ = write!(text, "  - hostPath:\n      path: {path}\n      type: {kind}\n    name: v{i}\n");
        }
        self.write(&format!("/etc/kubernetes/manifests/{component}.yaml"), text, 0o600);
    }

    fn kubespray_etcd(&self) {
        const DIR: &str = "/etc/ssl/etcd/ssl";
        let node = &self.options.node;
        self.write(&format!("{DIR}/ca.pem"), self.etcd_ca.cert_pem(), 0o644);
        for (name, kind) in [("apiserver-etcd-client", "node"), ("etcd-server", "member")] {
            let leaf = self.leaf(&self.etcd_ca, name, (&format!("etcd-{kind}-{node}"), None), Usage::Both);
            self.pair(&format!("{DIR}/{kind}-{node}.pem"), &format!("{DIR}/{kind}-{node}-key.pem"), &leaf);
        }
        let member = format!("{DIR}/member-{node}");
        self.write(
            "/etc/etcd.env",
            format!(
                "ETCD_TRUSTED_CA_FILE={DIR}/ca.pem\nETCD_CERT_FILE={member}.pem\nETCD_KEY_FILE={member}-key.pem\n\
                 ETCD_PEER_CERT_FILE={member}.pem\nETCD_PEER_KEY_FILE={member}-key.pem\n"
            ),
            0o600,
        );
    }
}

/// The body of a kubeconfig's user with an embedded identity.
pub fn embedded(leaf: &Leaf) -> String {
    format!(
        "    client-certificate-data: {}\n    client-key-data: {}\n",
        encode_block(&leaf.cert_pem),
        encode_block(&leaf.key_pem)
    )
}

/// A whole tree, once more.
pub fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

/// Everything in a directory that a change would show in: names, kinds, modes, times, contents.
pub fn snapshot(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(&dir).unwrap() {
            let path = item.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let small = meta.is_file() && meta.len() < 1 << 20;
            let content = if small { openssl::sha::sha256(&fs::read(&path).unwrap()).to_vec() } else { Vec::new() };
            let link = fs::read_link(&path).unwrap_or_default();
            found.push(format!("{path:?} {:o} {} {:?} {content:?} {link:?}", meta.mode(), meta.len(), meta.modified()));
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}
