//! `certwarden export` as a process: what it serves, to whom, and what it survives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use support::{Options, Tree};

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: &str = "# HELP a b\n# TYPE a gauge\na 1\n";

struct Exporter {
    dir: tempfile::TempDir,
    child: Child,
    address: String,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exporter {
    /// The socket is made here and handed over as standard input, as systemd does it.
    fn start(credentials: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for below in ["run/certwarden", "credentials"] {
            std::fs::create_dir_all(dir.path().join(below)).unwrap();
        }
        for (name, bytes) in credentials {
            std::fs::write(dir.path().join("credentials").join(name), bytes).unwrap();
        }
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_certwarden"))
            .arg("--root")
            .arg(dir.path())
            .arg("export")
            .env("CREDENTIALS_DIRECTORY", dir.path().join("credentials"))
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { dir, child, address }
    }

    fn publish(&self, text: &str) {
        let dir = self.dir.path().join("run/certwarden");
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join("metrics.prom")).unwrap();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> (u16, String) {
        exchange(self.connect(), request)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // a reset after the answer is an end too
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    (status, answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn what_the_daemon_wrote_is_served_and_the_next_text_at_once() {
    let exporter = Exporter::start(&[]);
    let (status, answer) = exporter.get("/metrics");
    assert_eq!(status, 503, "no daemon has run: {answer}");
    assert!(answer.contains("does certwarden.service run?"));
    assert_eq!(exporter.get("/healthz").0, 503);
    exporter.publish(PAGE);
    let (status, answer) = exporter.get("/metrics");
    assert_eq!((status, body(&answer)), (200, PAGE));
    assert!(answer.contains("content-type: text/plain; version=0.0.4"));
    exporter.publish("# TYPE a gauge\na 2\n");
    assert_eq!(body(&exporter.get("/metrics").1), "# TYPE a gauge\na 2\n");
    assert_eq!((exporter.get("/healthz").0, exporter.get("/").0, exporter.get("/../etc/passwd").0), (200, 200, 404));
    assert_eq!(
        exporter.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").0,
        405
    );
}

#[test]
fn who_has_no_password_sees_nothing() {
    let exporter = Exporter::start(&[("users", b"prometheus:s3cret\n")]);
    exporter.publish(PAGE);
    let with = |header: &str| {
        exporter
            .ask(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nConnection: close\r\n\r\n"))
    };
    let (status, answer) = exporter.get("/metrics");
    assert_eq!(status, 401);
    assert!(answer.contains("www-authenticate: Basic") && !answer.contains("a 1"));
    assert_eq!(with("Basic cHJvbWV0aGV1czpndWVzcw==").0, 401);
    assert_eq!(with("Basic cHJvbWV0aGV1czpzM2NyZXQ=").0, 200);
    assert_eq!((exporter.get("/").0, exporter.get("/healthz").0), (401, 200));
}

#[test]
fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    let [cert, key] =
        ["crt", "key"].map(|e| std::fs::read(tree.at(&format!("/etc/kubernetes/pki/apiserver.{e}"))).unwrap());
    let exporter = Exporter::start(&[("tls.crt", &cert), ("tls.key", &key)]);
    exporter.publish(PAGE);
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let configured = connector.build().configure().unwrap().verify_hostname(false);
    let stream = configured.connect("x", exporter.connect()).unwrap();
    let (status, answer) = exchange(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((status, body(&answer)), (200, PAGE));
    assert_eq!(exporter.get("/metrics").0, 0, "in the clear there is no answer");
}

#[test]
fn half_a_pair_or_no_socket_is_told_at_the_start() {
    let mut exporter = Exporter::start(&[("tls.crt", b"x")]);
    let mut said = String::new();
    exporter.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("there is no `tls.key` beside it"), "{said}");
    assert_eq!(exporter.child.wait().unwrap().code(), Some(70));
    let alone = Command::new(env!("CARGO_BIN_EXE_certwarden")).arg("export").stdin(Stdio::null()).output().unwrap();
    assert_eq!(alone.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("certwarden-export.socket"));
}

#[test]
fn slow_and_huge_and_many_clients_do_not_keep_it_from_the_next() {
    let exporter = Exporter::start(&[]);
    exporter.publish(PAGE);
    // a request without an end
    let huge = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let mut stream = exporter.connect();
    let _ = stream.write_all(huge.as_bytes()); // it may be closed before all is written
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // more clients than there are places, who say nothing or half a line
    let silent: Vec<TcpStream> = (0..100)
        .map(|i| {
            let mut stream = exporter.connect();
            let _ = stream.write_all(&b"GET /metr"[..i % 9]);
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(exporter.get("/metrics").0, 200, "the places are free again when their patience is over");
    assert!(began.elapsed() < PATIENCE);
    drop(silent);
    // bytes that are no HTTP
    assert!([0, 400].contains(&exporter.ask("\u{0}\u{1}\u{2}\r\n\r\n").0));
    assert_eq!(exporter.get("/metrics").0, 200);
}

#[test]
fn one_connection_serves_many_requests() {
    let exporter = Exporter::start(&[]);
    exporter.publish(PAGE);
    let stream = exporter.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..100 {
        (&stream).write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert_eq!(body, PAGE.as_bytes());
    }
}

#[test]
fn the_unit_hands_over_its_socket_and_shows_it_nothing_that_is_secret() {
    let unit = include_str!("../systemd/certwarden-export.service");
    assert!(unit.contains("\nStandardInput=socket\n") && unit.contains("\nDynamicUser=yes\n"));
    let hidden = unit.lines().find_map(|l| l.strip_prefix("InaccessiblePaths=")).unwrap();
    for path in ["/etc/kubernetes", "/var/lib/certwarden", "/var/lib/kubelet"] {
        assert!(hidden.split(' ').any(|p| p == format!("-{path}")), "{path}");
    }
    let socket = include_str!("../systemd/certwarden-export.socket");
    assert_eq!(
        socket.lines().filter(|l| l.starts_with("ListenStream=")).collect::<Vec<_>>(),
        ["ListenStream=127.0.0.1:9794"]
    );
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/export-to-others.conf").exists());
}
