//! The lock: a `coordination.k8s.io` Lease, as a state machine without I/O. Whoever drives it sends the [`Call`]s, hands in
//! the [`Reply`]s and says what its own clock shows.
//!
//! What makes at most one holder act:
//! - Every write names the version that it replaces (`resourceVersion`), so that of two writers one gets a conflict, and a
//!   request that comes twice or late changes nothing.
//! - Only a write that was answered counts. After silence the record is read and written again.
//! - Clocks of two machines are never compared (client-go: `leaderelection.go:tryAcquireOrRenew`). A record may be taken from
//!   its holder after it was *seen* unchanged for its duration by the taker's own clock. The holder counts from before it *sent*
//!   its last write, and a tenth less: it stops relying on the lock before anybody can have it.
//! - A release leaves a duration too, the time that the cluster gets to settle: waiting for it is the same rule.
//!
//! Times are of a clock that never steps and goes on in suspend (`CLOCK_BOOTTIME`).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub use super::seen::Seen;

/// A record that claims longer is not believed: configuration does not allow it, so nobody relies on it.
pub const LONGEST: Duration = Duration::from_secs(3_600);
/// Requests for one goal: enough for a conflict and two silences, few enough for a server that only ever errs.
const MOST_CALLS: u8 = 8;

/// The Lease, as far as it matters here.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Record {
    /// `spec.holderIdentity`; empty: nobody.
    pub holder: String,
    /// Who held it last, by annotation: for people, and because nobody has to wait for his own cool-down.
    pub last: String,
    /// `spec.leaseDurationSeconds`: for how long it must be seen unchanged before another may take it.
    pub seconds: u32,
    /// For people: no decision is made by them.
    pub acquired: Option<Timestamp>,
    pub renewed: Option<Timestamp>,
    pub transitions: u32,
    /// `metadata.resourceVersion`; empty in a record to be created.
    pub version: String,
    /// Carried along, because an update replaces the object.
    pub annotations: BTreeMap<String, String>,
}

/// A request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    Get,
    Create(Record),
    /// Only if the version is still the record's.
    Update(Record),
}

/// What became of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Reply {
    /// The record as it is now, with its version.
    Is(Record),
    Absent,
    /// Somebody else was first: 409.
    Conflict,
    /// No answer, or none that says whether it was done.
    Silence(String),
    /// It was not done and will not be: 403 and the like.
    Refused(String),
}

/// What a claim is after.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Goal {
    Take,
    Keep,
    /// To take it from whoever has this very tenure of it, waited for or not.
    Seize {
        transitions: u32,
    },
    /// Leaving others to wait for this long.
    Give(Duration),
}

/// What the driver does next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    Send(Call),
    Done(Ended),
}

/// How an attempt ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// A write of ours was answered: see [`Claim::holds`].
    Held,
    /// `wait`: until it may be taken, if nothing happens meanwhile. `holder` is empty while the cluster settles after `last`.
    Busy {
        holder: String,
        last: String,
        /// Of the record: which tenure it is.
        transitions: u32,
        wait: Duration,
    },
    /// Another has it: `holder`.
    Lost {
        holder: String,
    },
    Given,
    /// Nobody can tell.
    Unknown(String),
}

/// One agent's view of one lock.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Claim {
    me: String,
    lasts: Duration,
    seen: Seen,
    /// What was written last and answered: what the next write replaces.
    held: Option<Record>,
    /// The tenure that is ours, and since when it is as it is: from before the write was sent that was answered last. A write
    /// without an answer takes nothing of that away.
    tenure: Option<(u32, Duration)>,
    goal: Goal,
    sent: Duration,
    calls: u8,
    now: Timestamp,
}

impl Claim {
    /// `me`: the same after a restart, different from everybody else's. `seen`: what was remembered.
    pub fn new(me: impl Into<String>, lasts: Duration, seen: Seen) -> Self {
        let zero = Duration::ZERO;
        let (goal, now) = (Goal::Take, Timestamp::UNIX_EPOCH);
        Self {
            me: me.into(),
            lasts: lasts.min(LONGEST),
            seen,
            held: None,
            tenure: None,
            goal,
            sent: zero,
            calls: 0,
            now,
        }
    }

    /// To be remembered across processes.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether the lock is ours for `need` more, by our own clock and with a tenth to spare.
    pub fn holds(&self, clock: Duration, need: Duration) -> bool {
        let safe = self.lasts.saturating_sub(self.lasts / 10);
        self.tenure.is_some_and(|(_, since)| clock.saturating_sub(since).saturating_add(need) < safe)
    }

    /// Whether less than a third of its time is over since it was last renewed.
    pub fn is_fresh(&self, clock: Duration) -> bool {
        self.tenure.is_some_and(|(_, since)| clock.saturating_sub(since) < self.lasts / 3)
    }

    /// Begins to take it. `now` is for people.
    pub fn take(&mut self, clock: Duration, now: Timestamp) -> Step {
        self.begin(Goal::Take, clock, now)
    }

    /// Begins to take it over from a holder that is not waited for any more. Another one that has come meanwhile keeps it.
    pub fn seize(&mut self, transitions: u32, clock: Duration, now: Timestamp) -> Step {
        self.begin(Goal::Seize { transitions }, clock, now)
    }

