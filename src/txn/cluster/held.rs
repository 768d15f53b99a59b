//! The lock in this node's hands: renewed before what cannot be taken back, given up at the end.

use std::time::Duration;

use crate::model::fleet::lease::{Claim, Ended};
use crate::model::fleet::notes::{Harm, is_harm};
use crate::model::fleet::turn;
use crate::model::report::{Outcome, Report};

use super::Cluster;
use super::memory::OfBoot;

/// What asking for the lock may cost a transaction that is in place already, in all. Restarts wait for it, and nothing is
/// decided by it any more.
const AFTER_COMMIT: Duration = Duration::from_secs(10);
/// For telling how it ended and giving the lock up; what is not done by then is owed, or ends by itself.
const AT_THE_END: Duration = Duration::from_secs(20);

/// The lock of [`Cluster::lock`].
#[derive(Debug)]
pub struct Held<'a> {
    cluster: &'a Cluster<'a>,
    name: String,
    claim: Claim,
    /// What is left of [`AFTER_COMMIT`].
    left: Duration,
}

impl<'a> Held<'a> {
    pub(super) fn new(cluster: &'a Cluster<'a>, name: String, claim: Claim) -> Self {
        Self { cluster, name, claim, left: AFTER_COMMIT }
    }

    /// Renews it. Afterwards nobody else can have it for its whole duration, whatever becomes of the API.
    ///
    /// # Errors
    /// Why it is not ours for certain, in a sentence.
    pub fn keep(&mut self) -> Result<(), String> {
        let clock = &self.cluster.host.clock;
        let step = self.claim.keep(clock.since_boot(), clock.now());
        match self.cluster.drive(&self.name, &mut self.claim, step) {
            // the answer may have been long on its way, or this process have slept
            Ended::Held if self.claim.holds(clock.since_boot(), Duration::ZERO) => Ok(()),
            Ended::Held | Ended::Given | Ended::Busy { .. } => Err("the answer came too late".to_owned()),
            Ended::Lost { holder } if holder.is_empty() => Err("somebody has taken it away".to_owned()),
            Ended::Lost { holder } => Err(format!("{} has it now", super::look::node_of(&holder))),
            Ended::Unknown(why) => Err(format!("it cannot be renewed: {why}")),
        }
    }

    /// The same after the commit, which waits for no API server: all of these together take a few seconds at most.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_if_quick(&mut self) -> Result<(), String> {
        let Some(asker) = &self.cluster.asker else { return Ok(()) };
        let (kept, left) = asker.within(self.left, || self.keep());
        self.left = left;
        kept
    }

    /// Gives it up, after a renewal with time to settle. A transaction that goes on after the next start keeps it.
    /// What could not be told comes back as notes.
    pub fn end(mut self, report: &Report) -> Vec<String> {
        match &self.cluster.asker {
            Some(asker) if report.outcome != Outcome::Interrupted => asker.within(AT_THE_END, || self.ended(report)).0,
            _ => Vec::new(),
        }
    }

    fn ended(&mut self, report: &Report) -> Vec<String> {
        // before somebody else can take it
        let notes = self.cluster.ended(report);
        let touched =
            !matches!(report.outcome, Outcome::Refused | Outcome::LeftOut | Outcome::NothingToDo | Outcome::DryRun);
        let settle = if touched { turn::settle(self.cluster.role, self.cluster.policy) } else { Duration::ZERO };
        self.give(settle);
        let mut memory = OfBoot::load(&self.cluster.host.root);
        memory.seen.insert(self.name.clone(), self.claim.seen().clone());
        memory.save(&self.cluster.host.root);
        notes
    }

    /// Gives it up before anything was done.
    pub fn give_up(&mut self) {
        self.give(Duration::ZERO);
    }

    fn give(&mut self, settle: Duration) {
        let clock = &self.cluster.host.clock;
        let step = self.claim.give(settle, clock.since_boot(), clock.now());
        if let Ended::Unknown(why) = self.cluster.drive(&self.name, &mut self.claim, step) {
            tracing::info!("the cluster's lock could not be given up ({why}): it ends by itself");
        }
    }
}

impl<'a> Cluster<'a> {
    /// Tells the others how a transaction ended: harm is marked, and its mark taken away by success.
    pub fn ended(&self, report: &Report) -> Vec<String> {
        if is_harm(report.outcome) {
            return self.tell(Some(&Harm::new(report.ended_at, report.outcome, &report.reason))).into_iter().collect();
        }
        if self.marked.get() && matches!(report.outcome, Outcome::Verified | Outcome::Committed) {
            return self.tell(None).into_iter().collect();
        }
        Vec::new()
    }

    /// What this node holds from before a restart. None: nothing, or nobody can tell.
    pub fn adopt(&'a self) -> Option<Held<'a>> {
        self.asker.as_ref()?;
        let mut claim = Claim::new(self.me(), self.lasts(), OfBoot::load(&self.host.root).seen_of(&self.lock()));
        let (name, clock) = (self.lock(), &self.host.clock);
        let step = claim.keep(clock.since_boot(), clock.now());
        let ended = self.drive(&name, &mut claim, step);
        (ended == Ended::Held).then(|| Held::new(self, name, claim))
    }
}
