//! certwarden: see the library for the map of the house.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(certwarden::cli::run(std::env::args_os()))
}
