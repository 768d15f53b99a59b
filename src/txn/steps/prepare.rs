//! The steps up to the rehearsal: a backup of what is live, and its successors, staged and validated.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;

use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::inventory::Form;
use crate::model::plan::{Item, Source};
use crate::model::repair::Way;
use crate::model::report::Renewed;
use crate::model::serving;
use crate::renew::validate::{Freshness, validate as objections};
use crate::renew::{self, RenewError, Staged, choice};
use crate::txn::ledger::{Begun, Ledger};
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::{files, story};

use super::FILES_LIMIT;

/// From when to when each staged credential is valid, by name.
pub type Validity = BTreeMap<String, (Timestamp, Timestamp)>;

/// What is staged, up to the commit.
#[derive(Debug, Default)]
pub struct Staging {
    staged: Option<Staged>,
    /// What kubeadm was to make: its own did not come to anything.
    signed_instead: bool,
    pub validity: Validity,
}

/// Backs up what is live.
pub fn back_up(run: &mut Run<'_>) -> Result<(), Stop> {
    let host = run.context.host;
    run.context.progress.step("backing up", FILES_LIMIT);
    let plan = serde_json::to_vec_pretty(run.plan)?;
    host.root.write(&run.dir.plan(), &plan, 0o600)?;
    let forms: Vec<(&str, &Form)> = run.plan.items.iter().map(|i| (i.name.as_str(), &i.form)).collect();
    let records = files::back_up(&host.root, &run.dir, &forms)?;
    for record in records.iter().filter(|r| !r.by_name) {
        let links = host.root.metadata(&record.path).map_or(1, |m| m.nlink());
        if links > 1 {
            run.report.notes.push(format!(
                "{} has {links} names (hard links); only this one gets the new file",
                record.path.display()
            ));
        }
    }
    run.report.notes.extend(files::set_aside(&host.root, &run.dir, &records));
    let forced = run.before.forced.iter().map(|gate| gate.id().to_owned()).collect();
    let begun = Begun { by: host.by.clone(), forced };
    run.ledger = Some(Ledger::open(&host.root, &run.dir, records, host.clock.now(), begun)?);
    Ok(())
}

/// Makes the new credentials in the transaction's directory.
pub fn stage(run: &mut Run<'_>, staging: &mut Staging) -> Result<(), Stop> {
    let limit = run.context.policy.exec.kubeadm_timeout.0;
    let each = u32::try_from(run.plan.items.len()).unwrap_or(u32::MAX);
    let limit = limit.saturating_mul(each) + run.context.policy.kubelet.request_timeout.0 + FILES_LIMIT;
    run.context.progress.step(format!("staging {each} certificates"), limit);
    let staged = match staged_by(run, &run.plan.source) {
        Err(e) if falls_back(run, staging) => sign_instead(run, staging, &chain(&e))?,
        staged => staged?,
    };
    run.report.notes.extend(staged.notes.iter().cloned());
    staging.staged = Some(staged);
    Ok(())
}

fn staged_by(run: &Run<'_>, source: &Source) -> Result<Staged, RenewError> {
    let going_on = || !run.context.should_stop();
    let work = run.context.host.root.on_host(&run.dir.work());
    let request = renew::Request {
        items: &run.plan.items,
        node: &run.context.inventory.node,
        policy: run.context.policy,
        workdir: &work,
        now: run.context.host.clock.now(),
        patience: renew::Patience(&going_on),
    };
    renew::renewer(source).stage(run.context.host, &request)
}

fn falls_back(run: &Run<'_>, staging: &Staging) -> bool {
    !staging.signed_instead && choice::falls_back(&run.plan.source, run.context.policy)
}

/// A kubeadm that crashes, hangs or makes what is unfit would do so again every day, until everything has expired.
fn sign_instead(run: &mut Run<'_>, staging: &mut Staging, why: &str) -> Result<Staged, Stop> {
    run.context.progress.step("signing instead of kubeadm", FILES_LIMIT);
    staging.signed_instead = true;
    let staged = staged_by(run, &Source::Local)
        .map_err(|e| Stop::Failed(format!("{why}; certwarden cannot sign instead of kubeadm either: {}", chain(&e))))?;
    story::signed_instead(&run.dir.id, why);
    run.report.notes.push(format!(
        "kubeadm was not used: {why}; certwarden signed instead, as renew.renewer = \"auto\" allows; see why kubeadm fails"
    ));
    Ok(staged)
}

/// Checks what was staged, and keeps it.
pub fn validate(run: &mut Run<'_>, staging: &mut Staging) -> Result<(), Stop> {
    let host = run.context.host;
    run.context.progress.step("validating what was staged", FILES_LIMIT);
    let mut staged = staging.staged.take().unwrap_or_default();
    let fit = match fit(run, &staged) {
        Err((_, why)) if falls_back(run, staging) => {
            staged = sign_instead(run, staging, &why)?;
            fit(run, &staged)
        }
        fit => fit,
    };
    let fit = fit.map_err(|(name, why)| {
        is_unfit(run, &name);
        Stop::Failed(why)
    })?;
    for (item, facts) in run.plan.items.iter().zip(fit) {
        staging.validity.insert(item.name.clone(), (facts.not_before, facts.not_after));
        run.report.renewed.extend(item.names().map(|name| Renewed {
            name: name.clone(),
            path: item.form.path().to_path_buf(),
            old_serial: item.old_serial.clone(),
            new_serial: facts.serial.clone(),
            not_after: facts.not_after,
        }));
    }
    let digests = files::keep_staged(&host.root, &run.dir, &staged)?;
    let at = host.clock.now();
    run.ledger_mut()?.staged(&host.root, digests, at)?;
    story::staged(&run.dir.id, run.plan.items.len());
    staging.staged = Some(staged);
    Ok(())
}

/// The certificate of each item in its order; or the first that is not fit to be used, and a sentence.
fn fit(run: &Run<'_>, staged: &Staged) -> Result<Vec<CertFacts>, (String, String)> {
    let host = run.context.host;
    let freshness = match run.plan.source {
        Source::Generation { .. } => Freshness::Restored,
        Source::Identity { ref ways } if ways.iter().any(|w| matches!(w, Way::Adopt { .. })) => Freshness::Restored,
        Source::Kubeadm | Source::Local | Source::SelfMade | Source::Identity { .. } => Freshness::New,
    };
    let now = host.clock.now();
    let of = |item: &Item| {
        objections(host, item, staged, now, freshness).map_err(|objections| {
            let why: Vec<String> = objections.iter().map(ToString::to_string).collect();
            (item.name.clone(), format!("the staged {} is not fit to be used: {}", item.name, why.join("; ")))
        })
    };
    run.plan.items.iter().map(of).collect()
}

/// What came of a request, if it came of one, is not to be taken up again.
pub fn is_unfit(run: &Run<'_>, name: &str) {
    if matches!(run.plan.source, Source::Identity { .. }) {
        let host = run.context.host;
        renew::csr::is_unfit(&host.root, serving::kind(name), host.clock.now());
    }
}
