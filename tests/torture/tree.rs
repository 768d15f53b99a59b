//! Node trees to be tortured, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use certwarden::host::crypto::{public_key_der, sha256_hex};
use certwarden::model::cert::parse_pem;
use certwarden::model::kubeconfig::{Identity, parse};
use certwarden::model::ledger::Record;

use crate::disk::ok;
use crate::support::{DAY, Options, Tree};

/// Where certwarden keeps what it knows.
pub const STATE: &str = "var/lib/certwarden";
/// Everything that a transaction may touch, and its neighbours.
const WATCHED: [&str; 2] = ["etc", "var/lib/kubelet"];

/// One file as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    pub content: Vec<u8>,
    pub attributes: (u32, u32, u32, BTreeMap<String, Vec<u8>>),
    pub mtime: (i64, i64),
}

/// All files by their path in the tree.
pub type Snapshot = BTreeMap<PathBuf, Seen>;

/// Where everything of a node stands after an interruption and its recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Set {
    Old,
    New,
}

/// A control plane with unusual owners, modes, times and extended attributes, and two transactions in its past of which
/// one is kept. `left`: seconds that the leaves have left.
pub fn build(root: &Path, left: i64) {
    // what the configuration leaves out is healthy, or a clean run would report it and exit 1
    let kubelets = Options { left, ..Options::default() }.left_of("kubelet-client", 300 * DAY);
    let tree = Tree::build(root, kubelets.left_of("kubelet-serving", 300 * DAY));
    // all or nothing is said of one transaction, and the kubelet's self-signed pair has its own
    let config = "[renew]\nexclude = [\"kubelet-serving\"]\n[state]\ngenerations = 1\n[gates]\nfree-mib = 0\n";
    tree.write("/etc/certwarden/certwarden.toml", config, 0o644);
    if left > 0 {
        for _ in 0..2 {
            ok(&mut crate::strace::certwarden(root, &["renew", "--all"]));
        }
    }
    dress(root);
}

const KUBELETS: &str = "var/lib/kubelet/pki";
const DATED: &str = "kubelet-client-2026-01-02-03-04-05.pem";

/// The kubelet's link leads to nothing.
pub fn lose_the_identity(root: &Path) {
    fs::remove_file(root.join(KUBELETS).join(DATED)).unwrap();
}

/// A directory with something in it lies where the kubelet would make its next link.
pub fn obstruct(root: &Path) {
    let dir = root.join(KUBELETS).join("kubelet-client-updated.pem");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("in"), "somebody's").unwrap();
}

/// A path that holds the time of a run, as if it did not.
fn timeless(path: &str) -> String {
    let begin = format!("{KUBELETS}/kubelet-client-2");
    match (path.find(&begin), path.find(".aside-")) {
        (Some(at), _) if !path.contains(DATED) => format!("{}/kubelet-client-new.pem", &path[..at + KUBELETS.len()]),
        (_, Some(at)) => format!("{}.aside/{}", &path[..at], path[at..].split_once('/').map_or("", |(_, rest)| rest)),
        _ => path.to_owned(),
    }
}

fn dress(root: &Path) {
    let leaves = ["pki/apiserver", "pki/etcd/peer", "pki/front-proxy-client"];
    for (i, leaf) in (0u32..).zip(leaves) {
        for suffix in ["crt", "key"] {
            let file = root.join("etc/kubernetes").join(format!("{leaf}.{suffix}"));
            fs::set_permissions(&file, fs::Permissions::from_mode(0o400 + i * 0o40)).unwrap();
            let _ = xattr::set(&file, "user.origin", format!("kubespray {i}").as_bytes());
            if nix::unistd::geteuid().is_root() {
                chown(&file, Some(0), Some(2379 + i)).unwrap();
                let _ = xattr::set(&file, "trusted.label", b"t");
            }
        }
    }
    for (i, path) in (0u64..).zip(snapshot(root).keys()) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_767_323_045 + i, 123_456_789);
        // the kubelet's link is absolute and leads out of the tree
        if !root.join(path).is_symlink() {
            fs::File::open(root.join(path)).unwrap().set_modified(time).unwrap();
        }
    }
}

