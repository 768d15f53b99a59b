//! The daemon's work on the node that it runs on: the same sessions as the command line's.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::app::session::Session;
use crate::fleet::pause;
use crate::host::Host;
use crate::model::assess::{Judged, Severity};
use crate::model::cause::chain;
use crate::model::due::{Due, Later};
use crate::model::event;
use crate::model::inventory::on_disk::Config;
use crate::model::inventory::{Content, Entry};
use crate::model::metrics::{self, Endpoint, Look};
use crate::model::plan::{Item, Plan, Source};
use crate::model::planner::Selection;
use crate::model::policy::{DueBefore, Policy};
use crate::model::repair::{CLIENT, Choice};
use crate::model::report::{Outcome, Report};
use crate::model::schedule::{back_off_until, repaired_until, retry_at};
use crate::observe::{Attention, CheckSeen, NextEnd, Verdict, Waits};
use crate::txn::engine::EngineError;
use crate::txn::lock::LockError;
use crate::txn::progress::Progress;
use crate::txn::recover::Reach;
use crate::txn::state::DaemonState;
use crate::txn::{retention, store, unproven};
use crate::verify::{endpoints, gates};

use super::again::{Again, Pause};
use super::cluster::Target;
use super::work::{CheckResult, Measured, Work};

/// That there are no certificate signing requests of this node is believed for so many looks: a certificate that is due may
/// wait for weeks for its turn, on thousands of nodes.
const BELIEVED: u32 = 8;

/// The real node.
#[derive(Debug)]
pub struct NodeWork {
    host: Host,
    /// What the last attempt waits for.
    waits: Option<Waits>,
    /// What the last attempts could not make, and when it is tried again.
    held: Option<Held>,
    /// Recoveries in a row that were hindered.
    hindered: Option<Again>,
    /// Attempts in a row to prove what is not proven.
    unproven: Option<Again>,
    /// Looks since the API said that there are no requests of this node.
    no_requests: Option<u32>,
}

impl NodeWork {
    pub fn new(host: Host) -> Self {
        Self { host, waits: None, held: None, hindered: None, unproven: None, no_requests: None }
    }

    /// What is to be renewed, and what that waits for, be it for the last attempt's sake.
    fn due(&self, decided: &Due, now: Timestamp) -> (Vec<String>, Option<Waits>) {
        match decided {
            Due::Nothing => (Vec::new(), None),
            Due::Later(Later { names, until, why }) => {
                (names.clone(), Some(Waits { until: Some(*until), why: why.clone() }))
            }
            Due::Now(names) => {
                let held = self.held.as_ref().and_then(|held| held.keeps(names, now));
                (names.clone(), held.or_else(|| self.waits.clone()))
            }
        }
    }

    /// Once for each start of the kubelet: by the time that its program is compared with it may have been replaced.
    fn remember_kubelet(&self, session: &Session<'_>) {
        if let Some(started) =
            Some(&session.inventory).filter(|_| self.host.live).and_then(|i| gates::to_remember(&self.host, i))
            && let Ok(text) = serde_json::to_vec(&started)
            && let Err(e) = self.host.root.write(Path::new(gates::REMEMBERED), &text, 0o600)
        {
            tracing::debug!("the kubelet's program cannot be remembered, the next check tries again: {}", chain(&e));
        }
    }

    /// What follows from an attempt for the next looks.
    fn judge(&mut self, plan: &Plan, report: &Report) {
        let until = report.refusals.iter().map(|r| r.until).max().flatten();
        let left_out = || report.all().any(|r| !r.left_out.is_empty());
        self.held = Held::after(self.held.take(), plan, report);
        self.waits = match report.refusals.first() {
            Some(refusal) => Some(Waits { until, why: refusal.reason.clone() }),
            None if report.outcome == Outcome::LeftOut => Some(Waits { until: None, why: report.reason.clone() }),
            None if left_out() => {
                let why = report.all().flat_map(|r| &r.left_out).map(|s| format!("{}: {}", s.name, s.reason));
                Some(Waits { until: None, why: format!("left out: {}", why.collect::<Vec<_>>().join("; ")) })
            }
            None => None,
        };
    }

