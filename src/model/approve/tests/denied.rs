//! What is wrong in itself, or can never be that node's.

use super::*;

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
        ("a name that not even its Node has", |c| c.sans(&["DNS:evil.example.org"]), "is no name of the Node n1"),
        ("a name that begins alike", |c| c.sans(&["DNS:n1.evil.example.org"]), "is no name of the Node n1"),
        ("a name that ends alike", |c| c.sans(&["DNS:xn1"]), "is no name of the Node n1"),
        ("one bad among good", |c| c.sans(&["DNS:n1", "IP:10.0.0.1", "DNS:bad"]), "bad is no name"),
        ("a wildcard", |c| c.claims(&["DNS:*.example.org"]), "is no host name"),
        ("an empty name", |c| c.claims(&["DNS:"]), "is no host name"),
        ("a NUL in it", |c| c.claims(&["DNS:n1\0.evil.org"]), "is no host name"),
        ("the end dot", |c| c.claims(&["DNS:n1."]), "is no host name"),
        ("the API's with the end dot", |c| c.claims(&["DNS:api.example.org."]), "is no host name"),
        ("a name in other letters", |c| c.claims(&["DNS:аpi.example.org"]), "is no host name"),
        ("an address as a name", |c| c.claims(&["DNS:10.0.0.1"]), "address among the DNS names"),
        ("an IPv6 address as a name", |c| c.claims(&["DNS:fd00::1"]), "is no host name"),
        ("the API's Service", |c| c.claims(&["DNS:kubernetes.default.svc"]), "is no node's name"),
        ("the API's Service in full", |c| c.claims(&["DNS:kubernetes.default.svc.corp.lan"]), "is no node's name"),
        ("the API's Service in two parts", |c| c.claims(&["DNS:kubernetes.default"]), "is no node's name"),
        ("the API's Service in short", |c| c.claims(&["DNS:kubernetes"]), "is no node's name"),
        ("the API's Service in capitals", |c| c.claims(&["DNS:KuberNetes.Default.SVC"]), "is no node's name"),
        ("any Service", |c| c.claims(&["DNS:metrics-server.kube-system.svc"]), "is no node's name"),
        ("any Service in full", |c| c.claims(&["DNS:a.b.svc.cluster.local"]), "is no node's name"),
        ("localhost", |c| c.claims(&["DNS:localhost"]), "is no node's name"),
        ("what every host calls itself", |c| c.claims(&["DNS:x.localdomain"]), "is no node's name"),
        ("the API's name in kubeconfigs", |c| c.claims(&["DNS:api.example.org"]), "is a name of the API"),
        ("the same in capitals", |c| c.claims(&["DNS:API.Example.org"]), "is a name of the API"),
        ("the API's name in its certificate", |c| c.claims(&["DNS:k8s.example.org"]), "is a name of the API"),
        (
            "the API's name by configuration",
            |c| {
                c.names(&["api.example.org"]);
                c.claims(&["DNS:api.example.org"]);
            },
            "is a name of the API",
        ),
        (
            "its own name, which is the API's",
            |c| {
                c.cluster.add_server("https://n1:6443");
                c.sans(&["DNS:n1"]);
            },
            "is a name of the API",
        ),
        ("another node's name", |c| c.claims(&["DNS:n2"]), "is another Node's name"),
        ("another node's name in capitals", |c| c.claims(&["DNS:N2"]), "is another Node's name"),
        ("a control plane's name", |c| c.claims(&["DNS:cp"]), "is a name of the API"),
        ("a foreign address", |c| c.sans(&["IP:10.0.0.3"]), "is no address of the Node n1"),
        ("another node's address", |c| c.sans(&["IP:10.0.0.2"]), "is another Node's address"),
        ("a deleted node's address", |c| c.sans(&["IP:10.0.0.9"]), "is an address of the deleted Node n9"),
        (
            "a foreign address in the networks",
            |c| {
                c.networks(&["10.0.0.0/8"]);
                c.sans(&["IP:10.0.0.3"]);
            },
            "is no address of the Node n1",
        ),
        ("outside the networks", |c| c.networks(&["192.168.0.0/16"]), "approver.networks"),
        (
            "one family outside the networks",
            |c| {
                c.networks(&["10.0.0.0/8"]);
                c.sans(&["IP:10.0.0.1", "IP:fd00::1"]);
            },
            "fd00::1 is in none of",
        ),
        (
            "an outside host, where the networks are known",
            |c| {
                c.networks(&["10.0.0.0/8"]);
                c.claims(&["IP:203.0.113.7"]);
            },
            "203.0.113.7 is in none of",
        ),
        ("the API's virtual address", |c| c.claims(&["IP:10.0.0.100"]), "is an address of the API"),
        (
            "the API's virtual address in the networks",
            |c| {
                c.networks(&["10.0.0.0/24"]);
                c.claims(&["IP:10.0.0.100"]);
            },
            "is an address of the API",
        ),
        (
            "the API's virtual address, at which it answers",
            |c| {
                c.claims(&["IP:10.0.0.100"]);
                c.answers.insert(ip("10.0.0.100"));
            },
            "is an address of the API",
        ),
        ("the API's Service's address", |c| c.claims(&["IP:10.96.0.1"]), "is an address of the API"),
        (
            "the API's Service's address, for a control plane",
            |c| {
                c.nodes.get_mut("n1").unwrap().control_plane = true;
                c.claims(&["IP:10.96.0.1"]);
            },
            "is an address of the API",
        ),
        ("an API server's address", |c| c.claims(&["IP:10.0.0.10"]), "an address of this control plane"),
        (
            "another API server's address",
            |c| {
                let other = Neighbour { control_plane: true, ..neighbour(&["cp2"], &["10.0.0.20"]) };
                c.nodes.insert("cp2".into(), other);
                c.claims(&["IP:10.0.0.20"]);
            },
            "an API server's address, and n1 is no control plane",
        ),
        ("an API server's address that its Node has not", |c| c.sans(&["IP:10.0.0.20"]), "an API server's address"),
        ("another address of this control plane", |c| c.claims(&["IP:10.0.1.10"]), "an address of this control plane"),
        ("a Service's address", |c| c.claims(&["IP:10.96.7.7"]), "is a Service's address"),
        ("metadata of clouds", |c| c.claims(&["IP:169.254.169.254"]), "is no address of one node"),
        ("a link-local address", |c| c.claims(&["IP:fe80::1"]), "is no address of one node"),
        ("the loopback address", |c| c.claims(&["IP:127.0.0.1"]), "is no address of one node"),
        ("another loopback address", |c| c.claims(&["IP:127.1.2.3"]), "is no address of one node"),
        ("IPv6's loopback address", |c| c.claims(&["IP:::1"]), "is no address of one node"),
        ("no address", |c| c.claims(&["IP:0.0.0.0"]), "is no address of one node"),
        ("this network's", |c| c.claims(&["IP:0.0.0.5"]), "is no address of one node"),
        ("IPv6's no address", |c| c.claims(&["IP:::"]), "is no address of one node"),
        ("everybody's address", |c| c.claims(&["IP:255.255.255.255"]), "is no address of one node"),
        ("a group's address", |c| c.claims(&["IP:224.0.0.1"]), "is no address of one node"),
        ("IPv6's group's address", |c| c.claims(&["IP:ff02::1"]), "is no address of one node"),
        ("an IPv4 address in IPv6's clothes", |c| c.claims(&["IP:::ffff:10.0.0.2"]), "is no address of one node"),
        ("its own in IPv6's clothes", |c| c.claims(&["IP:::ffff:10.0.0.1"]), "is no address of one node"),
        ("in IPv6's old clothes", |c| c.claims(&["IP:::10.96.0.1"]), "is no address of one node"),
        ("by way of NAT64", |c| c.claims(&["IP:64:ff9b::a60:1"]), "is no address of one node"),
        ("an address of five octets", |c| c.sans(&["IP:0A00000105"]), "an address that is none"),
        ("a URI", |c| c.sans(&["DNS:n1", "URI:spiffe://cluster/admin"]), "neither a DNS name nor an address"),
        ("an e-mail address", |c| c.sans(&["DNS:n1", "email:a@b"]), "neither a DNS name nor an address"),
        ("a directory name", |c| c.sans(&["other:DirectoryName(CN=x)"]), "neither a DNS name nor an address"),
        (
            "more names than a kubelet has",
            |c| c.asked().sans = (0..33).map(|i| format!("DNS:n{i}")).collect(),
            "it asks for 33 names",
        ),
        ("one too many", |c| c.approved = 6, "approved within the hour already"),
        ("none at all by configuration", |c| c.rules.per_hour = 0, "approved within the hour already"),
        ("of a node that is gone", |c| drop(c.nodes.remove("n1")), "there is no Node n1"),
        (
            "of a Node without addresses",
            |c| c.nodes.get_mut("n1").unwrap().addresses = Addresses::default(),
            "is no address of the Node",
        ),
    ];
    for (what, change, reason) in table {
        let mut case = Case::good();
        change(&mut case);
        let Decision::Deny(why) = case.decide() else { panic!("{what}: {:?}", case.decide()) };
        assert!(why.contains(reason) && why.chars().all(|c| !c.is_control()), "{what}: {why}");
    }
}
