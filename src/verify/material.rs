//! The certificate and key of a credential, from wherever they lie: live, staged or backed up.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::host::fs::FsError;
use crate::host::kube::Identity;
use crate::model::credential::{self, PartsError, References, Unusable};
use crate::model::inventory::Form;
use crate::model::{kubeconfig, pem};

/// What a client or server needs to use a credential. `Debug` shows no key.
#[derive(Clone)]
pub struct Material {
    /// PEM, leaf first; certificates only.
    pub cert: Vec<u8>,
    /// PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// A kubeconfig's API server, a URL.
    pub server: Option<String>,
    /// A kubeconfig's CA bundle, PEM.
    pub ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Material {
    pub fn identity(&self) -> Identity {
        Identity { cert: self.cert.clone(), key: self.key.clone() }
    }
}

/// Why a credential cannot be put to use.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key", path.display())]
    NoKey { path: PathBuf },
    #[error("{} cannot be used: {why}", path.display())]
    Unusable { path: PathBuf, why: Unusable },
}

/// Reads a file by its live path; the caller decides where that path leads (staging, backup or the live file).
pub type Read<'a> = &'a dyn Fn(&Path) -> Result<Zeroizing<Vec<u8>>, FsError>;

/// # Errors
/// [`MaterialError`].
pub fn material(form: &Form, read: Read<'_>) -> Result<Material, MaterialError> {
    let holder = form.holder();
    let parts = credential::parts(form, References::Follow, read).map_err(|e| match e {
        PartsError::Read(e) => MaterialError::Fs(e),
        PartsError::Unusable(why) => MaterialError::Unusable { path: holder.into(), why },
    })?;
    let cert = pem::certificates(&parts.cert);
    if cert.is_empty() {
        return Err(MaterialError::NoCertificate { path: holder.into() });
    }
    let key = pem::private_keys(&parts.key);
    if key.is_empty() {
        let path = if let Form::Pair { key, .. } = form { key } else { holder };
        return Err(MaterialError::NoKey { path: path.into() });
    }
    let (server, ca) = parts.config.map(|config| (config.server, config.ca)).unwrap_or_default();
    let beside = |file: &Path| read(&kubeconfig::relative_to(holder, file));
    Ok(Material { cert, key, server, ca: ca.map(|ca| ca.pem(beside)).transpose()? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};

    type Files = BTreeMap<PathBuf, Vec<u8>>;

    fn load(form: &Form, files: &Files) -> Result<Material, MaterialError> {
        material(form, &|path| {
            let found = files.get(path).cloned().map(Zeroizing::new);
            found.ok_or_else(|| FsError::NotFound { path: path.into() })
        })
    }

    fn kubeconfig(user: &str) -> Vec<u8> {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: b@k\nclusters:\n- name: k\n  cluster:\n    server: https://h:6443\n    \
             certificate-authority-data: Q0E=\ncontexts:\n- name: a@k\n  context: {{cluster: k, user: a}}\n- name: b@k\n  \
             context: {{cluster: k, user: b}}\nusers:\n- name: a\n  user: {{}}\n- name: b\n  user:\n    {user}\n"
        )
        .into_bytes()
    }

    #[test]
    fn certificates_and_keys_are_taken_apart() {
        let pair = Ca::new("ca").issue(&Leaf::client("a", &[]));
        let both = [&b"# comment\n"[..], &pair.cert, &pair.key].concat();
        let files = Files::from([("/c.pem".into(), both)]);
        let got = load(&Form::Combined { path: "/c.pem".into() }, &files).unwrap();
        assert_eq!((got.cert, got.key), (pair.cert.clone(), pair.key.clone()));

        let files = Files::from([("/a.crt".into(), pair.cert.clone()), ("/a.key".into(), pair.key.to_vec())]);
        let form = Form::Pair { cert: "/a.crt".into(), key: "/a.key".into() };
        assert_eq!(load(&form, &files).unwrap().key, pair.key);
        let swapped = Form::Pair { cert: "/a.key".into(), key: "/a.crt".into() };
        assert!(matches!(load(&swapped, &files), Err(MaterialError::NoCertificate { .. })));
        let keyless = Form::Combined { path: "/a.crt".into() };
        assert!(matches!(load(&keyless, &files), Err(MaterialError::NoKey { .. })));
        let ca = Form::Ca { cert: "/a.crt".into(), key: "/a.key".into() };
        assert!(matches!(load(&ca, &files), Err(MaterialError::Unusable { why: Unusable::IsCa, .. })));
    }

    #[test]
    fn a_kubeconfig_s_current_user_counts_embedded_or_by_file() {
        let pair = Ca::new("ca").issue(&Leaf::client("b", &[]));
        let (cert, key) = (openssl::base64::encode_block(&pair.cert), openssl::base64::encode_block(&pair.key));
        let form = Form::Kubeconfig { path: "/etc/k.conf".into() };
        let embedded = kubeconfig(&format!("client-certificate-data: {cert}\n    client-key-data: {key}"));
        let by_file = kubeconfig("client-certificate: b.pem\n    client-key: /etc/b.pem");
        let both = [pair.cert.clone(), pair.key.to_vec()].concat();
        for config in [embedded, by_file] {
            let files = Files::from([("/etc/k.conf".into(), config), ("/etc/b.pem".into(), both.clone())]);
            let got = load(&form, &files).unwrap();
            assert_eq!((&got.cert, &got.key), (&pair.cert, &pair.key));
            assert_eq!((got.server.as_deref(), got.ca.as_deref()), (Some("https://h:6443"), Some(&b"CA"[..])));
            assert!(!format!("{got:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_says_why_and_shows_no_key() {
        let form = Form::Kubeconfig { path: "/k".into() };
        for (config, why) in [
            (kubeconfig("{}"), "has no client certificate"),
            (kubeconfig("client-certificate-data: '%%'"), "client-certificate-data is not base64"),
            (kubeconfig("client-certificate-data: Q0E="), "without its key"),
            (b"]]] c2VjcmV0".to_vec(), "not YAML"),
            (b"\xff\xfe".to_vec(), "not text"),
            (
                b"current-context: x\nclusters: []\ncontexts: []\nusers: []\n".to_vec(),
                "the context `x`, which is not in it",
            ),
        ] {
            let err = load(&form, &Files::from([("/k".into(), config)])).unwrap_err().to_string();
            assert!(err.contains(why) && !err.contains("c2VjcmV0"), "{err}");
        }
    }
}
