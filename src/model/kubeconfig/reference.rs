//! Kubeconfigs that name files instead of holding an identity, as the kubelet's does, and those with a bootstrap token.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::file::File;
use super::{Identity, Kubeconfig, KubeconfigError, parse, pick};
use crate::model::yaml;

/// `old` with an identity in the file `link`, whatever it had: two lines are exchanged, every other is kept.
///
/// # Errors
/// [`KubeconfigError`], among them `NotOnce` if its user does not have certificate and key on a line each.
pub fn referring(old: &str, link: &Path) -> Result<Zeroizing<String>, KubeconfigError> {
    let before = parse(old)?;
    let step = exchange(old, "client-certificate", link)?;
    let new = exchange(&step, "client-key", link)?;
    let identity = Identity::Files { cert: link.to_path_buf(), key: link.to_path_buf() };
    if parse(&new)? == (Kubeconfig { identity, ..before }) { Ok(new) } else { Err(KubeconfigError::Exchange) }
}

/// The one line of `field` or `field`-data.
fn exchange(text: &str, field: &'static str, link: &Path) -> Result<Zeroizing<String>, KubeconfigError> {
    let is_it = |text: &str| {
        let rest = text.trim_start().trim_start_matches("- ").strip_prefix(field);
        rest.map(|r| r.strip_prefix("-data").unwrap_or(r)).is_some_and(|r| r.starts_with(':'))
    };
    let mut found = text.split_inclusive('\n').filter(|l| is_it(l));
    let (Some(first), None) = (found.next(), found.next()) else { return Err(KubeconfigError::NotOnce { field }) };
    let indent = first.split(field).next().unwrap_or_default();
    let mut out = Zeroizing::new(String::with_capacity(text.len() + link.as_os_str().len()));
    for each in text.split_inclusive('\n') {
        if is_it(each) {
            out.push_str(indent);
            out.push_str(field);
            out.push_str(": ");
            out.push_str(&link.display().to_string());
            out.push_str(if each.ends_with('\n') { "\n" } else { "" });
        } else {
            out.push_str(each);
        }
    }
    Ok(out)
}

/// A kubelet's kubeconfig as the kubelet itself writes it after its bootstrap
/// (kubernetes: `pkg/kubelet/certificate/bootstrap/bootstrap.go:writeKubeconfigFromBootstrapping`).
pub fn fresh(server: &str, ca_pem: &[u8], link: &Path) -> String {
    let (ca, link) = (STANDARD.encode(ca_pem), link.display());
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n  name: default-cluster\n\
         contexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
         current-context: default-context\nkind: Config\npreferences: {{}}\nusers:\n- name: default-auth\n  user:\n    \
         client-certificate: {link}\n    client-key: {link}\n"
    )
}

/// The token of the current context's user.
///
/// # Errors
/// [`KubeconfigError`].
pub fn token(text: &str) -> Result<Option<Zeroizing<String>>, KubeconfigError> {
    let config = parse(text)?;
    let raw: File = yaml::parse(text)?;
    let user = pick("user", raw.users.unwrap_or_default(), &config.user)?.0.user.unwrap_or_default();
    // client-go trims what it reads from a file only; what no header can hold is no token
    let token = user.token.given().filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    Ok(token.map(|t| Zeroizing::new(t.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    const EMBEDDED: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://h:6443\n  \
        name: k\ncontexts:\n- context:\n    cluster: k\n    user: nd\n  name: nd@k\ncurrent-context: nd@k\nkind: Config\nusers:\n- name: nd\n  \
        user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n";

    #[test]
    fn an_embedded_identity_becomes_two_references_and_nothing_else_changes() {
        let new = referring(EMBEDDED, Path::new(LINK)).unwrap();
        let wanted = EMBEDDED
            .replace("client-certificate-data: Q0VSVA==", &format!("client-certificate: {LINK}"))
            .replace("client-key-data: S0VZ", &format!("client-key: {LINK}"));
        assert_eq!(*new, wanted);
        assert_eq!(*referring(&new, Path::new("/a.pem")).unwrap(), wanted.replace(LINK, "/a.pem"), "references too");
    }

    #[test]
    fn what_is_not_on_a_line_of_its_own_or_there_twice_is_left_to_a_person() {
        let twice =
            format!("{EMBEDDED}- name: o\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n");
        let folded = EMBEDDED.replace("client-key-data: S0VZ", "client-key-data:\n      S0VZ");
        for odd in [twice.as_str(), &folded, "{}", "", "users: ["] {
            assert!(referring(odd, Path::new(LINK)).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_kubeconfig_made_anew_says_what_it_should() {
        let config = parse(&fresh("https://h:6443", b"CA", Path::new(LINK))).unwrap();
        assert_eq!(config.server.as_deref(), Some("https://h:6443"));
        assert_eq!(config.ca, Some(super::super::Material::Embedded(b"CA".to_vec())));
        assert_eq!(config.identity, Identity::Files { cert: LINK.into(), key: LINK.into() });
    }

    #[test]
    fn a_bootstrap_token_is_the_current_users() {
        let with =
            EMBEDDED.replace("    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n", "    token: a.b\n");
        assert_eq!(token(&with).unwrap().unwrap().as_str(), "a.b");
        assert!(token(EMBEDDED).unwrap().is_none());
    }
}
