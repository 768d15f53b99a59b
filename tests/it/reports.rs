//! Node trees as people have them, from their reports, each with what is right about it (issues and pages are named). The programs
//! themselves are run on them.

use std::fs;
use std::process::Command;

use crate::run;
use crate::support;
use openssl::base64::encode_block;
use openssl::pkey::PKey;
use openssl::x509::X509;
use run::{Node, control_plane, soon};
use support::odd::{
    PKI, REISSUE, Reissue, backup_pod, block_scalars, chain, client_bundle, edit, etcd_host, manifest, peer_ca,
    reissued, underscores, worker_with_copy,
};
use support::{Ca, DAY, KeyKind, Tree, Usage};
use tempfile::TempDir;

#[test]
fn a_client_ca_bundle_and_a_peer_ca_are_signed_for_by_the_keys_that_are_there() {
    let bundle = soon(client_bundle);
    assert_eq!(bundle.entry("apiserver").unwrap()["owner"], "kubeadm", "ca.key lies where kubeadm looks");
    let serial = |n: &Node| n.certificate(&format!("{PKI}/apiserver.crt")).serial_number().to_bn().unwrap();
    let before = serial(&bundle);
    assert_eq!(bundle.run(&["renew"]).status.code(), Some(0));
    assert_ne!(before, serial(&bundle));
    let peers = soon(peer_ca);
    assert_eq!(peers.entry("etcd-peer").unwrap()["signer"], "etcd:peer-trusted-ca-file");
    assert_eq!(peers.problems("etcd-peer"), ["expiring"]);
    assert_eq!(peers.run(&["renew", "etcd-peer"]).status.code(), Some(0));
    let issuer = peers.certificate(&format!("{PKI}/etcd/peer.crt"));
    assert!(format!("{:?}", issuer.issuer_name()).contains("etcd-peer-ca"));
}

#[test]
fn the_chain_behind_a_leaf_and_what_is_written_beside_it_stay() {
    let node = soon(chain);
    let path = format!("{PKI}/apiserver.crt");
    assert_eq!(node.run(&["renew", "apiserver"]).status.code(), Some(0));
    let text = node.tree.read(&path);
    assert!(text.ends_with(&format!("# the CA\n{}", String::from_utf8(node.tree.ca.cert_pem()).unwrap())), "{text}");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn a_chain_of_another_issuer_is_a_reason_to_refuse() {
    let node = soon(|t| {
        // the new CA has the old one's name and another key; the chain is the old one's
        let old = t.read(&format!("{PKI}/apiserver.crt"));
        t.write(&format!("{PKI}/apiserver.crt"), old + &String::from_utf8(t.ca.cert_pem()).unwrap(), 0o644);
        let new = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
        t.write(&format!("{PKI}/ca.crt"), [new.cert_pem(), t.ca.cert_pem()].concat(), 0o644);
        t.write(&format!("{PKI}/ca.key"), new.key_pem(), 0o600);
    });
    let before = node.tree.read(&format!("{PKI}/apiserver.crt"));
    let output = node.run(&["renew", "apiserver"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the chain behind the leaf begins with"), "{output:?}");
    assert_eq!(node.tree.read(&format!("{PKI}/apiserver.crt")), before);
}

#[test]
fn a_role_is_what_runs() {
    for (node, role) in [
        (control_plane(worker_with_copy), "worker"),
        (control_plane(etcd_host), "etcd"),
        (control_plane(|_| {}), "control-plane"),
        (control_plane(|t| t.remove(&manifest("kube-scheduler"))), "control-plane"),
    ] {
        assert_eq!(node.check()["role"], role);
    }
    let worker = control_plane(worker_with_copy);
    assert_eq!(worker.entry("admin.conf").unwrap()["owner"], "none", "it is copied anew");
    worker.assert_well();
}

#[test]
fn what_a_static_pod_serves_is_watched_whatever_its_flags_look_like() {
    assert_eq!(control_plane(underscores).entry("apiserver").unwrap()["path"], format!("{PKI}/x/server.crt"));
    let plan = control_plane(backup_pod).run(&["plan", "--all"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains("rehearse etcd-server"), "etcd is etcd");
}

#[test]
fn a_backup_beside_a_manifest_is_a_finding() {
    let node = control_plane(|t| {
        t.write("/etc/kubernetes/manifests/kube-apiserver.yaml.bak", t.read(&manifest("kube-apiserver")), 0o600);
    });
    assert_eq!(node.problems("apiserver"), ["duplicate-manifest"]);
    assert_eq!(node.run(&["check"]).status.code(), Some(1));
    control_plane(|t| {
        t.write("/etc/kubernetes/manifests/.kube-apiserver.yaml.bak", t.read(&manifest("kube-apiserver")), 0o600);
    })
    .assert_well();
}

/// kubermatic/kubermatic#12342: konnectivity's kubeconfig expired unnoticed.
#[test]
fn the_kubeconfig_of_any_static_pod_and_of_any_configuration_file_is_watched() {
    let config = |t: &Tree, ca: &Ca, left| {
        let leaf = ca.issue(("system:agent", None), Usage::Client, &[], left);
        let identity = format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            encode_block(&leaf.cert_pem),
            encode_block(&leaf.key_pem)
        );
        t.kubeconfig("agent", &identity)
    };
    let pod = |command: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: agent}}\nspec:\n  containers:\n  - name: agent\n    command: {command}\n    \
             volumeMounts: [{{name: k, mountPath: /etc/kubernetes}}]\n  volumes: [{{name: k, hostPath: {{path: /etc/kubernetes}}}}]\n"
        )
    };
    // what is only in the container is none of the node's
    let inside = pod("[/agent, --kubeconfig=/var/run/agent.conf, --ca-cert=/var/run/secrets/ca.crt]");
    control_plane(|t| t.write(&manifest("agent"), &inside, 0o600)).assert_well();
    let node = control_plane(|t| {
        t.write("/etc/kubernetes/agent.conf", config(t, &t.ca, -DAY), 0o600);
        t.write(&manifest("agent"), pod("[/agent, --kubeconfig=/etc/kubernetes/agent.conf]"), 0o600);
    });
    assert_eq!(node.problems("agent:kubeconfig"), ["expired"]);
    let node = control_plane(|t| {
        t.write("/etc/kubernetes/hook.conf", config(t, &t.front_proxy_ca, 3 * DAY), 0o600);
        t.write("/etc/kubernetes/authorization.yaml", "kind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  webhook:\n    connectionInfo:\n      type: KubeConfigFile\n      kubeConfigFile: hook.conf\n", 0o600);
        edit(
            t,
            &manifest("kube-apiserver"),
            "--secure-port=6443",
            "--authorization-config=/etc/kubernetes/authorization.yaml",
        );
    });
    assert_eq!(node.problems("kube-apiserver:authorization-config"), ["expiring"], "and whoever issued it");
}

