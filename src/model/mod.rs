//! The core: what is, what is wanted, what follows. Pure: no I/O, no clock, no async.

pub mod assess;
pub mod audit;
pub mod cause;
pub mod cert;
pub mod compare;
pub mod component;
pub mod consumer;
pub mod csr;
pub mod finding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gate;
pub mod health;
pub mod hook;
pub mod identity;
pub mod inventory;
pub mod kubeconfig;
pub mod ledger;
pub mod machine;
pub mod metrics;
pub mod pem;
pub mod places;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod process;
pub mod repair;
pub mod report;
pub mod rotation;
pub mod schedule;
pub mod similar;
pub mod version;
pub mod wiring;
pub mod yaml;
