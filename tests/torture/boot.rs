//! What `certwarden-recover.service` adds to a boot: the recovery of a commit that was cut short, as the unit runs it.

use std::time::{Duration, Instant};

use crate::disk::Kind;
use crate::fault::in_the_commit;
use crate::harness::say;
use crate::interrupted::Bench;
use crate::reliability::Row;
use crate::scenario::Scenario;
use crate::strace;

const RUNS: usize = 10;

pub fn run(bench: &Bench, scenario: &Scenario) -> Row {
    let middle = in_the_commit(scenario);
    let mut longest = Duration::ZERO;
    for _ in 0..RUNS {
        bench.prepare(scenario);
        strace::end(strace::injected(&bench.node(), scenario.args, &[middle.kill()]));
        let from = Instant::now();
        let ended = strace::end(strace::certwarden(&bench.node(), &["recover", "--files-only"]));
        longest = longest.max(from.elapsed());
        assert_eq!(ended.code, Some(2), "{}", ended.text);
    }
    let what = format!("recover --files-only of a commit cut in its middle, {}", Kind::Ext4.name());
    let note = format!("longest of {RUNS} runs {:.0} ms, process start included", longest.as_secs_f64() * 1e3);
    say(&format!("boot: {what}: {note}"));
    Row { section: "boot".to_owned(), what, tried: None, bad: None, note }
}
