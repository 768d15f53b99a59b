//! A control plane with an approver, nodes that file requests, and forgeries of them.

use certwarden::daemon::approver::view::View;
use certwarden::daemon::approver::{Memory, Tally, pass};
use certwarden::host::crypto::{Subject, new_request};
use certwarden::host::fs::Root;
use certwarden::model::policy::Policy;
use jiff::{SignedDuration, Timestamp};
use openssl::base64::encode_block;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Extension, X509NameBuilder, X509Req};
use serde_json::{Value, json};

use crate::fake::node::{Node, on_the_loopback, temp};
use crate::fake::signer::Signer;
use crate::support::{DAY, Options, Tree, Usage};

pub fn node_object(name: &str, ip: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"addresses": [
        {"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}})
}

fn control_plane_object(name: &str, ip: &str) -> Value {
    let mut object = node_object(name, ip);
    object["metadata"]["labels"] = json!({"node-role.kubernetes.io/control-plane": ""});
    object
}

/// Workers `n1`, `n2` and `n3` at 192.168.7.1, .2 and .3, control planes `node-1` (this one) and `cp2` at .10 and .11; the API is called
/// `api.example.org` and is at 10.0.0.1, too.
pub fn control_plane() -> Node {
    let dir = temp();
    let tree = Tree::build(dir.path(), Options::default());
    on_the_loopback(&tree);
    let admin =
        tree.read("/etc/kubernetes/admin.conf").replace("https://10.0.0.1:6443", "https://api.example.org:6443");
    tree.write("/etc/kubernetes/admin.conf", admin, 0o600);
    let names = ["localhost", "node-1", "k8s.example.org"];
    let shown = tree.ca.issue(("kube-apiserver", None), Usage::Server, &names, 300 * DAY);
    tree.pair("/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key", &shown);
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let text = tree.read(manifest);
    let line = text.lines().find(|l| l.contains("--secure-port")).unwrap();
    let more = line.replace("--secure-port=1", "--service-cluster-ip-range=172.30.0.0/16");
    tree.write(manifest, text.replace(line, &format!("{line}\n{more}")), 0o600);
    let node = Node::at(dir);
    node.fake.world(|w| {
        let mut signer = Signer::new(&tree.ca, &tree.front_proxy_ca);
        signer.nodes = vec![
            node_object("n1", "192.168.7.1"),
            node_object("n2", "192.168.7.2"),
            node_object("n3", "192.168.7.3"),
            control_plane_object("node-1", "192.168.7.10"),
            control_plane_object("cp2", "192.168.7.11"),
        ];
        signer.endpoints = vec!["192.168.7.10", "192.168.7.11"];
        let service = |namespace: &str, name: &str, ip: &str, outside: &[&str]| {
            json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "externalIPs": outside}})
        };
        signer.services = vec![
            service("default", "kubernetes", "10.96.0.1", &[]),
            service("kube-system", "kube-dns", "10.96.0.10", &["192.168.7.200"]),
        ];
        signer.service_cidrs = Some(vec![json!({"spec": {"cidrs": ["10.96.0.0/12"]}})]);
        w.signer = Some(signer);
    });
    node
}

/// The kubelets of the workers answer where they are; in the ranges of Services everybody's does.
pub fn view() -> View {
    View {
        local: Box::new(|ip| ip.to_string() == "192.168.7.10"),
        kubelet: Box::new(|ip, node, ca| {
            assert!(ca.starts_with(b"-----BEGIN CERTIFICATE"));
            let ip = ip.to_string();
            let range = ["10.96.", "172.30."].iter().any(|range| ip.starts_with(range));
            range
                || [("192.168.7.1", "n1"), ("192.168.7.2", "n2"), ("192.168.7.3", "n3")].contains(&(ip.as_str(), node))
        }),
    }
}

pub fn memory() -> Memory {
    Memory::open(&Root::open(temp().path()).unwrap(), view())
}

/// As the API server keeps what the kubelet of `node` filed ten minutes ago for these names.
pub fn object(now: Timestamp, name: &str, node: &str, names: &[&str]) -> Value {
    let created: Timestamp = now - SignedDuration::from_mins(10);
    json!({
        "metadata": {"name": name, "creationTimestamp": format!("{created:.0}"), "resourceVersion": "7"},
        "spec": {
            "signerName": "kubernetes.io/kubelet-serving", "username": format!("system:node:{node}"),
            "groups": ["system:nodes", "system:authenticated"], "usages": ["digital signature", "server auth"],
            "request": encode_block(&request(node, names)),
        },
        "status": {},
    })
}

fn request(node: &str, names: &[&str]) -> Vec<u8> {
    let user = format!("system:node:{node}");
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    new_request(Subject { organization: "system:nodes", common_name: &user }, &names).unwrap().request
}

