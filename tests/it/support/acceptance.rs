//! What no renewal may break, whatever the tree: whoever accepted a certificate accepts what is in its place, and it is for
//! the same user, names and usages. Judged by OpenSSL and by bytes, not by certwarden's own opinion.

#![allow(dead_code, reason = "each user takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use certwarden::host::fs::Root;
use certwarden::model::kubeconfig::{self, Identity, Material};
use openssl::x509::X509;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where credentials lie.
const DIRS: [&str; 6] = ["/etc", "/var/lib/kubelet", "/root", "/home", "/opt", "/data"];

/// The certificates of a tree at one moment.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Each leaf with the chain behind it, by the path at which it is read: links are followed within the tree.
    leaves: BTreeMap<PathBuf, Vec<X509>>,
    /// What a client or server trusts, by who says so.
    trusted: BTreeMap<String, Vec<X509>>,
}

/// What is wrong with a certificate that took another's place.
#[derive(Debug, Eq, PartialEq)]
pub struct Worse {
    pub path: PathBuf,
    pub why: String,
}

impl Certificates {
    pub fn of(root: &Path) -> Self {
        let mut found = Self::default();
        let root = Root::open(root).unwrap();
        let mut open: Vec<PathBuf> = DIRS.iter().map(PathBuf::from).collect();
        while let Some(dir) = open.pop() {
            for path in root.list(&dir).unwrap_or_default().into_iter().map(|name| dir.join(name)) {
                let is_dir = fs::symlink_metadata(root.on_host(&path)).is_ok_and(|m| m.is_dir());
                match root.read_secret(&path) {
                    _ if is_dir => open.push(path),
                    Ok(bytes) => found.add(&path, &bytes),
                    Err(_) => {}
                }
            }
        }
        found
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) {
        if let Ok(config) = std::str::from_utf8(bytes).map_err(drop).and_then(|t| kubeconfig::parse(t).map_err(drop)) {
            if let Some(Material::Embedded(ca)) = &config.ca {
                self.trusted.insert(format!("the kubeconfig {}", path.display()), certificates(ca));
            }
            let (Identity::Embedded { cert, .. } | Identity::Apart { cert: Material::Embedded(cert), .. }) =
                &config.identity
            else {
                return;
            };
            self.leaves.extend(Some(certificates(cert)).filter(|c| !c.is_empty()).map(|c| (path.to_path_buf(), c)));
            return;
        }
        let all = certificates(bytes);
        match all.first() {
            Some(first) if is_ca(first) => {
                self.trusted.insert(format!("who trusts {}", path.display()), all);
            }
            Some(_) => {
                self.leaves.insert(path.to_path_buf(), all);
            }
            None => {}
        }
    }

    /// The leaves that are others in `after`.
    pub fn replaced<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = &'a Path> {
        let new = |path: &Path, chain: &[X509]| after.leaves.get(path).is_some_and(|now| der(now) != der(chain));
        self.leaves.iter().filter(move |(path, chain)| new(path, chain)).map(|(path, _)| path.as_path())
    }

    /// Who trusted an old one and does not trust what `after` has in its place.
    pub fn refused(&self, after: &Self) -> Vec<Worse> {
        let worse = |path: &Path| {
            let (old, new) = (&self.leaves[path], &after.leaves[path]);
            let lost = self.trusted.iter().find(|(_, roots)| accepts(roots, old) && !accepts(roots, new))?;
            Some(Worse { path: path.to_path_buf(), why: format!("{} accepted the old one", lost.0) })
        };
        self.replaced(after).filter_map(worse).collect()
    }

    /// What an old one was for and what `after` has in its place is not.
    pub fn changed_identity(&self, after: &Self) -> Vec<Worse> {
        let worse = |path: &Path| {
            let (old, new) = (Says::of(&self.leaves[path][0]), Says::of(&after.leaves[path][0]));
            let why = if old.subject != new.subject {
                format!("the subject was {:?} and is {:?}", old.subject, new.subject)
            } else if !old.names.is_subset(&new.names) {
                format!("of the names {:?} only {:?} are left", old.names, new.names)
            } else if !old.usages.is_subset(&new.usages) {
                format!("of the usages {:?} only {:?} are left", old.usages, new.usages)
            } else {
                return None;
            };
            Some(Worse { path: path.to_path_buf(), why })
        };
        self.replaced(after).filter_map(worse).collect()
    }
}

fn certificates(pem: &[u8]) -> Vec<X509> {
    X509::stack_from_pem(pem).unwrap_or_default()
}

fn der(chain: &[X509]) -> Vec<Vec<u8>> {
    chain.iter().map(|c| c.to_der().unwrap()).collect()
}

fn is_ca(certificate: &X509) -> bool {
    let der = certificate.to_der().unwrap();
    X509Certificate::from_der(&der).is_ok_and(|(_, c)| c.is_ca())
}

/// Whether a leaf leads to one of `roots` over what lies behind it, as Go goes: names are the same bytes.
fn accepts(roots: &[X509], chain: &[X509]) -> bool {
    let signed = |by: &X509, one: &X509| {
        one.issuer_name().to_der().unwrap() == by.subject_name().to_der().unwrap()
            && one.verify(&by.public_key().unwrap()).unwrap_or(false)
    };
    // whose issuer is still to be found
    let (mut open, mut seen) = (vec![0], BTreeSet::new());
    while let Some(at) = open.pop() {
        if roots.iter().any(|root| is_ca(root) && signed(root, &chain[at])) {
            return true;
        }
        let more = (1..chain.len()).filter(|i| is_ca(&chain[*i]) && signed(&chain[*i], &chain[at]));
        open.extend(more.filter(|i| seen.insert(*i)));
    }
    false
}

/// What a certificate says to those who ask for more than a signature.
struct Says {
    subject: String,
    names: BTreeSet<String>,
    usages: BTreeSet<String>,
}

impl Says {
    fn of(certificate: &X509) -> Self {
        let der = certificate.to_der().unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let mut says =
            Self { subject: parsed.subject().to_string(), names: BTreeSet::default(), usages: BTreeSet::default() };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    says.names.extend(san.general_names.iter().map(|n| format!("{n:?}")));
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let named = [("clientAuth", usage.client_auth), ("serverAuth", usage.server_auth)];
                    says.usages.extend(named.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()));
                    says.usages.extend(usage.other.iter().map(ToString::to_string));
                }
                _ => {}
            }
        }
        says
    }
}
