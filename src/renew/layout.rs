//! How a new identity lies on the disk: in one file, behind links, named or embedded in a kubeconfig.

use std::path::Path;

use zeroize::Zeroizing;

use super::{RenewError, Request, Staged, successor};
use crate::host::Host;
use crate::host::fs::{FsError, MAX_FILE};
use crate::model::credential;
use crate::model::inventory::Form;
use crate::model::kubeconfig::{self, KubeconfigError};
use crate::model::plan::Item;

/// Leaf first, then the key, each with its own last line.
pub(super) fn joined(cert: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut both = Zeroizing::new(Vec::with_capacity(cert.len() + key.len() + 2)); // growing would leave copies behind
    for part in [cert, key] {
        both.extend_from_slice(part);
        if !part.ends_with(b"\n") {
            both.push(b'\n');
        }
    }
    both
}

/// The new file, and everything that is to lead to it.
pub(super) fn place(form: &Form, pem: Zeroizing<Vec<u8>>, staged: &mut Staged) {
    let Form::Dated { file, link, obstacle } = form else { return };
    staged.files.insert(file.clone(), pem);
    for link in [link].into_iter().chain(obstacle) {
        staged.links.insert(link.clone(), file.clone());
    }
}

/// The kubeconfig with references: its own text but for two lines, or anew where it says nothing any more.
pub(super) fn refer(
    host: &Host,
    request: &Request<'_>,
    item: &Item,
    (config, link): (&Path, &Path),
    staged: &mut Staged,
) -> Result<(), RenewError> {
    let old = match host.root.read_secret(config) {
        Err(FsError::NotFound { .. } | FsError::Dangling { .. }) => Zeroizing::default(),
        other => other?,
    };
    let graft = |e: KubeconfigError| RenewError::Graft { path: config.to_path_buf(), detail: e.to_string() };
    let text = std::str::from_utf8(&old).ok().filter(|t| kubeconfig::parse(t).is_ok());
    let new = if let Some(text) = text {
        kubeconfig::referring(text, link).map_err(graft)?.as_bytes().to_vec()
    } else {
        let server = request.node.kubelet.identity.server.as_deref();
        let nowhere = || RenewError::CannotSign { name: item.name.clone(), detail: "no API server is known".into() };
        let ca = host.root.read(&item.ca, MAX_FILE)?;
        staged.notes.push(format!("{} was made anew: it said nothing any more", config.display()));
        kubeconfig::fresh(server.ok_or_else(nowhere)?, &ca, link).into_bytes()
    };
    staged.files.insert(config.to_path_buf(), Zeroizing::new(new));
    Ok(())
}

/// The old kubeconfig with a new certificate and key, and every other byte as it was.
pub(super) fn grafted(path: &Path, old: &[u8], cert: &[u8], key: &[u8]) -> Result<Zeroizing<Vec<u8>>, RenewError> {
    let graft = |detail: String| RenewError::Graft { path: path.to_path_buf(), detail };
    let text = credential::text(old).map_err(|e| graft(e.to_string()))?;
    let (cert, key) = successor::embedded(old, cert, key);
    let new = kubeconfig::graft(text, &cert, &key).map_err(|e| graft(e.to_string()))?;
    Ok(Zeroizing::new(new.as_bytes().to_vec()))
}
