//! Who asks the API server: a kubeconfig, given by `LoadCredential=` or by a person.

use std::path::Path;
use std::time::Duration;

use super::WatchError;
use crate::host::fs::Root;
use crate::host::kube::{Connection, Identity};
use crate::model::kubeconfig::{self, parse, relative_to};

/// For connect, handshake and the head of an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// The connection that the current context describes, by certificate or token.
///
/// # Errors
/// [`WatchError`]; a server that nothing verifies is one.
pub(super) fn connection(root: &Root, path: &Path) -> Result<Connection, WatchError> {
    let text = root.read_text(path).map(zeroize::Zeroizing::new).map_err(WatchError::Unreadable)?;
    let faulty = |source| WatchError::Kubeconfig { path: path.to_path_buf(), source };
    let unusable = |detail| WatchError::Unusable { path: path.to_path_buf(), detail };
    let config = parse(&text).map_err(faulty)?;
    let server = config.secure_server().map_err(faulty)?.to_owned();
    let read = |file: &Path| root.read_secret(&relative_to(path, file)).map_err(WatchError::Unreadable);
    let ca = match config.ca {
        Some(ca) => ca.pem(read)?,
        None => return Err(unusable("it names no CA, so whoever answers would be believed")),
    };
    let pair = config.identity.pair(read)?;
    let identity = pair.map(|(cert, key)| Identity { cert: cert.to_vec(), key });
    let mut headers = Vec::new();
    match kubeconfig::token(&text).map_err(faulty)? {
        Some(token) => headers.push(("Authorization".to_owned(), format!("Bearer {}", token.trim()))),
        None if identity.is_none() => return Err(unusable("its user has neither a client certificate nor a token")),
        None => {}
    }
    Ok(Connection { server, ca: Some(ca), identity, headers, limit: LIMIT })
}
