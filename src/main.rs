//! certwarden
use std::process::ExitCode;

fn main() -> ExitCode {
    certwarden::cli::run()
}
