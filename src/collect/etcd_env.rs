//! etcd's settings where it is a service of its own.

use std::path::{Path, PathBuf};

use super::Scene;

/// etcd's settings where kubespray runs it as a service (`etcd_deployment_type: host`).
const ETCD_ENV: &str = "/etc/etcd.env";

/// The file that a setting names.
pub(super) fn etcd_setting(scene: &Scene<'_>, name: &str) -> Option<PathBuf> {
    let text = scene.root.read_text(Path::new(ETCD_ENV)).ok()?;
    let line = text.lines().rev().find_map(|l| l.trim().strip_prefix(name)?.trim().strip_prefix('='))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}
