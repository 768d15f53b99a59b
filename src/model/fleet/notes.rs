//! What people and nodes tell all agents of a cluster, as annotations on one Lease: a pause, and the harm that a renewal has
//! done somewhere. Text that cannot be read counts as said: who wrote it wanted something to stop.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::plain;
use crate::model::report::Outcome;

/// [`Pause`] as JSON.
pub const PAUSE: &str = "certwarden.io/pause";
/// Marks by node name as JSON: `{"cp2": {…}}`.
pub const HARM: &str = "certwarden.io/harm";
/// Who held a lock last (a node's name).
pub const LAST: &str = "certwarden.io/last-holder";

/// A sentence of a person or of a program: longer ones are cut, the API server refuses annotations of more than 256 KiB.
const LONGEST_REASON: usize = 400;

/// Nothing is renewed; in an emergency only where it is `hard`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pause {
    pub since: Timestamp,
    /// None: until somebody resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default)]
    pub reason: String,
    /// It holds in an emergency, too. Only of this node's own pause: see [`pause`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
    /// Who has paused, as that machine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Pause {
    pub fn new(since: Timestamp, until: Option<Timestamp>, reason: &str) -> Self {
        Self { since, until, reason: cut(reason), hard: false, by: None }
    }

    /// The same, or one that holds in an emergency, too.
    #[must_use]
    pub fn hard(self, hard: bool) -> Self {
        Self { hard, ..self }
    }

    /// The same, by this person.
    #[must_use]
    pub fn by(self, by: Option<&str>) -> Self {
        Self { by: by.map(cut), ..self }
    }

    /// What is written where a pause stands.
    pub fn parse(text: &str) -> Self {
        let read = serde_json::from_str::<Self>(text).unwrap_or_else(|e| Self {
            since: Timestamp::UNIX_EPOCH,
            until: None,
            reason: format!("what is written there cannot be read ({e})"),
            hard: false,
            by: None,
        });
        Self { reason: cut(&read.reason), by: read.by.as_deref().map(cut), ..read }
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.until.map_or_else(|| "until somebody resumes".to_owned(), |at| format!("until {at:.0}"));
        write!(f, "{until}{}", if self.hard { ", in an emergency too" } else { "" })?;
        if let Some(by) = &self.by {
            write!(f, ", by {by}")?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// A renewal that did not end well.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Harm {
    pub at: Timestamp,
    pub outcome: Outcome,
    #[serde(default)]
    pub reason: String,
    /// When the first of them ended so, where it was not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
}

impl Harm {
    pub fn new(at: Timestamp, outcome: Outcome, reason: &str) -> Self {
        Self { at, outcome, reason: cut(reason), first: None }
    }

    /// Since when the node has been marked. A renewal that fails each day is the same harm each time: others are held back by
    /// it once, not as long as it goes on.
    pub fn first(&self) -> Timestamp {
        self.first.unwrap_or(self.at)
    }
}

/// All that nodes were told, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notes {
    /// The cluster-wide pause that is not over.
    pub pause: Option<Pause>,
    /// Marks that only control planes and people can write, by node.
    pub harm: BTreeMap<String, Harm>,
    /// Marks that workers write, by node.
    pub workers: BTreeMap<String, Harm>,
}

/// Whether an end is harm that others should learn of before they do the same.
pub fn is_harm(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::RolledBack | Outcome::RollbackFailed | Outcome::Degraded)
}

/// The cluster-wide pause that is not over. It is never hard: one annotation, which the identity that 0.1.0 shipped for workers may
/// write too, must not be able to let the certificates of all nodes expire.
pub fn pause(annotations: &BTreeMap<String, String>, now: Timestamp) -> Option<Pause> {
    annotations.get(PAUSE).map(|text| Pause::parse(text).hard(false)).filter(|pause| !pause.is_over(now))
}

/// All marks of harm, by node.
pub fn harm(annotations: &BTreeMap<String, String>) -> BTreeMap<String, Harm> {
    let Some(text) = annotations.get(HARM) else { return BTreeMap::new() };
    let read = serde_json::from_str::<BTreeMap<String, Harm>>(text).unwrap_or_else(|e| {
        let reason = format!("the mark of harm cannot be read ({e})");
        let mark = Harm { at: Timestamp::UNIX_EPOCH, outcome: Outcome::RolledBack, reason, first: None };
        BTreeMap::from([("somebody".to_owned(), mark)])
    });
    // whoever may write the Lease may have written anything
    let shown = |(node, mark): (String, Harm)| {
        (plain::line(&node, plain::SENTENCE), Harm { reason: cut(&mark.reason), ..mark })
    };
    read.into_iter().map(shown).collect()
}

