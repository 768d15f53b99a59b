//! The steps before the commit: nothing live is touched.

use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::inventory::Form;
use crate::model::plan::{Item, Proof, Source};
use crate::model::repair::Way;
use crate::model::report::{Renewed, When};
use crate::model::serving;
use crate::renew::validate::{Freshness, validate};
use crate::renew::{self, RenewError, Staged, choice};

use std::os::unix::fs::MetadataExt as _;

use crate::txn::ledger::{Begun, Ledger};
use crate::txn::run::{FILES_LIMIT, Run, Stop};
use crate::txn::{files, story};

/// How [`Before::refused`](crate::txn::before::Before::refused) names a credential and who refuses it.
pub(in crate::txn) fn refusal(name: &str, proof: &Proof) -> String {
    format!("{name}: {}", proof.describe())
}

impl Run<'_> {
    pub(in crate::txn) fn back_up(&mut self) -> Result<(), Stop> {
        let host = self.engine.host;
        self.engine.progress.step("backing up", FILES_LIMIT);
        let plan = serde_json::to_vec_pretty(self.plan)?;
        host.root.write(&self.dir.plan(), &plan, 0o600)?;
        let forms: Vec<(&str, &Form)> = self.plan.items.iter().map(|i| (i.name.as_str(), &i.form)).collect();
        let records = files::back_up(&host.root, &self.dir, &forms)?;
        for record in records.iter().filter(|r| !r.by_name) {
            let links = host.root.metadata(&record.path).map_or(1, |m| m.nlink());
            if links > 1 {
                self.report.notes.push(format!(
                    "{} has {links} names (hard links); only this one gets the new file",
                    record.path.display()
                ));
            }
        }
        self.report.notes.extend(files::set_aside(&host.root, &self.dir, &records));
        let forced = self.forced.iter().map(|gate| gate.id().to_owned()).collect();
        let begun = Begun { by: host.by.clone(), forced };
        self.ledger = Some(Ledger::open(&host.root, &self.dir, records, host.clock.now(), begun)?);
        Ok(())
    }

    pub(in crate::txn) fn stage(&mut self) -> Result<(), Stop> {
        let limit = self.engine.policy.exec.kubeadm_timeout.0;
        let each = u32::try_from(self.plan.items.len()).unwrap_or(u32::MAX);
        let limit = limit.saturating_mul(each) + self.engine.policy.kubelet.request_timeout.0 + FILES_LIMIT;
        self.engine.progress.step(format!("staging {each} certificates"), limit);
        let staged = match self.staged_by(&self.plan.source) {
            Err(e) if self.falls_back() => self.sign_instead(&chain(&e))?,
            staged => staged?,
        };
        self.report.notes.extend(staged.notes.iter().cloned());
        self.staged = Some(staged);
        Ok(())
    }

    fn staged_by(&self, source: &Source) -> Result<Staged, RenewError> {
        let going_on = || !self.engine.should_stop();
        let work = self.engine.host.root.on_host(&self.dir.work());
        let request = renew::Request {
            items: &self.plan.items,
            node: &self.engine.inventory.node,
            policy: self.engine.policy,
            workdir: &work,
            now: self.engine.host.clock.now(),
            patience: renew::csr::Patience(&going_on),
        };
        renew::renewer(source).stage(self.engine.host, &request)
    }

    fn falls_back(&self) -> bool {
        !self.signed_instead && choice::falls_back(&self.plan.source, self.engine.policy)
    }

    /// A kubeadm that crashes, hangs or makes what is unfit would do so again every day, until everything has expired.
    fn sign_instead(&mut self, why: &str) -> Result<Staged, Stop> {
        self.engine.progress.step("signing instead of kubeadm", FILES_LIMIT);
        self.signed_instead = true;
        let staged = self.staged_by(&Source::Local).map_err(|e| {
            Stop::Failed(format!("{why}; certwarden cannot sign instead of kubeadm either: {}", chain(&e)))
        })?;
        story::signed_instead(&self.dir.id, why);
        self.report.notes.push(format!(
            "kubeadm was not used: {why}; certwarden signed instead, as renew.renewer = \"auto\" allows; see why kubeadm fails"
        ));
        Ok(staged)
    }

    pub(in crate::txn) fn validate(&mut self) -> Result<(), Stop> {
        let host = self.engine.host;
        self.engine.progress.step("validating what was staged", FILES_LIMIT);
        let mut staged = self.staged.take().unwrap_or_default();
        let fit = match self.fit(&staged) {
            Err((_, why)) if self.falls_back() => {
                staged = self.sign_instead(&why)?;
                self.fit(&staged)
            }
            fit => fit,
        };
        let fit = fit.map_err(|(name, why)| {
            self.is_unfit(&name);
            Stop::Failed(why)
        })?;
        for (item, facts) in self.plan.items.iter().zip(fit) {
            self.validity.insert(item.name.clone(), (facts.not_before, facts.not_after));
            self.report.renewed.extend(item.names().map(|name| Renewed {
                name: name.clone(),
                path: item.form.path().to_path_buf(),
                old_serial: item.old_serial.clone(),
                new_serial: facts.serial.clone(),
                not_after: facts.not_after,
            }));
        }
        let digests = files::keep_staged(&host.root, &self.dir, &staged)?;
        let at = host.clock.now();
        self.ledger_mut()?.staged(&host.root, digests, at)?;
        story::staged(&self.dir.id, self.plan.items.len());
        self.staged = Some(staged);
        Ok(())
    }

    /// The certificate of each item in its order; or the first that is not fit to be used, and a sentence.
    fn fit(&self, staged: &Staged) -> Result<Vec<CertFacts>, (String, String)> {
        let host = self.engine.host;
        let freshness = match self.plan.source {
            Source::Generation { .. } => Freshness::Restored,
            Source::Identity { ref ways } if ways.iter().any(|w| matches!(w, Way::Adopt { .. })) => Freshness::Restored,
            Source::Kubeadm | Source::Local | Source::SelfMade | Source::Identity { .. } => Freshness::New,
        };
        let now = host.clock.now();
        let of = |item: &Item| {
            validate(host, item, staged, now, freshness).map_err(|objections| {
                let why: Vec<String> = objections.iter().map(ToString::to_string).collect();
                (item.name.clone(), format!("the staged {} is not fit to be used: {}", item.name, why.join("; ")))
            })
        };
        self.plan.items.iter().map(of).collect()
    }

    pub(in crate::txn) fn rehearse(&mut self, name: &str, proof: &Proof) -> Result<(), Stop> {
        for proof in self.as_members_dial(name, proof) {
            self.engine.progress.step(format!("rehearsing {name} against {}", proof.describe()), FILES_LIMIT);
            let seen = self.put_to_use(name, &proof, When::Rehearsal)?;
            // what still works is not given up for what nobody has accepted yet
            let proof_wanted =
                self.plan.item(name).is_some_and(|i| matches!(i.form, Form::Reference { proven: true, .. }));
            let refused = seen.proven == Some(false) || (proof_wanted && seen.proven.is_none());
            let sentence = format!("{name} was refused before the commit by {}: {}", seen.against, seen.detail);
            self.report.credentials.push(seen);
            if refused {
                if !proof_wanted && self.old_is_refused_too(name, &proof) {
                    self.excuse(name, &proof, &sentence)?;
                    continue;
                }
                self.is_unfit(name);
                return Err(Stop::Failed(sentence));
            }
        }
        Ok(())
    }

    /// A server that refuses the credential in use as well (a kubelet without `clientCAFile`, request headers of another
    /// name) says nothing about its successor. One that has expired is refused for that, and vouches for nothing.
    fn old_is_refused_too(&self, name: &str, proof: &Proof) -> bool {
        // what these two accept is up to flags of theirs; the others accept the credential in use, or are broken
        if !matches!(proof, Proof::Kubelet { .. } | Proof::FrontProxy { .. }) {
            return false;
        }
        let in_time = self.plan.item(name).and_then(|i| i.old_not_after).is_some_and(|end| end > self.now_at_least());
        in_time && self.put_to_use(name, proof, When::Verification).is_ok_and(|live| live.proven == Some(false))
    }

    /// Kept with what the node was like before, for the verification and for whoever finishes this transaction.
    fn excuse(&mut self, name: &str, proof: &Proof, sentence: &str) -> Result<(), Stop> {
        self.report.notes.push(format!("{sentence}; so is the one in use, as before"));
        self.before.refused.insert(refusal(name, proof));
        self.before.keep(&self.engine.host.root, &self.dir)
    }

    /// What came of a request, if it came of one, is not to be taken up again.
    fn is_unfit(&self, name: &str) {
        if matches!(self.plan.source, Source::Identity { .. }) {
            let host = self.engine.host;
            renew::csr::is_unfit(&host.root, serving::kind(name), host.clock.now());
        }
    }

    /// The member list knows better than this node's flags under which names the others dial it, and who they are:
    /// the new peer certificate must hold for those names, and the others must accept it from here.
    fn as_members_dial(&mut self, name: &str, proof: &Proof) -> Vec<Proof> {
        let Some(etcd) = self.before.etcd.as_ref().filter(|_| name == "etcd-peer") else { return vec![proof.clone()] };
        let Proof::Handshake { ca, names } = proof else { return vec![proof.clone()] };
        let sans = self.engine.inventory.get(name).and_then(|e| e.leaf()).map(|l| l.sans.clone()).unwrap_or_default();
        let covered = |h: &&String| sans.contains(&format!("IP:{h}")) || sans.contains(&format!("DNS:{h}"));
        let (kept, never): (Vec<&String>, Vec<&String>) = etcd.dialled.iter().partition(covered);
        let mut names = names.clone();
        names.extend(kept.into_iter().filter(|h| !names.contains(h)).cloned().collect::<Vec<_>>());
        let mut all = vec![Proof::Handshake { ca: ca.clone(), names }];
        let peer = |endpoint: &String| Proof::Etcd { endpoint: endpoint.clone(), ca: ca.clone() };
        all.extend(etcd.others.iter().map(peer));
        for host in never {
            self.report.notes.push(format!(
                "etcd's members dial this one as {host}, which its peer certificate did not cover before either"
            ));
        }
        all
    }
}
