//! Sweep: killed at every call that changes a file system.

use crate::harness::{Harness, Place, row};
use crate::interrupted::{self, How, Recoveries};
use crate::reliability::Row;
use crate::scenario::Scenario;

pub fn run(harness: &Harness, scenarios: &[Scenario], place: Place) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let seen = Recoveries::default();
        let jobs = harness.sample(scenario.points.len(), 8);
        let tally = harness.spread(place, &jobs, |bench, index| {
            interrupted::at(bench, scenario, *index, How::Kill, &seen, harness.whole)
        });
        let what = format!("{}, {}", scenario.name, place.name());
        let note = format!("{} of {} calls, each with recover killed too", jobs.len(), scenario.points.len());
        rows.push(row("kill", what, &tally, note));
    }
    rows
}
