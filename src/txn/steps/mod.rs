//! The steps of a transaction: one subject per file.

pub mod activate;
pub mod container;
mod etcd;
mod exits;
mod hold;
pub mod pods;
pub mod prepare;
pub mod refresh;
mod turn;
pub mod unit;
pub mod verify;
