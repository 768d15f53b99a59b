//! Copies of admin.conf that people keep. They may lie where somebody else decides what a path means, so that no link is
//! followed on the way to one.

use std::cell::LazyCell;
use std::path::{Component, Path, PathBuf};

use super::Scene;
use super::catalogue;
use super::load::{self, Expected};
use crate::host::fs::FsError;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Copy, Entry, Form, Owner};
use crate::model::kubeconfig::{self, Identity};
use crate::model::policy::Kubeconfigs;

/// The entry of root's own, which is there without any configuration.
const ROOTS: (&str, &str) = ("/root/.kube/config", "root-kubeconfig");

/// The copies that follow admin.conf when it is renewed, and an entry for each that was left behind. Others' kubeconfigs are
/// none of our business.
pub(super) fn find(scene: &mut Scene<'_>, known: &[Entry], wanted: &Kubeconfigs) -> (Vec<Copy>, Vec<Entry>) {
    let Some(Entry { form: Form::Kubeconfig { path: admin }, .. }) = known.iter().find(|e| e.name == "admin.conf")
    else {
        return (Vec::new(), Vec::new());
    };
    let root = scene.root;
    // read when there is a first copy: most nodes have none
    let original = LazyCell::new(|| text_of(root.read_secret(admin)));
    let told = wanted.copies.iter().map(|path| Copy { path: path.clone(), told: true });
    let homes = wanted.homes.iter().map(|home| Copy { path: home.join(".kube/config"), told: false });
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    for copy in told.chain(homes) {
        let bytes = scene.root.place_without_links(&copy.path).and_then(|place| place.look()).map(|seen| seen.bytes);
        match bytes {
            Ok(bytes) => {
                let Some(original) = original.as_ref() else { break };
                let text = text_of(Ok(bytes)).unwrap_or_default();
                if kubeconfig::refreshed(&text, original, original, copy.told).is_some() {
                    fresh.push(copy);
                } else {
                    stale.extend(left_behind(scene, known, &copy.path, &text));
                }
            }
            Err(FsError::LinkOnTheWay { path }) if path == copy.path && leads_to(scene, &path, admin) => {}
            Err(e @ (FsError::LinkOnTheWay { .. } | FsError::SeveralNames { .. } | FsError::NotLocal { .. })) => {
                scene.notes.push(e.to_string());
            }
            // a home without one, or without leave to look
            Err(_) => {}
        }
    }
    (fresh, stale)
}

fn text_of(bytes: Result<zeroize::Zeroizing<Vec<u8>>, FsError>) -> Option<zeroize::Zeroizing<String>> {
    let bytes = bytes.ok()?;
    std::str::from_utf8(&bytes).ok().map(|text| zeroize::Zeroizing::new(text.to_owned()))
}

/// `ln -s /etc/kubernetes/admin.conf ~/.kube/config` is never left behind. By its text: to follow it may lead where nobody
/// answers. No other link is on the way to this one.
fn leads_to(scene: &Scene<'_>, link: &Path, admin: &Path) -> bool {
    let (Ok(target), Some(parent)) = (scene.root.read_link(link), link.parent()) else { return false };
    let mut end = PathBuf::new();
    for component in parent.join(target).components() {
        match component {
            Component::ParentDir => drop(end.pop()),
            other => end.push(other),
        }
    }
    end == admin
}

/// An entry if it is the same person's and older.
fn left_behind(scene: &Scene<'_>, known: &[Entry], path: &Path, text: &str) -> Option<Entry> {
    let admin = known.iter().find(|e| e.name == "admin.conf").and_then(Entry::leaf)?;
    let config = kubeconfig::parse(text).ok()?;
    let Identity::Embedded { cert, key } = &config.identity else { return None };
    let expected = Expected { signer: scene.authority("ca"), ..Expected::default() };
    let mut content = load::embedded(scene, path, &config, (cert, key), expected);
    let Content::Readable(credential) = &mut content else { return None };
    let leaf = credential.chain.first()?;
    let same_person = leaf.subject == admin.subject || leaf.common_name == admin.common_name;
    let foreign = credential.findings.iter().any(|f| f.id == Problem::WrongIssuer);
    if foreign || !same_person || leaf.der == admin.der || leaf.not_after >= admin.not_after {
        return None;
    }
    let message = format!("{} is older than admin.conf; copy admin.conf over it", path.display());
    credential.findings.push(Finding::new(Problem::StaleCopy, message));
    let own = (path == Path::new(ROOTS.0)).then(|| ROOTS.1.to_owned());
    Some(Entry {
        name: own.unwrap_or_else(|| format!("kubeconfig:{}", path.display())),
        form: Form::Kubeconfig { path: path.to_path_buf() },
        owner: Owner::None,
        used_by: Vec::new(),
        signer: Some("ca".to_owned()),
        trusted_by: None,
        impact: catalogue::COPY.to_owned(),
        content,
    })
}
