//! What people have done to nodes of kubeadm, rebuilt: each is odd, and well. The reports are named.

#![allow(dead_code, reason = "each user takes what it needs")]

use std::fs;

use openssl::asn1::{Asn1Integer, Asn1Time, Asn1Type};
use openssl::base64::encode_block;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::{BasicConstraints, KeyUsage};
use openssl::x509::{X509, X509NameBuilder};

use super::{Ca, DAY, KeyKind, Tree, Usage};

pub const PKI: &str = "/etc/kubernetes/pki";
const UNIT: &str = "/usr/lib/systemd/system/kubelet.service";
const DROP_IN: &str = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";

pub fn manifest(name: &str) -> String {
    format!("/etc/kubernetes/manifests/{name}.yaml")
}

pub fn edit(tree: &Tree, path: &str, from: &str, to: &str) {
    let text = tree.read(path);
    assert!(text.contains(from), "{path} has no {from}");
    tree.write(path, text.replace(from, to), 0o600);
}

/// systemd.unit(5) lists that directory; kubeadm writes nodeRegistration.name to kubeadm-flags.env.
pub fn moved_unit(t: &Tree) {
    for path in [UNIT, DROP_IN] {
        t.write(&path.replace("/usr/lib", "/usr/local/lib"), t.read(path), 0o644);
        t.remove(path);
    }
    t.write(
        "/var/lib/kubelet/kubeadm-flags.env",
        "KUBELET_KUBEADM_ARGS=\"--hostname-override=node-1 --node-ip=10.0.0.1\"\n",
        0o644,
    );
    t.write("/etc/hostname", "ip-10-0-0-1\n", 0o644);
}

/// kubernetes/kubeadm#1350.
pub fn client_bundle(t: &Tree) {
    let other = Ca::new("corp-users", KeyKind::P256, 3000 * DAY);
    t.write(&format!("{PKI}/clients.crt"), [t.ca.cert_pem(), other.cert_pem()].concat(), 0o644);
    edit(
        t,
        &manifest("kube-apiserver"),
        &format!("--client-ca-file={PKI}/ca.crt"),
        &format!("--client-ca-file={PKI}/clients.crt"),
    );
}

/// etcd-io/etcd#11555.
pub fn peer_ca(t: &Tree) {
    let ca = Ca::new("etcd-peer-ca", KeyKind::P256, 3000 * DAY);
    t.write(&format!("{PKI}/etcd/peer-ca.crt"), ca.cert_pem(), 0o644);
    t.write(&format!("{PKI}/etcd/peer-ca.key"), ca.key_pem(), 0o600);
    let left = t.options.left;
    let leaf = ca.issue(("node-1", None), Usage::Both, &["localhost", "node-1"], left);
    t.pair(&format!("{PKI}/etcd/peer.crt"), &format!("{PKI}/etcd/peer.key"), &leaf);
    let text = t.read(&manifest("etcd"));
    let old = text
        .split_whitespace()
        .find(|w| w.contains("--peer-trusted-ca-file="))
        .unwrap()
        .trim_matches(['"', '\'', ',', '[', ']'])
        .to_owned();
    edit(t, &manifest("etcd"), &old, &format!("--peer-trusted-ca-file={PKI}/etcd/peer-ca.crt"));
}

/// kubernetes/kubeadm#2360: ca.crt and ca.key are an intermediate's, and it lies behind the leaf.
pub fn chain(t: &Tree) {
    t.write(
        &format!("{PKI}/apiserver.crt"),
        [t.read(&format!("{PKI}/apiserver.crt")).into_bytes(), b"# the CA\n".to_vec(), t.ca.cert_pem()].concat(),
        0o644,
    );
}

/// component-base/cli/flag: WordSepNormalizeFunc.
pub fn underscores(t: &Tree) {
    for file in ["crt", "key"] {
        t.write(&format!("{PKI}/x/server.{file}"), t.read(&format!("{PKI}/apiserver.{file}")), 0o600);
        t.remove(&format!("{PKI}/apiserver.{file}"));
    }
    let path = manifest("kube-apiserver");
    edit(t, &path, &format!("--tls-cert-file={PKI}/apiserver.crt"), &format!("--tls_cert_file={PKI}/x/server.crt"));
    edit(
        t,
        &path,
        &format!("--tls-private-key-file={PKI}/apiserver.key"),
        &format!("--tls_private_key_file={PKI}/x/server.key"),
    );
}

