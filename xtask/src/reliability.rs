//! Merges the results of test runs (`target/reliability/*.json`) into `docs/reliability.md`.

use std::fs;

use crate::Result;
use crate::pages::reliability as page;

pub fn write() -> Result<()> {
    let new = page::results(&page::results_dir())?;
    let path = page::page_path();
    let rows = page::merge(&fs::read_to_string(&path).unwrap_or_default(), new);
    fs::write(&path, page::render(&rows))?;
    println!("{}: {} rows", path.display(), rows.len());
    let failures = page::failures(&rows);
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nxtask: ").into()) }
}