/// A copy with everything that a file has.
pub fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    ok(Command::new("cp").arg("-a").arg(from).arg(to));
}

pub fn snapshot(root: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut open: Vec<PathBuf> = WATCHED.iter().map(PathBuf::from).collect();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            let meta = fs::symlink_metadata(root.join(&path)).unwrap();
            if meta.is_dir() {
                open.push(path);
                continue;
            }
            let content = if meta.is_symlink() {
                timeless(fs::read_link(root.join(&path)).unwrap().to_str().unwrap()).into_bytes()
            } else {
                fs::read(root.join(&path)).unwrap()
            };
            let names = xattr::list(root.join(&path)).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
            let value =
                |name: &std::ffi::OsString| xattr::get(root.join(&path), name).ok().flatten().unwrap_or_default();
            let xattrs = names.iter().map(|n| (n.to_string_lossy().into_owned(), value(n))).collect();
            let attributes = (meta.uid(), meta.gid(), meta.mode(), xattrs);
            all.insert(
                timeless(path.to_str().unwrap()).into(),
                Seen { content, attributes, mtime: (meta.mtime(), meta.mtime_nsec()) },
            );
        }
    }
    all
}

/// The files of which the second snapshot holds another content.
pub fn changed(before: &Snapshot, after: &Snapshot) -> BTreeSet<PathBuf> {
    let differs = |path: &&PathBuf| before.get(*path).map(|s| &s.content) != after.get(*path).map(|s| &s.content);
    before.keys().chain(after.keys()).filter(differs).cloned().collect()
}

/// All old or all new, with everything that was promised, and nothing beside; else what is wrong.
pub fn judge(before: &Snapshot, targets: &BTreeSet<PathBuf>, after: &Snapshot) -> Result<Set, String> {
    pairs_fit(after)?;
    let names = |s: &Snapshot| s.keys().cloned().collect::<BTreeSet<_>>();
    let moved = names(before).symmetric_difference(&names(after)).cloned().collect::<BTreeSet<_>>();
    if let Some(path) = moved.difference(targets).next() {
        return Err(format!("{} appeared or vanished", path.display()));
    }
    let new = changed(before, after);
    if !new.is_empty() {
        links_lead_somewhere(after)?;
    }
    let loose = after.iter().find(|(p, s)| !before.contains_key(*p) && s.attributes.2 & 0o170_077 > 0o100_000);
    if let Some((path, _)) = loose.filter(|(p, _)| p.ends_with("kubelet-client-new.pem")) {
        return Err(format!("others can read {}", path.display()));
    }
    if let Some(path) = new.difference(targets).next() {
        return Err(format!("{} is none of the transaction's and was changed", path.display()));
    }
    if !new.is_empty() && new != *targets {
        return Err(format!("{} of {} are new", new.len(), targets.len()));
    }
    for (path, old) in before.iter().filter(|(path, _)| !moved.contains(*path)) {
        let now = &after[path];
        let link = |seen: &Seen| seen.attributes.2 & 0o170_000 == 0o120_000;
        if new.contains(path) && link(now) {
            continue; // made anew
        }
        if now.attributes != old.attributes {
            return Err(format!("{}: {:?} instead of {:?}", path.display(), now.attributes, old.attributes));
        }
        // a dated file that is adopted is written again with what it held, and links are made anew, on the way back too
        let adopted = path.ends_with(DATED) || link(now);
        if !new.contains(path) && now.mtime != old.mtime && !adopted {
            return Err(format!("{}: the old file has another time", path.display()));
        }
    }
    Ok(if new.is_empty() { Set::Old } else { Set::New })
}

/// The kubelet's links lead to what is there.
fn links_lead_somewhere(all: &Snapshot) -> Result<(), String> {
    let links = all.iter().filter(|(p, s)| p.starts_with(KUBELETS) && s.attributes.2 & 0o170_000 == 0o120_000);
    for (path, seen) in links {
        let to = String::from_utf8_lossy(&seen.content).trim_start_matches('/').to_owned();
        if !all.contains_key(Path::new(&to)) {
            return Err(format!("{} leads to {to}, which is not there", path.display()));
        }
    }
    Ok(())
}