    /// When that which has not come to its end is tried again.
    fn follow(&mut self, report: &Report) {
        let now = self.host.clock.now();
        match report.outcome {
            Outcome::Interrupted => self.hindered = Some(Again::after(self.hindered, retry_at, now)),
            Outcome::Degraded => {
                (self.hindered, self.unproven) = (None, Some(Again::after(self.unproven, back_off_until, now)));
            }
            Outcome::Verified | Outcome::Committed | Outcome::RolledBack | Outcome::RollbackFailed => {
                (self.hindered, self.unproven) = (None, None);
            }
            Outcome::NothingToDo => self.hindered = None,
            Outcome::Refused | Outcome::LeftOut | Outcome::DryRun => {}
        }
    }

    fn refused(&self, reason: impl Into<String>) -> Report {
        Report::new(Outcome::Refused, reason, self.host.clock.now())
    }
}

/// An attempt that ended before anything was touched, because something could not be made. The next one would end alike: it
/// comes later each time, as after a rollback.
#[derive(Clone, Debug)]
struct Held {
    names: BTreeSet<String>,
    failures: u32,
    until: Timestamp,
    why: String,
}

impl Held {
    fn after(before: Option<Self>, plan: &Plan, report: &Report) -> Option<Self> {
        // requests have a time of their own, and may be answered at any time
        let asks = plan.parts().any(|part| matches!(part.source, Source::Identity { .. }));
        let tried = report.outcome == Outcome::Refused && report.transaction.is_some() && report.refusals.is_empty();
        if asks || !tried {
            return None;
        }
        let failures = before.map_or(0, |held| held.failures).saturating_add(1);
        let names = plan.parts().flat_map(|part| &part.items).flat_map(Item::names).cloned().collect();
        let until = back_off_until(failures, report.ended_at);
        Some(Self { names, failures, until, why: report.reason.clone() })
    }

    /// Not where something else is due besides, nor by a clock that has been set back since.
    fn keeps(&self, due: &[String], now: Timestamp) -> Option<Waits> {
        let same = due.iter().all(|name| self.names.contains(name));
        let soon = now < self.until && repaired_until(self.until, self.failures, now) == self.until;
        (same && soon).then(|| Waits { until: Some(self.until), why: self.why.clone() })
    }
}

impl Work for NodeWork {
    fn check(&mut self, policy: &Policy, _progress: &Arc<Progress>) -> CheckResult {
        self.host.root.trust(&policy.gates.trusted_owners);
        let began = Instant::now();
        let clock = self.host.services.clock_synchronised();
        retention::by_age(&self.host.root, &policy.state, retention::trusted_time(&self.host, clock));
        self.no_requests = self.no_requests.map(|looks| looks.saturating_add(1)).filter(|looks| *looks < BELIEVED);
        let mut session = Session::knowing(&self.host, policy, self.no_requests.map(|_| [].as_slice()));
        if self.no_requests.is_none() && session.requests().is_some_and(<[_]>::is_empty) {
            self.no_requests = Some(0);
        }
        let shown = endpoints::look(&self.host);
        endpoints::tell(&mut session.assessment, &session.inventory, &shown);
        let unfinished = store::unfinished(&self.host.root).map_or(true, |open| !open.is_empty());
        let unproven = self.host.live && !unproven::list(&self.host.root).is_empty();
        let later = |again: Option<Again>, pause: Pause| again.and_then(|again| again.later(pause, session.at()));
        let decision = session.decide();
        let (due, waits) = self.due(&decision.due, session.at());
        self.remember_kubelet(&session);
        if let Some(cluster) = session.cluster() {
            cluster.settle_debts();
        }
        CheckResult {
            target: Some(&session.inventory).filter(|_| self.host.live).and_then(Target::of),
            lasting: event::lasting(&session.inventory, &session.assessment),
            measured: measured(&session, decision.threshold, &shown, clock, began),
            seen: seen(&session, unfinished),
            due,
            waits,
            retry_at: later(self.hindered, retry_at),
            unproven: unproven && later(self.unproven, back_off_until).is_none(),
            clock_trusted: clock == Some(true),
            server: Some(&session.inventory.node.kubelet.identity)
                .filter(|identity| identity.config == Config::Current)
                .and_then(|identity| identity.server.clone()),
        }
    }

