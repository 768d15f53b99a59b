//! Sockets under one deadline for everything: a peer that sends a byte now and then does not get more time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A socket whose next read or write can be limited in time.
pub(super) trait Timed: Read + Write {
    fn limit(&self, time: Duration) -> io::Result<()>;
}

/// A socket that fails with `TimedOut` from `until` on.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    socket: S,
    until: Instant,
}

impl<S: Timed> Bounded<S> {
    pub(super) fn new(socket: S, until: Instant) -> Self {
        Self { socket, until }
    }

    pub(super) fn into_inner(self) -> S {
        self.socket
    }

    fn arm(&self) -> io::Result<()> {
        self.socket.limit(left(self.until)?)
    }
}

impl<S: Timed> Read for Bounded<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.read(buf).map_err(as_timeout)
    }
}

impl<S: Timed> Write for Bounded<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.write(buf).map_err(as_timeout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A blocking socket reports its time limit as EAGAIN (socket(7): `SO_RCVTIMEO`), which OpenSSL would take for
/// "try again".
fn as_timeout(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e }
}

pub(super) fn is_timeout(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::TimedOut
}

/// Connects to the first address of `address` that accepts.
pub(super) fn connect(address: &str, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for one in resolve(address, until)? {
        match TcpStream::connect_timeout(&one, left(until)?) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn resolve(address: &str, until: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(one) = address.parse() {
        return Ok(vec![one]);
    }
    // getaddrinfo(3) has no time limit of ours; a thread that is still in it is left behind and ends by itself
    let (send, receive) = mpsc::channel();
    let name = address.to_owned();
    std::thread::Builder::new().name("resolve".into()).spawn(move || {
        let _ = send.send(name.to_socket_addrs().map(Iterator::collect));
    })?;
    receive.recv_timeout(left(until)?).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
