//! The kubelet's own identity: a dated file and the link to it, and the kubeconfig that names the link.

use std::path::Path;

use zeroize::Zeroizing;

use super::layout::{joined, place, refer};
use super::{RenewError, Renewer, Request, Staged, csr, local};
use crate::host::Host;
use crate::model::credential;
use crate::model::inventory::Form;
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