    fn transact(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Report {
        self.host.root.trust(&policy.gates.trusted_owners);
        let session = Session::knowing(&self.host, policy, self.no_requests.map(|_| [].as_slice())).by_its_own_time();
        let plan = match session.plan(&Selection::Due) {
            Ok(plan) => plan,
            Err(e) => return self.refused(e.to_string()),
        };
        let report = session.carry_out(&plan, false, &[], progress).unwrap_or_else(|e| self.refused(chain(&e)));
        self.judge(&plan, &report);
        self.follow(&report);
        report
    }

    fn recover(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Option<Report> {
        self.host.root.trust(&policy.gates.trusted_owners);
        let report = match Session::open(&self.host, policy).recover(Reach::Full, false, progress) {
            Ok(report) => report,
            // not dead: another certwarden is carrying it out
            Err(EngineError::Lock(LockError::Busy { holder })) => {
                tracing::info!("a transaction is being carried out by {holder}");
                return None;
            }
            Err(e) => {
                self.hindered = Some(Again::after(self.hindered, retry_at, self.host.clock.now()));
                return Some(self.refused(chain(&e)));
            }
        };
        if let Some(report) = &report {
            self.follow(report);
        } else {
            (self.hindered, self.unproven) = (None, None);
        }
        // as it was is no news
        report.filter(|r| !r.repeated)
    }
}

fn measured(
    session: &Session<'_>,
    due: DueBefore,
    shown: &[Endpoint],
    clock_synchronised: Option<bool>,
    began: Instant,
) -> Measured {
    let mut counters = DaemonState::load(&session.host.root).state.counters;
    metrics::count_errors(&mut counters, &session.inventory);
    let page = metrics::node(&Look {
        version: env!("CARGO_PKG_VERSION"),
        inventory: &session.inventory,
        assessment: &session.assessment,
        policy: session.policy,
        due,
        endpoints: session.host.live.then_some(shown),
        requests: Some(session.requests().unwrap_or_default()),
        clock_synchronised,
        counters: &counters,
    });
    let present = session.inventory.entries.iter().filter(|e| !matches!(e.content, Content::Absent) && !e.is_ca());
    Measured {
        page: page.into_text(),
        certificates: present.map(|e| e.name.clone()).collect(),
        counters,
        took: began.elapsed(),
    }
}

fn seen(session: &Session<'_>, unfinished: bool) -> CheckSeen {
    let judged = || session.assessment.all();
    let next = judged().filter_map(|j| Some((j.effective_end?, &j.name))).min();
    let entries = &session.inventory.entries;
    let mut bad: Vec<(&Judged, &Entry)> =
        session.assessment.entries.iter().zip(entries).filter(|(j, _)| j.severity != Severity::Ok).collect();
    // a CA at its end is the cause of the others' trouble
    bad.sort_by_key(|(_, e)| !e.is_ca());
    let attention = |j: &Judged, message| Attention { name: j.name.clone(), verdict: verdict(j.severity), message };
    let in_memory = session.assessment.in_memory.iter().filter(|(_, j)| j.severity != Severity::Ok);
    let in_memory = in_memory.map(|(held, j)| {
        let impact = if j.seconds_left > Some(0) { format!("then {}", held.impact) } else { held.impact.to_owned() };
        attention(j, told(j).chain([impact]).collect::<Vec<_>>().join("; "))
    });
    let in_files = bad.into_iter().map(|(j, e)| attention(j, message(session, j, e)));
    let mut attention: Vec<Attention> = in_files.chain(in_memory).collect();
    attention.sort_by_key(|a| std::cmp::Reverse(a.verdict));
    CheckSeen {
        at: session.at(),
        verdict: verdict(session.assessment.verdict),
        certificates: judged().filter(|j| j.effective_end.is_some()).count(),
        next_end: next.map(|(at, name)| NextEnd { name: name.clone(), at }),
        attention,
        unfinished,
        waits: None,
        paused: pause::read(&session.host.root, session.at()),
    }
}

fn told(judged: &Judged) -> impl Iterator<Item = String> {
    judged.findings.iter().map(|f| f.message.clone())
}

/// What is wrong, and, where nobody here can do anything about it, why and what is needed.
fn message(session: &Session<'_>, judged: &Judged, entry: &Entry) -> String {
    let found = told(judged);
    let why_not = session.why_not(entry);
    let by_hand = match &session.assessment.identity {
        Choice::Operator { remedy, .. } if entry.name == CLIENT => {
            Some(format!("an operator has to run this: {remedy}"))
        }
        _ => None,
    };
    found.chain(why_not).chain(by_hand).collect::<Vec<_>>().join("; ")
}

fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Ok => Verdict::Ok,
        Severity::Warning => Verdict::Warning,
        Severity::Unknown => Verdict::Unknown,
        Severity::Critical => Verdict::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate::{Gate, Refusal};
    use crate::model::inventory::{Form, Owner};
    use crate::model::plan::SCHEMA;
    use crate::model::repair::Way;

    fn plan(source: Source) -> Plan {
        let item = Item {
            name: "apiserver".into(),
            form: Form::Combined { path: "/a".into() },
            owner: Owner::Kubeadm,
            signer: "ca".into(),
            ca: "/ca".into(),
            ca_key: "/key".into(),
            trust: None,
            old_serial: None,
            old_not_after: None,
            reason: String::new(),
            user: None,
            also: vec!["sni".into()],
        };
        Plan {
            schema: SCHEMA.into(),
            created_at: Timestamp::UNIX_EPOCH,
            node: None,
            source,
            source_reason: String::new(),
            items: vec![item],
            steps: Vec::new(),
            emergency: false,
            skipped: Vec::new(),
            excluded: Vec::new(),
            whole: false,
            others: Vec::new(),
            then: None,
        }
    }

    fn refused(at: i64) -> Report {
        let mut report = Report::new(Outcome::Refused, "kubeadm cannot", Timestamp::from_second(at).unwrap());
        report.transaction = Some("t".into());
        report
    }

    #[test]
    fn an_attempt_that_ends_alike_comes_later_each_time_and_at_most_a_day() {
        let (plan, due) = (plan(Source::Kubeadm), ["apiserver".to_owned()]);
        let (mut held, mut now, mut waits) = (None, 1_800_000_000, Vec::new());
        for _ in 0..7 {
            held = Held::after(held, &plan, &refused(now));
            let until = held.as_ref().unwrap().until;
            waits.push((until.as_second() - now) / 3600);
            let at = |s| held.as_ref().unwrap().keeps(&due, Timestamp::from_second(s).unwrap());
            assert_eq!(at(until.as_second() - 1).map(|w| w.until), Some(Some(until)));
            assert_eq!(at(until.as_second()), None, "then it is tried again");
            assert_eq!(at(now - 1), None, "a clock that was set back holds nobody");
            now = until.as_second();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 24, 24]);
    }

    #[test]
    fn only_the_same_is_held_back_and_only_what_could_not_be_made() {
        let at = Timestamp::from_second(60).unwrap();
        let of = |plan: &Plan, report: &Report| Held::after(None, plan, report);
        let held = of(&plan(Source::Local), &refused(0)).unwrap();
        assert!(held.keeps(&["sni".into()], at).is_some(), "the same files by another name");
        assert!(held.keeps(&["apiserver".into(), "admin.conf".into()], at).is_none(), "something else is due besides");
        let gate = Report { refusals: vec![Refusal::new(Gate::Disk, "full", "free some")], ..refused(0) };
        let not_begun = Report { transaction: None, ..refused(0) };
        let done = Report { outcome: Outcome::Verified, ..refused(0) };
        for report in [&gate, &not_begun, &done] {
            assert!(of(&plan(Source::Local), report).is_none(), "{report:?}");
        }
        let asked = plan(Source::Identity { ways: vec![Way::Sign] });
        assert!(of(&asked, &refused(0)).is_none(), "requests have a time of their own");
    }
}