    /// Begins to renew it, or to adopt what this node holds from before a restart.
    pub fn keep(&mut self, clock: Duration, now: Timestamp) -> Step {
        self.begin(Goal::Keep, clock, now)
    }

    /// Begins to release it; others wait for `settle` before one of them takes it.
    pub fn give(&mut self, settle: Duration, clock: Duration, now: Timestamp) -> Step {
        self.begin(Goal::Give(settle), clock, now)
    }

    fn begin(&mut self, goal: Goal, clock: Duration, now: Timestamp) -> Step {
        (self.goal, self.now, self.calls) = (goal, now, 0);
        if goal != Goal::Keep {
            self.tenure = None;
        }
        match self.held.take() {
            Some(record) if matches!(goal, Goal::Keep | Goal::Give(_)) => self.write(record, clock),
            _ => self.send(Call::Get, clock),
        }
    }

    fn send(&mut self, call: Call, clock: Duration) -> Step {
        if self.calls >= MOST_CALLS {
            return Step::Done(Ended::Unknown("too many conflicts".to_owned()));
        }
        (self.calls, self.sent) = (self.calls + 1, clock);
        Step::Send(call)
    }

    /// Writes what the goal wants over `old`.
    fn write(&mut self, old: Record, clock: Duration) -> Step {
        // whoever takes his own lock again has another tenure: who has waited for the last one waits anew
        let ours = old.holder == self.me && self.goal != Goal::Take;
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let record = match self.goal {
            Goal::Give(settle) => {
                let holder = String::new();
                Record { holder, last: self.me.clone(), seconds: seconds(settle), renewed: Some(self.now), ..old }
            }
            Goal::Take | Goal::Seize { .. } | Goal::Keep => Record {
                holder: self.me.clone(),
                seconds: seconds(self.lasts),
                acquired: if ours { old.acquired } else { Some(self.now) },
                renewed: Some(self.now),
                transitions: if ours { old.transitions } else { old.transitions.saturating_add(1) },
                ..old
            },
        };
        let new = record.version.is_empty();
        self.send(if new { Call::Create(record) } else { Call::Update(record) }, clock)
    }

    /// What follows from a reply that has just come.
    pub fn on(&mut self, call: &Call, reply: Reply, clock: Duration) -> Step {
        match (call, reply) {
            (_, Reply::Refused(why)) => Step::Done(Ended::Unknown(why)),
            // whether a write was done can only be read; a second one names the version that was read
            (_, Reply::Silence(why)) if self.calls >= MOST_CALLS / 2 => Step::Done(Ended::Unknown(why)),
            (_, Reply::Silence(_) | Reply::Conflict) | (Call::Update(_), Reply::Absent) => self.send(Call::Get, clock),
            (Call::Get, Reply::Absent) => match self.goal {
                Goal::Take | Goal::Seize { .. } => self.make(clock),
                Goal::Keep => self.make_again(clock),
                Goal::Give(_) => Step::Done(Ended::Given),
            },
            (Call::Create(_), Reply::Absent) => Step::Done(Ended::Unknown("its namespace does not exist".to_owned())),
            (Call::Get, Reply::Is(record)) => self.read(record, clock),
            (_, Reply::Is(record)) if matches!(self.goal, Goal::Give(_)) => {
                self.seen.wait(&record, clock);
                Step::Done(Ended::Given)
            }
            (_, Reply::Is(record)) => {
                self.tenure = Some((record.transitions, self.sent));
                self.held = Some(record);
                Step::Done(Ended::Held)
            }
        }
    }

    /// It does not exist. Whoever was seen with it may be at work.
    fn make(&mut self, clock: Duration) -> Step {
        let wait = self.seen.gone(&self.me, clock);
        if wait.is_zero() {
            return self.write(Record::default(), clock);
        }
        let Seen { holder, before: last, transitions, .. } = self.seen.clone();
        Step::Done(Ended::Busy { holder, last, transitions, wait })
    }

    /// Somebody has deleted it from under us. It is made again, unless another was first, as long as nobody who knows of it may
    /// have taken it.
    fn make_again(&mut self, clock: Duration) -> Step {
        match self.tenure {
            Some((transitions, _)) if self.holds(clock, Duration::ZERO) => {
                self.write(Record { holder: self.me.clone(), transitions, ..Record::default() }, clock)
            }
            _ => self.lost(String::new()),
        }
    }

    fn lost(&mut self, holder: String) -> Step {
        self.tenure = None;
        Step::Done(Ended::Lost { holder })
    }

    fn read(&mut self, record: Record, clock: Duration) -> Step {
        let ours = record.holder == self.me;
        match self.goal {
            Goal::Keep | Goal::Give(_) if ours => self.write(record, clock),
            Goal::Keep => self.lost(record.holder),
            Goal::Give(_) => Step::Done(Ended::Given),
            Goal::Take | Goal::Seize { .. } => {
                let free = record.holder.is_empty() && record.last == self.me;
                let wait = self.seen.wait(&record, clock);
                let meant = matches!(self.goal, Goal::Seize { transitions } if transitions == record.transitions);
                if ours || free || wait.is_zero() || meant {
                    return self.write(record, clock);
                }
                let Record { holder, last, transitions, .. } = record;
                Step::Done(Ended::Busy { holder, last, transitions, wait })
            }
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
