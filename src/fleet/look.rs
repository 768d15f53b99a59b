//! Whether it is this node's turn, and what is in its way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::cert::CertFacts;
use crate::model::fleet::lease::{Call, Record, Reply};
use crate::model::fleet::marks;
use crate::model::fleet::notes::{self, Harm, Notes};
use crate::model::fleet::place::{NOTES, Place, WORKERS, Writer};
use crate::model::fleet::turn;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Role;
use crate::model::plan::Plan;

use super::Cluster;
use super::memory::OfBoot;

/// What a look at the cluster found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub refusals: Vec<Refusal>,
    /// The lock has to be taken before anything is changed.
    pub needs_lock: bool,
    /// There are others who are to know how it ends.
    pub tells: bool,
    /// What a person should know: sentences.
    pub notes: Vec<String>,
}

impl Look {
    fn refused(refusal: Refusal) -> Self {
        Self { refusals: vec![refusal], ..Self::default() }
    }
}

/// The node's name of a holder's identity.
pub fn node_of(holder: &str) -> &str {
    holder.rsplit_once('_').map_or(holder, |(node, _)| node)
}

impl Cluster<'_> {
    /// What stands in the way of a plan, as far as the cluster knows. Takes nothing.
    pub fn look(&self, plan: &Plan) -> Look {
        let mut memory = OfBoot::load(&self.host.root);
        self.measure(plan);
        let look = self.look_with(plan, &mut memory);
        memory.save(&self.host.root);
        look
    }

    fn look_with(&self, plan: &Plan, memory: &mut OfBoot) -> Look {
        if self.asker.is_none() && self.role != Role::ControlPlane {
            return Look::default(); // a worker without a credential is spread by time alone
        }
        if self.role != Role::ControlPlane {
            // thousands may wait: as long as the lock is another's, that is all that they ask
            match self.exchange(&self.lock(), &Call::Get) {
                Reply::Silence(why) | Reply::Refused(why) => return self.dark(plan, &why, memory),
                Reply::Is(record) => {
                    if let Some(refusal) = self.taken(&record, memory) {
                        return Look { needs_lock: true, tells: true, ..Look::refused(refusal) };
                    }
                }
                Reply::Absent | Reply::Conflict => {}
            }
        }
        let mut notes = match self.told() {
            Ok(notes) => notes,
            Err(why) => return self.dark(plan, &why, memory),
        };
        let mut look = Look::default();
        look.refusals.extend(self.paused(&notes, memory));
        if self.role != Role::ControlPlane && !look.refusals.is_empty() {
            return Look { needs_lock: true, tells: true, ..look }; // nor does a pause cost them more
        }
        notes.workers = match self.marks_of_workers() {
            Ok(marks) => marks,
            Err(why) => return self.dark(plan, &why, memory),
        };
        if self.role == Role::ControlPlane {
            let labelled = match self.labelled() {
                Ok(labelled) => labelled,
                Err(why) => return self.dark(plan, &why, memory),
            };
            let peers = self.find_peers(Some(&labelled));
            look.needs_lock = !peers.is_alone();
            look.tells = look.needs_lock;
            look.notes = peers.disagreements();
            memory.warn_once(&look.notes);
            look.refusals.extend(self.not_ready(&labelled, memory).or_else(|| self.after_outage(&peers, memory)));
            memory.outage.answered();
        } else {
            (look.needs_lock, look.tells) = (true, true);
            look.refusals.extend(self.after_control_planes(memory));
        }
        look.refusals.extend(self.harmed(&notes, memory));
        look.refusals.extend(self.maintenance(memory));
        look
    }

    /// What of a plan ends first, and when that becomes an emergency. What has no end is broken already.
    pub(super) fn measure(&self, plan: &Plan) {
        let now = self.host.clock.now();
        let first = plan.items.iter().min_by_key(|i| i.old_not_after.unwrap_or(now));
        let life = first.and_then(|i| self.inventory.get(&i.name)?.leaf()).map_or(i64::MAX, CertFacts::measured_life);
        self.end.set(first.and_then(|i| i.old_not_after).unwrap_or(now));
        self.emergency.set(Duration::from_secs(self.policy.renew.emergency(life).unsigned_abs()));
    }

    /// Whether this node's lock cannot be taken now.
    fn taken(&self, record: &Record, memory: &mut OfBoot) -> Option<Refusal> {
        let me = self.me();
        let ours = record.holder == me || (record.holder.is_empty() && record.last == me);
        let wait = memory.seen_mut(&self.lock().to_string()).wait(record, self.host.clock.since_boot());
        (!ours && !wait.is_zero()).then(|| self.busy(&self.lock(), record, wait, memory))
    }

    /// All that nodes were told.
    pub(super) fn notes(&self) -> Result<Notes, String> {
        let told = self.told()?;
        Ok(Notes { workers: self.marks_of_workers()?, ..told })
    }

    /// What people and control planes have told.
    fn told(&self) -> Result<Notes, String> {
        let told = self.entries(&NOTES, false)?;
        let pause = notes::pause(&told, self.host.clock.now());
        Ok(Notes { pause, harm: notes::harm(&told), workers: BTreeMap::new() })
    }

    /// A worker with a shared credential may not read them.
    fn marks_of_workers(&self) -> Result<BTreeMap<String, Harm>, String> {
        match self.writer {
            Writer::Shared => Ok(BTreeMap::new()),
            // an administrator's credential of the operator's making may have the rights that 0.1.0 needed
            writer => Ok(marks::all(&self.entries(&WORKERS, writer == Writer::ControlPlane)?)),
        }
    }

    fn entries(&self, place: &Place, may_be_refused: bool) -> Result<BTreeMap<String, String>, String> {
        match self.exchange(place, &Call::Get) {
            Reply::Is(record) => Ok(record.annotations),
            Reply::Absent => Ok(BTreeMap::new()),
            Reply::Refused(_) if may_be_refused => Ok(BTreeMap::new()),
            Reply::Conflict => Err("a conflict where nothing was written".to_owned()),
            Reply::Silence(why) | Reply::Refused(why) => Err(why),
        }
    }

    /// Nobody can be asked. A single control plane needs nobody; of several, each waits for its own time.
    pub(super) fn dark(&self, plan: &Plan, why: &str, memory: &mut OfBoot) -> Look {
        let known = if self.role == Role::ControlPlane { self.find_peers(None).names() } else { Vec::new() };
        if self.role == Role::ControlPlane && known.len() <= 1 {
            return Look::default();
        }
        let now = self.host.clock.now();
        self.measure(plan);
        let (end, emergency) = (self.end.get(), self.emergency.get());
        // who was seen with the lock may still be at work, for as long as it lasts
        let rest = self.lasts().saturating_sub(memory.outage.unanswered(self.host.clock.since_boot()));
        let at = if self.role == Role::ControlPlane {
            self.slots().in_the_dark(now, rest, end, emergency)
        } else {
            turn::worker_alone(&self.who, end, emergency)
        };
        if now >= at {
            return Look { tells: true, ..Look::default() };
        }
        let reason =
            format!("the cluster cannot be asked whose turn it is ({why}); without it this node acts at {at:.0}");
        let again = self.again(memory, self.policy.fleet.settle.0, false).map(|again| again.min(at));
        let refusal = Refusal::new(Gate::ClusterLock, reason, "see that an API server answers").until(again);
        Look { tells: true, ..Look::refused(Refusal { doubts_emergency: true, ..refusal }) }
    }
}
