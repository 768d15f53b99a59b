//! File systems on loop devices, whose power can be cut. They live in a mount namespace of the harness's own, so that
//! nothing is left on the machine however it ends, and nobody else holds a mount that is to be cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// ext4 and xfs: what kubeadm's nodes run on, and what the shutdown ioctl works on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The smallest that mkfs makes (xfsprogs 6: 300 MB), sparse.
    fn megabytes(self) -> u64 {
        match self {
            Self::Ext4 => 64,
            Self::Xfs => 320,
        }
    }
}

/// A mounted file system in a sparse image.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    pub at: PathBuf,
}

impl Disk {
    /// Makes image and mount point in `dir`.
    pub fn make(dir: &Path, kind: Kind, name: &str) -> Self {
        Self::sized(dir, kind, name, kind.megabytes())
    }

    pub fn sized(dir: &Path, kind: Kind, name: &str, megabytes: u64) -> Self {
        let disk = Self { image: dir.join(format!("{name}.img")), at: dir.join(name) };
        fs::create_dir_all(&disk.at).unwrap();
        fs::File::create(&disk.image).unwrap().set_len(megabytes << 20).unwrap();
        let mkfs: &[&str] = match kind {
            Kind::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Kind::Xfs => &["mkfs.xfs", "-q", "-f"],
        };
        ok(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&disk.image));
        disk.mount();
        disk
    }

    fn mount(&self) {
        // the loop device goes with the mount
        ok(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at));
    }

    /// From now on nothing reaches the disk: the log is not flushed, and everything that is not durable is lost.
    pub fn shut_down(&self) {
        ok(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.at));
    }

    /// Mounted again, with the log replayed, as at the boot after a power failure.
    pub fn boot(&self) {
        ok(Command::new("umount").arg(&self.at));
        self.mount();
    }

    /// Shows the disk at `place`, too.
    pub fn bind(&self, place: &Path) {
        ok(Command::new("mount").arg("--bind").arg(&self.at).arg(place));
    }

    pub fn sync(&self) {
        ok(Command::new("sync").arg("-f").arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        let _ = fs::remove_file(&self.image);
    }
}

/// Takes away what [`Disk::bind`] has shown.
pub fn unbind(place: &Path) {
    let _ = Command::new("umount").arg(place).output();
}

pub fn ok(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A mount namespace for this process and its children; to be called before there are threads. Says why there is none.
pub fn private_mounts() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .map_err(|e| format!("mounts are forbidden here ({e})"))?;
    for tool in ["/usr/sbin/xfs_io", "/sbin/mkfs.xfs", "/sbin/mkfs.ext4"] {
        if !Path::new(tool).exists() {
            return Err(format!("{tool} is not installed (`tools/setup torture`)"));
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("there are no loop devices".to_owned());
    }
    // a module that is not loaded and cannot be
    let dir = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let tried = std::panic::catch_unwind(|| drop(Disk::make(dir.path(), kind, kind.name())));
        tried.map_err(|_| format!("{} cannot be mounted from a loop device", kind.name()))?;
    }
    Ok(())
}
