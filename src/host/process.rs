//! The process table (proc(5)), and programs in their files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use super::crypto::hex;
use super::fs::{FsError, Root};
use crate::model::plain;

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

/// Who is behind this process, on this machine, whatever root it works on.
pub fn person() -> String {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let loginuid = text("/proc/self/loginuid").trim().parse().ok();
    let sudo = std::env::var("SUDO_USER").ok();
    named(loginuid, sudo.as_deref(), &text("/etc/passwd"), nix::unistd::getuid().as_raw())
}

/// The user who logged in, whatever `su` or `sudo` made of them since (proc_pid_loginuid(5)): the kernel lets nobody change
/// that. Where it is not known, whom sudo names, which is as good as root's word; else the user of the process.
fn named(loginuid: Option<u32>, sudo: Option<&str>, passwd: &str, uid: u32) -> String {
    /// Nobody has logged in: a service, or a kernel without auditing.
    const UNSET: u32 = u32::MAX;
    // passwd(5): name, password, user id
    let name = |uid: u32| {
        let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
        lines.find(|l| l.get(2).and_then(|id| id.parse().ok()) == Some(uid)).and_then(|l| l.first().copied())
    };
    let user = |uid: u32| name(uid).map_or_else(|| format!("user {uid}"), |name| format!("{name} (user {uid})"));
    let said = match (loginuid.filter(|uid| *uid != UNSET), sudo.filter(|name| !name.is_empty())) {
        (Some(login), _) => user(login),
        (None, Some(sudo)) => format!("{sudo}, by sudo as {}", user(uid)),
        (None, None) => format!("a process of {}", user(uid)),
    };
    plain::line(&said, plain::CLAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_logged_in_counts_and_then_who_sudo_names() {
        const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        for (loginuid, sudo, uid, want) in [
            (Some(1000), None, 0, "anna (user 1000)"),
            (Some(1000), Some("somebody"), 0, "anna (user 1000)"),
            (Some(1001), None, 0, "user 1001"),
            (Some(u32::MAX), Some("anna"), 0, "anna, by sudo as root (user 0)"),
            (None, Some(""), 0, "a process of root (user 0)"),
            (None, None, 7, "a process of user 7"),
            (None, Some("an\u{1b}[2Jna"), 0, "an\u{fffd}[2Jna, by sudo as root (user 0)"),
        ] {
            assert_eq!(named(loginuid, sudo, PASSWD, uid), want);
        }
    }
}
