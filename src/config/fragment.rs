//! Stage one: which files count, and their text. Files that others than root can write are refused:
//! this is a root daemon, and who writes its configuration commands it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::{Fault, Problem};
use super::{DIRECTORIES, MAIN_FILE};
use crate::host::fs::{FsError, Root};

/// Far beyond any configuration: every key with a page of comment is a tenth of it.
const MAX_FRAGMENT: u64 = 256 << 10;

/// One file that counts, read.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Every file that counts, in the order in which they are merged: fragments by file name, then the main file.
pub(super) fn read_all(root: &Root, problems: &mut Vec<Problem>) -> Vec<Fragment> {
    let mut by_name = BTreeMap::new();
    for directory in DIRECTORIES.map(Path::new) {
        if ![directory.parent(), Some(directory)].into_iter().flatten().all(|d| check_directory(root, d, problems)) {
            continue;
        }
        match root.list(directory) {
            Ok(names) => by_name.extend(names.into_iter().filter(|n| counts(n)).map(|n| {
                let path = directory.join(&n);
                (n, path)
            })),
            Err(FsError::NotFound { .. }) => {}
            Err(e) => problems.push(about(directory, Fault::Unreadable(e))),
        }
    }
    let main = Path::new(MAIN_FILE);
    let main = root.symlink_metadata(main).is_ok().then(|| main.to_path_buf());
    by_name.into_values().chain(main).filter_map(|path| read(root, path, problems)).collect()
}

/// Editors' and package managers' leftovers (`.swp`, `~`, `.dpkg-old`, `.rpmnew`) do not end in `.toml` or begin with a dot.
fn counts(name: &str) -> bool {
    name.strip_suffix(".toml").is_some_and(|stem| !stem.is_empty()) && !name.starts_with('.')
}

/// None if the file is masked (a link to /dev/null, as systemd has it) or faulty.
fn read(root: &Root, path: PathBuf, problems: &mut Vec<Problem>) -> Option<Fragment> {
    if let Ok(target) = root.read_link(&path) {
        if target == Path::new("/dev/null") {
            return None;
        }
        // a link is as trustworthy as the directory in which its target can be replaced
        if let Some(directory) = path.parent().map(|p| p.join(&target)).as_deref().and_then(Path::parent) {
            check_directory(root, directory, problems);
        }
    }
    match read_checked(root, &path) {
        Ok(text) => Some(Fragment { path, text }),
        Err(faults) => {
            problems.extend(faults.into_iter().map(|fault| about(&path, fault)));
            None
        }
    }
}

fn read_checked(root: &Root, path: &Path) -> Result<String, Vec<Fault>> {
    let unreadable = |e| vec![Fault::Unreadable(e)];
    // the open file is examined, not its name: nothing can be exchanged in between. O_NONBLOCK: a FIFO would wait for a writer
    let fd = root.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
    // the detour by metadata tells a dangling link from a missing file
    let file = File::from(fd.map_err(|e| unreadable(root.metadata(path).err().unwrap_or(e)))?);
    let meta = file.metadata().map_err(|e| unreadable(FsError::new("examine", path, e)))?;
    if !meta.is_file() {
        let what = root.read(path, 0).err();
        return Err(unreadable(what.unwrap_or(FsError::NotAFile { path: path.into(), what: "something else" })));
    }
    let faults = faults_of(root, &meta);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FRAGMENT + 1).read_to_end(&mut bytes).map_err(|e| unreadable(FsError::new("read", path, e)))?;
    if bytes.len() as u64 > MAX_FRAGMENT {
        return Err(unreadable(FsError::TooLarge { path: path.into(), limit: MAX_FRAGMENT }));
    }
    String::from_utf8(bytes).map_err(|_| vec![Fault::NotText])
}

/// False if there is none.
fn check_directory(root: &Root, path: &Path, problems: &mut Vec<Problem>) -> bool {
    let meta = match root.metadata(path) {
        Ok(meta) => meta,
        Err(e) => return !matches!(e, FsError::NotFound { .. }),
    };
    let kind = (!meta.is_dir()).then_some(Fault::NotADirectory);
    for fault in kind.into_iter().chain(faults_of(root, &meta)) {
        let problem = about(path, fault);
        // a directory may be met by several ways; its fault is worth one line
        if !problems.iter().any(|p| p.to_string() == problem.to_string()) {
            problems.push(problem);
        }
    }
    true
}

/// Who but root can change the file or directory. An ACL that lets others write shows in the group bits (acl(5)).
fn faults_of(root: &Root, meta: &std::fs::Metadata) -> Vec<Fault> {
    let mode = meta.mode() & 0o7777;
    let who = match (mode & 0o020 != 0, mode & 0o002 != 0) {
        (_, true) => Some("everybody"),
        (true, false) => Some("its group"),
        (false, false) => None,
    };
    // a tree under --root that is not the running system commands nobody but who made it
    let ours = meta.uid() == 0 || (!root.is_live() && meta.uid() == nix::unistd::geteuid().as_raw());
    let writable = who.map(|who| Fault::Writable { who, mode });
    let owner = (!ours).then(|| Fault::Owner { uid: meta.uid() });
    writable.into_iter().chain(owner).collect()
}

fn about(path: &Path, fault: Fault) -> Problem {
    Problem { path: path.into(), position: None, key: None, fault }
}