/// Sets or removes the mark of `node`; None for `node`: of all. Whether that changes anything.
pub fn set_harm(annotations: &mut BTreeMap<String, String>, node: Option<&str>, mark: Option<&Harm>) -> bool {
    let before = annotations.get(HARM).cloned();
    let mut marks = harm(annotations);
    match (node, mark) {
        (None, _) => marks.clear(),
        (Some(node), None) => {
            marks.remove(node);
        }
        (Some(node), Some(mark)) => {
            let first = marks.get(node).map(Harm::first).or(mark.first);
            marks.insert(node.to_owned(), Harm { first, ..mark.clone() });
        }
    }
    match serde_json::to_string(&marks) {
        Ok(text) if !marks.is_empty() => annotations.insert(HARM.to_owned(), text),
        _ => annotations.remove(HARM),
    };
    annotations.get(HARM) != before.as_ref()
}

fn cut(text: &str) -> String {
    plain::line(text, LONGEST_REASON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_others_wrote_is_bounded_and_commands_no_terminal() {
        let evil = format!("\u{1b}]0;owned\u{7}\u{202e}{}", "x".repeat(100_000));
        let pause = Pause::parse(&serde_json::json!({"since": at(0), "reason": evil}).to_string());
        let marks = serde_json::json!({evil.as_str(): {"at": at(0), "outcome": "rolled-back", "reason": evil}});
        let marks = harm(&BTreeMap::from([(HARM.to_owned(), marks.to_string())]));
        let (node, mark) = marks.first_key_value().unwrap();
        for text in [&pause.reason, node, &mark.reason] {
            assert!(text.chars().all(plain::is_plain) && text.chars().count() <= LONGEST_REASON, "{text:?}");
            assert!(text.starts_with("\u{fffd}]0;owned") && text.ends_with('…'), "{text:?}");
        }
        assert_eq!(marks.len(), 1, "a mark in odd words is a mark");
    }

    #[test]
    fn a_pause_ends_by_itself_when_it_was_given_an_end() {
        let pause_of = |until| {
            let text = serde_json::to_string(&Pause::new(at(10), until, "upgrade")).unwrap();
            BTreeMap::from([(PAUSE.to_owned(), text)])
        };
        assert_eq!(pause(&pause_of(None), at(1 << 30)).unwrap().reason, "upgrade");
        assert!(pause(&pause_of(Some(at(100))), at(99)).is_some());
        assert!(pause(&pause_of(Some(at(100))), at(100)).is_none());
        assert!(pause(&BTreeMap::new(), at(0)).is_none());
    }

    #[test]
    fn who_may_write_to_the_cluster_cannot_pause_other_nodes_in_an_emergency() {
        let text = serde_json::to_string(&Pause::new(at(10), None, "upgrade").hard(true)).unwrap();
        assert!(Pause::parse(&text).hard, "on this node's disk it is root's own");
        assert!(!pause(&BTreeMap::from([(PAUSE.to_owned(), text)]), at(20)).unwrap().hard);
    }

    #[test]
    fn what_cannot_be_read_stops_everybody() {
        let written = |key: &str| BTreeMap::from([(key.to_owned(), "yes, please".to_owned())]);
        assert!(pause(&written(PAUSE), at(1 << 37)).unwrap().reason.contains("cannot be read"));
        assert_eq!(harm(&written(HARM)).len(), 1);
    }

    #[test]
    fn a_node_that_fails_again_keeps_the_time_of_its_first_mark_until_it_has_succeeded() {
        let mut notes = BTreeMap::new();
        for second in [100, 200, 300] {
            set_harm(&mut notes, Some("cp2"), Some(&Harm::new(at(second), Outcome::RolledBack, "x")));
            assert_eq!((harm(&notes)["cp2"].first(), harm(&notes)["cp2"].at), (at(100), at(second)));
        }
        set_harm(&mut notes, Some("cp2"), None);
        set_harm(&mut notes, Some("cp2"), Some(&Harm::new(at(400), Outcome::RolledBack, "x")));
        assert_eq!(harm(&notes)["cp2"].first(), at(400));
    }

    #[test]
    fn each_node_has_its_own_mark_and_a_person_clears_all() {
        let mut notes = BTreeMap::new();
        let mark = Harm::new(at(1), Outcome::RolledBack, "the kubelet\ndid not start");
        assert!(set_harm(&mut notes, Some("cp2"), Some(&mark)));
        assert!(set_harm(&mut notes, Some("cp3"), Some(&mark)));
        assert!(set_harm(&mut notes, Some("cp2"), None));
        assert!(!set_harm(&mut notes, Some("cp2"), None), "nothing to write");
        assert_eq!(harm(&notes).into_keys().collect::<Vec<_>>(), ["cp3"]);
        assert!(set_harm(&mut notes, None, None));
        assert!(notes.is_empty());
    }
}
