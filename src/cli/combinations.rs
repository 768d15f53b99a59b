//! What each command answers where something is due, missing or broken, and why it cannot be renewed here: one table, of which
//! the reference is made and by which the tests (`tests/it/left_out.rs`, `tests/it/permission.rs`) judge the programs.

use crate::model::assess::Severity as S;
use crate::model::report::Outcome;

use super::output::NOT_ROOT;

/// The commands, in the order of [`Combination::codes`].
pub const COMMANDS: [&str; 6] = ["check", "plan", "plan --all", "renew", "renew --all", "diagnose --all"];

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Combination {
    pub what: &'static str,
    pub codes: [u8; COMMANDS.len()],
    /// What `plan` and `renew` say besides "left out" and the name.
    pub said: &'static str,
}

/// All rows. `renew --dry-run` gives what `renew` gives.
#[allow(clippy::too_many_lines, reason = "one table, of which each row stands for itself")]
pub fn combinations() -> Vec<Combination> {
    let (well, warning, critical, unknown) =
        (S::Ok.exit_code(), S::Warning.exit_code(), S::Critical.exit_code(), S::Unknown.exit_code());
    let (done, left_out) = (Outcome::Verified.exit_code(), Outcome::LeftOut.exit_code());
    let row = |what, [check, plan, plan_all, renew, renew_all, diagnose]: [u8; COMMANDS.len()], said| Combination {
        what,
        codes: [check, plan, plan_all, renew, renew_all, diagnose],
        said,
    };
    // what is left out by itself, and with all
    let all = |check: u8| [check, left_out, left_out, left_out, left_out, check];
    let by_itself = [critical, left_out, done, left_out, done, critical];
    vec![
        row("nothing is due", [well, done, done, done, done, unknown], "nothing is due"),
        row("all is due and can be renewed", [warning, done, done, done, done, warning], "each step and its reason"),
        row(
            "a worker's identity has expired: no CA key, no API",
            all(critical),
            "the command for a control plane: `kubeadm kubeconfig user …`",
        ),
        row(
            "the whole pki and all kubeconfigs are gone",
            all(critical),
            "the CAs back first, never `kubeadm init phase certs ca`; then `kubeadm init phase certs …`, `kubeconfig …`",
        ),
        row("all kubeconfigs are gone, the CA is here", all(critical), "`kubeadm init phase kubeconfig …`"),
        row("a key file is missing, nothing is due", all(critical), "`kubeadm init phase certs NAME --config FILE`"),
        row("a key file is missing, all is due", all(critical), "the same; the others are renewed"),
        row("a key file is a link to nowhere, all is due", all(critical), "the same; the others are renewed"),
        row("a leaf is empty, nothing is due", all(critical), "`kubeadm init phase certs NAME --config FILE`"),
        row("a leaf is empty, all is due", all(critical), "the same; the others are renewed"),
        row("a leaf is a directory, all is due", all(critical), "the same; the others are renewed"),
        row(
            "a kubeconfig is empty, all is due",
            all(critical),
            "`kubeadm init phase kubeconfig NAME`; the others are renewed",
        ),
        row("a key is an empty file", by_itself, "only `certwarden renew NAME` replaces it"),
        row("another CA has signed it", by_itself, "only `certwarden renew NAME` replaces it"),
        row("`/var/lib/kubelet` is missing, all is due", all(critical), "that directory back; the others are renewed"),
        row(
            "what an external CA signs is due",
            all(warning),
            "subject, names and usages of what is needed, and where it goes; the others are renewed",
        ),
        row(
            "what an external CA signs is not due",
            [well, done, done, done, done, unknown],
            "nothing is due; `--all` renews the others",
        ),
        row("the CAs have expired", all(critical), "rotate them first; a CA is never renewed automatically"),
        row(
            "`renew.exclude` names what is due and works",
            [warning, done, done, done, done, warning],
            "nothing is due but what it names",
        ),
        row("`renew.exclude` names what has expired", all(critical), "it is renewed by name only"),
        row(
            "the root is no node",
            [unknown, left_out, left_out, left_out, left_out, unknown],
            "there is no Kubernetes node",
        ),
        row("this user may not read all of it", [NOT_ROOT; COMMANDS.len()], "run as root"),
    ]
}
