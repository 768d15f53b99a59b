use super::*;
use crate::model::cert::KeyAlgorithm;

const NOW: i64 = 1_800_000_000;

fn set(names: &[&str], ips: &[&str]) -> Addresses {
    Addresses {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        ips: ips.iter().map(|i| i.parse().unwrap()).collect(),
    }
}

/// A request and what is known of it, as a healthy kubelet files it.
struct Case {
    filed: Filed,
    node: Option<Addresses>,
    others: Addresses,
    signed: bool,
    approved: usize,
    rules: Approver,
}

impl Case {
    fn good() -> Self {
        let asked = Asked {
            subject: "O=system:nodes, CN=system:node:n1".into(),
            common_names: vec!["system:node:n1".into()],
            organizations: vec![GROUP.into()],
            other_parts: 0,
            sans: vec!["DNS:n1".into(), "IP:10.0.0.1".into()],
            key: KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 },
            besides: Vec::new(),
            der: Vec::new(),
        };
        let filed = Filed {
            name: "csr-x".into(),
            signer: SERVING_SIGNER.into(),
            username: "system:node:n1".into(),
            groups: vec![GROUP.into(), "system:authenticated".into()],
            usages: vec!["digital signature".into(), "server auth".into()],
            expiration_seconds: None,
            created: Timestamp::from_second(NOW - 400).ok(),
            stage: Stage::Pending,
            asked: Ok(asked),
        };
        Self {
            filed,
            node: Some(set(&["n1", "n1.example.org"], &["10.0.0.1", "fd00::1"])),
            others: set(&["n2"], &["10.0.0.2"]),
            signed: true,
            approved: 0,
            rules: Approver::default(),
        }
    }

    fn asked(&mut self) -> &mut Asked {
        self.filed.asked.as_mut().unwrap()
    }

    fn sans(&mut self, sans: &[&str]) {
        self.asked().sans = sans.iter().map(|s| (*s).to_owned()).collect();
    }

    fn usages(&mut self, usages: &[&str]) {
        self.filed.usages = usages.iter().map(|s| (*s).to_owned()).collect();
    }

    fn age(&mut self, seconds: i64) {
        self.filed.created = Timestamp::from_second(NOW - seconds).ok();
    }

    fn decide(&self) -> Decision {
        let known = Known {
            node: self.node.as_ref(),
            others: &self.others,
            signed: self.signed,
            approved: self.approved,
            now: Timestamp::from_second(NOW).unwrap(),
        };
        decide(&self.filed, known, &self.rules)
    }
}

type Change = fn(&mut Case);

