//! What cannot be renewed although it was planned, found out before anything is begun: by the same code that would back it up
//! and make it. `plan` says it, `renew` leaves it out, and the others do not wait for it.

use std::path::Path;

use crate::host::Host;
use crate::host::fs::FsError;
use crate::model::cause::chain;
use crate::model::inventory::Form;
use crate::model::plan::{Item, Plan, Skipped, Source};
use crate::renew;

use super::files;

/// The items of a plan that cannot be had as the node is now.
pub fn obstacles(host: &Host, plan: &Plan) -> Vec<Skipped> {
    let found = plan.items.iter().filter_map(|item| obstacle(host, plan, item));
    with_what_refers_to_them(plan, found.collect())
}

/// The same, in a plan of which half is nothing; and a kubeconfig that would name what will not be there.
fn with_what_refers_to_them(plan: &Plan, mut found: Vec<Skipped>) -> Vec<Skipped> {
    let missing = |link: &Path| {
        let made_here = |i: &&Item| matches!(&i.form, Form::Dated { link: made, .. } if made == link);
        plan.items.iter().find(made_here).filter(|i| found.iter().any(|s| s.name == i.name))
    };
    let refers = |i: &Item| {
        let Form::Reference { link, .. } = &i.form else { return None };
        let why = format!("{} cannot be had, which it is to name", missing(link)?.name);
        (!found.iter().any(|s| s.name == i.name)).then(|| Skipped::due(&i.name, why))
    };
    let more: Vec<Skipped> = plan.items.iter().filter_map(refers).collect();
    found.extend(more);
    for skipped in &mut found {
        skipped.blocks = plan.whole;
    }
    found
}

fn obstacle(host: &Host, plan: &Plan, item: &Item) -> Option<Skipped> {
    let left_out = |why: String| Skipped::due(&item.name, why);
    match files::foresee(&host.root, &item.form) {
        // a gate's matter, which closes for all
        Ok(()) | Err(FsError::Untrusted { .. }) => {}
        Err(e @ FsError::NotFound { .. }) if matches!(plan.source, Source::Generation { .. }) => {
            let needed = format!("that file put back by hand, from {}", plan.source);
            return Some(Skipped { needed: Some(needed), ..left_out(chain(&e)) });
        }
        Err(e @ FsError::NotFound { .. }) if item.form.may_be_missing() => {
            // the file itself need not be there
            let needed = "that directory back: from a file system that is not mounted, or from a backup".to_owned();
            return Some(Skipped { needed: Some(needed), ..left_out(chain(&e)) });
        }
        Err(e) => return Some(left_out(chain(&e))),
    }
    renew::foresee(host, &plan.source, item).err().map(|e| left_out(chain(&e)))
}
