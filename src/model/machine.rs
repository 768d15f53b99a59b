//! The daemon's state machine: when it looks, when it acts, when it holds back. Pure; the daemon feeds it events
//! and carries out its effects.
//!
//! Two questions, answered side by side. What is it doing?
//!
//! ```text
//!            Tick, due                  CheckDone, something due and nothing against it
//!   Idle ───────────────▶ Checking ────────────────────────────────────────▶ Transacting
//!    ▲                     │  │  ▲                                              │
//!    │ CheckDone           │  │  └──────────────── TransactionDone ─────────────┘
//!    └─────────────────────┘  │ CheckDone, a dead process left a transaction open
//!                             ▼  ▲
//!                        Recovering ── RecoverDone ──▶ Checking
//!
//!   Terminate:  Idle, Checking ──▶ Ended      Transacting, Recovering ──▶ Stopping ── …Done ──▶ Ended
//! ```
//! The check after a transaction or a recovery only looks: whatever it finds due waits for the next scheduled one. What is in
//! place and not proven is verified again as a recovery is carried out, after what is due and never instead of it.
//!
//! May it act? ([`Standing`])
//!
//! ```text
//!   Free ── rolled-back ──▶ BackingOff ── rolled-back ──▶ BackingOff, twice as long
//!    ▲ ▲                       │  │
//!    │ └─ until has passed ────┘  │        any ── rollback-failed ──▶ ObserveOnly
//!    └──── verified ──────────────┘        ObserveOnly ── Remembered, an operator acted ──▶ Free
//! ```
//! Looking never stops. A back-off holds in an emergency too: with three days left and at most a day between
//! attempts there are several, and an attempt that was rolled back has cost the node a restart each time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::policy::Mode;
use super::report::Outcome;
use super::schedule::{Schedule, back_off_until, repaired_until};

/// What was renewed is not renewed again for this long: if it is due at once, the renewer gives less than it should, and the
/// node would restart its kubelet at every look. At most a third of the life that it was given.
const NO_REPEAT: SignedDuration = SignedDuration::from_hours(24);

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "doing")]
pub enum Activity {
    /// Asleep until `next`.
    Idle { next: Timestamp },
    /// Looking. `may_act`: what it finds due may be renewed now; `may_prove`: what it finds unproven may be verified now.
    Checking { may_act: bool, may_prove: bool },
    /// A transaction is running on the engine's thread.
    Transacting,
    /// A transaction that a dead process left open is being finished.
    Recovering,
    /// Told to end; the transaction is being discarded or finished first.
    Stopping,
    /// Nothing runs any more.
    Ended,
}

impl Activity {
    /// Whether a transaction or a recovery runs: live files may be changing.
    pub fn is_changing(self) -> bool {
        matches!(self, Self::Transacting | Self::Recovering | Self::Stopping)
    }
}

/// Whether the daemon may act.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "standing")]
pub enum Standing {
    /// Failures: rollbacks in a row before the last back-off ended; one more continues the doubling.
    Free { failures: u32 },
    /// The last transaction was rolled back: nothing is renewed until `until`.
    BackingOff { failures: u32, until: Timestamp },
    /// A rollback failed: nothing is renewed until an operator has acted.
    ObserveOnly { since: Timestamp, reason: String },
}

impl Standing {
    /// What follows from the end of a transaction or a recovery, whoever drove it.
    #[must_use]
    pub fn after(&self, outcome: Outcome, reason: &str, now: Timestamp) -> Self {
        match (outcome, self) {
            // new files are in place; what could not be proven is in the report, and a repetition would not prove it
            (
                Outcome::Verified | Outcome::Committed | Outcome::Degraded,
                Self::Free { .. } | Self::BackingOff { .. },
            ) => Self::Free { failures: 0 },
            (Outcome::RolledBack, Self::Free { failures } | Self::BackingOff { failures, .. }) => {
                let failures = failures.saturating_add(1);
                Self::BackingOff { failures, until: back_off_until(failures, now) }
            }
            (Outcome::RollbackFailed, _) => Self::ObserveOnly { since: now, reason: reason.to_owned() },
            // nothing live was touched, or what remains is found unfinished at the next look; and observing ends by
            // an operator's hand only
            _ => self.clone(),
        }
    }
}

/// What was renewed lately, by logical name, and until when it is not renewed again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Renewed(BTreeMap<String, Timestamp>);

impl Renewed {
    /// Adds what was renewed at `at`, each with the life that it was given, and forgets what may be renewed again.
    pub fn add(&mut self, lives: impl IntoIterator<Item = (String, SignedDuration)>, at: Timestamp) {
        // who says that it has expired already is not asked again at once
        let pause = |life: SignedDuration| if life.is_positive() { NO_REPEAT.min(life / 3) } else { NO_REPEAT };
        let until = |life| at.checked_add(pause(life)).unwrap_or(at);
        self.0.extend(lives.into_iter().map(|(name, life)| (name, until(life))));
        self.0.retain(|_, until| *until > at);
    }

