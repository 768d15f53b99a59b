//! The cases: each has one or two kinds of faults, so that all that can come of them is explored.

use super::case::{Budget, Case, Guard, Meddler, NEVER, QUIET};

const NONE: Budget = QUIET.budget;

const fn with(name: &'static str, budget: Budget) -> Case {
    Case { name, budget, ..QUIET }
}

/// All are due in the emergency from the first tick on; three rounds of slots fit in.
const EMERGENCY: Case = Case { name: "no fault", end: 72, emergency: 72, bound: 72, restarts: &[1, 3], ..QUIET };
const SKEWED: Case = Case { ahead: [0, 10, -5], ..EMERGENCY };
const HARM: Budget = Budget { failure: 1, lost: 2, ..NONE };
/// With work that lasts longer than the lock.
const LONG: Case =
    Case { name: "work that lasts longer than the lock", restarts: &[2, 5], back: 3, bound: 60, ..QUIET };

/// A slow clock sees late that the lock is free: the others come after it.
const SLOW_FIRST: [u16; 3] = [0, 2, 2];

/// With weeks left.
pub const CALM: &[Case] = &[
    QUIET,
    with("a request and an answer lost", Budget { lost: 1, unanswered: 1, ..NONE }),
    with("a request that comes twice, an answer lost", Budget { twice: 1, unanswered: 1, ..NONE }),
    with("the past read, an answer lost", Budget { stale: 1, unanswered: 1, ..NONE }),
    with("a slow answer, a request lost", Budget { slow: 1, lost: 1, ..NONE }),
    with("a crash, an answer lost", Budget { crash: 1, unanswered: 1, ..NONE }),
    with("a machine dies, an answer lost", Budget { death: 1, unanswered: 1, ..NONE }),
    with("a machine paused, its clock too, an answer lost", Budget { freeze: 1, unanswered: 1, ..NONE }),
    with("a process or machine paused, its clock not, an answer lost", Budget { sleep: 1, unanswered: 1, ..NONE }),
    with("the Lease deleted, a request lost", Budget { delete: 1, lost: 1, ..NONE }),
    with("etcd restored, a request lost", Budget { restore: 1, lost: 1, ..NONE }),
    with("labels, members and addresses lost, a request lost", Budget { blind: 3, lost: 1, ..NONE }),
    with("no API server for longer than the lock lasts, an answer lost", Budget { gone: 1, unanswered: 1, ..NONE }),
    Case {
        pace: 92,
        due: SLOW_FIRST,
        ..with("a clock that goes slow, a slow answer, a request lost", Budget { slow: 1, lost: 1, ..NONE })
    },
    Case { budget: Budget { failure: 1, lost: 1, ..NONE }, ..LONG },
    Case { bound: 60, ..with("a renewal goes back, and telling it is lost", HARM) },
    Case {
        bound: 60,
        apart: true,
        ..with("a renewal goes back, and its node dies", Budget { failure: 1, death: 1, ..NONE })
    },
    Case { etcd: true, bound: 60, ..with("etcd has to be restarted, a machine paused", Budget { freeze: 1, ..NONE }) },
];

/// All due within their emergency, from the first tick on.
pub const URGENT: &[Case] = &[
    EMERGENCY,
    Case { name: "an answer lost", budget: Budget { unanswered: 1, ..NONE }, ..EMERGENCY },
    Case { name: "a process paused before its commit", budget: Budget { sleep: 1, ..NONE }, ..EMERGENCY },
    Case { name: "a machine dies", budget: Budget { death: 1, ..NONE }, ..EMERGENCY },
    Case { name: "all in the dark, one goes back", dark: &[0, 1, 2], budget: Budget { failure: 1, ..NONE }, ..SKEWED },
    Case { name: "the first one in the dark", dark: &[0], ..SKEWED },
    Case { name: "the last one in the dark", dark: &[2], ..SKEWED },
    Case { name: "a holder that never gives it up", meddler: Meddler::Deaf, ..SKEWED },
    Case { name: "somebody takes it at each tick", meddler: Meddler::Takes, ..SKEWED },
    Case { name: "somebody takes it twice", budget: Budget { provoked: 2, ..NONE }, ..EMERGENCY },
    OUTAGE,
];

