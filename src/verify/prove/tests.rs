use crate::verify::etcd::{Members, etcd_members};
use std::path::PathBuf;

use openssl::ssl::SslVersion;

use super::*;
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::kube::Identity;
use crate::host::kube::testing::{Server, listen};
use crate::verify::testing::host_at;

struct Bench {
    dir: tempfile::TempDir,
    ca: Ca,
    pair: Identity,
}

const CA: &str = "/ca.crt";

fn bench() -> Bench {
    let ca = Ca::new("kubernetes");
    let pair = ca.issue(&Leaf::server("n1", &["IP:127.0.0.1", "DNS:n1"]));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), &ca.cert).unwrap();
    Bench { dir, ca, pair }
}

impl Bench {
    fn client(&self) -> Material {
        self.client_named("me")
    }

    fn client_named(&self, name: &str) -> Material {
        as_material(self.ca.issue(&Leaf::client(name, &[])))
    }

    fn prove(&self, proof: &Proof, material: &Material) -> (Option<bool>, String) {
        let seen = prove(&host_at(self.dir.path()), "x", proof, material, When::Rehearsal);
        (seen.proven, seen.detail)
    }
}

fn as_material(Identity { cert, key }: Identity) -> Material {
    Material { cert, key, server: None, ca: None }
}

