//! `docs/reliability.md` is what the tests found, and what they found is good.

use crate::pages::reliability;
use reliability::{Row, failures, merge, parse, render};

fn row(section: &str, what: &str, tried: Option<u64>, bad: Option<u64>) -> Row {
    Row { section: section.into(), what: what.into(), tried, bad, note: "a note".into() }
}

#[test]
fn the_page_shows_no_bad_outcome_and_was_not_edited_by_hand() {
    let page = std::fs::read_to_string(reliability::page_path()).unwrap();
    let rows = parse(&page);
    assert_eq!(failures(&rows), Vec::<String>::new());
    assert_eq!(render(&rows), page, "run `make reliability`");
}

#[test]
fn a_later_run_replaces_its_own_rows_and_keeps_those_of_others() {
    let old = [row("kill", "renew, ext4", Some(10), Some(1)), row("outage", "renew", None, None)];
    let new = vec![row("kill", "renew, ext4", Some(12), Some(0)), row("fuzz", "ledger", Some(7), Some(0))];
    let merged = merge(&render(&old), new);
    assert_eq!(
        merged,
        [
            row("kill", "renew, ext4", Some(12), Some(0)),
            row("outage", "renew", None, None),
            row("fuzz", "ledger", Some(7), Some(0))
        ]
    );
    assert_eq!(parse(&render(&merged)).len(), 3);
}

#[test]
fn a_bad_outcome_an_empty_run_and_a_mutation_that_nobody_noticed_are_failures() {
    for (section, tried, bad, good) in [
        ("kill", Some(10), Some(0), true),
        ("kill", Some(10), Some(1), false),
        ("kill", Some(0), Some(0), false),
        ("kill", Some(10), None, false),
        ("mutation", Some(10), Some(3), true),
        ("mutation", Some(10), Some(0), false),
        ("outage", None, None, true),
    ] {
        assert_eq!(failures(&[row(section, "x", tried, bad)]).is_empty(), good, "{section} {tried:?} {bad:?}");
    }
}

#[test]
fn a_result_file_with_an_unknown_field_or_section_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.json");
    let good = r#"{"whole":true,"rows":[{"section":"fuzz","what":"pem","tried":5,"bad":0}]}"#;
    std::fs::write(&file, good).unwrap();
    assert_eq!(reliability::results(dir.path()).unwrap().len(), 1);
    std::fs::write(&file, good.replace("true", "false")).unwrap();
    assert!(reliability::results(dir.path()).unwrap().is_empty(), "a bounded run is no figure");
    for (from, to) in [("fuzz", "fuzzy"), ("tried", "tries")] {
        std::fs::write(&file, good.replace(from, to)).unwrap();
        assert!(reliability::results(dir.path()).unwrap_err().contains("some.json"), "{to}");
    }
}
