//! Core dumps: the memory of a process that handles keys, written to disk or to a pipe when it crashes.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// In bytes. Not 0: that limit does not hold for a `core_pattern` that is a pipe (core(5)), while of a process with the limit 1
/// the kernel pipes nothing (linux: `fs/coredump.c:do_coredump`, "RLIMIT_CORE set to 1"), and less than a page is no file.
pub const LIMIT: u64 = 1;

/// Keeps this process from ever being dumped, and the programs that it starts from being dumped to a file or pipe.
/// To be called at the start of each program: execve(2) makes a process dumpable again.
pub fn disable() {
    // each holds without the other: a unit's system call filter may refuse one, and has `LimitCORE=1` then
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, LIMIT, LIMIT);
}