/// kubernetes.io, "Creating a cluster with kubeadm": admin.conf is copied to other machines.
pub fn worker_with_copy(t: &Tree) {
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
        t.remove(&manifest(name));
    }
    for file in [
        "ca.key",
        "apiserver.crt",
        "apiserver.key",
        "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key",
        "front-proxy-client.crt",
        "front-proxy-client.key",
        "front-proxy-ca.key",
        "front-proxy-ca.crt",
        "apiserver-etcd-client.crt",
        "apiserver-etcd-client.key",
    ] {
        t.remove(&format!("{PKI}/{file}"));
    }
    fs::remove_dir_all(t.at(&format!("{PKI}/etcd"))).unwrap();
    for conf in ["controller-manager", "scheduler"] {
        t.remove(&format!("/etc/kubernetes/{conf}.conf"));
    }
}

/// kubernetes.io, "Set up a High Availability etcd Cluster with kubeadm": a kubelet of no cluster, and etcd.
pub fn etcd_host(t: &Tree) {
    worker_with_etcd(t);
    fs::remove_dir_all(t.at("/var/lib/kubelet")).unwrap();
    t.write(
        "/etc/systemd/system/kubelet.service.d/kubelet.conf",
        "kind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\n",
        0o644,
    );
    t.write(
        "/etc/systemd/system/kubelet.service.d/20-etcd.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config=/etc/systemd/system/kubelet.service.d/kubelet.conf\n",
        0o644,
    );
}

