//! Against a real control-plane node, read-only. Runs only inside such a node, as root, with `CERTWARDEN_REAL_NODE=1`:
//! elsewhere there is neither an API server nor etcd to ask, and each test says that it did nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use super::material::{Material, material};
use super::node::NodeWatch;
use super::prove::{etcd_members, prove};
use super::served::{Expected, await_served};
use super::testing::host;
use super::{health::await_health, prove};
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::fs::Root;
use crate::host::kube::{Connection, Https, KubeApi};
use crate::model::cert::{CertFacts, parse_pem};
use crate::model::component::Component;
use crate::model::health::Judgement;
use crate::model::inventory::Form;
use crate::model::plan::{Proof, Socket};
use crate::model::report::When;

const PKI: &str = "/etc/kubernetes/pki";
const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/ca.crt";

fn on_a_node() -> bool {
    let there = std::env::var_os("CERTWARDEN_REAL_NODE").is_some();
    if !there {
        say("not on a node (CERTWARDEN_REAL_NODE is not set): nothing was tested");
    }
    there
}

#[allow(clippy::print_stderr, reason = "figures for a person who runs this by hand with --nocapture")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn load(form: &Form) -> Material {
    let root = Root::open(Path::new("/")).unwrap();
    material(form, &|path| root.read_secret(path)).unwrap()
}

fn pair(name: &str) -> Material {
    load(&Form::Pair { cert: format!("{PKI}/{name}.crt").into(), key: format!("{PKI}/{name}.key").into() })
}

fn kubeconfig(name: &str) -> Material {
    load(&Form::Kubeconfig { path: format!("/etc/kubernetes/{name}").into() })
}

fn leaf(material: &Material) -> CertFacts {
    parse_pem(&material.cert).unwrap().remove(0)
}

fn admin() -> Connection {
    let admin = kubeconfig("admin.conf");
    let (server, identity) = (admin.server.clone().unwrap(), Some(admin.identity()));
    Connection { server, ca: admin.ca, identity, headers: Vec::new(), limit: Duration::from_secs(10) }
}

fn node_name() -> String {
    let kubelet = kubeconfig("kubelet.conf");
    leaf(&kubelet).common_name.unwrap().strip_prefix("system:node:").unwrap().to_owned()
}

fn address() -> String {
    let server = admin().server;
    server.trim_start_matches("https://").rsplit_once(':').unwrap().0.to_owned()
}

