//! The way to a directory in which root writes, gone by hand: one name at a time, links read and followed by us, so
//! that nobody else chooses where it ends.
//!
//! Whoever can change a directory on the way, or turn a link, decides where root writes: he leads a new key into a
//! directory of his own, with a link to the real CA's key beside it. On the running system root therefore goes only
//! through directories and links that are root's (or of a user named in `gates.trusted-owners`) and that nobody else
//! may write. Each is judged by its open descriptor, and none is opened through a link: what is judged is what is used.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::geteuid;

use super::{FsError, Root};

/// More links than this on one way are a loop (the kernel's own limit, `path_resolution(7)`).
const MAX_LINKS: u32 = 40;

/// Where a path leads to.
pub(super) struct Found {
    /// The directory, open for reading.
    pub dir: OwnedFd,
    /// The name in it; no link. None: the path is the directory's own.
    pub name: Option<OsString>,
    /// Below the root, links followed; for messages.
    pub path: PathBuf,
}

/// What the way ends with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// A file, there or not.
    File,
    Directory,
}

/// Walks `path` from the root.
pub(super) fn walk(root: &Root, path: &Path, end: End) -> Result<Found, FsError> {
    walk_guarded(root, path, end, root.is_live() && geteuid().is_root())
}

impl Root {
    /// What keeps root from writing in `directory` of the running system, as whoever looks sees it: somebody else's hand
    /// on the way. What cannot be looked at is no such reason.
    pub fn foreign_hand(&self, directory: &Path) -> Option<FsError> {
        let walked = walk_guarded(self, directory, End::Directory, self.is_live());
        walked.err().filter(|e| matches!(e, FsError::Untrusted { .. }))
    }
}

fn walk_guarded(root: &Root, path: &Path, end: End, guarded: bool) -> Result<Found, FsError> {
    let mut walk = Walk { root, guarded, dirs: Vec::new(), links: 0 };
    let mut names = VecDeque::new();
    push(&mut names, path);
    while let Some(name) = names.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::Normal(_)) => {}
            other => {
                walk.turn(other);
                continue;
            }
        }
        if let Some(target) = walk.link(&name)? {
            push(&mut names, &target);
        } else if names.is_empty() && end == End::File {
            let path = walk.path().join(&name);
            return Ok(Found { dir: walk.open()?, name: Some(name), path });
        } else {
            walk.enter(name)?;
        }
    }
    if end == End::File {
        return Err(FsError::new("replace", path, Errno::EISDIR));
    }
    Ok(Found { path: walk.path(), dir: walk.open()?, name: None })
}

/// Puts the names of `path` before the others.
fn push(names: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        names.push_front(component.as_os_str().to_owned());
    }
}

struct Walk<'r> {
    root: &'r Root,
    /// Whether somebody else's hand on the way is an error.
    guarded: bool,
    /// The directories gone through, without the root.
    dirs: Vec<(OsString, OwnedFd)>,
    links: u32,
}