fn worker_with_etcd(t: &Tree) {
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        t.remove(&manifest(name));
    }
    for entry in fs::read_dir(t.at(PKI)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    t.remove(&format!("{PKI}/etcd/ca.key"));
    for entry in fs::read_dir(t.at("/etc/kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
}

/// openshift/cluster-etcd-operator#1287.
pub fn backup_pod(t: &Tree) {
    t.write(
        &manifest("etcd-backup"),
        "kind: Pod\nmetadata: {name: etcd-backup, namespace: kube-system}\nspec:\n  containers:\n  - name: backup\n    command:\n    \
         - /bin/sh\n    - -c\n    - |\n      while sleep 3600; do\n        cp --recursive /var/lib/etcd/ /var/backup/etcd\n      done\n",
        0o600,
    );
}

/// kubernetes/kubernetes#53661.
pub fn block_scalars(t: &Tree, path: &str) {
    let lines: Vec<String> = t
        .read(path)
        .lines()
        .map(|line| match line.split_once("-data: ").filter(|(key, _)| key.contains("client-")) {
            Some((key, value)) => {
                let lines: Vec<String> =
                    value.as_bytes().chunks(76).map(|l| format!("      {}", String::from_utf8_lossy(l))).collect();
                format!("{key}-data: |\n{}", lines.join("\n"))
            }
            None => line.to_owned(),
        })
        .collect();
    t.write(path, lines.join("\n") + "\n", 0o600);
}

/// kubernetes.io, "Manual Rotation of CA Certificates", step 1: both CAs are trusted everywhere, and the new one's key signs.
pub fn two_cas(t: &Tree) {
    let new = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
    let both = [new.cert_pem(), t.ca.cert_pem()].concat();
    t.write(&format!("{PKI}/ca.crt"), &both, 0o644);
    t.write(&format!("{PKI}/ca.key"), new.key_pem(), 0o600);
    for name in ["admin", "controller-manager", "scheduler", "kubelet"] {
        let path = format!("/etc/kubernetes/{name}.conf");
        edit(t, &path, &encode_block(&t.ca.cert_pem()), &encode_block(&both));
    }
}

/// Files that went through other hands: PKCS#8, CRLF, text before PEM, a byte order mark.
pub fn other_hands(t: &Tree) {
    for key in ["ca", "apiserver"] {
        let path = format!("{PKI}/{key}.key");
        let key = PKey::private_key_from_pem(t.read(&path).as_bytes()).unwrap();
        t.write(&path, key.private_key_to_pem_pkcs8().unwrap(), 0o600);
    }
    for cert in ["ca", "etcd/ca", "etcd/server"] {
        let path = format!("{PKI}/{cert}.crt");
        let said = X509::from_pem(t.read(&path).as_bytes()).unwrap().to_text().unwrap();
        t.write(&path, [said, t.read(&path).into_bytes()].concat(), 0o644);
    }
    for path in [
        format!("{PKI}/front-proxy-client.crt"),
        "/etc/kubernetes/scheduler.conf".to_owned(),
        "/var/lib/kubelet/config.yaml".to_owned(),
        "/var/lib/kubelet/kubeadm-flags.env".to_owned(),
        DROP_IN.to_owned(),
    ] {
        t.write(&path, t.read(&path).replace('\n', "\r\n"), 0o600);
    }
    for path in ["/etc/kubernetes/admin.conf".to_owned(), manifest("kube-apiserver")] {
        t.write(&path, format!("\u{feff}{}", t.read(&path)), 0o600);
    }
}

/// certificatesDir elsewhere (kubernetes/kubeadm#710), flags without `=`, several documents, and a directory that is a link.
pub fn other_directories(t: &Tree) {
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
        let path = manifest(name);
        let text = t.read(&path).replace(PKI, "/opt/k8s/certs");
        let apart = |line: &str| match line.strip_prefix("    - --").and_then(|flag| flag.split_once('=')) {
            Some((flag, value)) if name == "kube-apiserver" => format!("    - --{flag}\n    - \"{value}\"\n"),
            _ => format!("{line}\n"),
        };
        t.write(
            &path,
            format!("# managed\n---\n{}---\nkind: Pod\n", text.lines().map(apart).collect::<String>()),
            0o600,
        );
    }
    edit(t, "/var/lib/kubelet/config.yaml", PKI, "/opt/k8s/certs");
    let moved = |from: &str, to: &str| {
        fs::create_dir_all(t.at(to).parent().unwrap()).unwrap();
        fs::rename(t.at(from), t.at(to)).unwrap();
    };
    moved(PKI, "/opt/k8s/certs");
    for (from, to) in [("/etc/kubernetes", "/data/kubernetes"), ("/var/lib/kubelet", "/data/kubelet")] {
        moved(from, to);
        t.link(from, to);
    }
}

/// A host whose name has capitals and a domain (kubernetes: `pkg/util/node/node.go:GetHostname`).
pub fn host_name(t: &Tree) {
    t.write("/etc/hostname", "Node-1.Example.COM\n", 0o644);
}

/// What the CA's certificate says when it is issued again for its key.
pub struct Reissue {
    /// Its name is a PrintableString, as Go writes it and OpenSSL does not.
    pub printable: bool,
    pub ca: bool,
    pub sign: bool,
}

/// As it was.
pub const REISSUE: Reissue = Reissue { printable: false, ca: true, sign: true };

pub fn reissued(t: &Tree, how: &Reissue) -> Vec<u8> {
    let key = PKey::private_key_from_pem(&t.ca.key_pem()).unwrap();
    let kind = if how.printable { Asn1Type::PRINTABLESTRING } else { Asn1Type::UTF8STRING };
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid_with_type(Nid::COMMONNAME, "kubernetes", kind).unwrap();
    let name = name.build();
    let mut b = X509::builder().unwrap();
    b.set_version(2).unwrap();
    b.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(7).unwrap()).unwrap()).unwrap();
    b.set_subject_name(&name).unwrap();
    b.set_issuer_name(&name).unwrap();
    b.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    b.set_not_after(&Asn1Time::days_from_now(3000).unwrap()).unwrap();
    b.set_pubkey(&key).unwrap();
    let mut constraints = BasicConstraints::new();
    if how.ca {
        constraints.ca();
    }
    b.append_extension(constraints.critical().build().unwrap()).unwrap();
    let mut usage = KeyUsage::new();
    usage.critical().digital_signature().key_encipherment();
    if how.sign {
        usage.key_cert_sign();
    }
    b.append_extension(usage.build().unwrap()).unwrap();
    b.sign(&key, MessageDigest::sha256()).unwrap();
    b.build().to_pem().unwrap()
}
