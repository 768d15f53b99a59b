//! certwarden
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        // before anything could start a thread: unshare(2) takes only the calling one along
        Some((first, rest)) if first == "in-staging" => ExitCode::from(certwarden::renew::staging::run(rest)),
        _ => certwarden::cli::run(),
    }
}
