//! `status.json`: for everybody on the node, so without secrets; replaced as a whole, so never half.

use std::path::Path;

use super::status::{SCHEMA, Status};
use crate::host::fs::{FsError, Root};
use crate::model::plain;

pub const STATUS_FILE: &str = "/run/certwarden/status.json";
pub(super) const RUNTIME_DIR: &str = "/run/certwarden";
/// Some KiB in truth.
const MAX_STATUS: u64 = 1 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("{STATUS_FILE} is not a status of this version of certwarden: {detail}")]
    Malformed { detail: String },
}

/// Replaces `status.json`. On a tmpfs, where syncing wakes no disk.
///
/// # Errors
/// [`ObserveError::Fs`]; the old file is then untouched.
pub fn publish(root: &Root, status: &Status) -> Result<(), ObserveError> {
    let path = Path::new(STATUS_FILE);
    let json = serde_json::to_string_pretty(status).map_err(|e| FsError::new("encode", path, e))?;
    // people show it on terminals, too
    let json = plain::json(&json).into_owned() + "\n";
    // systemd makes it (RuntimeDirectory=); this is for a daemon that a person starts
    root.create_dir_all(Path::new(RUNTIME_DIR), 0o755)?;
    Ok(root.write(path, json.as_bytes(), 0o644)?)
}

/// The status that the daemon published last.
///
/// # Errors
/// [`ObserveError`]; `NotFound` in it means that no daemon runs.
pub fn read(root: &Root) -> Result<Status, ObserveError> {
    let bytes = root.read(Path::new(STATUS_FILE), MAX_STATUS)?;
    let malformed = |detail| ObserveError::Malformed { detail };
    let status: Status = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    if status.schema == SCHEMA { Ok(status) } else { Err(malformed(format!("schema `{}`", status.schema))) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::observe::line::tests::status;

    #[test]
    fn what_is_published_can_be_read_by_everybody_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        publish(&root, &status()).unwrap();
        publish(&root, &status()).unwrap();
        assert_eq!(read(&root).unwrap(), status());
        assert_eq!(root.metadata(Path::new(STATUS_FILE)).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(root.list(Path::new(RUNTIME_DIR)).unwrap(), ["status.json"]);
    }

    #[test]
    fn below_another_root_nothing_is_published_outside_of_it() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::open(dir.path()).unwrap();
        symlink(outside.path(), dir.path().join("run")).unwrap();
        assert!(publish(&root, &status()).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        // as images have it
        std::fs::create_dir(dir.path().join("volatile")).unwrap();
        std::fs::remove_file(dir.path().join("run")).unwrap();
        symlink("/volatile", dir.path().join("run")).unwrap();
        publish(&root, &status()).unwrap();
        assert!(dir.path().join("volatile/certwarden/status.json").is_file());
    }

    #[test]
    fn rubbish_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(matches!(read(&root), Err(ObserveError::Fs(FsError::NotFound { .. }))));
        publish(&root, &status()).unwrap();
        for text in ["", "{}", "[]", "\0"] {
            std::fs::write(root.on_host(Path::new(STATUS_FILE)), text).unwrap();
            assert!(matches!(read(&root), Err(ObserveError::Malformed { .. })), "{text}");
        }
    }
}
