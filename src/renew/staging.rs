//! The hidden subcommand `certwarden in-staging ORDER`: kubeadm, let loose on a private copy of the node's files.
//!
//! A fresh process leaves the host's mount namespace, copies what kubeadm needs to a tmpfs, shows that copy where
//! the live files are, makes everything else read-only, runs `kubeadm certs renew NAME` and compares. Only changed
//! leaf files of the names that were asked for come out; a CA key never does.

mod copy;
mod digest;
mod order;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::host::exec::{Exec, ExecError, Invocation, Output, Program, Programs, descendants};
use crate::host::fs::MAX_FILE;
use crate::host::namespace::{Namespace, NamespaceError};
use crate::model::plain;
use copy::Copies;
use digest::Snapshot;
pub use digest::{Change, Kind};
pub use order::{Answer, Done, Name, Order, Unexpected};

/// All of a large node's certificates take less than 1 MiB.
const SCRATCH_BYTES: u64 = 64 << 20;
/// An order names files and nothing else.
const MAX_ORDER: u64 = 1 << 20;
/// `kubeadm version` reads no file and asks nobody.
const VERSION_LIMIT: Duration = Duration::from_secs(20);
/// Sockets of systemd, the message bus and the container runtimes (not the journal's): root could start anything through them.
/// `kubeadm certs renew --config` uses none of them. An old kubeadm at most checks which runtime's socket is there, fails if it finds
/// two, and takes a default if it finds none (kubernetes: `cmd/kubeadm/app/util/config/initconfiguration.go:
/// SetNodeRegistrationDynamicDefaults`).
const SOCKETS: [&str; 9] = [
    "/run/containerd",
    "/run/cri-dockerd.sock",
    "/run/crio",
    "/run/dbus",
    "/run/docker.sock",
    "/run/k3s",
    "/run/podman",
    "/run/snapd.socket",
    "/run/systemd/private",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum StagingError {
    #[error("usage: certwarden in-staging ORDER")]
    Usage,
    #[error("the order is not valid: {0}")]
    Order(String),
    #[error("the kernel refuses to hand over what kubeadm leaves behind ({0})")]
    Adopt(Errno),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} leads to {}, which is too wide to be copied; make it a directory of its own", link.display(), target.display())]
    TooWide { link: PathBuf, target: PathBuf },
    #[error("{} holds more than {limit}; move what is not Kubernetes' out of it", path.display())]
    TooMuch { path: PathBuf, limit: &'static str },
    #[error("what kubeadm wrote to {} is the content of {}", path.display(), of.display())]
    Borrowed { path: PathBuf, of: PathBuf },
    #[error("kubeadm {ending} when asked for its version: {words}")]
    Version { ending: String, words: String },
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl StagingError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// Carries out the order in the file `args[0]`, prints the [`Answer`], and returns the exit code: 1 if staging itself failed.
/// Only for a fresh process: it leaves the host's mount namespace for good.
pub fn run(args: &[OsString]) -> u8 {
    let answer = read_order(args).and_then(|order| carry_out(&order));
    let answer = answer.unwrap_or_else(|e| Answer { error: Some(e.to_string()), ..Answer::default() });
    let text = serde_json::to_string(&answer).unwrap_or_default();
    let printed = writeln!(io::stdout(), "{text}");
    u8::from(answer.error.is_some() || printed.is_err())
}

fn read_order(args: &[OsString]) -> Result<Order, StagingError> {
    let [path] = args else { return Err(StagingError::Usage) };
    let path = Path::new(path);
    let bytes = read_bounded(path, MAX_ORDER).map_err(StagingError::io("read", path))?;
    let order: Order = serde_json::from_slice(&bytes).map_err(|e| StagingError::Order(e.to_string()))?;
    let paths = [&order.kubeadm, &order.config, &order.kubernetes_dir, &order.pki_dir, &order.workdir];
    let files = order.names.iter().flat_map(|n| &n.files);
    let relative = paths.into_iter().chain(files).find(|p| !p.is_absolute());
    let refusal = relative.map(|path| StagingError::Order(format!("{} is not absolute", path.display())));
    refusal.map_or(Ok(order), Err)
}

fn carry_out(order: &Order) -> Result<Answer, StagingError> {
    descendants::adopt().map_err(StagingError::Adopt)?;
    let namespace = Namespace::enter()?;
    let stage = order.workdir.join("stage");
    make_dir(&stage)?;
    // a mount of its own, so that it can stay writable
    namespace.cover(&order.workdir, &order.workdir)?;
    let off_swap = namespace.scratch(&stage, SCRATCH_BYTES)?;
    let copies = Copies::make(order, &stage)?;
    for (live, copy) in copies.areas() {
        namespace.cover(live, copy)?;
    }
    let tmp = stage.join("tmp");
    make_dir(&tmp)?;
    namespace.private_tmp(&tmp, &order.workdir)?;
    let nothing = stage.join("nothing");
    make_dir(&nothing)?;
    namespace.hide(&SOCKETS, &nothing, &order.workdir)?;
    let mut writable: Vec<&Path> = copies.areas().map(|(live, _)| live).collect();
    writable.push(&order.workdir);
    if !order.workdir.starts_with("/tmp") {
        writable.push(Path::new("/tmp"));
    }
    namespace.freeze(&writable)?;

    let dir = order.kubeadm.parent().map(Path::to_path_buf).unwrap_or_default();
    let programs = Exec::with_dirs(vec![dir]).in_our_group();
    let answer = if order.names.is_empty() { version(&programs) } else { renew_all(&programs, order, &copies) };
    let mut mounts: Vec<&Path> = copies.areas().map(|(live, _)| live).collect();
    mounts.push(&stage);
    namespace.leave(&mounts);
    Ok(Answer { may_be_swapped: !off_swap && has_swap(), ..answer? })
}

/// Whether this machine swaps.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| names_a_swap_area(&text))
}

/// proc_swaps(5): a line of headings, and one for each swap area.
fn names_a_swap_area(text: &str) -> bool {
    text.lines().skip(1).any(|line| !line.trim().is_empty())
}

/// Nothing of it outlives it: a child of its own session would go on writing to the copy while it is read.
fn kubeadm(programs: &Exec, args: Vec<OsString>, limit: Duration) -> Result<Output, ExecError> {
    let ran = programs.run(&Invocation { program: Program::Kubeadm, args, limit });
    descendants::end_all();
    ran
}

/// In here too: not even a kubeadm that is somebody's script gets to see a live file.
fn version(programs: &Exec) -> Result<Answer, StagingError> {
    let args = ["version", "-o", "short"].map(Into::into).to_vec();
    let output = kubeadm(programs, args, VERSION_LIMIT)?;
    if !output.success() {
        return Err(StagingError::Version { ending: output.ending(), words: words(&output) });
    }
    let line = plain::line(output.stdout.trim(), plain::SENTENCE);
    Ok(Answer { version: Some(line), ..Answer::default() })
}

fn renew_all(programs: &Exec, order: &Order, copies: &Copies) -> Result<Answer, StagingError> {
    let before = Snapshot::take(copies.areas())?;
    let mut answer = Answer::default();
    let mut last = before.clone();
    for name in &order.names {
        let (mut done, now) = (renew(programs, order, name)?, Snapshot::take(copies.areas())?);
        let (own, foreign) = sort(last.changes(&now), name);
        done.changed = own;
        let complete = done.code == Some(0) && done.changed.len() == name.files.len() && foreign.is_empty();
        answer.names.push(done);
        answer.unexpected.extend(foreign);
        if !complete {
            return Ok(answer);
        }
        last = now;
    }
    for file in order.names.iter().flat_map(|n| &n.files) {
        copy_out(file, &order.workdir.join("out"), &before)?;
    }
    Ok(answer)
}

fn renew(programs: &Exec, order: &Order, name: &Name) -> Result<Done, StagingError> {
    let mut args: Vec<OsString> = order.verb.iter().map(OsString::from).collect();
    args.extend([OsString::from(&name.name), "--config".into(), order.config.clone().into()]);
    let limit = Duration::from_secs(order.limit_secs);
    let start = Instant::now();
    let run = kubeadm(programs, args, limit);
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (code, timed_out, ending, last_words) = match run {
        Ok(output) => (output.code, false, output.ending(), words(&output)),
        Err(ExecError::TimedOut { limit, .. }) => {
            (None, true, format!("did not end within {}s and was killed", limit.as_secs()), String::new())
        }
        Err(other) => return Err(other.into()),
    };
    Ok(Done { name: name.name.clone(), code, timed_out, ending, last_words, changed: Vec::new(), took_ms })
}

/// kubeadm's reason: after a failure the `error:` line on stderr (a hint at `--v=5` follows it), else the last line
/// of stdout, because stderr holds warnings in good runs too.
pub(crate) fn words(output: &Output) -> String {
    let lines = |text: &'_ str| -> Vec<String> {
        text.lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with("To see the stack trace"))
            .map(str::to_owned)
            .collect()
    };
    let (out, err) = (lines(&output.stdout), lines(&output.stderr));
    let error = err.iter().rfind(|l| l.starts_with("error")).cloned();
    let text = if output.success() {
        out.last().or(err.last()).cloned()
    } else {
        error.or_else(|| err.last().cloned()).or_else(|| out.last().cloned())
    };
    let text = text.unwrap_or_else(|| "it said nothing".to_owned());
    plain::line(&text, plain::SENTENCE)
}