pub fn file(node: &Node, name: &str, of: &str, names: &[&str], change: impl FnOnce(&mut Value)) {
    node.fake.world(|w| {
        let mut object = object(w.now, name, of, names);
        change(&mut object);
        w.signer.as_mut().unwrap().requests.insert(name.to_owned(), object);
    });
}

pub fn look(node: &Node, policy: &Policy, memory: &mut Memory) -> (Result<(), String>, Tally) {
    let mut tally = Tally::new();
    (pass(&node.host, policy, memory, &mut tally), tally)
}

pub fn condition(node: &Node, name: &str) -> (String, String) {
    let object = node.fake.world(|w| w.signer.as_ref().unwrap().requests[name].clone());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let condition = &object["status"]["conditions"][0];
    (text(&condition["type"]), text(&condition["message"]))
}

/// What was decided, of all requests.
pub fn kinds(node: &Node) -> Vec<String> {
    let names: Vec<String> = node.fake.world(|w| w.signer.as_ref().unwrap().requests.keys().cloned().collect());
    names.iter().map(|name| condition(node, name).0).filter(|kind| !kind.is_empty()).collect()
}

type Claims = Vec<(&'static str, &'static str)>;
type Change = Box<dyn Fn(&mut Value, &str, &Claims)>;

/// A request that must not be approved.
pub struct Forged {
    pub what: &'static str,
    /// Written into the attacker's own Node, by type.
    pub claims: Claims,
    pub request: Change,
    /// `Denied`, or nothing where it is left to a person.
    pub end: &'static str,
}

/// For what it claims, in a request that is flawless otherwise.
fn claim(what: &'static str, kind: &'static str, address: &'static str, end: &'static str) -> Forged {
    let request: Change = Box::new(|object, attacker, claims| {
        let names: Vec<&str> = [attacker].into_iter().chain(claims.iter().map(|(_, address)| *address)).collect();
        object["spec"]["request"] = json!(encode_block(&request(attacker, &names)));
    });
    Forged { what, claims: vec![(kind, address)], request, end }
}

/// For its own name, and wrong in another way.
fn wrong(what: &'static str, change: impl Fn(&mut Value, &str) + 'static) -> Forged {
    let request: Change = Box::new(move |object, attacker, _| {
        object["spec"]["request"] = json!(encode_block(&request(attacker, &[attacker])));
        change(object, attacker);
    });
    Forged { what, claims: Vec::new(), request, end: "Denied" }
}

fn elliptic() -> PKey<Private> {
    PKey::ec_gen("prime256v1").unwrap()
}

/// A request that certwarden itself would not make.
fn odd(
    key: &PKey<Private>,
    subject: &[(Nid, &str)],
    names: &SubjectAlternativeName,
    more: Option<X509Extension>,
) -> Vec<u8> {
    let mut builder = X509Req::builder().unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    for (nid, text) in subject {
        name.append_entry_by_nid(*nid, text).unwrap();
    }
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut extensions = Stack::new().unwrap();
    extensions.push(names.build(&builder.x509v3_context(None)).unwrap()).unwrap();
    if let Some(extension) = more {
        extensions.push(extension).unwrap();
    }
    builder.add_extensions(&extensions).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}

fn made(what: &'static str, make: impl Fn(&str) -> Vec<u8> + 'static) -> Forged {
    wrong(what, move |object, attacker| object["spec"]["request"] = json!(encode_block(&make(attacker))))
}

const O: Nid = Nid::ORGANIZATIONNAME;
const OU: Nid = Nid::ORGANIZATIONALUNITNAME;
const CN: Nid = Nid::COMMONNAME;

