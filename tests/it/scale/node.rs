//! One simulated worker.

use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Seen};
use certwarden::model::fleet::turn;
use certwarden::model::policy::Policy;
use certwarden::model::schedule::Who;
use jiff::Timestamp;

use super::case::{Dice, HOUR};

/// What a node is at.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum At {
    Idle,
    /// Is the lock free?
    Looking,
    Reading(u8),
    Asking,
    ReadingAgain(u8),
    /// Renews the lock: before the commit, and before the restart.
    Keeping(u8),
    Working,
    Giving,
    Done,
}

pub struct Node {
    pub id: Who,
    pub slot: usize,
    /// Of its clock since boot: when that began, ms, and thousandths of thousandths that it goes fast or slow.
    pub offset: u64,
    pub rate: u64,
    /// What its wall clock is ahead, ms.
    pub ahead: i64,
    /// When its certificate ends, ms.
    pub end: u64,
    pub seen: Seen,
    pub claim: Claim,
    pub at: At,
    pub attempt: u64,
    /// The request that is on its way, if it is about the lock, and when it may go.
    pub call: Option<Call>,
    pub may_send: u64,
    pub serial: u64,
    pub alone: bool,
}

impl Node {
    /// The `n`-th. Its certificate has `before` ms left when it is due.
    pub fn born(n: usize, before: u64, policy: &Policy, dice: &mut Dice) -> Self {
        let id = Who::of("", &format!("{:016x}{:016x}", dice.roll(u64::MAX), n));
        // most clocks are right, some are wrong by hours
        let wrong = if dice.roll(50) == 0 { 12 * HOUR } else { 2_000 };
        let born = dice.roll(HOUR);
        Self {
            slot: usize::try_from(turn::slot(&id, policy.fleet.workers_at_once)).unwrap(),
            claim: Claim::new(format!("w{n}"), policy.fleet.lease_duration.0, Seen::default()),
            seen: Seen::default(),
            id,
            offset: dice.roll(10 * HOUR),
            rate: 999_000 + dice.roll(2_000),
            ahead: dice.roll(wrong).cast_signed() - (wrong / 2).cast_signed(),
            end: born + before,
            at: At::Idle,
            attempt: 0,
            call: None,
            may_send: 0,
            serial: 0,
            alone: false,
        }
    }

    pub fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.offset + now / 1_000_000 * self.rate + now % 1_000_000 * self.rate / 1_000_000)
    }

    pub fn wall(&self, now: u64) -> Timestamp {
        Timestamp::from_millisecond(now.cast_signed() + self.ahead).unwrap()
    }
}