/// konnectivity's "Setup Konnectivity service": the API server's own certificate for its proxy expires unnoticed, too.
#[test]
fn what_the_api_server_shows_to_its_egress_proxies_is_watched() {
    let config =
        |text: &str| format!("apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\n{text}");
    let tls = "egressSelections:\n- name: cluster\n  connection:\n    proxyProtocol: HTTPConnect\n    transport:\n      tcp:\n        \
               url: https://10.0.0.9:8131\n        tlsConfig:\n          caBundle: /etc/kubernetes/egress/ca.crt\n          \
               clientKey: /etc/kubernetes/egress/client.key\n          clientCert: /etc/kubernetes/egress/client.crt\n\
               - name: controlplane\n  connection: {proxyProtocol: Direct}\n\
               - name: etcd\n  connection: {proxyProtocol: GRPC, transport: {uds: {udsName: /run/x.sock}}}\n";
    let with = |text: String, left| {
        control_plane(|t| {
            let ca = Ca::new("konnectivity-ca", KeyKind::P256, left);
            t.write("/etc/kubernetes/egress/ca.crt", ca.cert_pem(), 0o644);
            let leaf = ca.issue(("system:konnectivity-client", None), Usage::Client, &[], left);
            t.pair("/etc/kubernetes/egress/client.crt", "/etc/kubernetes/egress/client.key", &leaf);
            t.write("/etc/kubernetes/egress.yaml", text, 0o600);
            let flag = "--egress-selector-config-file=/etc/kubernetes/egress.yaml";
            edit(t, &manifest("kube-apiserver"), "--secure-port=6443", flag);
        })
    };
    let (leaf, ca) = ("kube-apiserver:egress-selector-config-file", "kube-apiserver:egress-selector-config-file:ca");
    let well = with(config(tls), 300 * DAY);
    well.assert_well();
    assert_eq!(well.entry(leaf).unwrap()["owner"], "external", "the key of its CA is elsewhere");
    let ended = with(config(tls), -DAY);
    assert_eq!((ended.problems(leaf), ended.problems(ca)), (vec!["expired".to_owned()], vec!["expired".to_owned()]));
    let unknown = with("egressSelections: 7\n".to_owned(), 300 * DAY);
    assert!(unknown.check()["notes"].to_string().contains("egress proxies are not known"), "{}", unknown.check());
}

