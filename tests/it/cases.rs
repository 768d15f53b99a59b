//! The reports of tests/it/reports.rs, one by one: the right word on each, and the same tree with the one thing changed on which that
//! word depends, of which it must not be said. So every assertion here can fail.

use std::collections::BTreeSet;

use crate::run;
use crate::support;
use openssl::base64::encode_block;
use openssl::x509::X509;
use run::{Node, node};
use support::odd::{self, PKI, edit, manifest};
use support::{Ca, DAY, KeyKind, Options, Tree, Usage, embedded};

const ADMIN: &str = "/etc/kubernetes/admin.conf";
const KUBELETS: &str = "/var/lib/kubelet/pki";

struct Case {
    what: &'static str,
    /// Days that the leaves have left.
    left: i64,
    made: fn(&Tree),
    otherwise: fn(&Tree),
    seen: fn(&Node) -> String,
    right: &'static str,
}

fn code(node: &Node, args: &[&str]) -> i32 {
    node.run(args).status.code().unwrap()
}

/// Exit code of a check, and what is wrong.
fn found(node: &Node) -> String {
    let document = node.check();
    let all = document["entries"].as_array().unwrap().iter().flat_map(|e| e["problems"].as_array().unwrap());
    let problems: BTreeSet<&str> = all.map(|p| p["id"].as_str().unwrap()).collect();
    format!("{} {problems:?}", code(node, &["check"])).replace(['{', '}', '"'], "").trim().to_owned()
}

fn role(node: &Node) -> String {
    node.check()["role"].as_str().unwrap().to_owned()
}

/// The CA that has issued the API server's certificate after a renewal by name, of those in ca.crt: its place.
fn issuer(node: &Node) -> String {
    let renewed = code(node, &["renew", "apiserver"]);
    let leaf = node.certificate(&format!("{PKI}/apiserver.crt"));
    let cas = X509::stack_from_pem(node.tree.read(&format!("{PKI}/ca.crt")).as_bytes()).unwrap();
    let place = cas.iter().position(|ca| leaf.verify(&ca.public_key().unwrap()).unwrap_or(false));
    format!("{renewed} {place:?}")
}

fn reissue(t: &Tree, how: &odd::Reissue) {
    t.write(&format!("{PKI}/ca.crt"), odd::reissued(t, how), 0o644);
}

/// Base64 on lines of 76 characters.
fn wrapped(value: &str) -> String {
    let lines: Vec<_> = value.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    lines.join("\n      ")
}

fn drop_in(t: &Tree, arguments: &str) {
    let text = format!("[Service]\nEnvironment=\"KUBELET_EXTRA_ARGS={arguments}\"\n");
    t.write("/etc/systemd/system/kubelet.service.d/90.conf", text, 0o644);
}

fn agent(t: &Tree, left: i64) {
    let leaf = t.ca.issue(("system:agent", None), Usage::Client, &[], left);
    t.write("/etc/kubernetes/agent.conf", t.kubeconfig("agent", &embedded(&leaf)), 0o600);
    let pod = "kind: Pod\nmetadata: {name: agent}\nspec: {containers: [{name: a, command: [/agent, --kubeconfig=/etc/kubernetes/agent.conf], \
               volumeMounts: [{name: k, mountPath: /etc/kubernetes}]}], volumes: [{name: k, hostPath: {path: /etc/kubernetes}}]}\n";
    t.write(&manifest("agent"), pod, 0o600);
}

/// The value of admin.conf's certificate, changed.
fn admin(t: &Tree, change: fn(&str) -> String) {
    let text = t.read(ADMIN);
    let value = text.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: ")).unwrap().to_owned();
    t.write(ADMIN, text.replace(&value, &change(&value)), 0o600);
}

fn trusting(t: &Tree, ca: &Ca) {
    edit(t, "/etc/kubernetes/scheduler.conf", &encode_block(&t.ca.cert_pem()), &encode_block(&ca.cert_pem()));
}

fn other_ca() -> Ca {
    Ca::new("kubernetes", KeyKind::P256, 3000 * DAY)
}

