//! Clearing up: of a transaction that touched nothing, and beside the live files after one that is proven.

use crate::model::cause::chain;
use crate::model::ledger::State;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::{story, swap};

/// Ends a transaction that touched nothing. What it made is removed; failures to do so are noted.
pub fn discard(run: &mut Run<'_>, reason: &str, leave_no_trace: bool) {
    let host = run.context.host;
    let root = &host.root;
    if leave_no_trace {
        story::dry_run(&run.dir.id);
    } else {
        story::discarded(&run.dir.id, reason);
    }
    let swept = swap::sweep(root, &run.files()).map_err(|e| chain(&e));
    let closed = match run.ledger {
        Some(_) => run.enter(State::Discarded, Some(reason)).map_err(Stop::sentence),
        None => Ok(()),
    };
    let gone = if leave_no_trace || run.ledger.is_none() {
        root.remove_tree(&run.dir.path()).map_err(|e| chain(&e))
    } else {
        [run.dir.old_dir(), run.dir.new_dir(), run.dir.work()]
            .iter()
            .try_for_each(|d| root.remove_tree(d))
            .map_err(|e| chain(&e))
    };
    for failure in [swept, closed, gone].into_iter().filter_map(Result::err) {
        run.report.notes.push(format!("clearing up failed: {failure}; `certwarden recover` tries again"));
    }
}

/// Removes what lies beside the live files, while the ledger is open: whoever comes after a crash sweeps again. What
/// fails is tried again by [`crate::txn::retention`].
pub fn sweep(run: &mut Run<'_>) {
    if let Err(e) = swap::sweep(&run.context.host.root, &run.files()) {
        run.report.notes.push(format!("clearing up failed: {}; the next transaction tries again", chain(&e)));
    }
}
