//! The backup of an earlier transaction as the source of files (`certwarden rollback`).

use std::path::{Path, PathBuf};

use super::{RenewError, Renewer, Request, Staged};
use crate::host::Host;

/// Closed and open transactions.
const TRANSACTIONS: &str = "/var/lib/certwarden/transactions";

/// The old files of one transaction.
#[derive(Debug)]
pub struct Generation {
    pub transaction: String,
}

impl Renewer for Generation {
    fn stage(&self, host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
        let old = self.old()?;
        let mut staged = Staged::default();
        for path in request.items.iter().flat_map(|item| item.form.files()) {
            let backup = old.join(path.strip_prefix("/").unwrap_or(path));
            staged.files.insert(path.to_path_buf(), host.root.read_secret(&backup)?);
        }
        Ok(staged)
    }
}

impl Generation {
    /// An id is one plain path component: it comes from the command line.
    fn old(&self) -> Result<PathBuf, RenewError> {
        let id = &self.transaction;
        let plain = !id.is_empty()
            && !id.starts_with('.')
            && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if plain {
            Ok(Path::new(TRANSACTIONS).join(id).join("old"))
        } else {
            Err(RenewError::TransactionId { id: id.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_cannot_lead_out_of_the_transactions() {
        for id in ["", ".", "..", "../../etc", "a/b", ".hidden", "a\0b"] {
            assert!(Generation { transaction: id.into() }.old().is_err(), "{id}");
        }
        let old = Generation { transaction: "20261122T031500Z-1f".into() }.old().unwrap();
        assert_eq!(old, Path::new("/var/lib/certwarden/transactions/20261122T031500Z-1f/old"));
    }
}
