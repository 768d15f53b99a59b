//! Judging what was observed: has the unit come back for good, does the node report Ready *again*? Pure: the
//! observations are gathered by `verify`.

mod node;
mod unit;

pub use node::{LEASE_ADVANCES, NodeSample, NodeSnapshot, SETTLED, judge_node};
pub use unit::{UnitSample, judge_unit};

/// What follows from the observations so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement {
    Healthy,
    /// Nothing speaks against it yet; check again.
    NotYet(String),
    /// All is as it should be, but what was seen may still be the old process's: its next report decides.
    Undecided(String),
    /// Nobody answers who could say. Not a failure.
    CannotTell(String),
    /// It has failed, and waiting does not help.
    Failed(String),
}
