//! What `make fuzz` begins with, `DIR/TARGET/NAME`, from the trees of the tests.

#![allow(clippy::unwrap_used, reason = "a tool of the tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use openssl::asn1::Asn1Time;
use openssl::base64::encode_block;
use openssl::pkey::PKey;

use crate::support::{DAY, KeyKind, Layout, Options, Tree};

/// Inputs by target; several files are separated by NUL, a first letter chooses a format (see the files `fuzz.rs`).
struct Seeds<'a> {
    dir: &'a Path,
    made: usize,
}

impl Seeds<'_> {
    fn add(&mut self, target: &str, input: impl AsRef<[u8]>) {
        self.made += 1;
        let dir = self.dir.join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("seed-{}", self.made)), input).unwrap();
    }
}

/// `certwarden`: the program that makes ledgers and state files.
pub fn write(dir: &Path, certwarden: &Path) -> crate::Result<()> {
    let mut seeds = Seeds { dir, made: 0 };
    let layouts = [Layout::ControlPlane, Layout::Worker, Layout::Kubespray];
    for layout in layouts {
        for keys in [KeyKind::P256, KeyKind::Rsa2048] {
            let root = tempfile::tempdir()?;
            let embedded_kubelet = keys == KeyKind::Rsa2048;
            let options =
                Options { layout, keys, left: 20 * DAY, embedded_kubelet, super_admin: true, ..Options::default() };
            tree(&mut seeds, &Tree::build(root.path(), options));
        }
    }
    transaction(&mut seeds, certwarden);
    requests(&mut seeds);
    fixed(&mut seeds);
    Ok(())
}

/// Answers to certificate signing requests, good and bad, and kubeconfigs with tokens.
fn requests(seeds: &mut Seeds<'_>) {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::build(root.path(), Options { layout: Layout::Worker, ..Options::default() });
    let pem = fs::read(crate::pages::repository().join("fuzz/request.key")).unwrap();
    let key = PKey::private_key_from_pem(&pem).unwrap();
    let own = PKey::public_key_from_pem(&key.public_key_to_pem().unwrap()).unwrap();
    let at = |second| Asn1Time::from_unix(second).unwrap();
    // about the instant at which the target judges
    let (from, to, soon) = (at(1_799_000_000), at(1_830_000_000), at(1_800_000_100));
    let mut status = vec!["{}".to_owned()];
    for (subject, serving, end, key) in [
        (("system:node:node-1", "system:nodes"), false, &to, &own),
        (("system:node:node-1", "system:nodes"), true, &to, &own),
        (("system:node:node-2", "system:nodes"), false, &to, &own),
        (("system:node:node-1", "system:masters"), false, &to, &own),
        (("system:node:node-1", "system:nodes"), false, &soon, &own),
        (("system:node:node-1", "system:nodes"), false, &to, &tree.ca.new_key()),
    ] {
        let issued = encode_block(&tree.ca.sign_public(key, subject, serving, None, (&from, end)));
        status.push(format!("{{\"conditions\":[{{\"type\":\"Approved\"}}],\"certificate\":\"{issued}\"}}"));
    }
    for kind in ["Approved", "Denied", "Failed"] {
        let more = "\"status\":\"True\",\"reason\":\"Policy\",\"message\":\"not \\u001b[31mthis\"";
        status.push(format!("{{\"conditions\":[{{\"type\":\"{kind}\",{more}}}]}}"));
    }
    for signer in ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"] {
        for status in &status {
            seeds.add(
                "request",
                format!(
                    "{{\"metadata\":{{\"name\":\"csr-1\",\"creationTimestamp\":\"2027-01-15T07:00:00Z\"}},\"spec\":{{\"signerName\":\
                     \"{signer}\",\"username\":\"system:node:node-1\"}},\"status\":{status}}}"
                ),
            );
        }
    }
    for identity in [
        "    token: abcdef.0123456789abcdef\n",
        "    token: \"a\\r\\nX: y\"\n",
        "    tokenFile: /a\n",
        "    token: ' a b '\n",
    ] {
        seeds.add("token", tree.kubeconfig("tls-bootstrap", identity));
    }
}

