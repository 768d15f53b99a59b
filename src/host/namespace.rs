//! A private mount namespace: what is mounted here is seen by this process and its children, and by nobody else.
//!
//! unshare(2) works on the calling *thread*, so this is for a fresh, single-threaded process only
//! (the hidden staging subcommand), never for the daemon.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Why there is no private namespace, or not the mounts that were wanted in it.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error(
        "the kernel refuses a private mount namespace ({0}): run as root with CAP_SYS_ADMIN; in a unit, allow \
         RestrictNamespaces=mnt and SystemCallFilter=@mount; else set renewer = \"local\""
    )]
    Refused(Errno),
    #[error("mount {what} on {} in the private namespace: {errno}", path.display())]
    Mount { what: &'static str, path: PathBuf, errno: Errno },
    #[error("read the mount table")]
    Table {
        #[source]
        source: io::Error,
    },
}

/// Proof that this thread is in a mount namespace of its own.
#[derive(Debug)]
pub struct Namespace(());

/// File systems that can be made read-only without asking anybody: the path walk of a remount on a dead network
/// or FUSE mount would hang.
const LOCAL: [&str; 10] = ["bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"];
/// Where a program may leave temporary files; covered by an empty directory.
const TMP: &str = "/tmp";

impl Namespace {
    /// Leaves the mount namespace of the parent.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`].
    pub fn enter() -> Result<Self, NamespaceError> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(NamespaceError::Refused)?;
        // MS_SLAVE, not MS_PRIVATE: nothing of ours goes out in either, but a private copy would hold volumes that
        // the host unmounts meanwhile (EBUSY when the kubelet detaches them). systemd makes `/` shared, so one is needed.
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(|errno| match errno {
            Errno::EPERM | Errno::EACCES => NamespaceError::Refused(errno),
            errno => NamespaceError::Mount { what: "slave propagation", path: "/".into(), errno },
        })?;
        Ok(Self(()))
    }

    /// Mounts a tmpfs of at most `bytes` on `dir`, for root only. Its content is gone with the namespace. Whether the kernel keeps it
    /// off the swap device.
    ///
    /// # Errors
    /// [`NamespaceError::Mount`].
    pub fn scratch(&self, dir: &Path, bytes: u64) -> Result<bool, NamespaceError> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let with = |options: &str| mount(Some("certwarden"), dir, Some("tmpfs"), flags, Some(options));
        let options = format!("size={bytes},mode=0700");
        // tmpfs(5): noswap (Linux 6.4) keeps keys off the swap device; older kernels say EINVAL
        if with(&format!("{options},noswap")).is_ok() {
            return Ok(true);
        }
        with(&options).map_err(|errno| NamespaceError::Mount { what: "a tmpfs", path: dir.into(), errno })?;
        Ok(false)
    }

    /// Shows `copy` where `live` is.
    ///
    /// # Errors
    /// [`NamespaceError::Mount`].
    pub fn cover(&self, live: &Path, copy: &Path) -> Result<(), NamespaceError> {
        mount(Some(copy), live, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| NamespaceError::Mount {
            what: "the copy",
            path: live.into(),
            errno,
        })
    }

    /// Makes every local file system read-only for this process and its children, except below `writable`.
    /// Per mount and per namespace: the host does not notice. What cannot be made so stays as it is.
    ///
    /// # Errors
    /// [`NamespaceError::Table`], or [`NamespaceError::Mount`] if the root itself stays writable.
    pub fn freeze(&self, writable: &[&Path]) -> Result<(), NamespaceError> {
        let table =
            std::fs::read_to_string("/proc/self/mountinfo").map_err(|source| NamespaceError::Table { source })?;
        for entry in table.lines().filter_map(Entry::parse) {
            if !LOCAL.contains(&entry.kind) || writable.iter().any(|w| entry.path.starts_with(w)) {
                continue;
            }
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | entry.flags;
            match mount(None::<&str>, &entry.path, None::<&str>, flags, None::<&str>) {
                Err(errno) if entry.path == Path::new("/") => {
                    return Err(NamespaceError::Mount { what: "read-only", path: entry.path, errno });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Gives programs an empty `/tmp` at `dir`, if there is a `/tmp` and it does not hold `keep`.
    ///
    /// # Errors
    /// [`NamespaceError::Mount`].
    pub fn private_tmp(&self, dir: &Path, keep: &Path) -> Result<(), NamespaceError> {
        let tmp = Path::new(TMP);
        if keep.starts_with(tmp) || !tmp.is_dir() { Ok(()) } else { self.cover(tmp, dir) }
    }

    /// Hides each of `paths` that there is from this process and its children: a directory behind `empty`, anything else behind
    /// `/dev/null`, which nobody can connect to. Mounts below `keep` stay visible.
    ///
    /// # Errors
    /// [`NamespaceError::Mount`].
    pub fn hide(&self, paths: &[&str], empty: &Path, keep: &Path) -> Result<(), NamespaceError> {
        for path in paths.iter().map(Path::new).filter(|path| path.exists() && !keep.starts_with(path)) {
            self.cover(path, if path.is_dir() { empty } else { Path::new("/dev/null") })?;
        }
        Ok(())
    }

    /// Takes mounts away again. Not needed for cleanliness (they die with the namespace), but a descendant that
    /// lives on would keep a scratch alive. Best effort.
    pub fn leave(&self, mounts: &[&Path]) {
        for path in mounts {
            let _ = umount2(*path, MntFlags::MNT_DETACH);
        }
    }
}

/// A line of `proc_pid_mountinfo(5)`.
struct Entry<'a> {
    path: PathBuf,
    kind: &'a str,
    /// The mount's own flags; a remount that does not repeat them clears them.
    flags: MsFlags,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (path, options) = (fields.next()?, fields.next()?);
        let flags = options.split(',').fold(MsFlags::empty(), |flags, option| {
            flags
                | match option {
                    "nosuid" => MsFlags::MS_NOSUID,
                    "nodev" => MsFlags::MS_NODEV,
                    "noexec" => MsFlags::MS_NOEXEC,
                    "noatime" => MsFlags::MS_NOATIME,
                    "nodiratime" => MsFlags::MS_NODIRATIME,
                    "relatime" => MsFlags::MS_RELATIME,
                    _ => MsFlags::empty(),
                }
        });
        Some(Self { path: unescape(path), kind: fs.split(' ').next()?, flags })
    }
}

/// Undoes the kernel's octal escapes (`\040` for a space).
fn unescape(path: &str) -> PathBuf {
    let mut plain = path.to_owned();
    for (escaped, text) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escaped, text);
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_keeps_its_own_flags_when_it_is_made_read_only() {
        let line = "36 35 98:0 /mnt1 /mnt\\040two rw,nosuid,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let entry = Entry::parse(line).unwrap();
        assert_eq!(entry.path, Path::new("/mnt two"));
        assert_eq!(entry.kind, "ext3");
        assert_eq!(entry.flags, MsFlags::MS_NOSUID | MsFlags::MS_NOATIME);
    }

    #[test]
    fn damaged_lines_of_the_mount_table_are_passed_over() {
        for line in ["", "36 35", "36 35 98:0 / /mnt - ext4", " - "] {
            assert!(Entry::parse(line).is_none(), "{line}");
        }
    }
}
