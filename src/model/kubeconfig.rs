//! Kubeconfigs: who talks to which API server with what, and the exchange of an embedded identity that
//! leaves every other byte of the file as it was.

mod reference;

use std::path::{Path, PathBuf};

pub use reference::{fresh, referring, token};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::pem::decode_base64;
use super::yaml::{self, YamlError};

/// Why a kubeconfig cannot be used. Never quotes it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KubeconfigError {
    #[error("{0}")]
    Yaml(#[from] YamlError),
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
    #[error("after the exchange the file would not say what it should")]
    Exchange,
}

/// A certificate or CA bundle, inline or in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Material {
    /// Decoded: PEM.
    Embedded(Vec<u8>),
    File(PathBuf),
}

/// How the current context's user authenticates.
#[derive(Clone, Eq, PartialEq)]
pub enum Identity {
    /// PEM, decoded from the `-data` fields, which win over the file fields as in client-go.
    Embedded { cert: Vec<u8>, key: Zeroizing<Vec<u8>> },
    /// As written; relative paths are relative to the kubeconfig's directory ([`relative_to`]).
    Files { cert: PathBuf, key: PathBuf },
    /// A token, a plugin, a password or nobody: no certificate to look after.
    Other,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded { .. } => f.write_str("Embedded"),
            Self::Files { cert, key } => f.debug_struct("Files").field("cert", cert).field("key", key).finish(),
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
    pub user: String,
    pub identity: Identity,
    /// Users that the current context does not use.
    pub other_users: Vec<String>,
}

/// What the current context says; clusters and users besides are others' business.
///
/// # Errors
/// [`KubeconfigError`].
pub fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let file: File = yaml::parse(text)?;
    let context_name = file.current_context.filter(|c| !c.is_empty()).ok_or(KubeconfigError::NoCurrentContext)?;
    let context = pick("context", file.contexts.unwrap_or_default(), &context_name)?.0;
    let context = context.context.unwrap_or_default();
    let (cluster_name, user_name) = (context.cluster.unwrap_or_default(), context.user.unwrap_or_default());
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
        server: cluster.server.filter(|s| !s.is_empty()),
        ca,
        user: user_name,
        identity: identity(user)?,
        other_users: others.into_iter().map(|u| u.name.unwrap_or_default()).collect(),
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
    let step = exchange(old, "client-certificate-data", old_cert, &STANDARD.encode(cert_pem))?;
    let new_key = Zeroizing::new(STANDARD.encode(key_pem));
    let new = exchange(&step, "client-key-data", old_key, &new_key)?;

    let identity = Identity::Embedded { cert: cert_pem.to_vec(), key: Zeroizing::new(key_pem.to_vec()) };
    if parse(&new)? == (Kubeconfig { identity, ..before }) { Ok(new) } else { Err(KubeconfigError::Exchange) }
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
        Identity::Files { .. } | Identity::Other => None,
    };
    if !told || identity(copy)? != identity(old)? {
        return None;
    }
    let (cert, key) = identity(new)?;
    graft(copy, &cert, &key).ok()
}

fn exchange(text: &str, field: &'static str, old: &str, new: &str) -> Result<Zeroizing<String>, KubeconfigError> {
    let mut places = text.match_indices(old);
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        return Err(KubeconfigError::NotOnce { field });
    };
    let (head, tail) = (text.get(..at).unwrap_or_default(), text.get(at + old.len()..).unwrap_or_default());
    let mut out = Zeroizing::new(String::with_capacity(head.len() + new.len() + tail.len()));
    out.push_str(head);
    out.push_str(new);
    out.push_str(tail);
    Ok(out)
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
        (None, None, None) => Ok(Identity::Other),
        _ => Err(KubeconfigError::HalfIdentity),
    }
}

