//! `certwarden export` as a process: what it serves, to whom, and what it survives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use support::{Ca, DAY, KeyKind, Leaf, Options, Tree, Usage};

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

/// The exporter's certificate and key, and a CA of clients with one that it has issued.
struct Certified {
    _dir: tempfile::TempDir,
    tree: Tree,
}

impl Certified {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::build(dir.path(), Options::default());
        Self { _dir: dir, tree }
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.tree.at(&format!("/etc/kubernetes/pki/{name}"))).unwrap()
    }

    fn exporter(&self, more: &[(&str, &[u8])]) -> Exporter {
        let (cert, key) = (self.file("apiserver.crt"), self.file("apiserver.key"));
        let mut credentials: Vec<(&str, &[u8])> = vec![("tls.crt", &cert), ("tls.key", &key)];
        credentials.extend(more);
        Exporter::start(&credentials)
    }

    /// What a client with this certificate gets; 0: nothing.
    fn ask(exporter: &Exporter, identity: Option<&Leaf>) -> (u16, String) {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        if let Some(leaf) = identity {
            connector.set_certificate(&X509::from_pem(&leaf.cert_pem).unwrap()).unwrap();
            connector.set_private_key(&PKey::private_key_from_pem(&leaf.key_pem).unwrap()).unwrap();
        }
        let configured = connector.build().configure().unwrap().verify_hostname(false);
        match configured.connect("x", exporter.connect()) {
            Ok(mut stream) => {
                // TLS 1.3: the server may refuse after the client is through with its part
                let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(request);
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer).into_owned();
                (answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default(), answer)
            }
            Err(_) => (0, String::new()),
        }
    }
}

/// What it has told so far of those whom it has not let in.
fn told(mut exporter: Exporter) -> String {
    exporter.child.kill().unwrap();
    let mut said = String::new();
    exporter.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
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
fn only_who_has_a_certificate_of_the_client_ca_gets_an_answer() {
    let certified = Certified::new();
    let clients = Ca::new("scrapers", KeyKind::P256, 300 * DAY);
    let exporter = certified.exporter(&[("client-ca.crt", &clients.cert_pem())]);
    exporter.publish(PAGE);
    let of = |ca: &Ca, usage, left| ca.issue(("prometheus", None), usage, &[], left);
    let good = of(&clients, Usage::Client, 30 * DAY);
    assert_eq!(Certified::ask(&exporter, Some(&good)).0, 200);
    // the name of the right CA, and another key
    let same_name = Ca::new("scrapers", KeyKind::P256, 300 * DAY);
    for (what, leaf) in [
        ("no certificate", None),
        ("one of the cluster's CA", Some(of(&certified.tree.ca, Usage::Client, 30 * DAY))),
        ("one of a CA of the same name", Some(of(&same_name, Usage::Client, 30 * DAY))),
        ("one that has expired", Some(of(&clients, Usage::Client, -DAY))),
        ("a server's", Some(of(&clients, Usage::Server, 30 * DAY))),
    ] {
        let (status, answer) = Certified::ask(&exporter, leaf.as_ref());
        assert_eq!((status, answer.contains("a 1")), (0, false), "{what}: {answer}");
    }
    assert_eq!(Certified::ask(&exporter, Some(&good)).0, 200, "who may ask is not kept from it by the others");
    let said = told(exporter);
    let lines = said.lines().filter(|l| l.contains("without a certificate of the client CA")).count();
    assert_eq!(lines, 1, "five failures in a minute are one line: {said}");
    assert!(said.contains("the last came from 127.0.0.1"), "{said}");
}

#[test]
fn a_client_ca_that_could_not_be_asked_for_lets_nobody_start() {
    let certified = Certified::new();
    let ca = certified.tree.ca.cert_pem();
    for (mut exporter, why) in [
        (Exporter::start(&[("client-ca.crt", &ca)]), "there are no `tls.crt` and `tls.key` beside it"),
        (certified.exporter(&[("client-ca.crt", b"\n")]), "there is no certificate in it"),
    ] {
        let mut said = String::new();
        exporter.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!(exporter.child.wait().unwrap().code(), Some(70));
    }
}

#[test]
fn wrong_passwords_are_answered_late_and_told_once() {
    let exporter = Exporter::start(&[("users", b"prometheus:s3cret\n")]);
    exporter.publish(PAGE);
    let began = Instant::now();
    for _ in 0..2 {
        let (status, answer) =
            exporter.ask("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic cHJvbWV0aGV1czpndWVzcw==\r\n\r\n");
        assert_eq!(status, 401);
        assert!(answer.contains("connection: close"), "each guess is a connection: {answer}");
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "a second for each guess");
    let began = Instant::now();
    let right = "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic cHJvbWV0aGV1czpzM2NyZXQ=\r\nConnection: close\r\n\r\n";
    assert_eq!(exporter.ask(right).0, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "the right one is answered at once");
    let said = told(exporter);
    assert_eq!(said.matches("without a name and password that are known").count(), 1, "{said}");
    assert!(!said.contains("guess") && !said.contains("s3cret"), "{said}");
}

#[test]
fn who_takes_nothing_of_its_answer_is_cut_off() {
    let exporter = Exporter::start(&[]);
    // more than the kernel's buffers on both sides take
    exporter.publish(&format!(
        "# TYPE a gauge\n{}",
        "a{b=\"0123456789012345678901234567890123456789\"} 1\n".repeat(400_000)
    ));
    let mut lazy = exporter.connect();
    lazy.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    // nothing is read until it has lost its patience
    std::thread::sleep(Duration::from_secs(13));
    let mut got = Vec::new();
    let _ = lazy.read_to_end(&mut got);
    assert!(got.len() < 10 << 20, "{} bytes came", got.len());
    // who reads gets all of it
    assert!(exporter.get("/metrics").1.len() > 16 << 20);
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
    let unit = include_str!("../../systemd/certwarden-export.service");
    assert!(unit.contains("\nStandardInput=socket\n") && unit.contains("\nDynamicUser=yes\n"));
    let hidden = unit.lines().find_map(|l| l.strip_prefix("InaccessiblePaths=")).unwrap();
    for path in ["/etc/kubernetes", "/var/lib/certwarden", "/var/lib/kubelet"] {
        assert!(hidden.split(' ').any(|p| p == format!("-{path}")), "{path}");
    }
    let socket = include_str!("../../systemd/certwarden-export.socket");
    assert_eq!(
        socket.lines().filter(|l| l.starts_with("ListenStream=")).collect::<Vec<_>>(),
        ["ListenStream=127.0.0.1:9794"]
    );
    let example = include_str!("../../packaging/examples/export-to-others.conf");
    for credential in ["tls.crt", "tls.key", "users", "client-ca.crt"] {
        assert!(example.contains(&format!("LoadCredential={credential}:/")), "{credential}");
    }
}

/// Everybody on a machine may read the arguments of every process (proc_pid_cmdline(5)).
#[test]
fn nothing_that_is_told_or_shipped_gives_a_token_to_a_command_as_an_argument() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<_> = ["docs", "packaging", "systemd", "README.md"].map(|d| root.join(d)).into();
    let mut read = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        read += 1;
        for line in text.lines() {
            let forms = ["--token ", "--token=", "--arg t ", "Authorization: Bearer"];
            // said of it, not done
            let found = forms.iter().any(|form| line.contains(form)) && !line.contains("(`--token`)");
            assert!(!found, "{}: {line}", path.display());
        }
    }
    assert!(read > 100, "{read}");
}
