//! The daemon's work on the node that it runs on: the same sessions as the command line's.

use std::sync::Arc;
use std::time::Instant;

use jiff::SignedDuration;

use crate::collect::collect;
use crate::host::Host;
use crate::model::assess::{Assessment, Judged, Severity, assess};
use crate::model::cause::chain;
use crate::model::event;
use crate::model::identity::Config;
use crate::model::inventory::{Content, Entry};
use crate::model::metrics::{self, Endpoint, Look};
use crate::model::planner::{self, Selection};
use crate::model::policy::Policy;
use crate::model::repair::{CLIENT, Choice};
use crate::model::report::{Outcome, Report};
use crate::observe::{Attention, CheckSeen, NextEnd, Verdict, Waits};
use crate::txn::calm;
use crate::txn::cluster::pause;
use crate::txn::engine::EngineError;
use crate::txn::lock::LockError;
use crate::txn::progress::Progress;
use crate::txn::recover::Reach;
use crate::txn::session::Session;
use crate::txn::state::DaemonState;
use crate::txn::store;
use crate::verify::endpoints;

use super::cluster::Target;
use super::work::{CheckResult, Measured, Work};

/// What waits for nothing that is known to come is looked at again then.
const LONG: SignedDuration = SignedDuration::from_hours(24);

/// That there are no certificate signing requests of this node is believed for so many looks: a certificate that is due may
/// wait for weeks for its turn, on thousands of nodes.
const BELIEVED: u32 = 8;

/// The real node.
#[derive(Debug)]
pub struct NodeWork {
    host: Host,
    /// What the last attempt waits for.
    waits: Option<Waits>,
    /// Looks since the API said that there are no requests of this node.
    no_requests: Option<u32>,
}

impl NodeWork {
    pub fn new(host: Host) -> Self {
        Self { host, waits: None, no_requests: None }
    }

    /// What is to be renewed now; or, where something is due and its time has not come, what it waits for.
    fn due(&self, session: &Session<'_>) -> (Vec<String>, Option<Waits>) {
        let policy = session.policy;
        let names = |assessment: &Assessment| -> Vec<String> {
            let due = assessment.due().map(|j| j.name.clone());
            due.filter(|name| !policy.renew.exclude.contains(name)).collect()
        };
        let by_age = names(&session.assessment);
        let ends = || session.assessment.due().filter_map(|j| j.effective_end);
        let later = |why: String| {
            let until = calm::acts_at(&self.host, policy, &session.inventory, ends());
            Some(Waits { until: until.or_else(|| session.at().checked_add(LONG).ok()), why })
        };
        if let Some(closed) = calm::closed(&self.host, policy).into_iter().next()
            && !session.assessment.emergency()
        {
            return if by_age.is_empty() { (by_age, None) } else { (by_age, later(closed.reason)) };
        }
        let now = calm::policy_now(&self.host, policy, &session.inventory);
        let due = if now == *policy { by_age.clone() } else { names(&assess(&session.inventory, &now, session.at())) };
        if due.is_empty() && !by_age.is_empty() {
            let why = format!("due by age, not yet by the time given to this node: {}", by_age.join(", "));
            return (by_age, later(why));
        }
        if !due.is_empty()
            && !session.assessment.emergency()
            && let Some(at) = calm::place(&self.host, policy, &session.inventory)
        {
            return (due, later(format!("this node's place in the maintenance window is at {at:.0}")));
        }
        let waits = self.waits.clone().filter(|_| !due.is_empty());
        (due, waits)
    }

    fn refused(&self, reason: impl Into<String>) -> Report {
        Report::new(Outcome::Refused, reason, self.host.clock.now())
    }
}

