//! Help, manual pages and reference say what the code does, because they are made of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/reference.rs"]
mod reference;

use std::collections::BTreeSet;
use std::fs;

use certwarden::cli::manual::{command, exit_codes};
use certwarden::model::gate::Gate;
use certwarden::model::inventory::Problem;

fn all_commands() -> Vec<clap::Command> {
    let mut whole = command();
    whole.build();
    let mut found = vec![whole];
    let mut next = 0;
    while let Some(command) = found.get(next).cloned() {
        found.extend(command.get_subcommands().cloned());
        next += 1;
    }
    found
}

#[test]
fn the_reference_is_what_the_code_says() {
    for (name, text) in reference::pages() {
        let page = fs::read_to_string(reference::dir().join(name)).unwrap_or_default();
        assert_eq!(page, text, "docs/reference/{name}: run `make reference`");
    }
}

#[test]
fn every_command_and_every_argument_is_described() {
    for command in all_commands() {
        let name = command.get_bin_name().unwrap().to_owned();
        assert!(command.get_about().is_some(), "{name}");
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{name} {}", arg.get_id());
        }
    }
}

#[test]
fn every_example_is_a_command_line_that_is_understood() {
    let mut seen = 0;
    for owner in all_commands() {
        for example in reference::examples(&owner) {
            let words = example.line.split_whitespace();
            command().try_get_matches_from(words).unwrap_or_else(|e| panic!("{}: {e}", example.line));
            assert!(!example.what.is_empty(), "{}: what does it do?", example.line);
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} examples were found");
}

#[test]
fn ids_are_unique_and_the_runbook_knows_every_gate() {
    let ids: BTreeSet<&str> = Problem::ALL.iter().map(|p| p.id()).collect();
    assert_eq!(ids.len(), Problem::ALL.len());
    let runbook = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    // the lock is exit code 75, told below the table
    for gate in Gate::ALL.into_iter().filter(|g| *g != Gate::Lock) {
        assert!(runbook.contains(&format!("| `{}` |", gate.id())), "docs/operations.md does not know {gate}");
    }
    let codes = exit_codes();
    assert!(codes.iter().all(|(of, code, _)| codes.iter().filter(|c| (c.0, c.1) == (*of, *code)).count() == 1));
}
