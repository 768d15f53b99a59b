use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use openssl::ssl::{SslAcceptor, SslMethod};

use super::*;
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::kube::Identity;
use crate::host::tls::use_identity;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

/// A server that first talks by `preface` and then serves `pair`, once.
fn serve(pair: &Identity, preface: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    use_identity(&mut context, pair).unwrap();
    let context = context.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        preface(&mut socket);
        drop(context.accept(socket));
    });
    address
}

fn endpoint<'a>(address: &'a str, ca: &'a Ca) -> Endpoint<'a> {
    Endpoint { address, name: Some("shop"), starttls: StartTls::None, ca: Some(&ca.cert) }
}

#[test]
fn what_is_shown_is_seen_and_whether_clients_would_accept_it() {
    let ca = Ca::new("public");
    let fine = ca.issue(&Leaf::server("shop", &["DNS:shop"]));
    let cases = [
        (fine.clone(), None),
        (ca.issue(&Leaf::server("shop", &["DNS:other"])), Some("hostname mismatch")),
        (ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("shop", &["DNS:shop"]) }), Some("certificate has expired")),
        (Ca::new("else").issue(&Leaf::server("shop", &["DNS:shop"])), Some("unable to get local issuer certificate")),
    ];
    for (pair, refused) in cases {
        let address = serve(&pair, |_| {});
        let showed = look(&endpoint(&address, &ca), LONG).unwrap();
        assert_eq!(showed.refused.as_deref().map(str::to_lowercase).as_deref(), refused);
        assert_eq!(showed.leaf.serial, crate::model::cert::parse_pem(&pair.cert).unwrap().remove(0).serial);
    }
}

/// What a server says and what it must have heard, in turn.
type Step = (&'static [u8], &'static [u8]);

fn talk(steps: &'static [Step]) -> impl FnOnce(&mut TcpStream) + Send {
    move |socket| {
        for (say, hear) in steps {
            socket.write_all(say).unwrap();
            let mut heard = vec![0; hear.len()];
            socket.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, hear, "{}", String::from_utf8_lossy(&heard));
        }
    }
}

const LDAP: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
const MYSQL: &[u8] = b"\x20\0\0\x01\0\x8a\0\0\0\0\0\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn tls_begins_as_each_protocol_has_it() {
    let cases: [(StartTls, &'static [Step], &'static [u8]); 7] = [
        (
            StartTls::Smtp,
            &[
                (b"220-mail\r\n220 ready\r\n", b"EHLO certwarden\r\n"),
                (b"250-mail\r\n250-SIZE 1\r\n250 STARTTLS\r\n", b"STARTTLS\r\n"),
            ],
            b"220 go\r\n",
        ),
        (StartTls::Imap, &[(b"* OK hello\r\n", b"a1 STARTTLS\r\n")], b"* CAPABILITY X\r\na1 OK go\r\n"),
        (StartTls::Pop3, &[(b"+OK hello\r\n", b"STLS\r\n")], b"+OK go\r\n"),
        (StartTls::Ldap, &[(b"", LDAP)], b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0"),
        (StartTls::Postgres, &[(b"", b"\0\0\0\x08\x04\xd2\x16\x2f")], b"S"),
        (
            StartTls::Mysql,
            &[(b"\x2c\0\0\0\x0a8.0.1\0\x01\0\0\0saltsalt\0\xff\xff\x21\x02\0\xff\xff\x15\0\0\0\0\0\0\0\0\0\0saltsa", MYSQL)],
            b"",
        ),
        (
            StartTls::Xmpp,
            &[
                (b"", b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                   xmlns:stream='http://etherx.jabber.org/streams' to='shop' version='1.0'>"),
                (
                    b"<?xml version='1.0'?><stream:stream id='1'><stream:features><starttls xmlns='x'/></stream:features>",
                    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
                ),
            ],
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ),
    ];
    let ca = Ca::new("public");
    let pair = ca.issue(&Leaf::server("shop", &["DNS:shop"]));
    for (starttls, steps, last) in cases {
        let address = serve(&pair, move |socket| {
            talk(steps)(socket);
            socket.write_all(last).unwrap();
        });
        let showed = look(&Endpoint { starttls, ..endpoint(&address, &ca) }, LONG);
        assert_eq!(showed.map(|s| s.refused).map_err(|e| e.to_string()), Ok(None), "{starttls:?}");
    }
}

#[test]
fn who_does_not_begin_tls_is_told_as_that_and_who_hangs_is_not_waited_for() {
    let ca = Ca::new("public");
    let pair = ca.issue(&Leaf::server("shop", &["DNS:shop"]));
    let cases: [(StartTls, &'static [u8], &str); 6] = [
        (StartTls::Smtp, b"554 no\x1b[2J service\r\n", "554 no\u{fffd}[2J service"),
        (StartTls::Imap, b"* BYE\r\n", "* BYE"),
        (StartTls::Ldap, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\0\x04\0", "LDAP result 2"),
        (StartTls::Postgres, b"N", "it has no TLS"),
        (StartTls::Mysql, b"\x05\0\0\0\xff\x01\x02no", "no MySQL server"),
        (StartTls::Xmpp, b"<stream:features></stream:features>", "it has no TLS"),
    ];
    for (starttls, says, why) in cases {
        let address = serve(&pair, |socket| socket.write_all(says).unwrap());
        let error = look(&Endpoint { starttls, ..endpoint(&address, &ca) }, LONG).unwrap_err();
        assert!(error.to_string().contains(why), "{starttls:?}: {error}");
    }
    let endless = serve(&pair, |socket| while socket.write_all(b"220-more\r\n").is_ok() {});
    let error = look(&Endpoint { starttls: StartTls::Smtp, ..endpoint(&endless, &ca) }, LONG).unwrap_err();
    assert!(error.to_string().contains("talks without end"), "{error}");
    let hangs = serve(&pair, |socket| drop(socket.read_to_end(&mut Vec::new())));
    let error = look(&Endpoint { starttls: StartTls::Smtp, ..endpoint(&hangs, &ca) }, SHORT).unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}
