//! `make bench`: the wall time of the whole process `certwarden check`, of the program that `tools/build` builds.
//!
//! 1. 1 000 to 10 000 certificate files, each with its key and signed by the node's CA: an API server with that many
//!    `--tls-sni-cert-key` pairs. Every one is read, parsed, held against its key and against the CA's signature.
//!    Fails if 10 000 take a second or if the growth is not linear.
//! 2. A control-plane tree against `kubeadm certs check-expiration --config`, in turns, if there is a kubeadm
//!    (`CERTWARDEN_KUBEADM` or `PATH`) and we are root: the tree is bound over /etc/kubernetes in a private mount
//!    namespace. Fails if certwarden is less than 20 times faster, or if there is OpenSSL in it again.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for people")]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use support::{DAY, KeyKind, Options, Tree, Usage};

const SIZES: [usize; 4] = [1_000, 2_500, 5_000, 10_000];
const LIMIT: Duration = Duration::from_secs(1);
/// Time per certificate may grow by this much from the smallest to the largest tree; quadratic growth is tenfold.
const LINEAR: f64 = 2.0;
const FASTER: f64 = 20.0;
const ROUNDS: usize = 41;

fn main() -> ExitCode {
    // cargo's own build of it is another one than what is shipped
    assert!(Command::new("tools/build").status().unwrap().success(), "tools/build failed");
    let dir = tempfile::tempdir().unwrap();
    let grows = growth(dir.path());
    let faster = against_kubeadm(dir.path());
    if grows && faster && small() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let time = start.elapsed();
    assert!(status.code().is_some_and(|c| c < 2), "{command:?} failed: {status}");
    time
}

fn growth(dir: &Path) -> bool {
    let tree = Tree::build(&dir.join("many"), Options::default());
    let original = tree.read("/etc/kubernetes/manifests/kube-apiserver.yaml");
    let largest = SIZES.iter().copied().max().unwrap_or(0);
    for i in 0..largest {
        let leaf = tree.ca.issue(("sni", None), Usage::Server, &["sni.example"], 200 * DAY);
        tree.pair(&format!("/srv/tls/{i}.crt"), &format!("/srv/tls/{i}.key"), &leaf);
    }
    let mut each = Vec::new();
    let mut last = Duration::ZERO;
    println!("certificates   wall (median of 5)   each");
    for size in SIZES {
        let flags = (0..size).fold(String::new(), |mut s, i| {
            let _ = writeln!(s, "    - --tls-sni-cert-key=/srv/tls/{i}.crt,/srv/tls/{i}.key");
            s
        });
        let text = original.replace("    - --secure-port=6443\n", &flags);
        tree.write("/etc/kubernetes/manifests/kube-apiserver.yaml", text, 0o600);
        let run = || timed(check(&tree.root).args(["-o", "json"]));
        assert!(found(&tree.root) > size, "not all were found");
        last = median((0..5).map(|_| run()).collect());
        each.push(last.as_secs_f64() / f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
        println!("{size:>12}   {last:>18.1?}   {:.1} µs", each.last().unwrap() * 1e6);
    }
    let ratio = each.last().unwrap() / each.first().unwrap();
    println!("time per certificate, largest to smallest: {ratio:.2} (linear: at most {LINEAR})");
    let ok = last < LIMIT && ratio < LINEAR;
    println!("{}\n", if ok { "ok" } else { "FAILED: 10 000 certificates take too long or grow faster than linearly" });
    ok
}

fn check(root: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("--root").arg(root).arg("check");
    command
}

fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("release/certwarden")
}

