//! What is in the copy, by digest: kubeadm's exit code proves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StagingError, read_bounded};
use crate::host::fs::MAX_FILE;

/// How a path differs from before.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Written,
    Created,
    Removed,
    /// Owner or mode.
    Attributes,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Written => "written",
            Self::Created => "created",
            Self::Removed => "removed",
            Self::Attributes => "given another owner or mode",
        })
    }
}

/// What a path is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    File([u8; 32]),
    Link(PathBuf),
    Directory,
    /// FIFO, device, socket, or a file too large to be read: it is not ours.
    Other(u64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    kind: Kind,
    attributes: (u32, u32, u32),
}

/// Everything in the copied areas at one time, by live path.
#[derive(Clone, Debug)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Seen>);

impl Snapshot {
    /// `areas`: (live path, path of its copy).
    pub(super) fn take<'a>(areas: impl Iterator<Item = (&'a Path, &'a Path)>) -> Result<Self, StagingError> {
        let mut seen = BTreeMap::new();
        for (live, copy) in areas {
            walk(live, copy, &mut seen)?;
        }
        Ok(Self(seen))
    }

    /// Paths that differ in `now`.
    pub(super) fn changes(&self, now: &Self) -> Vec<(PathBuf, Change)> {
        let change = |path: &PathBuf| match (self.0.get(path), now.0.get(path)) {
            (None, Some(_)) => Some(Change::Created),
            (Some(old), Some(new)) if old.kind == new.kind => {
                (old.attributes != new.attributes).then_some(Change::Attributes)
            }
            (Some(Seen { kind: Kind::File(_), .. }), Some(Seen { kind: Kind::File(_), .. })) => Some(Change::Written),
            // a file that is now a link or a directory is not the file any more
            (Some(_), _) => Some(Change::Removed),
            (None, None) => None,
        };
        let mut all: Vec<&PathBuf> = self.0.keys().chain(now.0.keys()).collect();
        all.sort();
        all.dedup();
        all.into_iter().filter_map(|path| Some((path.clone(), change(path)?))).collect()
    }

    /// The file that held exactly these bytes, if one did.
    pub(super) fn who_had(&self, bytes: &[u8]) -> Option<&Path> {
        let digest = openssl::sha::sha256(bytes);
        self.0.iter().find(|(_, s)| s.kind == Kind::File(digest)).map(|(path, _)| path.as_path())
    }
}

fn walk(live: &Path, copy: &Path, seen: &mut BTreeMap<PathBuf, Seen>) -> Result<(), StagingError> {
    let meta = copy.symlink_metadata().map_err(StagingError::io("examine", live))?;
    let kind = if meta.is_dir() {
        Kind::Directory
    } else if meta.is_symlink() {
        Kind::Link(fs::read_link(copy).map_err(StagingError::io("read the link", live))?)
    } else if meta.is_file() && meta.len() <= MAX_FILE {
        let bytes = zeroize::Zeroizing::new(read_bounded(copy, MAX_FILE).map_err(StagingError::io("read", live))?);
        Kind::File(openssl::sha::sha256(&bytes))
    } else {
        Kind::Other(meta.len())
    };
    if kind == Kind::Directory {
        for entry in fs::read_dir(copy).map_err(StagingError::io("list", live))? {
            let entry = entry.map_err(StagingError::io("list", live))?;
            walk(&live.join(entry.file_name()), &entry.path(), seen)?;
        }
    }
    seen.insert(live.to_path_buf(), Seen { kind, attributes: (meta.uid(), meta.gid(), meta.mode() & 0o7777) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(act: impl FnOnce(&Path)) -> Vec<(PathBuf, Change)> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pki")).unwrap();
        for file in ["pki/ca.key", "pki/a.crt", "admin.conf"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let take = || Snapshot::take(std::iter::once((Path::new("/etc/kubernetes"), dir.path()))).unwrap();
        let before = take();
        act(dir.path());
        before.changes(&take())
    }

    fn live(path: &str) -> PathBuf {
        Path::new("/etc/kubernetes").join(path)
    }

    #[test]
    fn a_rewrite_with_the_same_bytes_is_no_renewal() {
        assert_eq!(changes(|d| fs::write(d.join("pki/a.crt"), "pki/a.crt").unwrap()), []);
    }

    #[test]
    fn every_kind_of_change_is_named_by_its_live_path() {
        let found = changes(|d| {
            fs::write(d.join("pki/a.crt"), "new").unwrap();
            fs::write(d.join("pki/b.crt"), "").unwrap();
            fs::remove_file(d.join("admin.conf")).unwrap();
            let mut mode = fs::metadata(d.join("pki/ca.key")).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o640);
            fs::set_permissions(d.join("pki/ca.key"), mode).unwrap();
        });
        let expected = [
            (live("admin.conf"), Change::Removed),
            (live("pki/a.crt"), Change::Written),
            (live("pki/b.crt"), Change::Created),
            (live("pki/ca.key"), Change::Attributes),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_became_a_link_is_not_taken_for_a_written_file() {
        let found = changes(|d| {
            fs::remove_file(d.join("pki/a.crt")).unwrap();
            std::os::unix::fs::symlink("ca.key", d.join("pki/a.crt")).unwrap();
        });
        assert_eq!(found, [(live("pki/a.crt"), Change::Removed)]);
    }
}
