//! `certwarden check` on whole node trees: what it finds, what it says, how it exits.

use std::path::Path;
use std::process::{Command, Output};

use crate::support;
use serde_json::Value;
use support::{Ca, DAY, KeyKind, Layout, Options, Tree, Usage};
use tempfile::TempDir;

/// The whole program, which `certwarden` becomes for what it cannot answer itself.
const WHOLE: &str = env!("CARGO_BIN_EXE_certwarden-full");

struct Node {
    _dir: TempDir,
    tree: Tree,
}

fn node(options: Options) -> Node {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), options);
    Node { _dir: dir, tree }
}

impl Node {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
        command.arg("--root").arg(&self.tree.root).arg("check").args(args).output().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.run(&["-o", "json"]).stdout).unwrap()
    }

    fn plan(&self, names: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
        let output =
            command.arg("--root").arg(&self.tree.root).args(["plan", "-o", "json"]).args(names).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.run(args).stdout).unwrap()
    }
}

fn names(document: &Value) -> Vec<&str> {
    document["entries"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect()
}

fn entry<'a>(document: &'a Value, name: &str) -> &'a Value {
    let entries = document["entries"].as_array().unwrap();
    entries.iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("no {name} in {:?}", names(document)))
}

fn problems<'a>(document: &'a Value, name: &str) -> Vec<&'a str> {
    entry(document, name)["problems"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect()
}

#[test]
fn a_healthy_control_plane_is_ok_with_every_credential_named() {
    let node = node(Options::default());
    let document = node.json();
    assert_eq!(
        names(&document),
        [
            "admin.conf",
            "apiserver",
            "apiserver-etcd-client",
            "apiserver-kubelet-client",
            "controller-manager.conf",
            "etcd-healthcheck-client",
            "etcd-peer",
            "etcd-server",
            "front-proxy-client",
            "kubelet-client",
            "kubelet-serving",
            "scheduler.conf",
            "super-admin.conf",
            "ca",
            "etcd-ca",
            "front-proxy-ca",
        ]
    );
    for e in document["entries"].as_array().unwrap() {
        assert_eq!((&e["severity"], &e["problems"]), (&"ok".into(), &Value::Array(vec![])), "{e}");
    }
    assert_eq!(document["schema"], "certwarden.check/v1");
    assert_eq!((&document["verdict"], &document["role"]), (&"ok".into(), &"control-plane".into()));
    assert_eq!(document["node"], "node-1");
    assert_eq!(entry(&document, "apiserver")["owner"], "kubeadm");
    assert_eq!(entry(&document, "apiserver")["signer"], "ca");
    assert_eq!(entry(&document, "scheduler.conf")["used_by"][0], "kube-scheduler");
    assert_eq!(entry(&document, "kubelet-client")["owner"], "kubelet");
    assert_eq!(entry(&document, "super-admin.conf")["absent"], true);
    assert_eq!(document["notes"], Value::Array(vec![]));
    assert_eq!(node.code(&[]), 0);
}

