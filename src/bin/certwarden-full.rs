//! The whole of certwarden; `certwarden` becomes it for everything but a `check` of a healthy node.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(certwarden::cli::run(std::env::args_os()))
}
