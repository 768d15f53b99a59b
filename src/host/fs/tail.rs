//! The end of a file that may be long: a log.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::{FsError, Root};

impl Root {
    /// The last bytes of a regular file, at most `limit`, from the beginning of a line; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_end(&self, path: &Path, limit: u64) -> Result<String, FsError> {
        let (mut file, meta) = self.open_file(path)?;
        let from = meta.len().saturating_sub(limit);
        let failed = |e| FsError::new("read", path, e);
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // the first line is cut, unless the file begins with it
        Ok(if from == 0 { text } else { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_file_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("log"), "first\nsecond\n\u{fffd}third\n").unwrap();
        let end = |limit| root.read_end(Path::new("/log"), limit).unwrap();
        assert_eq!(end(1000), "first\nsecond\n\u{fffd}third\n");
        assert_eq!(end(15), "\u{fffd}third\n");
        assert_eq!(end(3), "");
        assert!(root.read_end(Path::new("/none"), 3).is_err());
    }
}