fn external_etcd(t: &Tree) {
    t.remove(&manifest("etcd"));
    for file in [
        "ca.key",
        "server.crt",
        "server.key",
        "peer.crt",
        "peer.key",
        "healthcheck-client.crt",
        "healthcheck-client.key",
    ] {
        t.remove(&format!("{PKI}/etcd/{file}"));
    }
}

/// kubelet.conf names this file, which has expired, while the link is good.
fn kubelet_names(t: &Tree, file: &str) {
    let subject = ("system:node:node-1", Some("system:nodes"));
    t.write(&format!("{KUBELETS}/old.pem"), t.ca.issue(subject, Usage::Client, &[], -DAY).combined(), 0o600);
    edit(t, "/etc/kubernetes/kubelet.conf", "kubelet-client-current.pem", file);
}

fn century(t: &Tree, ca: bool) {
    let ca_of = |left| Ca::new("kubernetes", KeyKind::P256, left);
    let new = ca_of(if ca { 36_600 * DAY } else { 3000 * DAY });
    t.pair_of(&format!("{PKI}/ca"), &new);
    let leaf = new.issue(("kube-apiserver", None), Usage::Server, &["localhost", "node-1"], 36_500 * DAY);
    t.pair(&format!("{PKI}/apiserver.crt"), &format!("{PKI}/apiserver.key"), &leaf);
}

