//! Text that is written piece by piece.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod};

use super::Place;
use crate::host::fs::FsError;

impl Place {
    /// Replaces the file by what `fill` writes piece by piece, for everybody to read: for text that is larger than what it is
    /// made of. Atomic, and not durable: for a tmpfs.
    ///
    /// # Errors
    /// [`FsError`]; the target is then the old one.
    pub fn write_pieces(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FsError> {
        const TAG: &str = "tmp";
        self.remove_temp(TAG)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let write = || -> Result<(), FsError> {
            let fd = openat(self.dir.as_fd(), self.temp(TAG).as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|e| self.error("create a file beside", e))?;
            let mut out = io::BufWriter::with_capacity(64 << 10, File::from(fd));
            let written = fill(&mut out).and_then(|()| out.flush());
            written.map_err(|e| self.error("write a file beside", e))?;
            // the umask of the unit is for what it makes otherwise
            fchmod(out.get_ref(), Mode::from_bits_truncate(0o644)).map_err(|e| self.error("set the mode beside", e))?;
            self.rename_temp(TAG)
        };
        write().inspect_err(|_| {
            let _ = self.remove_temp(TAG); // the first error is the one to report
        })
    }
}
