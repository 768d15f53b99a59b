//! Durable replacement: a file is either the old one or the new one, whole, whenever the power fails.
//!
//! The rule (measured on ext4, xfs, btrfs, overlayfs): write a temporary file beside the target, set owner, then
//! mode, then extended attributes, fsync it, rename it over the target, fsync the directory. Never unlink first:
//! kubeadm's `FileOrCreate` mounts would put an empty file there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, fsync, geteuid, unlinkat};
use zeroize::Zeroizing;

use super::walk::{End, Found, walk};
use super::{FsError, MAX_FILE, Root, read_bounded, regular};
use crate::model::ledger::Attributes;
pub use link::Here;

mod append;
mod attributes;
mod link;
mod pieces;
mod remove;

/// A file's directory, opened, and its name there: all further work is relative to that directory, so that
/// nobody can move it away underneath.
#[derive(Debug)]
pub struct Place {
    dir: OwnedFd,
    name: OsString,
    /// Where it is below the root after links were followed; for messages.
    path: PathBuf,
}

/// A file as it was when it was opened. `Debug` shows no content.
pub struct Seen {
    pub bytes: Zeroizing<Vec<u8>>,
    pub attributes: Attributes,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

impl Root {
    /// The place that `path` leads to, links followed within the root. The file need not exist.
    ///
    /// # Errors
    /// [`FsError`], e.g. when the directory does not exist or links form a loop; `Untrusted` where somebody else than
    /// root could lead the way elsewhere.
    pub fn place(&self, path: &Path) -> Result<Place, FsError> {
        let Found { dir, name, path } = walk(self, path, End::File)?;
        let name = name.ok_or_else(|| FsError::new("replace", &path, Errno::EISDIR))?;
        Ok(Place { dir, name, path })
    }

    /// Opens a directory to write in it.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd, FsError> {
        walk(self, path, End::Directory).map(|found| found.dir)
    }

