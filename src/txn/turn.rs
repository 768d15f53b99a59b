//! This node's turn among those of its cluster, as far as a transaction has to know: it is kept in every wait, asked for before
//! what cannot be taken back, and ended with word of the outcome. How a turn is found and taken is not known here.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::gate::Refusal;
use crate::model::report::Report;

/// Why the turn is not this node's for certain: a clause.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// Another node has it, or may have it.
    #[error("{0}")]
    Lost(String),
    /// Nobody can say.
    #[error("it cannot be renewed: {0}")]
    Unknown(String),
}

/// A turn that was taken, or a transaction that goes without one and still reports to the others.
pub trait Turn: Debug {
    /// Keeps it beside the work. Called in every wait.
    fn beat(&self);

    /// Makes certain that nobody else can have it for its whole duration from now on.
    ///
    /// # Errors
    /// [`Doubt`].
    fn keep(&self) -> Result<(), Doubt>;

    /// Whether an emergency goes on in doubt.
    fn goes_on(&self, doubt: &Doubt) -> bool;

    /// [`keep`](Self::keep) after the commit, which costs a few seconds at most in all.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    fn keep_if_quick(&self) -> Result<(), Doubt>;

    /// Makes certain that nobody else can have it for so long.
    ///
    /// # Errors
    /// [`Doubt`].
    fn is_sure(&self, need: Duration) -> Result<(), Doubt>;

    /// Reports to the others that this node is being rolled back, before anything is restarted.
    fn rolling_back(&self, at: Timestamp, reason: &str);

    /// Ends it before anything was begun.
    fn give_up(self: Box<Self>);

    /// Ends it, and reports to the others how the transaction ended. What could not be reported comes back as notes.
    fn end(self: Box<Self>, report: &Report) -> Vec<String>;
}

/// Takes the turn, or goes without where that is allowed. It is given what says whether to stop waiting.
pub type Take<'t> = dyn Fn(&dyn Fn() -> bool) -> Result<Box<dyn Turn + 't>, Refusal> + 't;
