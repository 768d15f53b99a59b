//! The kubelet's own identity: a dated file and the link to it, and the kubeconfig that names the link.

use std::path::Path;

use zeroize::Zeroizing;

use super::{RenewError, Renewer, Request, Staged, csr, local};
use crate::host::Host;
use crate::host::fs::{FsError, MAX_FILE};
use crate::model::credential;
use crate::model::inventory::Form;
use crate::model::kubeconfig::{self, KubeconfigError};
use crate::model::plan::Item;
use crate::model::repair::Way;

/// By the first of the ways that works.
#[derive(Debug)]
pub struct OfKubelet {
    pub ways: Vec<Way>,
}

impl Renewer for OfKubelet {
    fn stage(&self, host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
        let mut staged = Staged::default();
        for item in request.items {
            match &item.form {
                Form::Dated { .. } => {
                    let pem = self.first(host, request, item, &mut staged.notes)?;
                    place(&item.form, pem, &mut staged);
                }
                Form::Reference { config, link, .. } => refer(host, request, item, (config, link), &mut staged)?,
                _ => {
                    let why = "it is not the kubelet's own".to_owned();
                    return Err(RenewError::NotOurs { name: item.name.clone(), source_name: "a request", why });
                }
            }
        }
        Ok(staged)
    }
}

impl OfKubelet {
    /// The last error is the one to report; those before it are noted. A request that somebody denied ends the search.
    fn first(
        &self,
        host: &Host,
        request: &Request<'_>,
        item: &Item,
        notes: &mut Vec<String>,
    ) -> Result<Zeroizing<Vec<u8>>, RenewError> {
        let mut last = RenewError::CannotSign { name: item.name.clone(), detail: "there is no way to it".into() };
        for way in &self.ways {
            let made = match way {
                Way::Adopt { file, embedded } => adopt(host, file, *embedded),
                Way::Request { with, server } => csr::obtain(host, request, item, with, server),
                Way::Sign => local::sign_node(host, request, item),
            };
            match made {
                Err(e @ RenewError::Denied { .. }) => return Err(e),
                Err(e) => {
                    notes.push(format!("not by {way}: {}", crate::model::cause::chain(&e)));
                    last = e;
                }
                made => return made,
            }
        }
        notes.pop(); // told as the reason
        Err(last)
    }
}

/// The identity in a file that is good: as it is, or certificate and key as the kubelet lays them out
/// (client-go: `certificate_store.go:Update`).
fn adopt(host: &Host, file: &Path, embedded: bool) -> Result<Zeroizing<Vec<u8>>, RenewError> {
    let bytes = host.root.read_secret(file)?;
    if !embedded {
        return Ok(bytes);
    }
    let (cert, key) = credential::embedded(&bytes)
        .map_err(|e| RenewError::Graft { path: file.to_path_buf(), detail: e.to_string() })?;
    Ok(joined(&cert, &key))
}

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
