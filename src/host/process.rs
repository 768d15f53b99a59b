//! The process table (proc(5)), and programs in their files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use super::crypto::hex;
use super::fs::{FsError, Root};

/// The program that this process runs, wherever it lies by now.
pub fn own_program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    // the kernel says so of a file that an upgrade has replaced; the new one has its name (proc_pid_exe(5))
    Some(path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map_or_else(|| path.clone(), PathBuf::from))
}

/// How many seconds after the machine's boot a process began: field 22 of its stat, in ticks (proc_pid_stat(5)).
pub fn began(root: &Root, pid: u32) -> Option<i64> {
    /// `USER_HZ`, the same on every architecture that Kubernetes runs on (time(7)).
    const TICKS: i64 = 100;
    let stat = root.read_text(&PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    // the name of the program, in parentheses, may hold anything
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS)
}

/// SHA-256 of a program, in hexadecimal. Programs are large: piece by piece.
///
/// # Errors
/// [`FsError`].
pub fn sha256(root: &Root, path: &Path) -> Result<String, FsError> {
    let mut file = root.open_to_read(path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let length = file.read(&mut piece).map_err(|e| FsError::new("read", path, e))?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { return Ok(hex(&hash.finish())) };
        hash.update(read);
    }
}

/// Who is behind this process: the user who logged in, whatever `su` or `sudo` made of them since (proc_pid_loginuid(5)).
pub fn person(root: &Root) -> String {
    /// Nobody has logged in: a service, or a kernel without auditing.
    const UNSET: u32 = u32::MAX;
    let uid = root.read_text(Path::new("/proc/self/loginuid")).ok().and_then(|t| t.trim().parse::<u32>().ok());
    let Some(uid) = uid.filter(|uid| *uid != UNSET) else {
        return format!("a process of user {}", nix::unistd::geteuid());
    };
    let passwd = root.read_text(Path::new("/etc/passwd")).unwrap_or_default();
    // passwd(5): name, password, user id
    let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let name = lines.find(|l| l.get(2).and_then(|id| id.parse().ok()) == Some(uid)).and_then(|l| l.first().copied());
    name.map_or_else(|| format!("user {uid}"), |name| format!("{name} (user {uid})"))
}
