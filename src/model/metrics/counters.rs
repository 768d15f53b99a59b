//! What is counted over the life of a node: kept in `state.json`, so that a restart of the daemon does not begin anew.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::component::Component;
use crate::model::finding::Problem;
use crate::model::report::{Consumer, Outcome, Report};

/// No more names are counted one by one: whoever writes manifests does not decide how much we remember.
const MOST_NAMES: usize = 64;

type ByName = BTreeMap<String, u64>;

/// The counters. They only grow, so that two memories of the same node are merged by the greater number.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Counters {
    pub checks: u64,
    pub check_failures: u64,
    pub last_check: Option<Timestamp>,
    pub last_check_success: Option<Timestamp>,
    /// By [`Outcome::id`].
    pub transactions: ByName,
    /// By logical name, like the next two.
    pub renewals: ByName,
    pub renewal_failures: ByName,
    pub last_renewals: BTreeMap<String, Timestamp>,
    /// By [`Gate::id`](crate::model::gate::Gate::id).
    pub refusals: ByName,
    /// Attempts in a row after which something due was not renewed. Not one that only grows: the newer attempt's counts.
    pub consecutive_failures: u64,
    pub last_attempt: Option<Timestamp>,
    pub last_rollback: Option<Timestamp>,
    /// Seconds.
    pub last_duration: i64,
    pub kubelet_restarts: u64,
    pub pod_restarts: ByName,
    /// Requests that the approver decided about: `approved`, `denied`, `failed`.
    pub decisions: ByName,
    pub hooks: ByName,
    pub hook_failures: ByName,
    pub file_errors: SourceErrors,
    pub kubeconfig_errors: SourceErrors,
}

impl Counters {
    /// A check has ended. `told`: it could tell something.
    pub fn checked(&mut self, at: Timestamp, told: bool) {
        self.checks += 1;
        self.last_check = Some(at);
        if told {
            self.last_check_success = Some(at);
        } else {
            self.check_failures += 1;
        }
    }

    /// A transaction, or an attempt at one, has ended.
    pub fn ended(&mut self, report: &Report) {
        for part in report.all() {
            self.part(part);
        }
    }

    fn part(&mut self, report: &Report) {
        let outcome = report.outcome;
        bump(&mut self.transactions, outcome.id());
        for refusal in &report.refusals {
            bump(&mut self.refusals, refusal.gate.id());
        }
        for restarted in &report.restarted {
            match &restarted.component {
                Consumer::Component(Component::Kubelet) => self.kubelet_restarts += 1,
                Consumer::Component(component) => bump(&mut self.pod_restarts, component.name()),
                Consumer::Other(_) => {}
            }
        }
        if matches!(outcome, Outcome::NothingToDo | Outcome::DryRun) {
            return;
        }
        self.last_attempt = Some(report.ended_at);
        self.last_duration = report.ended_at.as_second().saturating_sub(report.started_at.as_second()).max(0);
        let names = report.renewed.iter().map(|r| r.name.as_str());
        match outcome {
            Outcome::Verified | Outcome::Committed | Outcome::Degraded => {
                self.consecutive_failures = 0;
                for name in names {
                    bump(&mut self.renewals, name);
                    if self.renewals.contains_key(name) {
                        self.last_renewals.insert(name.to_owned(), report.ended_at);
                    }
                }
            }
            Outcome::RolledBack | Outcome::RollbackFailed => {
                self.consecutive_failures += 1;
                self.last_rollback = Some(report.ended_at);
                names.for_each(|name| bump(&mut self.renewal_failures, name));
            }
            Outcome::Refused | Outcome::LeftOut => self.consecutive_failures += 1,
            // it is finished at the next start
            Outcome::Interrupted | Outcome::NothingToDo | Outcome::DryRun => {}
        }
    }

    /// The approver has decided about `n` requests.
    pub fn decided(&mut self, what: &str, n: u64) {
        *self.decisions.entry(what.to_owned()).or_default() += n;
    }

    /// A hook has run.
    pub fn hooked(&mut self, name: &str, well: bool) {
        bump(&mut self.hooks, name);
        if !well {
            bump(&mut self.hook_failures, name);
        }
    }

    /// Takes over what somebody else has counted on this node: a `renew` by hand, or we ourselves before the disk was full.
    pub fn merge(&mut self, other: &Self) {
        if other.last_attempt > self.last_attempt {
            (self.consecutive_failures, self.last_duration) = (other.consecutive_failures, other.last_duration);
        }
        for (mine, theirs) in [
            (&mut self.checks, other.checks),
            (&mut self.check_failures, other.check_failures),
            (&mut self.kubelet_restarts, other.kubelet_restarts),
        ] {
            *mine = (*mine).max(theirs);
        }
        for (mine, theirs) in [
            (&mut self.last_check, other.last_check),
            (&mut self.last_check_success, other.last_check_success),
            (&mut self.last_attempt, other.last_attempt),
            (&mut self.last_rollback, other.last_rollback),
        ] {
            *mine = (*mine).max(theirs);
        }
        for (mine, theirs) in [
            (&mut self.transactions, &other.transactions),
            (&mut self.renewals, &other.renewals),
            (&mut self.renewal_failures, &other.renewal_failures),
            (&mut self.refusals, &other.refusals),
            (&mut self.pod_restarts, &other.pod_restarts),
            (&mut self.decisions, &other.decisions),
            (&mut self.hooks, &other.hooks),
            (&mut self.hook_failures, &other.hook_failures),
            (&mut self.file_errors.0, &other.file_errors.0),
            (&mut self.kubeconfig_errors.0, &other.kubeconfig_errors.0),
        ] {
            greater(mine, theirs);
        }
        greater(&mut self.last_renewals, &other.last_renewals);
    }
}

fn greater<V: Copy + Ord>(mine: &mut BTreeMap<String, V>, theirs: &BTreeMap<String, V>) {
    for (name, value) in theirs {
        let mine = mine.entry(name.clone()).or_insert(*value);
        *mine = (*mine).max(*value);
    }
}

fn bump(map: &mut ByName, name: &str) {
    if let Some(count) = map.get_mut(name) {
        *count += 1;
    } else if map.len() < MOST_NAMES {
        map.insert(name.to_owned(), 1);
    }
}

/// Why places could not be read, in the words of x509-certificate-exporter (`pkg/cert/reason.go`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SourceErrors(ByName);

impl SourceErrors {
    const REASONS: [&str; 7] = [
        "bad_pem",
        "broken_symlink",
        "decode_failed",
        "no_certificate_found",
        "not_found",
        "permission_denied",
        "read_failed",
    ];

    pub fn add(&mut self, problem: Problem) {
        let reason = match problem {
            Problem::Missing => "not_found",
            Problem::DanglingSymlink | Problem::PointsNowhere => "broken_symlink",
            Problem::Empty => "no_certificate_found",
            Problem::Malformed => "decode_failed",
            _ => "read_failed",
        };
        bump(&mut self.0, reason);
    }

    /// Counts `other` once more.
    pub fn extend(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason.clone()).or_default() += count;
        }
    }

    /// Every reason, counted or not: a counter that appears at 1 has not increased.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::REASONS.into_iter().map(|reason| (reason, self.0.get(reason).copied().unwrap_or_default()))
    }
}
