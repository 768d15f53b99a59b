//! What one run of the search is about: which faults may come how often, and which guard of the agents is taken out.

use std::time::Duration;

/// Of a node that is not due.
pub const NEVER: u16 = u16::MAX;
/// Seconds of a tick.
pub const TICK: u64 = 10;
pub const NODES: usize = 3;
/// Ticks, as [`LASTS`]: no transaction of a case takes longer, unless the case says so.
pub const LEASE: u16 = 4;
pub const LASTS: Duration = Duration::from_secs(4 * TICK);
pub const SETTLE: Duration = Duration::from_secs(TICK);
/// For how long harm holds the others back.
pub const PATIENCE: Duration = Duration::from_secs(8 * TICK);
/// Of the wall clock at tick 0: the first node's slot begins.
pub const START: i64 = 1_800_000_000;

/// How often a fault may still come. Where it comes, and upon whom, is for the search to choose.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    /// A request that never comes to the server.
    pub lost: u8,
    /// An answer that never comes back: the request is done.
    pub unanswered: u8,
    /// A request that comes once more, at any later time.
    pub twice: u8,
    /// An answer that takes as long as the lock lasts, or a tick.
    pub slow: u8,
    /// A read that is answered with the past.
    pub stale: u8,
    /// A machine that goes down and is back a tick later, with what is on its disk.
    pub crash: u8,
    /// A machine that goes down for ever.
    pub death: u8,
    /// A machine that is paused for longer than the lock lasts, and whose clock stands still meanwhile.
    pub freeze: u8,
    /// The same, with a clock that goes on.
    pub sleep: u8,
    /// Somebody deletes the Lease, or a backup of etcd is restored, after all have seen who has the lock.
    pub delete: u8,
    pub restore: u8,
    /// A source that tells no peers any more: the labels, etcd, the API servers' addresses.
    pub blind: u8,
    /// No API server answers anybody for five ticks.
    pub gone: u8,
    /// A renewal that does not come up, and goes back.
    pub failure: u8,
    /// Somebody who is no control plane takes the lock.
    pub provoked: u8,
}

/// What the agents are on their guard against; one of these can be taken out.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Guard {
    /// Every write names the version that it replaces.
    Precondition,
    /// Only a write that was answered counts.
    AnswerCounts,
    /// A lock that is held is waited for.
    Wait,
    /// A Lease that is gone counts as held.
    VanishedIsHeld,
    /// So does one that is older than what was seen.
    OlderIsHeld,
    /// The lock is asked for right before the commit.
    AskBeforeCommit,
    /// An answer that took too long does not count.
    AnswerInTime,
    /// A lock that another has before the commit ends the renewal, in an emergency as well.
    LostDiscards,
    /// The lock is renewed beside the work.
    RenewBeside,
    /// The holder relies on the lock for a tenth less than others wait.
    Margin,
    /// Peers are whoever anybody knows of, not only whom the labels show.
    PeersUnion,
    /// Whom a look does not find stays in memory.
    PeersRemembered,
    /// The way back is told before its first restart.
    TellBeforeBack,
    /// The lock is kept until the others have been told of the harm.
    KeepWhileOwed,
    /// In the dark each has its own slot.
    DarkSlot,
    /// A lock is taken over in the own slot only.
    SeizeSlot,
    /// Each tenure is waited for anew.
    WaitByTenure,
    /// While a control plane is out of sight the others keep to their slots.
    UnseenSlot,
    /// Where nobody can be asked, a holder that was seen is waited for.
    OutageRest,
    /// For a while after that the others keep to their slots.
    AfterOutage,
    /// etcd is restarted with the lock only.
    EtcdLock,
    /// etcd is restarted only where a member can be spared.
    EtcdQuorum,
}

/// Somebody who is no control plane, and may write the Lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meddler {
    None,
    /// Has the lock, and goes on renewing it as long as nobody takes it over.
    Deaf,
    /// Takes the lock at each tick.
    Takes,
}

/// What a run explores.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub budget: Budget,
    /// Ticks of what may come before the commit, and of the restarts after it.
    pub prepares: &'static [u16],
    pub restarts: &'static [u16],
    /// Ticks of a way back.
    pub back: u16,
    /// What lies between a look and the first question is explored, too.
    pub apart: bool,
    /// At which tick each of them is due; [`NEVER`]: it has been renewed before.
    pub due: [u16; NODES],
    /// Whether etcd may have to be restarted; then its members are what is watched, not the control planes.
    pub etcd: bool,
    /// When all certificates end, and how long before that it is an emergency.
    pub end: u16,
    pub emergency: u16,
    /// Cut off from the API and seen NotReady, from the first tick on.
    pub dark: &'static [usize],
    pub meddler: Meddler,
    /// Seconds by which the wall clocks are ahead.
    pub ahead: [i64; NODES],
    /// Per cent of its speed at which the first one's clock goes.
    pub pace: u64,
    /// When all are to be done at the latest.
    pub bound: u16,
}

/// Three control planes with a month left, in a cluster without a fault.
pub const QUIET: Case = Case {
    name: "no fault",
    budget: Budget {
        lost: 0,
        unanswered: 0,
        twice: 0,
        slow: 0,
        stale: 0,
        crash: 0,
        death: 0,
        freeze: 0,
        sleep: 0,
        delete: 0,
        restore: 0,
        blind: 0,
        gone: 0,
        failure: 0,
        provoked: 0,
    },
    prepares: &[1],
    restarts: &[2],
    back: 1,
    apart: false,
    due: [0; NODES],
    etcd: false,
    end: 60_000,
    emergency: 40,
    dark: &[],
    meddler: Meddler::None,
    ahead: [0; NODES],
    pace: 100,
    bound: 40,
};
