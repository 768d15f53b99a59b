//! SIGINT, SIGTERM and a lost terminal during a transaction: asked to end, the engine ends where the node is well,
//! by discarding before the commit and by finishing after it. A process that just died would leave that to others.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::txn::progress::Progress;

use super::output::complain;

/// From here on these signals ask `progress` to stop. If they cannot be caught, dying stays possible: the ledger is
/// made for it.
pub(super) fn obey(progress: &Arc<Progress>) {
    let progress = Arc::clone(progress);
    let wait = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)] = kinds.map(signal) else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                complain("asked to end: discarding, or finishing if new files are in place already", 0);
                progress.stop_before_commit();
            }
        });
    };
    // no thread to be had: then the signals keep their default, which the ledger survives
    drop(std::thread::Builder::new().name("signals".into()).spawn(wait));
}
