//! Sweep: every call fails, with every error that a full, broken or protected disk gives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::harness::{Harness, Place};
use crate::interrupted::{self, Bench, How, Tally};
use crate::reliability::Row;
use crate::scenario::Scenario;
use crate::strace::{self, Ended, Point};

const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EROFS", "EACCES", "EDQUOT"];

pub fn run(harness: &Harness, scenarios: &[Scenario], place: Place) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in scenarios.iter().filter(|s| s.points.iter().all(|(_, trouble)| trouble.is_empty())) {
        let points = scenario.points_with_opens(&harness.dir);
        let jobs = faults(harness, &points, scenario.sampled(20));
        let tally = harness.spread(place, &jobs, |bench, (index, error)| at(bench, scenario, &points[*index], error));
        let note = format!("{} of {}; {}", jobs.len(), all(&points), ERRORS.join(", "));
        rows.push(harness.row("fault", scenario.name.to_owned(), &tally, note));
    }
    rows.push(recovery(harness, &scenarios[0], place));
    rows
}

/// Every error at each call that changes something, one at those that only open.
fn every(points: &[Point]) -> Vec<(usize, &'static str)> {
    let of = |(i, point): (usize, &Point)| {
        let errors = if point.only_opens() { vec![ERRORS[i % ERRORS.len()]] } else { ERRORS.to_vec() };
        errors.into_iter().map(move |e| (i, e))
    };
    points.iter().enumerate().flat_map(of).collect()
}

fn all(points: &[Point]) -> String {
    format!("{} errors of {} calls, opens too", every(points).len(), points.len())
}

fn faults(harness: &Harness, points: &[Point], sampled: usize) -> Vec<(usize, &'static str)> {
    let all = every(points);
    harness.sample(all.len(), sampled).into_iter().map(|i| all[i]).collect()
}

/// The recovery of a commit that was cut short in its middle meets an error at each of its calls.
fn recovery(harness: &Harness, scenario: &Scenario, place: Place) -> Row {
    let middle = in_the_commit(scenario);
    let cut_short = |bench: &Bench| {
        bench.prepare(scenario);
        strace::end(strace::injected(&bench.node(), scenario.args, &[middle.kill()]));
    };
    let bench = Place::Directory.bench(&harness.dir, "trace");
    cut_short(&bench);
    let points = strace::points(&bench.node(), &["recover"], &[], true).0;
    let jobs = faults(harness, &points, 20);
    let tally = harness.spread(place, &jobs, |bench, (index, error)| {
        cut_short(bench);
        let ended = strace::end(strace::injected(&bench.node(), &["recover"], &[points[*index].fail(error)]));
        told(bench, scenario, &["recover"], &ended, &format!("recover with {error} at {}", show(&points[*index])))
    });
    let note = format!("of a commit cut short; {} of {}", jobs.len(), all(&points));
    harness.row("fault", "recover".to_owned(), &tally, note)
}

/// The rename in the middle of the commit.
pub fn in_the_commit(scenario: &Scenario) -> &Point {
    let renames: Vec<&Point> = scenario.points.iter().map(|(p, _)| p).filter(|p| p.is_live_rename()).collect();
    renames[renames.len() / 2]
}

fn at(bench: &Bench, scenario: &Scenario, point: &Point, error: &str) -> Tally {
    bench.prepare(scenario);
    let ended = strace::end(strace::injected(&bench.node(), scenario.args, &[point.fail(error)]));
    told(bench, scenario, scenario.args, &ended, &format!("{} with {error} at {}", scenario.name, show(point)))
}

fn show(point: &Point) -> String {
    format!("{}#{} {:.160}", point.call, point.nth, point.line)
}

/// A documented exit code, a sentence that says why, and everything well after the next recovery.
pub fn told(bench: &Bench, scenario: &Scenario, args: &[&str], ended: &Ended, what: &str) -> Tally {
    let mut tally = Tally::default();
    let result = match ended.code {
        // docs/architecture.md, "Command line": results 0 to 3, 64 usage, 78 configuration
        Some(code) if [0, 1, 2, 3, 64, 78].contains(&code) => {
            // a recovery that ends as without the error has none to tell
            let sentence = code == 0 || (code == 2 && args == ["recover"]) || names_a_cause(&ended.text);
            let judged = interrupted::judge_of(bench, scenario, How::Kill, &without(scenario, &ended.text));
            if sentence { judged } else { Err(format!("exit {code} without a cause: {:.300}", ended.text)) }
        }
        code => Err(format!("exit {code:?}: {:.500}", ended.text)),
    };
    tally.add(|| format!("{what} (exit {:?}: {:.200})", ended.code, ended.text), result);
    tally
}

/// The files of a scenario without those of what the report leaves out: what cannot be read holds nobody else up.
fn without(scenario: &Scenario, report: &str) -> BTreeSet<PathBuf> {
    let left = report.lines().filter_map(|line| line.strip_prefix("left out")?.split_once(':'));
    let files: BTreeSet<PathBuf> = left.flat_map(|(name, _)| files_of(name.trim())).collect();
    scenario.targets.difference(&files).cloned().collect()
}

/// Below the root, as kubeadm calls them.
fn files_of(name: &str) -> Vec<PathBuf> {
    let kubernetes = Path::new("etc/kubernetes");
    if Path::new(name).extension().is_some() {
        return vec![kubernetes.join(name)];
    }
    let base = name.strip_prefix("etcd-").map_or_else(|| name.to_owned(), |rest| format!("etcd/{rest}"));
    ["crt", "key"].map(|end| kubernetes.join(format!("pki/{base}.{end}"))).to_vec()
}

/// The words of the errors that are injected, as certwarden and the C library say them.
fn names_a_cause(text: &str) -> bool {
    // the last: a CA's key that cannot be examined counts as absent
    let words = ["space", "Input/output", "ead-only", "ermission", "uota", "cannot be read", "is not on this node"];
    words.iter().any(|w| text.contains(w))
}
