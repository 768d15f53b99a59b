//! The pages and comments that users read are in plain English: these riddles and archaic turns do not come back.

use std::fs;
use std::path::{Path, PathBuf};

/// What is read, and directories of it.
const PAGES: [&str; 18] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/README.md",
    "docs/architecture.md",
    "docs/comparison.md",
    "docs/faq.md",
    "docs/glossary.md",
    "docs/how-to.md",
    "docs/kubelet.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/tutorial.md",
    "packaging/certwarden.toml",
    "packaging/config.d",
    "packaging/examples",
    "systemd",
    "docs/reference/configuration.md",
];

/// Not to be written, and what to write instead. In lower case, as whole words.
const INSTEAD: [(&str, &str); 24] = [
    ("at the next look", "at the next check"),
    ("looks every", "checks every"),
    ("looked at", "checked"),
    ("is told", "is reported"),
    ("are told", "are reported"),
    ("told in", "reported in"),
    ("tells of", "reports"),
    ("tells the story", "shows each step"),
    ("come to harm", "failed"),
    ("comes to harm", "failed"),
    ("came to harm", "failed"),
    ("first harm", "if one renewal fails"),
    ("passes by", "overrides"),
    ("passed over", "skipped"),
    ("at work", "running"),
    ("all well", "healthy"),
    ("is well", "is healthy"),
    ("way back", "rollback"),
    ("in the dark", "API unavailable"),
    ("goes dark", "stops working"),
    ("made anew", "created again"),
    ("put to work", "activated"),
    ("who needs it", "affected components"),
    ("whoever", "anyone who"),
];

fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path).unwrap().flat_map(|e| files(&e.unwrap().path())).collect()
}

/// What is wrong with a text: each phrase that is not to be written, with what to write instead.
fn faults(text: &str) -> Vec<String> {
    // a line may break in the middle of a phrase, and a comment goes on behind its mark
    let words: Vec<&str> = text.split_whitespace().filter(|w| *w != "#").collect();
    let plain = format!(" {} ", words.join(" ").to_lowercase().replace(|c: char| !c.is_alphanumeric(), " "));
    let written = INSTEAD.iter().filter(|(phrase, _)| plain.contains(&format!(" {phrase} ")));
    written.map(|(phrase, instead)| format!("not `{phrase}`, but for example `{instead}`")).collect()
}

#[test]
fn what_users_read_is_plain_english() {
    let all: Vec<PathBuf> = PAGES.iter().flat_map(|p| files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(p))).collect();
    assert!(all.len() > 25, "only {} were read", all.len());
    for path in all {
        let found = faults(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn a_phrase_is_found_across_the_end_of_a_line() {
    assert_eq!(faults("# one of them comes to\n# harm.").len(), 1);
    assert_eq!(faults("No harm, at least.").len(), 0);
}
