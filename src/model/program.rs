//! Whether a program that runs is the one in its file, where its process may not be looked into.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A file without its content.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// The program of one start of a unit, as it was found while it was still the one that was started.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Started {
    /// systemd's id of the start.
    pub invocation: String,
    pub pid: u32,
    pub path: PathBuf,
    pub file: FileId,
    pub sha256: String,
}

impl Started {
    pub fn is_of(&self, invocation: &str, pid: u32) -> bool {
        self.invocation == invocation && self.pid == pid
    }

    /// Whether another program lies in its place now. Ownership, mode, labels and the number of names change without a change
    /// of the content, and a file that is another may have the same content: then `digest` decides. None: it cannot be read.
    pub fn replaced(&self, now: FileId, digest: impl FnOnce() -> Option<String>) -> bool {
        now != self.file && digest().is_none_or(|sha256| sha256 != self.sha256)
    }
}

/// Seconds of the epoch at which a file came to be and at which anything of it changed.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Not every file system says it.
    pub born: Option<i64>,
    pub changed: i64,
}

impl Times {
    /// Whether the file came after a start of which nothing is remembered. Package managers put a new file in the place of
    /// the old one, with the modification time that it had when the package was made. What only changed may be the same
    /// (chmod, restorecon, another link by ostree); where the birth is not known, the change has to do.
    pub fn after(self, started: i64) -> bool {
        self.born.unwrap_or(self.changed) > started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_is_not_read_and_another_one_is_judged_by_its_content() {
        let file = FileId { device: 1, inode: 2, size: 3, modified: (4, 5) };
        let started = Started { invocation: "a".into(), pid: 7, path: "/k".into(), file, sha256: "content".into() };
        assert!(!started.replaced(file, || panic!("it is the same file")));
        for other in [
            FileId { device: 9, ..file },
            FileId { inode: 9, ..file },
            FileId { size: 9, ..file },
            FileId { modified: (4, 9), ..file },
        ] {
            assert!(!started.replaced(other, || Some("content".into())), "{other:?}");
            assert!(started.replaced(other, || Some("other".into())), "{other:?}");
            assert!(started.replaced(other, || None), "{other:?}");
        }
        assert!(started.is_of("a", 7) && !started.is_of("b", 7) && !started.is_of("a", 8));
    }

    #[test]
    fn without_a_memory_a_file_that_was_born_later_is_another_and_one_that_only_changed_is_not() {
        for (born, changed, after) in [
            (Some(99), 200, false),
            (Some(100), 100, false),
            (Some(101), 101, true),
            (None, 101, true),
            (None, 100, false),
        ] {
            assert_eq!(Times { born, changed }.after(100), after, "{born:?} {changed}");
        }
    }
}
