//! `certwarden check`: take the inventory, judge it, say so.

use std::path::Path;

use super::args::{CheckArgs, CheckOutput};
use super::output::{USAGE, complain, not_allowed, print_json, print_painted};
use super::render::{self, Style};
use super::terminal;
use crate::collect::{collect, open_to_all};
use crate::host::clock::{Clock as _, SystemClock};
use crate::host::fs::Root;
use crate::model::assess::{Assessment, assess, overall};
use crate::model::inventory::Inventory;
use crate::model::policy::Policy;
use crate::model::similar::question;
use crate::txn::state::DaemonState;
use crate::txn::unproven;

/// Looks, and tells the assessment of the named entries, or of all. The verdict is the exit code.
pub fn run(root: &Root, policy: &Policy, args: &CheckArgs) -> u8 {
    let now = SystemClock::default().now();
    let mut inventory = collect(root, now, &policy.kubeconfigs);
    DaemonState::load(root).state.issued.mark(&mut inventory);
    note_open_ways(&mut inventory, root, policy);
    let mut assessment = assess(&inventory, policy, now);
    unproven::tell(&mut assessment, &inventory, &unproven::list(root));
    if let Some(code) = not_allowed(root) {
        return code;
    }
    if let Err(message) = select(&mut inventory, &mut assessment, &args.names) {
        return complain(&message, USAGE);
    }
    match args.output {
        CheckOutput::Json => {
            print_json(&render::document(&inventory, &assessment));
        }
        CheckOutput::Table | CheckOutput::Wide => {
            let style =
                Style { wide: args.output == CheckOutput::Wide, colour: terminal::colour(), width: terminal::width() };
            print_painted(&render::table(&inventory, &assessment, style));
        }
    }
    let code = assessment.verdict.exit_code();
    // the process ends here, and there is no key in these: the kernel frees them in a fraction of the time
    std::mem::forget((inventory, assessment));
    code
}

/// What `certwarden watch` gets by its unit.
const WATCH: &str = "/etc/certwarden/watch.kubeconfig";

/// certwarden's own kubeconfigs hold tokens as a rule, and are no entries: only the way to their server can be wrong.
fn note_open_ways(inventory: &mut Inventory, root: &Root, policy: &Policy) {
    let approver = Some(policy.approver.kubeconfig.as_path()).filter(|_| policy.approver.enabled);
    let own = [Some(policy.fleet.kubeconfig.as_path()), approver, Some(Path::new(WATCH))];
    let known = |path: &&Path| !path.as_os_str().is_empty() && inventory.entries.iter().all(|e| e.path() != *path);
    let own: Vec<&Path> = own.into_iter().flatten().filter(known).collect();
    let found = open_to_all(root, &own);
    inventory.node.notes.extend(found.into_iter().map(|f| format!("{}: {}", f.id, f.message)));
}

/// Leaves the named entries only, and the verdict that follows from them.
fn select(inventory: &mut Inventory, assessment: &mut Assessment, names: &[String]) -> Result<(), String> {
    let known: Vec<&str> = assessment.all().map(|j| j.name.as_str()).collect();
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|n| !known.contains(n)).collect();
    if !unknown.is_empty() {
        let meant = unknown.first().map(|name| question(name, &known)).unwrap_or_default();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!("no certificate is called {}; known here: {known}{meant}", unknown.join(", ")));
    }
    if !names.is_empty() {
        inventory.entries.retain(|e| names.contains(&e.name));
        assessment.entries.retain(|j| names.contains(&j.name));
        assessment.in_memory.retain(|(held, _)| names.contains(&held.name));
        assessment.verdict = overall(inventory, assessment);
    }
    Ok(())
}
