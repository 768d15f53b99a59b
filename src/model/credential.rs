//! The one reader of a credential's forms: a pair, one file with both, a kubeconfig that embeds or names them, a link.
//!
//! Whoever renews, validates, verifies or recovers a credential takes it apart here, so that all of them mean the same
//! certificate and the same key. What lies beside a certificate (comments, further blocks) is kept: it is
//! [`super::pem`] that picks blocks. A CA has no reader here, because nobody logs in or serves with one.

use std::path::Path;

use zeroize::Zeroizing;

use super::inventory::Form;
use super::kubeconfig::{self, Identity, KubeconfigError, Material};

/// Why the files of a credential cannot be taken apart: a clause about the file that holds it. Never quotes it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    #[error("it is not text")]
    NotText,
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// Of a kubeconfig that may name files.
    #[error("its user has no client certificate")]
    NoIdentity,
    /// Of a kubeconfig that must not.
    #[error("no certificate is embedded in it")]
    NotEmbedded,
    #[error("it is a CA, which is nothing to log in or serve with")]
    IsCa,
}

/// Why [`parts`] has none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PartsError<E> {
    /// A file of the credential could not be read.
    #[error(transparent)]
    Read(E),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Whether what a kubeconfig only names, files or the kubelet's link, belongs to the credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum References {
    /// It does: whoever uses the credential reads those files, too.
    Follow,
    /// It does not: a renewal writes the kubeconfig only.
    Refuse,
}

/// A credential, taken apart. The PEM is whole: with whatever else lies in the same file.
pub struct Parts {
    /// PEM of the certificate.
    pub cert: Zeroizing<Vec<u8>>,
    /// PEM of the private key.
    pub key: Zeroizing<Vec<u8>>,
    /// Of a kubeconfig.
    pub config: Option<Config>,
}

