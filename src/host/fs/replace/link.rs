//! Names that are themselves replaced: symbolic links, and files that were not there.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, readlinkat, renameat2};
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::Place;
use crate::host::fs::{FsError, Root};

/// What is at a name, no link followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Here {
    Nothing,
    File,
    Link(PathBuf),
    /// A directory, a device, a socket.
    Other,
}

impl Root {
    /// The place of a name itself: links on the way to its directory are followed, one of that name is not.
    ///
    /// # Errors
    /// As [`place`](Root::place).
    pub fn place_by_name(&self, path: &Path) -> Result<Place, FsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FsError::new("replace", path, Errno::EISDIR));
        };
        Ok(Place { dir: self.directory(parent)?, name: name.to_owned(), path: path.to_path_buf() })
    }
}

impl Place {
    /// What is at the name.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn here(&self) -> Result<Here, FsError> {
        let stat = match fstatat(self.dir.as_fd(), self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(Here::Nothing),
            other => other.map_err(|e| self.error("examine", e))?,
        };
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFLNK => {
                let to = readlinkat(self.dir.as_fd(), self.name.as_os_str());
                to.map(|to| Here::Link(PathBuf::from(to))).map_err(|e| self.error("read the link", e))
            }
            SFlag::S_IFREG => Ok(Here::File),
            _ => Ok(Here::Other),
        }
    }

    /// Makes a link beside the name, to be renamed over it. A leftover of the same tag is replaced.
    ///
    /// # Errors
    /// [`FsError`]; the name is untouched.
    pub fn link_temp(&self, tag: &str, to: &Path) -> Result<(), FsError> {
        self.remove_temp(tag)?;
        let temp: OsString = self.temp(tag);
        symlinkat(to, self.dir.as_fd(), temp.as_os_str()).map_err(|e| self.error("make a link beside", e))
    }

    /// Where what lies at the name is kept, out of everybody's way, until somebody has looked at it.
    pub fn aside(&self, tag: &str) -> PathBuf {
        self.path.with_file_name(self.name_aside(tag))
    }

    fn name_aside(&self, tag: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(".aside-");
        name.push(tag);
        name
    }

    /// Gives what is at the name another one beside it, whatever it is; it is neither opened nor changed. That nothing is
    /// there any more is no error.
    ///
    /// # Errors
    /// [`FsError`]; what is there is then still there.
    pub fn move_aside(&self, tag: &str) -> Result<(), FsError> {
        self.exchange(&self.name, &self.name_aside(tag), "move aside")
    }

    /// The way back. That nothing was moved is no error.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn bring_back(&self, tag: &str) -> Result<(), FsError> {
        let aside = self.name_aside(tag);
        match fstatat(self.dir.as_fd(), aside.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.map_err(|e| self.error("examine", e))?,
        };
        self.remove()?; // a rename puts no directory over a link
        self.exchange(&aside, &self.name, "bring back")
    }

    /// Never over anything.
    fn exchange(&self, from: &OsString, to: &OsString, action: &'static str) -> Result<(), FsError> {
        let (dir, flags) = (self.dir.as_fd(), RenameFlags::RENAME_NOREPLACE);
        match renameat2(dir, from.as_os_str(), dir, to.as_os_str(), flags) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.error(action, e)),
        }
    }

    /// Removes the file or link of this name.
    ///
    /// # Errors
    /// [`FsError`]; that it does not exist is none.
    pub fn remove(&self) -> Result<(), FsError> {
        match unlinkat(self.dir.as_fd(), self.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.error("remove", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_replaced_in_one_step_and_what_it_led_to_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("old.pem"), "old").unwrap();
        std::os::unix::fs::symlink("/old.pem", at("current")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let place = root.place_by_name(Path::new("/current")).unwrap();
        assert_eq!(place.here().unwrap(), Here::Link("/old.pem".into()));
        for _ in 0..2 {
            place.link_temp("new", Path::new("/new.pem")).unwrap(); // a leftover is no hindrance
        }
        assert_eq!(place.here().unwrap(), Here::Link("/old.pem".into()), "not before the rename");
        place.rename_temp("new").unwrap();
        assert_eq!(std::fs::read_link(at("current")).unwrap(), Path::new("/new.pem"));
        assert_eq!(std::fs::read(at("old.pem")).unwrap(), b"old");
        place.remove().unwrap();
        place.remove().unwrap();
        assert_eq!(place.here().unwrap(), Here::Nothing);
        std::fs::create_dir(at("current")).unwrap();
        assert_eq!(place.here().unwrap(), Here::Other);
        assert!(place.remove().is_err(), "never a directory");
    }

    #[test]
    fn whatever_lies_at_a_name_is_moved_aside_and_brought_back_unopened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("directory")).unwrap();
        std::fs::write(at("directory/in"), "it").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        let root = Root::open(dir.path()).unwrap();
        for name in ["directory", "fifo", "socket"] {
            let place = root.place_by_name(&Path::new("/").join(name)).unwrap();
            assert_eq!(place.here().unwrap(), Here::Other);
            place.replaceable().unwrap();
            place.bring_back("1").unwrap(); // nothing was moved yet
            assert_eq!(place.here().unwrap(), Here::Other);
            for _ in 0..2 {
                place.move_aside("1").unwrap();
                assert_eq!(place.here().unwrap(), Here::Nothing);
            }
            place.link_temp("new", Path::new("/new.pem")).unwrap();
            place.rename_temp("new").unwrap();
            assert!(at(&format!("{name}.aside-1")).symlink_metadata().is_ok());
            for _ in 0..2 {
                place.bring_back("1").unwrap();
                assert_eq!(place.here().unwrap(), Here::Other);
            }
            assert!(at(&format!("{name}.aside-1")).symlink_metadata().is_err());
        }
        assert_eq!(std::fs::read(at("directory/in")).unwrap(), b"it");
        std::fs::write(at("fifo.aside-2"), "another's").unwrap();
        let place = root.place_by_name(Path::new("/fifo")).unwrap();
        assert!(place.move_aside("2").is_err(), "never over anything");
    }
}
