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
    for dir in ["src", "tests", "tools", "packaging", "xtask/src"] {
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

/// Files and directories that the page names: from the top of the sources, or from `src`.
fn paths() -> Vec<&'static str> {
    let code =
        PAGE.split('`').skip(1).step_by(2).filter(|code| !code.contains(['\n', ' ', '*', '{']) || code.contains(": "));
    let path = |code: &'static str| code.split(':').next().unwrap_or_default().trim_end_matches('/');
    let is_one = |path: &&str| path.contains('/') && !path.starts_with('/') && !path.contains(char::is_uppercase);
    code.map(path).filter(is_one).collect()
}

#[test]
fn every_file_that_the_page_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = paths();
    assert!(named.len() > 50, "the test no longer sees paths: {}", named.len());
    let gone: Vec<&&str> =
        named.iter().filter(|p| !top.join(p).exists() && !top.join("src").join(p).exists()).collect();
    assert!(gone.is_empty(), "docs/architecture.md names what is not there: {gone:?}");
}
