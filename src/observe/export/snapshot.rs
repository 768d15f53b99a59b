//! The text that is served: read when a file has changed, kept in memory otherwise.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;

use crate::host::fs::{FsError, Root};
use crate::observe::METRICS_FILE;

/// Some 50 KiB in truth.
const LARGEST: u64 = 4 << 20;

/// A file at one moment: a rename brings another inode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<Metadata> for Version {
    fn from(meta: Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

#[derive(Debug)]
pub(super) struct Snapshot {
    root: Root,
    kept: Mutex<Option<(Version, Bytes)>>,
}

impl Snapshot {
    pub(super) fn new(root: Root) -> Self {
        Self { root, kept: Mutex::new(None) }
    }

    /// What the daemon wrote last, or why there is nothing.
    pub(super) fn current(&self) -> Result<Bytes, String> {
        let path = Path::new(METRICS_FILE);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.root.metadata(path).map(Version::from);
        if let (Some((version, text)), Ok(now)) = (kept.as_ref(), &now)
            && version == now
        {
            return Ok(text.clone());
        }
        match self.root.read_with_metadata(path, LARGEST) {
            Ok((bytes, meta)) => {
                let text = Bytes::from(bytes);
                *kept = Some((meta.into(), text.clone()));
                Ok(text)
            }
            Err(FsError::NotFound { .. }) => Err(format!("{METRICS_FILE} is not there; does certwarden.service run?")),
            Err(e) => Err(e.to_string()),
        }
    }
}
