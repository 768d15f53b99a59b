//! Mounts on the way to a file that certwarden can do without. A network file system whose server is away, or a FUSE file
//! system whose process is, holds whoever so much as opens a directory of it, and nobody can take him out again.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{FsError, Root};

/// Of this thread, whose view of the mounts is the one that counts (proc_pid_mountinfo(5)).
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";
/// A node with hundreds of pods has some hundred KiB of it.
const MAX_MOUNTINFO: u64 = 16 << 20;
/// File systems that need nobody's answer but the kernel's.
const LOCAL: [&str; 17] = [
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "rootfs",
    "squashfs", "tmpfs", "vfat", "xfs", "zfs",
];

impl Root {
    /// Whether `path`, whose links nobody follows, can be opened without waiting for anybody but this machine.
    ///
    /// # Errors
    /// `NotLocal`. A path that is not there is none.
    pub(super) fn only_local(&self, path: &Path) -> Result<(), FsError> {
        if !self.may_cross_a_mount(path) {
            return Ok(());
        }
        match mountinfo().and_then(|text| not_local(&text, &self.on_host(path))) {
            Some((mount, kind)) => Err(FsError::NotLocal { path: path.into(), mount, kind }),
            None => Ok(()),
        }
    }

    /// The kernel stops before it asks anything of what is mounted (openat2(2), `RESOLVE_NO_XDEV`); it is cheaper than to
    /// read all mounts, of which there mostly is none on the way.
    fn may_cross_a_mount(&self, path: &Path) -> bool {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        match openat2(self.dir.as_fd(), path, how) {
            // not there, or a link on the way, before any mount
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => false,
            // EXDEV; and ENOSYS, by which systemd's RestrictSUIDSGID= answers
            Err(_) => true,
        }
    }
}

fn mountinfo() -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(MOUNTINFO).ok()?.take(MAX_MOUNTINFO).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The first mount on the way to `path` that is not known to be local, and its file system.
fn not_local(mountinfo: &[u8], path: &Path) -> Option<(PathBuf, String)> {
    let mut on_the_way: Vec<(PathBuf, String)> = Vec::new();
    for (mount, kind) in mountinfo.split(|b| *b == b'\n').filter_map(parse) {
        if path.starts_with(&mount) {
            // of several in one place the last is on top
            on_the_way.retain(|(other, _)| *other != mount);
            on_the_way.push((mount, kind));
        }
    }
    on_the_way.into_iter().find(|(_, kind)| !LOCAL.contains(&kind.as_str()))
}

/// `36 35 98:0 /root /mount/point options [optional…] - type source options`, blanks in octal.
fn parse(line: &[u8]) -> Option<(PathBuf, String)> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let separator = fields.iter().position(|f| *f == b"-")?;
    let kind = String::from_utf8_lossy(fields.get(separator + 1)?).into_owned();
    Some((PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.get(4)?))), kind))
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, left) = match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (byte, tail.get(3..).unwrap_or_default()),
            None => (*first, tail),
        };
        bytes.push(byte);
        rest = left;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    const MOUNTS: &str = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:2 / /home rw shared:1 master:2 - autofs map rw\n\
                          3 2 0:3 / /home/eve rw - nfs4 server:/eve rw\n4 1 0:4 / /srv rw - nfs4 server:/srv rw\n\
                          5 1 8:2 / /srv rw - xfs /dev/sdb rw\n6 1 0:5 / /mnt/a\\040b rw - fuse.sshfs x rw\nrubbish\n7 1\n";

    #[test]
    fn every_mount_on_the_way_counts_and_of_several_in_one_place_the_upper_one() {
        for (path, found) in [
            ("/root/.kube/config", None),
            ("/homes/eve", None),
            ("/home/eve/.kube/config", Some(("/home", "autofs"))),
            ("/srv/config", None),
            ("/mnt/a b/config", Some(("/mnt/a b", "fuse.sshfs"))),
            ("/mnt/a", None),
        ] {
            let expected = found.map(|(mount, kind)| (PathBuf::from(mount), kind.to_owned()));
            assert_eq!(not_local(MOUNTS.as_bytes(), Path::new(path)), expected, "{path}");
        }
        assert_eq!(not_local(b"", Path::new("/root")), None);
        assert_eq!(unescape(b"a\\134\\9\\04"), b"a\\\\9\\04");
    }

    /// Whatever `/dev/fuse` is not read for: the first access waits for ever.
    fn mount_dead(at: &Path) -> Option<File> {
        use std::os::fd::AsRawFd as _;
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("dead"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str())).ok()?;
        Some(device)
    }

    #[test]
    fn a_file_system_that_answers_nobody_holds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home/eve");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir_all(dir.path().join("root/.kube")).unwrap();
        let (told, heard) = mpsc::channel();
        // mounts are this thread's own
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).ok()?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).ok()?;
            told.send(mount_dead(&home)?).ok()?;
            let root = Root::open(dir.path()).unwrap();
            let dead = root.place_without_links(Path::new("/home/eve/.kube/config")).map(drop);
            let own = root.place_without_links(Path::new("/root/.kube/config")).map(drop);
            let _ = umount2(&home, MntFlags::MNT_DETACH);
            told.send(File::open("/dev/null").unwrap()).ok()?;
            Some((dead, own))
        });
        let Ok(device) = heard.recv() else { return }; // only root can mount, and not everywhere
        let ended = heard.recv_timeout(Duration::from_secs(60)).is_ok();
        drop(device); // whoever waits is told that nobody answers: fuse(4)
        let (dead, own) = thread.join().unwrap().unwrap();
        assert!(ended, "the look was held");
        let error = dead.unwrap_err();
        assert!(matches!(&error, FsError::NotLocal { kind, .. } if kind == "fuse"), "{error}");
        assert!(error.to_string().contains("was not looked at"), "{error}");
        own.unwrap();
    }
}