fn decode(field: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, KubeconfigError> {
    decode_base64(text.as_bytes()).ok_or(KubeconfigError::Base64 { field })
}

/// The one item called `name`, and the others.
fn pick<T: Named>(kind: &'static str, items: Vec<T>, name: &str) -> Result<(T, Vec<T>), KubeconfigError> {
    let (mut found, others): (Vec<T>, Vec<T>) = items.into_iter().partition(|i| i.name() == name);
    let name = name.to_owned();
    match (found.pop(), found.len()) {
        (Some(item), 0) => Ok((item, others)),
        (None, _) => Err(KubeconfigError::NotFound { kind, name }),
        (Some(_), more) => Err(KubeconfigError::Ambiguous { kind, name, count: more + 1 }),
    }
}

/// Text that may be a key: zeroed, never printed.
#[derive(Default)]
struct Secret(Option<Zeroizing<String>>);

impl Secret {
    fn given(&self) -> Option<&str> {
        self.0.as_ref().map(|s| s.trim()).filter(|s| !s.is_empty())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Option::<String>::deserialize(d).map(|s| Self(s.map(Zeroizing::new)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    contexts: Option<Vec<NamedContext>>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: Option<String>,
    context: Option<Context>,
}

#[derive(Default, Deserialize)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: Option<String>,
    cluster: Option<Cluster>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<PathBuf>,
    #[serde(default)]
    certificate_authority_data: Secret,
}

#[derive(Deserialize)]
struct NamedUser {
    name: Option<String>,
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::struct_field_names, reason = "the file's own names")]
struct User {
    client_certificate: Option<PathBuf>,
    #[serde(default)]
    client_certificate_data: Secret,
    client_key: Option<PathBuf>,
    #[serde(default)]
    client_key_data: Secret,
    #[serde(default)]
    token: Secret,
}

trait Named {
    fn name(&self) -> &str;
}
impl Named for NamedContext {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}
impl Named for NamedCluster {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}
impl Named for NamedUser {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(missing_debug_implementations, reason = "made by proptest's macro")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADMIN: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.1:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: kubernetes-admin
  name: kubernetes-admin@kubernetes
current-context: kubernetes-admin@kubernetes
kind: Config
preferences: {}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: T0xEIENFUlQ=
    client-key-data: T0xEIEtFWQ==
";

    #[test]
    fn the_current_context_decides() {
        let k = parse(ADMIN).unwrap();
        assert_eq!((k.server.as_deref(), k.user.as_str()), (Some("https://10.0.0.1:6443"), "kubernetes-admin"));
        assert_eq!(k.ca, Some(Material::Embedded(b"CA".to_vec())));
        let key = Zeroizing::new(b"OLD KEY".to_vec());
        assert_eq!(k.identity, Identity::Embedded { cert: b"OLD CERT".to_vec(), key });
        assert!(!format!("{k:?}").contains("79, 76, 68"), "Debug shows key bytes");
    }

    #[test]
    fn what_is_ambiguous_or_incomplete_is_an_error() {
        let cases = [
            (ADMIN.replace("current-context: kubernetes-admin@kubernetes\n", ""), "no current-context"),
            (format!("{ADMIN}- name: kubernetes-admin\n  user: {{}}\n"), "2 users called `kubernetes-admin`"),
            (ADMIN.replace("    user: kubernetes-admin", "    user: other"), "user `other`, which is not in it"),
            (ADMIN.replace("T0xEIEtFWQ==", "*"), "line 19"),
            (ADMIN.replace("T0xEIEtFWQ==", "'*'"), "client-key-data is not base64"),
            (ADMIN.replace("    client-key-data: T0xEIEtFWQ==\n", ""), "without its key"),
            (String::new(), "no current-context"),
            ("[]".to_owned(), "not YAML of the expected form"),
        ];
        for (text, want) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{error:?} should contain {want:?}");
        }
    }

    #[test]
    fn further_users_clusters_and_contexts_are_left_alone() {
        let more = format!("{ADMIN}- name: eve\n  user:\n    client-certificate-data: RVZF\n    token: x\n");
        assert_eq!(parse(&more).unwrap().other_users, ["eve"]);
        let new = graft(&more, b"NEW", b"KEY").unwrap();
        assert_eq!(*new, more.replace("T0xEIENFUlQ=", "TkVX").replace("T0xEIEtFWQ==", "S0VZ"));
    }

    #[test]
    fn files_are_relative_to_the_kubeconfig() {
        let text = ADMIN
            .replace("client-certificate-data: T0xEIENFUlQ=", "client-certificate: pki/a.crt")
            .replace("client-key-data: T0xEIEtFWQ==", "client-key: /x/a.key");
        let Identity::Files { cert, key } = parse(&text).unwrap().identity else { panic!("not files") };
        let config = Path::new("/etc/kubernetes/k.conf");
        assert_eq!(relative_to(config, &cert), Path::new("/etc/kubernetes/pki/a.crt"));
        assert_eq!(relative_to(config, &key), Path::new("/x/a.key"));
    }

    #[test]
    fn a_graft_exchanges_two_values_and_nothing_else() {
        let odd = format!("# kept\r\n{}", ADMIN.replace("T0xEIENFUlQ=", "\"T0xEIENFUlQ=\"  # also kept"));
        let want = odd.replace("T0xEIENFUlQ=", "TkVX").replace("T0xEIEtFWQ==", "S0VZ");
        assert_eq!(*graft(&odd, b"NEW", b"KEY").unwrap(), want);
    }

    #[test]
    fn a_graft_refuses_what_it_cannot_do_exactly() {
        let folded = ADMIN.replace(" T0xEIENFUlQ=", " >-\n      T0xE\n      IENFUlQ=");
        assert_eq!(graft(&folded, b"N", b"K"), Err(KubeconfigError::NotOnce { field: "client-certificate-data" }));
        let twice = format!("# T0xEIEtFWQ==\n{ADMIN}");
        assert_eq!(graft(&twice, b"N", b"K"), Err(KubeconfigError::NotOnce { field: "client-key-data" }));
        let files = ADMIN.replace("-data: T0xE", ": /T0xE");
        assert_eq!(graft(&files, b"N", b"K"), Err(KubeconfigError::NotEmbedded));
    }

    proptest! {
        #[test]
        fn a_graft_is_undone_by_its_reverse(cert in "[ -~]{1,300}", key in "[ -~]{1,300}") {
            if let Ok(new) = graft(ADMIN, cert.as_bytes(), key.as_bytes()) {
                prop_assert_eq!(graft(&new, b"OLD CERT", b"OLD KEY").map(|s| s.to_string()), Ok(ADMIN.to_owned()));
            }
        }

        #[test]
        fn damage_is_never_a_panic(at in 0..ADMIN.len(), byte in 0u8..128, cut in 0..ADMIN.len()) {
            let mut bytes = ADMIN.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut / 4);
            let text = String::from_utf8_lossy(&bytes);
            let _ = parse(&text);
            let _ = graft(&text, b"NEW", b"KEY");
        }
    }
}
