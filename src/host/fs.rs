//! The file system below a root. Every path goes through [`Root`], so that `--root DIR` works everywhere:
//! symbolic links, absolute ones too, resolve *within* the root and never out of it (openat2(2), `RESOLVE_IN_ROOT`).
//!
//! [`Root`] reads; [`replace`] writes durably. Only `txn` writes live paths.

mod mounts;
pub mod replace;
mod tail;
mod walk;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

/// A certificate, key, kubeconfig, manifest or configuration larger than this is refused: the largest real ones
/// (CA bundles) are some hundred KiB.
pub const MAX_FILE: u64 = 4 << 20;
/// So many lost races in a row are not chance but a loop of somebody's.
const RACES: u32 = 1000;
const PASSWD: &str = "/etc/passwd";

/// Why a path could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("{} does not exist", path.display())]
    NotFound { path: PathBuf },
    #[error("{} is a symbolic link to {}, which does not exist", path.display(), target.display())]
    Dangling { path: PathBuf, target: PathBuf },
    #[error("{} is {what}, not a regular file", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    /// Root would write where somebody else says.
    #[error(
        "nothing is written by way of {}: {why}, and who can change it decides where root writes; make it root's and \
         writable for nobody else, or name its owner in gates.trusted-owners",
        path.display()
    )]
    Untrusted { path: PathBuf, why: String },
    #[error("{} is immutable or append-only; `lsattr` shows it, `chattr -i -a` takes it away", path.display())]
    Immutable { path: PathBuf },
    #[error("{} is itself a mount and cannot be replaced; mount its directory instead", path.display())]
    MountPoint { path: PathBuf },
    #[error("{} is a symbolic link, and none is followed on the way to somebody's file: give its real path", path.display())]
    LinkOnTheWay { path: PathBuf },
    #[error("{} has {count} names (hard links): it is not said whose it is", path.display())]
    SeveralNames { path: PathBuf, count: u64 },
    #[error("no permission to {action} {}", path.display())]
    Permission { action: &'static str, path: PathBuf },
    #[error("{} is on a read-only file system: {action}", path.display())]
    ReadOnly { action: &'static str, path: PathBuf },
    #[error("no space left to {action} {}", path.display())]
    NoSpace { action: &'static str, path: PathBuf },
    /// Who opens it may wait for ever.
    #[error(
        "{} was not looked at: {} is a mount of {kind}, and one that does not answer would hold certwarden; keep the file on a \
         local disk, or leave it out of kubeconfigs.homes and kubeconfigs.copies",
        path.display(), mount.display()
    )]
    NotLocal { path: PathBuf, mount: PathBuf, kind: String },
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl FsError {
    pub(crate) fn new(action: &'static str, path: &Path, e: impl Into<io::Error>) -> Self {
        let (source, path) = (e.into(), path.to_path_buf());
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => Self::NotFound { path },
            Some(Errno::EACCES | Errno::EPERM) => Self::Permission { action, path },
            Some(Errno::EROFS) => Self::ReadOnly { action, path },
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::NoSpace { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// A directory taken as the root of a node's file system. `/` on a live node.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
    /// User ids besides root's whose directories root writes in.
    trusted: Vec<u32>,
    /// The first path that this user may not open.
    denied: OnceLock<PathBuf>,
}

impl Root {
    /// # Errors
    /// If `path` is not a directory that can be opened.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let dir = File::open(path).map_err(|e| FsError::new("open the root directory", path, e))?;
        if !dir.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(FsError::new("open the root directory", path, Errno::ENOTDIR));
        }
        let path = path.canonicalize().map_err(|e| FsError::new("resolve", path, e))?;
        Ok(Self { dir: dir.into(), path, trusted: Vec::new(), denied: OnceLock::new() })
    }

    /// Lets directories on the way to a written file belong to these users too: names of `/etc/passwd` or user ids.
    /// One that is not known trusts nobody.
    pub fn trust(&mut self, users: &[String]) {
        let passwd = if users.is_empty() { String::new() } else { self.read_text(PASSWD.as_ref()).unwrap_or_default() };
        // passwd(5): name, password, user id
        let by_name = |user: &str| {
            let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
            lines.find(|l| l.first() == Some(&user)).and_then(|l| l.get(2)?.parse().ok())
        };
        self.trusted = users.iter().filter_map(|u| u.parse().ok().or_else(|| by_name(u))).collect();
    }

    fn trusts(&self, uid: u32) -> bool {
        uid == 0 || self.trusted.contains(&uid)
    }

    /// Whether this is the running system, with services to restart, and not a mounted image or a test tree.
    pub fn is_live(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The first path below the root that could not be opened for lack of permission: who reads on without it takes what
    /// is there for missing.
    pub fn denied(&self) -> Option<&Path> {
        self.denied.get().map(PathBuf::as_path)
    }

    /// The root's own path on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `path` below the root as the host names it: for messages and for other programs only.
    pub fn on_host(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The whole regular file, at most `limit` bytes. Never blocks on a FIFO or a device.
    ///
    /// # Errors
    /// [`FsError`]; a directory, FIFO, device or socket is `NotAFile`, a link to nowhere `Dangling`.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
        self.read_with_metadata(path, limit).map(|(bytes, _)| bytes)
    }

    /// As [`read`](Self::read), and the metadata of that very file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with_metadata(&self, path: &Path, limit: u64) -> Result<(Vec<u8>, std::fs::Metadata), FsError> {
        let (file, meta) = self.open_file(path)?;
        Ok((read_bounded(file, &meta, path, limit)?, meta))
    }

    /// As [`read`](Self::read), for files that hold keys: zeroed when dropped.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_secret(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, FsError> {
        self.read(path, MAX_FILE).map(Zeroizing::new)
    }

    /// As [`read`](Self::read), as text.
    ///
    /// # Errors
    /// As [`read`](Self::read); bytes that are not UTF-8 are an I/O error of kind `InvalidData`.
    pub fn read_text(&self, path: &Path) -> Result<String, FsError> {
        let invalid = |e: std::string::FromUtf8Error| io::Error::new(io::ErrorKind::InvalidData, e.utf8_error());
        String::from_utf8(self.read(path, MAX_FILE)?).map_err(|e| FsError::new("read as text", path, invalid(e)))
    }

    /// Metadata of what `path` leads to, links followed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn metadata(&self, path: &Path) -> Result<std::fs::Metadata, FsError> {
        let fd = self.resolve(path, OFlag::O_PATH)?;
        File::from(fd).metadata().map_err(|e| FsError::new("examine", path, e))
    }

    /// Metadata of `path` itself, its last component not followed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn symlink_metadata(&self, path: &Path) -> Result<std::fs::Metadata, FsError> {
        let fd = self.open_at(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        File::from(fd).metadata().map_err(|e| FsError::new("examine", path, e))
    }

    /// Where the symbolic link `path` points.
    ///
    /// # Errors
    /// [`FsError`]; EINVAL if it is no link.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        let fd = self.open_at(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        readlinkat(fd, "").map(PathBuf::from).map_err(|e| FsError::new("read the link", path, e))
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }

    /// Whether the mount that `path` is on is read-only.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn is_read_only(&self, path: &Path) -> Result<bool, FsError> {
        let fd = self.resolve(path, OFlag::O_PATH)?;
        let stat = nix::sys::statvfs::fstatvfs(&fd).map_err(|e| FsError::new("examine the file system of", path, e))?;
        Ok(stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
    }

    /// Names in the directory `path`, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn list(&self, path: &Path) -> Result<Vec<String>, FsError> {
        let fd = self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut dir = Dir::from_fd(fd).map_err(|e| FsError::new("list", path, e))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|e| FsError::new("list", path, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A regular file, opened for reading.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn open_to_read(&self, path: &Path) -> Result<File, FsError> {
        self.open_file(path).map(|(file, _)| file)
    }

    fn open_file(&self, path: &Path) -> Result<(File, std::fs::Metadata), FsError> {
        // O_NONBLOCK: opening a FIFO for reading would wait for a writer
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        // O_NOATIME: looking leaves not even a time stamp; only for owners of the file and the privileged (open(2))
        let file = match self.resolve(path, flags | OFlag::O_NOATIME) {
            Err(FsError::Permission { .. }) => self.resolve(path, flags)?,
            other => other?,
        };
        regular(File::from(file), path)
    }

    /// Opens with links followed; tells a dangling link from a missing file.
    fn resolve(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, FsError> {
        match self.open_at(path, flags) {
            Err(FsError::NotFound { path }) => match self.read_link(&path) {
                Ok(target) => Err(FsError::Dangling { path, target }),
                Err(_) => Err(FsError::NotFound { path }),
            },
            other => other,
        }
    }

    pub(crate) fn open_at(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, FsError> {
        if self.is_live() {
            // nothing leads out of `/`, and systemd's RestrictSUIDSGID= answers openat2(2) with ENOSYS
            let path = Path::new("/").join(path);
            let opened = open(&path, flags | OFlag::O_CLOEXEC, Mode::empty());
            return opened.map_err(|e| self.not_opened(&path, e));
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(Mode::empty())
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut tries = 0;
        loop {
            match openat2(self.dir.as_fd(), path, how) {
                // somebody renamed or mounted something somewhere while the kernel went by `..`: openat2(2), EAGAIN
                Err(Errno::EAGAIN) if tries < RACES => tries += 1,
                other => return other.map_err(|e| self.not_opened(path, e)),
            }
        }
    }

    fn not_opened(&self, path: &Path, e: Errno) -> FsError {
        // EPERM is another matter: O_NOATIME on a file of somebody else (open(2))
        if e == Errno::EACCES {
            self.denied.get_or_init(|| path.to_path_buf());
        }
        FsError::new("open", path, e)
    }
}

fn regular(file: File, path: &Path) -> Result<(File, std::fs::Metadata), FsError> {
    let meta = file.metadata().map_err(|e| FsError::new("examine", path, e))?;
    if meta.is_file() { Ok((file, meta)) } else { Err(FsError::NotAFile { path: path.into(), what: kind(&meta) }) }
}

fn read_bounded(file: File, meta: &std::fs::Metadata, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
    if meta.len() > limit {
        return Err(FsError::TooLarge { path: path.into(), limit });
    }
    let failed = |e| FsError::new("read", path, e);
    let size = usize::try_from(meta.len()).unwrap_or(0);
    // one byte beyond: the file may have grown since fstat. Exactly its size from one read is all of it; a file of
    // procfs says that it has none
    let mut bytes = vec![0; size + 1];
    let read = loop {
        match (&file).read(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other.map_err(failed)?,
        }
    };
    bytes.truncate(read);
    if read != size || size == 0 {
        file.take((limit + 1).saturating_sub(read as u64)).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > limit { Err(FsError::TooLarge { path: path.into(), limit }) } else { Ok(bytes) }
}

fn kind(meta: &std::fs::Metadata) -> &'static str {
    match meta.mode() & 0o170_000 {
        0o040_000 => "a directory",
        0o010_000 => "a FIFO",
        0o140_000 => "a socket",
        0o020_000 | 0o060_000 => "a device",
        _ => "something else",
    }
}