/// How many serials the document holds.
fn found(root: &Path) -> usize {
    let output = check(root).args(["-o", "json"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).matches("\"serial\": \"").count()
}

fn kubeadm() -> Option<PathBuf> {
    let named = std::env::var_os("CERTWARDEN_KUBEADM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = named.into_iter().chain(std::env::split_paths(&path).map(|d| d.join("kubeadm")));
    all.find(|p| p.is_file())
}

fn against_kubeadm(dir: &Path) -> bool {
    let Some(kubeadm) = kubeadm().filter(|_| nix::unistd::geteuid().is_root()) else {
        println!("not compared with kubeadm: needs root and a kubeadm (CERTWARDEN_KUBEADM or PATH)");
        return true;
    };
    let tree = Tree::build(&dir.join("node"), Options { keys: KeyKind::Rsa2048, ..Options::default() });
    let config = dir.join("kubeadm.yaml");
    let api = if old(&kubeadm) { "v1beta2" } else { "v1beta3" };
    let text = format!(
        "apiVersion: kubeadm.k8s.io/{api}\nkind: ClusterConfiguration\nkubernetesVersion: v1.20.2\n\
         certificatesDir: /etc/kubernetes/pki\n---\napiVersion: kubeadm.k8s.io/{api}\nkind: InitConfiguration\n\
         localAPIEndpoint:\n  advertiseAddress: 10.0.0.1\n"
    );
    std::fs::write(&config, text).unwrap();
    // a mount point; taken away again if it was not there
    let made = std::fs::create_dir("/etc/kubernetes").is_ok();
    lay_over(&tree.at("/etc/kubernetes"), Path::new("/etc/kubernetes"));
    let theirs = || timed(Command::new(&kubeadm).args(["certs", "check-expiration", "--config"]).arg(&config));
    let ours = || timed(&mut check(&tree.root));
    // in turns, so that both meet the same machine; twice each, because what runs first finds the processor's caches full of the
    // other's 36 MB: the second run is what `hyperfine --warmup 1` would show, and what counts
    let twice = |run: &dyn Fn() -> Duration| (run(), run());
    let (kubeadms, certwardens): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (twice(&theirs), twice(&ours))).unzip();
    nix::mount::umount("/etc/kubernetes").unwrap();
    if made {
        std::fs::remove_dir("/etc/kubernetes").unwrap();
    }
    let ratio = |which: &str, theirs: Vec<Duration>, ours: Vec<Duration>| {
        println!("{which:<42} {:>9} {:>10}", "median", "fastest");
        let line = |name: &str, times: Vec<Duration>| {
            let fastest = times.iter().copied().min().unwrap_or_default();
            let median = median(times);
            println!("{name:<42} {median:>9.2?}  {fastest:>9.2?}");
            (median.as_secs_f64(), fastest.as_secs_f64())
        };
        let theirs = line("kubeadm certs check-expiration --config", theirs);
        let ours = line("certwarden check", ours);
        println!("ratio {:.1}; of the fastest {:.1}", theirs.0 / ours.0, theirs.1 / ours.1);
        theirs.0 / ours.0
    };
    println!("from fork to exit, {ROUNDS} times in turns");
    let ((kubeadms_first, kubeadms), (first, certwardens)): ((Vec<_>, Vec<_>), (Vec<_>, Vec<_>)) =
        (kubeadms.into_iter().unzip(), certwardens.into_iter().unzip());
    ratio("straight after the other", kubeadms_first, first);
    let ratio = ratio("again (at least 20 times faster)", kubeadms, certwardens);
    println!("{}", if ratio >= FASTER { "ok" } else { "FAILED: not fast enough" });
    ratio >= FASTER
}

/// Mounts `source` over `target` for this process and its children only.
fn lay_over(source: &Path, target: &Path) {
    let none = None::<&str>;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    nix::mount::mount(Some(source), target, none, MsFlags::MS_BIND, none).unwrap();
}

/// What is fast must be what is shipped: OpenSSL takes longer to get going than a node to be checked.
fn small() -> bool {
    let program = std::fs::read(program()).unwrap();
    let openssl = ["OpenSSL", "libcrypto"].iter().any(|name| program.windows(name.len()).any(|w| w == name.as_bytes()));
    if openssl {
        println!("FAILED: there is OpenSSL in certwarden; what does it reach beside certwarden-full?");
    }
    !openssl
}

/// kubeadm before 1.22 does not know v1beta3.
fn old(kubeadm: &Path) -> bool {
    let output = Command::new(kubeadm).args(["version", "-o", "short"]).output().unwrap();
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = version.trim().split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    minor.is_some_and(|m| m < 22)
}
