//! Which leaf a socket serves, compared with the one on the disk.

use std::time::Duration;

use super::pause;
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::kube::Identity;
use crate::host::tls;
use crate::model::plan::Socket;
use crate::model::report::SocketSeen;

/// For one handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Between looks, at first: most reload within 0.3 s.
const SOON: Duration = Duration::from_millis(200);
/// And when it takes longer: 1.20 polls its files once a minute.
const LATER: Duration = Duration::from_secs(1);

/// A socket and the serial that it must serve (as `CertFacts::serial`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    pub socket: Socket,
    pub serial: String,
}

/// One look at a socket. `identity` is shown where the server asks for one; it is not needed to see the leaf.
pub fn served(expected: &Expected, identity: Option<&Identity>, limit: Duration) -> SocketSeen {
    let Expected { socket, serial } = expected;
    let leaf = tls::served_leaf(&socket.address, socket.name.as_deref(), identity, limit.min(HANDSHAKE));
    let seen = leaf.ok().map(|l| l.serial);
    SocketSeen {
        component: socket.component,
        address: socket.address.clone(),
        name: socket.name.clone(),
        entry: socket.entry.clone(),
        ok: seen.as_deref() == Some(serial),
        serial: seen,
        expected: serial.clone(),
    }
}

/// Looks until every socket serves what it must, `limit` is over or the caller does not want to go on. The last look
/// at each socket, in the order of `expected`.
pub fn await_served(
    host: &Host,
    expected: &[Expected],
    identity: Option<&Identity>,
    limit: Duration,
    keep_going: &dyn Fn() -> bool,
) -> Vec<SocketSeen> {
    let clock = host.clock.as_ref();
    let (until, patient) = (Deadline::after(clock, limit), Deadline::after(clock, Duration::from_secs(2)));
    // the last look gets its time too, but a silent server does not eat the time of the others
    let look = |e: &Expected| served(e, identity, until.left(clock).max(LATER));
    let mut seen: Vec<SocketSeen> = expected.iter().map(look).collect();
    while seen.iter().any(|s| !s.ok) {
        let time = if patient.is_over(clock) { LATER } else { SOON };
        if !pause(host, time, until, keep_going) {
            break;
        }
        for (expected, seen) in expected.iter().zip(&mut seen).filter(|(_, s)| !s.ok) {
            *seen = look(expected);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use openssl::ssl::SslVersion;

    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};
    use crate::host::kube::testing::{Server, listen};
    use crate::model::cert::parse_pem;
    use crate::model::component::Component;
    use crate::verify::testing::host;

    fn expect(address: &str, serial: &str) -> Expected {
        let socket =
            Socket { component: Component::Etcd, address: address.into(), entry: "etcd-server".into(), name: None };
        Expected { socket, serial: serial.into() }
    }

    #[test]
    fn a_socket_that_takes_the_new_leaf_after_a_while_is_waited_for() {
        let ca = Ca::new("etcd-ca");
        let (old, new) = (ca.issue(&Leaf::server("n1", &[])), ca.issue(&Leaf::server("n1", &[])));
        let serial = parse_pem(&new.cert).unwrap().remove(0).serial;
        let [old, new] =
            [old, new].map(|p| Server::start(&p, Some((&ca, SslVersion::TLS1_3)), |_| (200, String::new())));
        // connections one and two go to the old server, the others to the new one
        let count = Arc::new(AtomicUsize::new(0));
        let address = listen(move |socket| {
            let to = if count.fetch_add(1, Ordering::SeqCst) < 2 { &old.address } else { &new.address };
            let there = std::net::TcpStream::connect(to).unwrap();
            let (mut a, mut b) = (socket.try_clone().unwrap(), there.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut a, &mut b));
            let (mut a, mut b) = (socket, there);
            let _ = std::io::copy(&mut b, &mut a);
        });
        let seen = await_served(&host(), &[expect(&address, &serial)], None, Duration::from_secs(20), &|| true);
        assert!(seen.iter().all(|s| s.ok), "{seen:?}");
    }

    #[test]
    fn a_socket_that_keeps_the_old_leaf_or_is_silent_is_reported_when_the_time_is_over() {
        let pair = Ca::new("ca").issue(&Leaf::server("n1", &[]));
        let serial = parse_pem(&pair.cert).unwrap().remove(0).serial;
        let server = Server::start(&pair, None, |_| (200, String::new()));
        let closed = listen(drop);
        let all = [expect(&server.address, "00"), expect(&closed, "00"), expect(&server.address, &serial)];
        let started = Instant::now();
        let seen = await_served(&host(), &all, None, Duration::from_millis(700), &|| true);
        assert!(started.elapsed() < Duration::from_secs(5));
        let brief: Vec<_> = seen.iter().map(|s| (s.serial.as_deref(), s.ok)).collect();
        assert_eq!(brief, [(Some(serial.as_str()), false), (None, false), (Some(serial.as_str()), true)]);
        let started = Instant::now();
        let seen = await_served(&host(), &all, None, Duration::from_secs(60), &|| false);
        assert!(seen.iter().any(|s| !s.ok));
        assert!(started.elapsed() < Duration::from_secs(5), "an interrupted wait ends at once");
    }
}
