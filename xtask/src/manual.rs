//! Manual pages and shell completions from the code (`tools/install` puts them where they belong), and the pages of
//! `docs/reference`, which the tests compare.

mod man;

use std::fs;
use std::path::Path;

use clap_complete::Shell;

use crate::Result;
use crate::pages::{reference, repository, versions};

/// `docs/reference`, `docs/versions.md` and the rules as the Prometheus operator takes them.
pub fn write_reference() -> Result<()> {
    let dir = reference::dir();
    fs::create_dir_all(&dir)?;
    for (name, text) in reference::pages() {
        fs::write(dir.join(name), text)?;
    }
    fs::write(versions::path(), versions::table()?.page())?;
    for (path, text) in reference::prometheus_rules() {
        fs::write(repository().join(path), text)?;
    }
    Ok(())
}

/// `DIR/man/certwarden*.{5,8}` and `DIR/completions/{bash,zsh,fish}`.
pub fn write_pages(dir: &Path) -> Result<()> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for (name, text) in man::all() {
        fs::write(man.join(name), text)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut certwarden::cli::manual::command(), "certwarden", &mut text);
        fs::write(completions.join(shell.to_string()), text)?;
    }
    Ok(())
}
