//! What real nodes said, kept in `tests/recorded`: see the README there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A file of tests/recorded.
pub fn read(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes the files of a tree, which tests/recorded/pack has made one text of, below `root`.
pub fn unpack(text: &str, root: &Path) {
    let mut open: Option<(PathBuf, u32, String)> = None;
    for line in text.split_inclusive('\n') {
        let Some(head) = line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --\n")) else {
            open.as_mut().expect("a text begins with the name of a file").2.push_str(line);
            continue;
        };
        write(open.take());
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        if let Some((path, target)) = head.split_once(" -> ") {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            symlink(target, at(path)).unwrap();
        } else {
            let (path, mode) = head.rsplit_once(' ').unwrap();
            open = Some((at(path), u32::from_str_radix(mode, 8).unwrap(), String::new()));
        }
    }
    write(open);
}

fn write(file: Option<(PathBuf, u32, String)>) {
    let Some((path, mode, content)) = file else { return };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}
