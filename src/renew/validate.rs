//! Staged credentials against the rules of docs/architecture.md, "What is validated", before anything live is touched.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Staged;
use crate::host::Host;
use crate::host::crypto::{self, At, CryptoError, Purpose};
use crate::host::fs::MAX_FILE;
use crate::model::cert::{self, CertFacts};
use crate::model::compare;
pub use crate::model::compare::{Freshness, Objection, Rule};
use crate::model::credential::{self, References, Unusable};
use crate::model::inventory::Form;
use crate::model::kubeconfig::{self, Identity};
use crate::model::pem;
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
    let staged = |path: &Path| staged.files.get(path).cloned().ok_or_else(|| NotStaged(path.to_path_buf()));
    let parts = credential::parts(&item.form, References::Refuse, staged);
    let parts = parts.map_err(|e| vec![Objection::new(Rule::Parses, format!("it cannot be used: {e}"))])?;
    let chain = cert::parse_pem(&parts.cert)
        .map_err(|e| vec![Objection::new(Rule::Parses, format!("its certificate is unusable: {e}"))])?;
    let mut chain = chain.into_iter();
    let Some(new) = chain.next() else {
        return Err(vec![Objection::new(Rule::Parses, "there is no certificate in it")]);
    };
    let mut objections: Vec<Objection> = key(&parts.key, &new).into_iter().collect();
    let refusals =
        new.raw.refusals.iter().map(|r| Objection::new(Rule::Chains, format!("its clients refuse it: {}", r.why)));
    objections.extend(refusals);
    let above: Vec<CertFacts> = chain.collect();
    let bundle = match above.first() {
        // on the disk there is the CA that it replaces
        Some(own) if item.is_self_made() => Ok(own.der.clone()),
        _ => host.root.read(&item.ca, MAX_FILE),
    };
    let cas = match &bundle {
        Ok(bundle) => {
            objections.extend(chains(&parts.cert, bundle, &new, (&item.signer, &item.ca), now));
            objections.extend(item.trust.iter().filter_map(|trust| trusted(host, &parts.cert, &new, trust, now)));
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
    if let (Ok(old), Freshness::New, false) = (&old, freshness, item.is_self_made()) {
        objections.extend(kept(old, &parts.cert, &new));
    }
    if let (Ok(Live { text: Some(old), .. }), Some(new)) = (&old, &parts.config) {
        objections.extend(compare::kubeconfigs(old, &new.text));
    }
    if objections.is_empty() { Ok(new) } else { Err(objections) }
}

/// A kubeconfig that names a link: where it leads after the commit there must be a certificate.
fn reference(host: &Host, staged: &Staged, config: &Path, link: &Path) -> Result<CertFacts, Vec<Objection>> {
    let objection = |rule, message: String| vec![Objection::new(rule, message)];
    let kubeconfig = |message: &str| objection(Rule::Kubeconfig, message.to_owned());
    let new = staged.files.get(config).ok_or_else(|| kubeconfig("it was not staged"))?;
    let unusable = |why: Unusable| kubeconfig(&format!("it cannot be used: {why}"));
    let new = credential::text(new).map_err(unusable)?;
    let parsed = kubeconfig::parse(new).map_err(|e| unusable(e.into()))?;
    if parsed.identity != (Identity::Files { cert: link.to_path_buf(), key: link.to_path_buf() }) {
        return Err(kubeconfig("it does not name the kubelet's link"));
    }
    let old = host.root.read_secret(config).unwrap_or_default();
    let readable = credential::text(&old).ok().filter(|text| kubeconfig::parse(text).is_ok());
    let differs = readable.map(|old| compare::kubeconfigs(old, new)).unwrap_or_default();
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

/// A file of the new credential is missing among what the renewer made.
#[derive(Debug, thiserror::Error)]
#[error("{} was not staged", .0.display())]
struct NotStaged(PathBuf);

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

/// What is live now, as far as it can be read: a broken old file must not make its repair impossible.
struct Live {
    certs: Vec<CertFacts>,
    /// That these were read from.
    pem: Zeroizing<Vec<u8>>,
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
        return Ok(Live { certs, pem: file, text: None });
    };
    let text = Zeroizing::new(credential::text(&file).map_err(|e| e.to_string())?.to_owned());
    let pem = credential::certificate(&item.form, &file).unwrap_or_default();
    Ok(Live { certs: cert::parse_pem(&pem).unwrap_or_default(), pem, text: Some(text) })
}

/// At least what went in: the chain behind the leaf, comments, further blocks. Who trusts a root only needs the chain.
fn kept(old: &Live, new_file: &[u8], new: &CertFacts) -> Vec<Objection> {
    let mut objections = Vec::new();
    let mut object = |message: String| objections.push(Objection::new(Rule::Chains, message));
    let [leaf, behind @ ..] = old.certs.as_slice() else { return objections };
    let now: Vec<Vec<u8>> = cert::parse_pem(new_file).unwrap_or_default().into_iter().map(|c| c.der).collect();
    for lost in behind.iter().filter(|c| !now.contains(&c.der)) {
        object(format!(
            "it loses the certificate of {} behind the leaf: who trusts its root only would refuse it",
            lost.subject
        ));
    }
    let signed = |leaf: &CertFacts, ca: &CertFacts| crypto::is_signed_by(&leaf.der, &ca.der).unwrap_or(false);
    if let Some(issuer) = behind.first().filter(|ca| signed(leaf, ca) && !signed(new, ca)) {
        object(format!(
            "the chain behind the leaf begins with {}, which issued the old one and not the new one: put the new \
             issuer's certificate there first",
            issuer.subject
        ));
    }
    let (had, has) = (pem::besides(&old.pem), pem::besides(new_file));
    for lost in had.iter().filter(|part| !has.contains(part)) {
        let first = String::from_utf8_lossy(lost.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
        object(format!("it loses what the old file holds besides: {first}"));
    }
    objections
}

fn key(pem: &[u8], leaf: &CertFacts) -> Option<Objection> {
    match crypto::public_key_der(pem) {
        Ok(spki) if spki == leaf.spki => None,
        Ok(_) => Some(Objection::new(Rule::KeyMatches, "its key belongs to another certificate")),
        Err(e) => Some(Objection::new(Rule::KeyMatches, format!("its key is {e}"))),
    }
}

/// Those who the leaf is made for verify it by a bundle of their own.
fn trusted(host: &Host, chain: &[u8], leaf: &CertFacts, trust: &Path, now: Timestamp) -> Option<Objection> {
    match host.root.read(trust, MAX_FILE) {
        Ok(bundle) => chains(chain, &bundle, leaf, ("who it is made for", trust), now),
        Err(e) => {
            Some(Objection::new(Rule::Chains, format!("what those trust who it is made for cannot be read: {e}")))
        }
    }
}

fn chains(
    chain: &[u8],
    bundle: &[u8],
    leaf: &CertFacts,
    (by, file): (&str, &Path),
    now: Timestamp,
) -> Option<Objection> {
    let uses = [("serverAuth", Purpose::Server), ("clientAuth", Purpose::Client)];
    let mut purposes: Vec<Purpose> =
        uses.into_iter().filter(|(u, _)| leaf.usages.contains(*u)).map(|(_, p)| p).collect();
    purposes.push(Purpose::Any);
    let not_accepted = |why: &dyn std::fmt::Display| {
        Objection::new(Rule::Chains, format!("by {by} ({}) it is not accepted: {why}", file.display()))
    };
    match purposes.into_iter().find_map(|p| crypto::verify_chain(chain, bundle, At::Time(now), p).err()) {
        Some(CryptoError::OutOfDate { leaf: true, .. }) => return None, // said by the comparison, with dates
        Some(e) => return Some(not_accepted(&e)),
        None => {}
    }
    // OpenSSL compares names by what they say, and Go by their bytes
    let (anchors, behind) = (cert::parse_pem(bundle).unwrap_or_default(), cert::parse_pem(chain).unwrap_or_default());
    let issuers = anchors.iter().chain(behind.iter().skip(1));
    let named: Vec<_> = issuers.filter(|ca| leaf.claims_issuer(ca) && ca.raw.not_an_issuer.is_none()).collect();
    if named.is_empty() {
        return Some(not_accepted(&"no certificate that may issue others has its issuer's name, byte by byte"));
    }
    // and it takes the subject for a name, too, and knows fewer wildcards
    let outside = |ca: &&CertFacts| ca.raw.constraints.as_ref().and_then(|c| c.refuse(&leaf.sans));
    let refused: Vec<String> = named.iter().filter_map(outside).collect();
    refused.first().filter(|_| refused.len() == named.len()).map(|why| not_accepted(why))
}
