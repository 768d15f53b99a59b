//! `certwarden pause` of this node: a file, so that it holds without the cluster and across boots.

use std::path::Path;

use jiff::Timestamp;

use crate::host::fs::{FsError, Root};
use crate::model::fleet::notes::Pause;
use crate::txn::store;

const FILE: &str = "/var/lib/certwarden/pause.json";
const MAX: u64 = 64 << 10;

/// The pause that is not over. One that cannot be read holds too.
pub fn read(root: &Root, now: Timestamp) -> Option<Pause> {
    let text = match root.read(Path::new(FILE), MAX) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(FsError::NotFound { .. }) => return None,
        Err(e) => e.to_string(),
    };
    Some(Pause::parse(&text)).filter(|pause| !pause.is_over(now))
}

/// # Errors
/// [`FsError`].
pub fn write(root: &Root, pause: &Pause) -> Result<(), FsError> {
    store::prepare(root)?;
    let json = serde_json::to_vec_pretty(pause).map_err(|e| FsError::new("encode", Path::new(FILE), e))?;
    root.write(Path::new(FILE), &json, 0o600)
}

/// # Errors
/// [`FsError`]; that there is none is no error.
pub fn remove(root: &Root) -> Result<(), FsError> {
    match root.remove_file(Path::new(FILE)) {
        Err(FsError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_holds_across_processes_until_its_end_or_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(read(&root, at(0)), None);
        let pause = Pause::new(at(0), Some(at(100)), "network maintenance");
        write(&root, &pause).unwrap();
        assert_eq!(read(&root, at(99)), Some(pause));
        assert_eq!(read(&root, at(100)), None);
        std::fs::write(dir.path().join("var/lib/certwarden/pause.json"), "until tomorrow").unwrap();
        assert!(read(&root, at(100)).unwrap().reason.contains("cannot be read"), "somebody wanted it to stop");
        remove(&root).unwrap();
        remove(&root).unwrap();
        assert_eq!(read(&root, at(0)), None);
    }
}