/// The asked-for files that changed, and everything else that did.
fn sort(changes: Vec<(PathBuf, Change)>, name: &Name) -> (Vec<PathBuf>, Vec<Unexpected>) {
    // a path of the order may lead over links; changes are named by where the file really is
    let real = |file: &PathBuf| fs::canonicalize(file).unwrap_or_else(|_| file.clone());
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for (path, change) in changes {
        match name.files.iter().find(|f| **f == path || real(f) == path) {
            Some(file) if matches!(change, Change::Written | Change::Created) => own.push(file.clone()),
            Some(_) if change == Change::Attributes => {} // the commit keeps those of the live file
            _ => foreign.push(Unexpected { name: name.name.clone(), path, change }),
        }
    }
    (own, foreign)
}

/// Copies a changed file to `out`, for root only.
fn copy_out(file: &Path, out: &Path, before: &Snapshot) -> Result<(), StagingError> {
    let real = fs::canonicalize(file).map_err(StagingError::io("find", file))?;
    let bytes = Zeroizing::new(read_bounded(&real, MAX_FILE).map_err(StagingError::io("read", file))?);
    if let Some(of) = before.who_had(&bytes) {
        return Err(StagingError::Borrowed { path: file.into(), of: of.into() });
    }
    let target = out.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(parent) = target.parent() {
        make_dir(parent)?;
    }
    let mut new = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)
        .map_err(StagingError::io("create", &target))?;
    new.write_all(&bytes).map_err(StagingError::io("write", &target))
}

fn make_dir(dir: &Path) -> Result<(), StagingError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StagingError::io("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(StagingError::io("restrict", dir))
}

/// A regular file, not a link to one; an error if it is longer than `limit`.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = |flags: OFlag| fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    // a dry run leaves no timestamp changed; O_NOATIME is for the file's owner only (open(2))
    let file = open(flags | OFlag::O_NOATIME).or_else(|_| open(flags))?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // at full size from the start: a buffer that grows leaves copies of a key behind
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(limit)).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        Err(io::Error::other(format!("it is larger than {limit} bytes")))
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::names_a_swap_area;

    #[test]
    fn a_machine_swaps_if_the_kernel_lists_an_area() {
        let headings = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!names_a_swap_area("") && !names_a_swap_area(headings));
        assert!(names_a_swap_area(&format!("{headings}/dev/dm-1 partition 999420 0 -2\n")));
    }
}
