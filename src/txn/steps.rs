//! The steps of a transaction: one subject per file. Each is a function of the run, and does not know what comes before or
//! after it: `txn::forward` and `txn::unwind` do.

pub mod activate;
pub mod commit;
pub mod container;
pub mod discard;
mod etcd;
pub mod exits;
mod health;
pub mod look;
pub mod pods;
pub mod prepare;
pub mod refresh;
pub mod rehearse;
pub mod turn;
pub mod unit;
pub mod verify;

use std::time::Duration;

/// Time limit of a step that works on files only: generous, because fsync on a loaded disk is slow.
pub const FILES_LIMIT: Duration = Duration::from_secs(60);
