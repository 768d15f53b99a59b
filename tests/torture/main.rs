//! Killed at any call, on any full disk: nothing lost. One file for each sweep (docs/architecture.md, "Tests").
//!
//! `cargo test --test torture` takes a sample of each sweep, `-- --whole` all (`make torture`), `-- --every=3` a third,
//! `-- NAME…` some sweeps. What is not possible on this machine (no root, no loop devices, no strace) is skipped and said so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod boot;
mod disk;
mod fault;
mod full;
mod harness;
mod interrupted;
mod kill;
mod mutation;
mod outage;
#[path = "../it/pages/mod.rs"]
mod pages;
mod power;
mod scenario;
mod strace;
#[path = "../it/support/mod.rs"]
mod support;
mod tree;

use std::process::ExitCode;

use disk::Kind;
use harness::{Harness, Place, say, timed, workdir};
use pages::reliability::{self, Row, failures, record};

const SWEEPS: [&str; 7] = ["outage", "boot", "kill", "power", "mutation", "fault", "full"];

/// ext4 and xfs, and a node with /etc/kubernetes on a file system of its own.
const PLACES: [Place; 3] = [Place::One(Kind::Ext4), Place::One(Kind::Xfs), Place::Two(Kind::Ext4, Kind::Xfs)];

/// CI has all that is needed; that it cannot run there is a failure.
fn skipped() -> ExitCode {
    if std::env::var_os("CERTWARDEN_CI").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    if has("--list") {
        // as libtest answers cargo-nextest; none is ignored
        SWEEPS.iter().filter(|_| !has("--ignored")).for_each(|s| say(&format!("{s}: test")));
        return ExitCode::SUCCESS;
    }
    if let Some(why) = strace::missing() {
        say(&format!("torture: SKIPPED: {why}"));
        return skipped();
    }
    let mounts = disk::private_mounts();
    if let Err(why) = &mounts {
        say(&format!("torture: SKIPPED on loop-mounted file systems, and all power cuts: {why}"));
    }
    let dir = workdir();
    let every = args.iter().find_map(|a| a.strip_prefix("--every=")?.parse().ok()).or(has("--whole").then_some(1));
    let harness = Harness { dir: dir.path().to_path_buf(), every };
    let wanted: Vec<&&str> =
        SWEEPS.iter().filter(|s| !args.iter().any(|a| SWEEPS.contains(&a.as_str())) || has(s)).collect();
    let scenarios = timed("the calls of each scenario", || scenario::all(dir.path()));
    let mut bad = if mounts.is_err() && skipped() == ExitCode::FAILURE {
        vec!["nothing was mounted".to_owned()]
    } else {
        Vec::new()
    };
    for sweep in wanted {
        let rows: Vec<Row> = timed(sweep, || match (*sweep, &mounts) {
            ("kill", Ok(())) => PLACES[..2].iter().flat_map(|p| kill::run(&harness, &scenarios, *p)).collect(),
            ("kill", Err(_)) => kill::run(&harness, &scenarios, Place::Directory),
            ("power", Ok(())) => PLACES.iter().flat_map(|p| power::run(&harness, &scenarios, *p)).collect(),
            ("mutation", Ok(())) => PLACES.iter().map(|p| mutation::run(&harness, &scenarios[0], *p)).collect(),
            ("fault", Ok(())) => fault::run(&harness, &scenarios, PLACES[0]),
            ("fault", Err(_)) => fault::run(&harness, &scenarios, Place::Directory),
            ("full", Ok(())) => full::run(&harness, &scenarios[0]),
            ("outage", Ok(())) => outage::run(&harness, &PLACES[0].bench(&harness.dir, "measured"), &scenarios[0]),
            ("boot", Ok(())) => vec![boot::run(&PLACES[0].bench(&harness.dir, "measured"), &scenarios[0])],
            _ => Vec::new(),
        });
        // what is only measured is never a sample
        if matches!(*sweep, "outage" | "boot") {
            record(sweep, true, &rows);
        }
        bad.extend(failures(&rows));
    }
    for row in &bad {
        say(&format!("torture: {row}"));
    }
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
