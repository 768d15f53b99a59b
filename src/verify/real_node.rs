//! Against a real control-plane node. Runs only inside such a node, as root, with `CERTWARDEN_REAL_NODE=1` (read-only) or
//! `=restart` (the kubelet is restarted and broken for a while): elsewhere there is neither an API server nor etcd to ask,
//! and each test says that it did nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::etcd::etcd_members;
use super::material::{Material, material};
use super::node::{NodeWatch, Restart};
use super::prove::prove;
use super::served::{Expected, await_served};
use super::testing::host;
use super::unit::await_stable;
use super::{health::await_health, prove};
use crate::host::Host;
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::crypto::{At, Purpose, sign_like, verify_chain};
use crate::host::fs::Root;
use crate::host::kube::{Connection, Https, KubeApi};
use crate::host::systemd::{JobResult, Later, ServiceManager, SystemdError, UnitStatus};
use crate::model::cert::{CertFacts, KeyAlgorithm, parse_pem};
use crate::model::component::Component;
use crate::model::health::Judgement;
use crate::model::inventory::Form;
use crate::model::plan::{Proof, Socket};
use crate::model::report::When;

const PKI: &str = "/etc/kubernetes/pki";
const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/ca.crt";

/// Whether this node may also be disturbed: `CERTWARDEN_REAL_NODE=restart`.
fn on_a_node_of_our_own() -> bool {
    let ours = std::env::var_os("CERTWARDEN_REAL_NODE").is_some_and(|v| v == "restart");
    if !ours {
        say("not on a node that may be disturbed (CERTWARDEN_REAL_NODE is not `restart`): nothing was tested");
    }
    ours
}

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

