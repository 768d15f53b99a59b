//! certwarden: see the library for the map of the house, and `cli/small.rs` for why this is not the whole program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(certwarden::cli::run_small(std::env::args_os()))
}
