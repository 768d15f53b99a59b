//! Files into credentials: everything that can be wrong with one becomes a finding, nothing an error.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use zeroize::Zeroizing;

use super::Scene;
use super::keys::{self, Issuer};
use crate::host::fs::{FsError, MAX_FILE, Root};
use crate::model::cert::{self, CertFacts};
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Context, Credential};
use crate::model::kubeconfig::{self, Identity, Kubeconfig, Material};

/// A CA as the other entries see it.
pub(super) struct Authority {
    pub(super) name: String,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// The key is on this node, can be read and belongs to a certificate of the bundle: it can sign.
    pub(super) has_key: bool,
    /// Something is where its key would be, be it only a link to nowhere.
    pub(super) key_lies: bool,
    /// Empty if its file could not be read: then nothing is said about what it issued.
    pub(super) issuers: Vec<Issuer>,
    pub(super) content: Content,
    /// Components whose flags name it.
    pub(super) used_by: Vec<Component>,
}

/// What a credential should say.
#[derive(Clone, Copy, Default)]
pub(super) struct Expected<'a> {
    pub(super) signer: Option<&'a Authority>,
    /// Beginning of the common name that the API server's authorizers go by.
    pub(super) common_name: Option<&'a str>,
    /// One of these organizations; empty: any.
    pub(super) organizations: &'a [&'a str],
    /// Extended key usages.
    pub(super) usages: &'a [&'a str],
}

/// A certificate file and its key file, which may be one and the same.
pub(super) fn pair(scene: &Scene<'_>, cert: &Path, key: &Path, expected: Expected<'_>) -> Content {
    let root = scene.root;
    let file = match read(root, cert) {
        Ok(file) => file,
        Err(finding) => return Content::Unusable(finding),
    };
    let chain = match parse(cert, &file.bytes) {
        Ok(chain) => chain,
        Err(finding) => return Content::Unusable(finding),
    };
    let mut findings = Vec::new();
    let own = if cert == key { Ok(file) } else { read(root, key) };
    findings.extend(key_findings(scene, key, own, chain.get(..1).unwrap_or_default()));
    findings.extend(issuer_and_identity(cert, &chain, expected));
    findings.extend(refused(scene, cert, &chain, expected));
    Content::Readable(Credential { chain, server: None, context: None, findings })
}

/// A CA bundle. Its key's absence is not a finding (external CA, worker); its belonging to none of the bundle is.
pub(super) fn authority(scene: &Scene<'_>, name: &str, cert: PathBuf, key: PathBuf) -> Authority {
    let root = scene.root;
    let mut authority = Authority {
        name: name.to_owned(),
        has_key: false,
        key_lies: false,
        issuers: Vec::new(),
        content: Content::Absent,
        used_by: Vec::new(),
        cert,
        key,
    };
    let key_file = read(root, &authority.key);
    authority.key_lies = match &key_file {
        Ok(_) => true,
        Err(finding) => finding.id != Problem::Missing && scene.lies(&authority.key),
    };
    let chain = match read(root, &authority.cert).and_then(|file| parse(&authority.cert, &file.bytes)) {
        Ok(chain) => chain,
        Err(finding) => {
            authority.content = Content::Unusable(finding);
            return authority;
        }
    };
    authority.issuers = chain.iter().filter_map(Issuer::new).collect();
    let mut findings = Vec::new();
    if authority.key_lies {
        findings = key_findings(scene, &authority.key, key_file, &chain);
    }
    findings.extend(not_an_issuer(scene, &authority.cert, &chain));
    authority.has_key = authority.key_lies && findings.iter().all(|f| f.id == Problem::LoosePermissions);
    authority.content = Content::Readable(Credential { chain, server: None, context: None, findings });
    authority
}

