//! The files of a credential with a new leaf and key in them: what stood beside the old ones stays, the chain above all.

use std::path::Path;

use zeroize::Zeroizing;

use crate::host::Host;
use crate::model::credential;
use crate::model::pem::{New, successor};

/// A certificate's file and its key's.
pub(super) fn pair(
    host: &Host,
    (cert_path, key_path): (&Path, &Path),
    cert: &[u8],
    key: &[u8],
) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
    // one that cannot be read has nothing to be kept
    let old = |path: &Path| host.root.read_secret(path).unwrap_or_default();
    let new_cert = successor(&old(cert_path), New { leaf: Some(cert), key: None });
    let new_key = successor(&old(key_path), New { leaf: None, key: Some(key) });
    (new_cert, new_key)
}

/// One file with both; leaf first, then the key, where the old one is of no use.
pub(super) fn combined(old: &[u8], cert: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    successor(old, New { leaf: Some(cert), key: Some(key) })
}

/// Certificate and key as they are embedded in a kubeconfig.
pub(super) fn embedded(old: &[u8], cert: &[u8], key: &[u8]) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
    let (old_cert, old_key) = credential::embedded(old).unwrap_or_default();
    let new_cert = successor(&old_cert, New { leaf: Some(cert), key: None });
    (new_cert, successor(&old_key, New { leaf: None, key: Some(key) }))
}