fn says(user: &str) -> (u16, String) {
    (201, format!(r#"{{"status":{{"userInfo":{{"username":"{user}","groups":["g"]}}}}}}"#))
}

#[test]
fn a_credential_is_proven_when_the_server_says_the_right_name() {
    let b = bench();
    let server = Server::start(&b.pair, None, |_| says("system:kube-scheduler"));
    let proof = |user: &str| Proof::ApiServer { server: server.url(), ca: CA.into(), user: user.into() };
    let right = b.prove(&proof("system:kube-scheduler"), &b.client_named("system:kube-scheduler"));
    assert_eq!(right, (Some(true), "is system:kube-scheduler of g".into()));
    let wrong = b.prove(&proof("kubernetes-admin"), &b.client_named("kubernetes-admin"));
    assert_eq!(wrong, (Some(false), "is system:kube-scheduler, not kubernetes-admin".into()));
}

#[test]
fn a_server_too_old_to_say_who_we_are_does_not_hide_a_wrong_name() {
    let b = bench();
    let server = Server::start(&b.pair, None, |line| {
        if line.contains("selfsubjectaccessreviews") { (201, "{}".into()) } else { (404, String::new()) }
    });
    let proof = Proof::ApiServer { server: server.url(), ca: CA.into(), user: "me".into() };
    let old = (Some(true), "accepted; this server is too old to say as whom".into());
    assert_eq!(b.prove(&proof, &b.client()), old);
    let wrong = (Some(false), "the certificate is for other, not me".into());
    assert_eq!(b.prove(&proof, &b.client_named("other")), wrong);
}

#[test]
fn a_refusal_disproves_and_silence_does_not() {
    let b = bench();
    let foreign = Ca::new("kubernetes").issue(&Leaf::server("n1", &["IP:127.0.0.1"]));
    let unauthorized = Server::start(&b.pair, None, |_| (401, String::new()));
    let broken = Server::start(&b.pair, None, |_| (500, String::new()));
    let stranger = Server::start(&foreign, None, |_| says("me"));
    let closes = format!("https://{}", listen(drop));
    for (server, expected) in
        [(unauthorized.url(), Some(false)), (broken.url(), None), (stranger.url(), None), (closes, None)]
    {
        let proof = Proof::ApiServer { server: server.clone(), ca: CA.into(), user: "me".into() };
        let (proven, detail) = b.prove(&proof, &b.client());
        assert_eq!(proven, expected, "{server}: {detail}");
        assert!(!detail.is_empty());
    }
    // the bundle that a kubeconfig carries is the one that counts
    let proof = Proof::ApiServer { server: stranger.url(), ca: "/missing".into(), user: "me".into() };
    assert_eq!(b.prove(&proof, &b.client()).0, None);
    let own = Material { ca: Some(b.ca.cert.clone()), ..b.client() };
    let proof = Proof::ApiServer { server: unauthorized.url(), ca: "/missing".into(), user: "me".into() };
    assert_eq!(b.prove(&proof, &own).0, Some(false));
}

#[test]
fn a_key_of_another_certificate_disproves_without_a_server() {
    let b = bench();
    let mixed = Material { key: b.client().key, ..b.client() };
    let proof = Proof::Etcd { endpoint: "https://127.0.0.1:1".into(), ca: CA.into() };
    let (proven, detail) = b.prove(&proof, &mixed);
    assert_eq!(proven, Some(false), "{detail}");
    assert!(!detail.contains("PRIVATE"));
}

#[test]
fn the_front_proxy_client_vouches_for_a_user_without_rights() {
    let b = bench();
    let server = Server::start(&b.pair, None, |_| says(ASSERTED_USER));
    let proof = Proof::FrontProxy { server: server.url(), ca: CA.into() };
    assert_eq!(b.prove(&proof, &b.client()).0, Some(true));
    let seen = server.seen.lock().unwrap().join("");
    assert!(seen.contains("x-remote-user: certwarden:front-proxy-proof\r\n"), "{seen}");
    assert!(seen.contains("x-remote-group: system:authenticated\r\n"), "{seen}");
    // a server that ignores the headers takes us for somebody else
    let server = Server::start(&b.pair, None, |_| says("front-proxy-client"));
    assert_eq!(b.prove(&Proof::FrontProxy { server: server.url(), ca: CA.into() }, &b.client()).0, Some(false));
}

#[test]
fn etcd_proves_a_client_by_answering_at_all() {
    let b = bench();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let server = Server::start(&b.pair, Some((&b.ca, version)), |_| (503, r#"{"health":"false"}"#.into()));
        let proof = Proof::Etcd { endpoint: server.url(), ca: CA.into() };
        assert_eq!(b.prove(&proof, &b.client()), (Some(true), "accepted; its health answer is 503".into()));
        let stranger = as_material(Ca::new("kubernetes").issue(&Leaf::client("me", &[])));
        let (proven, detail) = b.prove(&proof, &stranger);
        assert_eq!(proven, Some(false), "{version:?}: {detail}");
    }
}

#[test]
fn the_kubelet_tells_unknown_from_not_allowed() {
    let b = bench();
    let self_signed = Ca::new("n1-ca").issue(&Leaf::server("n1", &[]));
    for (status, expected) in [(200, Some(true)), (403, Some(true)), (401, Some(false)), (500, None)] {
        let server = Server::start(&self_signed, None, move |_| (status, String::new()));
        let proof = Proof::Kubelet { address: server.address.clone() };
        assert_eq!(b.prove(&proof, &b.client()).0, expected, "{status}");
    }
}

#[test]
fn a_serving_pair_must_please_every_client() {
    let b = bench();
    let pair = as_material(b.pair.clone());
    let proof = |names: &[&str], ca: &str| Proof::Handshake {
        ca: PathBuf::from(ca),
        names: names.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(b.prove(&proof(&["n1", "127.0.0.1"], CA), &pair), (Some(true), "accepted under 2 names".into()));
    let (proven, detail) = b.prove(&proof(&["n1", "10.0.0.1", "n2"], CA), &pair);
    assert_eq!(proven, Some(false));
    assert_eq!(
        detail,
        "a client that dials 10.0.0.1 would refuse it: IP address mismatch, and 1 more names are refused"
    );
    assert_eq!(b.prove(&proof(&["n1"], "/missing"), &pair).0, None);
}

#[test]
fn etcd_s_members_are_counted_and_asked_for_their_health() {
    let b = bench();
    let ill = Server::start(&b.pair, None, |_| (503, String::new()));
    let well = Server::start(&b.pair, None, |_| (200, String::new()));
    let list = format!(
        r#"{{"header":{{}},"members":[{{"ID":"1","name":"a","clientURLs":["{0}"]}},{{"name":"b","clientURLs":["{1}"]}},
            {{"name":"c","clientURLs":["{0}"]}},{{"name":"d","isLearner":true}}]}}"#,
        well.url(),
        ill.url()
    );
    let server = Server::start(&b.pair, None, move |line| {
        if line.contains("/v3beta/") { (200, list.clone()) } else { (404, String::new()) }
    });
    let host = host_at(b.dir.path());
    let members = etcd_members(&host, &server.url(), &b.ca.cert, &b.client()).unwrap();
    assert_eq!(
        Members { peers: Vec::new(), ..members.clone() },
        Members { total: 4, voters: 3, healthy: 2, unhealthy: vec!["b".into()], peers: Vec::new() }
    );
    assert!(members.has_quorum());
    assert_eq!(members.to_spare(), 0);
    let empty = Server::start(&b.pair, None, |_| (200, "{}".into()));
    assert!(matches!(etcd_members(&host, &empty.url(), &b.ca.cert, &b.client()), Err(KubeError::Malformed { .. })));
}