impl Walk<'_> {
    fn dir(&self) -> BorrowedFd<'_> {
        self.dirs.last().map_or(self.root.dir.as_fd(), |(_, dir)| dir.as_fd())
    }

    fn path(&self) -> PathBuf {
        Path::new("/").join(self.dirs.iter().map(|(name, _)| name).collect::<PathBuf>())
    }

    /// To the root, or up; never out of the root.
    fn turn(&mut self, component: Option<Component<'_>>) {
        match component {
            Some(Component::RootDir) => self.dirs.clear(),
            Some(Component::ParentDir) => drop(self.dirs.pop()),
            _ => {}
        }
    }

    /// Where the link `name` points; None if it is no link or not there.
    fn link(&mut self, name: &OsStr) -> Result<Option<PathBuf>, FsError> {
        let at = self.path().join(name);
        let target = match readlinkat(self.dir(), name) {
            Ok(target) => PathBuf::from(target),
            // EINVAL: not a link
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(FsError::new("read the link", &at, e)),
        };
        if self.guarded {
            let link =
                fstatat(self.dir(), name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| FsError::new("examine", &at, e))?;
            if !self.root.trusts(link.st_uid) {
                return Err(FsError::Untrusted { path: at, why: format!("it belongs to user {}", link.st_uid) });
            }
            self.judge(false)?;
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(FsError::new("follow the links of", &at, Errno::ELOOP));
        }
        Ok(Some(target))
    }

    fn enter(&mut self, name: OsString) -> Result<(), FsError> {
        self.judge(true)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(self.dir(), name.as_os_str(), flags, Mode::empty())
            .map_err(|e| FsError::new("open", &self.path().join(&name), e))?;
        self.dirs.push((name, dir));
        Ok(())
    }

    /// The directory at the end, as one that can be read and synced.
    fn open(&self) -> Result<OwnedFd, FsError> {
        self.judge(false)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(self.dir(), ".", flags, Mode::empty()).map_err(|e| FsError::new("open", &self.path(), e))
    }

    /// Whether somebody else could change the directory. `passing`: to a directory of root's in it, which in a sticky
    /// directory nobody else can rename or remove (inode(7)).
    fn judge(&self, passing: bool) -> Result<(), FsError> {
        if !self.guarded {
            return Ok(());
        }
        let stat = fstat(self.dir()).map_err(|e| FsError::new("examine", &self.path(), e))?;
        match self.foreign_hand(&stat, passing) {
            Some(why) => Err(FsError::Untrusted { path: self.path(), why }),
            None => Ok(()),
        }
    }

    fn foreign_hand(&self, dir: &FileStat, passing: bool) -> Option<String> {
        let mode = dir.st_mode & 0o7777;
        // the group's bits also stand for whoever an ACL names (acl(5), "Correspondence")
        let others = mode & 0o022 != 0 && !(passing && mode & 0o1000 != 0);
        match dir.st_uid {
            uid if !self.root.trusts(uid) => Some(format!("it belongs to user {uid}")),
            _ if others => Some(format!("its mode {mode:04o} lets others change it")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// What is wrong with the way, and how it became so.
    type Spoil = (&'static str, fn(&Path));

    /// The running system, for root; an unprivileged user can harm only itself.
    fn live() -> Option<Root> {
        geteuid().is_root().then(|| Root::open(Path::new("/")).unwrap())
    }

    /// `kubernetes/pki -> ssl`, as kubespray has it.
    fn kubespray() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kubernetes/ssl")).unwrap();
        for (path, bits) in [("", 0o755), ("kubernetes", 0o755), ("kubernetes/ssl", 0o700)] {
            mode(&dir.path().join(path), bits);
        }
        fs::write(dir.path().join("kubernetes/ssl/a.key"), "secret").unwrap();
        symlink("ssl", dir.path().join("kubernetes/pki")).unwrap();
        dir
    }

    #[test]
    fn root_goes_through_directories_and_links_that_nobody_else_can_turn() {
        let Some(root) = live() else { return };
        let dir = kubespray();
        let place = root.place(&dir.path().join("kubernetes/pki/a.key")).unwrap();
        assert_eq!(place.path(), dir.path().join("kubernetes/ssl/a.key"));
        assert_eq!(*place.read_secret().unwrap(), b"secret");
        // up and down again, absolute, over several links
        symlink(dir.path().join("kubernetes/../kubernetes/pki/."), dir.path().join("far")).unwrap();
        let place = root.place(&dir.path().join("far/a.key")).unwrap();
        assert_eq!(place.path(), dir.path().join("kubernetes/ssl/a.key"));
        assert!(root.directory(&dir.path().join("far")).is_ok());
        assert!(root.place(&dir.path().join("far")).is_ok_and(|p| p.path().ends_with("kubernetes/ssl")));
    }

    #[test]
    fn root_writes_nothing_where_somebody_else_has_a_hand_in_the_way() {
        let Some(mut root) = live() else { return };
        let spoils: [Spoil; 10] = [
            ("belongs to user 1234", |d| lchown(d.join("kubernetes/pki"), Some(1234), None).unwrap()),
            ("belongs to user 1234", |d| chown(d.join("kubernetes"), Some(1234), None).unwrap()),
            ("belongs to user 1234", |d| chown(d.join("kubernetes/ssl"), Some(1234), None).unwrap()),
            ("belongs to user 1234", |d| chown(d, Some(1234), None).unwrap()),
            ("mode 0775 lets others", |d| mode(&d.join("kubernetes"), 0o775)),
            ("mode 0777 lets others", |d| mode(&d.join("kubernetes/ssl"), 0o777)),
            // a directory may be passed if sticky; a link is not followed in it, and a file not made in it
            ("mode 1777 lets others", |d| mode(&d.join("kubernetes"), 0o1777)),
            ("mode 1777 lets others", |d| mode(&d.join("kubernetes/ssl"), 0o1777)),
            ("mode 0775 lets others", |d| mode(&d.join("kubernetes/ssl"), 0o775)),
            ("mode 0757 lets others", |d| mode(d, 0o757)),
        ];
        for (why, spoil) in spoils {
            let dir = kubespray();
            spoil(dir.path());
            let error = root.place(&dir.path().join("kubernetes/pki/a.key")).unwrap_err();
            assert!(matches!(error, FsError::Untrusted { .. }) && error.to_string().contains(why), "{why}: {error}");
        }
        // without a link through a sticky directory, as /tmp is
        let dir = kubespray();
        mode(dir.path(), 0o1777);
        assert!(root.place(&dir.path().join("kubernetes/ssl/a.key")).is_ok());
        // and by the administrator's own word
        chown(dir.path().join("kubernetes"), Some(1234), None).unwrap();
        let path = dir.path().join("kubernetes/pki/a.key");
        for (users, trusted) in [(vec![], false), (vec!["no-such-user"], false), (vec!["1235", "1234"], true)] {
            root.trust(&users.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(root.place(&path).is_ok(), trusted, "{users:?}");
        }
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_while_we_walk_leads_nowhere_else() {
        let Some(root) = live() else { return };
        let dir = kubespray();
        let (home, victim) = (dir.path().join("home"), dir.path().join("victim"));
        for made in [&home, &victim, &home.join("a")] {
            fs::create_dir(made).unwrap();
        }
        chown(&home, Some(1234), None).unwrap();
        symlink(&victim, dir.path().join("home/b")).unwrap();
        let (done, swapped) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (from, to) in [("a", "c"), ("b", "a"), ("a", "b"), ("c", "a")] {
                        fs::rename(home.join(from), home.join(to)).unwrap();
                    }
                    swapped.store(true, Ordering::Relaxed);
                }
            });
            let mut tries = 0;
            while tries < 2000 || !swapped.load(Ordering::Relaxed) {
                tries += 1;
                let found = root.place(&home.join("a/x.key"));
                assert!(matches!(found, Err(FsError::Untrusted { .. } | FsError::NotFound { .. })), "{found:?}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn users_are_trusted_by_name_as_the_nodes_own_passwd_has_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nkube:x:998:997::/:/sbin/nologin\nbad:x\n")
            .unwrap();
        let mut root = Root::open(dir.path()).unwrap();
        root.trust(&["kube".to_owned(), "bad".to_owned(), "x".to_owned(), String::new()]);
        assert_eq!(root.trusted, [998]);
        assert!(root.trusts(0) && root.trusts(998) && !root.trusts(997));
        root.trust(&[]);
        assert!(root.trusts(0) && !root.trusts(998));
    }

    #[test]
    fn below_another_root_every_way_ends_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("etc/pki")).unwrap();
        symlink("../../../../../etc/pki", dir.path().join("etc/up")).unwrap();
        symlink("/etc/pki", dir.path().join("abs")).unwrap();
        for path in ["/etc/up/a", "/abs/a", "/../../etc/pki/a", "etc/pki/../pki/./a"] {
            let place = root.place(Path::new(path)).unwrap();
            assert_eq!(place.path(), Path::new("/etc/pki/a"), "{path}");
        }
        symlink("abs/none", dir.path().join("dangling")).unwrap();
        assert_eq!(root.place(Path::new("/dangling")).unwrap().path(), Path::new("/etc/pki/none"));
        assert!(matches!(root.place(Path::new("/dangling/a")), Err(FsError::NotFound { .. })));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(root.place(Path::new("/file/a")), Err(FsError::NotFound { .. })));
        for none in ["/", "", "/..", "/abs/.."] {
            assert!(root.place(Path::new(none)).is_err(), "{none}");
        }
        assert!(root.directory(Path::new("/")).is_ok());
    }
}
