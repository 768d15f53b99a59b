//! Certificates of distributions that renew them by themselves: every pair in their directories, watched only.

use std::path::{Path, PathBuf};

use super::load::{self, Expected};
use super::{Scene, catalogue, pair_form};
use crate::host::fs::Root;
use crate::model::distribution::Distribution;
use crate::model::inventory::{Content, Entry, Form, Owner};

/// More files than this in one directory are not its certificates.
const MOST: usize = 200;
/// k0s names them by itself, snaps and Rancher's alike.
const ENDINGS: [&str; 2] = ["crt", "pem"];

/// Who has set this node up, if not kubeadm.
pub(super) fn recognise(root: &Root) -> Option<Distribution> {
    // a leftover of something else must not keep kubeadm's node from being renewed (kubeadm:
    // `phases/kubelet/flags.go:WriteKubeletDynamicEnvFile`)
    let kubeadm = ["/var/lib/kubelet/kubeadm-flags.env", "/etc/kubernetes/admin.conf"];
    if kubeadm.iter().any(|path| root.symlink_metadata(Path::new(path)).is_ok()) {
        return None;
    }
    Distribution::ALL.into_iter().find(|d| root.symlink_metadata(Path::new(d.mark())).is_ok())
}

/// Adds what lies in its directories and no entry has yet; and makes all of it the distribution's own business.
pub(super) fn add(scene: &Scene<'_>, distribution: Distribution, leaves: &mut Vec<Entry>) {
    for directory in distribution.directories().iter().map(Path::new) {
        for cert in certificates(scene.root, directory) {
            let known = |e: &Entry| e.form.files().contains(&cert.as_path());
            if !leaves.iter().any(known) {
                leaves.extend(entry(scene, distribution, &cert));
            }
        }
    }
    for entry in leaves.iter_mut().filter(|e| matches!(e.owner, Owner::Kubeadm | Owner::Certwarden)) {
        entry.owner = Owner::Distribution;
    }
}

fn certificates(root: &Root, directory: &Path) -> Vec<PathBuf> {
    let is_one = |name: &&String| Path::new(name).extension().is_some_and(|e| ENDINGS.iter().any(|x| e == *x));
    let names = root.list(directory).unwrap_or_default();
    // a kubelet's dated files are known by the link to the newest
    let dated = |name: &&String| name.starts_with("kubelet-") && name.chars().any(|c| c.is_ascii_digit());
    names.iter().filter(is_one).filter(|n| !dated(n)).take(MOST).map(|name| directory.join(name)).collect()
}

/// A leaf with its key, or a CA; None for what is no certificate at all, such as a public key.
fn entry(scene: &Scene<'_>, distribution: Distribution, cert: &Path) -> Option<Entry> {
    let beside = cert.with_extension("key");
    let key = if scene.lies(&beside) { beside } else { cert.to_path_buf() };
    let stem = cert.file_stem()?.to_string_lossy();
    let above = cert.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let above = above.filter(|n| n == "etcd" || n == "agent").map(|n| format!("{n}/")).unwrap_or_default();
    let name = format!("{}:{above}{stem}", distribution.name().to_ascii_lowercase());
    let authority = load::authority(scene, &name, cert.to_path_buf(), cert.with_extension("key"));
    let is_ca = matches!(&authority.content, Content::Readable(c) if c.chain.first().is_some_and(|l| l.is_ca));
    let (form, content, owner, impact) = if is_ca {
        let form = Form::Ca { cert: cert.to_path_buf(), key: cert.with_extension("key") };
        (form, authority.content, Owner::None, catalogue::CA)
    } else {
        let content = load::pair(scene, cert, &key, Expected::default());
        (pair_form(cert.to_path_buf(), key), content, Owner::Distribution, catalogue::OTHER_OF_DISTRIBUTION)
    };
    Some(Entry {
        name,
        form,
        owner,
        used_by: Vec::new(),
        signer: None,
        trusted_by: None,
        impact: impact.to_owned(),
        content,
    })
}
