//! Kubeconfigs: who talks to which API server with what, and the exchange of an embedded identity that
//! leaves every other byte of the file as it was.

mod file;
mod places;
mod reference;

use std::path::{Path, PathBuf};

pub use reference::{fresh, referring, token};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::pem::decode_base64;
use super::plain;
use super::yaml::{self, YamlError};
use file::{File, Named, User};

/// Why a kubeconfig cannot be used. Never quotes it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KubeconfigError {
    #[error("{0}")]
    Yaml(#[from] YamlError),
    #[error("it is of another kind than Config of version v1")]
    Kind,
    #[error("no current-context is set; run kubectl config use-context")]
    NoCurrentContext,
    #[error("the current context names the {kind} `{name}`, which is not in it")]
    NotFound { kind: &'static str, name: String },
    #[error("there are {count} {kind}s called `{name}`; remove all but one")]
    Ambiguous { kind: &'static str, name: String, count: usize },
    #[error("{field} is not base64")]
    Base64 { field: &'static str },
    #[error("a client certificate is given without its key, or a key without its certificate")]
    HalfIdentity,
    #[error("the user's certificate and key are not embedded")]
    NotEmbedded,
    #[error("the value of {field} is not exactly once and on one line in the file")]
    NotOnce { field: &'static str },
    #[error("the value of {field} is not in the text of the file as it is read: write it on one line")]
    NotFoundInText { field: &'static str },
    #[error("after the exchange the file would not say what it should")]
    Exchange,
    #[error("it names no server")]
    NoServer,
    #[error(
        "its server {server} is not encrypted: who is on the way reads the token and can answer whatever it wants; make it \
         https:// in the file"
    )]
    ClearText { server: String },
    #[error("its server {server} is not an https:// address")]
    NotHttps { server: String },
}

/// A certificate or CA bundle, inline or in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Material {
    /// Decoded: PEM.
    Embedded(Vec<u8>),
    File(PathBuf),
}

impl Material {
    /// PEM; `read` reads the file that is named, as it is written ([`relative_to`]).
    ///
    /// # Errors
    /// Those of `read`.
    pub fn pem<E>(self, read: impl FnOnce(&Path) -> Result<Zeroizing<Vec<u8>>, E>) -> Result<Vec<u8>, E> {
        match self {
            Self::Embedded(pem) => Ok(pem),
            Self::File(path) => read(&path).map(|pem| pem.to_vec()),
        }
    }
}

/// How the current context's user authenticates.
#[derive(Clone, Eq, PartialEq)]
pub enum Identity {
    /// PEM, decoded from the `-data` fields, which win over the file fields as in client-go.
    Embedded { cert: Vec<u8>, key: Zeroizing<Vec<u8>> },
    /// As written; relative paths are relative to the kubeconfig's directory ([`relative_to`]).
    Files { cert: PathBuf, key: PathBuf },
    /// One of the two is in the kubeconfig and the other in a file, which client-go takes as well
    /// (client-go: `rest/config.go:LoadTLSFiles`).
    Apart { cert: Material, key: KeyMaterial },
    /// A token, a plugin, a password or nobody: no certificate to look after.
    Other,
}

/// A private key, inline or in a file.
#[derive(Clone, Eq, PartialEq)]
pub enum KeyMaterial {
    /// PEM, decoded.
    Embedded(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(_) => f.write_str("Embedded"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Identity {
    /// Its certificate, without the key. None where it has none.
    pub fn certificate(self) -> Option<Material> {
        match self {
            Self::Embedded { cert, .. } => Some(Material::Embedded(cert)),
            Self::Files { cert, .. } => Some(Material::File(cert)),
            Self::Apart { cert, .. } => Some(cert),
            Self::Other => None,
        }
    }

    /// Certificate and key, PEM; `read` reads the files that it names, as they are written ([`relative_to`]). None where it
    /// has no certificate.
    ///
    /// # Errors
    /// Those of `read`.
    #[allow(clippy::type_complexity, reason = "a certificate and its key")]
    pub fn pair<E>(
        self,
        read: impl Fn(&Path) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Option<(Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>)>, E> {
        let (cert, key) = match self {
            Self::Embedded { cert, key } => (Material::Embedded(cert), KeyMaterial::Embedded(key)),
            Self::Files { cert, key } => (Material::File(cert), KeyMaterial::File(key)),
            Self::Apart { cert, key } => (cert, key),
            Self::Other => return Ok(None),
        };
        let cert = Zeroizing::new(cert.pem(&read)?);
        let key = match key {
            KeyMaterial::Embedded(pem) => pem,
            KeyMaterial::File(path) => read(&path)?,
        };
        Ok(Some((cert, key)))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded { .. } => f.write_str("Embedded"),
            Self::Files { cert, key } => f.debug_struct("Files").field("cert", cert).field("key", key).finish(),
            Self::Apart { cert, .. } => f.debug_struct("Apart").field("cert", cert).finish_non_exhaustive(),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// What the current context says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kubeconfig {
    pub context: String,
    pub cluster: String,
    /// The API server's URL; None where the file leaves it out (client-go then assumes localhost).
    pub server: Option<String>,
    pub ca: Option<Material>,
    /// `insecure-skip-tls-verify`: whatever the server shows is taken.
    pub insecure: bool,
    /// `tls-server-name`: the name that the server's certificate is verified for.
    pub tls_server_name: Option<String>,
    pub user: String,
    pub identity: Identity,
    /// Users that the current context does not use.
    pub other_users: Vec<String>,
}

impl Kubeconfig {
    /// The server, where what is said to it would not be encrypted. Go's clients take the scheme in any case, and without one
    /// they speak TLS only where something in the file is about TLS (client-go: `rest/url_utils.go:defaultServerUrlFor`).
    pub fn in_clear(&self) -> Option<&str> {
        let server = self.server.as_deref()?;
        let about_tls = self.ca.is_some() || self.insecure || self.identity != Identity::Other;
        let in_clear = match server.split_once("://") {
            Some((scheme, _)) => scheme.trim().eq_ignore_ascii_case("http"),
            None => !about_tls,
        };
        in_clear.then_some(server)
    }

    /// The server that a credential may be sent to.
    ///
    /// # Errors
    /// [`KubeconfigError`]: there is none, or the way to it is open to everybody.
    pub fn secure_server(&self) -> Result<&str, KubeconfigError> {
        let server = self.server.as_deref().ok_or(KubeconfigError::NoServer)?;
        let shown = || plain::line(server, plain::CLAUSE);
        if self.in_clear().is_some() {
            return Err(KubeconfigError::ClearText { server: shown() });
        }
        let https = server.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if https { Ok(server) } else { Err(KubeconfigError::NotHttps { server: shown() }) }
    }
}

/// What the current context says; clusters and users besides are others' business.
///
/// # Errors
/// [`KubeconfigError`].
pub fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let file: File = yaml::parse(text)?;
    let says =
        |field: Option<&file::Text>, wanted: &str| field.is_none_or(|text| text.0.is_empty() || text.0 == wanted);
    if !says(file.kind.as_ref(), "Config") || !says(file.api_version.as_ref(), "v1") {
        return Err(KubeconfigError::Kind);
    }
    let given = |text: Option<file::Text>| text.map(|t| t.0).filter(|t| !t.is_empty());
    let context_name = given(file.current_context).ok_or(KubeconfigError::NoCurrentContext)?;
    let context = pick("context", file.contexts.unwrap_or_default(), &context_name)?.0;
    let context = context.context.unwrap_or_default();
    let (cluster_name, user_name) =
        (given(context.cluster).unwrap_or_default(), given(context.user).unwrap_or_default());
    let cluster = pick("cluster", file.clusters.unwrap_or_default(), &cluster_name)?.0.cluster.unwrap_or_default();
    let (user, others) = pick("user", file.users.unwrap_or_default(), &user_name)?;
    let user = user.user.unwrap_or_default();
    let ca = match (cluster.certificate_authority_data.given(), cluster.certificate_authority) {
        (Some(data), _) => Some(Material::Embedded(decode("certificate-authority-data", data)?.to_vec())),
        (None, Some(path)) if !path.as_os_str().is_empty() => Some(Material::File(path)),
        _ => None,
    };
    Ok(Kubeconfig {
        context: context_name,
        cluster: cluster_name,
        server: given(cluster.server),
        ca,
        insecure: cluster.insecure_skip_tls_verify.is_some_and(|s| s.0),
        tls_server_name: given(cluster.tls_server_name),
        user: user_name,
        identity: identity(user)?,
        other_users: others.into_iter().map(|u| u.name.unwrap_or_default().0).collect(),
    })
}

/// `path` as a kubeconfig at `kubeconfig` means it (client-go: `clientcmd.ResolveLocalPaths`).
pub fn relative_to(kubeconfig: &Path, path: &Path) -> PathBuf {
    kubeconfig.parent().map_or_else(|| path.to_path_buf(), |dir| dir.join(path))
}

/// `old` with another embedded identity: exactly the two base64 values are exchanged, every other byte is kept.
/// (kubeadm writes the whole file anew and keeps one certificate of the cluster's CA bundle;
/// kubernetes: `cmd/kubeadm/app/phases/certs/renewal/readwriter.go:kubeConfigReadWriter.Write`.)
///
/// # Errors
/// [`KubeconfigError`], among them `NotOnce` if an old value is folded over several lines or not unique.
pub fn graft(old: &str, cert_pem: &[u8], key_pem: &[u8]) -> Result<Zeroizing<String>, KubeconfigError> {
    let before = parse(old)?;
    let raw: File = yaml::parse(old)?;
    let user = pick("user", raw.users.unwrap_or_default(), &before.user)?.0.user.unwrap_or_default();
    let (Some(old_cert), Some(old_key)) = (user.client_certificate_data.given(), user.client_key_data.given()) else {
        return Err(KubeconfigError::NotEmbedded);
    };
    let new_key = Zeroizing::new(STANDARD.encode(key_pem));
    let certs = places::exchanged(old, old_cert, &STANDARD.encode(cert_pem));
    if certs.is_empty() {
        return Err(KubeconfigError::NotFoundInText { field: "client-certificate-data" });
    }
    let identity = Identity::Embedded { cert: cert_pem.to_vec(), key: Zeroizing::new(key_pem.to_vec()) };
    let wanted = Kubeconfig { identity, ..before };
    let mut error = KubeconfigError::NotFoundInText { field: "client-key-data" };
    // several users may have one credential, and a comment may quote it: of all places those that change nothing else
    for step in &certs {
        for new in places::exchanged(step, old_key, &new_key) {
            if parse(&new).as_ref() == Ok(&wanted) && super::compare::kubeconfigs(old, &new).is_empty() {
                return Ok(new);
            }
            error = KubeconfigError::Exchange;
        }
    }
    Err(error)
}

/// What a copy of the kubeconfig `old` becomes when that becomes `new`: the same if it is identical, else (`told`: its owner
/// may have added to it) itself with the new identity in the place of the old. None if it does not hold the identity of
/// `old`, certificate and key: who has not the old one gets no new one.
pub fn refreshed(copy: &str, old: &str, new: &str, told: bool) -> Option<Zeroizing<String>> {
    if copy == old {
        return Some(Zeroizing::new(new.to_owned()));
    }
    let identity = |text| match parse(text).ok()?.identity {
        Identity::Embedded { cert, key } => Some((cert, key)),
        Identity::Files { .. } | Identity::Apart { .. } | Identity::Other => None,
    };
    if !told || identity(copy)? != identity(old)? {
        return None;
    }
    let (cert, key) = identity(new)?;
    graft(copy, &cert, &key).ok()
}

fn identity(user: User) -> Result<Identity, KubeconfigError> {
    let file = |p: Option<PathBuf>| p.filter(|p| !p.as_os_str().is_empty());
    let cert = match user.client_certificate_data.given() {
        Some(data) => Some(Material::Embedded(decode("client-certificate-data", data)?.to_vec())),
        None => file(user.client_certificate).map(Material::File),
    };
    let key_data = user.client_key_data.given().map(|d| decode("client-key-data", d)).transpose()?;
    match (cert, key_data, file(user.client_key)) {
        (Some(Material::Embedded(cert)), Some(key), _) => Ok(Identity::Embedded { cert, key }),
        (Some(Material::File(cert)), None, Some(key)) => Ok(Identity::Files { cert, key }),
        (Some(cert), Some(key), _) => Ok(Identity::Apart { cert, key: KeyMaterial::Embedded(key) }),
        (Some(cert), None, Some(key)) => Ok(Identity::Apart { cert, key: KeyMaterial::File(key) }),
        (None, None, None) => Ok(Identity::Other),
        _ => Err(KubeconfigError::HalfIdentity),
    }
}

/// As Go does it: line ends are passed over, and no other white space is (encoding/base64: `decodeQuantum`). A plain scalar
/// that is wrapped has a space where its lines were, so that no client can read it.
fn decode(field: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, KubeconfigError> {
    let foreign = text.contains(|c: char| c.is_whitespace() && c != '\n' && c != '\r');
    let decoded = if foreign { None } else { decode_base64(text.as_bytes()) };
    decoded.ok_or(KubeconfigError::Base64 { field })
}

/// The one item called `name`, and the others.
fn pick<T: Named>(kind: &'static str, items: Vec<T>, name: &str) -> Result<(T, Vec<T>), KubeconfigError> {
    // client-go makes a map of each list, and refuses a name that is there twice, whoever uses it
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = items.iter().map(Named::name).find(|n| !seen.insert(*n)) {
        let count = items.iter().filter(|i| i.name() == twice).count();
        return Err(KubeconfigError::Ambiguous { kind, name: twice.to_owned(), count });
    }
    let (mut found, others): (Vec<T>, Vec<T>) = items.into_iter().partition(|i| i.name() == name);
    let name = name.to_owned();
    match (found.pop(), found.len()) {
        (Some(item), 0) => Ok((item, others)),
        (None, _) => Err(KubeconfigError::NotFound { kind, name }),
        (Some(_), more) => Err(KubeconfigError::Ambiguous { kind, name, count: more + 1 }),
    }
}

#[cfg(test)]
#[allow(missing_debug_implementations, reason = "made by proptest's macro")]
mod tests;
