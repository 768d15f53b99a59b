//! Makes new credentials in a directory of the transaction. Never writes a live path: `txn` does.

pub mod choice;
pub mod cluster_config;
pub mod csr;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod generation;
pub mod identity;
pub mod kubeadm;
mod layout;
pub mod local;
pub mod staging;
mod successor;
pub mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::host::Host;
use crate::host::crypto::CryptoError;
use crate::host::exec::ExecError;
use crate::host::fs::FsError;
use crate::model::inventory::{Form, Node};
use crate::model::plan::{Item, Source};
use crate::model::policy::Policy;

/// New files, not yet validated.
#[derive(Default)]
pub struct Staged {
    /// By live path as in [`crate::model::inventory::Form::files`].
    pub files: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// Links by their live path, and where they are to lead.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// What was noticed: sentences.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let links = self.links.keys();
        f.debug_struct("Staged")
            .field("files", &self.files.keys())
            .field("links", &links)
            .field("notes", &self.notes)
            .finish()
    }
}

/// What is to be made.
#[derive(Debug)]
pub struct Request<'a> {
    pub items: &'a [Item],
    pub node: &'a Node,
    pub policy: &'a Policy,
    /// Exists, 0700, on the host, inside the transaction.
    pub workdir: &'a Path,
    pub now: Timestamp,
    /// Whether to go on waiting for somebody else's answer.
    pub patience: Patience<'a>,
}

/// How long a caller goes on waiting.
#[derive(Clone, Copy)]
pub struct Patience<'a>(pub &'a dyn Fn() -> bool);

impl Patience<'_> {
    fn is_over(self) -> bool {
        !(self.0)()
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patience")
    }
}

/// For those who never wait.
pub const FOREVER: Patience<'static> = Patience(&|| true);

/// Why there are no new credentials. Nothing live has been touched.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(
        "kubeadm is not installed in /usr/bin, /usr/local/bin, /bin or /usr/sbin; install the cluster's version, or set renewer = \"local\""
    )]
    NoKubeadm,
    #[error("kubeadm does not tell its version: {detail}; reinstall it, or set renewer = \"local\"")]
    Version { detail: String },
    #[error("cannot stage: {reason}")]
    Staging { reason: String },
    /// It exited with an error or a signal killed it.
    #[error("kubeadm {ending} while renewing {name}: {words}")]
    Failed { name: String, ending: String, words: String },
    #[error(
        "kubeadm hung while renewing {name} and was killed after {limit}; if the machine is only slow, raise exec.kubeadm-timeout"
    )]
    Hung { name: String, limit: String },
    #[error("kubeadm exited 0 but did not renew {name}: {words}")]
    NotRenewed { name: String, words: String },
    #[error("kubeadm renewed {name} by half: {} is unchanged", path.display())]
    Half { name: String, path: PathBuf },
    #[error("while kubeadm was to renew {name}, {}; nothing of it is used", changes.join(", "))]
    Unexpected { name: String, changes: Vec<String> },
    #[error("what kubeadm wrote to {} cannot be used: {detail}", path.display())]
    Rubbish { path: PathBuf, detail: String },
    #[error("cannot put the new identity into {}: {detail}", path.display())]
    Graft { path: PathBuf, detail: String },
    #[error("cannot sign {name}")]
    Sign {
        name: String,
        #[source]
        source: CryptoError,
    },
    #[error("cannot sign {name}: {detail}")]
    CannotSign { name: String, detail: String },
    #[error("{name} cannot be renewed by {source_name}: {why}")]
    NotOurs { name: String, source_name: &'static str, why: String },
    #[error("a new {name} was asked for, and {detail}")]
    Request { name: String, detail: String },
    #[error(
        "a new {name} was asked for, and request {request} was denied: {why}; ask who denied it, then `certwarden renew {name}`"
    )]
    Denied { name: String, request: String, why: String },
    #[error("`{id}` is no transaction id")]
    TransactionId { id: String },
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Makes new credentials.
pub trait Renewer {
    /// All files of all items, or an error and nothing.
    ///
    /// # Errors
    /// [`RenewError`].
    fn stage(&self, host: &Host, request: &Request<'_>) -> Result<Staged, RenewError>;
}

/// The renewer that a plan asks for.
pub fn renewer(source: &Source) -> Box<dyn Renewer> {
    match source {
        Source::Kubeadm => Box::new(kubeadm::Kubeadm),
        // it signs whatever an item says that it is signed by
        Source::Local | Source::SelfMade => Box::new(local::Local),
        Source::Identity { ways } => Box::new(identity::OfKubelet { ways: ways.clone() }),
        Source::Generation { transaction } => Box::new(generation::Generation { transaction: transaction.clone() }),
    }
}

/// Whether an item's own files are such that a new credential can be made by them and put into them: what is known without
/// making one.
///
/// # Errors
/// [`RenewError`], as staging would say.
pub fn foresee(host: &Host, source: &Source, item: &Item) -> Result<(), RenewError> {
    let signed_here = match source {
        Source::Local => true,
        Source::Kubeadm => !kubeadm::is_kubeadms(item),
        Source::SelfMade | Source::Identity { .. } | Source::Generation { .. } => return Ok(()),
    };
    // the kubelet's own is like nothing that was there before
    if item.form.may_be_missing() {
        return Ok(());
    }
    if signed_here {
        local::foresee(host, item)?;
    } else {
        local::foresee_names(host, item)?;
    }
    match &item.form {
        Form::Kubeconfig { path } => kubeadm::takes_another(host, path),
        _ => Ok(()),
    }
}
