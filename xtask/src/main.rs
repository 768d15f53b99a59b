//! `cargo xtask COMMAND`: the project's own tools. They make pages, pictures and packages' files from the code, and trees
//! and inputs for demos, benches and the fuzzer. Nothing of this is shipped.
//!
//! One file for each command. What tests need, too, is in `tests` and included from there: a page is written here and
//! compared there by the same code.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "programs for people")]

mod dashboard;
mod demo_tree;
mod fleet_agents;
mod fleet_simulation;
mod fuzz_seeds;
mod licences;
mod manual;
#[path = "../../tests/it/pages/mod.rs"]
mod pages;
mod reliability;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// The project's own tools
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Write the manual pages and shell completions into DIR, or the reference pages
    #[command(arg_required_else_help = true)]
    Manual {
        /// For DIR/man/certwarden*.{5,8} and DIR/completions/{bash,zsh,fish}
        #[arg(conflicts_with = "reference")]
        dir: Option<PathBuf>,
        /// Write docs/reference, docs/versions.md and the Prometheus operator's rules instead
        #[arg(long)]
        reference: bool,
    },
    /// Write the licences of the crates that are linked in and the bill of materials (CycloneDX) into DIR
    Licences { dir: PathBuf },
    /// Merge the results of test runs (target/reliability/*.json) into docs/reliability.md
    Reliability,
    /// Draw docs/dashboard.svg: the panels of the shipped dashboard with what a real Prometheus answers
    Dashboard {
        /// HOST:PORT of the Prometheus; plain HTTP
        prometheus: String,
    },
    /// Make the file system of a control-plane node whose certificates are due in three days
    DemoTree {
        /// A new or empty directory
        dir: PathBuf,
    },
    /// Make the inputs that `make fuzz` begins with, DIR/TARGET/NAME, from the trees of the tests
    FuzzSeeds {
        dir: PathBuf,
        /// The certwarden that makes ledgers and state files
        #[arg(long)]
        certwarden: PathBuf,
    },
    /// Simulate five thousand workers that fall due in the same hour, and write the figures into docs/fleet.md
    FleetSimulation,
    /// Run many agents as processes against a real API server (needs kubectl; changes Leases of namespace `default`)
    FleetAgents {
        kubeconfig: String,
        /// How many agents; 20 at least
        #[arg(value_parser = clap::value_parser!(u32).range(20..))]
        count: u32,
        /// How many may work at once
        #[arg(default_value_t = 8)]
        at_once: u64,
    },
    /// One of these agents
    #[command(hide = true)]
    FleetAgent { directory: PathBuf, number: u32, at_once: u64 },
}

/// What is not done and why, for people.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Manual { dir: Some(dir), .. } => manual::write_pages(&dir),
        Command::Manual { dir: None, .. } => manual::write_reference(),
        Command::Licences { dir } => licences::write(&dir),
        Command::Reliability => reliability::write(),
        Command::Dashboard { prometheus } => dashboard::write(&prometheus),
        Command::DemoTree { dir } => demo_tree::build(&dir),
        Command::FuzzSeeds { dir, certwarden } => fuzz_seeds::write(&dir, &certwarden),
        Command::FleetSimulation => fleet_simulation::write(),
        Command::FleetAgents { kubeconfig, count, at_once } => fleet_agents::fleet(&kubeconfig, count, at_once),
        Command::FleetAgent { directory, number, at_once } => fleet_agents::agent(&directory, number, at_once),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
