//! The loop: waits, feeds the state machine, carries out its effects.

use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::DaemonError;
use super::alarm::Alarm;
use super::approver::Approver;
use super::clocks::Clocks;
use super::cluster::Cluster;
use super::hooks::Hooks;
use super::memory::Memory;
use super::metrics::Metrics;
use super::mounts::Mounts;
use super::report;
use super::signals::{Order, Signals};
use super::work::{Done, Engine, Job, Work};
use crate::collect::host_name;
use crate::config::{self, Settings};
use crate::host::fs::Root;
use crate::host::notify;
use crate::model::event;
use crate::model::machine::{Activity, Effect, Event, Found, Standing, State};
use crate::model::report::{Outcome, Report};
use crate::model::schedule::{Schedule, Who};
use crate::observe::{CheckSeen, Status, Verdict};

/// The wall clock is looked at this often at least: timers count monotonic time, which neither follows clock steps
/// nor advances in suspend.
const LONGEST_NAP: Duration = Duration::from_secs(60);
/// While a job runs its steps are followed.
const WORKING_NAP: Duration = Duration::from_secs(1);
mod told;

/// What ended a wait.
enum Wake {
    Order(Order),
    Done(Box<Done>),
    Time,
}

/// The daemon.
pub(super) struct Driver {
    root: Root,
    settings: Settings,
    state: State,
    engine: Engine,
    last_check: Option<CheckSeen>,
    told: report::Told,
    clocks: Clocks,
    memory: Memory,
    /// Why the last reload was rejected.
    rejected: Option<String>,
    /// The line that was published last, and the step that was found hanging.
    published: Option<Status>,
    hanging: bool,
    watchdog: Option<Duration>,
    mounts: Mounts,
    metrics: Metrics,
    approver: Approver,
    cluster: Cluster,
    hooks: Hooks,
    /// What was refused last, and when that was told: the same refusal at each look is one notice a day.
    refused: Option<(String, Timestamp)>,
}

impl Driver {
    pub(super) fn new(root: Root, settings: Settings, work: Box<dyn Work>) -> Self {
        let machine_id = root.read_text(Path::new("/etc/machine-id")).unwrap_or_default();
        let who = Who::of(&host_name(&root).unwrap_or_default(), &machine_id);
        let schedule = Schedule::new(settings.policy.check.interval, &who);
        let (memory, renewed, counters) = Memory::open(&root);
        let mounts = Mounts::new(&root);
        let (mode, cluster) = (settings.policy.mode, Cluster::start(&root));
        let state = State::start(Timestamp::now(), mode, schedule, memory.standing(), renewed);
        Self {
            root,
            settings,
            state,
            engine: Engine::new(work),
            last_check: None,
            told: report::Told::default(),
            clocks: Clocks::new(Timestamp::now(), Instant::now()),
            memory,
            rejected: None,
            published: None,
            hanging: false,
            watchdog: notify::watchdog_interval(),
            mounts,
            metrics: Metrics::new(counters),
            approver: Approver::default(),
            cluster,
            hooks: Hooks::default(),
            refused: None,
        }
    }

    pub(super) async fn run(mut self, mut signals: Signals, alarm: Alarm) -> Result<(), DaemonError> {
        notify::ready();
        report::started(self.state.mode, self.settings.files.len(), self.state.next().unwrap_or_default());
        report::standing(&Standing::Free { failures: 0 }, &self.state.standing);
        if let Some(damage) = &self.memory.damage {
            tracing::warn!("{damage}");
        }
        self.approver.configure(&self.root, &self.settings.policy);
        while self.state.activity != Activity::Ended {
            self.tell();
            match self.wait(&mut signals, &alarm).await? {
                Wake::Order(order) => self.obey(order)?,
                Wake::Done(done) => self.finished(*done)?,
                Wake::Time => self.tick()?,
            }
        }
        self.tell();
        report::stopped();
        Ok(())
    }

    /// The first of: an order, the end of the job, the end of a nap. None of them is lost when another is first.
    async fn wait(&mut self, signals: &mut Signals, alarm: &Alarm) -> Result<Wake, DaemonError> {
        alarm.set(self.nap()).map_err(DaemonError::Runtime)?;
        poll_fn(|cx| {
            if let Poll::Ready(order) = signals.poll(cx) {
                return Poll::Ready(Ok(Wake::Order(order)));
            }
            if let Poll::Ready(done) = self.engine.poll(cx) {
                return Poll::Ready(done.map(Box::new).map(Wake::Done));
            }
            alarm.poll(cx).map(|rung| rung.map(|()| Wake::Time).map_err(DaemonError::Runtime))
        })
        .await
    }

    /// Until the next thing to do, the next look at the clock, or the next sign of life.
    fn nap(&self) -> Duration {
        let nap = match self.state.next() {
            Some(next) => {
                Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default().min(LONGEST_NAP)
            }
            None => WORKING_NAP,
        };
        self.watchdog.map_or(nap, |limit| nap.min(limit))
    }

