//! What this node tells the others: how its renewals ended.

use std::collections::BTreeMap;

use crate::model::fleet::lease::{Call, Record, Reply};
use crate::model::fleet::notes::{Harm, is_harm};
use crate::model::inventory::Role;
use crate::model::report::{Outcome, Report};

use super::Cluster;
use super::memory::{Durable, Owed};

/// Two writers of notes in the same moment are one too many; more than a few are a defect.
const MOST_TRIES: u8 = 5;

impl Cluster<'_> {
    /// Whether there is anybody to tell.
    pub fn has_company(&self) -> bool {
        match self.role {
            Role::ControlPlane => !Durable::load(&self.host.root).members.is_empty(),
            _ => self.asker.is_some(),
        }
    }

    /// Tells the others how a transaction ended: harm is marked, and its mark taken away by success.
    pub fn ended(&self, report: &Report) -> Vec<String> {
        if is_harm(report.outcome) {
            return self.tell(Some(&Harm::new(report.ended_at, report.outcome, &report.reason))).into_iter().collect();
        }
        if matches!(report.outcome, Outcome::Verified | Outcome::Committed) && self.is_marked() {
            return self.tell(None).into_iter().collect();
        }
        Vec::new()
    }

    /// Whether this node's own mark is set; who has not looked asks.
    fn is_marked(&self) -> bool {
        let asked = || self.notes().is_ok_and(|notes| self.writer.marks_in(&notes).contains_key(&self.node));
        self.marked.get().unwrap_or_else(asked) || Durable::load(&self.host.root).owes_harm()
    }

    /// Marks this node's harm, or takes the mark away. What cannot be told now is owed.
    pub(super) fn tell(&self, harm: Option<&Harm>) -> Option<String> {
        let place = self.writer.marks();
        let told = note(&|call| self.exchange(&place, call), &|entries| self.writer.mark(entries, &self.node, harm));
        Durable::update(&self.host.root, |memory| {
            memory.owed = told.is_err().then(|| Owed { harm: harm.cloned() });
        });
        told.err().map(|why| format!("the other nodes could not be told yet how this one fared: {why}"))
    }

    /// Tells what is owed, if anything is. Until then the lock is kept, if this node still has it: nobody is to do the same in
    /// ignorance.
    pub fn settle_debts(&self) {
        let Some(owed) = Durable::load(&self.host.root).owed else { return };
        let failed = self.tell(owed.harm.as_ref());
        let held = self.adopt();
        match (failed, held) {
            (None, Some(held)) => held.give(self.settle()),
            (None, None) => {}
            (Some(why), held) => tracing::debug!("{why}; the cluster's lock is kept: {}", held.is_some()),
        }
    }
}

/// Changes what all are to know, by requests about the object where it is.
pub(super) fn note(ask: &dyn Fn(&Call) -> Reply, change: &dyn Fn(&mut BTreeMap<String, String>)) -> Result<(), String> {
    let mut why = "too many others write there".to_owned();
    for _ in 0..MOST_TRIES {
        let old = match ask(&Call::Get) {
            Reply::Is(record) => record,
            Reply::Absent => Record::default(),
            Reply::Conflict => continue,
            Reply::Silence(because) | Reply::Refused(because) => return Err(because),
        };
        let mut new = old.clone();
        change(&mut new.annotations);
        if new.annotations == old.annotations {
            return Ok(());
        }
        match ask(&if new.version.is_empty() { Call::Create(new) } else { Call::Update(new) }) {
            Reply::Is(_) => return Ok(()),
            Reply::Absent | Reply::Conflict => {}
            Reply::Silence(because) => why = because,
            Reply::Refused(because) => return Err(because),
        }
    }
    Err(why)
}
