//! One sitting of certwarden on a node: look, judge, plan, act. The command line and the daemon both go through
//! here, so that they cannot drift apart.

mod planning;
mod turn;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::collect::collect;
use crate::fleet::{Cluster, Look, OurTurn, calm};
use crate::host::Host;
use crate::model::assess::{Assessment, assess};
use crate::model::cause::chain;
use crate::model::csr::Request;
use crate::model::due::{self, Decision};
use crate::model::gate::{Gate, Refusal, standing};
use crate::model::inventory::Inventory;
use crate::model::ledger::State;
use crate::model::places::Places;
use crate::model::plan::{Plan, Source};
use crate::model::planner::{self, UnknownName};
use crate::model::policy::Policy;
use crate::model::repair::Way;
use crate::model::report::{Outcome, Report};
use crate::model::serving;
use crate::renew;
use crate::txn::dir::TxnDir;
use crate::txn::engine::{Context, EngineError};
use crate::txn::history;
use crate::txn::ledger::Ledger;
use crate::txn::progress::Progress;
use crate::txn::prove_again;
use crate::txn::recover::{self, Reach};
use crate::txn::state::DaemonState;
use crate::txn::steps::unit;
use crate::txn::store;
use crate::txn::transact::{self, Options};
use crate::txn::turn::{Take, Turn};
use crate::txn::unproven;
use crate::verify::gates::{self, View};
use crate::verify::requests;

/// A node, looked at.
#[derive(Debug)]
pub struct Session<'a> {
    pub host: &'a Host,
    pub policy: &'a Policy,
    pub inventory: Inventory,
    pub assessment: Assessment,
    /// Of this node, where the API was asked for them.
    requests: Option<Vec<Request>>,
    /// Nobody was asked for them: what is known is of an earlier look.
    taken_for_granted: bool,
    /// Looked for when something is planned.
    places: OnceCell<Places>,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    #[error(
        "there is no Kubernetes node below {}: neither static pods nor a kubelet nor any of their certificates were found; \
         `--root DIR` names another tree",
        root.display()
    )]
    NoNode { root: PathBuf },
}

