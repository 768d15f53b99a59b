//! The text that is served: read when a file has changed, kept in memory otherwise.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;

use crate::host::fs::{FsError, Root};
use crate::model::metrics::merge;
use crate::observe::{METRICS_FILE, WATCH_METRICS_FILE};

/// The daemon's are some 50 KiB; `certwarden watch` keeps to this itself, and 10 000 Secrets of three certificates each are 28 MiB.
const LARGEST: u64 = 48 << 20;

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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = [METRICS_FILE, WATCH_METRICS_FILE].map(|p| self.root.metadata(Path::new(p)).ok().map(Version::from));
        if let Some(kept) = kept.as_ref()
            && kept.versions == now
        {
            return Ok(kept.text.clone());
        }
        // before the new ones are read: both at once would be too much
        *kept = None;
        let (versions, text) = match (self.read(METRICS_FILE)?, self.read(WATCH_METRICS_FILE)?) {
            (None, None) => return Err(format!("{METRICS_FILE} is not there; does certwarden.service run?")),
            (Some((node, text)), None) => ([Some(node), None], text),
            (None, Some((watch, text))) => ([None, Some(watch)], text),
            (Some((node, a)), Some((watch, b))) => {
                let text = |bytes| String::from_utf8(bytes).map_err(|_| "metrics that are no text".to_owned());
                ([Some(node), Some(watch)], merge(&[&text(a)?, &text(b)?]).into())
            }
        };
        let text = Bytes::from(text);
        *kept = Some(Kept { versions, text: text.clone() });
        Ok(text)
    }

    fn read(&self, path: &str) -> Result<Option<(Version, Vec<u8>)>, String> {
        match self.root.read_with_metadata(Path::new(path), LARGEST) {
            Ok((bytes, meta)) => Ok(Some((meta.into(), bytes))),
            Err(FsError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}
