//! A small HTTPS server for the unit tests of this crate: answers by path, or misbehaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode, SslVersion};

use super::Identity;
use crate::host::crypto::{self, testing::Ca};
use crate::host::tls::use_identity;

/// What a request looked like: first line, then headers, then the body.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

pub(crate) struct Server {
    /// `127.0.0.1:port`.
    pub address: String,
    pub seen: Seen,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Answers each request by `answer(first line) -> (status, body)`.
    pub(crate) fn start(
        pair: &Identity,
        client_ca: Option<(&Ca, SslVersion)>,
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        use_identity(&mut context, pair).unwrap();
        if let Some((ca, version)) = client_ca {
            context.set_cert_store(crypto::anchors(&ca.cert, None).unwrap());
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            context.set_max_proto_version(Some(version)).unwrap();
        }
        let context = context.build();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let address = listen(move |socket| {
            let Ok(mut stream) = context.accept(socket) else { return };
            let Some(request) = read(&mut stream) else { return };
            let (status, body) = answer(request.lines().next().unwrap_or_default());
            log.lock().unwrap().push(request);
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            let _ = stream.shutdown();
        });
        Self { address, seen }
    }
}

/// Handles every connection by `act` on a thread of its own; ends with the test process.
pub(crate) fn listen(act: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let act = Arc::new(act);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            std::thread::spawn(move || act(socket));
        }
    });
    address
}

fn read(stream: &mut impl Read) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        request.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.push_str(&String::from_utf8_lossy(&body));
    Some(request)
}
