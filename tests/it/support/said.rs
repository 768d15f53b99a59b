//! The programs themselves on a tree: what they say and how they exit, as root or as somebody else.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// What a command said and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    /// Both streams.
    pub text: String,
    pub stdout: String,
}

/// `program --root ROOT ARGS`, as `user` where that is given, which root only can do.
pub fn run(program: &Path, root: &Path, args: &[&str], user: Option<u32>) -> Said {
    let mut command = Command::new(program);
    command.arg("--root").arg(root).args(args).env_remove("CERTWARDEN_LOG_FORMAT").current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Said {
        code: output.status.code().unwrap_or_else(|| panic!("{args:?}: {}", output.status)),
        text: format!("{stdout}{stderr}"),
        stdout: stdout.into_owned(),
    }
}
