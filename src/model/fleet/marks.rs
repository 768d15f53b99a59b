//! The marks of harm of workers: one entry for each node, by its name, so that the API server can hold each worker to its own
//! (`packaging/kubernetes/fleet-policy.yaml`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::notes::Harm;
use crate::model::plain;
use crate::model::report::Outcome;

/// All marks, by node. An entry that cannot be read is a mark: who wrote it wanted others to stop.
pub fn all(entries: &BTreeMap<String, String>) -> BTreeMap<String, Harm> {
    entries.iter().map(|(node, text)| (plain::line(node, plain::SENTENCE), read(text))).collect()
}

fn read(text: &str) -> Harm {
    let unreadable = |e: serde_json::Error| {
        Harm::new(Timestamp::UNIX_EPOCH, Outcome::RolledBack, &format!("the mark of harm cannot be read ({e})"))
    };
    let mark = serde_json::from_str::<Harm>(text).unwrap_or_else(unreadable);
    Harm { first: mark.first, ..Harm::new(mark.at, mark.outcome, &mark.reason) }
}

/// Sets or removes the mark of `node`. Who fails again keeps the time of its first mark.
pub fn set(entries: &mut BTreeMap<String, String>, node: &str, mark: Option<&Harm>) {
    let Some(mark) = mark else {
        entries.remove(node);
        return;
    };
    let first = entries.get(node).map(|text| read(text).first()).or(mark.first);
    if let Ok(text) = serde_json::to_string(&Harm { first, ..mark.clone() }) {
        entries.insert(node.to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_worker_has_an_entry_of_its_own_and_no_other_changes_with_it() {
        let mut entries = BTreeMap::from([("w2".to_owned(), "as another version writes it".to_owned())]);
        let before = entries.clone();
        set(&mut entries, "w1", Some(&Harm::new(at(1), Outcome::RolledBack, "the kubelet did not start")));
        assert_eq!(all(&entries)["w1"].reason, "the kubelet did not start");
        assert_eq!(entries["w2"], before["w2"]);
        set(&mut entries, "w1", None);
        assert_eq!(entries, before);
    }

    #[test]
    fn a_worker_that_fails_again_keeps_the_time_of_its_first_mark_until_it_has_succeeded() {
        let mut entries = BTreeMap::new();
        for second in [100, 200, 300] {
            set(&mut entries, "w1", Some(&Harm::new(at(second), Outcome::RolledBack, "x")));
            assert_eq!((all(&entries)["w1"].first(), all(&entries)["w1"].at), (at(100), at(second)));
        }
        set(&mut entries, "w1", None);
        set(&mut entries, "w1", Some(&Harm::new(at(400), Outcome::RolledBack, "x")));
        assert_eq!(all(&entries)["w1"].first(), at(400));
    }

    #[test]
    fn what_others_wrote_is_a_mark_bounded_and_plain_whatever_it_is() {
        let evil = format!("\u{1b}]0;owned\u{7}{}", "x".repeat(100_000));
        let mark = serde_json::json!({"at": at(0), "outcome": "rolled-back", "reason": evil}).to_string();
        let marks = all(&BTreeMap::from([("w1".to_owned(), mark), ("w2".to_owned(), evil)]));
        assert!(marks["w2"].reason.contains("cannot be read"));
        for mark in marks.values() {
            assert!(mark.reason.chars().all(plain::is_plain) && mark.reason.chars().count() <= 400, "{mark:?}");
        }
    }

    /// The policy in `packaging/kubernetes/fleet-policy.yaml` allows so many characters.
    #[test]
    fn the_longest_mark_is_within_what_the_policy_allows() {
        let mut entries = BTreeMap::new();
        let mark =
            Harm::new("2026-11-22T10:00:00.123456789Z".parse().unwrap(), Outcome::RollbackFailed, &"\"".repeat(1_000));
        set(&mut entries, "w1", Some(&Harm { first: Some(mark.at), ..mark }));
        assert!(entries["w1"].chars().count() <= 1_200, "{}", entries["w1"].chars().count());
    }
}