/// The API goes and comes back in the middle of it.
const OUTAGE: Case =
    Case { name: "no API server for a while", budget: Budget { gone: 1, ..NONE }, bound: 84, ..EMERGENCY };

/// What no guard prevents, as docs/fleet.md says: here the search must find what it is there to find.
pub const LIMITS: &[Case] = &[Case { name: "less time than a round of slots", end: 30, ..EMERGENCY }];

/// Each guard, and a case that needs it.
pub const GUARDS: &[(Guard, &str, Case)] = &[
    (Guard::Precondition, "a write names the version that it replaces", QUIET),
    (
        Guard::AnswerCounts,
        "only a write that was answered counts",
        Case { prepares: &[2], restarts: &[5], ..with("", Budget { lost: 2, ..NONE }) },
    ),
    (Guard::Wait, "a lock that is held is waited for", QUIET),
    (Guard::VanishedIsHeld, "a Lease that is gone counts as held", with("", Budget { delete: 1, ..NONE })),
    (Guard::OlderIsHeld, "a Lease older than what was seen counts as held", with("", Budget { restore: 1, ..NONE })),
    (Guard::AskBeforeCommit, "the lock is asked for right before the commit", with("", Budget { sleep: 1, ..NONE })),
    (Guard::AnswerInTime, "an answer that took too long does not count", with("", Budget { slow: 1, ..NONE })),
    (
        Guard::LostDiscards,
        "a lock lost before the commit ends an emergency's renewal, too",
        Case { budget: Budget { sleep: 1, ..NONE }, ..EMERGENCY },
    ),
    (Guard::RenewBeside, "the lock is renewed beside the work", LONG),
    (
        Guard::Margin,
        "the holder relies on it for a tenth less",
        Case { pace: 92, due: SLOW_FIRST, ..with("", Budget { slow: 1, ..NONE }) },
    ),
    (Guard::PeersUnion, "peers are whoever anybody knows of", with("", Budget { blind: 1, ..NONE })),
    (Guard::PeersRemembered, "who is not listed any more stays in memory", with("", Budget { blind: 3, ..NONE })),
    (
        Guard::TellBeforeBack,
        "a way back is told before its first restart",
        with("", Budget { failure: 1, death: 1, ..NONE }),
    ),
    (Guard::KeepWhileOwed, "the lock is kept until harm has been told", with("", HARM)),
    (Guard::DarkSlot, "in the dark each has its own slot", Case { dark: &[0, 1, 2], ..SKEWED }),
    (Guard::SeizeSlot, "a lock is taken over in the own slot only", Case { meddler: Meddler::Takes, ..SKEWED }),
    (Guard::WaitByTenure, "each tenure is waited for anew", EMERGENCY),
    (
        Guard::UnseenSlot,
        "the others keep to their slots while one is out of sight",
        Case { dark: &[0], due: [15, 20, NEVER], ..SKEWED },
    ),
    (Guard::OutageRest, "who was seen with the lock is waited for in the dark", Case { due: [4, 4, NEVER], ..OUTAGE }),
    (
        Guard::AfterOutage,
        "the others keep to their slots for a while after an outage",
        Case { due: [2, 2, NEVER], ..OUTAGE },
    ),
    (
        Guard::EtcdLock,
        "etcd is restarted with the lock only",
        Case { etcd: true, ..with("", Budget { freeze: 1, ..NONE }) },
    ),
    (
        Guard::EtcdQuorum,
        "etcd is restarted only where a member can be spared",
        Case { etcd: true, ..with("", Budget { freeze: 1, ..NONE }) },
    ),
];

/// With two of the nodes due, where there are faults: what CI explores.
pub fn sampled(case: Case) -> Case {
    let [first, second, third] = case.due;
    Case { due: [first, second, if case.budget == NONE { third } else { NEVER }], ..case }
}
