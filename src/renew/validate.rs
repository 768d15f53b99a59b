//! Staged credentials against the rules of DESIGN §5, before anything live is touched.

use std::path::Path;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Staged;
use crate::host::Host;
use crate::host::crypto::{self, At, CryptoError, Purpose};
use crate::host::fs::MAX_FILE;
use crate::model::cert::{self, CertFacts};
use crate::model::compare;
pub use crate::model::compare::{Freshness, Objection, Rule};
use crate::model::inventory::Form;
use crate::model::kubeconfig::{self, Identity};
use crate::model::plan::Item;
use crate::model::serving;

/// Judges the staged files of `item`: on their own, by the CA's whole file on the disk, and by the live files as
/// far as these can be read ([`caveats`] says how far).
///
/// # Errors
/// Every objection that was found.
pub fn validate(
    host: &Host,
    item: &Item,
    staged: &Staged,
    now: Timestamp,
    freshness: Freshness,
) -> Result<CertFacts, Vec<Objection>> {
    if let Form::Reference { config, link, .. } = &item.form {
        return reference(host, staged, config, link);
    }
    let parts = Parts::of(&item.form, &|path| match staged.files.get(path) {
        Some(bytes) => Ok(bytes.clone()),
        None => Err(format!("{} was not staged", path.display())),
    });
    let parts = parts.map_err(|e| vec![Objection::new(Rule::Parses, e)])?;
    let chain = cert::parse_pem(&parts.cert)
        .map_err(|e| vec![Objection::new(Rule::Parses, format!("its certificate is unusable: {e}"))])?;
    let mut chain = chain.into_iter();
    let Some(new) = chain.next() else {
        return Err(vec![Objection::new(Rule::Parses, "there is no certificate in it")]);
    };
    let mut objections: Vec<Objection> = key(&parts.key, &new).into_iter().collect();
    let above: Vec<CertFacts> = chain.collect();
    let bundle = match above.first() {
        // on the disk there is the CA that it replaces
        Some(own) if item.is_self_made() => Ok(own.der.clone()),
        _ => host.root.read(&item.ca, MAX_FILE),
    };
    let cas = match &bundle {
        Ok(bundle) => {
            objections.extend(chains(&parts.cert, bundle, &new, item, now));
            if item.is_self_made() { above } else { cert::parse_pem(bundle).unwrap_or_default() }
        }
        Err(e) => {
            objections.push(Objection::new(Rule::Chains, format!("its CA cannot be read: {e}")));
            Vec::new()
        }
    };
    let old = live(host, item);
    let old_leaf = old.as_ref().ok().and_then(Live::leaf);
    if let Some(user) = &item.user {
        let old_leaf = old_leaf.filter(|_| freshness == Freshness::New);
        objections.extend(compare::node_identity(user, serving::kind(&item.name).usage(), old_leaf, &new, &cas, now));
        return if objections.is_empty() { Ok(new) } else { Err(objections) };
    }
    objections.extend(compare::certificates(old_leaf, &new, &cas, now, freshness));
    if let (Ok(Live { text: Some(old), .. }), Some(new)) = (&old, &parts.text) {
        objections.extend(compare::kubeconfigs(old, new));
    }
    if objections.is_empty() { Ok(new) } else { Err(objections) }
}

/// A kubeconfig that names a link: where it leads after the commit there must be a certificate.
fn reference(host: &Host, staged: &Staged, config: &Path, link: &Path) -> Result<CertFacts, Vec<Objection>> {
    let objection = |rule, message: String| vec![Objection::new(rule, message)];
    let kubeconfig = |message: &str| objection(Rule::Kubeconfig, message.to_owned());
    let new = staged.files.get(config).ok_or_else(|| kubeconfig("it was not staged"))?;
    let new = kubeconfig_text(new).map_err(|e| kubeconfig(&e))?;
    let parsed = kubeconfig::parse(&new).map_err(|e| kubeconfig(&format!("the kubeconfig is unusable: {e}")))?;
    if parsed.identity != (Identity::Files { cert: link.to_path_buf(), key: link.to_path_buf() }) {
        return Err(kubeconfig("it does not name the kubelet's link"));
    }
    let old = host.root.read_secret(config).ok().and_then(|b| kubeconfig_text(&b).ok());
    let readable = old.filter(|text| kubeconfig::parse(text).is_ok());
    let differs = readable.map(|old| compare::kubeconfigs(&old, &new)).unwrap_or_default();
    if !differs.is_empty() {
        return Err(differs);
    }
    let pem = match staged.links.get(link).and_then(|target| staged.files.get(target)) {
        Some(staged) => staged.clone(),
        None => host.root.read_secret(link).map_err(|e| kubeconfig(&e.to_string()))?,
    };
    let chain = cert::parse_pem(&pem).map_err(|e| objection(Rule::Parses, format!("{}: {e}", link.display())))?;
    chain.into_iter().next().ok_or_else(|| objection(Rule::Parses, "there is no certificate in it".into()))
}

