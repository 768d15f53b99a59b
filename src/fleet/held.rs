//! The lock in this node's hands: renewed beside the engine's work and before what cannot be taken back, given up at the end.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::fleet::lease::{Claim, Ended, Step};
use crate::model::fleet::notes::Harm;
use crate::model::fleet::turn;
use crate::model::inventory::Role;
use crate::model::report::{Outcome, Report};

use super::memory::{Durable, OfBoot};
use super::{Cluster, node_of};
use crate::txn::turn::Doubt;

/// What asking for the lock may cost a transaction that is in place already, in all. Restarts wait for it, and nothing is
/// decided by it any more.
pub(super) const AFTER_COMMIT: Duration = Duration::from_secs(10);
/// For telling how it ended and giving the lock up; what is not done by then is owed, or ends by itself.
const AT_THE_END: Duration = Duration::from_secs(20);
/// What renewing it beside the work may cost, and how often that is tried at most.
const BESIDE: Duration = Duration::from_secs(5);
const BESIDE_AGAIN: Duration = Duration::from_secs(120);

/// The lock of [`Cluster::lock`]; the claim to it is the [`Cluster`]'s, so that it can be renewed wherever a transaction waits.
#[derive(Debug)]
pub struct Held<'a> {
    cluster: &'a Cluster<'a>,
}

impl<'a> Held<'a> {
    pub(super) fn new(cluster: &'a Cluster<'a>, claim: Claim) -> Self {
        cluster.claim.replace(Some(claim));
        cluster.left.set(AFTER_COMMIT);
        Self { cluster }
    }

    /// Renews it. Afterwards nobody else can have it for its whole duration, whatever becomes of the API.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn keep(&self) -> Result<(), Doubt> {
        self.cluster.keep()
    }

    /// Whether an emergency goes on in doubt. A lock that another has ends it as any other renewal, but for the last slot before the
    /// end, and for a worker that has waited long enough; where nobody can tell, the rule for the dark decides.
    pub fn goes_on(&self, doubt: &Doubt) -> bool {
        let (cluster, now) = (self.cluster, self.cluster.host.clock.now());
        let in_the_dark = || match cluster.role {
            Role::ControlPlane => now >= cluster.end.get() || cluster.slots().is_open(now),
            _ => !cluster.not_alone_yet(),
        };
        let late = cluster.role != Role::ControlPlane && turn::is_late(now, cluster.alone_from(), cluster.lasts());
        cluster.last_slot.get() || late || (matches!(doubt, Doubt::Unknown(_)) && in_the_dark())
    }

    /// [`keep`](Self::keep) after the commit, which waits for no API server: all of these together take a few seconds at most.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_if_quick(&self) -> Result<(), Doubt> {
        let Some(asker) = &self.cluster.asker else { return Ok(()) };
        let (kept, left) = asker.within(self.cluster.left.get(), || self.keep());
        self.cluster.left.set(left);
        kept
    }

    /// Gives it up, after a renewal with time to settle. A transaction that goes on after the next start keeps it.
    /// What could not be told comes back as notes.
    pub fn end(self, report: &Report) -> Vec<String> {
        match &self.cluster.asker {
            Some(asker) if report.outcome != Outcome::Interrupted => asker.within(AT_THE_END, || self.ended(report)).0,
            _ => Vec::new(),
        }
    }

    fn ended(&self, report: &Report) -> Vec<String> {
        // before somebody else can take it
        let notes = self.cluster.ended(report);
        if Durable::load(&self.cluster.host.root).owes_harm() {
            tracing::info!("the cluster's lock is kept until the others have been told how this renewal ended");
            return notes;
        }
        let touched =
            !matches!(report.outcome, Outcome::Refused | Outcome::LeftOut | Outcome::NothingToDo | Outcome::DryRun);
        self.give(if touched { self.cluster.settle() } else { Duration::ZERO });
        notes
    }

    /// Gives it up before anything was done.
    pub fn give_up(&self) {
        self.give(Duration::ZERO);
    }

    pub(super) fn give(&self, settle: Duration) {
        let given = self.cluster.with_claim(|claim, clock, now| claim.give(settle, clock, now));
        if let Some(Ended::Unknown(why)) = given {
            tracing::info!("the cluster's lock could not be given up ({why}): it ends by itself");
        }
        if let Some(claim) = self.cluster.claim.take() {
            let mut memory = OfBoot::load(&self.cluster.host.root);
            memory.seen.insert(self.cluster.lock().to_string(), claim.seen().clone());
            memory.save(&self.cluster.host.root);
        }
    }
}

