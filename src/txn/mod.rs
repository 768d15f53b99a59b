//! txn

pub mod progress;
pub mod state;
