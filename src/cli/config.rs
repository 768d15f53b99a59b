//! `certwarden config check|show`.

use std::fmt::Write;

use crate::config::{EXIT_CONFIG, Origin, Settings, effective_values, load};
use crate::host::fs::Root;

/// `config check`: what to print and the exit code (0, or 78 with every problem on a line of its own).
pub fn check(root: &Root) -> (String, u8) {
    match load(root) {
        Ok(settings) => (summary(&settings), 0),
        Err(e) => (e.to_string(), EXIT_CONFIG),
    }
}

/// `config show [--origin]`: every effective value, as TOML that could be read back, and the exit code.
pub fn show(root: &Root, origin: bool) -> (String, u8) {
    match load(root) {
        Ok(settings) => (render(&settings, origin), 0),
        Err(e) => (e.to_string(), EXIT_CONFIG),
    }
}

fn summary(settings: &Settings) -> String {
    if settings.files.is_empty() {
        return "configuration is valid: no file, all values are defaults".to_owned();
    }
    let files: Vec<_> = settings.files.iter().map(|f| format!("  {}", f.display())).collect();
    format!("configuration is valid; read in this order, later ones win:\n{}", files.join("\n"))
}

/// One dotted key per line, which is TOML too. The origin stands in a comment behind it.
fn render(settings: &Settings, origin: bool) -> String {
    let values = effective_values(&settings.policy);
    let lines: Vec<_> = values.iter().map(|(key, value)| (key, format!("{key} = {value}"))).collect();
    let width = lines.iter().map(|(_, line)| line.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, line) in lines {
        let from = settings.origins.get(key).unwrap_or(&Origin::Default);
        let end = if origin { writeln!(text, "{line:width$}  # {from}") } else { writeln!(text, "{line}") };
        debug_assert!(end.is_ok(), "writing to a string cannot fail");
    }
    text.truncate(text.trim_end().len());
    text
}
