//! What to do, as commands where there are any.

use serde::Serialize;

use crate::model::plan::Skipped;
use crate::model::planner::Remake;

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Remedy {
    /// To be run as root on this node, unless `what` says another place; None where it takes more than a command.
    pub command: Option<String>,
    /// What it does, or what there is to do.
    pub what: String,
}

impl Remedy {
    pub(super) fn run(command: impl Into<String>, what: impl Into<String>) -> Self {
        Self { command: Some(command.into()), what: what.into() }
    }

    pub(super) fn note(what: impl Into<String>) -> Self {
        Self { command: None, what: what.into() }
    }

    pub(super) fn renew(names: &[&str]) -> Vec<Self> {
        let names = if names.is_empty() { String::new() } else { format!(" {}", names.join(" ")) };
        vec![
            Self::run(format!("certwarden plan{names}"), "says what would be done, and changes nothing"),
            Self::run(format!("certwarden renew{names}"), "does it, proves it, or puts the old state back"),
        ]
    }

    /// What makes a credential again.
    pub(super) fn of(way: &Remake) -> Self {
        match way {
            Remake::Run { command, what } => Self::run(command, *what),
            Remake::Note(what) => Self::note(format!("it needs {what}")),
        }
    }

    /// What certwarden would leave out: why, and what has to be done instead.
    pub(super) fn left_out(skipped: &Skipped) -> Vec<Self> {
        let needed = skipped.needed.iter().map(|needed| Self::note(format!("it needs {needed}")));
        std::iter::once(Self::note(format!("certwarden leaves it out: {}", skipped.reason))).chain(needed).collect()
    }

    pub(super) fn restart_kubelet(unit: &str) -> Self {
        Self::run(format!("systemctl restart {unit}"), "the node's pods go on running meanwhile")
    }
}