/// kubernetes/kubeadm#2027: a new CA, and kubeconfigs that keep the old one.
#[test]
fn a_kubeconfig_that_does_not_trust_this_nodes_api_server_is_found() {
    let other = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
    let replace = |t: &Tree, path: &str, ca: &[u8], server: &str| {
        edit(t, path, &encode_block(&t.ca.cert_pem()), &encode_block(ca));
        edit(t, path, "https://10.0.0.1:6443", server);
    };
    let conf = "/etc/kubernetes/scheduler.conf";
    let wrong = control_plane(|t| replace(t, conf, &other.cert_pem(), "https://10.0.0.1:6443"));
    assert_eq!(wrong.problems("scheduler.conf"), ["wrong-ca"]);
    assert_eq!(wrong.run(&["check"]).status.code(), Some(2));
    let kubelets =
        control_plane(|t| replace(t, "/etc/kubernetes/kubelet.conf", &other.cert_pem(), "https://localhost:6443"));
    assert_eq!(kubelets.problems("kubelet-client"), ["wrong-ca"]);
    control_plane(|t| replace(t, conf, &[other.cert_pem(), t.ca.cert_pem()].concat(), "https://10.0.0.1:6443"))
        .assert_well();
    control_plane(|t| replace(t, conf, &other.cert_pem(), "https://elsewhere.example:6443")).assert_well();
}

/// The insecure port of Kubernetes before 1.20, and what was left of it.
#[test]
fn a_kubeconfig_that_speaks_in_the_clear_is_found() {
    let open =
        control_plane(|t| edit(t, "/etc/kubernetes/scheduler.conf", "https://10.0.0.1:6443", "http://10.0.0.1:8080"));
    assert_eq!(open.problems("scheduler.conf"), ["clear-text"]);
    assert_eq!(open.run(&["check"]).status.code(), Some(1));
    let kubelets = control_plane(|t| edit(t, "/etc/kubernetes/kubelet.conf", "https://", "HTTP://"));
    assert_eq!(kubelets.problems("kubelet-client"), ["clear-text"]);
    // a proxy passes TLS on as it is
    let proxied = control_plane(|t| {
        let conf = "/etc/kubernetes/scheduler.conf";
        edit(t, conf, "    server: https", "    proxy-url: http://10.0.0.9:3128\n    server: https");
    });
    proxied.assert_well();
}