    /// The place of a file that may be somebody else's: no symbolic link is followed on the way to it, and
    /// [`Place::look`] follows none at its end.
    ///
    /// # Errors
    /// [`FsError`], `LinkOnTheWay` among them, and `NotLocal` where it could be waited for without end.
    pub fn place_without_links(&self, path: &Path) -> Result<Place, FsError> {
        self.only_local(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FsError::new("replace", path, Errno::EISDIR));
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut dir = self.open_at(Path::new("/"), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut at = PathBuf::from("/");
        for step in parent.components().filter(|c| *c != Component::RootDir) {
            let Component::Normal(step) = step else { return Err(FsError::new("replace", path, Errno::EINVAL)) };
            at.push(step);
            dir = openat(dir.as_fd(), step, flags, Mode::empty()).map_err(|e| match readlinkat(dir.as_fd(), step) {
                Ok(_) => FsError::LinkOnTheWay { path: at.clone() },
                Err(_) => FsError::new("open", &at, e),
            })?;
        }
        Ok(Place { dir, name: name.to_owned(), path: path.to_path_buf() })
    }

    /// Makes the directory and those above it; one that exists is left as it is. Durable.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> Result<(), FsError> {
        if self.metadata(path).is_ok_and(|m| m.is_dir()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent, 0o755)?;
        }
        let place = self.place(path)?;
        match mkdirat(place.dir.as_fd(), place.name.as_os_str(), Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => place.sync_dir(),
            Err(e) => Err(FsError::new("create the directory", path, e)),
        }
    }

    /// Writes a file of certwarden's own, atomically and durably, owned by us.
    ///
    /// # Errors
    /// [`FsError`]; the old file, if any, is then still there.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
        self.place(path)?.write(bytes, mode)
    }

    /// As [`write`](Self::write), in a directory that may be somebody else's: no symbolic link is followed on the way. Whoever
    /// owns it decides where the file lies, so what is written must be for everybody.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`place_without_links`](Self::place_without_links).
    pub fn write_for_others(&self, path: &Path, bytes: &[u8]) -> Result<(), FsError> {
        self.place_without_links(path)?.write(bytes, 0o644)
    }
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's device and inode, and the name in it: the same by whatever path it was reached.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn id(&self) -> Result<(u64, u64, OsString), FsError> {
        let (device, inode) = self.dir_id()?;
        Ok((device, inode, self.name.clone()))
    }

    /// The directory's device and inode, to sync each directory once.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn dir_id(&self) -> Result<(u64, u64), FsError> {
        let s = fstat(&self.dir).map_err(|e| FsError::new("examine the directory of", &self.path, e))?;
        Ok((s.st_dev, s.st_ino))
    }

    /// Bytes that an unprivileged user could still write to the directory's file system.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn free_bytes(&self) -> Result<u64, FsError> {
        let s = nix::sys::statvfs::fstatvfs(&self.dir)
            .map_err(|e| FsError::new("examine the file system of", &self.path, e))?;
        Ok(s.blocks_available().saturating_mul(s.fragment_size()))
    }

    /// Whether a rename could put another file here. Found out at the commit, it would be a rollback.
    ///
    /// # Errors
    /// [`FsError`]: `ReadOnly` (a sandbox or a mount forbids it even to root), `Immutable` (chattr(1)), `MountPoint`, or
    /// `Permission` (we are not root).
    pub fn replaceable(&self) -> Result<(), FsError> {
        let may_write = |name: &OsStr, flags: AtFlags| {
            faccessat(&self.dir, name, AccessFlags::W_OK, AtFlags::AT_EACCESS | flags).map_err(|e| match e {
                // chattr(1) +i: not even root (kernel: fs/namei.c:inode_permission)
                Errno::EPERM => FsError::Immutable { path: self.path.with_file_name(name) },
                e => self.error("replace", e),
            })
        };
        may_write(OsStr::new("."), AtFlags::empty())?;
        self.append_only(&self.dir)?;
        let how = match self.here()? {
            Here::Link(_) => return Ok(()),
            // what is no file is not opened, only found: a socket cannot be, and a device may act upon it
            Here::Other => OFlag::O_PATH,
            Here::File | Here::Nothing => OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        };
        let file = match self.open(how | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY) {
            Err(FsError::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        may_write(&self.name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        self.append_only(&file)?;
        // a file that is itself mounted (a bind mount of one file) cannot be renamed over: EBUSY, rename(2)
        match (mount_id(&self.dir), mount_id(&file)) {
            (Some(dir), Some(file)) if dir != file => Err(FsError::MountPoint { path: self.path.clone() }),
            _ => Ok(()),
        }
    }

    /// chattr(1) +a forbids removal, and shows by the flag that cannot be changed (kernel: `fs/fcntl.c:setfl`).
    fn append_only(&self, file: &impl AsFd) -> Result<(), FsError> {
        match fcntl(file, FcntlArg::F_SETFL(OFlag::O_APPEND)) {
            Err(Errno::EPERM) => Err(FsError::Immutable { path: self.path.clone() }),
            _ => Ok(()),
        }
    }

    /// The file's content: of the very file that [`rename_temp`](Self::rename_temp) would replace, whatever its path
    /// leads to by then. Zeroed when dropped.
    ///
    /// # Errors
    /// [`FsError`]; what is not a regular file, or larger than [`MAX_FILE`], is one.
    pub fn read_secret(&self) -> Result<Zeroizing<Vec<u8>>, FsError> {
        // O_NONBLOCK: opening a FIFO for reading would wait for a writer
        let file = self.open(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        let (file, meta) = regular(file, &self.path)?;
        read_bounded(file, &meta, &self.path, MAX_FILE).map(Zeroizing::new)
    }

    /// Content and attributes of one and the same file, opened once: in a directory of somebody else's the name can mean
    /// another file a moment later.
    ///
    /// # Errors
    /// [`FsError`]; a link is `LinkOnTheWay`, a file with further names `SeveralNames`.
    pub fn look(&self) -> Result<Seen, FsError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self.open(flags).map_err(|e| match readlinkat(self.dir.as_fd(), self.name.as_os_str()) {
            Ok(_) => FsError::LinkOnTheWay { path: self.path.clone() },
            Err(_) => e,
        })?;
        let (file, meta) = regular(file, &self.path)?;
        if meta.nlink() > 1 {
            return Err(FsError::SeveralNames { path: self.path.clone(), count: meta.nlink() });
        }
        let attributes = self.attributes_of(&file, &meta)?;
        let bytes = read_bounded(file, &meta, &self.path, MAX_FILE).map(Zeroizing::new)?;
        Ok(Seen { bytes, attributes })
    }

    fn write(&self, bytes: &[u8], mode: u32) -> Result<(), FsError> {
        let own =
            Attributes { uid: geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), mode, ..Attributes::default() };
        self.write_temp("tmp", bytes, &own).and_then(|()| self.rename_temp("tmp")).inspect_err(|_| {
            let _ = self.remove_temp("tmp"); // the first error is the one to report
        })?;
        self.sync_dir()
    }

    /// Writes a complete, durable file beside the target. A leftover of the same tag is replaced.
    ///
    /// # Errors
    /// [`FsError`]; the target is untouched, and the half-made file is for [`remove_temp`](Self::remove_temp).
    pub fn write_temp(&self, tag: &str, bytes: &[u8], attributes: &Attributes) -> Result<(), FsError> {
        self.remove_temp(tag)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(self.dir.as_fd(), self.temp(tag).as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|e| self.error("create a file beside", e))?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(|e| self.error("write a file beside", e))?;
        self.apply(&file, attributes)?;
        file.sync_all().map_err(|e| self.error("sync a file beside", e))
    }

    /// Owner first: chown clears set-id bits; then mode; then ACLs and labels, which chmod would change.
    /// Puts the temporary file in the target's place. Durable only after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// [`FsError`]; the target is then the old one.
    pub fn rename_temp(&self, tag: &str) -> Result<(), FsError> {
        renameat(self.dir.as_fd(), self.temp(tag).as_os_str(), self.dir.as_fd(), self.name.as_os_str())
            .map_err(|e| self.error("replace", e))
    }

    /// The temporary file itself as a place, in the same directory.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn beside(&self, tag: &str) -> Result<Self, FsError> {
        let dir = self.dir.try_clone().map_err(|e| self.error("open the directory of", e))?;
        let name = self.temp(tag);
        let path = self.path.with_file_name(&name);
        Ok(Self { dir, name, path })
    }

    /// Removes what [`write_temp`](Self::write_temp) left; that there is nothing is no error.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove_temp(&self, tag: &str) -> Result<(), FsError> {
        match unlinkat(self.dir.as_fd(), self.temp(tag).as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.error("remove a temporary file beside", e)),
        }
    }

    /// Makes renames in the directory durable.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn sync_dir(&self) -> Result<(), FsError> {
        fsync(self.dir.as_fd()).map_err(|e| self.error("sync the directory of", e))
    }

    fn open(&self, flags: OFlag) -> Result<File, FsError> {
        openat(self.dir.as_fd(), self.name.as_os_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|e| self.error("open", e))
    }

    /// A dot-name: in the manifests directory the kubelet ignores only those (kubernetes: `pkg/kubelet/config/file.go`).
    fn temp(&self, tag: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".certwarden-");
        name.push(tag);
        name
    }

    fn error(&self, action: &'static str, e: impl Into<io::Error>) -> FsError {
        FsError::new(action, &self.path, e)
    }
}

/// Opens a file for a lock, made if it is not there; never through a link.
///
/// # Errors
/// [`FsError`].
pub fn open_lock(root: &Root, path: &Path) -> Result<File, FsError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FsError::new("open the lock", path, Errno::EISDIR));
    };
    let dir = root.directory(parent)?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    file.map(File::from).map_err(|e| FsError::new("open the lock", path, e))
}

/// The mount that an open file was reached through (`proc_pid_fdinfo(5)`). None: there is no `/proc`.
fn mount_id(file: &impl AsFd) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