/// Every key belongs to the certificate beside it.
fn pairs_fit(all: &Snapshot) -> Result<(), String> {
    let fits = |path: &Path, cert: &[u8], key: &[u8]| {
        let leaf = parse_pem(cert).ok().and_then(|c| Some(c.first()?.spki.clone()));
        let own = public_key_der(key).ok();
        let fits = leaf.is_some() && leaf == own;
        if fits { Ok(()) } else { Err(format!("{}: key and certificate do not match", path.display())) }
    };
    for (path, seen) in all {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                if let Some(key) = all.get(&path.with_extension("key")) {
                    fits(path, &seen.content, &key.content)?;
                }
            }
            Some("pem") if seen.attributes.2 & 0o170_000 == 0o100_000 => fits(path, &seen.content, &seen.content)?,
            Some("conf") if path.starts_with("etc/kubernetes") => {
                let text = String::from_utf8_lossy(&seen.content);
                let config = parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
                if let Identity::Embedded { cert, key } = &config.identity {
                    fits(path, cert, key)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every transaction is closed, and nothing half-made lies in one.
pub fn state_is_clean(root: &Path) -> Result<(), String> {
    for dir in fs::read_dir(root.join(STATE).join("transactions")).into_iter().flatten() {
        let dir = dir.unwrap().path();
        no_dot_file(&dir)?;
        let ledger = fs::read_to_string(dir.join("ledger.jsonl")).unwrap_or_default();
        let last = ledger.lines().last().unwrap_or_default();
        if !["verified", "rolled-back", "discarded"].iter().any(|s| last.contains(&format!("\"state\":\"{s}\""))) {
            return Err(format!("{} is open: {last:.200}", dir.display()));
        }
        if last.contains("\"state\":\"verified\"") {
            backup_is_whole(&dir, &ledger)?;
        }
        if dir.join("new").exists() || dir.join("work").exists() {
            return Err(format!("{}: staged keys are left over", dir.display()));
        }
    }
    Ok(())
}

/// Everything that certwarden remembers: the names, where digits count alike, and where each ledger ends.
pub fn shape_of_state(root: &Path) -> BTreeSet<(String, String)> {
    let mut shape = BTreeSet::new();
    let mut open = vec![root.join(STATE)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let ledger =
                if path.ends_with("ledger.jsonl") { fs::read_to_string(&path).unwrap() } else { String::new() };
            let state = |l: &str| Some(l.split_once("\"state\":\"")?.1.split('"').next()?.to_owned());
            let states = ledger.lines().filter_map(state).collect::<Vec<_>>().join(" ");
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace(|c: char| c.is_ascii_digit(), "0");
            shape.insert((name, states));
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    shape
}

/// What can be rolled back to is what was recorded.
fn backup_is_whole(dir: &Path, ledger: &str) -> Result<(), String> {
    let open: Record = serde_json::from_str(ledger.lines().next().unwrap_or_default()).map_err(|e| e.to_string())?;
    // what was a link, nothing, or could not be read has no copy
    for file in open.files.iter().filter(|f| f.sha256.bytes().all(|b| b.is_ascii_hexdigit())) {
        let copy = dir.join("old").join(file.path.strip_prefix("/").unwrap());
        let whole = fs::read(&copy).is_ok_and(|bytes| sha256_hex(&bytes) == file.sha256);
        if !whole {
            return Err(format!("the backup {} is damaged", copy.display()));
        }
    }
    Ok(())
}

/// What certwarden takes for somebody else's writing under way, it takes for a leftover after an hour.
pub fn an_hour_later(root: &Path) {
    let then = SystemTime::now() - Duration::from_secs(3700);
    for entry in fs::read_dir(root.join(STATE)).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
    }
}

pub fn nothing_half_made(root: &Path) -> Result<(), String> {
    no_dot_file(&root.join(STATE))
}

fn no_dot_file(dir: &Path) -> Result<(), String> {
    let mut names =
        fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    match names.find(|n| n.starts_with('.')) {
        Some(name) => Err(format!("{name} is left over in {}", dir.display())),
        None => Ok(()),
    }
}