/// What a renewal and its rollback leave in the state directory.
fn transaction(seeds: &mut Seeds<'_>, certwarden: &Path) {
    let root = tempfile::tempdir().unwrap();
    Tree::build(root.path(), Options { left: 20 * DAY, ..Options::default() });
    for verb in ["renew", "rollback"] {
        let done = Command::new(certwarden).arg("--root").arg(root.path()).arg(verb).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    let state = root.path().join("var/lib/certwarden");
    seeds.add("state", [b"s", &*fs::read(state.join("state.json")).unwrap()].concat());
    for item in fs::read_dir(state.join("transactions")).unwrap() {
        let dir = item.unwrap().path();
        seeds.add("ledger", fs::read(dir.join("ledger.jsonl")).unwrap());
        for (kind, file) in [(b"p", "plan.json"), (b"r", "report.json"), (b"b", "before.json")] {
            if let Ok(json) = fs::read(dir.join(file)) {
                seeds.add("state", [kind.as_slice(), &json].concat());
            }
        }
    }
}

fn tree(seeds: &mut Seeds<'_>, tree: &Tree) {
    let read = |path: &str| fs::read(tree.at(path)).unwrap_or_default();
    let mut open = vec![tree.root.clone()];
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let Ok(bytes) = fs::read(&path) else { continue };
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            match extension.as_str() {
                "crt" | "key" | "pem" => pem(seeds, &bytes),
                "conf" if bytes.starts_with(b"apiVersion") => seeds.add("kubeconfig", &bytes),
                "yaml" if path.ends_with("config.yaml") => {
                    let args = b"--hostname-override=a --healthz-port=1 --address=10.0.0.1 --port 1";
                    seeds.add("kubelet", [&bytes, &b"healthzPort: 1\naddress: '::'"[..], args].join(&0));
                }
                "yaml" => seeds.add("manifest", &bytes),
                _ => {}
            }
        }
    }
    let manifests = "/etc/kubernetes/manifests";
    let node = [
        format!("{manifests}/kube-apiserver.yaml"),
        format!("{manifests}/etcd.yaml"),
        format!("{manifests}/kube-scheduler.yaml"),
        "/var/lib/kubelet/config.yaml".to_owned(),
        "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf".to_owned(),
        "/etc/kubernetes/kubelet.conf".to_owned(),
        "/etc/etcd.env".to_owned(),
    ];
    seeds.add("node", node.map(|path| read(&path)).join(&0));
    let units =
        ["kubelet.service", "kubelet.service.d/10-kubeadm.conf"].map(|f| read(&format!("/usr/lib/systemd/system/{f}")));
    let [unit, drop_in] = units;
    seeds.add("unit", [unit, drop_in, read("/var/lib/kubelet/kubeadm-flags.env")].join(&0));
}

fn pem(seeds: &mut Seeds<'_>, bytes: &[u8]) {
    seeds.add("pem", bytes);
    for block in certwarden::model::pem::blocks(bytes).flatten() {
        let der = block.decode().unwrap();
        let kind = match block.label {
            "CERTIFICATE" => {
                seeds.add("der", &*der);
                continue;
            }
            "RSA PRIVATE KEY" => b"r",
            "EC PRIVATE KEY" => b"e",
            _ => b"8",
        };
        seeds.add("key", [kind.as_slice(), &der].concat());
    }
}