#[allow(clippy::too_many_lines, reason = "a listing")]
pub fn forgeries() -> Vec<Forged> {
    let user = |attacker: &str| format!("system:node:{attacker}");
    let own = |attacker: &str| SubjectAlternativeName::new().dns(attacker).to_owned_names();
    let usages = |what, list: &'static [&'static str]| wrong(what, move |o, _| o["spec"]["usages"] = json!(list));
    vec![
        claim("api-service", "ExternalDNS", "kubernetes.default.svc", "Denied"),
        claim("api-service-short", "Hostname", "kubernetes", "Denied"),
        claim("api-service-full", "InternalDNS", "kubernetes.default.svc.cluster.local", "Denied"),
        claim("api-service-capitals", "ExternalDNS", "Kubernetes.Default.SVC", "Denied"),
        claim("api-service-dot", "ExternalDNS", "kubernetes.default.svc.", "Denied"),
        claim("api-name", "ExternalDNS", "api.example.org", "Denied"),
        claim("api-name-capitals", "ExternalDNS", "API.Example.ORG", "Denied"),
        claim("api-name-in-its-certificate", "ExternalDNS", "k8s.example.org", "Denied"),
        claim("api-address", "ExternalIP", "10.0.0.1", "Denied"),
        claim("api-service-address", "ExternalIP", "10.96.0.1", "Denied"),
        claim("api-server", "ExternalIP", "192.168.7.11", "Denied"),
        claim("this-control-plane", "ExternalIP", "192.168.7.10", "Denied"),
        claim("control-planes-name", "Hostname", "node-1", "Denied"),
        claim("service-name", "ExternalDNS", "kube-dns.kube-system.svc", "Denied"),
        claim("service-address", "ExternalIP", "10.96.0.10", "Denied"),
        claim("service-range", "ExternalIP", "10.96.44.44", ""),
        claim("service-range-of-the-flag", "ExternalIP", "172.30.44.44", ""),
        claim("service-outside", "ExternalIP", "192.168.7.200", ""),
        claim("link-local", "ExternalIP", "169.254.169.254", "Denied"),
        claim("link-local-6", "ExternalIP", "fe80::1", "Denied"),
        claim("outside-address", "ExternalIP", "203.0.113.7", ""),
        claim("outside-name", "ExternalDNS", "vault.corp.example", ""),
        claim("localhost", "ExternalDNS", "localhost", "Denied"),
        claim("loopback", "ExternalIP", "127.0.0.1", "Denied"),
        claim("unspecified", "ExternalIP", "0.0.0.0", "Denied"),
        claim("multicast", "ExternalIP", "224.0.0.251", "Denied"),
        claim("others-name", "Hostname", "n2", "Denied"),
        claim("others-name-capitals", "Hostname", "N2", "Denied"),
        claim("others-address", "InternalIP", "192.168.7.2", ""),
        claim("others-address-mapped", "InternalIP", "::ffff:192.168.7.2", "Denied"),
        claim("wildcard", "ExternalDNS", "*.example.org", "Denied"),
        made("address-as-name", move |a| {
            let names = SubjectAlternativeName::new().dns("192.168.7.2").to_owned_names();
            odd(&elliptic(), &[(O, "system:nodes"), (CN, &user(a))], &names, None)
        }),
        made("not-in-its-node", |a| request(a, &[a, "198.51.100.9"])),
        made("no-names", |a| request(a, &[])),
        made("unit", move |a| odd(&elliptic(), &[(O, "system:nodes"), (OU, "x"), (CN, &user(a))], &own(a), None)),
        made("masters", move |a| {
            odd(&elliptic(), &[(O, "system:nodes"), (O, "system:masters"), (CN, &user(a))], &own(a), None)
        }),
        made("e-mail", move |a| {
            let names = SubjectAlternativeName::new().dns(a).email("root@example.org").to_owned_names();
            odd(&elliptic(), &[(O, "system:nodes"), (CN, &user(a))], &names, None)
        }),
        made("uri", move |a| {
            let names = SubjectAlternativeName::new().dns(a).uri("spiffe://cluster/admin").to_owned_names();
            odd(&elliptic(), &[(O, "system:nodes"), (CN, &user(a))], &names, None)
        }),
        made("ca", move |a| {
            let ca = BasicConstraints::new().critical().ca().build().unwrap();
            odd(&elliptic(), &[(O, "system:nodes"), (CN, &user(a))], &own(a), Some(ca))
        }),
        made("weak-key", move |a| {
            let weak = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
            odd(&weak, &[(O, "system:nodes"), (CN, &user(a))], &own(a), None)
        }),
        made("anothers-subject", |_| request("n1", &["n1"])),
        made("rubbish", |_| b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_vec()),
        usages("client", &["digital signature", "client auth"]),
        usages("client-too", &["client auth", "digital signature", "server auth"]),
        usages("signing", &["cert sign", "digital signature", "server auth"]),
        wrong("anothers-user", |o, _| o["spec"]["username"] = json!("system:node:n1")),
        wrong("no-group", |o, _| o["spec"]["groups"] = json!(["system:authenticated"])),
        wrong("administrator", |o, _| o["spec"]["username"] = json!("kubernetes-admin")),
        wrong("service-account", |o, _| o["spec"]["username"] = json!("system:serviceaccount:a:b")),
        wrong("long-life", |o, _| o["spec"]["expirationSeconds"] = json!(3_153_600_000_i64)),
    ]
}

/// The builder's own methods return a reference to it.
trait OwnedNames {
    fn to_owned_names(&mut self) -> SubjectAlternativeName;
}

impl OwnedNames for SubjectAlternativeName {
    fn to_owned_names(&mut self) -> SubjectAlternativeName {
        std::mem::take(self)
    }
}
