//! Manual pages and shell completions from the code, into a directory (`tools/install` puts them where they belong), or
//! with `--reference` the pages of `docs/reference`, which `tests/it/manual.rs` compares.
#![allow(clippy::print_stderr, reason = "a program for people")]

mod pages;
#[path = "../../tests/it/pages/reference.rs"]
mod reference;
#[path = "../../tests/it/pages/versions.rs"]
mod versions;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use clap_complete::Shell;

fn main() -> ExitCode {
    let written = match env::args().nth(1).as_deref() {
        None => Err(io::Error::other("usage: manual --reference | DIR")),
        Some("--reference") => write_reference(),
        Some(dir) => write_pages(Path::new(dir)),
    };
    written.map_or_else(
        |e| {
            eprintln!("manual: {e}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn write_reference() -> io::Result<()> {
    let dir = reference::dir();
    fs::create_dir_all(&dir)?;
    reference::pages().iter().try_for_each(|(name, text)| fs::write(dir.join(name), text))?;
    fs::write(versions::path(), versions::table().map_err(io::Error::other)?.page())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    reference::prometheus_rules().iter().try_for_each(|(path, text)| fs::write(root.join(path), text))
}

/// `DIR/man/certwarden*.{5,8}` and `DIR/completions/{bash,zsh,fish}`.
fn write_pages(dir: &Path) -> io::Result<()> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for (name, text) in pages::all() {
        fs::write(man.join(name), text)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut certwarden::cli::manual::command(), "certwarden", &mut text);
        fs::write(completions.join(shell.to_string()), text)?;
    }
    Ok(())
}