/// A kubeconfig, understood.
pub(super) fn kubeconfig(root: &Root, path: &Path) -> Result<Kubeconfig, Finding> {
    let malformed =
        |why: &dyn std::fmt::Display| Finding::new(Problem::Malformed, format!("{}: {why}", path.display()));
    let file = read(root, path)?;
    let text = std::str::from_utf8(&file.bytes).map_err(|_| malformed(&"not UTF-8 text"))?;
    kubeconfig::parse(text).map_err(|e| malformed(&e))
}

/// An identity that is embedded in the kubeconfig at `path`.
pub(super) fn embedded(
    scene: &Scene<'_>,
    path: &Path,
    config: &Kubeconfig,
    (cert, key): (&[u8], &[u8]),
    expected: Expected<'_>,
) -> Content {
    let chain = match parse(path, cert) {
        Ok(chain) => chain,
        Err(finding) => return Content::Unusable(finding),
    };
    let mut findings = Vec::new();
    findings.extend(belongs(key, path, chain.get(..1).unwrap_or_default()).err());
    findings.extend(scene.root.metadata(path).ok().and_then(|meta| loose(path, meta.mode())));
    findings.extend(issuer_and_identity(path, &chain, expected));
    findings.extend(refused(scene, path, &chain, expected));
    let ca = match &config.ca {
        Some(Material::Embedded(pem)) => Some(pem.clone()),
        Some(Material::File(_)) | None => None,
    };
    let apart = matches!(config.identity, Identity::Apart { .. });
    let context = Some(Context { cluster: config.cluster.clone(), user: config.user.clone(), ca, apart });
    Content::Readable(Credential { chain, server: config.server.clone(), context, findings })
}

/// An identity of which one half is embedded and the other in a file.
pub(super) fn apart(scene: &Scene<'_>, path: &Path, config: &Kubeconfig, expected: Expected<'_>) -> Content {
    let read = |file: &Path| read(scene.root, &kubeconfig::relative_to(path, file)).map(|held| held.bytes);
    match config.identity.clone().pair(read) {
        Ok(Some((cert, key))) => embedded(scene, path, config, (&cert, &key), expected),
        Ok(None) => Content::Absent,
        Err(finding) => Content::Unusable(finding),
    }
}

/// The files that a kubeconfig refers to, made absolute.
pub(super) fn referred(path: &Path, identity: &Identity) -> Option<(PathBuf, PathBuf)> {
    match identity {
        Identity::Files { cert, key } => {
            Some((kubeconfig::relative_to(path, cert), kubeconfig::relative_to(path, key)))
        }
        Identity::Embedded { .. } | Identity::Apart { .. } | Identity::Other => None,
    }
}

