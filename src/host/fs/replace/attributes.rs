//! What a rename would lose: owner, mode, times, extended attributes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use xattr::FileExt;

use super::super::FsError;
use super::Place;
use crate::model::ledger::Attributes;

/// Digests and signatures of the content, made by the kernel itself (kernel: `Documentation/ABI/testing/ima_policy`,
/// `evm`): those of another content would make the new file unreadable.
const OF_THE_KERNEL: [&str; 2] = ["security.ima", "security.evm"];

impl Place {
    /// Owner, mode, times and extended attributes of the file as it is.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn attributes(&self) -> Result<Attributes, FsError> {
        let file = self.open(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?;
        let meta = file.metadata().map_err(|e| self.error("examine", e))?;
        self.attributes_of(&file, &meta)
    }

    pub(super) fn attributes_of(&self, file: &File, meta: &std::fs::Metadata) -> Result<Attributes, FsError> {
        let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Ok(Attributes {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            atime_ns: ns(meta.atime(), meta.atime_nsec()),
            xattrs: self.xattrs(file)?,
        })
    }

    fn xattrs(&self, file: &File) -> Result<BTreeMap<String, String>, FsError> {
        let names = match file.list_xattr() {
            Ok(names) => names,
            Err(e) if unsupported(&e) => return Ok(BTreeMap::new()),
            Err(e) => return Err(self.error("list the extended attributes of", e)),
        };
        let mut all = BTreeMap::new();
        for name in names.filter(|name| !OF_THE_KERNEL.iter().any(|own| name == own)) {
            let value = file.get_xattr(&name).map_err(|e| self.error("read an extended attribute of", e))?;
            if let Some(value) = value {
                all.insert(name.to_string_lossy().into_owned(), hex(&value));
            }
        }
        Ok(all)
    }

    pub(super) fn apply(&self, file: &File, a: &Attributes) -> Result<(), FsError> {
        let now = file.metadata().map_err(|e| self.error("examine a file beside", e))?;
        if (now.uid(), now.gid()) != (a.uid, a.gid) {
            fchown(file, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)))
                .map_err(|e| self.error("set the owner of a file beside", e))?;
        }
        fchmod(file, Mode::from_bits_truncate(a.mode)).map_err(|e| self.error("set the mode of a file beside", e))?;
        for (name, value) in &a.xattrs {
            let bytes = unhex(value).ok_or_else(|| self.error("decode an attribute for", Errno::EINVAL))?;
            if file.get_xattr(name).ok().flatten().as_deref() != Some(&bytes) {
                file.set_xattr(name, &bytes)
                    .map_err(|e| self.error("set an extended attribute of a file beside", e))?;
            }
        }
        if a.mtime_ns != 0 {
            futimens(file, &timespec(a.atime_ns), &timespec(a.mtime_ns))
                .map_err(|e| self.error("set the times of a file beside", e))?;
        }
        Ok(())
    }
}

fn unsupported(e: &io::Error) -> bool {
    e.raw_os_error().map(Errno::from_raw) == Some(Errno::ENOTSUP)
}

fn timespec(ns: i128) -> TimeSpec {
    let seconds = i64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0);
    let nanos = i64::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    TimeSpec::new(seconds, nanos)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::host::fs::Root;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn replace(root: &Root, path: &str, bytes: &[u8]) {
        let place = root.place(Path::new(path)).unwrap();
        place.write_temp("t", bytes, &place.attributes().unwrap()).unwrap();
        place.rename_temp("t").unwrap();
        place.sync_dir().unwrap();
    }

    #[test]
    fn a_replaced_file_keeps_mode_owner_and_extended_attributes() {
        let (dir, root) = tree();
        let file = dir.path().join("key");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let labelled = xattr::set(&file, "user.label", b"x").is_ok();
        replace(&root, "/key", b"new");
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
        if labelled {
            assert_eq!(xattr::get(&file, "user.label").unwrap().unwrap(), b"x");
        }
        assert_eq!(root.list(Path::new("/")).unwrap(), ["key"], "nothing is left over");
    }
}
