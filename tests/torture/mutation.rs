//! Sweep: fsyncs are taken out (strace lets them succeed without being carried out), and the power fails. A harness that
//! finds nothing then finds nothing at all. Which of them nothing covers on a file system is told, too.

use crate::harness::{Harness, Place, say};
use crate::interrupted::{self, Tally};
use crate::reliability::Row;
use crate::scenario::Scenario;
use crate::strace::Point;

/// Whether a call, as strace shows it, belongs to a group.
type IsOf = fn(&str) -> bool;

/// The fsyncs of a renewal by what they are for: neighbours in the order of the calls, since strace counts in ranges.
const GROUPS: [(&str, IsOf); 6] = [
    ("the backups", |line| line.contains("/old/") || line.contains("/old>")),
    ("the staged files", |line| line.contains("/new/") || line.contains("/new>")),
    ("the new files beside the live ones", |line| line.contains(".certwarden-new>")),
    ("the old files beside the live ones", |line| line.contains(".certwarden-old>")),
    ("the directories behind the renames", |line| !line.contains("/var/lib/") && !line.contains(".certwarden-")),
    ("the memory of the daemon", |line| line.contains("/.state.json.") || line.contains("/certwarden>)")),
];

pub fn run(harness: &Harness, scenario: &Scenario, place: Place) -> Row {
    let (mut total, mut found) = (Tally::default(), Vec::new());
    let mut groups: Vec<(String, String)> =
        GROUPS.iter().filter_map(|(name, is)| Some(((*name).to_owned(), range(scenario, *is)?))).collect();
    groups.extend(records(scenario));
    groups.push(("all of them".to_owned(), "inject=fsync:retval=0".to_owned()));
    if harness.every.is_none() {
        groups.drain(..groups.len() - 1);
    }
    // before the commit nothing live can be lost
    let first = scenario.points.iter().position(|(p, _)| p.is_live_rename()).unwrap_or(0);
    let commit = scenario.points[first..].iter().map(|(p, _)| p);
    let kills: Vec<&Point> = commit.filter(|p| p.call != "fsync").collect();
    for (name, inject) in groups {
        let step = if harness.every.is_some() { kills.len().div_ceil(40) } else { kills.len().div_ceil(10) };
        let mut jobs: Vec<Option<&Point>> = kills.iter().step_by(step).map(|p| Some(*p)).collect();
        jobs.push(None);
        let tally = harness.spread(place, &jobs, |bench, kill| {
            let mut injections = vec![inject.clone()];
            injections.extend(kill.map(Point::kill));
            interrupted::mutated(bench, scenario, &injections)
        });
        say(&format!("  without {name}: {} of {} caught{}", tally.bad.len(), tally.tried, example(&tally)));
        found.push((name, tally.bad.len()));
        total.merge(tally);
    }
    let list = |caught: bool| {
        let of = found.iter().filter(|(_, n)| (*n > 0) == caught);
        of.map(|(name, n)| if caught { format!("{name} {n}") } else { name.clone() }).collect::<Vec<_>>().join(", ")
    };
    let note = format!("caught: {}; covered by a later sync here: {}", list(true), list(false));
    harness.row("mutation", format!("fsyncs of a renewal, {}", place.name()), &total, note)
}

fn example(tally: &Tally) -> String {
    tally.bad.first().map_or_else(String::new, |b| format!(", e.g. {b:.200}"))
}

/// From the first to the last fsync of a group.
fn range(scenario: &Scenario, is: IsOf) -> Option<String> {
    let syncs = scenario.points.iter().map(|(p, _)| p).filter(|p| p.call == "fsync");
    let own: Vec<usize> = syncs.filter(|p| is(&p.line)).map(|p| p.nth).collect();
    Some(format!("inject=fsync:retval=0:when={}..{}", own.first()?, own.last()?))
}

/// The two fsyncs of each record of the ledger: of the file and of its directory.
fn records(scenario: &Scenario) -> Vec<(String, String)> {
    let own = scenario.points.iter().map(|(p, _)| p).filter(|p| p.call == "fsync" && p.line.contains("ledger.jsonl>"));
    let states = ["open", "staged", "committing", "committed", "verified"];
    let inject = |p: &Point| format!("inject=fsync:retval=0:when={}..{}", p.nth, p.nth + 1);
    own.zip(states).map(|(p, state)| (format!("the record `{state}`"), inject(p))).collect()
}