impl Work for NodeWork {
    fn check(&mut self, policy: &Policy, _progress: &Arc<Progress>) -> CheckResult {
        self.host.root.trust(&policy.gates.trusted_owners);
        let began = Instant::now();
        self.no_requests = self.no_requests.map(|looks| looks.saturating_add(1)).filter(|looks| *looks < BELIEVED);
        let mut session = Session::knowing(&self.host, policy, self.no_requests.map(|_| [].as_slice()));
        if self.no_requests.is_none() && session.requests().is_some_and(<[_]>::is_empty) {
            self.no_requests = Some(0);
        }
        let shown = endpoints::look(&self.host);
        endpoints::tell(&mut session.assessment, &session.inventory, &shown);
        let unfinished = store::unfinished(&self.host.root).map_or(true, |open| !open.is_empty());
        let clock = self.host.services.clock_synchronised();
        let (due, waits) = self.due(&session);
        if let Some(cluster) = session.cluster() {
            cluster.settle_debts();
        }
        CheckResult {
            target: Some(&session.inventory).filter(|_| self.host.live).and_then(Target::of),
            lasting: event::lasting(&session.inventory, &session.assessment),
            measured: measured(&session, &shown, clock, began),
            seen: seen(&session, unfinished),
            due,
            waits,
            paused: pause::read(&self.host.root, session.at()).map(|pause| pause.to_string()),
            clock_trusted: clock == Some(true),
            server: Some(&session.inventory.node.kubelet.identity)
                .filter(|identity| identity.config == Config::Current)
                .and_then(|identity| identity.server.clone()),
        }
    }

    fn transact(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Report {
        self.host.root.trust(&policy.gates.trusted_owners);
        let inventory = collect(&self.host.root, self.host.clock.now(), &policy.kubeconfigs);
        let policy = &calm::policy_now(&self.host, policy, &inventory);
        let session = Session::knowing(&self.host, policy, self.no_requests.map(|_| [].as_slice()));
        let plan = match session.plan(&Selection::Due) {
            Ok(plan) => plan,
            Err(e) => return self.refused(e.to_string()),
        };
        let report = session.carry_out(&plan, false, &[], progress).unwrap_or_else(|e| self.refused(chain(&e)));
        let until = report.refusals.iter().map(|r| r.until).max().flatten();
        self.waits = report.refusals.first().map(|r| Waits { until, why: r.reason.clone() });
        report
    }

    fn recover(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Option<Report> {
        self.host.root.trust(&policy.gates.trusted_owners);
        match Session::open(&self.host, policy).recover(Reach::Full, false, progress) {
            Ok(report) => report,
            // not dead: another certwarden is carrying it out
            Err(EngineError::Lock(LockError::Busy { holder })) => {
                tracing::info!("a transaction is being carried out by {holder}");
                None
            }
            Err(e) => Some(self.refused(chain(&e))),
        }
    }
}

fn measured(session: &Session<'_>, shown: &[Endpoint], clock_synchronised: Option<bool>, began: Instant) -> Measured {
    let mut counters = DaemonState::load(&session.host.root).state.counters;
    metrics::count_errors(&mut counters, &session.inventory);
    let page = metrics::node(&Look {
        version: env!("CARGO_PKG_VERSION"),
        inventory: &session.inventory,
        assessment: &session.assessment,
        policy: session.policy,
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
    }
}

fn told(judged: &Judged) -> impl Iterator<Item = String> {
    judged.findings.iter().map(|f| f.message.clone())
}

/// What is wrong, and, where nobody here can do anything about it, why and what is needed.
fn message(session: &Session<'_>, judged: &Judged, entry: &Entry) -> String {
    let found = told(judged);
    let elsewhere = planner::not_here(&session.inventory, entry);
    let needed = elsewhere.as_ref().and_then(|_| planner::needed(entry)).map(|n| format!("it needs {n}"));
    let by_hand = match &session.assessment.identity {
        Choice::Operator { remedy, .. } if entry.name == CLIENT => {
            Some(format!("an operator has to run this: {remedy}"))
        }
        _ => None,
    };
    found.chain(elsewhere).chain(needed).chain(by_hand).collect::<Vec<_>>().join("; ")
}

fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Ok => Verdict::Ok,
        Severity::Warning => Verdict::Warning,
        Severity::Unknown => Verdict::Unknown,
        Severity::Critical => Verdict::Critical,
    }
}
