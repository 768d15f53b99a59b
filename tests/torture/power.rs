//! Sweep: the power fails at every call that changes a file system, and behind the last.

use crate::harness::{Harness, Place};
use crate::interrupted::{self, How, Recoveries};
use crate::reliability::Row;
use crate::scenario::Scenario;

pub fn run(harness: &Harness, scenarios: &[Scenario], place: Place) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let seen = Recoveries::default();
        let points = harness.sample(scenario.points.len(), scenario.sampled(6));
        let mut jobs: Vec<Option<usize>> = points.into_iter().map(Some).collect();
        let calls = jobs.len();
        jobs.push(None);
        let tally = harness.spread(place, &jobs, |bench, job| match job {
            Some(index) => interrupted::at(bench, scenario, *index, How::PowerCut, &seen, false),
            None => interrupted::behind(bench, scenario),
        });
        let what = format!("{}, {}", scenario.name, place.name());
        let note = format!("{calls} of {} calls and the end, each with a cut in recover", scenario.points.len());
        rows.push(harness.row("power", what, &tally, note));
    }
    rows
}
