//! Help, manual pages and reference say what the code does, because they are made of it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::pages::reference;
use crate::support;
use certwarden::cli::manual::{command, exit_codes};
use certwarden::model::finding::Problem;
use certwarden::model::gate::Gate;

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
fn the_operators_rules_are_prometheus_own() {
    for (path, text) in reference::prometheus_rules() {
        let file = fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        assert_eq!(file, text, "{path}: run `make reference`");
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

/// Every command line of certwarden's in the pages for people: indented, in code blocks and between backticks.
fn documented() -> Vec<(String, String)> {
    let manifest = env!("CARGO_MANIFEST_DIR");
    let pages = fs::read_dir(format!("{manifest}/docs")).unwrap().map(|e| e.unwrap().path());
    let pages = pages.filter(|p| p.extension().is_some_and(|e| e == "md"));
    let mut found = Vec::new();
    for page in pages.chain([format!("{manifest}/README.md").into()]) {
        let text = fs::read_to_string(&page).unwrap();
        let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
        let lines = text.lines().filter_map(|l| l.strip_prefix("    ").or_else(|| l.strip_prefix("# ")));
        for code in inline.chain(lines).filter(|code| code.starts_with("certwarden ")) {
            // what stands behind it, after two spaces, says what it does
            let line = code.split("  ").next().unwrap().trim_end().to_owned();
            found.push((page.file_name().unwrap().to_string_lossy().into_owned(), line));
        }
    }
    found
}

/// Words of the line, with something for `NAME`, `ID`, `DIR`, `GATE`; None for one that is cut off (`…`).
fn words(line: &str) -> Option<Vec<String>> {
    let word = |w: &str| match w.trim_matches(['[', ']']) {
        "NAME" | "NAME…" => "apiserver".to_owned(),
        "GATE" => "quorum".to_owned(),
        other => other.to_owned(),
    };
    (!line.contains(" …") && !line.contains('|')).then(|| line.split_whitespace().map(word).collect())
}

#[test]
fn every_command_line_in_the_documentation_is_understood() {
    let lines = documented();
    assert!(lines.len() > 30, "only {} were found", lines.len());
    for (page, line) in lines {
        let Some(words) = words(&line) else { continue };
        if let Err(e) = command().try_get_matches_from(words) {
            assert!(!e.use_stderr(), "{page}: `{line}`: {e}");
        }
    }
}

#[test]
fn what_the_documentation_looks_at_a_node_with_works() {
    let dir = tempfile::tempdir().unwrap();
    let tree = support::Tree::build(dir.path(), support::Options::default());
    let lines: BTreeSet<String> = documented().into_iter().map(|(_, line)| line).collect();
    let mut run = 0;
    for words in lines.iter().filter_map(|l| words(l)) {
        let looks = ["check", "plan", "config", "history"].contains(&words[1].as_str());
        if !looks || words.iter().any(|w| w == "ID") {
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
        let output = command.arg("--root").arg(&tree.root).args(&words[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code().is_some_and(|c| c < 3) && said.is_empty(),
            "{words:?}: {:?} {said}",
            output.status
        );
        assert!(output.stdout.ends_with(b"\n"), "{words:?}: the prompt would stand behind what it says");
        run += 1;
    }
    assert!(run > 5, "only {run} were run");
}