#[test]
fn what_a_kubelet_files_for_itself_is_approved() {
    let table: &[(&str, Change)] = &[
        ("as it is", |_| {}),
        ("as before 1.27", |c| c.usages(&["digital signature", "key encipherment", "server auth"])),
        ("usages in another order", |c| c.usages(&["server auth", "digital signature"])),
        ("an RSA key", |c| c.asked().key = KeyAlgorithm::Rsa { bits: 2048 }),
        ("P-384", |c| c.asked().key = KeyAlgorithm::Ecdsa { curve: "P384".into(), bits: 384 }),
        ("Ed25519", |c| c.asked().key = KeyAlgorithm::Other("Ed25519".into())),
        ("addresses alone", |c| c.sans(&["IP:10.0.0.1", "IP:fd00::1"])),
        ("a name alone", |c| c.sans(&["DNS:n1"])),
        ("all names", |c| c.sans(&["DNS:n1", "DNS:n1.example.org", "IP:10.0.0.1"])),
        ("in capitals", |c| c.sans(&["DNS:N1.Example.ORG"])),
        ("a shorter life", |c| c.filed.expiration_seconds = Some(86_400)),
        ("the longest life", |c| c.filed.expiration_seconds = Some(366 * 86_400)),
        ("just filed", |c| c.age(0)),
        ("of an unknown age", |c| c.filed.created = None),
        ("the last within the hour", |c| c.approved = 5),
        ("within the networks", |c| c.rules.networks = vec!["10.0.0.0/8".parse().unwrap()]),
        ("a name by configuration", |c| {
            c.rules.names = vec!["{node}.corp.example".into()];
            c.sans(&["DNS:n1.corp.example", "IP:10.0.0.1"]);
        }),
    ];
    for (what, change) in table {
        let mut case = Case::good();
        change(&mut case);
        assert_eq!(case.decide(), Decision::Approve, "{what}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a listing")]
fn everything_else_is_denied_with_the_reason() {
    let table: &[(&str, Change, &str)] = &[
        ("an administrator's", |c| c.filed.username = "kubernetes-admin".into(), "which is no node"),
        ("a service account's", |c| c.filed.username = "system:serviceaccount:a:b".into(), "which is no node"),
        ("a bootstrap token's", |c| c.filed.username = "system:bootstrap:abcdef".into(), "which is no node"),
        ("a node without a name", |c| c.filed.username = "system:node:".into(), "which is no node"),
        ("not in the nodes' group", |c| c.filed.groups = vec!["system:authenticated".into()], "which is no node"),
        ("no groups at all", |c| c.filed.groups.clear(), "which is no node"),
        ("rubbish", |c| c.filed.asked = Err("there is no PEM block in it".into()), "no PEM block"),
        ("signed by another key", |c| c.signed = false, "not signed with the key"),
        ("another node's name", |c| c.asked().common_names = vec!["system:node:n2".into()], "its subject is"),
        ("filed for another", |c| c.filed.username = "system:node:n2".into(), "its subject is"),
        ("no common name", |c| c.asked().common_names.clear(), "its subject is"),
        ("two common names", |c| c.asked().common_names.push("admin".into()), "its subject is"),
        ("the masters' group", |c| c.asked().organizations = vec!["system:masters".into()], "its subject is"),
        ("the masters' group besides", |c| c.asked().organizations.push("system:masters".into()), "its subject is"),
        ("no group", |c| c.asked().organizations.clear(), "its subject is"),
        ("an organizational unit", |c| c.asked().other_parts = 1, "its subject is"),
        ("a client's usages", |c| c.usages(&["digital signature", "client auth"]), "its usages are"),
        ("both usages", |c| c.usages(&["client auth", "digital signature", "server auth"]), "its usages are"),
        ("a CA's usage", |c| c.usages(&["cert sign", "digital signature", "server auth"]), "its usages are"),
        ("any usage", |c| c.usages(&["any"]), "its usages are"),
        ("no usage", |c| c.usages(&[]), "its usages are"),
        ("half the usages", |c| c.usages(&["server auth"]), "its usages are"),
        ("a usage twice", |c| c.usages(&["digital signature", "server auth", "server auth"]), "its usages are"),
        ("a short RSA key", |c| c.asked().key = KeyAlgorithm::Rsa { bits: 1024 }, "its key is too weak"),
        ("an unknown curve", |c| c.asked().key = KeyAlgorithm::Ecdsa { curve: "1.2.3".into(), bits: 0 }, "its key"),
        ("an unknown key", |c| c.asked().key = KeyAlgorithm::Other("X25519".into()), "its key"),
        ("a CA's constraint", |c| c.asked().besides.push("extension 2.5.29.19".into()), "more than names"),
        ("a second list", |c| c.asked().besides.push("a second list of names".into()), "more than names"),
        ("a long life", |c| c.filed.expiration_seconds = Some(366 * 86_400 + 1), "approver.longest is 366d"),
        ("for ever", |c| c.filed.expiration_seconds = Some(i64::MAX), "approver.longest"),
        ("no names", |c| c.sans(&[]), "no name and no address"),
        ("a foreign name", |c| c.sans(&["DNS:evil.example.org"]), "is no name of the Node n1"),
        ("a name that begins alike", |c| c.sans(&["DNS:n1.evil.example.org"]), "is no name of the Node n1"),
        ("a name that ends alike", |c| c.sans(&["DNS:xn1"]), "is no name of the Node n1"),
        ("one bad among good", |c| c.sans(&["DNS:n1", "IP:10.0.0.1", "DNS:bad"]), "bad is no name"),
        ("a wildcard", |c| c.sans(&["DNS:*.example.org"]), "is no host name"),
        ("an empty name", |c| c.sans(&["DNS:"]), "is no host name"),
        ("a NUL in it", |c| c.sans(&["DNS:n1\0.evil.org"]), "is no host name"),
        ("the end dot", |c| c.sans(&["DNS:n1."]), "is no host name"),
        ("an address as a name", |c| c.sans(&["DNS:10.0.0.1"]), "address among the DNS names"),
        ("the API server", |c| c.sans(&["DNS:kubernetes.default.svc"]), "is no node's name"),
        ("the API server in short", |c| c.sans(&["DNS:kubernetes"]), "is no node's name"),
        ("any service", |c| c.sans(&["DNS:metrics-server.kube-system.svc"]), "is no node's name"),
        ("any service in full", |c| c.sans(&["DNS:a.b.svc.cluster.local"]), "is no node's name"),
        ("localhost", |c| c.sans(&["DNS:localhost"]), "is no node's name"),
        (
            "a service that the Node claims",
            |c| {
                c.node = Some(set(&["kubernetes.default.svc"], &[]));
                c.sans(&["DNS:kubernetes.default.svc"]);
            },
            "is no node's name",
        ),
        (
            "another node's name that the Node claims",
            |c| {
                c.node = Some(set(&["n1", "n2"], &[]));
                c.sans(&["DNS:n2"]);
            },
            "is another Node's name",
        ),
        (
            "another node's name by configuration",
            |c| {
                c.rules.names = vec!["n2".into()];
                c.sans(&["DNS:n2"]);
            },
            "is another Node's name",
        ),
        (
            "another node's address that the Node claims",
            |c| {
                c.node = Some(set(&["n1"], &["10.0.0.1", "10.0.0.2"]));
                c.sans(&["IP:10.0.0.2"]);
            },
            "is another Node's address",
        ),
        ("a foreign address", |c| c.sans(&["IP:10.0.0.9"]), "is no address of the Node n1"),
        (
            "a foreign address in the networks",
            |c| {
                c.rules.networks = vec!["10.0.0.0/8".parse().unwrap()];
                c.sans(&["IP:10.0.0.9"]);
            },
            "is no address of the Node n1",
        ),
        ("outside the networks", |c| c.rules.networks = vec!["192.168.0.0/16".parse().unwrap()], "approver.networks"),
        (
            "one family outside the networks",
            |c| {
                c.rules.networks = vec!["10.0.0.0/8".parse().unwrap()];
                c.sans(&["IP:10.0.0.1", "IP:fd00::1"]);
            },
            "fd00::1 is in none of",
        ),
        (
            "the loopback address that the Node claims",
            |c| {
                c.node = Some(set(&["n1"], &["127.0.0.1"]));
                c.sans(&["IP:127.0.0.1"]);
            },
            "is no address of one node",
        ),
        ("an IPv4 address in IPv6's clothes", |c| c.sans(&["IP:::ffff:10.0.0.2"]), "is no address of one node"),
        ("an address of five octets", |c| c.sans(&["IP:0A00000105"]), "an address that is none"),
        ("a URI", |c| c.sans(&["DNS:n1", "URI:spiffe://cluster/admin"]), "neither a DNS name nor an address"),
        ("an e-mail address", |c| c.sans(&["DNS:n1", "email:a@b"]), "neither a DNS name nor an address"),
        ("a directory name", |c| c.sans(&["other:DirectoryName(CN=x)"]), "neither a DNS name nor an address"),
        ("one too many", |c| c.approved = 6, "approved within the hour already"),
        ("none at all by configuration", |c| c.rules.per_hour = 0, "approved within the hour already"),
        ("of a node that is gone", |c| c.node = None, "there is no Node n1"),
        ("of a Node without addresses", |c| c.node = Some(Addresses::default()), "is no name of the Node"),
    ];
    for (what, change, reason) in table {
        let mut case = Case::good();
        change(&mut case);
        let Decision::Deny(why) = case.decide() else { panic!("{what}: {:?}", case.decide()) };
        assert!(why.contains(reason) && why.chars().all(plain::is_plain), "{what}: {why}");
    }
}

#[test]
fn what_may_not_be_known_yet_is_waited_for_and_what_is_wrong_in_itself_is_not() {
    let mut case = Case::good();
    case.sans(&["IP:10.0.0.9"]);
    case.age(10);
    assert!(matches!(case.decide(), Decision::Wait(_)), "its Node object follows");
    case.node = None;
    case.age(200);
    assert!(matches!(case.decide(), Decision::Wait(_)), "it is about to register");
    case.filed.usages.clear();
    assert!(matches!(case.decide(), Decision::Deny(_)));
}

#[test]
fn only_an_undecided_request_for_serving_is_looked_at() {
    let mut filed = Case::good().filed;
    assert!(filed.is_open());
    for stage in [Stage::Approved, Stage::Denied { why: String::new() }, Stage::Issued { certificate: Vec::new() }] {
        filed.stage = stage;
        assert!(!filed.is_open());
    }
    filed.stage = Stage::Pending;
    filed.signer = "kubernetes.io/kube-apiserver-client-kubelet".into();
    assert!(!filed.is_open());
}
