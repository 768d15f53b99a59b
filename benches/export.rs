//! `certwarden export` under load: scrapes for each second of CPU that it takes, over connections that are kept and over new
//! ones. Fails below what a fleet's Prometheus could ever ask of a node by orders of magnitude: 1000 on one core.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a program for people; figures"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const LEAST: f64 = 1000.0;
const TIME: Duration = Duration::from_secs(4);
const CLIENTS: usize = 4;
/// USER_HZ of every Linux that matters (times(2)).
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("run/certwarden");
    std::fs::create_dir_all(&metrics).unwrap();
    // as a control plane has it: 400 series, 50 KiB
    let series = |i: usize| {
        format!("certwarden_certificate_not_after_timestamp_seconds{{certificate=\"number-{i:045}\"}} {i}\n")
    };
    std::fs::write(metrics.join("metrics.prom"), (0..400).map(series).collect::<String>()).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let mut server = start(dir.path(), socket);
    fresh(&address); // it is ready
    let mut least = f64::MAX;
    for (what, client) in [("kept", kept as fn(&str) -> usize), ("new", each_new)] {
        let before = cpu(&server);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let address = address.clone();
                std::thread::spawn(move || client(&address))
            })
            .collect();
        let scrapes: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
        let took = (cpu(&server) - before).max(1.0 / TICKS);
        let rate = scrapes as f64 / took;
        println!(
            "export, {what} connections: {scrapes} scrapes in {} s, {rate:.0} for a second of CPU",
            TIME.as_secs()
        );
        least = least.min(rate);
    }
    let _ = (server.kill(), server.wait());
    if least < LEAST {
        println!("FAILED: fewer than {LEAST:.0}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn start(root: &Path, socket: TcpListener) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/certwarden");
    let mut command = Command::new(program);
    command.arg("--root").arg(root).arg("export").stdin(OwnedFd::from(socket)).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn cpu(server: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // proc_pid_stat(5): utime and stime are 14 and 15, and what follows the name begins with 3
    let ticks: f64 = fields[11..13].iter().map(|f| f.parse::<f64>().unwrap()).sum();
    ticks / TICKS
}

fn each_new(address: &str) -> usize {
    let began = Instant::now();
    let mut scrapes = 0;
    while began.elapsed() < TIME {
        fresh(address);
        scrapes += 1;
    }
    scrapes
}

fn fresh(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

fn kept(address: &str) -> usize {
    let stream = TcpStream::connect(address).unwrap();
    let (mut reader, began, mut scrapes) = (BufReader::new(&stream), Instant::now(), 0);
    while began.elapsed() < TIME {
        (&stream).write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        scrapes += 1;
    }
    scrapes
}
