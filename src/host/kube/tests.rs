use std::io::{Read, Write};
use std::time::Instant;

use openssl::ssl::SslVersion;

use super::testing::{Server, listen};
use super::*;
use crate::host::crypto::testing::{Ca, Leaf};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

struct Bench {
    ca: Ca,
    pair: Identity,
    client: Identity,
}

fn bench() -> Bench {
    let ca = Ca::new("kubernetes");
    let pair = ca.issue(&Leaf::server("kube-apiserver", &["IP:127.0.0.1", "DNS:localhost"]));
    let client = ca.issue(&Leaf::client("kubernetes-admin", &["system:masters"]));
    Bench { ca, pair, client }
}

impl Bench {
    fn to(&self, server: impl Into<String>, limit: Duration) -> Connection {
        let (ca, identity) = (Some(self.ca.cert.clone()), Some(self.client.clone()));
        Connection { server: server.into(), ca, identity, headers: Vec::new(), limit }
    }
}

fn not_found(_: &str) -> (u16, String) {
    (404, r#"{"kind":"Status","message":"the server could not find the requested resource"}"#.into())
}

#[test]
fn the_newest_review_that_the_server_knows_says_who_we_are() {
    let b = bench();
    let server = Server::start(&b.pair, None, |line| match line {
        l if l.contains("/v1beta1/selfsubjectreviews") => (
            201,
            r#"{"status":{"userInfo":{"username":"kubernetes-admin","groups":["system:masters"]}},"more":1}"#.into(),
        ),
        l => not_found(l),
    });
    let who = Https.whoami(&b.to(server.url(), LONG)).unwrap();
    assert_eq!(who, WhoAmI::User { name: "kubernetes-admin".into(), groups: vec!["system:masters".into()] });
    assert_eq!(server.seen.lock().unwrap().len(), 2);
}

#[test]
fn a_server_of_1_20_says_only_that_the_credential_is_accepted() {
    let b = bench();
    let server = Server::start(&b.pair, None, |line| {
        if line.contains("selfsubjectaccessreviews") { (201, "{}".into()) } else { not_found(line) }
    });
    assert_eq!(Https.whoami(&b.to(server.url(), LONG)).unwrap(), WhoAmI::Authenticated);
}

#[test]
fn unauthorized_is_about_the_credential_and_500_is_not() {
    let b = bench();
    for (status, cannot_tell) in [(401, false), (500, true), (503, true), (429, true), (400, false)] {
        let server = Server::start(&b.pair, None, move |_| (status, String::new()));
        let err = Https.whoami(&b.to(server.url(), LONG)).unwrap_err();
        assert_eq!(err.cannot_tell(), cannot_tell, "{status}: {err}");
        assert_eq!(matches!(err, KubeError::Unauthorized { .. }), status == 401, "{err}");
    }
}

#[test]
fn headers_and_body_arrive() {
    let b = bench();
    let server = Server::start(&b.pair, None, |_| (200, "{}".into()));
    let mut to = b.to(format!("{}/", server.url()), LONG);
    to.headers.push(("X-Remote-User".into(), "somebody".into()));
    Https.post(&to, "/v3/cluster/member/list", "{}").unwrap();
    let seen = server.seen.lock().unwrap().join("");
    assert!(seen.starts_with("POST /v3/cluster/member/list HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-remote-user: somebody\r\n") && seen.ends_with("{}"), "{seen}");
    to.headers.push(("bad header".into(), "x".into()));
    assert!(matches!(Https.get(&to, "/"), Err(KubeError::Setup { .. })));
}

#[test]
fn a_server_of_another_ca_or_another_name_is_untrusted_which_says_nothing_about_us() {
    let b = bench();
    let foreign = Ca::new("kubernetes").issue(&Leaf::server("a", &["IP:127.0.0.1"]));
    let expired = b.ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("a", &["IP:127.0.0.1"]) });
    let misnamed = b.ca.issue(&Leaf::server("127.0.0.1", &["IP:10.0.0.1"]));
    for (pair, why) in [
        (foreign, "unable to get local issuer certificate"),
        (expired, "certificate has expired"),
        (misnamed, "IP address mismatch"),
    ] {
        let server = Server::start(&pair, None, |_| (200, "ok".into()));
        let err = Https.get(&b.to(server.url(), LONG), "/").unwrap_err();
        assert!(matches!(&err, KubeError::Untrusted { detail, .. } if detail == why), "{err}");
        let anyway = Connection { ca: None, ..b.to(server.url(), LONG) };
        assert_eq!(Https.get(&anyway, "/").unwrap(), Answer { status: 200, body: "ok".into() });
    }
}

