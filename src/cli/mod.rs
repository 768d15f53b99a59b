//! The command line.

pub mod check;
pub mod render;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Renews the certificates of kubeadm nodes in a transaction.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Take this directory for the node's file system (a mounted disk image)
    #[arg(long, global = true, default_value = "/", value_name = "DIR")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Assess the node's certificates now: exit 0 ok, 1 warning, 2 critical, 3 cannot tell
    Check(check::Args),
}

/// Exit code for wrong usage (sysexits.h: `EX_USAGE`).
pub const USAGE: u8 = 64;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Check(args) => check::run(&cli.root, &args),
    }
}
