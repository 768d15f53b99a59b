//! `make reliability`: merges the results of test runs (`target/reliability/*.json`) into `docs/reliability.md`.

use std::fs;
use std::process::ExitCode;

#[path = "../tests/it/pages/reliability.rs"]
mod reliability;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    let merged = reliability::results(&reliability::results_dir()).and_then(|new| {
        let page = fs::read_to_string(reliability::page_path()).unwrap_or_default();
        let rows = reliability::merge(&page, new);
        fs::write(reliability::page_path(), reliability::render(&rows)).map_err(|e| e.to_string())?;
        Ok(rows)
    });
    match merged {
        Ok(rows) => {
            println!("{}: {} rows", reliability::page_path().display(), rows.len());
            let failures = reliability::failures(&rows);
            for failure in &failures {
                eprintln!("reliability: {failure}");
            }
            if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("reliability: {e}");
            ExitCode::FAILURE
        }
    }
}
