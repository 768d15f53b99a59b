//! `docs/architecture.md` is the design that comments refer to.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/architecture.md");
/// How a comment names a section.
const NAMED: &str = "docs/architecture.md, \"";

/// Every file below a directory of the sources.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, mut files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| self::files(dir)));
    files
}

fn is_section(name: &str) -> bool {
    PAGE.lines().any(|line| line.trim_start_matches('#').strip_prefix(' ') == Some(name) && line.starts_with('#'))
}

#[test]
fn every_section_that_a_comment_names_is_in_the_page() {
    let mut seen = 0;
    for dir in ["src", "tests", "xtask/src"] {
        for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)) {
            // some recordings and keys are not text
            let text = fs::read_to_string(&file).unwrap_or_default();
            for (at, start) in text.match_indices(NAMED).filter(|_| !file.ends_with("it/architecture.rs")) {
                let name = text[at + start.len()..].split('"').next().unwrap();
                assert!(is_section(name), "{}: docs/architecture.md has no section \"{name}\"", file.display());
                seen += 1;
            }
            assert!(!text.contains("DESIGN \u{a7}"), "{}: name a section of docs/architecture.md", file.display());
        }
    }
    assert!(seen > 10, "the test no longer sees references");
}

#[test]
fn every_link_of_the_list_of_contents_leads_to_a_section() {
    let anchors: Vec<String> = PAGE.lines().filter(|l| l.starts_with('#')).map(anchor).collect();
    let links: Vec<&str> = PAGE.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 15, "the test no longer sees links");
    for link in links {
        assert!(anchors.iter().any(|a| a == link), "#{link} leads nowhere");
    }
}

/// As GitHub and GitLab make it of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || *c == ' ').map(|c| if c == ' ' { '-' } else { c }).collect()
}
