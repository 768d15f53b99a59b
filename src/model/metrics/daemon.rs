//! What the daemon knows of itself and of what it has done.

use jiff::Timestamp;

use super::counters::Counters;
use super::{
    APPROVER_DECISIONS, APPROVER_UNDECIDED, CHECK_DURATION, CHECK_FAILURES, CHECK_LAST, CHECK_LAST_SUCCESS, CHECK_NEXT,
    CHECKS, CONSECUTIVE_FAILURES, HOOK_FAILURES, HOOKS, KUBELET_RESTARTS, LAST_ATTEMPT, LAST_DURATION, LAST_SUCCESS,
    POD_RESTARTS, Page, REFUSALS, RELOAD_OK, RELOAD_TIME, RENEWAL_FAILURES, RENEWALS, ROLLBACK_LAST, SUSPENDED,
    TRANSACTION_START, TRANSACTION_STATE, TRANSACTIONS, WRITE_FAILURES,
};
use crate::model::component::Component;
use crate::model::gate::Gate;
use crate::model::machine::Standing;
use crate::model::policy::{Mode, Policy};
use crate::model::report::Outcome;

/// A transaction under way, as far as it shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doing {
    Idle,
    Renewing,
    Recovering,
    /// A dead process left one open.
    Unfinished,
}

/// The daemon at one moment.
#[derive(Clone, Copy, Debug)]
pub struct DaemonFacts<'a> {
    pub policy: &'a Policy,
    pub standing: &'a Standing,
    pub doing: Doing,
    /// Somebody has paused this node, for emergencies too.
    pub hard_pause: bool,
    /// When the transaction under way began.
    pub since: Option<Timestamp>,
    pub next_check: Option<Timestamp>,
    /// Of the last check, in seconds.
    pub check_duration: f64,
    /// False: the last reload was refused.
    pub reload_well: bool,
    pub configured_at: Timestamp,
    pub counters: &'a Counters,
    /// Requests that the approver leaves to a person.
    pub undecided: usize,
    /// Of this text, since the start.
    pub write_failures: u64,
}

/// Counters and gauges of the daemon. `certificates`: logical names, for which the counters are there from the start.
pub fn daemon(page: &mut Page, facts: &DaemonFacts<'_>, certificates: &[String]) {
    let counters = facts.counters;
    page.value(&CHECKS, counters.checks);
    page.value(&CHECK_FAILURES, counters.check_failures);
    page.value(&CHECK_LAST, seconds(counters.last_check));
    page.value(&CHECK_LAST_SUCCESS, seconds(counters.last_check_success));
    page.value(&CHECK_NEXT, seconds(facts.next_check));
    page.value(&CHECK_DURATION, facts.check_duration);
    page.value(&RELOAD_OK, u8::from(facts.reload_well));
    page.value(&RELOAD_TIME, facts.configured_at.as_second());
    renewals(page, counters, certificates);
    transaction(page, facts);
    page.family(&SUSPENDED, |s| {
        s.add(["observe-mode"], u8::from(facts.policy.mode == Mode::Observe));
        s.add(["back-off"], u8::from(matches!(facts.standing, Standing::BackingOff { .. })));
        s.add(["rollback-failed"], u8::from(matches!(facts.standing, Standing::ObserveOnly { .. })));
        s.add(["hard-pause"], u8::from(facts.hard_pause));
    });
    page.family(&APPROVER_DECISIONS, |s| {
        for what in ["approved", "denied", "failed"].into_iter().filter(|_| facts.policy.approver.enabled) {
            s.add([what], counters.decisions.get(what).copied().unwrap_or_default());
        }
    });
    if facts.policy.approver.enabled {
        page.value(&APPROVER_UNDECIDED, facts.undecided);
    }
    for (family, counts) in [(&HOOKS, &counters.hooks), (&HOOK_FAILURES, &counters.hook_failures)] {
        page.family(family, |s| {
            for hook in &facts.policy.hook {
                s.add([&hook.name], counts.get(&hook.name).copied().unwrap_or_default());
            }
        });
    }
    page.value(&WRITE_FAILURES, facts.write_failures);
}

fn renewals(page: &mut Page, counters: &Counters, certificates: &[String]) {
    for (family, counts) in [(&RENEWALS, &counters.renewals), (&RENEWAL_FAILURES, &counters.renewal_failures)] {
        page.family(family, |s| {
            for name in certificates {
                s.add([name], counts.get(name).copied().unwrap_or_default());
            }
            // of what is not there any more
            for (name, count) in counts.iter().filter(|(name, _)| !certificates.contains(name)) {
                s.add([name], count);
            }
        });
    }
    page.family(&LAST_SUCCESS, |s| {
        counters.last_renewals.iter().for_each(|(name, at)| s.add([name], at.as_second()));
    });
    page.family(&TRANSACTIONS, |s| {
        for id in Outcome::ALL.map(Outcome::id) {
            s.add([id], counters.transactions.get(id).copied().unwrap_or_default());
        }
    });
    page.family(&REFUSALS, |s| {
        for id in Gate::ALL.map(Gate::id) {
            s.add([id], counters.refusals.get(id).copied().unwrap_or_default());
        }
    });
    page.value(&CONSECUTIVE_FAILURES, counters.consecutive_failures);
    page.value(&LAST_ATTEMPT, seconds(counters.last_attempt));
    page.value(&LAST_DURATION, counters.last_duration);
    page.value(&ROLLBACK_LAST, seconds(counters.last_rollback));
    page.value(&KUBELET_RESTARTS, counters.kubelet_restarts);
    page.family(&POD_RESTARTS, |s| {
        for name in Component::ALL.into_iter().filter(|c| *c != Component::Kubelet).map(Component::name) {
            s.add([name], counters.pod_restarts.get(name).copied().unwrap_or_default());
        }
    });
}

fn transaction(page: &mut Page, facts: &DaemonFacts<'_>) {
    let failed = matches!(facts.standing, Standing::ObserveOnly { .. });
    let now = match facts.doing {
        Doing::Renewing => "renewing",
        Doing::Recovering => "recovering",
        Doing::Idle | Doing::Unfinished if failed => "rollback-failed",
        Doing::Unfinished => "unfinished",
        Doing::Idle => "idle",
    };
    page.family(&TRANSACTION_STATE, |s| {
        for state in ["idle", "renewing", "recovering", "unfinished", "rollback-failed"] {
            s.add([state], u8::from(state == now));
        }
    });
    page.value(&TRANSACTION_START, seconds(facts.since));
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_second)
}
