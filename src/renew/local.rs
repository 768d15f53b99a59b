//! Signs with the CA key on the disk: for mounted images, trees without kubeadm, and `renewer = "local"`.

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::layout::{self, grafted, joined};
use super::{RenewError, Renewer, Request, Staged, successor};
use crate::host::Host;
use crate::host::crypto::{self, Signed, Subject};
use crate::host::fs::MAX_FILE;
use crate::model::cert::{self, CertFacts};
use crate::model::credential;
use crate::model::identity::{GROUP, USER};
use crate::model::inventory::Form;
use crate::model::plan::Item;

/// notBefore lies this far back, for readers whose clock is behind. kubeadm takes the same since 1.31, before that the CA's
/// (kubernetes: `cmd/kubeadm/app/constants/constants.go:CertificateBackdate`).
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// certwarden as the issuer.
#[derive(Debug)]
pub struct Local;

impl Renewer for Local {
    fn stage(&self, host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
        let mut staged = Staged::default();
        for item in request.items {
            match &item.form {
                Form::Dated { .. } => {
                    layout::place(&item.form, sign_node(host, request, item)?, &mut staged);
                    continue;
                }
                Form::Reference { config, link, .. } => {
                    layout::refer(host, request, item, (config, link), &mut staged)?;
                    continue;
                }
                _ => {}
            }
            let life = SignedDuration::from_secs(request.policy.renew.validity.seconds());
            let by = if item.is_self_made() { make } else { sign };
            let (old, signed) = by(host, item, request.now, life)?;
            place(host, item, &old, signed, &mut staged)?;
        }
        Ok(staged)
    }
}

/// What a new certificate is made of.
struct Material {
    /// The old file that holds the certificate.
    old: Zeroizing<Vec<u8>>,
    leaf: CertFacts,
    bundle: Vec<u8>,
    ca_key: Zeroizing<Vec<u8>>,
    ca: CertFacts,
}

fn material(host: &Host, item: &Item) -> Result<Material, RenewError> {
    let cannot = |detail: String| RenewError::CannotSign { name: item.name.clone(), detail };
    let old = host.root.read_secret(item.form.path())?;
    let old_cert = credential::certificate(&item.form, &old).map_err(|e| cannot(e.to_string()))?;
    let facts = cert::parse_pem(&old_cert).map_err(|e| cannot(format!("the present certificate is unusable: {e}")))?;
    let leaf = facts.into_iter().next();
    let leaf = leaf.ok_or_else(|| cannot("there is no present certificate to take subject and names from".into()))?;
    let (bundle, ca_key) = (host.root.read(&item.ca, MAX_FILE)?, host.root.read_secret(&item.ca_key)?);
    let ca = issuing(&bundle, &ca_key).map_err(&cannot)?;
    Ok(Material { old, leaf, bundle, ca_key, ca })
}

/// The old file that holds the certificate, and its successor.
fn sign(
    host: &Host,
    item: &Item,
    now: Timestamp,
    life: SignedDuration,
) -> Result<(Zeroizing<Vec<u8>>, Signed), RenewError> {
    let Material { old, leaf, bundle, ca_key, ca } = material(host, item)?;
    let (not_before, not_after) =
        validity(&ca, now, life).map_err(|detail| RenewError::CannotSign { name: item.name.clone(), detail })?;
    let signed = crypto::sign_like(&leaf.der, &bundle, &ca_key, &leaf.key_algorithm, not_before, not_after)
        .map_err(|source| RenewError::Sign { name: item.name.clone(), source })?;
    Ok((old, signed))
}

/// Whether there is everything to sign it with, and nothing in it that cannot be signed again. The CA's dates are a gate's
/// matter.
pub(super) fn foresee(host: &Host, item: &Item) -> Result<(), RenewError> {
    let Material { leaf, ca, .. } = material(host, item)?;
    names_allowed(item, &leaf, &ca)?;
    crypto::can_sign_like(&leaf.der, &leaf.key_algorithm)
        .map_err(|source| RenewError::Sign { name: item.name.clone(), source })
}

/// The same of what kubeadm will sign: whatever else is wrong, it says itself.
pub(super) fn foresee_names(host: &Host, item: &Item) -> Result<(), RenewError> {
    material(host, item).map_or(Ok(()), |Material { leaf, ca, .. }| names_allowed(item, &leaf, &ca))
}

/// A new one has the names of the old one, and nobody accepts those that its CA may not issue for.
fn names_allowed(item: &Item, leaf: &CertFacts, ca: &CertFacts) -> Result<(), RenewError> {
    let refused = ca.raw.constraints.as_ref().and_then(|constraints| constraints.refuse(&leaf.sans));
    refused.map_or(Ok(()), |why| Err(RenewError::CannotSign { name: item.name.clone(), detail: why }))
}

