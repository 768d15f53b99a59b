//! What a program leaves behind when it has ended: children in sessions of their own, which no signal to its process
//! group reaches. Only for a process that is made to run such programs and has no other children.

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

/// More than this in a row is somebody who makes processes faster than we can end them.
const ROUNDS: usize = 1000;

/// From now on descendants whose parent has died become our children (prctl(2), `PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// None on the kernels that Kubernetes runs on.
pub fn adopt() -> Result<(), Errno> {
    set_child_subreaper(true)
}

/// Kills every child and whatever that makes our child. Returns how many there were.
pub fn end_all() -> usize {
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let children = children();
        if children.is_empty() {
            break;
        }
        for child in children {
            let _ = kill(child, Signal::SIGKILL); // ESRCH: it has ended by itself
            // one in state D does not die (proc_pid_stat(5)): it is not waited for
            let flags = WaitPidFlag::WNOHANG;
            ended += usize::from(matches!(waitpid(child, Some(flags)), Ok(s) if s != WaitStatus::StillAlive));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    ended
}

/// By field 4 of proc_pid_stat(5); the name in parentheses before it may hold anything.
fn children() -> Vec<Pid> {
    let own = getpid().to_string();
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(own.as_str())
    };
    pids.filter(is_ours).map(Pid::from_raw).collect()
}