/// What a kubeconfig says besides its user's identity.
pub struct Config {
    /// The whole file.
    pub text: Zeroizing<String>,
    /// The API server, a URL.
    pub server: Option<String>,
    /// The CA bundle.
    pub ca: Option<Material>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Certificate and key of a credential. `read` reads its files by their live paths; the caller decides where such a path
/// leads: to the live file, a staged one or a backup.
///
/// # Errors
/// [`PartsError`].
pub fn parts<E>(
    form: &Form,
    references: References,
    read: impl Fn(&Path) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<Parts, PartsError<E>> {
    let refuses = references == References::Refuse;
    match form {
        Form::Pair { cert, key } => {
            let (cert, key) = (read(cert).map_err(PartsError::Read)?, read(key).map_err(PartsError::Read)?);
            Ok(Parts { cert, key, config: None })
        }
        Form::Reference { .. } if refuses => Err(Unusable::NotEmbedded.into()),
        Form::Combined { .. } | Form::Dated { .. } | Form::Reference { .. } => {
            let both = read(form.holder()).map_err(PartsError::Read)?;
            Ok(Parts { cert: both.clone(), key: both, config: None })
        }
        Form::Kubeconfig { path } => {
            let file = read(path).map_err(PartsError::Read)?;
            let text = text(&file)?;
            let config = kubeconfig::parse(text).map_err(Unusable::from)?;
            let (cert, key) = match config.identity {
                Identity::Embedded { cert, key } => (Zeroizing::new(cert), key),
                _ if refuses => return Err(Unusable::NotEmbedded.into()),
                named => {
                    let pair = named.pair(|file| read(&kubeconfig::relative_to(path, file)));
                    pair.map_err(PartsError::Read)?.ok_or(Unusable::NoIdentity)?
                }
            };
            let text = Zeroizing::new(text.to_owned());
            Ok(Parts { cert, key, config: Some(Config { text, server: config.server, ca: config.ca }) })
        }
        Form::Ca { .. } => Err(Unusable::IsCa.into()),
    }
}

/// PEM of the certificate in a credential's main file ([`Form::path`]), which `file` is the content of.
///
/// # Errors
/// [`Unusable`], of kubeconfigs only; [`Unusable::NotEmbedded`] if one only names files.
pub fn certificate(form: &Form, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    match form {
        Form::Kubeconfig { .. } => embedded(file).map(|(cert, _)| Zeroizing::new(cert)),
        Form::Pair { .. } | Form::Combined { .. } | Form::Ca { .. } | Form::Dated { .. } | Form::Reference { .. } => {
            Ok(Zeroizing::new(file.to_vec()))
        }
    }
}

/// Certificate and key that are embedded in a kubeconfig, PEM.
///
/// # Errors
/// [`Unusable`].
pub fn embedded(file: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), Unusable> {
    match kubeconfig::parse(text(file)?)?.identity {
        Identity::Embedded { cert, key } => Ok((cert, key)),
        Identity::Files { .. } | Identity::Apart { .. } | Identity::Other => Err(Unusable::NotEmbedded),
    }
}

/// A kubeconfig's text.
///
/// # Errors
/// [`Unusable::NotText`].
pub fn text(file: &[u8]) -> Result<&str, Unusable> {
    std::str::from_utf8(file).map_err(|_| Unusable::NotText)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    /// The path that could not be read.
    type Missing = PathBuf;
    /// Certificate and key.
    type Taken = Result<(&'static str, &'static str), PartsError<Missing>>;

    const FILES: [(&str, &str); 6] = [
        ("/a.crt", "cert"),
        ("/a.key", "key"),
        ("/both.pem", "both"),
        ("/embeds.conf", "client-certificate-data: Q0VSVA==, client-key-data: S0VZ"),
        ("/names.conf", "client-certificate: both.pem, client-key: /a.key"),
        ("/token.conf", "token: abc"),
    ];

    fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Missing> {
        let files: BTreeMap<&Path, &str> = FILES.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        let text = files.get(path).ok_or(path.to_path_buf())?;
        let config = path.extension().is_some_and(|e| e == "conf").then(|| {
            format!(
                "kind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, \
                 cluster: {{server: 'https://h:6443'}}}}]\nusers: [{{name: u, user: {{{text}}}}}]\n"
            )
        });
        Ok(Zeroizing::new(config.unwrap_or_else(|| (*text).to_owned()).into_bytes()))
    }

    /// Forms, what is in them, and why not where references are refused.
    fn forms() -> [(Form, Taken, Option<Unusable>); 8] {
        let (crt, key, both) = (PathBuf::from("/a.crt"), PathBuf::from("/a.key"), PathBuf::from("/both.pem"));
        let config = |path: &str| Form::Kubeconfig { path: path.into() };
        let reference = Form::Reference { config: "/names.conf".into(), link: both.clone(), proven: false };
        let dated = Form::Dated { file: both.clone(), link: "/link.pem".into(), obstacle: None };
        [
            (Form::Pair { cert: crt.clone(), key: key.clone() }, Ok(("cert", "key")), None),
            (Form::Combined { path: both }, Ok(("both", "both")), None),
            (dated, Ok(("both", "both")), None),
            (reference, Ok(("both", "both")), Some(Unusable::NotEmbedded)),
            (config("/embeds.conf"), Ok(("CERT", "KEY")), None),
            (config("/names.conf"), Ok(("both", "key")), Some(Unusable::NotEmbedded)),
            (config("/token.conf"), Err(Unusable::NoIdentity.into()), Some(Unusable::NotEmbedded)),
            (Form::Ca { cert: crt, key }, Err(Unusable::IsCa.into()), Some(Unusable::IsCa)),
        ]
    }

    #[test]
    fn each_form_has_one_certificate_and_one_key_wherever_its_files_lie() {
        for (form, follows, refuses) in forms() {
            let of = |references| {
                let got = parts(&form, references, read)?;
                let plain = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap();
                Ok((plain(&got.cert), plain(&got.key)))
            };
            let follows = follows.map(|(cert, key)| (cert.to_owned(), key.to_owned()));
            assert_eq!(of(References::Follow), follows, "{form:?}");
            let refused = refuses.map_or(follows, |why| Err(why.into()));
            assert_eq!(of(References::Refuse), refused, "{form:?}: a renewal writes no file that a kubeconfig names");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_as_it_is_said_and_nothing_else_is_read() {
        let form = Form::Pair { cert: "/a.crt".into(), key: "/gone.key".into() };
        let got = parts(&form, References::Follow, read).map(drop);
        assert_eq!(got, Err(PartsError::Read("/gone.key".into())));
    }

    #[test]
    fn a_kubeconfig_keeps_its_text_and_its_server_and_shows_no_key() {
        let form = Form::Kubeconfig { path: "/embeds.conf".into() };
        let got = parts(&form, References::Refuse, read).unwrap();
        assert!(!format!("{got:?}").contains("KEY") && !format!("{got:?}").contains("S0VZ"));
        let config = got.config.unwrap();
        assert_eq!(config.server.as_deref(), Some("https://h:6443"));
        assert_eq!(config.text.as_bytes(), read(Path::new("/embeds.conf")).unwrap().as_slice());
    }

    #[test]
    fn the_main_file_alone_tells_the_certificate() {
        let of = |form: &Form, path: &str| certificate(form, &read(Path::new(path)).unwrap()).map(|pem| pem.to_vec());
        let pair = Form::Pair { cert: "/a.crt".into(), key: "/a.key".into() };
        assert_eq!(of(&pair, "/a.crt"), Ok(b"cert".to_vec()));
        let config = Form::Kubeconfig { path: "/k.conf".into() };
        assert_eq!(of(&config, "/embeds.conf"), Ok(b"CERT".to_vec()));
        assert_eq!(of(&config, "/names.conf"), Err(Unusable::NotEmbedded), "its files are others'");
        assert_eq!(certificate(&config, b"\xff").map(drop), Err(Unusable::NotText));
    }
}