/// The same of a kubeconfig that may be unusable.
pub(super) fn referred_by(path: &Path, config: &Result<Kubeconfig, Finding>) -> Option<(PathBuf, PathBuf)> {
    referred(path, &config.as_ref().ok()?.identity)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<CertFacts>, Finding> {
    cert::parse_pem(bytes).map_err(|e| Finding::new(Problem::Malformed, format!("{}: {e}", path.display())))
}

/// A file of a credential, read.
pub(super) struct Held {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

/// Any file of a credential; an error is the finding.
pub(super) fn read(root: &Root, path: &Path) -> Result<Held, Finding> {
    let (bytes, meta) = root.read_with_metadata(path, MAX_FILE).map_err(|e| unreadable(&e))?;
    let held = Held { bytes: Zeroizing::new(bytes), mode: meta.mode() };
    if held.bytes.trim_ascii().is_empty() {
        return Err(Finding::new(Problem::Empty, format!("{} is empty", path.display())));
    }
    Ok(held)
}

fn unreadable(e: &FsError) -> Finding {
    let id = match e {
        FsError::NotFound { .. } => Problem::Missing,
        FsError::Dangling { .. } => Problem::DanglingSymlink,
        FsError::NotAFile { .. } | FsError::TooLarge { .. } => Problem::Malformed,
        FsError::Io { source, .. } if source.raw_os_error() == Some(Errno::ELOOP as i32) => Problem::DanglingSymlink,
        _ => Problem::Unreadable,
    };
    let message = match e {
        FsError::Io { source, .. } => format!("cannot {e}: {source}"),
        FsError::Permission { .. } => format!("{e}; run as root"),
        _ => e.to_string(),
    };
    Finding::new(id, message)
}

/// What is wrong with a key file that should belong to one of `certs`.
fn key_findings(scene: &Scene<'_>, path: &Path, file: Result<Held, Finding>, certs: &[CertFacts]) -> Vec<Finding> {
    let (belongs, mode) = match file {
        Ok(file) => (belongs(&file.bytes, path, certs), Some(file.mode)),
        // an empty one can be loose too
        Err(finding) => (Err(finding), scene.root.metadata(path).ok().map(|meta| meta.mode())),
    };
    belongs.err().into_iter().chain(mode.and_then(|mode| loose(path, mode))).collect()
}

fn belongs(key: &[u8], path: &Path, certs: &[CertFacts]) -> Result<(), Finding> {
    let malformed = |e: keys::KeyError| Finding::new(Problem::Malformed, format!("{}: {e}", path.display()));
    if keys::belongs(key, certs).map_err(malformed)? {
        return Ok(());
    }
    Err(Finding::new(Problem::KeyMismatch, format!("the key in {} belongs to another certificate", path.display())))
}

/// Modes only: `RootlessControlPlane` gives keys to other owners than root
/// (kubernetes: `cmd/kubeadm/app/phases/controlplane/../../util/staticpod`).
fn loose(path: &Path, mode: u32) -> Option<Finding> {
    let mode = mode & 0o7777;
    let message = || format!("{} holds a key and has mode {mode:04o}; run chmod go= on it", path.display());
    (mode & 0o077 != 0).then(|| Finding::new(Problem::LoosePermissions, message()))
}

fn same_name_in_other_bytes(leaf: &CertFacts, ca: &Authority) -> bool {
    let Content::Readable(credential) = &ca.content else { return false };
    credential.chain.iter().any(|c| c.subject == leaf.issuer && c.raw.subject != leaf.raw.issuer)
}

/// Who they are that refuse what Go refuses.
const CLIENTS: &str = "kubelets, kubectl and every component (Go's crypto/x509) refuse";

/// Of a bundle of which no certificate may issue others, or not the one that the key belongs to.
fn not_an_issuer(scene: &Scene<'_>, path: &Path, chain: &[CertFacts]) -> Option<Finding> {
    let why = |c: &CertFacts| {
        let refusal = scene.refusals(c).next().map(|r| r.why.clone());
        refusal.or_else(|| c.raw.not_an_issuer.map(str::to_owned))
    };
    let unfit: Vec<String> = chain.iter().filter_map(why).collect();
    let first = unfit.first().filter(|_| unfit.len() == chain.len())?;
    let message = format!("{CLIENTS} what {} issued: {first}", path.display());
    Some(Finding::new(Problem::RefusedByClients, message))
}

/// What Go demands beyond issuer and identity.
fn refused(scene: &Scene<'_>, path: &Path, chain: &[CertFacts], expected: Expected<'_>) -> Option<Finding> {
    let leaf = chain.first()?;
    let own = chain.iter().find_map(|c| scene.refusals(c).next().map(|r| r.why.clone()));
    let serving = expected.usages.contains(&"serverAuth");
    let nameless = || {
        let named = leaf.sans.iter().any(|san| san.starts_with("DNS:") || san.starts_with("IP:"));
        (serving && !named).then(|| "it has no alternative names, and the common name does not count".to_owned())
    };
    let why = own
        .or_else(nameless)
        .or_else(|| usage_of_issuer(leaf, expected))
        .or_else(|| between(scene, chain, expected))
        .or_else(|| keys::excluded(chain, &expected.signer?.issuers))?;
    Some(Finding::new(Problem::RefusedByClients, format!("{CLIENTS} {}: {why}", path.display())))
}

/// A certificate of the chain that has ended, and without which the leaf leads nowhere.
fn between(scene: &Scene<'_>, chain: &[CertFacts], expected: Expected<'_>) -> Option<String> {
    let (leaf, behind) = chain.split_first()?;
    let in_time = |c: &&CertFacts| c.not_before <= scene.now && c.not_after > scene.now;
    let ended = behind.iter().find(|c| !in_time(c))?;
    let issuers = &expected.signer?.issuers;
    let rest: Vec<CertFacts> = std::iter::once(leaf).chain(behind.iter().filter(in_time)).cloned().collect();
    let needed = keys::leads_to(chain, issuers) && !keys::leads_to(&rest, issuers);
    needed
        .then(|| format!("{} behind it is valid from {} to {} only", ended.subject, ended.not_before, ended.not_after))
}

/// Extended usages of a CA are a limit to those of what it issues (crypto/x509: `checkChainForKeyUsage`).
fn usage_of_issuer(leaf: &CertFacts, expected: Expected<'_>) -> Option<String> {
    let Content::Readable(ca) = &expected.signer?.content else { return None };
    let limited = |c: &&CertFacts| c.usages.iter().any(|u| is_extended(u)) && !c.usages.contains("anyExtendedKeyUsage");
    let mut issuers = ca.chain.iter().filter(|c| leaf.claims_issuer(c)).peekable();
    issuers.peek()?;
    let lacking: Vec<&&str> =
        issuers.filter(limited).flat_map(|c| expected.usages.iter().filter(|u| !c.usages.contains(**u))).collect();
    lacking.first().map(|usage| format!("its CA may not issue for {usage}: the extended key usages of the CA lack it"))
}

fn is_extended(usage: &str) -> bool {
    usage.ends_with("Auth")
        || usage.contains('.')
        || matches!(usage, "codeSigning" | "emailProtection" | "timeStamping" | "OCSPSigning")
}

fn issuer_and_identity(path: &Path, chain: &[CertFacts], expected: Expected<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(leaf) = chain.first() else { return findings };
    if let Some(ca) = expected.signer.filter(|ca| !ca.issuers.is_empty() && !keys::leads_to(chain, &ca.issuers)) {
        let mut message = format!("{} was not issued by any CA in {}", path.display(), ca.cert.display());
        if same_name_in_other_bytes(leaf, ca) {
            message.push_str(
                ": the CA's name has another string type there than in what it issued, and every component compares \
                 bytes (openssl does not); issue the CA's certificate again with the name as it was",
            );
        }
        findings.push(Finding::new(Problem::WrongIssuer, message));
    }
    let mut wrong = |message: String| findings.push(Finding::new(Problem::WrongIdentity, message));
    let name = leaf.common_name.as_deref().unwrap_or_default();
    if let Some(want) = expected.common_name {
        // kubelets: what follows the prefix is the node's own name
        let fits = if want.ends_with(':') { name.starts_with(want) && name.len() > want.len() } else { name == want };
        if !fits {
            wrong(format!("its common name is `{name}`, not `{want}`, so that it has not the rights that it needs"));
        }
    }
    if !expected.organizations.is_empty() && !expected.organizations.iter().any(|o| leaf.organizations.contains(*o)) {
        wrong(format!("it is not of the organization {}", expected.organizations.join(" or ")));
    }
    // no extended usage at all means any (RFC 5280 §4.2.1.12)
    let restricted = leaf.usages.iter().any(|u| is_extended(u));
    for usage in expected.usages {
        if restricted && !leaf.usages.contains(*usage) && !leaf.usages.contains("anyExtendedKeyUsage") {
            wrong(format!("its extended key usage lacks {usage}"));
        }
    }
    findings
}