/// Why a session could not do what was asked; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{id} is no transaction that is in place and not proven; `certwarden history` lists them as `unproven`")]
    NotUnproven { id: String },
    #[error("there is no backup {id} to roll back to; `certwarden history` lists them")]
    NoBackup { id: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl<'a> Session<'a> {
    /// Looks at the node and judges it.
    pub fn open(host: &'a Host, policy: &'a Policy) -> Self {
        Self::knowing(host, policy, None)
    }

    /// The same, where it is known already which requests there are: the API is not asked for them.
    /// Before one is filed they are asked for all the same.
    pub fn knowing(host: &'a Host, policy: &'a Policy, known: Option<&[Request]>) -> Self {
        let now = host.clock.now();
        let mut inventory = collect(&host.root, now, &policy.kubeconfigs);
        let state = DaemonState::load(&host.root).state;
        state.issued.mark(&mut inventory);
        if host.live && inventory.node.kubelet.identity.server.is_none() {
            // a kubelet.conf that is gone said so once
            inventory.node.kubelet.identity.server = state.server;
        }
        let mut assessment = assess(&inventory, policy, now);
        let asked = host.live && requests::worth_asking(&inventory, &assessment);
        let ask = || known.map(<[Request]>::to_vec).or_else(|| requests::own(host, &inventory));
        let requests = asked.then(ask).flatten();
        requests::tell(&mut assessment, &inventory, requests.as_deref().unwrap_or_default());
        unproven::tell(&mut assessment, &inventory, &unproven::list(&host.root));
        let taken_for_granted = known.is_some();
        Self { host, policy, inventory, assessment, requests, taken_for_granted, places: OnceCell::new() }
    }

    /// Certificate signing requests of this node; None: nobody asked for them, or nobody answered.
    pub fn requests(&self) -> Option<&[Request]> {
        self.requests.as_deref()
    }

    fn view<'v>(&'v self, plan: &'v Plan, last_seen: Option<Timestamp>) -> View<'v> {
        View { inventory: &self.inventory, assessment: &self.assessment, policy: self.policy, plan, last_seen }
    }

    /// The gates that are closed for a plan.
    pub fn closed_gates(&self, plan: &Plan) -> Vec<Refusal> {
        let state = DaemonState::load_and_warn(&self.host.root);
        let view = self.view(plan, state.last_seen);
        let mut closed = gates::closed(self.host, view);
        let since =
            state.observe_only.map(|why| format!("since {}: {} ({})", why.since, why.reason, why.errors.join("; ")));
        if let Some(reason) = since.or_else(|| self.failed_rollback()) {
            let remedy = "remove the cause, then run `certwarden recover`";
            // first: whatever else is wrong may follow from it
            closed.insert(0, Refusal::new(Gate::ObserveOnly, reason, remedy));
        }
        if self.host.live {
            closed.extend(calm::closed(self.host, self.policy));
        }
        closed
    }

    /// What stands in the way of a plan, here and in the cluster.
    pub fn in_the_way(&self, plan: &Plan) -> Vec<Refusal> {
        let mut closed = self.closed_gates(plan);
        closed.extend(self.cluster().map(|cluster| cluster.look(plan).refusals).unwrap_or_default());
        closed
    }

    /// This node among those of its cluster; None where nobody is to be asked.
    pub fn cluster(&self) -> Option<Cluster<'_>> {
        Cluster::of(self.host, self.policy, &self.inventory)
    }

    /// The newest transaction says so itself, should the daemon's memory be lost.
    fn failed_rollback(&self) -> Option<String> {
        let newest = history::list(&self.host.root).ok()?.into_iter().next()?;
        (newest.state == Some(State::RollbackFailed))
            .then(|| format!("the rollback of transaction {} failed: {}", newest.id, newest.reason.unwrap_or_default()))
    }

    /// Carries a plan out, and what follows it by what the node is like then: the report is that of the last transaction,
    /// with the others in it.
    ///
    /// # Errors
    /// [`EngineError`] if nothing was begun.
    pub fn carry_out(
        &self,
        plan: &Plan,
        dry_run: bool,
        forced: &[Gate],
        progress: &Progress,
    ) -> Result<Report, EngineError> {
        let mut report = self.transaction(plan, dry_run, forced, progress)?;
        let Some(rest) = plan.then.as_deref() else { return Ok(report) };
        progress.next_transaction();
        let why = match keeps_from_going_on(plan, &report, progress) {
            Some(why) => why,
            None => match Session::open(self.host, self.policy).carry_out(rest, dry_run, forced, progress) {
                Ok(last) => return Ok(last.after(report)),
                Err(e) => chain(&e),
            },
        };
        let names: Vec<&str> = rest.items.iter().map(|i| i.name.as_str()).collect();
        report.notes.push(format!("not begun: {}: {why}", names.join(", ")));
        Ok(report)
    }

    fn transaction(
        &self,
        plan: &Plan,
        dry_run: bool,
        forced: &[Gate],
        progress: &Progress,
    ) -> Result<Report, EngineError> {
        let mut refusals = if plan.is_empty() { Vec::new() } else { self.closed_gates(plan) };
        // a rehearsal does no harm to anybody
        let cluster = if plan.is_empty() || dry_run { None } else { self.cluster() };
        if dry_run {
            refusals.retain(|r| !matches!(r.gate, Gate::Window | Gate::Paused));
        }
        let mut seen = Look::default();
        // others are asked only where nothing of this node's own is in the way
        if let Some(cluster) = cluster.as_ref().filter(|_| standing(&refusals, forced, plan.emergency).is_empty()) {
            seen = cluster.look(plan);
            refusals.append(&mut seen.refusals);
        }
        if self.taken_for_granted && standing(&refusals, forced, plan.emergency).is_empty() {
            refusals.extend(self.meanwhile(plan));
        }
        let cluster = cluster.as_ref().filter(|_| seen.tells);
        let take = cluster.map(|cluster| {
            move |stop: &dyn Fn() -> bool| -> Result<Box<dyn Turn + '_>, Refusal> {
                let ours = if seen.needs_lock {
                    turn::take(cluster, plan, forced, progress, stop)?
                } else {
                    OurTurn::without_lock(cluster)
                };
                Ok(Box::new(ours))
            }
        });
        let options = Options { dry_run, forced: forced.to_vec(), refusals, notes: seen.notes };
        let report =
            transact::carry_out(self.context(progress), plan, &options, take.as_ref().map(|take| take as &Take<'_>))?;
        if let (Source::Identity { .. }, Outcome::Verified | Outcome::Degraded, Some(item)) =
            (&plan.source, report.outcome, plan.items.first())
        {
            renew::csr::succeeded(&self.host.root, serving::kind(&item.name));
        }
        Ok(report)
    }

    /// What the kubelet may have begun since it was last asked for.
    fn meanwhile(&self, plan: &Plan) -> Option<Refusal> {
        let Source::Identity { ways } = &plan.source else { return None };
        let [Way::Request { .. }] = ways.as_slice() else { return None };
        let why = self.at_it_itself(plan, &requests::own(self.host, &self.inventory)?)?;
        Some(Refusal::new(
            Gate::OtherRenewer,
            why,
            "it is looked at again; `certwarden diagnose` says what it waits for",
        ))
    }

    /// Puts the files of an earlier transaction's backup back, as a transaction of its own.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn rollback(&self, id: Option<&str>, forced: &[Gate], progress: &Progress) -> Result<Report, SessionError> {
        self.is_of_a_node()?;
        let id = self.backup(id)?;
        let dir = TxnDir { id: id.clone() };
        let ledger = Ledger::load(&self.host.root, &dir).map_err(EngineError::from)?;
        let files = ledger.as_ref().map(Ledger::files).unwrap_or_default();
        let names: BTreeSet<String> = files.iter().map(|f| f.entry.clone()).collect();
        let plan = planner::plan_restore(self.basis(), &names, &id, self.host.clock.now());
        let plan = self.possible(plan);
        Ok(self.carry_out(&plan, false, forced, progress)?)
    }

    fn backup(&self, id: Option<&str>) -> Result<String, SessionError> {
        let past = history::list(&self.host.root).map_err(EngineError::from)?;
        let usable = |p: &&history::Past| p.backup;
        let found = match id {
            Some(id) if store::is_id(id) => past.iter().filter(usable).find(|p| p.id == id),
            Some(_) => None,
            None => past.iter().find(usable),
        };
        let wanted = id.unwrap_or("(the newest)").to_owned();
        found.map(|p| p.id.clone()).ok_or(SessionError::NoBackup { id: wanted })
    }

    /// Ends what another process left unfinished, or verifies again what is not proven.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn recover(&self, reach: Reach, operator: bool, progress: &Progress) -> Result<Option<Report>, EngineError> {
        if reach == Reach::FilesOnly || !store::unfinished(&self.host.root).is_ok_and(|open| !open.is_empty()) {
            let mut report = recover::recover(self.context(progress), reach, operator)?;
            if let Some(report) = report.as_mut().filter(|_| reach == Reach::Full) {
                self.no_harm_any_more(report);
            }
            return Ok(report);
        }
        // what was begun is ended, whoever has the lock by now; where this node still has it, others wait until then
        let cluster = self.cluster();
        let held = cluster.as_ref().and_then(Cluster::adopt);
        let told = cluster.as_ref().filter(|cluster| held.is_some() || cluster.has_company());
        let ours = told.map(OurTurn::without_lock);
        let turn = ours.as_ref().map(|ours| ours as &dyn Turn);
        let mut report = recover::recover(Context { turn, ..self.context(progress) }, reach, operator)?;
        if let (Some(report), Some(cluster)) = (&mut report, &cluster) {
            let notes = match held.or_else(|| cluster.adopt()) {
                Some(held) => held.end(report),
                None => cluster.ended(report),
            };
            report.notes.extend(notes);
        }
        Ok(report)
    }

    /// Takes back what systemd was to do, had certwarden been killed while it held the kubelet.
    pub fn nobody_is_held(&self) {
        unit::disarm(self.host);
    }

    /// Takes an unproven transaction as it is, by the word of `who`. None: there is none.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn accept(&self, id: Option<&str>, who: &str, progress: &Progress) -> Result<Option<Report>, SessionError> {
        let mut report = prove_again::accept(self.context(progress), id, who)?;
        match (&mut report, id) {
            (None, Some(id)) => return Err(SessionError::NotUnproven { id: id.to_owned() }),
            (None, None) => {}
            (Some(report), _) => self.no_harm_any_more(report),
        }
        Ok(report)
    }

    /// What is proven or accepted takes away the mark of harm that its transaction left in the cluster.
    fn no_harm_any_more(&self, report: &mut Report) {
        let well = matches!(report.outcome, Outcome::Verified | Outcome::Committed);
        if let Some(cluster) = self.cluster().filter(|_| well && self.host.live) {
            report.notes.extend(cluster.ended(report));
        }
    }

    /// When the session looked.
    pub fn at(&self) -> Timestamp {
        self.assessment.at
    }

    /// What this node renews by itself at this moment.
    pub fn decide(&self) -> Decision {
        let timing = calm::timing(self.host, self.policy, &self.inventory);
        due::decide(&self.inventory, &self.assessment, self.policy, &timing, self.at())
    }

    /// The same session for what this node does by itself: by the time that is given to it, and not by age alone.
    #[must_use]
    pub fn by_its_own_time(mut self) -> Self {
        self.assessment = self.assessment.clone().by(&self.decide().threshold, &self.inventory);
        self
    }

    fn context<'s>(&'s self, progress: &'s Progress) -> Context<'s> {
        Context { host: self.host, policy: self.policy, inventory: &self.inventory, progress, turn: None }
    }
}

/// Why what follows is not begun. What could not be renewed and was left untouched keeps nobody; what is in doubt does.
fn keeps_from_going_on(plan: &Plan, report: &Report, progress: &Progress) -> Option<String> {
    let half = plan.skipped.iter().any(|s| s.blocks);
    match report.outcome {
        _ if progress.should_stop() => Some("stopped".to_owned()),
        Outcome::Refused if half => Some("not all that was asked for can be renewed".to_owned()),
        Outcome::Verified
        | Outcome::Committed
        | Outcome::DryRun
        | Outcome::NothingToDo
        | Outcome::LeftOut
        | Outcome::Refused => None,
        Outcome::Degraded | Outcome::Interrupted | Outcome::RolledBack | Outcome::RollbackFailed => {
            Some("the transaction before it did not end well".to_owned())
        }
    }
}
