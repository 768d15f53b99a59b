//! What certwarden says of certificates and kubeconfigs, compared with what those say who have to use them: Go's crypto/tls, by which
//! every component of Kubernetes shakes hands (`tests/judge/judge.go`), and kubectl (`tests/judge/kubeconfigs.sh`).

use std::fs;
use std::path::Path;

use certwarden::collect::collect;
use certwarden::host::fs::Root;
use certwarden::model::assess::assess;
use certwarden::model::finding::Problem;
use certwarden::model::kubeconfig;
use certwarden::model::policy::Policy;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    now: Timestamp,
    files: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    server: bool,
    ca: usize,
    chain: usize,
    key: usize,
    refused: Option<String>,
}

const MANIFESTS: [(&str, &str); 2] = [
    (
        "kube-apiserver",
        "--client-ca-file=/etc/kubernetes/pki/ca.crt --tls-cert-file=/etc/kubernetes/pki/apiserver.crt \
         --tls-private-key-file=/etc/kubernetes/pki/apiserver.key --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt \
         --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt --etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
    ),
    ("etcd", "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt"),
];

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What is wrong with a leaf or its CA, so that the two cannot be used with each other.
fn found(table: &Table, row: &Row) -> Vec<String> {
    use Problem::{Expired, KeyMismatch, Malformed, NotYetValid, RefusedByClients, WrongIdentity, WrongIssuer};
    let dir = tempfile::tempdir().unwrap();
    for (name, flags) in MANIFESTS {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let command = serde_json::to_string(&[&[name], flags.as_slice()].concat()).unwrap();
        let pod = format!(
            "kind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: {name}, command: {command}}}]}}\n"
        );
        write(dir.path(), &format!("etc/kubernetes/manifests/{name}.yaml"), &pod);
    }
    let (ca, leaf, of) =
        if row.server { ("ca", "apiserver", "ca") } else { ("etcd/ca", "apiserver-etcd-client", "etcd-ca") };
    write(dir.path(), &format!("etc/kubernetes/pki/{ca}.crt"), &table.files[row.ca]);
    write(dir.path(), &format!("etc/kubernetes/pki/{leaf}.crt"), &table.files[row.chain]);
    write(dir.path(), &format!("etc/kubernetes/pki/{leaf}.key"), &table.files[row.key]);
    let (root, policy) = (Root::open(dir.path()).unwrap(), Policy::default());
    let inventory = collect(&root, table.now, &policy.kubeconfigs);
    let assessment = assess(&inventory, &policy, table.now);
    let bad = |p: Problem| {
        matches!(p, Expired | KeyMismatch | Malformed | NotYetValid | RefusedByClients | WrongIdentity | WrongIssuer)
    };
    let judged = [leaf, of].into_iter().filter_map(|name| assessment.get(name));
    judged.flat_map(|j| &j.findings).filter(|f| bad(f.id)).map(|f| format!("{}: {}", f.id, f.message)).collect()
}

/// Where certwarden knows better, or knows less and says so; each with its reason.
const EXPLAINED: [(&str, &str); 0] = [];

#[test]
fn go_and_certwarden_agree_on_every_certificate() {
    let table: Table = serde_json::from_str(include_str!("../judge/certificates.json")).unwrap();
    assert!(table.rows.len() > 200 && table.rows.iter().filter(|r| r.refused.is_some()).count() > 80);
    let mut wrong = Vec::new();
    for row in &table.rows {
        let found = found(&table, row);
        if found.is_empty() == row.refused.is_some() && !EXPLAINED.iter().any(|(name, _)| *name == row.name) {
            wrong.push(format!("{}: Go {:?}, certwarden {found:?}", row.name, row.refused));
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn kubectl_and_certwarden_agree_on_every_form_of_a_kubeconfig() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for part in include_str!("../judge/kubeconfigs.txt").split("=== ").skip(1) {
        let (title, text) = part.split_once('\n').unwrap();
        let (verdict, name) = title.split_once(' ').unwrap();
        count += 1;
        let parsed = kubeconfig::parse(text);
        if parsed.is_ok() != (verdict == "taken") {
            wrong.push(format!("{name}: kubectl: {verdict}, certwarden: {:?}", parsed.err()));
        }
    }
    assert!(count >= 40, "{count}");
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}
