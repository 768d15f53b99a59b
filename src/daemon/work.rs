//! Jobs and the thread that they run on: one at a time, on a thread that exists only while the job does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::DaemonError;
use super::cluster::Target;
use crate::model::event::News;
use crate::model::metrics::counters::Counters;
use crate::model::policy::Policy;
use crate::model::report::Report;
use crate::observe::{CheckSeen, Waits};
use crate::txn::progress::{Progress, Snapshot};

/// A look reads some dozen files and asks some sockets, each with a time limit of seconds.
const CHECK_LIMIT: Duration = Duration::from_secs(120);
/// Until the engine announces its first step: reading the node, as in a look.
const FIRST_STEP_LIMIT: Duration = Duration::from_secs(120);

/// What the daemon has done for it. All of it blocks, on the engine's thread.
pub trait Work: Send {
    /// Looks at the node. Changes nothing.
    fn check(&mut self, policy: &Policy, progress: &Arc<Progress>) -> CheckResult;

    /// Renews everything that is due, or says why not. Announces its steps, and asks [`Progress::should_stop`] between them.
    fn transact(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Report;

    /// Ends a transaction that a dead process left open, or verifies again what is not proven; None if there is neither, or no
    /// news.
    fn recover(&mut self, policy: &Policy, progress: &Arc<Progress>) -> Option<Report>;
}

/// What a look found.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub seen: CheckSeen,
    /// Logical names of what should be renewed now, without what `renew.exclude` names.
    pub due: Vec<String>,
    /// The clock is synchronised: its time may be remembered as one that has passed.
    pub clock_trusted: bool,
    /// Why what is due is not renewed now, and until when.
    pub waits: Option<Waits>,
    /// The last recovery was hindered, and is tried again then.
    pub retry_at: Option<Timestamp>,
    /// Something is in place and not proven, and it is time to verify it again.
    pub unproven: bool,
    /// The API server, where the kubelet's kubeconfig is well and says it.
    pub server: Option<String>,
    pub measured: Measured,
    /// For the cluster: where to tell it, and what lasts.
    pub target: Option<Target>,
    pub lasting: Vec<News>,
}

/// What metrics tell of a look.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The node's part of the text.
    pub page: String,
    /// Logical names of what is there.
    pub certificates: Vec<String>,
    /// What was remembered, with this look's errors counted.
    pub counters: Counters,
    pub took: Duration,
}

/// Which job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Job {
    Check,
    Transact,
    Recover,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Check(Box<CheckResult>),
    Transact(Report),
    Recover(Option<Report>),
}

/// The engine and the job that it has in hand.
pub(super) struct Engine {
    work: Arc<Mutex<Box<dyn Work>>>,
    running: Option<Running>,
}

struct Running {
    done: oneshot::Receiver<Done>,
    progress: Arc<Progress>,
}

impl Engine {
    pub(super) fn new(work: Box<dyn Work>) -> Self {
        Self { work: Arc::new(Mutex::new(work)), running: None }
    }

    /// Starts a job. Never called while one runs: the state machine sees to that.
    pub(super) fn start(&mut self, job: Job, policy: Policy) -> Result<(), DaemonError> {
        let (send, done) = oneshot::channel();
        let limit = if job == Job::Check { CHECK_LIMIT } else { FIRST_STEP_LIMIT };
        let progress = Arc::new(Progress::new("reading the node", limit));
        let (work, shared) = (Arc::clone(&self.work), Arc::clone(&progress));
        let run = move || {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            let result = match job {
                Job::Check => Done::Check(Box::new(work.check(&policy, &shared))),
                Job::Transact => Done::Transact(work.transact(&policy, &shared)),
                Job::Recover => Done::Recover(work.recover(&policy, &shared)),
            };
            drop(work);
            // the daemon may have ended meanwhile (a look does not keep it): nobody is left to tell
            drop(send.send(result));
        };
        std::thread::Builder::new().name("engine".into()).spawn(run).map_err(DaemonError::Thread)?;
        self.running = Some(Running { done, progress });
        Ok(())
    }

    /// How far the job is, if one runs.
    pub(super) fn progress(&self) -> Option<Snapshot> {
        self.running.as_ref().map(|r| r.progress.snapshot())
    }

    pub(super) fn cancel(&self) {
        if let Some(running) = &self.running {
            running.progress.stop();
        }
    }

    /// The end of the job; never, if none runs.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, DaemonError>> {
        let Some(running) = &mut self.running else { return Poll::Pending };
        let done = ready!(Pin::new(&mut running.done).poll(cx));
        self.running = None;
        Poll::Ready(done.map_err(|_| DaemonError::EngineDied))
    }
}