#[test]
fn every_credential_of_the_node_is_proven() {
    if !on_a_node() {
        return;
    }
    let (server, here) = (admin().server, address());
    let api = |user: &str| Proof::ApiServer { server: server.clone(), ca: CLUSTER_CA.into(), user: user.into() };
    let etcd = || Proof::Etcd { endpoint: "https://127.0.0.1:2379".into(), ca: ETCD_CA.into() };
    let dialled = |ca: &str, names: &[&str]| Proof::Handshake {
        ca: ca.into(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    let node = node_name();
    let user = format!("system:node:{node}");
    let all = [
        ("admin.conf", kubeconfig("admin.conf"), api("kubernetes-admin")),
        ("controller-manager.conf", kubeconfig("controller-manager.conf"), api("system:kube-controller-manager")),
        ("scheduler.conf", kubeconfig("scheduler.conf"), api("system:kube-scheduler")),
        ("kubelet-client", kubeconfig("kubelet.conf"), api(&user)),
        (
            "front-proxy-client",
            pair("front-proxy-client"),
            Proof::FrontProxy { server: server.clone(), ca: CLUSTER_CA.into() },
        ),
        (
            "apiserver-kubelet-client",
            pair("apiserver-kubelet-client"),
            Proof::Kubelet { address: format!("{here}:10250") },
        ),
        ("apiserver-etcd-client", pair("apiserver-etcd-client"), etcd()),
        ("etcd-healthcheck-client", pair("etcd/healthcheck-client"), etcd()),
        ("apiserver", pair("apiserver"), dialled(CLUSTER_CA, &[&here, &node, "kubernetes.default.svc"])),
        ("etcd-server", pair("etcd/server"), dialled(ETCD_CA, &["127.0.0.1", &here, "localhost"])),
        ("etcd-peer", pair("etcd/peer"), dialled(ETCD_CA, &[&here])),
    ];
    for (name, material, proof) in all {
        let started = Instant::now();
        let seen = prove(&host(), name, &proof, &material, When::Verification);
        say(&format!("{name}: {:?} {} ({}) in {:?}", seen.proven, seen.detail, seen.against, started.elapsed()));
        assert_eq!(seen.proven, Some(true), "{seen:?}");
    }
}

#[test]
fn a_credential_of_another_ca_is_refused_by_every_server() {
    if !on_a_node() {
        return;
    }
    let stranger = Ca::new("kubernetes").issue(&Leaf::client("kubernetes-admin", &["system:masters"]));
    let stranger = Material { cert: stranger.cert, key: stranger.key, server: None, ca: None };
    let server = admin().server;
    for proof in [
        Proof::ApiServer { server: server.clone(), ca: CLUSTER_CA.into(), user: "kubernetes-admin".into() },
        Proof::FrontProxy { server, ca: CLUSTER_CA.into() },
        Proof::Etcd { endpoint: "https://127.0.0.1:2379".into(), ca: ETCD_CA.into() },
        Proof::Kubelet { address: format!("{}:10250", address()) },
        Proof::Handshake { ca: CLUSTER_CA.into(), names: vec!["kubernetes".into()] },
    ] {
        for _ in 0..20 {
            let seen = prove(&host(), "stranger", &proof, &stranger, When::Rehearsal);
            assert_eq!(seen.proven, Some(false), "{seen:?}");
        }
        say(&prove::prove(&host(), "stranger", &proof, &stranger, When::Rehearsal).detail);
    }
}

#[test]
fn every_socket_serves_what_is_on_the_disk() {
    if !on_a_node() {
        return;
    }
    let here = address();
    let expect = |component, port: u16, entry: &str, file: &str| Expected {
        socket: Socket { component, address: format!("{here}:{port}"), entry: entry.into() },
        serial: parse_pem(&std::fs::read(file).unwrap()).unwrap().remove(0).serial,
    };
    let all = [
        expect(Component::KubeApiserver, 6443, "apiserver", "/etc/kubernetes/pki/apiserver.crt"),
        expect(Component::Etcd, 2379, "etcd-server", "/etc/kubernetes/pki/etcd/server.crt"),
        expect(Component::Etcd, 2380, "etcd-peer", "/etc/kubernetes/pki/etcd/peer.crt"),
        expect(Component::Kubelet, 10250, "kubelet-serving", "/var/lib/kubelet/pki/kubelet.crt"),
    ];
    let started = Instant::now();
    let seen = await_served(&host(), &all, None, Duration::from_secs(10), &|| true);
    say(&format!("{seen:#?} in {:?}", started.elapsed()));
    assert!(seen.iter().all(|s| s.ok), "{seen:?}");
}

#[test]
fn health_members_and_configuration_are_read() {
    if !on_a_node() {
        return;
    }
    let server = admin().server;
    for (component, url) in [
        (Component::KubeControllerManager, "https://127.0.0.1:10257/healthz".to_owned()),
        (Component::KubeScheduler, "https://127.0.0.1:10259/healthz".to_owned()),
        (Component::Kubelet, "http://127.0.0.1:10248/healthz".to_owned()),
        (Component::Etcd, "http://127.0.0.1:2381/health".to_owned()),
        (Component::KubeApiserver, format!("{server}/readyz")),
    ] {
        let seen = await_health(&host(), component, &url, (None, None), Duration::from_secs(10), &|| true);
        say(&format!("{seen:?}"));
        assert!(seen.ok, "{seen:?}");
    }
    let ca = std::fs::read(ETCD_CA).unwrap();
    for name in ["etcd/healthcheck-client", "apiserver-etcd-client"] {
        let members = etcd_members(&host(), "https://127.0.0.1:2379", &ca, &pair(name)).unwrap();
        say(&format!("{members:?}"));
        assert_eq!(members.voters, members.healthy);
        assert!(members.has_quorum());
    }
    let configuration = Https.cluster_configuration(&admin()).unwrap().unwrap();
    assert!(configuration.contains("kind: ClusterConfiguration"), "{configuration}");
}

#[test]
fn a_node_that_lives_is_ready_again_after_two_advances_of_its_lease() {
    if !on_a_node() {
        return;
    }
    let (host, node) = (host(), node_name());
    let watch = NodeWatch::start(&host, &admin(), &node);
    let before = watch.before().cloned().unwrap();
    say(&format!("{before:?}"));
    // as if the restart had been just before its last heartbeat: nothing is restarted here
    let restart_at = before.heartbeat.unwrap();
    let started = Instant::now();
    let (seen, judgement) = watch.await_ready(&host, &admin(), restart_at, Duration::from_secs(60), &|| true);
    say(&format!("{seen:?} in {:?}", started.elapsed()));
    assert_eq!(judgement, Judgement::Healthy);
    // and a restart that has not been answered yet is not taken for one
    let (seen, judgement) =
        watch.await_ready(&host, &admin(), jiff::Timestamp::now(), Duration::from_secs(3), &|| true);
    assert!(matches!(judgement, Judgement::Failed(_)), "{seen:?}");
}
