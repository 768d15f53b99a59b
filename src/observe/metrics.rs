//! `metrics.prom`: for whoever scrapes this node, by `certwarden export` or by node_exporter.

use std::path::{Path, PathBuf};

use super::publish::RUNTIME_DIR;
use crate::host::fs::{FsError, Root};
use crate::model::cause::chain;

/// What `certwarden export` serves.
pub const METRICS_FILE: &str = "/run/certwarden/metrics.prom";
/// What `certwarden watch` adds; in a directory of its own, because its user is another.
pub const WATCH_METRICS_FILE: &str = "/run/certwarden-watch/metrics.prom";
/// Its name in the directories of textfile collectors.
const TEXTFILE: &str = "certwarden.prom";

/// Replaces `metrics.prom`, and `certwarden.prom` in each of these directories that is there. How many could not be
/// written: metrics never stop anything.
pub fn publish_metrics(root: &Root, text: &str, directories: &[PathBuf]) -> u64 {
    let own = || -> Result<(), FsError> {
        root.create_dir_all(Path::new(RUNTIME_DIR), 0o755)?;
        root.write(Path::new(METRICS_FILE), text.as_bytes(), 0o644)
    };
    let others = directories.iter().filter(|d| root.metadata(d).is_ok_and(|m| m.is_dir()));
    let written = others.map(|d| root.write_for_others(&d.join(TEXTFILE), text.as_bytes()));
    let failed = std::iter::once(own()).chain(written).filter_map(Result::err);
    failed.inspect(|e| tracing::debug!("metrics are not written: {}", chain(e))).count().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const COLLECTOR: &str = "/var/lib/prometheus/node-exporter";

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn directories() -> Vec<PathBuf> {
        vec![COLLECTOR.into(), "/var/lib/nobody/has/it".into()]
    }

    #[test]
    fn metrics_are_for_everybody_and_a_collector_that_is_not_there_gets_no_directory() {
        let (dir, root) = tree();
        std::fs::create_dir_all(root.on_host(Path::new(COLLECTOR))).unwrap();
        assert_eq!(publish_metrics(&root, "a 1\n", &directories()), 0);
        assert_eq!(publish_metrics(&root, "a 2\n", &directories()), 0);
        for path in [METRICS_FILE, "/var/lib/prometheus/node-exporter/certwarden.prom"] {
            assert_eq!(root.read_text(Path::new(path)).unwrap(), "a 2\n");
            assert_eq!(root.metadata(Path::new(path)).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(root.list(Path::new(COLLECTOR)).unwrap(), ["certwarden.prom"], "nothing is left over");
        assert!(!dir.path().join("var/lib/nobody").exists());
    }

    #[test]
    fn a_link_in_a_directory_of_somebody_else_is_replaced_and_never_written_through() {
        let (dir, root) = tree();
        std::fs::create_dir_all(root.on_host(Path::new(COLLECTOR))).unwrap();
        std::fs::write(dir.path().join("shadow"), "secret").unwrap();
        symlink("/shadow", root.on_host(Path::new(COLLECTOR)).join("certwarden.prom")).unwrap();
        assert_eq!(publish_metrics(&root, "a 1\n", &directories()), 0);
        assert_eq!(std::fs::read_to_string(dir.path().join("shadow")).unwrap(), "secret");
        // a directory that is a link itself
        let (dir, root) = tree();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/prometheus")).unwrap();
        symlink("/etc", root.on_host(Path::new(COLLECTOR))).unwrap();
        assert_eq!(publish_metrics(&root, "a 1\n", &directories()), 1, "told, and nothing else");
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 0);
    }
}
