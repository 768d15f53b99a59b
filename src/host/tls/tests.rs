use std::io::{Read, Write};
use std::net::TcpListener;

use openssl::ssl::{SslAcceptor, SslMethod};

use super::*;
use crate::host::crypto::testing::{Ca, Leaf};

const SHORT: Duration = Duration::from_millis(400);

/// A listener whose first connection is handled by `act` on a thread.
fn listen(act: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || act(listener.accept().unwrap().0));
    address
}

fn acceptor(pair: &Identity, client_ca: Option<&Ca>) -> SslAcceptor {
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    use_identity(&mut context, pair).unwrap();
    if let Some(ca) = client_ca {
        context.set_cert_store(crypto::anchors(&ca.cert, None).unwrap());
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    context.build()
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn serial(pem: &[u8]) -> String {
    crate::model::cert::parse_pem(pem).unwrap().remove(0).serial
}

#[test]
fn the_leaf_is_seen_although_the_server_then_demands_a_client_certificate() {
    let ca = Ca::new("etcd-ca");
    let pair = ca.issue(&Leaf::server("n1", &["IP:127.0.0.1"]));
    for (identity, version) in
        [(None, "1.3"), (None, "1.2"), (Some(Ca::new("x").issue(&Leaf::client("c", &[]))), "1.3")]
    {
        let mut server = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        use_identity(&mut server, &pair).unwrap();
        server.set_cert_store(crypto::anchors(&ca.cert, None).unwrap());
        server.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        if version == "1.2" {
            server.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_2)).unwrap();
        }
        let server = server.build();
        let address = listen(move |s| assert!(server.accept(s).is_err()));
        let leaf = served_leaf(&address, None, identity.as_ref(), Duration::from_secs(10)).unwrap();
        assert_eq!(leaf.serial, serial(&pair.cert), "TLS {version}");
    }
}

#[test]
fn an_expired_leaf_of_an_unknown_ca_is_seen_as_it_is() {
    let pair = Ca::new("nobody").issue(&Leaf { days: (-10, -1), ..Leaf::server("n1", &[]) });
    let server = acceptor(&pair, None);
    let address = listen(move |s| drop(server.accept(s)));
    assert_eq!(served_leaf(&address, None, None, Duration::from_secs(10)).unwrap().serial, serial(&pair.cert));
}

#[test]
fn a_server_that_hangs_in_the_handshake_or_drips_bytes_costs_no_more_than_the_limit() {
    let hangs = listen(|mut s| drop(s.read_to_end(&mut Vec::new())));
    let drips = listen(|mut s| {
        // the head of a TLS record of 16 KiB, then a byte at a time
        let _ = s.write_all(&[22, 3, 3, 0x40, 0]);
        while s.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for address in [hangs, drips] {
        let started = Instant::now();
        let err = served_leaf(&address, None, None, SHORT).unwrap_err();
        assert!(started.elapsed() < SHORT + Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(matches!(err, TlsError::NoCertificate { .. }), "{err}");
        assert!(err.to_string().ends_with("no answer in time"), "{err}");
    }
}

#[test]
fn a_server_that_closes_or_speaks_no_tls_or_is_not_there_is_an_error() {
    let closes = listen(drop);
    let plain = listen(|mut s| {
        let _ = s.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        let _ = s.read(&mut [0; 2048]);
    });
    for address in [closes, plain] {
        let err = served_leaf(&address, None, None, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(err, TlsError::NoCertificate { .. }), "{err}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for address in [free.as_str(), "no port", "", "[::1", "name.invalid:1"] {
        let err = served_leaf(address, None, None, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(err, TlsError::Connect { .. }), "{address}: {err}");
    }
}

#[test]
fn a_pair_serves_the_names_in_it_and_no_others() {
    let ca = Ca::new("kubernetes");
    let pair =
        ca.issue(&Leaf::server("kube-apiserver", &["DNS:n1", "DNS:kubernetes.default", "IP:10.96.0.1", "IP:::1"]));
    for name in ["n1", "kubernetes.default", "10.96.0.1", "::1", "[::1]"] {
        handshake(&pair, &ca.cert, name, now()).unwrap();
    }
    // the common name is not a name to dial: Go does not look at it
    for name in ["kube-apiserver", "10.96.0.2", "n2"] {
        let err = handshake(&pair, &ca.cert, name, now()).unwrap_err();
        assert!(matches!(err, TlsError::Refused { .. }), "{err}");
    }
    let err = handshake(&pair, &ca.cert, "10.96.0.2", now()).unwrap_err();
    assert_eq!(err.to_string(), "a client that dials 10.96.0.2 would refuse it: IP address mismatch");
}

#[test]
fn a_pair_of_another_ca_or_expired_or_for_clients_is_refused_and_the_reason_is_named() {
    let (ca, other) = (Ca::new("kubernetes"), Ca::new("kubernetes"));
    let foreign = other.issue(&Leaf::server("a", &["DNS:a"]));
    let expired = ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("a", &["DNS:a"]) });
    let client = ca.issue(&Leaf { sans: vec!["DNS:a".into()], ..Leaf::client("a", &[]) });
    for (pair, why) in [
        (foreign, "unable to get local issuer certificate"),
        (expired, "certificate has expired"),
        (client, "unsuitable certificate purpose"),
    ] {
        let err = handshake(&pair, &ca.cert, "a", now()).unwrap_err().to_string();
        assert!(err.ends_with(why), "{err}");
    }
}

#[test]
fn whether_a_pair_is_in_time_is_judged_at_the_given_instant_and_not_by_the_machines_clock() {
    let ca = Ca::new("kubernetes");
    let pair = ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("a", &["DNS:a"]) });
    let ago = |days: i64| now() - jiff::SignedDuration::from_hours(24 * days);
    handshake(&pair, &ca.cert, "a", ago(5)).unwrap();
    for (days, why) in [(0, "certificate has expired"), (20, "certificate is not yet valid")] {
        let err = handshake(&pair, &ca.cert, "a", ago(days)).unwrap_err().to_string();
        assert!(err.ends_with(why), "{err}");
    }
}

#[test]
fn a_key_of_another_certificate_cannot_serve() {
    let ca = Ca::new("kubernetes");
    let (a, b) = (ca.issue(&Leaf::server("a", &["DNS:a"])), ca.issue(&Leaf::server("a", &["DNS:a"])));
    let mixed = Identity { cert: a.cert, key: b.key };
    assert!(matches!(handshake(&mixed, &ca.cert, "a", now()), Err(TlsError::Pair { .. })));
}

#[test]
fn a_ca_in_the_middle_of_a_rotation_needs_only_to_be_in_the_bundle() {
    let (old, new) = (Ca::new("kubernetes"), Ca::new("kubernetes"));
    let pair = new.issue(&Leaf::server("a", &["DNS:a"]));
    handshake(&pair, &[old.cert, new.cert].concat(), "a", now()).unwrap();
}