/// Every leaf of the node with what it is for.
fn credentials() -> Vec<(&'static str, Material, Proof)> {
    let (server, here) = (admin().server, address());
    let api = |user: &str| Proof::ApiServer { server: server.clone(), ca: CLUSTER_CA.into(), user: user.into() };
    let etcd = || Proof::Etcd { endpoint: "https://127.0.0.1:2379".into(), ca: ETCD_CA.into() };
    let dialled = |ca: &str, names: &[&str]| Proof::Handshake {
        ca: ca.into(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    let node = node_name();
    let user = format!("system:node:{node}");
    vec![
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
    ]
}

#[test]
fn every_credential_of_the_node_is_proven() {
    if !on_a_node() {
        return;
    }
    for (name, material, proof) in credentials() {
        let started = Instant::now();
        let seen = prove(&host(), name, &proof, &material, When::Verification);
        say(&format!("{name}: {:?} {} ({}) in {:?}", seen.proven, seen.detail, seen.against, started.elapsed()));
        assert_eq!(seen.proven, Some(true), "{seen:?}");
    }
}

#[test]
fn successors_signed_with_the_node_s_ca_keys_are_accepted_everywhere() {
    if !on_a_node() {
        return;
    }
    let now = jiff::Timestamp::now().as_second();
    let at = |s: i64| jiff::Timestamp::from_second(now + s).unwrap();
    for (name, old, proof) in credentials() {
        let ca = match name {
            "front-proxy-client" => "front-proxy-ca",
            n if n.contains("etcd") => "etcd/ca",
            _ => "ca",
        };
        let read = |suffix: &str| std::fs::read(format!("{PKI}/{ca}.{suffix}")).unwrap();
        let (cert, key) = (read("crt"), Zeroizing::new(read("key")));
        let started = Instant::now();
        // as the certificate is, and with a smaller key: servers take both
        for algorithm in [leaf(&old).key_algorithm, KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 }] {
            let new = sign_like(&old.cert, &cert, &key, &algorithm, at(-300), at(3600)).unwrap();
            let (was, is) = (leaf(&old), parse_pem(&new.cert).unwrap().remove(0));
            assert_eq!((&is.subject, &is.sans, &is.usages), (&was.subject, &was.sans, &was.usages));
            verify_chain(&new.cert, &cert, At::Time(at(0)), Purpose::Any).unwrap();
            let new = Material { cert: new.cert, key: new.key, ..old.clone() };
            let seen = prove(&host(), name, &proof, &new, When::Rehearsal);
            assert_eq!(seen.proven, Some(true), "{seen:?}");
        }
        say(&format!("{name}: signed twice and proven in {:?}", started.elapsed()));
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
        socket: Socket { component, address: format!("{here}:{port}"), entry: entry.into(), name: None },
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
    let restart_at = before.heartbeat.unwrap() - jiff::SignedDuration::from_secs(1);
    let started = Instant::now();
    let (seen, judgement) =
        watch.await_ready(&host, &admin(), &Restart::at(restart_at), Duration::from_secs(60), &|| true);
    say(&format!("{seen:?} in {:?}", started.elapsed()));
    assert_eq!(judgement, Judgement::Healthy);
    // and a restart that has not been answered yet is not taken for one
    let (seen, judgement) =
        watch.await_ready(&host, &admin(), &Restart::at(jiff::Timestamp::now()), Duration::from_secs(3), &|| true);
    assert!(matches!(judgement, Judgement::Failed(_)), "{seen:?}");
}

fn systemctl(args: &[&str]) -> String {
    let out = std::process::Command::new("/usr/bin/systemctl").args(args).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// Just enough of a service manager to look at a unit.
struct Systemctl;

impl ServiceManager for Systemctl {
    fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        let text = systemctl(&["show", unit]);
        let get = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
        Ok(UnitStatus {
            load_state: get("LoadState").into(),
            active_state: get("ActiveState").into(),
            sub_state: get("SubState").into(),
            result: get("Result").into(),
            invocation_id: get("InvocationID").into(),
            main_pid: get("MainPID").parse().unwrap_or(0),
            n_restarts: get("NRestarts").parse().unwrap_or(0),
            exec_main_status: get("ExecMainStatus").parse().unwrap_or(0),
            ..UnitStatus::default()
        })
    }

    fn restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        systemctl(&["restart", unit]);
        Ok(JobResult("done".into()))
    }

    fn stop(&self, _: &str) -> Result<JobResult, SystemdError> {
        unreachable!("not used here")
    }

    fn start(&self, _: &str) -> Result<JobResult, SystemdError> {
        unreachable!("not used here")
    }

    fn run_later(&self, _: &Later) -> Result<(), SystemdError> {
        unreachable!("not used here")
    }

    fn system_state(&self) -> Result<String, SystemdError> {
        unreachable!("not used here")
    }

    fn clock_synchronised(&self) -> Option<bool> {
        None
    }

    fn log_tail(&self, _: &str, invocation: &str) -> Vec<String> {
        let filter = format!("_SYSTEMD_INVOCATION_ID={invocation}");
        let out = std::process::Command::new("/usr/bin/journalctl").args(["-o", "cat", "-n", "5", &filter]).output();
        String::from_utf8_lossy(&out.unwrap().stdout).lines().map(str::to_owned).collect()
    }
}

const KUBELET: &str = "kubelet.service";
const STABLE: Duration = Duration::from_secs(30);

#[test]
fn a_restarted_kubelet_is_stable_and_its_node_ready_again_and_a_crashing_one_is_found_out() {
    if !on_a_node_of_our_own() {
        return;
    }
    let host = Host { services: Box::new(Systemctl), ..host() };
    let watch = NodeWatch::start(&host, &admin(), &node_name());
    let before = host.services.status(KUBELET).unwrap();
    let (restart_at, started) = (jiff::Timestamp::now(), Instant::now());
    host.services.restart(KUBELET).unwrap();
    let after = await_stable(&host, KUBELET, &before, STABLE, STABLE * 3, &|| true, &mut || {}).unwrap();
    say(&format!("stable as {} after {:?}", after.main_pid, started.elapsed()));
    let (seen, judgement) = watch.await_ready(&host, &admin(), &Restart::at(restart_at), STABLE * 6, &|| true);
    say(&format!("{seen:?} after {:?}", started.elapsed()));
    assert_eq!(judgement, Judgement::Healthy);

    let drop_in = Path::new("/run/systemd/system/kubelet.service.d/99-break.conf");
    std::fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    std::fs::write(drop_in, "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo this is why; exit 3'\n").unwrap();
    systemctl(&["daemon-reload"]);
    let (restart_at, started) = (jiff::Timestamp::now(), Instant::now());
    host.services.restart(KUBELET).unwrap();
    let crashed = await_stable(&host, KUBELET, &after, STABLE, STABLE * 3, &|| true, &mut || {});
    say(&format!("{crashed:?} after {:?}", started.elapsed()));
    let (seen, judgement) = watch.await_ready(&host, &admin(), &Restart::at(restart_at), STABLE, &|| true);
    say(&format!("{seen:?} after {:?}", started.elapsed()));
    std::fs::remove_file(drop_in).unwrap();
    systemctl(&["daemon-reload"]);
    host.services.restart(KUBELET).unwrap();
    assert!(matches!(judgement, Judgement::Failed(_)), "{judgement:?}");
    let text = crashed.unwrap_err().to_string();
    assert_eq!(text, "kubelet.service failed: exited with status 3; its last line was: this is why");
}
