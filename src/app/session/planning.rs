//! From the look to the plan: the planner's, less what this node would not do or cannot, found out beforehand.

use jiff::Timestamp;

use super::{PlanError, Session};
use crate::model::csr::{self, Request};
use crate::model::inventory::{Content, Entry, Role};
use crate::model::plan::{Item, Maker, Plan, Skipped, Source};
use crate::model::planner::{self, Basis, Selection};
use crate::model::repair::Way;
use crate::model::serving;
use crate::renew::{self, choice};
use crate::txn::{files, foresight};
use crate::verify::gates;

impl Session<'_> {
    pub(super) fn basis(&self) -> Basis<'_> {
        let places = self.places.get_or_init(|| files::places(&self.host.root, &self.inventory));
        let (inventory, assessment) = (&self.inventory, &self.assessment);
        Basis { inventory, assessment, policy: self.policy, live: self.host.live, places }
    }

    /// What `renew` would do: exactly it, and exactly what it would leave out.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan(&self, selection: &Selection) -> Result<Plan, PlanError> {
        self.is_of_a_node()?;
        let now = self.host.clock.now();
        let idle = *selection == Selection::Due && self.assessment.due().next().is_none();
        let maker = if idle {
            // the daemon plans at every look, and nobody is asked for nothing
            Maker { source: Source::Local, why: "nothing is due".to_owned() }
        } else {
            choice::choose(self.host, self.policy, &self.inventory, now)
        };
        let plan = planner::plan(self.basis(), selection, maker, now)?;
        let plan = if *selection == Selection::Due && self.host.live {
            let plan = self.less(plan, &|part| self.etcd_to_spare(part));
            self.less(plan, &|part| self.not_asked_for_now(part))
        } else {
            plan
        };
        Ok(self.possible(plan))
    }

    /// The plan less what cannot be had, and without whom nobody would see again.
    pub(super) fn possible(&self, plan: Plan) -> Plan {
        let plan = self.less(plan, &|part| foresight::obstacles(self.host, part));
        planner::spare(self.basis(), plan)
    }

    /// Why an entry that is due or broken stays as it is, and what has to be done: clauses.
    pub fn why_not(&self, entry: &Entry) -> Vec<String> {
        planner::why_not(self.basis(), entry, self.at())
    }

    /// On a tree without a node nothing is due, and that is not worth saying.
    pub(super) fn is_of_a_node(&self) -> Result<(), PlanError> {
        let (node, entries) = (&self.inventory.node, &self.inventory.entries);
        let known = node.role != Role::Unknown || node.distribution.is_some();
        if known || entries.iter().any(|e| !matches!(e.content, Content::Absent)) {
            return Ok(());
        }
        Err(PlanError::NoNode { root: self.host.root.path().to_path_buf() })
    }

    /// Each part of the plan less what `left_out` says of it; what is left out is told with the first.
    fn less(&self, mut plan: Plan, left_out: &dyn Fn(&Plan) -> Vec<Skipped>) -> Plan {
        let then = plan.then.take().map(|rest| self.less(*rest, left_out));
        let skipped = left_out(&plan);
        let mut plan = if skipped.is_empty() { plan } else { planner::less(self.basis(), &plan, skipped) };
        let Some(mut rest) = then else { return plan };
        plan.skipped.append(&mut rest.skipped);
        if plan.is_empty() {
            let (skipped, excluded) = (plan.skipped, plan.excluded);
            return Plan { skipped, excluded, ..rest };
        }
        plan.then = Some(Box::new(rest)).filter(|rest| !rest.is_empty());
        plan
    }

    /// Where no member of etcd can be spared, its leaves must not keep the others from being renewed in time. Who names
    /// them is told by the gate.
    fn etcd_to_spare(&self, part: &Plan) -> Vec<Skipped> {
        let view = self.view(part, None);
        let Some(closed) = gates::quorum(self.host, view) else { return Vec::new() };
        let reason = format!("gate {closed}; name them to force it");
        gates::etcds(view).map(|i: &Item| Skipped::due(&i.name, &reason)).collect()
    }

    /// What would ask for what is not to be asked for now.
    fn not_asked_for_now(&self, part: &Plan) -> Vec<Skipped> {
        let Some(reason) = self.not_now(part) else { return Vec::new() };
        part.items.iter().map(|i| Skipped::due(&i.name, &reason)).collect()
    }

    /// Why no request is filed now: the kubelet is at it itself, or the last ones came to nothing.
    fn not_now(&self, plan: &Plan) -> Option<String> {
        let Source::Identity { ways } = &plan.source else { return None };
        let (Way::Request { .. }, others) = ways.split_first()? else { return None };
        let theirs = self.at_it_itself(plan, self.requests.as_deref().unwrap_or_default());
        if let Some(why) = theirs.filter(|_| others.is_empty()) {
            return Some(why);
        }
        let now: Timestamp = self.host.clock.now();
        let kind = serving::kind(&plan.items.first()?.name);
        let held = renew::csr::held_back(&self.host.root, kind, now).filter(|h| h.denied || others.is_empty())?;
        let what = if held.denied { "the last request was denied" } else { "the last requests came to nothing" };
        Some(format!("{what}: the next is filed after {}, or by name at once", held.until))
    }

    /// Whether the kubelet has a request of its own among `requests` that is not answered yet.
    pub(super) fn at_it_itself(&self, plan: &Plan, requests: &[Request]) -> Option<String> {
        let (node, kind) = (self.inventory.node.name.as_deref()?, serving::kind(&plan.items.first()?.name));
        let theirs = csr::rotating(requests, node, kind, self.host.clock.now())?;
        Some(format!("the kubelet itself waits for its request {theirs}"))
    }
}