/// What is not in a tree.
fn fixed(seeds: &mut Seeds<'_>) {
    let record = |state: &str, more: &str| {
        format!(
            "{{\"schema\":\"certwarden.ledger/v1\",\"at\":\"2026-01-02T03:04:05.678Z\",\"state\":\"{state}\"{more}}}\n"
        )
    };
    let file = ",\"files\":[{\"path\":\"/etc/kubernetes/pki/apiserver.key\",\"entry\":\"apiserver\",\"sha256\":\"00\",\"attributes\":\
                {\"uid\":0,\"gid\":0,\"mode\":384,\"mtime_ns\":1,\"atime_ns\":-1,\"xattrs\":{\"user.a\":\"00\"}}}]";
    let begin = record("open", file) + &record("staged", ",\"staged\":{\"/etc/a\":\"00\"}") + &record("committing", "");
    let committed = begin.clone() + &record("committed", "");
    let back = begin + &record("rolling-back", ",\"reason\":\"because\"");
    for text in [
        committed.clone() + &record("verified", ""),
        back.clone() + &record("rolled-back", ""),
        back + &record("rollback-failed", "") + &record("rolling-back", ""),
        record("open", file) + &record("discarded", ",\"reason\":\"why\""),
        committed + "{\"schema\":\"certw",
    ] {
        seeds.add("ledger", &text);
        seeds.add("state", format!("l{}", text.lines().next().unwrap_or_default()));
    }
    let mut all = String::new();
    for (key, value) in certwarden::config::effective_values(&certwarden::model::policy::Policy::default()) {
        writeln!(all, "{key} = {value}").unwrap();
    }
    seeds.add(
        "config",
        [all.as_str(), "[renew]\nrenew-before = \"40d\"\nexclude = [\"a\"]\n[check]\ninterval = \"2h\"\n"].join("\0"),
    );
    seeds.add("config", "[kubelet]\nrenew-before = \"20%\"\0[renew]\nrenewbefore = \"1d\"\nrenewer = 'lokal'");
    let cluster = "apiServer:\n  certSANs:\n  - a\napiVersion: kubeadm.k8s.io/v1beta3\ncertificatesDir: /etc/kubernetes/pki\n\
                   clusterName: kubernetes\netcd:\n  local:\n    dataDir: /var/lib/etcd\nkind: ClusterConfiguration\n\
                   kubernetesVersion: v1.28.1\nnetworking:\n  serviceSubnet: 10.96.0.0/12\n";
    seeds.add("cluster-config", format!("v1.28.3\0{cluster}"));
    seeds.add("cluster-config", format!("v1.34.0-00\0{}", cluster.replace("v1beta3", "v1beta4")));
    for said in [
        "k{\"names\":[{\"name\":\"apiserver\",\"code\":0,\"timed_out\":false,\"ending\":\"exited with code 0\",\"last_words\":\"x\",\
         \"changed\":[\"/a\"],\"took_ms\":1}],\"unexpected\":[{\"name\":\"a\",\"path\":\"/b\",\"change\":\"written\"}],\"version\":null,\"error\":null}",
        "kcertificate for serving the Kubernetes API renewed\n\0W0102 warning\nerror execution phase: no\nTo see the stack trace of this error execute with --v=5 or higher\n",
        "sRestartUSec=10s\nTimeoutStartUSec=1min 30s\nTimeoutStopUSec=infinity\nMainPID=716\nResult=success\nNRestarts=2\nLoadState=loaded\n",
        "sJob for a.service failed because a timeout was exceeded.\n\u{1b}[31mred\n",
        "a{\"status\":{\"userInfo\":{\"username\":\"kubernetes-admin\",\"groups\":[\"a\"]}}}",
        "a{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"r\",\"message\":\"m\",\"lastHeartbeatTime\":\"2026-01-02T03:04:05Z\"}]}}",
        "a{\"spec\":{\"renewTime\":\"2026-01-02T03:04:05.000000Z\"}}",
        "a{\"data\":{\"ClusterConfiguration\":\"a: b\"}}",
        "a{\"kind\":\"Status\",\"message\":\"forbidden\"}",
        "r\n\u{1e}\n\u{3}abc\u{1a}\u{6}\n\u{4}etcd0\u{1}8\u{1}B\u{6}\n\u{1}a\u{12}\u{1}b",
    ] {
        seeds.add("answers", said);
    }
}