/// What could not be compared because the live file is broken: sentences. Empty when all could.
pub fn caveats(host: &Host, item: &Item) -> Vec<String> {
    let not_compared = |why: &str| {
        vec![format!("{}: the new one could not be compared with the present one, because {why}", item.name)]
    };
    match live(host, item) {
        Ok(live) if live.leaf().is_some() => Vec::new(),
        Ok(_) => not_compared("that holds no readable certificate"),
        Err(why) => not_compared(&why),
    }
}

/// A credential's files, taken apart.
struct Parts {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    /// Of a kubeconfig.
    text: Option<Zeroizing<String>>,
}

type Get<'a> = &'a dyn Fn(&std::path::Path) -> Result<Zeroizing<Vec<u8>>, String>;

impl Parts {
    fn of(form: &Form, get: Get<'_>) -> Result<Self, String> {
        match form {
            Form::Pair { cert, key } => Ok(Self { cert: get(cert)?.to_vec(), key: get(key)?, text: None }),
            Form::Combined { .. } | Form::Dated { .. } => {
                let both = get(form.holder())?;
                Ok(Self { cert: both.to_vec(), key: both, text: None })
            }
            Form::Kubeconfig { path } => {
                let text = kubeconfig_text(&get(path)?)?;
                match kubeconfig::parse(&text).map_err(|e| format!("the kubeconfig is unusable: {e}"))?.identity {
                    Identity::Embedded { cert, key } => Ok(Self { cert, key, text: Some(text) }),
                    Identity::Files { .. } | Identity::Other => Err("the kubeconfig embeds no certificate".into()),
                }
            }
            Form::Reference { .. } => Err("a kubeconfig with references holds no certificate".into()),
            Form::Ca { .. } => Err("a CA is never renewed automatically".into()),
        }
    }
}

fn kubeconfig_text(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the kubeconfig is not text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What is live now, as far as it can be read: a broken old file must not make its repair impossible.
struct Live {
    certs: Vec<CertFacts>,
    text: Option<Zeroizing<String>>,
}

impl Live {
    fn leaf(&self) -> Option<&CertFacts> {
        self.certs.first()
    }
}

fn live(host: &Host, item: &Item) -> Result<Live, String> {
    let file = host.root.read_secret(item.form.path()).map_err(|e| e.to_string())?;
    let Form::Kubeconfig { .. } = item.form else {
        let certs = cert::parse_pem(&file).map_err(|e| e.to_string())?;
        return Ok(Live { certs, text: None });
    };
    let text = kubeconfig_text(&file)?;
    let certs = match kubeconfig::parse(&text).map(|k| k.identity) {
        Ok(Identity::Embedded { cert, .. }) => cert::parse_pem(&cert).unwrap_or_default(),
        Ok(Identity::Files { .. } | Identity::Other) | Err(_) => Vec::new(),
    };
    Ok(Live { certs, text: Some(text) })
}

fn key(pem: &[u8], leaf: &CertFacts) -> Option<Objection> {
    match crypto::public_key_der(pem) {
        Ok(spki) if spki == leaf.spki => None,
        Ok(_) => Some(Objection::new(Rule::KeyMatches, "its key belongs to another certificate")),
        Err(e) => Some(Objection::new(Rule::KeyMatches, format!("its key is {e}"))),
    }
}

fn chains(chain: &[u8], bundle: &[u8], leaf: &CertFacts, item: &Item, now: Timestamp) -> Option<Objection> {
    let uses = [("serverAuth", Purpose::Server), ("clientAuth", Purpose::Client)];
    let mut purposes: Vec<Purpose> =
        uses.into_iter().filter(|(u, _)| leaf.usages.contains(*u)).map(|(_, p)| p).collect();
    purposes.push(Purpose::Any);
    let failed = purposes.into_iter().find_map(|p| crypto::verify_chain(chain, bundle, At::Time(now), p).err())?;
    match failed {
        CryptoError::OutOfDate { leaf: true, .. } => None, // said by the comparison, with dates
        e => Some(Objection::new(
            Rule::Chains,
            format!("by {} ({}) it is not accepted: {e}", item.signer, item.ca.display()),
        )),
    }
}
