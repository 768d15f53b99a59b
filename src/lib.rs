//! certwarden renews the certificates of kubeadm-style Kubernetes nodes in a transaction, proves by
//! use that they took, and rolls back when they did not. It never makes a node worse than it found it.
//!
//! Directories are layers. **Imports point down only** (`tests/it/layers.rs` fails when one points up):
//!
//! | layer | modules | what belongs there |
//! |---|---|---|
//! | drivers | [`cli`], [`daemon`], [`observe`], [`watch`] | arguments, the scheduler, what is published, what others renew |
//! | use cases | [`app`] | from a wish to a transaction: look, judge, plan, act |
//! | the fleet | [`fleet`] | whose turn it is: locks, windows, pauses, harm |
//! | parts | [`collect`], [`renew`], [`txn`], [`verify`], [`config`] | compose `model` and `host` |
//! | adapters | [`host`] | one outside party per file; obeys, decides nothing |
//! | core | [`model`] | decides; no I/O, no clock, no async |
//!
//! Where does a line of code go? Stop at the first "yes":
//! 1. Can it be computed from values alone? [`model`].
//! 2. Does it speak to exactly one outside party (a file system, systemd, an API server …)? [`host`].
//! 3. Does it read the node into an inventory? [`collect`]. Make new credentials in a staging
//!    directory? [`renew`]. Change a live path? [`txn`], and nowhere else. Check whether the node is healthy? [`verify`].
//! 4. Does it decide by what other nodes, a window or a pause say? [`fleet`].
//! 5. Does it put the above together for whoever asks? [`app`]. Is it about a person or a scheduler asking? [`cli`], [`daemon`],
//!    [`observe`]. Does it follow certificates that others renew, without privilege? [`watch`].
//!
//! `fuzz.rs`, in the layers and here, is what must hold of every input; it is compiled for tests and for `make fuzz` only.
//!
//! Five nouns, without synonyms: **inventory** (what is there, possibly incomplete), **policy** (what the
//! operator wants), **assessment** (inventory judged by policy at an instant), **plan** (ordered steps, no
//! choice left), **transaction** (a plan being carried out; its durable record is the **ledger**).

pub mod app;
pub mod cli;
pub mod collect;
pub mod config;
pub mod daemon;
pub mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod host;
pub mod model;
pub mod observe;
pub mod renew;
pub mod txn;
pub mod verify;
pub mod watch;
