//! A started program, watched to its end or to its limit.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::Output;

/// What is kept of each stream, unless more is wanted: reasons stand at the end.
pub(super) const KEPT: usize = 64 << 10;
/// Between SIGTERM and SIGKILL. None of our programs has anything to save.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// After SIGKILL only the kernel can hold a process up: one that waits for a dead disk (state D, proc_pid_stat(5)) may
/// never end, and whoever called us holds the node's lock.
const KILL_GRACE: Duration = Duration::from_secs(30);
const ESCALATION: [(Signal, Duration); 2] = [(Signal::SIGTERM, TERM_GRACE), (Signal::SIGKILL, KILL_GRACE)];
/// How long descendants may keep the output open after the program has ended.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// The end of a process without output can only be asked for (no signal handler, no pidfd in std).
const TICK: Duration = Duration::from_millis(20);

/// How it came to an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    ByItself,
    Killed,
    /// Not even SIGKILL ended it.
    Stuck,
}

/// Waits for the end. None: it took longer than `limit` and was killed, its group with it if `leads_group`; one that
/// cannot be killed is left behind.
///
/// The process is reaped last: as long as it is a zombie, its id cannot be that of an innocent group.
pub(super) fn watch(process: Child, leads_group: bool, limit: Duration, keep: usize) -> io::Result<Option<Output>> {
    watch_with(process, leads_group, limit, keep, &ESCALATION)
}

fn watch_with(
    mut process: Child,
    leads_group: bool,
    limit: Duration,
    keep: usize,
    escalation: &[(Signal, Duration)],
) -> io::Result<Option<Output>> {
    let pid = Pid::from_raw(process.id().cast_signed());
    let mut pipes = Pipes::take(&mut process, keep);
    let end = follow(pid, leads_group, &mut pipes, limit, escalation);
    if matches!(end, Ok(End::Stuck)) {
        return Ok(None);
    }
    if leads_group {
        let _ = killpg(pid, Signal::SIGKILL); // what the program left behind; ESRCH: nothing
    } else if end.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
    }
    pipes.drain();
    let status = process.wait()?;
    let [stdout, stderr] = pipes.into_texts();
    Ok((end? == End::ByItself).then(|| Output {
        code: status.code(),
        signal: std::os::unix::process::ExitStatusExt::signal(&status),
        stdout,
        stderr,
    }))
}

fn follow(
    pid: Pid,
    leads_group: bool,
    pipes: &mut Pipes,
    limit: Duration,
    escalation: &[(Signal, Duration)],
) -> io::Result<End> {
    if ended_within(pid, pipes, limit)? {
        pipes.wait_closed(PIPE_GRACE)?;
        return Ok(End::ByItself);
    }
    for (signal, patience) in escalation {
        let _ = if leads_group { killpg(pid, *signal) } else { kill(pid, *signal) };
        if ended_within(pid, pipes, *patience)? {
            return Ok(End::Killed);
        }
    }
    Ok(End::Stuck)
}

fn ended_within(pid: Pid, pipes: &mut Pipes, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        pipes.pump(left.min(TICK))?;
    }
}

/// Both output streams, read as they come so that no program blocks on a full pipe.
struct Pipes([Option<Stream>; 2]);

struct Stream {
    source: Box<dyn Source>,
    open: bool,
    kept: Vec<u8>,
    keep: usize,
}

trait Source: Read + AsFd {}
impl<T: Read + AsFd> Source for T {}

impl Pipes {
    fn take(process: &mut Child, keep: usize) -> Self {
        let stream = |source: Box<dyn Source>| {
            // a read must never wait: whoever holds the other end may live on for ever
            let nonblocking = fcntl(source.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok();
            Stream { source, open: nonblocking, kept: Vec::new(), keep }
        };
        let stdout = process.stdout.take().map(|s| stream(Box::new(s)));
        let stderr = process.stderr.take().map(|s| stream(Box::new(s)));
        Self([stdout, stderr])
    }

    fn open(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.iter_mut().flatten().filter(|s| s.open)
    }

    /// Waits at most `wait` for output and reads what is there.
    fn pump(&mut self, wait: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(wait.max(Duration::from_millis(1))).unwrap_or(PollTimeout::ZERO);
        {
            let fds: Vec<BorrowedFd<'_>> =
                self.0.iter().flatten().filter(|s| s.open).map(|s| s.source.as_fd()).collect();
            let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // without any descriptor this is a sleep
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.open().for_each(Stream::read_some);
        Ok(())
    }

    fn wait_closed(&mut self, limit: Duration) -> io::Result<()> {
        let start = Instant::now();
        while self.open().next().is_some() && start.elapsed() < limit {
            self.pump(TICK)?;
        }
        Ok(())
    }

    /// What is in the pipes now and does not have to be waited for.
    fn drain(&mut self) {
        self.open().for_each(Stream::read_some);
    }

    fn into_texts(self) -> [String; 2] {
        self.0.map(|s| s.map(|s| String::from_utf8_lossy(s.last()).into_owned()).unwrap_or_default())
    }
}

impl Stream {
    /// Bounded: a flood must not keep us from looking at the clock.
    fn read_some(&mut self) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..64 {
            match self.source.read(&mut buffer) {
                Ok(0) => return self.open = false,
                Ok(n) => self.keep(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.open = false,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * self.keep {
            self.kept.drain(..self.kept.len() - self.keep);
        }
    }

    fn last(&self) -> &[u8] {
        self.kept.get(self.kept.len().saturating_sub(self.keep)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_no_signal_ends_is_left_behind_and_not_waited_for() {
        for leads_group in [true, false] {
            let mut command = Command::new("/bin/sleep");
            command.arg("1000").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
            let process = command.spawn().unwrap();
            let pid = Pid::from_raw(process.id().cast_signed());
            // a signal that does nothing, as SIGKILL does to a process in state D
            let useless = [(Signal::SIGCONT, Duration::from_millis(50))];
            let start = Instant::now();
            let ended = watch_with(process, leads_group, Duration::from_millis(50), KEPT, &useless);
            assert!(matches!(ended, Ok(None)));
            assert!(start.elapsed() < KILL_GRACE);
            assert_eq!(kill(pid, None), Ok(()), "it was not killed, so that this is about one that cannot be");
            kill(pid, Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(pid, None).unwrap();
        }
    }
}
