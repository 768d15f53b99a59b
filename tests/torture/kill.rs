//! Sweep: killed at every call that changes a file system.

use crate::disk::Kind;
use crate::harness::{Harness, Place};
use crate::interrupted::{self, How, Recoveries};
use crate::reliability::Row;
use crate::scenario::Scenario;

pub fn run(harness: &Harness, scenarios: &[Scenario], place: Place) -> Vec<Row> {
    let mut rows = Vec::new();
    // a page cache survives a kill on every file system: what recovery meets is the same on the second
    let deep = harness.every.is_some() && matches!(place, Place::Directory | Place::One(Kind::Ext4));
    for scenario in scenarios {
        let seen = Recoveries::default();
        let jobs = harness.sample(scenario.points.len(), scenario.sampled(8));
        let tally = harness
            .spread(place, &jobs, |bench, index| interrupted::at(bench, scenario, *index, How::Kill, &seen, deep));
        let what = format!("{}, {}", scenario.name, place.name());
        let states = if deep { ", and recover at each of its calls in each state that it can meet" } else { "" };
        let note = format!("{} of {} calls, each with recover killed too{states}", jobs.len(), scenario.points.len());
        rows.push(harness.row("kill", what, &tally, note));
    }
    rows
}