    fn obey(&mut self, order: Order) -> Result<(), DaemonError> {
        match order {
            Order::Terminate => {
                notify::stopping();
                self.event(Event::Terminate)
            }
            Order::Reload => self.reload(),
        }
    }

    fn tick(&mut self) -> Result<(), DaemonError> {
        if let Some(step) = self.clocks.step(Timestamp::now(), Instant::now()) {
            report::clock_stepped(step);
        }
        if matches!(self.state.activity, Activity::Idle { .. })
            && let Some(directory) = self.mounts.outdated(&self.root)
        {
            notify::stopping();
            return Err(DaemonError::Outdated(directory));
        }
        let looks = self.state.next().is_some_and(|next| Timestamp::now() >= next);
        if looks {
            self.recall()?;
        }
        if self.memory.is_unsaved() {
            self.save()?;
        }
        self.event(Event::Tick)
    }

    /// Before every look: an operator's `recover` or `renew` may have changed what is remembered.
    fn recall(&mut self) -> Result<(), DaemonError> {
        let standing = self.memory.recall(&self.root, &mut self.state.renewed, Timestamp::now());
        self.event(Event::Remembered(standing))
    }

    fn finished(&mut self, done: Done) -> Result<(), DaemonError> {
        self.hanging = false;
        match done {
            Done::Check(result) => {
                let result = *result;
                report::checked(self.last_check.as_ref(), &result.seen, &result.due);
                self.told.news(&result.due, &result.lasting);
                self.told.paused(result.seen.paused.as_ref(), result.seen.at);
                self.metrics.looked(result.seen.at, result.seen.verdict != Verdict::Unknown, result.measured);
                if result.clock_trusted
                    && let Some(ahead) = self.memory.known_time.seen(result.seen.at)
                {
                    report::outweighed(ahead, result.seen.at);
                }
                self.memory.learn(result.server.as_ref());
                // what was counted is remembered here, once for each look
                self.save()?;
                let found = Found {
                    due: result.due,
                    unfinished: result.seen.unfinished,
                    not_before: result.waits.as_ref().and_then(|w| w.until),
                    retry_at: result.retry_at,
                    unproven: result.unproven,
                };
                self.attention(&result.seen);
                self.last_check = Some(CheckSeen { waits: result.waits, ..result.seen });
                let decided = self.event(Event::CheckDone(found));
                self.tell_cluster(result.target, result.lasting);
                decided
            }
            Done::Transact(report) => {
                self.remember(&report);
                let renewed = report.lives();
                self.event(Event::TransactionDone { outcome: report.outcome, reason: report.reason, renewed })
            }
            Done::Recover(report) => {
                if let Some(report) = &report {
                    self.remember(report);
                }
                self.event(Event::RecoverDone(report.map(|r| (r.outcome, r.reason))))
            }
        }
    }

    fn remember(&mut self, report: &Report) {
        self.metrics.ended(report);
        self.told.left_out(report);
        self.notify(report);
        for report in report.all() {
            if let Some(news) = event::happened(report) {
                self.cluster.happened(news);
            }
        }
        if !matches!(report.outcome, Outcome::NothingToDo | Outcome::LeftOut) {
            self.memory.ended(report);
        }
    }

    fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        let before = self.state.standing.clone();
        let (state, effects) = self.state.clone().on(event, Timestamp::now())?;
        if state != self.state {
            self.metrics.changed();
        }
        self.state = state;
        self.memory.decide(&self.state.standing, Timestamp::now());
        report::standing(&before, &self.state.standing);
        effects.into_iter().try_for_each(|effect| self.carry_out(effect))
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), DaemonError> {
        let policy = || self.settings.policy.clone();
        match effect {
            Effect::StartCheck => self.engine.start(Job::Check, policy()),
            Effect::StartTransaction => self.engine.start(Job::Transact, policy()),
            Effect::StartRecover => self.engine.start(Job::Recover, policy()),
            Effect::Cancel => {
                report::finishing(&self.engine.progress().map(|p| p.step).unwrap_or_default());
                self.engine.cancel();
                Ok(())
            }
            Effect::Save => self.save(),
        }
    }

    fn save(&mut self) -> Result<(), DaemonError> {
        let (renewed, counters) = (&mut self.state.renewed, &mut self.metrics.counters);
        let standing = self.memory.save(&self.root, renewed, counters, Timestamp::now());
        if standing == self.state.standing {
            return Ok(());
        }
        self.event(Event::Remembered(standing)) // an operator has acted meanwhile
    }

    fn reload(&mut self) -> Result<(), DaemonError> {
        notify::reloading();
        let reloaded = match config::load(&self.root) {
            Ok(settings) => {
                report::reloaded(settings.files.len());
                let schedule = self.state.schedule.with_interval(settings.policy.check.interval);
                let mode = settings.policy.mode;
                (self.settings, self.rejected) = (settings, None);
                self.approver.configure(&self.root, &self.settings.policy);
                self.metrics.configured();
                self.event(Event::Reload(mode, schedule))
            }
            Err(e) => {
                self.rejected = Some(report::rejected(&e));
                self.metrics.changed();
                Ok(())
            }
        };
        notify::ready();
        reloaded
    }
}
