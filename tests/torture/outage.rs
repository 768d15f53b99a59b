//! How long a key and its certificate on the disk do not match, from the kernel's time stamps, beside kubeadm's own.
//!
//! Only the fsyncs before and behind the renames are traced, so that the renames themselves run at their own speed: the
//! time between is that of all renames and a little more. kubeadm's takes a thousand times as long; each of its writes is.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Harness, say};
use crate::interrupted::Bench;
use crate::reliability::Row;
use crate::scenario::Scenario;
use crate::strace;
use crate::support::{DAY, KeyKind, Options, Tree};

const RUNS: usize = 20;

/// When files were changed, in nanoseconds: from the entry of the first call to the end of the last.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn with(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }

    #[allow(clippy::cast_precision_loss, reason = "milliseconds for people")]
    fn ms(self) -> f64 {
        self.to.saturating_sub(self.from) as f64 / 1e6
    }
}

pub fn run(harness: &Harness, bench: &Bench, scenario: &Scenario) -> Vec<Row> {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| between_the_syncs(bench, scenario)).collect();
    runs.sort_by(f64::total_cmp);
    let (median, longest) = (runs[RUNS / 2], runs[RUNS - 1]);
    let files = scenario.targets.len();
    let ours = format!("all {files} files {median:.3} ms, the longest of {RUNS} runs {longest:.3} ms");
    let mut rows = vec![told("certwarden renew --all, ext4", ours)];
    match kubeadm(harness) {
        Some(theirs) => rows.push(told("kubeadm certs renew all (v1.20.2) on the same kind of node", theirs)),
        None => say("outage: SKIPPED beside kubeadm: $CERTWARDEN_K8S names no directory with kubeadm"),
    }
    rows
}

/// Milliseconds from the end of the last sync before the first rename to the beginning of the first behind the last.
fn between_the_syncs(bench: &Bench, scenario: &Scenario) -> f64 {
    bench.prepare(scenario);
    let log = bench.node().with_extension("times");
    let out = strace::timed(&bench.node(), scenario.args, &["--trace=fsync"], &log).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let is_behind = |l: &&str| l.contains("/node/etc/kubernetes") && !l.contains(".certwarden-");
    let behind = lines.iter().position(is_behind).unwrap();
    let (before, behind) = (span(lines[behind - 1]).unwrap(), span(lines[behind]).unwrap());
    Span { from: before.to, to: behind.from }.ms()
}

fn told(what: &str, note: String) -> Row {
    say(&format!("outage: {what}: {note}"));
    Row { section: "outage".to_owned(), what: what.to_owned(), tried: None, bad: None, note }
}

/// `PID SECONDS.NANOS call(…) = 0 <SECONDS>`.
fn span(line: &str) -> Option<Span> {
    let from = line.split_whitespace().nth(1)?.replace('.', "").parse().ok()?;
    let took = line.rsplit('<').next()?.trim_end_matches('>').parse::<f64>().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some microseconds")]
    Some(Span { from, to: from + (took * 1e9) as u64 })
}

/// kubeadm in a tree of its own: it writes each file in place.
fn kubeadm(harness: &Harness) -> Option<String> {
    let dir = PathBuf::from(std::env::var_os("CERTWARDEN_K8S")?);
    let root = harness.dir.join("kubeadm");
    Tree::build(&root, Options { keys: KeyKind::Rsa2048, left: 3 * DAY, ..Options::default() });
    let packed = dir.join("kubeadm.zst");
    if packed.exists() {
        crate::disk::ok(Command::new("zstd").args(["-qd", "-o"]).arg(root.join("kubeadm.bin")).arg(&packed));
        crate::disk::ok(Command::new("chmod").arg("755").arg(root.join("kubeadm.bin")));
    } else {
        fs::copy(dir.join("kubeadm"), root.join("kubeadm.bin")).ok()?;
    }
    let config = "apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\nkubernetesVersion: v1.20.2\n\
                  controlPlaneEndpoint: 10.0.0.1:6443\n";
    fs::write(root.join("kubeadm.yaml"), config).unwrap();
    let log = harness.dir.join("kubeadm.times");
    let mut command = Command::new("strace");
    command.args(strace::TIMES).arg("-o").arg(&log).args(["--trace=openat,write", "chroot"]).arg(&root);
    command.args(["/kubeadm.bin", "certs", "renew", "all", "--config", "/kubeadm.yaml"]);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut pairs: BTreeMap<String, Span> = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let changes = line.contains("O_TRUNC") || line.contains("write(");
        let Some((_, rest)) = line.rsplit_once("/etc/kubernetes/").filter(|_| changes) else { continue };
        let (Some(file), Some(span)) = (rest.split(['>', '"']).next(), span(line)) else { continue };
        let pair = file.trim_end_matches(".key").trim_end_matches(".crt").to_owned();
        pairs.entry(pair).and_modify(|s| *s = s.with(span)).or_insert(span);
    }
    let longest = pairs.values().map(|s| s.ms()).fold(0.0, f64::max);
    let all = pairs.values().copied().reduce(Span::with)?.ms();
    Some(format!("a pair up to {longest:.3} ms, from the first change to the last {all:.3} ms"))
}