#[test]
fn a_name_is_verified_as_a_name() {
    let b = bench();
    let server = Server::start(&b.pair, None, |_| (200, "ok".into()));
    let url = server.url().replace("127.0.0.1", "localhost");
    assert_eq!(Https.get(&b.to(url, LONG), "/").unwrap().status, 200);
}

#[test]
fn a_server_that_refuses_our_certificate_is_told_from_one_that_is_not_there() {
    let b = bench();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let etcd_ca = Ca::new("etcd-ca");
        let server = Server::start(&b.pair, Some((&etcd_ca, version)), |_| (200, "ok".into()));
        let err = Https.get(&b.to(server.url(), LONG), "/health").unwrap_err();
        assert!(matches!(err, KubeError::Tls { .. }), "{version:?}: {err:?}");
        let accepted =
            Connection { identity: Some(etcd_ca.issue(&Leaf::client("x", &[]))), ..b.to(server.url(), LONG) };
        assert_eq!(Https.get(&accepted, "/health").unwrap().status, 200);
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let err = Https.get(&b.to(format!("https://{free}"), LONG), "/").unwrap_err();
    assert!(matches!(err, KubeError::Unreachable { .. }), "{err}");
}

#[test]
fn a_server_that_hangs_drips_or_closes_is_unreachable_within_the_limit() {
    let b = bench();
    let hangs = listen(|mut s| drop(s.read_to_end(&mut Vec::new())));
    let closes = listen(drop);
    let drips = listen(|mut s| {
        let _ = s.write_all(&[22, 3, 3, 0x40, 0]);
        while s.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for address in [hangs, closes, drips] {
        let started = Instant::now();
        let err = Https.get(&b.to(format!("https://{address}"), SHORT), "/").unwrap_err();
        assert!(err.cannot_tell(), "{err}");
        assert!(started.elapsed() < SHORT + Duration::from_secs(2), "{:?}", started.elapsed());
    }
    // after the handshake, in the middle of an answer
    let server = Server::start(&b.pair, None, |_| {
        std::thread::sleep(SHORT * 4);
        (200, String::new())
    });
    let err = Https.get(&b.to(server.url(), SHORT), "/").unwrap_err();
    assert!(err.to_string().ends_with("does not answer: no answer within 400ms"), "{err}");
}

#[test]
fn a_huge_answer_is_cut() {
    let b = bench();
    let server = Server::start(&b.pair, None, |_| (200, "x".repeat(3 << 20)));
    assert_eq!(Https.get(&b.to(server.url(), LONG), "/").unwrap().body.len(), 1 << 20);
}

#[test]
fn a_connection_that_cannot_be_tried_is_said_so_and_shows_no_key() {
    let b = bench();
    let fine = b.to("https://127.0.0.1:1", LONG);
    let other = b.ca.issue(&Leaf::client("b", &[]));
    for to in [
        Connection { server: "127.0.0.1".into(), ..fine.clone() },
        Connection { server: "ftp://x".into(), ..fine.clone() },
        Connection { server: "http://127.0.0.1:1".into(), ..fine.clone() },
        Connection { server: String::new(), ..fine.clone() },
        Connection { ca: Some(Vec::new()), ..fine.clone() },
        Connection { identity: Some(Identity { cert: b.client.cert.clone(), key: other.key.clone() }), ..fine.clone() },
        Connection { identity: Some(Identity { cert: b"x".to_vec(), key: other.key.clone() }), ..fine.clone() },
    ] {
        let err = Https.get(&to, "/").unwrap_err();
        assert!(matches!(err, KubeError::Setup { .. }), "{err:?}");
        assert!(!format!("{err:?} {to:?}").contains("PRIVATE"), "{err:?}");
    }
}

#[test]
fn what_a_server_of_1_36_answers_is_read_with_all_its_digits() {
    let first = |list: &str| {
        let list: serde_json::Value = serde_json::from_str(list).unwrap();
        list["items"][0].to_string()
    };
    let node = first(include_str!("../../../tests/recorded/v1.36.2/nodes.json"));
    let lease = first(include_str!("../../../tests/recorded/v1.36.2/node-leases.json"));
    let b = bench();
    let server = Server::start(&b.pair, None, move |line| match line {
        l if l.contains("/api/v1/nodes/node ") => (200, node.clone()),
        l if l.contains("/kube-node-lease/leases/node ") => (200, lease.clone()),
        l if l.contains("/configmaps/kubeadm-config ") => {
            (200, include_str!("../../../tests/recorded/v1.36.2/cm-kubeadm-config.json").into())
        }
        l => not_found(l),
    });
    let to = b.to(server.url(), LONG);
    let ready = Https.node_ready(&to, "node").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "KubeletReady"));
    assert_eq!(ready.message, "kubelet is posting ready status");
    assert_eq!(ready.heartbeat, "2026-11-30T06:18:43Z".parse().ok(), "whole seconds");
    // of the same moment, in microseconds
    let lease = NodeLease { renewed: "2026-11-30T06:18:43.066643Z".parse().ok(), seconds: Some(40) };
    assert_eq!(Https.node_lease(&to, "node").unwrap(), lease);
    let cluster = Https.cluster_configuration(&to).unwrap().unwrap();
    assert!(cluster.contains("apiVersion: kubeadm.k8s.io/v1beta4\n"), "{cluster}");
}

