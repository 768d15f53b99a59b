//! The daemon's metrics: what the last look measured, what is counted, and when the text is to be written again.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::approver::Tally;
use super::work::Measured;
use crate::host::fs::Root;
use crate::model::machine::{Activity, State};
use crate::model::metrics::counters::Counters;
use crate::model::metrics::{DaemonFacts, Doing, Page, daemon};
use crate::model::policy::Policy;
use crate::model::report::Report;
use crate::observe;

/// What is known between two writings.
#[derive(Debug)]
pub(super) struct Metrics {
    looked: Measured,
    pub(super) counters: Counters,
    /// When the transaction under way began.
    since: Option<Timestamp>,
    configured_at: Timestamp,
    write_failures: u64,
    /// Something may have changed.
    stale: bool,
    /// Requests that the approver leaves to a person.
    undecided: usize,
    /// Of the text that was written last: the daemon is idle nearly always, and the text is long.
    written: u64,
}

/// What else is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// False: the last reload was refused.
    pub(super) reload_well: bool,
    /// A dead process left a transaction open.
    pub(super) unfinished: bool,
    /// This node is paused, for emergencies too.
    pub(super) hard_pause: bool,
}

impl Metrics {
    pub(super) fn new(counters: Counters) -> Self {
        Self {
            looked: Measured::default(),
            counters,
            since: None,
            configured_at: Timestamp::now(),
            write_failures: 0,
            stale: true,
            undecided: 0,
            written: 0,
        }
    }

    pub(super) fn looked(&mut self, at: Timestamp, told: bool, measured: Measured) {
        self.counters.merge(&measured.counters);
        self.counters.checked(at, told);
        // counted already; what is remembered is the driver's
        self.looked = Measured { counters: Counters::default(), ..measured };
        self.stale = true;
    }

    pub(super) fn ended(&mut self, report: &Report) {
        self.counters.ended(report);
        self.stale = true;
    }

    /// The approver has decided about so many requests, and leaves so many to a person.
    pub(super) fn decided(&mut self, tally: Tally, undecided: usize) {
        self.stale |= !tally.is_empty() || undecided != self.undecided;
        self.undecided = undecided;
        for (what, n) in tally {
            self.counters.decided(what, n);
        }
    }

    pub(super) fn hooked(&mut self, name: &str, well: bool) {
        self.counters.hooked(name, well);
        self.stale = true;
    }

    pub(super) fn configured(&mut self) {
        self.configured_at = Timestamp::now();
        self.stale = true;
    }

    pub(super) fn changed(&mut self) {
        self.stale = true;
    }

    /// Writes what has changed since.
    pub(super) fn publish(&mut self, root: &Root, policy: &Policy, state: &State, seen: Seen) {
        let Seen { reload_well, unfinished, hard_pause } = seen;
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let doing = match state.activity {
            Activity::Recovering => Doing::Recovering,
            activity if activity.is_changing() => Doing::Renewing,
            _ if unfinished => Doing::Unfinished,
            _ => Doing::Idle,
        };
        self.since = self.since.filter(|_| state.activity.is_changing());
        if state.activity.is_changing() {
            self.since.get_or_insert_with(Timestamp::now);
        }
        let facts = DaemonFacts {
            policy,
            standing: &state.standing,
            doing,
            hard_pause,
            since: self.since,
            next_check: state.next(),
            check_duration: self.looked.took.as_secs_f64(),
            reload_well,
            configured_at: self.configured_at,
            counters: &self.counters,
            undecided: self.undecided,
            write_failures: self.write_failures,
        };
        let mut page = Page::default();
        daemon(&mut page, &facts, &self.looked.certificates);
        let text = self.looked.page.clone() + &page.into_text();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let now = hasher.finish();
        if now != self.written {
            let failed = observe::publish_metrics(root, &text, &policy.metrics.textfile_directories);
            // tried again at the next change
            self.write_failures += failed;
            self.written = now;
        }
    }
}
