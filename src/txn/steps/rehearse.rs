//! The rehearsal: each new credential is used before it is put in place.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::host::fs::FsError;
use crate::model::inventory::Form;
use crate::model::ledger::LINK;
use crate::model::plan::{Item, Proof};
use crate::model::report::{CredentialSeen, When};
use crate::txn::before::refusal;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::verify::material::material;
use crate::verify::prove::prove;

use super::FILES_LIMIT;
use super::prepare::is_unfit;

/// Uses the staged credential, with each of those who will see it.
pub fn rehearse(run: &mut Run<'_>, name: &str, proof: &Proof) -> Result<(), Stop> {
    for proof in as_members_dial(run, name, proof) {
        run.context.progress.step(format!("rehearsing {name} against {}", proof.describe()), FILES_LIMIT);
        let seen = put_to_use(run, name, &proof, When::Rehearsal)?;
        // what still works is not given up for what nobody has accepted yet
        let proof_wanted = run.plan.item(name).is_some_and(|i| matches!(i.form, Form::Reference { proven: true, .. }));
        let refused = seen.proven == Some(false) || (proof_wanted && seen.proven.is_none());
        let sentence = format!("{name} was refused before the commit by {}: {}", seen.against, seen.detail);
        run.report.credentials.push(seen);
        if refused {
            if !proof_wanted && old_is_refused_too(run, name, &proof) {
                excuse(run, name, &proof, &sentence)?;
                continue;
            }
            is_unfit(run, name);
            return Err(Stop::Failed(sentence));
        }
    }
    Ok(())
}

/// A server that refuses the credential in use as well (a kubelet without `clientCAFile`, request headers of another
/// name) says nothing about its successor. One that has expired is refused for that, and vouches for nothing.
fn old_is_refused_too(run: &Run<'_>, name: &str, proof: &Proof) -> bool {
    // what these two accept is up to flags of theirs; the others accept the credential in use, or are broken
    if !matches!(proof, Proof::Kubelet { .. } | Proof::FrontProxy { .. }) {
        return false;
    }
    let in_time = run.plan.item(name).and_then(|i| i.old_not_after).is_some_and(|end| end > run.now_at_least());
    in_time && put_to_use(run, name, proof, When::Verification).is_ok_and(|live| live.proven == Some(false))
}

/// Kept with what the node was like before, for the verification and for whoever finishes this transaction.
fn excuse(run: &mut Run<'_>, name: &str, proof: &Proof, sentence: &str) -> Result<(), Stop> {
    run.report.notes.push(format!("{sentence}; so is the one in use, as before"));
    run.before.refused.insert(refusal(name, proof));
    run.before.keep(&run.context.host.root, &run.dir)
}

/// The member list knows better than this node's flags under which names the others dial it, and who they are:
/// the new peer certificate must hold for those names, and the others must accept it from here.
fn as_members_dial(run: &mut Run<'_>, name: &str, proof: &Proof) -> Vec<Proof> {
    let Some(etcd) = run.before.etcd.as_ref().filter(|_| name == "etcd-peer") else { return vec![proof.clone()] };
    let Proof::Handshake { ca, names } = proof else { return vec![proof.clone()] };
    let sans = run.context.inventory.get(name).and_then(|e| e.leaf()).map(|l| l.sans.clone()).unwrap_or_default();
    let covered = |h: &&String| sans.contains(&format!("IP:{h}")) || sans.contains(&format!("DNS:{h}"));
    let (kept, never): (Vec<&String>, Vec<&String>) = etcd.dialled.iter().partition(covered);
    let mut names = names.clone();
    names.extend(kept.into_iter().filter(|h| !names.contains(h)).cloned().collect::<Vec<_>>());
    let mut all = vec![Proof::Handshake { ca: ca.clone(), names }];
    let peer = |endpoint: &String| Proof::Etcd { endpoint: endpoint.clone(), ca: ca.clone() };
    all.extend(etcd.others.iter().map(peer));
    for host in never {
        run.report.notes.push(format!(
            "etcd's members dial this one as {host}, which its peer certificate did not cover before either"
        ));
    }
    all
}

/// Uses a credential: the staged one in a rehearsal, else the live one.
pub fn put_to_use(run: &Run<'_>, name: &str, proof: &Proof, when: When) -> Result<CredentialSeen, Stop> {
    let host = run.context.host;
    let item = run.item(name)?;
    let read = |path: &Path| -> Result<Zeroizing<Vec<u8>>, FsError> {
        match when {
            When::Rehearsal => host.root.read_secret(&rehearsed(run, path)),
            When::Verification => host.root.read_secret(path),
        }
    };
    let material = material(&item.form, &read)?;
    Ok(prove(host, name, proof, &material, when))
}

/// Where what will be at `path` lies now: staged, or live behind a link that stays as it is.
fn rehearsed(run: &Run<'_>, path: &Path) -> PathBuf {
    let staged = run.ledger.as_ref().and_then(|l| l.digests().get(path));
    let stays = |i: &Item| matches!(&i.form, Form::Reference { link, .. } if link == path);
    match staged.map(|d| d.strip_prefix(LINK)) {
        Some(Some(target)) => run.dir.new_file(Path::new(target)),
        None if run.plan.items.iter().any(stays) => path.to_path_buf(),
        _ => run.dir.new_file(path),
    }
}
