//! What is known of a transaction that another process began: its plan, and whether its files can be reached.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::host::fs::Root;
use crate::model::assess::assess;
use crate::model::cause::chain;
use crate::model::cert::parse_pem;
use crate::model::credential;
use crate::model::inventory::Form;
use crate::model::places::Places;
use crate::model::plan::{Plan, PlannedStep, Step};
use crate::model::planner::{self, Basis};

use super::dir::TxnDir;
use super::engine::Context;
use super::files;
use super::ledger::Ledger;
use super::run::Run;
use super::stop::Stop;

/// A plan has some tens of steps; far above any.
const MAX_PLAN: u64 = 16 << 20;

/// Of a mounted image only the files are there; the services here are another machine's.
pub fn needs_the_node(context: Context<'_>, plan: &Plan) -> bool {
    let acts = |s: &PlannedStep| matches!(s.step, Step::Activate { .. } | Step::Verify { .. });
    !context.host.live && plan.steps.iter().any(acts)
}

/// The plan of a transaction that another process began, and what is to be said of it.
pub fn plan(context: Context<'_>, dir: &TxnDir, ledger: &Ledger) -> (Plan, Option<String>) {
    match read_plan(&context.host.root, dir) {
        Ok(plan) => (plan, None),
        // the files must be made consistent all the same: what is to be put back is in the ledger
        Err(why) => (plan_from_ledger(context, dir, ledger), Some(format!("{why}; recovering by the ledger alone"))),
    }
}

/// The plan's place is taken by that of putting everything back which the ledger names.
fn plan_from_ledger(context: Context<'_>, dir: &TxnDir, ledger: &Ledger) -> Plan {
    let now = context.host.clock.now();
    let names: BTreeSet<String> = ledger.files().iter().map(|f| f.entry.clone()).collect();
    let assessment = assess(context.inventory, context.policy, now);
    let places = Places::default();
    let basis = Basis {
        inventory: context.inventory,
        assessment: &assessment,
        policy: context.policy,
        live: context.host.live,
        places: &places,
    };
    let mut plan = planner::plan_restore(basis, &names, &dir.id, now);
    for item in &mut plan.items {
        // of the backup: what is live may be new
        let bytes = context.host.root.read_secret(&dir.old(item.form.path())).ok();
        item.old_not_after = bytes.and_then(|b| end_of(&item.form, &b));
    }
    plan
}

/// Where a file system is not mounted nothing can be said of what lies on it, and nothing is put there.
pub fn reachable(run: &Run<'_>) -> Result<(), Stop> {
    let records = run.ledger.as_ref().map(Ledger::files).unwrap_or_default();
    Ok(files::reachable(&run.context.host.root, records)?)
}

fn read_plan(root: &Root, dir: &TxnDir) -> Result<Plan, String> {
    let bytes = root.read(&dir.plan(), MAX_PLAN).map_err(|e| chain(&e))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{} is damaged: {e}", dir.plan().display()))
}

/// When the certificate in this file ends.
fn end_of(form: &Form, file: &[u8]) -> Option<Timestamp> {
    let cert = credential::certificate(form, file).ok()?;
    Some(parse_pem(&cert).ok()?.first()?.not_after)
}
