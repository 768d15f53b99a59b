//! `cargo run --example demo-tree DIR`: a control-plane node's file system whose certificates are due in three days.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "../tests/it/support/mod.rs"]
mod support;

use support::{DAY, KeyKind, Options, Tree};

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: demo-tree DIR");
        return ExitCode::from(64);
    };
    if dir.read_dir().is_ok_and(|mut d| d.next().is_some()) {
        eprintln!("demo-tree: {} is not empty; name a new directory", dir.display());
        return ExitCode::FAILURE;
    }
    let options = Options { keys: KeyKind::Rsa2048, left: 3 * DAY + 3600, ..Options::default() };
    // kubelets rotate their own; these are well
    let options = options.left_of("kubelet-client", 200 * DAY).left_of("kubelet-serving", 200 * DAY);
    let tree = Tree::build(&dir, options);
    println!("{} is a node whose certificates are due in three days", tree.root.display());
    ExitCode::SUCCESS
}
