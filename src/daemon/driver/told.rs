//! What the loop reports: to systemd, to the status file, to metrics, to hooks and to the cluster.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Driver;
use crate::daemon::cluster::Target;
use crate::daemon::metrics::Seen;
use crate::host::notify;
use crate::model::event::{News, Reason};
use crate::model::hook::{Notice, Wanting};
use crate::model::machine::{Activity, Standing};
use crate::model::report::{Outcome, Report};
use crate::observe::{self, CheckSeen, Doing, SCHEMA, Status};

/// More time asked of systemd at each turn while the engine finishes: enough for several lost turns.
const EXTENSION: Duration = Duration::from_secs(30);
/// A refusal for the same reason is told again after this.
const SAME_REFUSAL: SignedDuration = SignedDuration::from_hours(24);

impl Driver {
    /// What lasts: what the look found, and that nothing is done about it.
    pub(super) fn tell_cluster(&self, target: Option<Target>, mut lasting: Vec<News>) {
        if let Standing::ObserveOnly { reason, .. } = &self.state.standing {
            let note = format!("nothing is renewed on this node, because a rollback failed: {reason}");
            lasting.push(News { reason: Reason::CertwardenSuspended, about: String::new(), note });
        }
        self.cluster.looked(target, lasting, self.settings.policy.cluster.clone(), &self.status());
    }

    /// Tells hooks how an attempt ended.
    pub(super) fn notify(&mut self, report: &Report) {
        let Some(notice) = Notice::of(report) else { return };
        if matches!(report.outcome, Outcome::Refused | Outcome::LeftOut) {
            let told = |(reason, at): &(String, Timestamp)| {
                *reason == report.reason && report.ended_at.duration_since(*at) < SAME_REFUSAL
            };
            if self.refused.as_ref().is_some_and(told) {
                return;
            }
            self.refused = Some((report.reason.clone(), report.ended_at));
        } else {
            self.refused = None;
        }
        self.hooks.tell(&self.root, &self.settings.policy.hook, &notice);
    }

    /// Tells hooks what wants attention and did not at the last look.
    pub(super) fn attention(&mut self, seen: &CheckSeen) {
        let known = |name: &str| {
            self.last_check.as_ref().is_some_and(|last| last.attention.iter().any(|known| known.name == name))
        };
        let new = seen.attention.iter().filter(|a| !known(&a.name));
        let new: Vec<Wanting> = new.map(|a| Wanting { name: a.name.clone(), message: a.message.clone() }).collect();
        if !new.is_empty() {
            self.hooks.tell(&self.root, &self.settings.policy.hook, &Notice::expiring(seen.at, new));
        }
    }

    /// Signs of life and of state, each only when there is something to say.
    pub(super) fn tell(&mut self) {
        let progress = self.engine.progress();
        let hanging = progress.as_ref().is_some_and(|p| p.left.is_none());
        if hanging && !self.hanging {
            let step = progress.as_ref().map(|p| p.step.as_str()).unwrap_or_default();
            tracing::error!(
                "`{step}` does not end: the watchdog is not fed any more, so that systemd starts certwarden anew"
            );
        }
        self.hanging = hanging;
        if !hanging {
            notify::watchdog();
            if self.state.activity == Activity::Stopping {
                notify::extend_timeout(EXTENSION);
            }
        }
        for ended in self.hooks.ended() {
            self.metrics.hooked(&ended.name, ended.well);
        }
        self.publish();
        let (tally, undecided) = self.approver.take();
        self.metrics.decided(tally, undecided);
        let last = self.last_check.as_ref();
        let seen = Seen {
            reload_well: self.rejected.is_none(),
            unfinished: last.is_some_and(|c| c.unfinished),
            hard_pause: last.and_then(|c| c.paused.as_ref()).is_some_and(|p| p.hard),
        };
        self.metrics.publish(&self.root, &self.settings.policy, &self.state, seen);
    }

    pub(super) fn publish(&mut self) {
        let mut status = self.status();
        if let Some(published) = &self.published {
            let at = std::mem::replace(&mut status.at, published.at);
            if status == *published {
                return;
            }
            status.at = at;
        }
        notify::status(&observe::line(&status, &TimeZone::system()));
        if let Err(e) = observe::publish(&self.root, &status) {
            tracing::debug!("{e}");
        }
        self.published = Some(status);
    }

    pub(super) fn status(&self) -> Status {
        let doing = match self.state.activity {
            Activity::Idle { .. } => Doing::Idle,
            Activity::Checking { .. } => Doing::Checking,
            Activity::Transacting => Doing::Renewing,
            Activity::Recovering => Doing::Recovering,
            Activity::Stopping => Doing::Stopping,
            Activity::Ended => Doing::Ended,
        };
        let step = self.engine.progress().filter(|_| self.state.activity.is_changing()).map(|p| p.step);
        Status {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at: Timestamp::now(),
            mode: self.state.mode,
            doing,
            step,
            standing: self.state.standing.clone(),
            last_check: self.last_check.clone(),
            next_check: self.state.next(),
            last_transaction: self.memory.last_transaction.clone(),
            warnings: self.rejected.iter().cloned().chain(self.memory.damage.iter().map(ToString::to_string)).collect(),
        }
    }
}