/// The old file, and its successor with a CA that nobody keeps the key of.
fn make(
    host: &Host,
    item: &Item,
    now: Timestamp,
    life: SignedDuration,
) -> Result<(Zeroizing<Vec<u8>>, Signed), RenewError> {
    let cannot = |detail: String| RenewError::CannotSign { name: item.name.clone(), detail };
    let old = host.root.read_secret(item.form.path())?;
    let chain = cert::parse_pem(&old).map_err(|e| cannot(format!("the present certificate is unusable: {e}")))?;
    let [leaf, ca] = chain.as_slice() else { return Err(cannot("it is not a leaf with its own CA behind it".into())) };
    let (from, to) = (now.saturating_sub(BACKDATE), now.saturating_add(life));
    let (from, to) = from.and_then(|from| Ok((from, to?))).map_err(|e| cannot(e.to_string()))?;
    let signed =
        crypto::make_like(leaf, ca, from, to).map_err(|source| RenewError::Sign { name: item.name.clone(), source })?;
    Ok((old, signed))
}

/// Certificate and key of this node's kubelet, whatever it had before: who it is follows from the node's name.
pub(super) fn sign_node(host: &Host, request: &Request<'_>, item: &Item) -> Result<Zeroizing<Vec<u8>>, RenewError> {
    let cannot = |detail: String| RenewError::CannotSign { name: item.name.clone(), detail };
    let node = request.node.name.as_deref().ok_or_else(|| cannot("the node's name is not known".into()))?;
    let common_name = format!("{USER}{node}");
    let (bundle, ca_key) = (host.root.read(&item.ca, MAX_FILE)?, host.root.read_secret(&item.ca_key)?);
    let ca = issuing(&bundle, &ca_key).map_err(&cannot)?;
    let life = SignedDuration::from_secs(request.policy.renew.validity.seconds());
    let (from, to) = validity(&ca, request.now, life).map_err(cannot)?;
    let subject = Subject { organization: GROUP, common_name: &common_name };
    let signed = crypto::sign_client(subject, &bundle, &ca_key, from, to)
        .map_err(|source| RenewError::Sign { name: item.name.clone(), source })?;
    Ok(joined(&signed.cert, &signed.key))
}

/// The certificate of the bundle that the key belongs to: of several, as after a CA was issued again for its old key,
/// the one that lasts longest.
fn issuing(bundle: &[u8], ca_key: &[u8]) -> Result<CertFacts, String> {
    let spki = crypto::public_key_der(ca_key).map_err(|e| format!("the CA's key is {e}"))?;
    let all = cert::parse_pem(bundle).map_err(|e| format!("the CA is unusable: {e}"))?;
    all.into_iter()
        .filter(|c| c.spki == spki)
        .max_by_key(|c| c.not_after)
        .ok_or_else(|| "the CA's key does not belong to its certificate".into())
}

/// Not before the CA's begin, not beyond its end.
fn validity(ca: &CertFacts, now: Timestamp, life: SignedDuration) -> Result<(Timestamp, Timestamp), String> {
    let not_before = now.saturating_sub(BACKDATE).map_err(|e| e.to_string())?.max(ca.not_before);
    let not_after = now.saturating_add(life).map_err(|e| e.to_string())?.min(ca.not_after);
    if ca.not_before > now {
        return Err(format!("the CA is not valid before {}; look at the clock", ca.not_before));
    }
    if not_after <= now {
        return Err(format!("the CA expired at {}; it must be replaced first", ca.not_after));
    }
    Ok((not_before, not_after))
}

fn place(host: &Host, item: &Item, old: &[u8], signed: Signed, staged: &mut Staged) -> Result<(), RenewError> {
    let Signed { cert, key } = signed;
    match &item.form {
        Form::Pair { cert: cert_path, key: key_path } => {
            // the chain of one that is self-made is new, too
            let (cert, key) = if item.is_self_made() {
                (Zeroizing::new(cert), key)
            } else {
                successor::pair(host, (cert_path, key_path), &cert, &key)
            };
            staged.files.insert(cert_path.clone(), cert);
            staged.files.insert(key_path.clone(), key);
        }
        Form::Kubeconfig { path } => {
            let file = grafted(path, old, &cert, &key)?;
            staged.files.insert(path.clone(), file);
        }
        Form::Combined { path } => {
            staged.files.insert(path.clone(), successor::combined(old, &cert, &key));
        }
        Form::Ca { .. } | Form::Dated { .. } | Form::Reference { .. } => {
            let why = "a CA is never renewed automatically".to_owned();
            return Err(RenewError::NotOurs { name: item.name.clone(), source_name: "certwarden", why });
        }
    }
    Ok(())
}