    /// Adds what somebody else remembers, too.
    pub fn merge(&mut self, other: &Self) {
        for (name, at) in &other.0 {
            let mine = self.0.entry(name.clone()).or_insert(*at);
            *mine = (*mine).max(*at);
        }
    }

    /// Whether it was renewed so lately that it is not to be renewed again. Not what a clock that was set back since shows
    /// in the future.
    fn lately(&self, name: &str, now: Timestamp) -> bool {
        self.0.get(name).is_some_and(|until| *until > now && until.duration_since(now) <= NO_REPEAT)
    }
}

/// What a look found, as far as it decides what follows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Logical names of what is due and not excluded.
    pub due: Vec<String>,
    /// A transaction without an end, left by a process that is dead.
    pub unfinished: bool,
    /// What is due is not renewed before: it is worth another look then, and none earlier.
    pub not_before: Option<Timestamp>,
    /// What hindered the last recovery: it is tried again then.
    pub retry_at: Option<Timestamp>,
    /// Something is in place and not proven, and it is time to verify it again.
    pub unproven: bool,
}

/// What happens to the daemon. Every event carries the wall-clock time at which it happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Time has passed, at most a minute of it.
    Tick,
    CheckDone(Found),
    /// `outcome`: of the last transaction, if it took several. `renewed`: what is new and stays so, with its life, in all
    /// of them.
    TransactionDone {
        outcome: Outcome,
        reason: String,
        renewed: Vec<(String, SignedDuration)>,
    },
    /// None: there was nothing to recover.
    RecoverDone(Option<(Outcome, String)>),
    /// The configuration was read again.
    Reload(Mode, Schedule),
    /// The durable memory says this: an operator, or a `renew` of theirs, may have changed it.
    Remembered(Standing),
    /// SIGTERM, SIGINT.
    Terminate,
}

/// What the daemon has to do, in this order. What it publishes, and whether it ends, follows from the state itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    StartCheck,
    StartTransaction,
    StartRecover,
    /// Tell the engine to end at the next point where the node is well.
    Cancel,
    /// The durable memory (`state.json`) has changed.
    Save,
}

/// The answer to a job that nobody started. A defect, not a state of the node; the daemon ends and is restarted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{event} cannot happen while {activity:?}")]
pub struct IllegalTransition {
    pub activity: Activity,
    pub event: &'static str,
}

/// The whole state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    pub activity: Activity,
    pub standing: Standing,
    pub mode: Mode,
    pub schedule: Schedule,
    pub renewed: Renewed,
}

type Next = Result<(State, Vec<Effect>), IllegalTransition>;

impl State {
    /// At start, with what the daemon remembers.
    pub fn start(now: Timestamp, mode: Mode, schedule: Schedule, standing: Standing, renewed: Renewed) -> Self {
        Self { activity: Activity::Idle { next: schedule.first(now) }, standing, mode, schedule, renewed }
    }

    /// The next look, if it is asleep.
    pub fn next(&self) -> Option<Timestamp> {
        if let Activity::Idle { next } = self.activity { Some(next) } else { None }
    }

    /// What follows from `event` at wall-clock time `now`.
    ///
    /// # Errors
    /// [`IllegalTransition`] if a job is reported done that does not run.
    pub fn on(mut self, event: Event, now: Timestamp) -> Next {
        use Activity as A;
        match (self.activity, event) {
            (A::Idle { next }, Event::Tick) => Ok(self.tick(next, now)),
            // an ended daemon may still hear of the look that was under way
            (
                A::Ended,
                Event::CheckDone(_) | Event::Tick | Event::Reload(..) | Event::Remembered(_) | Event::Terminate,
            )
            | (A::Checking { .. } | A::Transacting | A::Recovering | A::Stopping, Event::Tick)
            | (A::Stopping, Event::Terminate) => Ok((self, Vec::new())),
            (A::Checking { may_act, may_prove }, Event::CheckDone(found)) => {
                Ok(self.checked(&found, may_act, may_prove, now))
            }
            (A::Transacting, Event::TransactionDone { outcome, reason, renewed }) => {
                self.judge(outcome, &reason, renewed, now);
                Ok(self.go(A::Checking { may_act: false, may_prove: true }, [Effect::Save, Effect::StartCheck]))
            }
            (A::Recovering, Event::RecoverDone(outcome)) => {
                self.judge_recovery(outcome.as_ref(), now);
                Ok(self.go(A::Checking { may_act: false, may_prove: false }, [Effect::Save, Effect::StartCheck]))
            }
            (A::Stopping, Event::TransactionDone { outcome, reason, renewed }) => {
                self.judge(outcome, &reason, renewed, now);
                Ok(self.go(A::Ended, [Effect::Save]))
            }
            (A::Stopping, Event::RecoverDone(outcome)) => {
                self.judge_recovery(outcome.as_ref(), now);
                Ok(self.go(A::Ended, [Effect::Save]))
            }
            (_, Event::Reload(mode, schedule)) => Ok(self.reloaded(mode, schedule, now)),
            (_, Event::Remembered(standing)) => Ok((Self { standing, ..self }, Vec::new())),
            (A::Idle { .. } | A::Checking { .. }, Event::Terminate) => Ok(self.go(A::Ended, [])),
            (A::Transacting | A::Recovering, Event::Terminate) => Ok(self.go(A::Stopping, [Effect::Cancel])),
            (activity, event) => Err(IllegalTransition { activity, event: event.name() }),
        }
    }