/// They hold tokens, and are no entries.
#[test]
fn a_kubeconfig_of_certwardens_own_that_speaks_in_the_clear_is_noted_and_not_used() {
    let own = |server: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: s3cret}}}}]\n"
        )
    };
    let node = control_plane(|t| {
        t.write("/etc/certwarden/fleet.conf", own("http://10.0.0.1:8080"), 0o600);
        t.write("/etc/certwarden/watch.kubeconfig", own("http://10.0.0.2:8080"), 0o600);
        t.write("/etc/certwarden/certwarden.toml", "fleet.kubeconfig = \"/etc/certwarden/fleet.conf\"\n", 0o600);
    });
    let notes = node.check()["notes"].to_string();
    assert!(notes.contains("clear-text: /etc/certwarden/fleet.conf speaks to http://10.0.0.1:8080"), "{notes}");
    assert!(notes.contains("/etc/certwarden/watch.kubeconfig speaks to http://10.0.0.2:8080"), "{notes}");
    for (args, path) in [
        (&["fleet"][..], "fleet.conf"),
        (&["fleet", "--kubeconfig", "/etc/certwarden/watch.kubeconfig"], "watch.kubeconfig"),
        (&["watch", "--once", "--kubeconfig", "/etc/certwarden/watch.kubeconfig"], "watch.kubeconfig"),
    ] {
        let output = node.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_ne!(output.status.code(), Some(0), "{args:?}");
        assert!(
            said.contains(path) && said.contains("is not encrypted") && said.contains("make it https://"),
            "{said}"
        );
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_kubeconfig_that_kubectl_refuses_is_malformed_and_one_that_it_reads_is_renewed() {
    let wrapped = control_plane(|t| {
        let text = t.read("/etc/kubernetes/admin.conf");
        let value = text.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: ")).unwrap().to_owned();
        let lines: Vec<&str> = value.as_bytes().chunks(76).map(|l| std::str::from_utf8(l).unwrap()).collect();
        t.write("/etc/kubernetes/admin.conf", text.replace(&value, &lines.join("\n      ")), 0o600);
    });
    assert_eq!(wrapped.problems("admin.conf"), ["malformed"]);
    let blocks = soon(|t| block_scalars(t, "/etc/kubernetes/admin.conf"));
    assert_eq!(blocks.problems("admin.conf"), ["expiring"]);
    assert_eq!(blocks.run(&["renew"]).status.code(), Some(0));
    blocks.assert_well();
}

/// kubernetes/kubernetes#27343 and others: certificate in the kubeconfig, key in a file.
#[test]
fn an_identity_in_two_places_is_judged_and_left_to_a_person() {
    let node = soon(|t| {
        let text = t.read("/etc/kubernetes/scheduler.conf");
        let key = text.lines().find_map(|l| l.trim().strip_prefix("client-key-data: ")).unwrap().to_owned();
        t.write("/etc/kubernetes/scheduler.key", openssl::base64::decode_block(&key).unwrap(), 0o600);
        t.write(
            "/etc/kubernetes/scheduler.conf",
            text.replace(&format!("client-key-data: {key}"), "client-key: scheduler.key"),
            0o600,
        );
    });
    assert_eq!(node.problems("scheduler.conf"), ["expiring"]);
    let plan = node.run(&["plan"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains("one half of it is in the kubeconfig"), "{plan:?}");
    let before = node.tree.read("/etc/kubernetes/scheduler.conf");
    let _ = node.run(&["renew"]);
    assert_eq!(node.tree.read("/etc/kubernetes/scheduler.conf"), before);
}

/// golang/go#31440, openssl/openssl#18956, kubernetes/kops#4980.
#[test]
fn a_ca_that_components_refuse_is_found_although_openssl_takes_it() {
    let with = |change: fn(&Tree) -> Vec<u8>| control_plane(|t| t.write(&format!("{PKI}/ca.crt"), change(t), 0o644));
    let renamed = with(|t| reissued(t, &Reissue { printable: true, ..REISSUE }));
    assert!(renamed.problems("apiserver").contains(&"wrong-issuer".to_owned()));
    for (ca, sign) in [(false, true), (true, false)] {
        let node =
            control_plane(|t| t.write(&format!("{PKI}/ca.crt"), reissued(t, &Reissue { ca, sign, ..REISSUE }), 0o644));
        assert_eq!(node.problems("ca"), ["refused-by-clients"], "{ca} {sign}");
        assert_eq!(node.run(&["check"]).status.code(), Some(2));
        let before = node.files();
        let _ = node.run(&["renew", "apiserver"]);
        assert_eq!(node.files(), before, "nothing is signed with it");
    }
}

/// A CA of a company that is constrained to its domain: what it issued for other names is refused by Go since ever.
#[test]
fn what_the_cas_name_constraints_exclude_is_found_is_not_signed_and_holds_nobody_up() {
    // of the API server's names, `localhost` and `node-1`, one is not permitted
    let node = soon(|t| t.write(&format!("{PKI}/ca.crt"), constrained(t, "permitted;DNS:localhost"), 0o644));
    assert_eq!(node.problems("apiserver"), ["refused-by-clients", "expiring"]);
    assert_eq!(node.run(&["check"]).status.code(), Some(2));
    let plan = node.run(&["plan"]);
    let said = String::from_utf8_lossy(&plan.stdout);
    assert!(said.contains("DNS:node-1 in it is not permitted by the name constraints of its CA"), "{said}");
    let path = format!("{PKI}/apiserver.crt");
    let before = node.tree.read(&path);
    assert_eq!(node.run(&["renew"]).status.code(), Some(1), "the others are renewed");
    assert_eq!(node.tree.read(&path), before);
    assert_eq!(node.problems("admin.conf"), Vec::<String>::new(), "it has no names");
    let wide = soon(|t| t.write(&format!("{PKI}/ca.crt"), constrained(t, "excluded;DNS:example.com"), 0o644));
    assert_eq!(wide.problems("apiserver"), ["expiring"]);
    assert_eq!(wide.run(&["renew"]).status.code(), Some(0));
    wide.assert_well();
}

fn constrained(t: &Tree, constraints: &str) -> Vec<u8> {
    let (key, old) = (PKey::private_key_from_pem(&t.ca.key_pem()).unwrap(), X509::from_pem(&t.ca.cert_pem()).unwrap());
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    fs::write(at("old"), old.to_pem().unwrap()).unwrap();
    let text = format!(
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature\nnameConstraints=critical,{constraints}\n"
    );
    fs::write(at("extensions"), text).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-days", "3000", "-clrext", "-signkey"]).arg(at("key")).arg("-in").arg(at("old"));
    let output = openssl.arg("-extfile").arg(at("extensions")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn what_all_means_is_the_same_for_plan_and_renew() {
    // kubernetes-sigs/cluster-api#1814: the key of an external etcd's CA is never on a control plane
    let node = control_plane(|t| {
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
    });
    node.assert_well();
    let output = node.run(&["renew", "--all"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    node.assert_well();
}
