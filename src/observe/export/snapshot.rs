//! The text that is served: read when a file has changed, kept in memory otherwise.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;

use crate::host::fs::{FsError, Root};
use crate::model::metrics::merge;
use crate::observe::{METRICS_FILE, WATCH_METRICS_FILE};

/// 10 000 Secrets are 20 MiB of text; this process has 64.
const LARGEST: u64 = 24 << 20;

/// A file at one moment: a rename brings another inode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
struct Kept {
    versions: [Option<Version>; 2],
    text: Bytes,
}

#[derive(Debug)]
pub(super) struct Snapshot {
    root: Root,
    kept: Mutex<Option<Kept>>,
}

impl Snapshot {
    pub(super) fn new(root: Root) -> Self {
        Self { root, kept: Mutex::new(None) }
    }

    /// What the daemon and `certwarden watch` wrote last, the latter only where it runs; or why there is nothing.
    pub(super) fn current(&self) -> Result<Bytes, String> {
        let versions = [METRICS_FILE, WATCH_METRICS_FILE].map(|path| self.version(Path::new(path)));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref().filter(|k| k.versions == versions && versions.iter().any(Option::is_some)) {
            return Ok(kept.text.clone());
        }
        let read = |path| match self.root.read(Path::new(path), LARGEST) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(FsError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.to_string()),
        };
        let text = match (read(METRICS_FILE)?, read(WATCH_METRICS_FILE)?) {
            (None, None) => return Err(format!("{METRICS_FILE} is not there; does certwarden.service run?")),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(node), Some(watch)) => merge(&[&node, &watch]),
        };
        let text = Bytes::from(text);
        *kept = Some(Kept { versions, text: text.clone() });
        Ok(text)
    }

    fn version(&self, path: &Path) -> Option<Version> {
        let meta = self.root.metadata(path).ok()?;
        Some(Version { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}