    /// Whether what is due may be renewed: nothing against it, and not all of it just renewed.
    pub fn may_act(&self, due: &[String], now: Timestamp) -> bool {
        let repeats = due.iter().all(|name| self.renewed.lately(name, now));
        self.mode == Mode::Enforce && matches!(self.standing, Standing::Free { .. }) && !due.is_empty() && !repeats
    }

    fn go<const N: usize>(mut self, activity: Activity, effects: [Effect; N]) -> (Self, Vec<Effect>) {
        self.activity = activity;
        (self, effects.into())
    }

    fn tick(mut self, next: Timestamp, now: Timestamp) -> (Self, Vec<Effect>) {
        let next = self.schedule.repaired(next, now);
        let mut effects = Vec::new();
        if self.end_back_off(now) {
            effects.push(Effect::Save);
        }
        if now >= next {
            effects.push(Effect::StartCheck);
            return (Self { activity: Activity::Checking { may_act: true, may_prove: true }, ..self }, effects);
        }
        self.activity = Activity::Idle { next };
        (self, effects)
    }

    /// Ends a back-off whose time has come, or shortens one that a clock set back would prolong.
    fn end_back_off(&mut self, now: Timestamp) -> bool {
        let Standing::BackingOff { failures, until } = self.standing else { return false };
        let repaired = repaired_until(until, failures, now);
        self.standing = if now >= repaired {
            Standing::Free { failures }
        } else {
            Standing::BackingOff { failures, until: repaired }
        };
        now >= repaired || repaired != until
    }

    fn checked(self, found: &Found, may_act: bool, may_prove: bool, now: Timestamp) -> (Self, Vec<Effect>) {
        // in observe mode too: to end what a person began and a lost connection cut short is no renewal
        let can_recover = !matches!(self.standing, Standing::ObserveOnly { .. });
        let retry = found.retry_at.filter(|at| found.unfinished && *at > now);
        if may_act && found.unfinished && can_recover && retry.is_none() {
            return self.go(Activity::Recovering, [Effect::StartRecover]);
        }
        let wait = found.not_before.filter(|at| *at > now);
        if may_act && !found.unfinished && wait.is_none() && self.may_act(&found.due, now) {
            return self.go(Activity::Transacting, [Effect::StartTransaction]);
        }
        // after what is due: it renews nothing, and nobody waits for it
        if may_prove && !found.unfinished && found.unproven && can_recover {
            return self.go(Activity::Recovering, [Effect::StartRecover]);
        }
        let next = [wait, retry].into_iter().flatten().fold(self.schedule.next(now), Timestamp::min);
        self.go(Activity::Idle { next }, [])
    }

    fn judge(&mut self, outcome: Outcome, reason: &str, renewed: Vec<(String, SignedDuration)>, now: Timestamp) {
        self.standing = self.standing.after(outcome, reason, now);
        self.renewed.add(renewed, now);
    }

    fn judge_recovery(&mut self, outcome: Option<&(Outcome, String)>, now: Timestamp) {
        if let Some((outcome, reason)) = outcome {
            self.standing = self.standing.after(*outcome, reason, now);
        }
    }

    fn reloaded(mut self, mode: Mode, schedule: Schedule, now: Timestamp) -> (Self, Vec<Effect>) {
        (self.mode, self.schedule) = (mode, schedule);
        if let Activity::Idle { next } = self.activity {
            // new thresholds deserve a look soon, and a shorter interval must not wait for the end of the longer one
            self.activity = Activity::Idle { next: next.min(schedule.first(now)) };
        }
        (self, Vec::new())
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Tick => "a tick",
            Self::CheckDone(_) => "the end of a check",
            Self::TransactionDone { .. } => "the end of a transaction",
            Self::RecoverDone(_) => "the end of a recovery",
            Self::Reload(..) => "a reload",
            Self::Remembered(_) => "a memory",
            Self::Terminate => "the order to end",
        }
    }
}

#[cfg(test)]
#[path = "machine_disorder_tests.rs"]
mod disorder_tests;
#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
