//! The certificate and key of a credential, from wherever they lie: live, staged or backed up.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::host::crypto;
use crate::host::fs::FsError;
use crate::host::kube::Identity;
use crate::model::inventory::Form;

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
    #[error("{} is not a kubeconfig that can be used: {detail}", path.display())]
    Kubeconfig { path: PathBuf, detail: String },
    #[error("{} is a CA, which is nothing to log in or serve with", path.display())]
    IsCa { path: PathBuf },
}

/// Reads a file by its live path; the caller decides where that path leads (staging, backup or the live file).
pub type Read<'a> = &'a dyn Fn(&Path) -> Result<Zeroizing<Vec<u8>>, FsError>;

/// # Errors
/// [`MaterialError`].
pub fn material(form: &Form, read: Read<'_>) -> Result<Material, MaterialError> {
    match form {
        Form::Pair { cert, key } => from_files(cert, key, read),
        Form::Combined { path } => from_files(path, path, read),
        Form::Kubeconfig { path } => from_kubeconfig(path, read),
        Form::Ca { cert, .. } => Err(MaterialError::IsCa { path: cert.clone() }),
    }
}

fn from_files(cert: &Path, key: &Path, read: Read<'_>) -> Result<Material, MaterialError> {
    let (certs, key_file) = (read(cert)?, read(key)?);
    Ok(Material { cert: cert_blocks(&certs, cert)?, key: key_blocks(&key_file, key)?, server: None, ca: None })
}

fn cert_blocks(pem: &[u8], path: &Path) -> Result<Vec<u8>, MaterialError> {
    let blocks = blocks(pem, |label| label == "CERTIFICATE");
    if blocks.is_empty() { Err(MaterialError::NoCertificate { path: path.into() }) } else { Ok(blocks.to_vec()) }
}

fn key_blocks(pem: &[u8], path: &Path) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    let blocks = blocks(pem, |label| label.ends_with("PRIVATE KEY"));
    if blocks.is_empty() { Err(MaterialError::NoKey { path: path.into() }) } else { Ok(blocks) }
}

/// The PEM blocks whose label is wanted, as they are.
fn blocks(pem: &[u8], wanted: impl Fn(&str) -> bool) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(pem.len())); // never grows: growing would leave copies behind
    let mut inside = false;
    for line in pem.split_inclusive(|b| *b == b'\n') {
        let text = std::str::from_utf8(line).unwrap_or_default().trim();
        if let Some(label) = text.strip_prefix("-----BEGIN ").and_then(|t| t.strip_suffix("-----")) {
            inside = wanted(label);
        }
        if inside {
            out.extend_from_slice(line);
        }
        if text.starts_with("-----END ") {
            inside = false;
        }
    }
    out
}

fn from_kubeconfig(path: &Path, read: Read<'_>) -> Result<Material, MaterialError> {
    let bad = |detail: String| MaterialError::Kubeconfig { path: path.into(), detail };
    let text = read(path)?;
    let text = std::str::from_utf8(&text).map_err(|e| bad(e.to_string()))?;
    let config: KubeconfigFile = serde_saphyr::from_str(text).map_err(|_| bad("it is not valid YAML".into()))?;
    let named = |what: &str, name: &str| bad(format!("it has no {what} {name:?}"));
    let current = config.current_context.as_str();
    let context =
        config.contexts.into_iter().find(|c| c.name == current).ok_or_else(|| named("context", current))?.context;
    let user =
        config.users.into_iter().find(|u| u.name == context.user).ok_or_else(|| named("user", &context.user))?.user;
    let cluster = config.clusters.into_iter().find(|c| c.name == context.cluster);
    let cluster = cluster.ok_or_else(|| named("cluster", &context.cluster))?.cluster;
    let resolve = |file: &str| path.parent().unwrap_or(Path::new("/")).join(file); // as clientcmd does
    let load = |what: &str, data: Option<String>, file: Option<String>| match (data.map(Zeroizing::new), file) {
        (Some(data), _) => crypto::base64_decode(&data).map(Some).map_err(|_| bad(format!("{what} is not base64"))),
        (None, Some(file)) => read(&resolve(&file)).map(Some).map_err(MaterialError::Fs),
        (None, None) => Ok(None),
    };
    let cert = load("client-certificate-data", user.cert_data, user.cert)?;
    let key = load("client-key-data", user.key_data, user.key)?;
    let ca = load("certificate-authority-data", cluster.ca_data, cluster.ca)?;
    Ok(Material {
        cert: cert_blocks(&cert.ok_or_else(|| bad("its user has no client certificate".into()))?, path)?,
        key: key_blocks(&key.ok_or_else(|| bad("its user has no client key".into()))?, path)?,
        server: Some(cluster.server),
        ca: ca.map(|c| c.to_vec()),
    })
}

// The parts of a kubeconfig that are needed to log in. To be replaced by `model::kubeconfig`.
#[derive(Deserialize)]
struct KubeconfigFile {
    #[serde(rename = "current-context")]
    current_context: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    server: String,
    #[serde(rename = "certificate-authority-data")]
    ca_data: Option<String>,
    #[serde(rename = "certificate-authority")]
    ca: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "client-certificate-data")]
    cert_data: Option<String>,
    #[serde(rename = "client-key-data")]
    key_data: Option<String>,
    #[serde(rename = "client-certificate")]
    cert: Option<String>,
    #[serde(rename = "client-key")]
    key: Option<String>,
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
        assert!(matches!(load(&ca, &files), Err(MaterialError::IsCa { .. })));
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
            (b"]]] c2VjcmV0".to_vec(), "not valid YAML"),
            (b"\xff\xfe".to_vec(), "utf-8"),
            (b"current-context: x\nclusters: []\ncontexts: []\nusers: []\n".to_vec(), "no context \"x\""),
        ] {
            let err = load(&form, &Files::from([("/k".into(), config)])).unwrap_err().to_string();
            assert!(err.contains(why) && !err.contains("c2VjcmV0"), "{err}");
        }
    }
}