#[test]
fn the_node_the_lease_and_the_configuration_are_read_leniently() {
    let b = bench();
    let server = Server::start(&b.pair, None, |line| {
        match line {
        l if l.contains("/nodes/n1 ") => (200, r#"{"status":{"conditions":[{"type":"DiskPressure","status":"False"},
            {"type":"Ready","status":"True","reason":"KubeletReady","message":"ok","lastHeartbeatTime":"2026-11-22T05:50:20Z","new":[]}]}}"#.into()),
        l if l.contains("/leases/n1 ") => (200, r#"{"spec":{"leaseDurationSeconds":-5,"renewTime":"2026-11-22T05:50:21.033186Z"}}"#.into()),
        l if l.contains("kubeadm-config") => (200, r#"{"data":{"ClusterConfiguration":"kind: X"}}"#.into()),
        l if l.contains("/nodes/n2 ") => (200, "not json".into()),
        l if l.contains("/nodes/n3 ") => (200, "{}".into()),
        l => not_found(l),
    }
    });
    let to = b.to(server.url(), LONG);
    let ready = Https.node_ready(&to, "n1").unwrap();
    assert_eq!((ready.status.as_str(), ready.heartbeat), ("True", "2026-11-22T05:50:20Z".parse().ok()));
    let lease = NodeLease { renewed: "2026-11-22T05:50:21.033186Z".parse().ok(), seconds: None };
    assert_eq!(Https.node_lease(&to, "n1").unwrap(), lease);
    assert_eq!(Https.cluster_configuration(&to).unwrap().as_deref(), Some("kind: X"));
    assert!(matches!(Https.node_ready(&to, "n2"), Err(KubeError::Malformed { .. })));
    assert!(matches!(Https.node_ready(&to, "n3"), Err(KubeError::Malformed { .. })));
    assert!(matches!(Https.node_ready(&to, "n4"), Err(KubeError::Status { status: 404, .. })));
    assert!(matches!(Https.node_ready(&to, "../secrets"), Err(KubeError::Setup { .. })));
    let none = Server::start(&b.pair, None, not_found);
    assert_eq!(Https.cluster_configuration(&b.to(none.url(), LONG)).unwrap(), None);
}

#[test]
fn a_credential_is_never_sent_to_a_server_in_the_clear() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let b = bench();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let certified = b.to(server.clone(), SHORT);
    let token = vec![("Authorization".to_owned(), "Bearer s3cret".to_owned())];
    let bearer = Connection { identity: None, headers: token, ..certified.clone() };
    for to in [certified.clone(), bearer, Connection { server: server.replace("http", "HTTP"), ..certified.clone() }] {
        let error = Https.get(&to, "/version").unwrap_err();
        assert!(
            matches!(&error, KubeError::Setup { .. }) && error.to_string().contains("make the server https://"),
            "{error}"
        );
        assert!(!error.to_string().contains("s3cret"));
    }
    assert!(listener.accept().is_err(), "nobody was even connected to");
    // a health port is asked by nobody in particular
    let nobody = Connection { identity: None, ..certified };
    assert!(
        matches!(Https.get(&nobody, "/healthz"), Err(KubeError::Unreachable { .. })),
        "it listens and does not answer"
    );
    assert!(listener.accept().is_ok());
}