#[test]
fn a_cluster_newer_than_what_was_tested_is_told_for_information_and_changes_no_exit_code() {
    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let node = node(Options::default());
    let manifest = node.tree.read(MANIFEST);
    for (tag, told) in [(":v1.20.2", false), (":v1.999.0", true)] {
        node.tree.write(MANIFEST, manifest.replace(":v1.34.0", tag), 0o600);
        let said = "info: untested-version: Kubernetes v1.999.0 is newer than any that certwarden was tested on (";
        for args in [&[][..], &["-o", "wide"]] {
            assert_eq!(node.text(args).contains(said), told, "{tag} {args:?}");
        }
        assert!(node.text(&[]).lines().all(|l| l.chars().count() <= 100));
        assert_eq!(node.text(&["-o", "wide"]).contains("more: certwarden runbook untested-version"), told);
        let document = node.json();
        let ids: Vec<&Value> = document["information"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
        assert_eq!(ids, if told { vec!["untested-version"] } else { vec![] });
        assert_eq!((node.code(&[]), &document["verdict"]), (0, &"ok".into()));
    }
}

#[test]
fn time_left_decides_the_exit_code_and_the_first_line() {
    for (left, code, line) in [
        (20 * DAY + 3600, 1, "WARNING - apiserver expires in 20d"),
        (2 * DAY - 1800, 2, "CRITICAL - apiserver expires in 47h"),
        (-3 * DAY - 60, 2, "CRITICAL - apiserver expired 3d ago"),
    ] {
        let node = node(Options::default().left_of("apiserver", left));
        let text = node.text(&[]);
        assert_eq!(text.lines().next(), Some(line));
        assert_eq!(node.code(&[]), code);
        assert_eq!(entry(&node.json(), "apiserver")["due"], true);
        assert_eq!(node.code(&["admin.conf"]), 0, "the others are well");
    }
}

#[test]
fn tables_fit_a_hundred_columns_and_have_no_colour_in_a_pipe() {
    let node = node(Options::default().left_of("apiserver", -DAY).left_of("etcd-peer", DAY));
    node.tree.write("/etc/kubernetes/pki/etcd/server.key", "", 0o644);
    let text = node.text(&[]);
    let table = text.lines().skip(1).take_while(|l| !l.contains(": "));
    for line in table {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(!text.contains("super-admin.conf"), "what is absent and may be is in wide tables only");
    assert!(node.text(&["-o", "wide"]).contains("super-admin.conf"));
}

#[test]
fn a_name_that_is_not_there_is_wrong_usage_and_lists_those_that_are() {
    let output = node(Options::default()).run(&["apisrver"]);
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no certificate is called apisrver; known here: admin.conf, apiserver,"), "{stderr}");
    assert!(stderr.ends_with("; did you mean apiserver?\n"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let node = node(Options::default());
    let line = format!("{} --root {} check | true", env!("CARGO_BIN_EXE_certwarden"), node.tree.root.display());
    let output = Command::new("bash").args(["-c", &format!("set -o pipefail; {line}")]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_worker_has_its_kubelets_credentials_and_the_ca() {
    let node = node(Options { layout: Layout::Worker, ..Options::default() });
    let document = node.json();
    assert_eq!(names(&document), ["kubelet-client", "kubelet-serving", "ca"]);
    assert_eq!((&document["role"], &document["verdict"]), (&"worker".into(), &"ok".into()));
    assert_eq!(entry(&document, "ca")["owner"], "none");
}

#[test]
fn kubespray_works_without_configuration() {
    let node = node(Options { layout: Layout::Kubespray, ..Options::default() });
    let document = node.json();
    let path = |name: &str| entry(&document, name)["path"].as_str().unwrap();
    assert_eq!(path("apiserver"), "/etc/kubernetes/ssl/apiserver.crt");
    assert_eq!(entry(&document, "apiserver")["owner"], "kubeadm");
    assert_eq!(path("apiserver-etcd-client"), "/etc/ssl/etcd/ssl/node-node-1.pem");
    assert_eq!(path("etcd-server"), "/etc/ssl/etcd/ssl/member-node-1.pem");
    assert_eq!(path("etcd-ca"), "/etc/ssl/etcd/ssl/ca.pem");
    assert_eq!(entry(&document, "etcd-server")["owner"], "external");
    assert_eq!(document["verdict"], "ok", "{}", node.text(&[]));
}

#[test]
fn under_an_external_ca_an_expired_leaf_is_reported_and_not_due() {
    let options = Options { external_ca: true, ..Options::default() };
    let node = node(options.left_of("apiserver", -DAY));
    let document = node.json();
    assert_eq!(problems(&document, "apiserver"), ["expired"]);
    let apiserver = entry(&document, "apiserver");
    assert_eq!((&apiserver["owner"], &apiserver["due"]), (&"external".into(), &false.into()));
    assert_eq!(entry(&document, "ca")["owner"], "external");
    assert_eq!(entry(&document, "etcd-server")["owner"], "kubeadm", "each CA by itself");
    assert_eq!(node.code(&[]), 2);
}

#[test]
fn a_broken_ca_key_stops_what_it_signs_and_nothing_else() {
    type Break = fn(&Tree);
    const KEY: &str = "/etc/kubernetes/pki/ca.key";
    let breaks: [(&str, Break); 6] = [
        ("key-mismatch", |t| t.write(KEY, t.etcd_ca.key_pem(), 0o600)),
        ("malformed", |t| t.write(KEY, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", 0o600)),
        ("empty", |t| t.write(KEY, "", 0o600)),
        ("dangling-symlink", |t| t.link(KEY, "/nowhere/ca.key")),
        ("malformed", |t| t.link(KEY, "/etc/kubernetes/pki")),
        ("malformed", |t| t.write("/etc/kubernetes/pki/ca.crt", "x", 0o644)),
    ];
    for (problem, break_it) in breaks {
        let node = node(Options::default().left_of("apiserver", DAY).left_of("etcd-server", DAY));
        break_it(&node.tree);
        let document = node.json();
        assert_eq!(problems(&document, "ca")[0], problem);
        assert_eq!(entry(&document, "ca")["owner"], "none", "its key is not somewhere else");
        for name in ["apiserver", "admin.conf"] {
            assert_eq!((name, &entry(&document, name)["owner"]), (name, &"external".into()));
        }
        let plan = node.plan(&["apiserver", "etcd-server"]);
        let items: Vec<_> = plan["items"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
        assert_eq!(items, ["etcd-server"], "{problem}");
        let reason = plan["skipped"][0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("ca cannot sign: ") && reason.contains("/etc/kubernetes/pki"), "{reason}");
        assert_eq!(plan["gates"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_loose_ca_key_still_signs() {
    let node = node(Options::default());
    node.tree.write("/etc/kubernetes/pki/ca.key", node.tree.ca.key_pem(), 0o644);
    let document = node.json();
    assert_eq!(problems(&document, "ca"), ["loose-permissions"]);
    assert_eq!(entry(&document, "apiserver")["owner"], "kubeadm");
}

#[test]
fn a_recreated_ca_of_the_same_name_is_a_wrong_issuer() {
    let node = node(Options::default());
    let other = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
    node.tree.write("/etc/kubernetes/pki/ca.crt", other.cert_pem(), 0o644);
    node.tree.write("/etc/kubernetes/pki/ca.key", other.key_pem(), 0o600);
    let document = node.json();
    for name in ["apiserver", "admin.conf", "apiserver-kubelet-client", "kubelet-client"] {
        assert_eq!(problems(&document, name), ["wrong-issuer"], "{name}");
        assert_eq!(entry(&document, name)["due"], false, "a person decides");
    }
    assert_eq!(problems(&document, "etcd-server"), Vec::<&str>::new());
    let bundle = [other.cert_pem(), node.tree.ca.cert_pem()].concat();
    node.tree.write("/etc/kubernetes/pki/ca.crt", bundle, 0o644);
    assert_eq!(node.code(&[]), 0, "a bundle with both vouches for both");
}

#[test]
fn a_leaf_that_outlives_its_ca_ends_with_it() {
    let node = node(Options { ca_left: 20 * DAY, ..Options::default() });
    let document = node.json();
    assert_eq!(problems(&document, "apiserver"), ["expiring", "ca-expires-first"]);
    assert_eq!(entry(&document, "apiserver")["due"], false, "a renewal would not help");
    let left = entry(&document, "apiserver")["seconds_left"].as_i64().unwrap();
    assert!((19 * DAY..=20 * DAY).contains(&left));
    assert_eq!(node.code(&[]), 2, "the CA itself is critical");
}

#[test]
fn an_embedded_kubelet_identity_is_an_entry_of_its_own() {
    let options = Options { embedded_kubelet: true, ..Options::default() };
    let node = node(options.left_of("kubelet.conf", -DAY));
    let document = node.json();
    assert_eq!(problems(&document, "kubelet.conf"), ["embedded-identity", "expired"]);
    assert_eq!(entry(&document, "kubelet.conf")["due"], true);
    assert_eq!(problems(&document, "kubelet-client"), Vec::<&str>::new());
}

#[test]
fn a_plain_file_in_place_of_the_kubelets_link_is_a_finding() {
    let node = node(Options::default());
    let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let pem = node.tree.read(current);
    node.tree.remove(current);
    node.tree.write(current, pem, 0o600);
    assert_eq!(problems(&node.json(), "kubelet-client"), ["not-a-symlink"]);
    assert_eq!(node.code(&[]), 1);
}

#[test]
fn a_foreign_identity_is_a_finding() {
    let node = node(Options::default());
    let tree = &node.tree;
    let leaf = tree.leaf(&tree.ca, "x", ("system:kube-scheduler", None), Usage::Client);
    let config = tree.kubeconfig("x", &support::embedded(&leaf));
    tree.write("/etc/kubernetes/controller-manager.conf", config, 0o600);
    let other = tree.leaf(&tree.ca, "x", ("system:node:other", Some("masters")), Usage::Server);
    tree.write("/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem", other.combined(), 0o600);
    let flags = "KUBELET_KUBEADM_ARGS=\"--hostname-override=Node-1\"\n";
    tree.write("/var/lib/kubelet/kubeadm-flags.env", flags, 0o644);
    let document = node.json();
    assert_eq!(problems(&document, "controller-manager.conf"), ["wrong-identity"]);
    assert_eq!(problems(&document, "kubelet-client"), ["wrong-identity"; 3], "name, organization and usage");
}

#[test]
fn keys_that_others_can_read_are_a_finding() {
    let node = node(Options::default());
    let apiserver = node.tree.read("/etc/kubernetes/pki/apiserver.key");
    node.tree.write("/etc/kubernetes/pki/apiserver.key", apiserver, 0o644);
    let admin = node.tree.read("/etc/kubernetes/admin.conf");
    node.tree.write("/etc/kubernetes/admin.conf", admin, 0o640);
    let document = node.json();
    assert_eq!(problems(&document, "apiserver"), ["loose-permissions"]);
    assert_eq!(problems(&document, "admin.conf"), ["loose-permissions"]);
    assert_eq!(node.code(&[]), 1);
}

#[test]
fn an_old_copy_of_admin_conf_is_stale_and_the_same_one_is_not() {
    let node = node(Options::default());
    let tree = &node.tree;
    tree.write("/root/.kube/config", tree.read("/etc/kubernetes/admin.conf"), 0o600);
    assert_eq!(node.code(&[]), 0, "a true copy");
    let old = tree.ca.issue(("kubernetes-admin", Some("system:masters")), Usage::Client, &[], -DAY);
    let config = tree.kubeconfig("kubernetes-admin", &support::embedded(&old));
    tree.write("/root/.kube/config", config, 0o600);
    let document = node.json();
    assert_eq!(problems(&document, "root-kubeconfig"), ["stale-copy", "expired"]);
    assert_eq!(node.code(&[]), 1, "nothing on the node depends on it");
}

#[test]
fn a_further_user_in_a_kubeconfig_is_no_problem_and_is_told() {
    let node = node(Options::default());
    let path = "/etc/kubernetes/scheduler.conf";
    node.tree.write(path, node.tree.read(path) + "- name: eve\n  user: {}\n", 0o600);
    let document = node.json();
    assert_eq!(problems(&document, "scheduler.conf"), [""; 0]);
    assert!(document["notes"].to_string().contains("scheduler.conf has further users (eve)"), "{document}");
    assert_eq!(node.code(&[]), 0);
}

#[test]
fn a_rotated_serving_certificate_is_found_by_its_link() {
    let options = Options { server_tls_bootstrap: true, ..Options::default() };
    let document = node(options).json();
    let serving = entry(&document, "kubelet-serving");
    assert_eq!(serving["path"], "/var/lib/kubelet/pki/kubelet-server-current.pem");
    assert_eq!((&serving["owner"], &serving["signer"]), (&"kubelet".into(), &"ca".into()));
}

#[test]
fn what_manifests_point_at_besides_is_found_where_the_host_has_it() {
    let node = node(Options::default());
    let tree = &node.tree;
    let ours = tree.ca.issue(("sni", None), Usage::Server, &["sni"], 5 * DAY);
    let theirs = Ca::new("corporate", KeyKind::P256, 900 * DAY).issue(("lb", None), Usage::Server, &["lb"], 900 * DAY);
    tree.pair("/srv/tls/sni.crt", "/srv/tls/sni.key", &ours);
    tree.pair("/srv/tls/lb.crt", "/srv/tls/lb.key", &theirs);
    let text = tree.read("/etc/kubernetes/manifests/kube-apiserver.yaml");
    let text =
        text.replace("    - --secure-port=6443\n", "    - --tls-sni-cert-key=/srv/tls/sni.crt,/srv/tls/sni.key:sni\n");
    tree.write("/etc/kubernetes/manifests/kube-apiserver.yaml", text, 0o600);
    let flags = ["--cert-file=/in/lb.crt".to_owned(), "--key-file=/in/lb.key".to_owned()];
    tree.manifest("balancer", &flags, &[("/srv/tls", "Directory")]);
    let path = "/etc/kubernetes/manifests/balancer.yaml";
    tree.write(path, tree.read(path).replace("mountPath: /srv/tls", "mountPath: /in"), 0o600);
    tree.write("/etc/kubernetes/manifests/.balancer.yaml.swp", "rubbish", 0o600);

    let document = node.json();
    let sni = entry(&document, "kube-apiserver:tls-sni-cert-key");
    assert_eq!((&sni["owner"], &sni["signer"], &sni["due"]), (&"certwarden".into(), &"ca".into(), &true.into()));
    let lb = entry(&document, "balancer:cert-file");
    assert_eq!((&lb["path"], &lb["owner"]), (&"/srv/tls/lb.crt".into(), &"external".into()));
    assert_eq!(document["notes"], Value::Array(vec![]));
}

#[test]
fn an_empty_root_cannot_be_told() {
    let dir = TempDir::new().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_certwarden")).arg("--root").arg(dir.path()).arg("check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.starts_with("UNKNOWN - no certificates of a Kubernetes node found"), "{text}");
    assert!(text.contains("is this a Kubernetes node?"), "{text}");
}

#[test]
fn dates_and_serials_are_those_that_openssl_prints() {
    let node = node(Options { keys: KeyKind::Rsa2048, ..Options::default() });
    let document = node.json();
    for name in ["apiserver", "etcd-peer", "front-proxy-client", "ca", "kubelet-client", "kubelet-serving"] {
        let e = entry(&document, name);
        let path = node.tree.root.join(e["path"].as_str().unwrap().trim_start_matches('/'));
        // the kubelet's link is absolute: follow it within the tree
        let path =
            std::fs::read_link(&path).map_or(path, |target| node.tree.root.join(target.strip_prefix("/").unwrap()));
        let args = ["x509", "-noout", "-serial", "-enddate", "-dateopt", "iso_8601", "-in"];
        let output = Command::new("openssl").args(args).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("serial={}\n", e["serial"].as_str().unwrap())), "{name}: {text}");
        let end = e["not_after"].as_str().unwrap().replace('T', " ");
        assert!(text.contains(&format!("notAfter={end}")), "{name}: {text} {end}");
    }
}

#[test]
fn on_a_disk_image_the_identity_of_a_kubelet_that_does_not_rotate_is_signed_with_the_others() {
    let node = node(Options::default());
    let config = node.tree.read("/var/lib/kubelet/config.yaml");
    let fixed = config.replace("rotateCertificates: true", "rotateCertificates: false");
    assert_ne!(config, fixed);
    node.tree.write("/var/lib/kubelet/config.yaml", fixed, 0o600);
    assert_eq!(entry(&node.json(), "kubelet-client")["owner"], "certwarden");
    let plan = node.plan(&["kubelet-client", "apiserver"]);
    let items = plan["items"].as_array().unwrap();
    let named: Vec<_> = items.iter().map(|i| (i["name"].as_str().unwrap(), i["owner"].as_str().unwrap())).collect();
    assert_eq!(named, [("apiserver", "kubeadm"), ("kubelet-client", "certwarden")]);
    assert_eq!(plan["skipped"], serde_json::json!([]), "nobody is there to be asked, and the CA's key is");
}

#[test]
fn on_a_disk_image_an_embedded_identity_that_works_is_left_alone_since_nobody_can_accept_another() {
    let node = node(Options { embedded_kubelet: true, ..Options::default() });
    let plan = node.plan(&["--all"]);
    assert!(plan["items"].as_array().unwrap().iter().all(|i| i["owner"] == "kubeadm"), "{plan}");
    assert_eq!(plan["then"], serde_json::Value::Null);
    let skipped: Vec<_> = plan["skipped"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert!(skipped.contains(&"kubelet.conf"), "{skipped:?}");
}

/// Of which two looks say the same: no full day ends in between.
fn steady(keys: KeyKind) -> Options {
    Options { keys, left: 300 * DAY + 3600, ca_left: 3000 * DAY + 3600, ..Options::default() }
}

#[test]
fn both_programs_say_the_same_of_every_node() {
    let rsa = || node(steady(KeyKind::Rsa2048));
    let stranger = rsa();
    let other = Ca::new("kubernetes", KeyKind::Rsa2048, 3000 * DAY);
    let leaf = other.issue(("kube-apiserver", None), Usage::Server, &["10.0.0.1"], 300 * DAY + 3600);
    stranger.tree.pair("/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key", &leaf);
    let damaged = rsa();
    damaged.tree.write(
        "/etc/kubernetes/pki/apiserver.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        0o600,
    );
    let curves = node(steady(KeyKind::P256));
    let due = node(Options { left: 3 * DAY + 3600, ..steady(KeyKind::Rsa2048) });
    let worker = node(Options { layout: Layout::Worker, ..steady(KeyKind::Rsa2048) });
    for node in [rsa(), stranger, damaged, curves, due, worker] {
        for args in [&["-o", "wide"][..], &["apiserver"], &["nobody"], &["--nonsense"], &["--help"]] {
            let mut whole = Command::new(WHOLE);
            let whole = whole.arg("--root").arg(&node.tree.root).arg("check").args(args).output().unwrap();
            assert_eq!(node.run(args), whole, "{args:?}");
        }
    }
}

#[test]
fn a_healthy_node_is_checked_without_the_whole_program_and_nothing_else_is_done() {
    let healthy = node(steady(KeyKind::Rsa2048));
    let curves = node(steady(KeyKind::P256));
    // beside the original: a hard link needs the same file system
    let own = Path::new(env!("CARGO_BIN_EXE_certwarden"));
    let dir = TempDir::new_in(own.parent().unwrap()).unwrap();
    let alone = dir.path().join("certwarden");
    std::fs::hard_link(own, &alone).unwrap();
    let run = |node: &Node, command: &str| {
        Command::new(&alone).arg("--root").arg(&node.tree.root).arg(command).output().unwrap()
    };
    assert_eq!(run(&healthy, "check"), healthy.run(&[]));
    for (node, command) in [(&curves, "check"), (&healthy, "plan"), (&healthy, "--version")] {
        let output = run(node, command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(72), &b""[..]), "{command}");
        assert!(text.contains("certwarden-full: ") && text.contains("not installed in whole"), "{text}");
    }
    // where packages put it
    let lib = dir.path().join("lib/certwarden");
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::create_dir(&bin).unwrap();
    std::fs::hard_link(WHOLE, lib.join("certwarden-full")).unwrap();
    std::fs::hard_link(own, bin.join("certwarden")).unwrap();
    let output = Command::new(bin.join("certwarden")).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), concat!("certwarden ", env!("CARGO_PKG_VERSION"), "\n"));
}
