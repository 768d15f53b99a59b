//! How sweeps are run: on two benches at a time, whole or sampled, and how their rows are made.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::disk::{Disk, Kind};
use crate::interrupted::{Bench, Tally};
use crate::reliability::{Row, record};

/// Two cores are what CI has.
const WORKERS: usize = 2;
/// Of a sweep that goes wrong everywhere, this many are shown.
const SHOWN: usize = 5;

/// What the trees lie on.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Whatever is there: where nothing can be mounted.
    Directory,
    One(Kind),
    /// `/etc/kubernetes` on a file system of its own: the ledger and the live files share no log.
    Two(Kind, Kind),
}

impl Place {
    pub fn name(self) -> String {
        match self {
            Self::Directory => "a directory".to_owned(),
            Self::One(kind) => kind.name().to_owned(),
            Self::Two(state, live) => format!("{} with /etc/kubernetes on {}", state.name(), live.name()),
        }
    }

    pub fn bench(self, dir: &Path, name: &str) -> Bench {
        let disk = |kind: Kind, of: &str| Disk::make(dir, kind, &format!("{of}-{name}"));
        match self {
            Self::Directory => Bench::new(&dir.join(name), None, None),
            Self::One(kind) => Bench::new(dir, Some(disk(kind, "state")), None),
            Self::Two(state, live) => {
                Bench::new(dir, Some(disk(state, "state")), Some((disk(live, "live"), "etc/kubernetes")))
            }
        }
    }
}

#[derive(Debug)]
pub struct Harness {
    pub dir: PathBuf,
    /// Every point, or each so many; None: a small sample.
    pub every: Option<usize>,
}

impl Harness {
    /// All of `0..count`, or about `sampled` of them, evenly.
    pub fn sample(&self, count: usize, sampled: usize) -> Vec<usize> {
        let stride = self.every.unwrap_or_else(|| count.div_ceil(sampled)).max(1);
        // from the middle of a stride: neither the first nor always the same of a repeated sequence
        (0..count).skip(stride / 2).step_by(stride).collect()
    }

    /// Does the jobs on benches of their own.
    pub fn spread<J: Sync>(&self, place: Place, jobs: &[J], act: impl Fn(&Bench, &J) -> Tally + Sync) -> Tally {
        let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
        std::thread::scope(|scope| {
            for worker in 0..WORKERS.min(jobs.len()) {
                let (next, total, act) = (&next, &total, &act);
                scope.spawn(move || {
                    let bench = place.bench(&self.dir, &worker.to_string());
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let tally = act(&bench, job);
                        total.lock().unwrap().merge(tally);
                    }
                });
            }
        });
        total.into_inner().unwrap()
    }

    /// Tells what a sweep has found, and makes its row of the page: at once, since a whole sweep takes its time.
    pub fn row(&self, section: &str, what: String, tally: &Tally, note: String) -> Row {
        say(&format!("{section}: {what}: {} tried, {} bad; {note}", tally.tried, tally.bad.len()));
        for bad in tally.bad.iter().take(SHOWN) {
            say(&format!("  {bad:.900}"));
        }
        let bad = tally.bad.len() as u64;
        let name = format!("{section}-{what}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let row = Row { section: section.to_owned(), what, tried: Some(tally.tried), bad: Some(bad), note };
        record(&name, self.every.is_some(), std::slice::from_ref(&row));
        row
    }
}

#[allow(clippy::print_stdout, reason = "a test's report")]
pub fn say(text: &str) {
    println!("{text}");
}

/// Says how long something took.
pub fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let from = Instant::now();
    let done = act();
    say(&format!("{what}: {:.1} s", from.elapsed().as_secs_f64()));
    done
}

/// Memory where there is some: what is tested is the order of calls, not a disk's speed.
pub fn workdir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("certwarden-torture-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}
