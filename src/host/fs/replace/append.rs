//! A file that only grows, line by line, and that has room to grow when the disk is full.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, openat};
use nix::sys::stat::Mode;

use super::super::FsError;
use super::Place;

impl Place {
    /// Appends a line and makes it durable. Bytes behind the last newline (a torn write) are cut off first.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn append_line(&self, line: &[u8], whole: u64) -> Result<(), FsError> {
        let mut file = self.open_to_append()?;
        // only what is torn: a truncation, even to the same length, gives back what `reserve` took (ext4, xfs)
        if file.metadata().map_err(|e| self.error("examine", e))?.len() != whole {
            file.set_len(whole).map_err(|e| self.error("cut", e))?;
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(whole)).map_err(|e| self.error("append to", e))?;
        file.write_all(line).map_err(|e| self.error("append to", e))?;
        file.sync_all().map_err(|e| self.error("sync", e))?;
        self.sync_dir()
    }

    /// Takes space behind the end of the file, so that lines can be appended when the disk is full. A file system that
    /// cannot do that (fallocate(2), EOPNOTSUPP) does without.
    ///
    /// # Errors
    /// [`FsError`], e.g. `NoSpace`.
    pub fn reserve(&self, bytes: i64) -> Result<(), FsError> {
        match fallocate(self.open_to_append()?, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            Err(e) => Err(self.error("reserve space for", e)),
        }
    }

    fn open_to_append(&self) -> Result<File, FsError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.dir.as_fd(), self.name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map(File::from)
            .map_err(|e| self.error("open", e))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::host::fs::Root;

    #[test]
    fn a_torn_last_line_is_cut_before_the_next_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("log"), "one\ntor").unwrap();
        root.place(Path::new("/log")).unwrap().append_line(b"two\n", 4).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "one\ntwo\n");
    }
}
