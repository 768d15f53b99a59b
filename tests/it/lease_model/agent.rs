//! One agent's state: what it is doing, what it waits to hear, what it remembers.

use std::time::Duration;

use certwarden::model::fleet::lease::{Call, Claim, Reply, Seen};
use certwarden::model::fleet::outage::Outage;

use super::case::{Guard, LASTS, NEVER, NODES, TICK};
use super::rules::{ALL, Rules, name};

/// What an agent is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Doing {
    /// Looks whether it is its turn, or is taking the lock.
    Looks {
        at: u16,
    },
    /// It may; how long what comes before the commit takes is for the search to choose.
    May,
    /// Before the commit.
    Prepares {
        until: u16,
    },
    /// It has committed; how long it takes, and what of etcd, is for the search to choose.
    Committed,
    /// After the commit.
    Restarts {
        until: u16,
        etcd: Etcd,
    },
    /// On the way back.
    Back {
        until: u16,
    },
    /// The way back is over: the others are told.
    Tells,
    /// Gives the lock up, and goes on with this.
    Gives {
        again: Option<u16>,
    },
    /// The others could not be told: it is tried again, and the lock is kept.
    Owes {
        at: u16,
    },
    /// The machine is down; with `begun`, in the middle of its work.
    Down {
        until: u16,
        begun: Option<Begun>,
    },
    Done,
    Dead,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Begun {
    Forth,
    Back,
}

/// This node's member of etcd, in a renewal.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Etcd {
    /// It takes its certificates by itself.
    Up,
    /// It has to be restarted: the members are counted.
    Due,
    /// One can be spared.
    Spared,
    Down {
        until: u16,
    },
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum For {
    Take,
    Seize,
    Commit,
    Beat,
    Etcd,
    Give,
    Adopt,
    Debt,
}

/// A request that is to be made, or its answer that is on its way until a tick.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Ask {
    pub what: For,
    pub call: Call,
    pub came: Option<(Reply, u16)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Agent {
    pub doing: Doing,
    pub ask: Option<Ask>,
    pub claim: Option<Claim>,
    /// When the lock was last renewed beside the work, or that was tried.
    pub beat: Option<u16>,
    /// The lock was taken over in the last slot.
    pub last_slot: bool,
    /// Paused until then.
    pub paused: u16,
    /// Ticks by which its clock is behind for pauses.
    pub behind: u16,
    /// When the machine was booted.
    pub boot: u16,
    // remembered until the next boot
    pub seen: Seen,
    pub tenure: Option<(u32, String, Duration)>,
    pub outage: Outage,
    pub harm_since: [Option<Duration>; NODES],
    pub away_since: [Option<Duration>; NODES],
    // remembered for ever
    pub members: u8,
    pub owes: bool,
    /// Since when it has come to harm that no success has ended: what is true, told or not.
    pub hurt: Option<u16>,
}

impl Agent {
    pub fn new(due: u16) -> Self {
        Self {
            doing: if due == NEVER { Doing::Done } else { Doing::Looks { at: due } },
            ask: None,
            claim: None,
            beat: None,
            last_slot: false,
            paused: 0,
            behind: 0,
            boot: 0,
            seen: Seen::default(),
            tenure: None,
            outage: Outage::default(),
            harm_since: [None; NODES],
            away_since: [None; NODES],
            members: ALL,
            owes: false,
            hurt: None,
        }
    }

    /// Since its boot, by its own clock.
    pub fn clock(&self, tick: u16, pace: u64) -> Duration {
        let ticks = u64::from(tick.saturating_sub(self.boot).saturating_sub(self.behind));
        Duration::from_millis(ticks * TICK * 10 * pace)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.doing, Doing::Done | Doing::Dead)
    }

    /// Whether its control plane is, or may be, away for a renewal.
    pub fn is_restarting(&self) -> bool {
        matches!(
            self.doing,
            Doing::Committed | Doing::Restarts { .. } | Doing::Back { .. } | Doing::Down { begun: Some(_), .. }
        )
    }

    pub fn etcd_is_down(&self) -> bool {
        matches!(self.doing, Doing::Restarts { etcd: Etcd::Down { .. }, .. })
    }

    /// Nothing live was touched yet, or all is over.
    pub fn is_before_commit(&self) -> bool {
        matches!(self.doing, Doing::Looks { .. } | Doing::May | Doing::Prepares { .. })
    }

    /// Whether the lock is to be renewed beside the work.
    pub fn beats(&self, tick: u16, rules: &Rules, me: usize) -> bool {
        let at_work = matches!(
            self.doing,
            Doing::Prepares { .. } | Doing::Back { .. } | Doing::Restarts { etcd: Etcd::Up | Etcd::Down { .. }, .. }
        );
        let clock = self.clock(tick, pace(rules, me));
        rules.has(Guard::RenewBeside)
            && at_work
            && self.beat != Some(tick)
            && self.claim.as_ref().is_some_and(|claim| !claim.is_fresh(clock))
    }

    /// Whether it has something to do at this tick.
    pub fn is_ready(&self, tick: u16, rules: &Rules, me: usize) -> bool {
        if self.paused > tick {
            return false;
        }
        if let Some(ask) = &self.ask {
            return ask.came.as_ref().is_none_or(|(_, at)| *at <= tick);
        }
        let due = match &self.doing {
            Doing::Restarts { etcd: Etcd::Down { until: at }, .. }
            | Doing::Looks { at }
            | Doing::Owes { at }
            | Doing::Prepares { until: at }
            | Doing::Restarts { until: at, etcd: Etcd::Up }
            | Doing::Back { until: at }
            | Doing::Down { until: at, .. } => *at <= tick,
            Doing::May | Doing::Committed | Doing::Restarts { .. } | Doing::Tells | Doing::Gives { .. } => true,
            Doing::Done | Doing::Dead => false,
        };
        due || self.beats(tick, rules, me)
    }

    /// Whether that concerns nobody else: then it need not be tried in each order with what others do.
    pub fn is_local(&self, tick: u16, rules: &Rules, me: usize) -> bool {
        self.ask.is_none()
            && match &self.doing {
                Doing::May | Doing::Committed | Doing::Gives { .. } | Doing::Down { begun: Some(_), .. } => true,
                Doing::Restarts { etcd: Etcd::Spared, .. } => rules.has(Guard::EtcdLock),
                Doing::Prepares { until } => *until > tick || self.claim.is_some(),
                _ => self.beats(tick, rules, me),
            }
    }

    /// The machine goes down: what is not on its disk is gone.
    pub fn goes_down(&mut self, until: u16) {
        let begun = match self.doing {
            Doing::Committed | Doing::Restarts { .. } => Some(Begun::Forth),
            Doing::Back { .. } => Some(Begun::Back),
            Doing::Down { begun, .. } => begun,
            _ => None,
        };
        let (members, owes, hurt) = (self.members, self.owes, self.hurt);
        *self = Self { members, owes, hurt, boot: until, ..Self::new(0) };
        self.doing = Doing::Down { until, begun };
    }

    pub fn new_claim(&self, me: usize) -> Claim {
        Claim::new(name(me), LASTS, self.seen.clone())
    }

    /// The claim is over; what it has seen is kept.
    pub fn drop_claim(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.seen = claim.seen().clone();
        }
    }
}

/// Per cent of its speed at which a node's clock goes.
pub fn pace(rules: &Rules, me: usize) -> u64 {
    if me == 0 { rules.case.pace } else { 100 }
}