impl<'a> Cluster<'a> {
    /// Carries out what is asked of the claim to the lock, if there is one.
    fn with_claim(&self, ask: impl FnOnce(&mut Claim, Duration, Timestamp) -> Step) -> Option<Ended> {
        let mut claim = self.claim.take()?;
        let clock = &self.host.clock;
        let step = ask(&mut claim, clock.since_boot(), clock.now());
        let ended = self.drive(&self.lock(), &mut claim, step);
        self.claim.replace(Some(claim));
        Some(ended)
    }

    fn keep(&self) -> Result<(), Doubt> {
        let clock = &self.host.clock;
        self.renewed.set(clock.since_boot());
        let ended = self.with_claim(Claim::keep);
        let holds = self.claim.borrow().as_ref().is_some_and(|claim| claim.holds(clock.since_boot(), Duration::ZERO));
        match ended {
            // the answer may have been long on its way, or this process have slept
            Some(Ended::Held) if holds => Ok(()),
            Some(Ended::Held | Ended::Given | Ended::Busy { .. }) | None => {
                Err(Doubt::Lost("the answer came too late".to_owned()))
            }
            Some(Ended::Lost { holder }) if holder.is_empty() => {
                Err(Doubt::Lost("somebody has taken it away".to_owned()))
            }
            Some(Ended::Lost { holder }) => Err(Doubt::Lost(format!("{} has it now", node_of(&holder)))),
            Some(Ended::Unknown(why)) => Err(Doubt::Unknown(why)),
        }
    }

    /// Whether nobody else can have the lock for so long, by asking, or else by this node's own clock.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn is_sure(&'a self, need: Duration) -> Result<(), Doubt> {
        if self.claim.borrow().is_none() {
            return Err(Doubt::Lost("it was not taken".to_owned()));
        }
        let kept = Held { cluster: self }.keep_if_quick();
        let clock = self.host.clock.since_boot();
        let holds = || self.claim.borrow().as_ref().is_some_and(|claim| claim.holds(clock, need));
        match kept {
            // a machine that was paused does not know it by its clock: who can be asked is asked
            Err(Doubt::Unknown(_)) if holds() => Ok(()),
            kept => kept,
        }
    }

    /// Renews the lock if a third of its time is over, whatever the engine is waiting for: called wherever that looks whether it
    /// should stop. So a verification or a way back that takes long keeps it to its end.
    pub fn beat(&self) {
        let clock = self.host.clock.since_boot();
        let due = self.claim.borrow().as_ref().is_some_and(|claim| !claim.is_fresh(clock));
        let rested = clock.saturating_sub(self.renewed.get()) >= BESIDE_AGAIN;
        let Some(asker) = self.asker.as_ref().filter(|_| due && rested) else { return };
        if let Err(doubt) = asker.within(BESIDE, || self.keep()).0 {
            tracing::warn!("the cluster's lock is not certain to be this node's any more: {doubt}");
        }
    }

    /// For how long nobody else begins after this node.
    pub(super) fn settle(&self) -> Duration {
        turn::settle(self.role, self.policy)
    }

    /// What this node holds from before a restart. None: nothing, or nobody can tell.
    pub fn adopt(&'a self) -> Option<Held<'a>> {
        self.asker.as_ref()?;
        let mut claim =
            Claim::new(self.me(), self.lasts(), OfBoot::load(&self.host.root).seen_of(&self.lock().to_string()));
        let clock = &self.host.clock;
        let step = claim.keep(clock.since_boot(), clock.now());
        let ended = self.drive(&self.lock(), &mut claim, step);
        (ended == Ended::Held).then(|| Held::new(self, claim))
    }

    /// Tells how a renewal without the lock ended.
    pub fn end_without_lock(&self, report: &Report) -> Vec<String> {
        match &self.asker {
            Some(asker) => asker.within(AT_THE_END, || self.ended(report)).0,
            None => self.ended(report),
        }
    }

    /// Tells that this node is on its way back, before it restarts anything: should it never come to an end, the others know.
    pub fn rolling_back(&self, at: Timestamp, reason: &str) {
        let harm = Harm::new(at, Outcome::RolledBack, &format!("on its way back: {reason}"));
        let tell = || self.tell(Some(&harm));
        let failed = match &self.asker {
            Some(asker) => asker.within(AFTER_COMMIT, tell).0,
            None => tell(),
        };
        self.marked.set(Some(true));
        if let Some(why) = failed {
            tracing::info!("{why}");
        }
    }
}
