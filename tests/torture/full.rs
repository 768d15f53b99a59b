//! Sweep: a disk that is really full, or turns read-only, in the middle of a transaction. The process is stopped at a
//! call, the disk changed, and the process goes on.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::disk::{Disk, Kind};
use crate::fault::told;
use crate::harness::{Harness, Place};
use crate::interrupted::Bench;
use crate::reliability::Row;
use crate::scenario::Scenario;
use crate::strace::{self, Ended, Point};
use crate::tree::STATE;

/// Where the small disk is.
const PLACES: [(&str, &str); 2] = [("/var/lib/certwarden", STATE), ("/etc/kubernetes", "etc/kubernetes")];
/// Longer than any run on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

pub fn run(harness: &Harness, scenario: &Scenario) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, place) in PLACES {
        for (what, trouble) in [("full", fill as fn(&Path)), ("read-only", turn_read_only)] {
            // a run holds no file open for writing when it renames, unlinks or makes a directory
            let points: Vec<&Point> = scenario.points.iter().map(|(p, _)| p).collect();
            let mut jobs = harness.sample(points.len(), 5);
            if harness.every.is_some() {
                jobs.retain(|i| i % 4 == 1 || points[*i].is_live_rename());
            }
            let tally = harness.spread(Place::Directory, &jobs, |bench, index| {
                // 8 MB: a file of filler is soon written
                let disk = Disk::sized(bench.dir(), Kind::Ext4, "small", 8);
                let small = disk.at.clone();
                let bench = Bench::new(bench.dir(), None, Some((disk, place)));
                bench.prepare(scenario);
                let point = points[*index];
                let ended = stopped_at(&bench, scenario, point, || trouble(&small));
                relieve(&small);
                told(
                    &bench,
                    scenario,
                    scenario.args,
                    &ended,
                    &format!("{name} {what} from {}#{} {:.160}", point.call, point.nth, point.line),
                )
            });
            rows.push(harness.row(
                "fault",
                format!("{name} {what} in the middle"),
                &tally,
                format!("{} calls, ext4", jobs.len()),
            ));
        }
    }
    rows
}

fn fill(disk: &Path) {
    // to the last block, those that are kept for root too
    let filler = format!("of={}", disk.join(".filler").display());
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=4k", &filler]).output();
}

/// Refused by the kernel while something is open for writing: then nothing happens.
fn turn_read_only(disk: &Path) {
    remount(disk, "ro");
}

fn relieve(disk: &Path) {
    remount(disk, "rw");
    let _ = fs::remove_file(disk.join(".filler"));
}

fn remount(disk: &Path, how: &str) {
    let _ = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(disk).output();
}

/// Runs to the point, waits there for `meanwhile`, and goes on to the end.
fn stopped_at(bench: &Bench, scenario: &Scenario, point: &Point, meanwhile: impl FnOnce()) -> Ended {
    let log = bench.node().with_extension("log");
    let _ = fs::remove_file(&log);
    let mut command = strace::logged(&bench.node(), scenario.args, &[point.stop()], &log);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    let stopped = loop {
        if let Some(pid) = stopped(&fs::read_to_string(&log).unwrap_or_default()) {
            break pid;
        }
        assert!(Instant::now() < until, "{point:?} was not reached");
        std::thread::sleep(Duration::from_millis(2));
    };
    meanwhile();
    kill(stopped, Signal::SIGCONT).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    Ended { code: out.status.code(), killed: false, text }
}

/// `PID --- stopped by SIGSTOP ---`, as strace tells it.
fn stopped(log: &str) -> Option<Pid> {
    let line = log.lines().find(|l| l.contains("--- stopped by SIGSTOP"))?;
    line.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}
