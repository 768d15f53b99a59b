//! Transactions: a plan carried out so that it can always be undone. The only place that writes live paths.
//!
//! ```text
//!  backup ── stage ── validate ── rehearse ── commit ── activate ── verify
//!    │         │                                │           │          │
//!   open     staged                  committing, committed      verified | unproven
//!    └────┬────┘                                └─────┬─────┘
//!     discarded                    rolling-back ── rolled-back | rollback-failed
//! ```
//! Each word below the line is a record in the ledger, durable before the act above it begins. A process that
//! dies anywhere leaves a ledger from which [`recover`] finishes the story.
//!
//! [`transact`], [`recover`] and [`prove_again`] begin and end a transaction; `forward` and `unwind` know the order of the
//! [`steps`]; a step works on the [`run`]. Each file imports only what stands below it.

pub mod acts;
pub mod before;
pub mod dir;
pub mod engine;
pub mod files;
pub mod foresight;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod history;
pub mod ledger;
pub mod live;
pub mod lock;
pub mod progress;
pub mod prove_again;
pub mod recover;
mod resume;
pub mod retention;
mod retry;
pub mod run;
pub mod state;
pub mod steps;
pub mod stop;
pub mod store;
mod story;
pub mod swap;
pub mod transact;
pub mod turn;
pub mod unproven;
mod unwind;
