//! What a person has decided on this node that certwarden would not have done by itself, and who it was.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plain;

/// Longer details are cut: a reason, a list of gates.
const LONGEST: usize = 400;

/// The kinds of decisions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Nothing is to be renewed.
    Pause,
    /// That has ended.
    Resume,
    /// Gates are not to count: `--force`.
    Force,
    /// An interrupted or failed transaction is to be ended.
    Recover,
    /// What could not be proven is taken as it is.
    Accept,
    /// What others are told of a failed renewal is taken back.
    ClearHarm,
}

impl What {
    pub fn id(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Force => "force",
            Self::Recover => "recover",
            Self::Accept => "accept",
            Self::ClearHarm => "clear-harm",
        }
    }
}

/// One decision.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Act {
    pub at: Timestamp,
    pub what: What,
    /// Who logged in, as far as that is known.
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Act {
    pub fn new(at: Timestamp, what: What, by: &str, detail: &str) -> Self {
        Self { at, what, by: plain::line(by, plain::CLAUSE), detail: plain::line(detail, LONGEST) }
    }
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {}", self.what.id(), self.by)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// What was written down, newest last. Lines that say something else are passed over.
pub fn parse(text: &str) -> Vec<Act> {
    let act = |line: &str| serde_json::from_str::<Act>(line).ok();
    let acts = text.lines().filter_map(act);
    acts.map(|a| Act::new(a.at, a.what, &a.by, &a.detail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_again_and_rubbish_between_is_passed_over() {
        let act = Act::new(Timestamp::UNIX_EPOCH, What::ClearHarm, "anna (user 1000)", "\u{1b}[2Jof cp2\n");
        assert_eq!(act.to_string(), "clear-harm by anna (user 1000): \u{fffd}[2Jof cp2 ");
        let text = format!("rubbish\n{}\n{{\"at\":3}}\n", serde_json::to_string(&act).unwrap());
        assert_eq!(parse(&text), [act]);
        for what in [What::Pause, What::Resume, What::Force, What::Recover, What::Accept, What::ClearHarm] {
            assert_eq!(serde_json::to_string(&what).unwrap(), format!("\"{}\"", what.id()));
        }
    }
}
