//! Directories that the unit makes writable.
//!
//! Under `ProtectSystem=strict` systemd makes a mount of each `ReadWritePaths=` when the service starts. A directory that is made
//! or replaced later (`kubeadm join` after the package was installed, `mv` and `mkdir`) is seen, and is read-only (systemd.exec(5);
//! measured). Only a new start of the service helps.

use std::path::{Path, PathBuf};

use crate::host::fs::Root;

/// `ReadWritePaths=` of certwarden.service.
const WRITABLE: [&str; 5] = [
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/root/.kube",
    "/var/lib/node_exporter/textfile_collector",
    "/var/lib/prometheus/node-exporter",
];

/// Which of them could not be written at the start although they were there: a new start would not help them.
#[derive(Debug)]
pub(super) struct Mounts {
    hopeless: Vec<&'static str>,
}

impl Mounts {
    pub(super) fn new(root: &Root) -> Self {
        Self { hopeless: WRITABLE.into_iter().filter(|d| is_read_only(root, d)).collect() }
    }

    /// A directory that a new start would make writable.
    pub(super) fn outdated(&self, root: &Root) -> Option<PathBuf> {
        let found = WRITABLE.into_iter().find(|d| !self.hopeless.contains(d) && is_read_only(root, d));
        found.map(PathBuf::from)
    }
}

fn is_read_only(root: &Root, directory: &str) -> bool {
    root.is_read_only(Path::new(directory)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_makes_these_writable_and_no_others() {
        let unit = include_str!("../../systemd/certwarden.service");
        let listed = unit.lines().filter_map(|l| l.strip_prefix("ReadWritePaths=")).flat_map(str::split_whitespace);
        let listed: Vec<&str> = listed.collect();
        assert!(
            listed.iter().all(|path| path.starts_with('-')),
            "one that is not there must not keep the unit from starting"
        );
        assert_eq!(listed.iter().map(|path| &path[1..]).collect::<Vec<_>>(), WRITABLE);
    }
}
