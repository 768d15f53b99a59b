//! Removing certwarden's own files, and overwriting those that held keys.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::host::fs::{FsError, Root};

/// Keys, certificates and kubeconfigs are small; nothing else is overwritten to its end.
const MAX_SHREDDED: u64 = 16 << 20;

impl Root {
    /// Removes a directory of certwarden's own with everything in it. Links are removed, not followed.
    ///
    /// # Errors
    /// [`FsError`]; that it does not exist is none.
    pub fn remove_tree(&self, path: &Path) -> Result<(), FsError> {
        let names = match self.list(path) {
            Err(FsError::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        for name in names {
            let child = path.join(&name);
            if self.symlink_metadata(&child)?.is_dir() {
                self.remove_tree(&child)?;
            } else {
                self.unlink(&child, UnlinkatFlags::NoRemoveDir)?;
            }
        }
        self.unlink(path, UnlinkatFlags::RemoveDir)
    }

    /// Removes a directory of certwarden's own with what is in it, whose bytes are overwritten first: keys. What the bytes
    /// are overwritten with lands where they were on file systems that write in place (ext4, xfs), and elsewhere on others.
    /// Best effort: what cannot be overwritten is unlinked all the same.
    ///
    /// # Errors
    /// [`FsError`]; that it does not exist is none.
    pub fn shred_tree(&self, path: &Path) -> Result<(), FsError> {
        for name in self.list(path).unwrap_or_default() {
            let child = path.join(&name);
            match self.symlink_metadata(&child) {
                Ok(meta) if meta.is_dir() => self.shred_tree(&child)?,
                // of another name of the file nobody has said that it may go
                Ok(meta) if meta.is_file() && meta.nlink() == 1 => drop(self.overwrite(&child, meta.len())),
                Ok(_) | Err(_) => {}
            }
        }
        self.remove_tree(path)
    }

    fn overwrite(&self, path: &Path, length: u64) -> io::Result<()> {
        const PIECE: [u8; 4096] = [0; 4096];
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let dir = self.directory(parent).map_err(io::Error::other)?;
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(dir.as_fd(), name, flags, Mode::empty())?);
        let mut left = length.min(MAX_SHREDDED);
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(PIECE.len()).min(PIECE.len());
            file.write_all(PIECE.get(..size).unwrap_or(&PIECE))?;
            left -= size as u64;
        }
        file.sync_all()
    }

    /// Removes a file of certwarden's own.
    ///
    /// # Errors
    /// [`FsError`]; that it does not exist is none.
    pub fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        self.unlink(path, UnlinkatFlags::NoRemoveDir)
    }

    fn unlink(&self, path: &Path, how: UnlinkatFlags) -> Result<(), FsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FsError::new("remove", path, Errno::EINVAL));
        };
        let dir = self.directory(parent)?;
        match unlinkat(dir.as_fd(), name, how) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(FsError::new("remove", path, e)),
        }
    }
}
