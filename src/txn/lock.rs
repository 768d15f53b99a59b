//! One transaction at a time on a node: an advisory lock that dies with its holder.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::host::fs::replace::open_lock;
use crate::host::fs::{FsError, Root};

use super::store;

const LOCK: &str = "/var/lib/certwarden/lock";

/// The lock, held until dropped. The kernel releases it when the process dies, however it dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Exit code 75: try again later.
    #[error("another certwarden is at work ({holder}); wait for it to end")]
    Busy { holder: String },
    #[error("take the lock")]
    Fs(#[from] FsError),
    #[error("take the lock {LOCK}")]
    Take(#[source] Errno),
}

impl Lock {
    /// Takes the lock or says who holds it. Does not wait.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(root: &Root, purpose: &str) -> Result<Self, LockError> {
        store::prepare(root)?;
        let file = open_lock(root, Path::new(LOCK))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                // for people only; the lock is the kernel's, so that a failure to write changes nothing
                let _ = held.set_len(0).and_then(|()| write!(held, "{purpose}, pid {}", std::process::id()));
                Ok(Self(held))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => Err(LockError::Busy { holder: holder(&mut file) }),
            Err((_, e)) => Err(LockError::Take(e)),
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(200).read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() { text } else { "unknown holder".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_certwarden_is_told_who_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let first = Lock::take(&root, "renew").unwrap();
        let second = Lock::take(&root, "renew").unwrap_err().to_string();
        assert!(second.contains(&format!("renew, pid {}", std::process::id())), "{second}");
        drop(first);
        Lock::take(&root, "recover").unwrap();
    }
}
