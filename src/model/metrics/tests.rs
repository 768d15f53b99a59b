use std::collections::BTreeSet;

use jiff::Timestamp;

use super::counters::Counters;
use super::*;
use crate::model::gate::{Gate, Refusal};
use crate::model::machine::Standing;
use crate::model::policy::Policy;
use crate::model::report::{Outcome, Renewed, Report};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn report(outcome: Outcome, second: i64, names: &[&str]) -> Report {
    let mut report = Report::new(outcome, "so it went", at(second));
    report.started_at = at(second - 40);
    let renewed = |name: &&str| Renewed {
        name: (*name).to_owned(),
        path: "/x".into(),
        old_serial: None,
        new_serial: "01".into(),
        not_after: at(0),
    };
    report.renewed = names.iter().map(renewed).collect();
    report
}

#[test]
fn what_others_wrote_into_a_label_stays_in_it() {
    let mut page = Page::default();
    page.family(&BUILD_INFO, |s| s.add(["a\"} 9\nevil{x=\"\\\u{1b}"], 1));
    let text = page.into_text();
    let last = text.lines().last().unwrap();
    assert_eq!(last, "certwarden_build_info{version=\"a\\\"} 9 evil{x=\\\"\\\\\u{fffd}\"} 1");
    let mut page = Page::default();
    page.family(&BUILD_INFO, |s| s.add([&"ß".repeat(10_000)], 1));
    assert!(page.into_text().len() < 1000);
}

#[test]
fn a_sample_with_the_labels_of_another_is_left_out_and_counted() {
    let mut page = Page::default();
    page.family(&BUILD_INFO, |s| ["a", "b", "a"].into_iter().for_each(|v| s.add([v], 1)));
    page.family(&VERDICT, |_| {});
    assert_eq!(page.dropped(), 1);
    let text = page.into_text();
    assert_eq!(text.lines().filter(|l| !l.starts_with('#')).count(), 2);
    assert!(!text.contains("verdict"), "no family without samples");
}

#[test]
fn names_are_unique_and_keep_to_the_conventions_of_prometheus() {
    let names: BTreeSet<&str> = FAMILIES.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        let name = family.name;
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(!family.help.contains(['\n', '\\']), "{name}: help must not need escaping");
        let labels: BTreeSet<&str> = family.labels.iter().map(|l| l.name).collect();
        assert_eq!(labels.len(), family.labels.len(), "{name}");
        // Prometheus' own, set by whoever scrapes
        assert!(labels.is_disjoint(&BTreeSet::from(["job", "instance", "node", "le"])), "{name}");
    }
}

#[test]
fn outcomes_are_counted_and_failures_in_a_row_end_with_a_success() {
    let mut counters = Counters::default();
    let mut refused = report(Outcome::Refused, 100, &[]);
    refused.refusals = vec![Refusal::new(Gate::Quorum, "one of three", "wait")];
    counters.ended(&refused);
    counters.ended(&report(Outcome::RolledBack, 200, &["apiserver"]));
    assert_eq!((counters.consecutive_failures, counters.last_rollback), (2, Some(at(200))));
    assert_eq!(counters.refusals.get("quorum"), Some(&1));
    let second = report(Outcome::Verified, 300, &["apiserver"]);
    counters.ended(&second.after(report(Outcome::Verified, 250, &["etcd-server"])));
    assert_eq!((counters.consecutive_failures, counters.last_duration), (0, 40));
    assert_eq!(counters.transactions.get("verified"), Some(&2), "each of several is counted");
    assert_eq!(counters.last_renewals.get("etcd-server"), Some(&at(250)));
    counters.ended(&report(Outcome::NothingToDo, 400, &[]));
    assert_eq!(counters.last_attempt, Some(at(300)), "nothing to do is no attempt");
}

#[test]
fn counters_of_two_memories_never_fall_and_the_newer_attempt_says_how_many_failed() {
    let mut ours = Counters::default();
    ours.checked(at(10), true);
    let mut disk = ours.clone();
    disk.ended(&report(Outcome::RolledBack, 100, &["apiserver"]));
    ours.checked(at(20), false);
    ours.merge(&disk);
    assert_eq!((ours.checks, ours.check_failures, ours.consecutive_failures), (2, 1, 1));
    disk.merge(&ours);
    assert_eq!(ours, disk);
    let older = Counters::default();
    ours.merge(&older);
    assert_eq!(ours, disk);
}

#[test]
fn no_report_makes_the_memory_grow_without_end() {
    let mut counters = Counters::default();
    for i in 0..1000 {
        counters.ended(&report(Outcome::Verified, i, &[&format!("made-up-{i}")]));
    }
    assert!(serde_json::to_string(&counters).unwrap().len() < 10_000);
}

fn facts<'a>(policy: &'a Policy, standing: &'a Standing, counters: &'a Counters) -> DaemonFacts<'a> {
    DaemonFacts {
        policy,
        standing,
        doing: Doing::Idle,
        hard_pause: false,
        since: None,
        next_check: None,
        check_duration: 0.25,
        reload_well: true,
        configured_at: at(1),
        counters,
        undecided: 0,
        write_failures: 0,
    }
}

#[test]
fn exactly_one_state_is_the_present_one_and_counters_are_there_before_they_count() {
    let (policy, counters) = (Policy::default(), Counters::default());
    for (standing, state) in [
        (Standing::Free { failures: 0 }, "idle"),
        (Standing::ObserveOnly { since: at(1), reason: "x".into() }, "rollback-failed"),
    ] {
        let mut page = Page::default();
        daemon(&mut page, &facts(&policy, &standing, &counters), &["apiserver".to_owned()]);
        let text = page.into_text();
        let states: Vec<&str> = text.lines().filter(|l| l.starts_with("certwarden_transaction_state{")).collect();
        assert_eq!(states.iter().filter(|l| l.ends_with(" 1")).count(), 1, "{states:?}");
        assert!(states.contains(&format!("certwarden_transaction_state{{state=\"{state}\"}} 1").as_str()));
        assert!(text.contains("certwarden_renewals_total{certificate=\"apiserver\"} 0\n"));
        assert!(text.contains("certwarden_gate_refusals_total{gate=\"quorum\"} 0\n"));
    }
}

#[test]
fn pages_that_are_merged_have_each_family_once() {
    let page = |version: &str| {
        let mut page = Page::default();
        page.family(&BUILD_INFO, |s| s.add([version], 1));
        page
    };
    let (one, mut two) = (page("a"), page("b"));
    two.value(&CLOCK, 1);
    let merged = merge(&[&one.into_text(), &two.into_text()]);
    let lines: Vec<&str> = merged.lines().collect();
    assert_eq!(lines.len(), 7, "{merged}");
    assert_eq!(lines[2..4], ["certwarden_build_info{version=\"a\"} 1", "certwarden_build_info{version=\"b\"} 1"]);
    assert_eq!(merge(&[&merged]), merged);
}
