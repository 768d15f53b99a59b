//! A control-plane node's file system whose certificates are due in three days.

use std::path::Path;

use crate::Result;
use crate::support::{DAY, KeyKind, Options, Tree};

pub fn build(dir: &Path) -> Result<()> {
    if dir.read_dir().is_ok_and(|mut d| d.next().is_some()) {
        return Err(format!("{} is not empty; name a new directory", dir.display()).into());
    }
    let options = Options { keys: KeyKind::Rsa2048, left: 3 * DAY + 3600, ..Options::default() };
    // kubelets rotate their own; these are healthy
    let options = options.left_of("kubelet-client", 200 * DAY).left_of("kubelet-serving", 200 * DAY);
    let tree = Tree::build(dir, options);
    println!("{} is a node whose certificates are due in three days", tree.root.display());
    Ok(())
}