fn of_the_api_server(node: &Node) -> String {
    node.problems("apiserver").join(" ")
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let case = |what, left, made, otherwise, seen, right| Case { what, left, made, otherwise, seen, right };
    vec![
        case(
            "01 client CA bundle",
            10,
            odd::client_bundle,
            |t| {
                odd::client_bundle(t);
                t.remove(&format!("{PKI}/ca.key"));
            },
            issuer,
            "0 Some(0)",
        ),
        case(
            "02 CA whose name has another string type",
            300,
            |t| reissue(t, &odd::Reissue { printable: true, ..odd::REISSUE }),
            |t| reissue(t, &odd::REISSUE),
            of_the_api_server,
            "wrong-issuer",
        ),
        case(
            "04 chain behind the leaf",
            10,
            odd::chain,
            |_| {},
            |n| {
                let renewed = code(n, &["renew", "apiserver"]);
                format!("{renewed} {}", n.tree.read(&format!("{PKI}/apiserver.crt")).matches("BEGIN").count())
            },
            "0 2",
        ),
        case(
            "05 argument that ends in etcd",
            300,
            odd::backup_pod,
            |t| t.write(&manifest("etcd-backup"), t.read(&manifest("etcd")), 0o600),
            found,
            "0",
        ),
        case(
            "06 etcd host",
            300,
            odd::etcd_host,
            |t| {
                let api = t.read(&manifest("kube-apiserver"));
                odd::etcd_host(t);
                t.write(&manifest("kube-apiserver"), api, 0o600);
            },
            role,
            "etcd",
        ),
        case(
            "07 specifier in the unit",
            300,
            |t| drop_in(t, "--hostname-override=%H"),
            |t| drop_in(t, "--hostname-override=other"),
            found,
            "0",
        ),
        case(
            "08 unit in /usr/local/lib",
            300,
            odd::moved_unit,
            |t| {
                odd::moved_unit(t);
                t.write("/var/lib/kubelet/kubeadm-flags.env", "", 0o644);
            },
            found,
            "0",
        ),
        case(
            "10 base64 on several lines",
            300,
            |t| admin(t, wrapped),
            |t| admin(t, str::to_owned),
            |n| n.problems("admin.conf").join(" "),
            "malformed",
        ),
        case(
            "11 block scalars",
            10,
            |t| odd::block_scalars(t, ADMIN),
            |t| admin(t, |v| v.replace('M', "!")),
            |n| format!("{} {:?}", code(n, &["renew", "admin.conf"]), n.problems("admin.conf")),
            "0 []",
        ),
        case("12 kubeconfig of a static pod", 300, |t| agent(t, -DAY), |t| agent(t, 300 * DAY), found, "2 expired"),
        case(
            "14 CA of etcd's peers",
            10,
            odd::peer_ca,
            |t| {
                odd::peer_ca(t);
                t.remove(&format!("{PKI}/etcd/peer-ca.key"));
            },
            |n| {
                let renewed = code(n, &["renew", "etcd-peer"]);
                format!("{renewed} {}", n.entry("etcd-peer").unwrap()["signer"])
            },
            "0 \"etcd:peer-trusted-ca-file\"",
        ),
        case(
            "15 kubeconfig of an old CA",
            300,
            |t| trusting(t, &other_ca()),
            |t| trusting(t, &t.ca),
            found,
            "2 wrong-ca",
        ),
        case(
            "17 _ in flags",
            300,
            odd::underscores,
            |t| {
                odd::underscores(t);
                edit(t, &manifest("kube-apiserver"), "--tls_cert_file", "--tls_cert_files");
            },
            |n| n.entry("apiserver").map(|e| e["path"].as_str().unwrap().to_owned()).unwrap_or_default(),
            "/etc/kubernetes/pki/x/server.crt",
        ),
        case(
            "18 worker with admin.conf",
            300,
            odd::worker_with_copy,
            |t| {
                let api = t.read(&manifest("kube-apiserver"));
                odd::worker_with_copy(t);
                t.write(&manifest("kube-apiserver"), api, 0o600);
            },
            |n| format!("{} {}", role(n), found(n)),
            "worker 0",
        ),
        case(
            "20 CA that may not sign",
            300,
            |t| reissue(t, &odd::Reissue { sign: false, ..odd::REISSUE }),
            |t| reissue(t, &odd::REISSUE),
            |n| n.problems("ca").join(" "),
            "refused-by-clients",
        ),
        case(
            "23 external etcd",
            300,
            external_etcd,
            |t| {
                external_etcd(t);
                t.remove(&format!("{PKI}/apiserver-etcd-client.key"));
            },
            |n| format!("{} {}", code(n, &["renew", "--all"]), found(n)),
            "0 0",
        ),
        case(
            "25 two CAs in one file",
            300,
            odd::two_cas,
            |t| {
                odd::two_cas(t);
                t.write(&format!("{PKI}/ca.key"), t.ca.key_pem(), 0o600);
            },
            issuer,
            "0 Some(0)",
        ),
        case(
            "26 odd but good files",
            300,
            odd::other_hands,
            |t| {
                odd::other_hands(t);
                t.write(&format!("{PKI}/etcd/server.key"), "-----BEGIN PRIVATE KEY-----\n", 0o600);
            },
            |n| format!("{}, {}, {}", found(n), code(n, &["renew", "--all"]), found(n)),
            "0, 0, 0",
        ),
        case(
            "27 kubelet.conf names an old file",
            300,
            |t| kubelet_names(t, "old.pem"),
            |t| kubelet_names(t, "kubelet-client-current.pem"),
            |n| {
                let before = found(n);
                format!("{before}; {}; {}", code(n, &["renew"]), found(n))
            },
            "2 expired; 0; 0",
        ),
        case(
            "28 other directories",
            300,
            odd::other_directories,
            |t| {
                odd::other_directories(t);
                t.remove("/opt/k8s/certs/apiserver.key");
            },
            |n| format!("{} {}", code(n, &["renew", "--all"]), found(n)),
            "0 0",
        ),
        case("29 a hundred years", 300, |t| century(t, true), |t| century(t, false), of_the_api_server, ""),
        case(
            "30 host names",
            300,
            odd::host_name,
            |t| t.write("/etc/hostname", "Node-2.Example.COM\n", 0o644),
            found,
            "0",
        ),
    ]
}

#[test]
fn each_report_is_judged_rightly_and_the_judgement_depends_on_what_the_report_is_about() {
    let cases = cases();
    assert_eq!(cases.iter().map(|c| c.what).collect::<BTreeSet<_>>().len(), 22);
    let mut wrong = Vec::new();
    for Case { what, left, made, otherwise, seen, right } in &cases {
        let options = || Options { left: left * DAY, ..Options::default() };
        let is = seen(&node(options(), made));
        if is != *right {
            wrong.push(format!("{what}: {is:?}, not {right:?}"));
        }
        if seen(&node(options(), otherwise)) == *right {
            wrong.push(format!("{what}: {right:?} is said of another tree, too"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
