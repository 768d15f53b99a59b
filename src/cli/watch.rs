//! `certwarden watch`: what the other layers' certificates say, for ever or once.

use std::fmt::Write as _;
use std::path::Path;

use super::args::{Output, WatchArgs};
use super::output::{USAGE, fail, fail_or_not_allowed, print_json, print_painted};
use super::terminal;
use crate::host::fs::Root;
use crate::host::journal;
use crate::model::assess::Severity;
use crate::model::layers::Overview;
use crate::model::policy::Policy;
use crate::watch;

/// What systemd hands over by `LoadCredential=`.
const CREDENTIAL: &str = "kubeconfig";
/// Who looks at a control plane by hand is its administrator.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Rows that are well, at most: the next to end.
const MOST_WELL: usize = 10;

/// Watches until it is ended; with `once`, tells an overview whose verdict is the exit code.
pub fn run(root: Root, policy: Policy, args: &WatchArgs) -> u8 {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| Path::new(&d).join(CREDENTIAL));
    let path = args.kubeconfig.clone().or(given).unwrap_or_else(|| ADMIN.into());
    if !args.once {
        journal::init(journal::Target::Detect, false);
        return watch::run(root, policy, &path).map_or_else(|e| fail(&e, USAGE), |()| 0);
    }
    match watch::once(root, policy, &path) {
        Ok(overview) => {
            match args.output {
                Output::Json => {
                    print_json(&overview);
                }
                Output::Table => {
                    print_painted(&terminal::headline(overview.verdict, &render(&overview), terminal::colour()));
                }
            }
            overview.verdict.exit_code()
        }
        Err(e) => fail_or_not_allowed(&e, USAGE),
    }
}

/// What is not well, and what ends next.
fn render(overview: &Overview) -> String {
    let count = |s: Severity| overview.rows.iter().filter(|r| r.severity == s).count();
    let mut out = format!("{}: {} objects", overview.verdict.label(), overview.objects);
    for (severity, what) in
        [(Severity::Critical, "critical"), (Severity::Unknown, "unknown"), (Severity::Warning, "to be looked at")]
    {
        if count(severity) > 0 {
            let _ = write!(out, ", {} {what}", count(severity));
        }
    }
    out.push('\n');
    let shown: Vec<_> = overview.rows.iter().take(overview.rows.len() - count(Severity::Ok) + MOST_WELL).collect();
    let width = |of: fn(&crate::model::layers::Row) -> usize| shown.iter().map(|r| of(r)).max().unwrap_or(0);
    let (kinds, names, parts) =
        (width(|r| r.kind.len()), width(|r| r.name.chars().count()), width(|r| r.part.chars().count()));
    for row in &shown {
        let end = row.not_after.map_or("-".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M").to_string());
        let line = format!(
            "{:<8}  {:<kinds$}  {:<names$}  {:<parts$}  {end:<16}  {}",
            row.severity.label(),
            row.kind,
            row.name,
            row.part,
            row.message
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let left = overview.rows.len() - shown.len();
    if left > 0 {
        let _ = writeln!(out, "and {left} more that are well: -o json");
    }
    out
}
