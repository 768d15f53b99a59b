//! `certwarden check`: take the inventory, judge it, say so.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::USAGE;
use super::render::{self, Style};
use crate::collect::collect;
use crate::host::clock::{Clock, SystemClock};
use crate::host::fs::Root;
use crate::model::assess::{self, Assessment};
use crate::model::inventory::{Content, Inventory};
use crate::model::policy::Policy;

#[derive(ClapArgs, Debug)]
pub struct Args {
    /// Check only these (`apiserver`, `admin.conf` …)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Table,
    Wide,
    Json,
}

/// Checks the node below `root` by the shipped policy. The verdict is the exit code.
pub fn run(root: &Path, args: &Args) -> ExitCode {
    let root = match Root::open(root) {
        Ok(root) => root,
        Err(e) => return fail(&format!("{e}; --root wants the directory that is the node's /")),
    };
    let now = SystemClock::default().now();
    let (code, text) = match report(&root, now, &Policy::default(), args) {
        Ok(done) => done,
        Err(message) => return fail(&message),
    };
    // a reader that has gone away (`| head`) has what it wanted
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::from(code)
}

/// Exit code and text of a check; an error is wrong usage.
fn report(root: &Root, now: Timestamp, policy: &Policy, args: &Args) -> Result<(u8, String), String> {
    let mut inventory = collect(root, now);
    let mut assessment = assess::assess(&inventory, policy, now);
    select(&mut inventory, &mut assessment, &args.names)?;
    let text = match args.output {
        Output::Json => render::json(&inventory, &assessment),
        Output::Table | Output::Wide => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            render::table(&inventory, &assessment, Style { wide: args.output == Output::Wide, colour })
        }
    };
    Ok((assessment.verdict.exit_code(), text))
}

/// Leaves the named entries only, and the verdict that follows from them.
fn select(inventory: &mut Inventory, assessment: &mut Assessment, names: &[String]) -> Result<(), String> {
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|n| inventory.get(n).is_none()).collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = inventory.entries.iter().map(|e| e.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!("no certificate is called {}; known here: {known}", unknown.join(", ")));
    }
    if !names.is_empty() {
        inventory.entries.retain(|e| names.contains(&e.name));
        assessment.entries.retain(|j| names.contains(&j.name));
        let present = inventory.entries.iter().zip(&assessment.entries);
        let present = present.filter(|(e, _)| !matches!(e.content, Content::Absent));
        assessment.verdict = assess::verdict(present.map(|(_, j)| j.severity));
    }
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "certwarden: {message}");
    ExitCode::from(USAGE)
}
