//! What `certwarden watch` keeps in memory of 10 000 Secrets: a fake API server here, the program as it is shipped there. Prints the
//! most memory that it had while it listed, followed changes and wrote its metrics, and what it has afterwards; fails beyond the limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program for people, as good as a test"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod, SslStream};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

const SECRETS: usize = 10_000;
/// Every object is changed once by the watch, too.
const CHANGES: usize = 10_000;
const LIMIT_KIB: u64 = 32 << 10;
const MOST_COPIES: usize = 16;
const PATIENCE: Duration = Duration::from_secs(300);

fn key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn certificate(cn: &str, issuer: Option<(&X509, &PKey<Private>)>, own: &PKey<Private>) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("O", "Example Corporation").unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let (name, mut cert) = (name.build(), X509::builder().unwrap());
    let mut serial = BigNum::new().unwrap();
    serial.rand(159, openssl::bn::MsbOption::ONE, false).unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(issuer.map_or(&name, |(ca, _)| ca.subject_name())).unwrap();
    cert.set_pubkey(own).unwrap();
    cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(90).unwrap()).unwrap();
    if issuer.is_none() {
        cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    let san = SubjectAlternativeName::new().ip("127.0.0.1").build(&cert.x509v3_context(None, None)).unwrap();
    cert.append_extension(san).unwrap();
    cert.sign(issuer.map_or(own, |(_, key)| key), MessageDigest::sha256()).unwrap();
    cert.build()
}

/// What the fake serves: a Secret but for its name, as cert-manager makes them.
struct Api {
    acceptor: SslAcceptor,
    data: String,
    /// From the middle of the key in it.
    key: String,
}

impl Api {
    fn secret(&self, number: usize, version: usize) -> String {
        format!(
            r#"{{"metadata":{{"name":"service-{number:05}-tls","namespace":"team-{:03}","uid":"6f1c9e1c-0000-4000-8000-{number:012}","resourceVersion":"{version}","annotations":{{"cert-manager.io/issuer-name":"letsencrypt"}},"managedFields":[{{"manager":"cert-manager","fieldsV1":{{"f:data":{{"f:tls.crt":{{}},"f:tls.key":{{}}}}}}}}]}},"type":"kubernetes.io/tls","data":{}}}"#,
            number / 50,
            self.data
        )
    }

    fn answer(&self, socket: TcpStream) {
        let Ok(mut client) = self.acceptor.accept(socket) else { return };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut one = [0];
            if client.read(&mut one).unwrap_or(0) == 0 {
                return;
            }
            head.push(one[0]);
        }
        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        let all = target.starts_with("/api/v1/secrets?");
        if target.contains("watch=1") {
            self.watch(&mut client, all);
        } else {
            self.list(&mut client, &target, all);
        }
    }

    fn list(&self, client: &mut SslStream<TcpStream>, target: &str, all: bool) {
        let value = |key: &str| target.split(['?', '&']).find_map(|p| p.strip_prefix(key)?.parse::<usize>().ok());
        let (from, limit) = (value("continue=").unwrap_or(0), value("limit=").unwrap_or(SECRETS));
        let to = if all { (from + limit).min(SECRETS) } else { 0 };
        let items: Vec<String> = (from..to).map(|n| self.secret(n, 1)).collect();
        let more = if all && to < SECRETS { to.to_string() } else { String::new() };
        let body = format!(
            r#"{{"kind":"SecretList","apiVersion":"v1","metadata":{{"resourceVersion":"1","continue":"{more}"}},"items":[{}]}}"#,
            items.join(",")
        );
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes()));
        let _ = client.shutdown();
    }

    fn watch(&self, client: &mut SslStream<TcpStream>, all: bool) {
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in (0..CHANGES).filter(|_| all) {
            let line = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", self.secret(number, number + 2));
            if client.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).is_err() {
                return;
            }
        }
        let _ = client.read(&mut [0]); // until it goes
    }
}

struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watching {
    /// KiB, of `/proc/PID/status`.
    fn memory<const N: usize>(&mut self, fields: [&str; N]) -> [u64; N] {
        assert!(self.0.try_wait().unwrap().is_none(), "certwarden watch ended");
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        fields.map(|field| {
            let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap_or("0");
            line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
        })
    }
}

impl Watching {
    /// How often `text` is in its memory that can be written.
    fn copies(&self, text: &str) -> usize {
        let of = |what: &str| format!("/proc/{}/{what}", self.0.id());
        let (maps, memory) = (std::fs::read_to_string(of("maps")).unwrap(), std::fs::File::open(of("mem")).unwrap());
        let writable = maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
        let found = writable.filter_map(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            let mut bytes = vec![0; usize::try_from(to - from).ok()?];
            memory.read_exact_at(&mut bytes, from).ok()?;
            Some(bytes.windows(text.len()).filter(|w| *w == text.as_bytes()).count())
        });
        found.sum()
    }
}

