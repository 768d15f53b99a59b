//! Sweep: killed at every call that changes a file system.

use crate::disk::Kind;
use crate::harness::{Harness, place_of, row};
use crate::interrupted::{self, How, Recoveries};
use crate::reliability::Row;
use crate::scenario::Scenario;

pub fn run(harness: &Harness, scenarios: &[Scenario], kind: Option<Kind>) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let seen = Recoveries::default();
        let jobs = harness.sample(scenario.points.len(), 12);
        let tally = harness.spread(kind, &jobs, |bench, index| {
            interrupted::at(bench, scenario, *index, How::Kill, &seen, harness.whole)
        });
        let what = format!("{}, {}", scenario.name, place_of(kind));
        let note = format!("{} of {} calls, each with recover killed too", jobs.len(), scenario.points.len());
        rows.push(row("kill", what, &tally, note));
    }
    rows
}
