//! The process table (proc(5)).

use std::path::PathBuf;

use super::fs::Root;

/// How many seconds after the machine's boot a process began: field 22 of its stat, in ticks (proc_pid_stat(5)).
pub fn began(root: &Root, pid: u32) -> Option<i64> {
    /// `USER_HZ`, the same on every architecture that Kubernetes runs on (time(7)).
    const TICKS: i64 = 100;
    let stat = root.read_text(&PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    // the name of the program, in parentheses, may hold anything
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS)
}