/// The value of a sample in the page of metrics; 0 without.
fn sample(page: &str, series: &str) -> usize {
    page.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0)
}

/// The fake, where it listens, and its CA.
fn serve() -> (Arc<Api>, SocketAddr, Vec<u8>) {
    let (ca_key, own) = (key(), key());
    let ca = certificate("An Issuing Authority R3", None, &ca_key);
    let leaf = certificate("service.example.org", Some((&ca, &ca_key)), &own);
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&leaf).unwrap();
    acceptor.set_private_key(&own).unwrap();
    let pem = |cert: &X509| cert.to_pem().unwrap();
    let chain = STANDARD.encode([pem(&leaf), pem(&ca)].concat());
    let key = STANDARD.encode(own.private_key_to_pem_pkcs8().unwrap());
    let data = format!(r#"{{"ca.crt":"{}","tls.crt":"{chain}","tls.key":"{key}"}}"#, STANDARD.encode(pem(&ca)));
    let api = Arc::new(Api { acceptor: acceptor.build(), data, key: key[400..500].to_owned() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Arc::clone(&api);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let api = Arc::clone(&serving);
            std::thread::spawn(move || api.answer(socket));
        }
    });
    (api, address, pem(&ca))
}

fn main() {
    let (api, address, ca) = serve();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("run/certwarden-watch")).unwrap();
    let kubeconfig = format!(
        "current-context: c\nclusters: [{{name: k, cluster: {{server: \"https://{address}\", certificate-authority-data: {}}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n",
        STANDARD.encode(ca)
    );
    std::fs::write(dir.path().join("kubeconfig"), kubeconfig).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/certwarden");
    let program = std::env::var_os("CERTWARDEN_BIN").map_or_else(|| PathBuf::from(shipped), PathBuf::from);
    let child = Command::new(program)
        .arg("--root")
        .arg(dir.path())
        .args(["watch", "--kubeconfig", "/kubeconfig"])
        .spawn()
        .expect("the program is built: tools/build");
    let mut watching = Watching(child);

    let (began, page) = (Instant::now(), dir.path().join("run/certwarden-watch/metrics.prom"));
    let (mut most, mut listed, mut text) = (0, Duration::ZERO, String::new());
    while sample(&text, "certwarden_watch_events_total{resource=\"secrets\"}") < CHANGES {
        assert!(began.elapsed() < PATIENCE, "not everything was followed in time");
        let [anonymous] = watching.memory(["RssAnon"]);
        most = most.max(anonymous);
        std::thread::sleep(Duration::from_millis(50));
        text = std::fs::read_to_string(&page).unwrap_or_default();
        if listed.is_zero() && sample(&text, "certwarden_watch_objects{resource=\"secrets\"}") == SECRETS {
            listed = began.elapsed();
        }
    }
    let objects = sample(&text, "certwarden_watch_objects{resource=\"secrets\"}");
    assert_eq!(objects, SECRETS, "all are followed");
    assert_eq!(sample(&text, "certwarden_watch_omitted_objects{resource=\"secrets\"}"), 0, "none is left out");
    let all_changed = began.elapsed();
    // one more page of metrics, and nothing else happens
    let written = modified(&page);
    while modified(&page) == written {
        assert!(began.elapsed() < PATIENCE, "the metrics are not written every minute");
        std::thread::sleep(Duration::from_millis(500));
        let [anonymous] = watching.memory(["RssAnon"]);
        most = most.max(anonymous);
    }
    let [peak, resident, anonymous] = watching.memory(["VmHWM", "VmRSS", "RssAnon"]);
    let left = watching.copies(&api.key);
    println!(
        "certwarden watch with {objects} Secrets of {} bytes and three certificates each, listed after {:.1} s, all changed after {:.1} s:\n\
         \x20 resident at most {peak} KiB (limit {LIMIT_KIB}), of that anonymous {most}; afterwards {resident}, {anonymous}; metrics {} KiB",
        api.secret(0, 1).len(),
        listed.as_secs_f64(),
        all_changed.as_secs_f64(),
        text.len() >> 10
    );
    // of ten thousand that came twice; what is left lies in buffers that the TLS and HTTP libraries use again
    println!("  copies of a key in its memory: {left}");
    assert!(peak <= LIMIT_KIB, "FAILED: too much memory");
    assert!(left <= MOST_COPIES, "FAILED: keys are kept");
}

fn modified(page: &std::path::Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(page).and_then(|m| m.modified()).ok()
}
