//! What manuals say about the command line, asked of the code (`cargo xtask manual` and the tests of the manual).

use clap::CommandFactory as _;

use super::args::{Args, Command};
use super::output::{BUSY, CONFIG, NOT_ROOT, SOFTWARE, USAGE};
use super::status::NOT_RUNNING;
use crate::daemon::EXIT_ANEW;
use crate::model::assess::Severity;
use crate::model::report::Outcome;

/// The command line without what only certwarden itself calls.
pub fn command() -> clap::Command {
    let whole = Args::<Command>::command();
    let hidden: Vec<String> =
        whole.get_subcommands().filter(|c| c.is_hide_set()).map(|c| c.get_name().to_owned()).collect();
    let shown = whole.get_subcommands().filter(|c| !hidden.iter().any(|h| h == c.get_name())).cloned();
    let bare = Args::<Command>::command();
    let args: Vec<clap::Arg> = bare.get_arguments().cloned().collect();
    let mut command = clap::Command::new("certwarden")
        .bin_name("certwarden")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(args)
        .subcommands(shown);
    if let Some(about) = bare.get_about() {
        command = command.about(about.clone());
    }
    if let Some(examples) = bare.get_after_help() {
        command = command.after_help(examples.clone());
    }
    command
}

/// Of which commands, the code, what it means.
pub fn exit_codes() -> Vec<(&'static str, u8, &'static str)> {
    const CHECK: &str = "check, watch --once";
    const DIAGNOSE: &str = "diagnose";
    const ACTS: &str = "renew, rollback, recover";
    const ANY: &str = "any";
    vec![
        (CHECK, Severity::Ok.exit_code(), "all well"),
        (CHECK, Severity::Warning.exit_code(), "warning"),
        (CHECK, Severity::Critical.exit_code(), "critical"),
        (CHECK, Severity::Unknown.exit_code(), "cannot tell"),
        (DIAGNOSE, Severity::Ok.exit_code(), "healthy"),
        (DIAGNOSE, Severity::Warning.exit_code(), "warning: something will fail"),
        (DIAGNOSE, Severity::Critical.exit_code(), "critical: a root cause was found"),
        (DIAGNOSE, Severity::Unknown.exit_code(), "cannot tell, or what was seen contradicts itself"),
        ("npd-plugin", 0, "no problem"),
        ("npd-plugin", 1, "a certificate is critical"),
        ("npd-plugin", 2, "unknown: no daemon, or nothing can be read"),
        ("plan", 0, "`renew` would do all of this unless a gate is closed, or nothing is due"),
        (
            "plan",
            Outcome::LeftOut.exit_code(),
            "something that is due, broken or asked for would be left out; or the root is no node",
        ),
        (ACTS, Outcome::Verified.exit_code(), "done, or nothing is due"),
        (
            ACTS,
            Outcome::Refused.exit_code(),
            "refused, nothing was changed; or something that is due or broken was left out, the rest is done; or the root is no node",
        ),
        (
            ACTS,
            Outcome::RolledBack.exit_code(),
            "failed and rolled back; or in place and not proven (degraded, interrupted)",
        ),
        (ACTS, Outcome::RollbackFailed.exit_code(), "the rollback failed too"),
        ("daemon", EXIT_ANEW, "started anew by its unit: a directory that it must write was made or replaced"),
        ("status", NOT_RUNNING, "the daemon does not run"),
        (ANY, USAGE, "wrong arguments"),
        (ANY, SOFTWARE, "a defect in certwarden"),
        (ACTS, BUSY, "another certwarden is at work"),
        (ANY, NOT_ROOT, "run as root: this user may not read all of the node, or not change it"),
        (ANY, CONFIG, "the configuration is faulty"),
    ]
}
