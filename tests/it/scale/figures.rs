//! What is simulated, what came of it, and what has to hold.

use std::time::Duration;

use certwarden::model::policy::{Policy, Span};

use super::case::{Case, DAY};
use super::world::{NODES, World};

/// No more requests than this in any second.
pub const PEAK: u32 = 20;
/// No more nodes at work than this in any second, in a hundred.
pub const AT_WORK: f64 = 1.0;
/// No more requests than this for a node that waits, a day.
pub const A_DAY: f64 = 10.0;
/// What the last one has left at least, more than the three days of an emergency, in days.
pub const LEFT: f64 = 5.0;

/// What is shipped, with a credential for workers.
pub fn shipped() -> Case {
    let mut policy = Policy::default();
    // never less than a transaction and its way back (`fleet`)
    let lasts = policy.verify.timeout.0 * 2 + Duration::from_secs(60);
    policy.fleet.lease_duration = Span(policy.fleet.lease_duration.0.max(lasts));
    Case { name: "as shipped: 1 at once", policy, credential: true, dies: None, paused: 0, lost: 10, slower: 1 }
}

fn at_once(workers: u64, name: &'static str) -> Case {
    let mut case = Case { name, ..shipped() };
    case.policy.fleet.workers_at_once = workers;
    case
}

/// Of one in so many.
pub fn dying() -> Case {
    Case { name: "as shipped; one in a hundred dies at work and never comes back", dies: Some(100), ..shipped() }
}

pub fn without_credential() -> Case {
    Case { name: "without a credential: spread by time alone", credential: false, ..shipped() }
}

pub fn paused() -> Case {
    Case { name: "as shipped; the cluster is paused for three weeks", paused: 21 * DAY, ..shipped() }
}

pub fn all() -> Vec<Case> {
    vec![
        shipped(),
        at_once(10, "10 at once"),
        at_once(25, "25 at once"),
        without_credential(),
        dying(),
        paused(),
        Case {
            name: "as shipped; a fifth of all requests or answers lost, the others ten times slower",
            lost: 200,
            slower: 10,
            ..shipped()
        },
    ]
}

/// One run's figures.
#[derive(Debug)]
pub struct Figures {
    pub name: &'static str,
    pub renewed: usize,
    pub dead: usize,
    pub alone: usize,
    /// When the last was renewed, and what its certificate had left, days.
    pub last: f64,
    pub left: f64,
    pub mean: f64,
    pub peak: u32,
    /// Nodes at work in one second at most, of a hundred.
    pub at_work: f64,
    /// Requests for each node, in all; for each day of waiting without those of its renewal.
    pub each: f64,
    pub a_day: f64,
}

impl Figures {
    pub fn of(world: &World) -> Self {
        let days = |ms: u64| ms as f64 / DAY as f64;
        let last = world.done.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let left = world.done.iter().map(|(_, left)| *left).min().unwrap_or(0);
        let first = world.requests.iter().position(|r| *r > 0).unwrap_or(0);
        let seconds = ((last / 1000) as usize).saturating_sub(first) + 1;
        let total: u64 = world.requests.iter().map(|r| u64::from(*r)).sum();
        Self {
            name: world.case.name,
            renewed: world.done.len(),
            dead: world.dead,
            alone: world.alone,
            last: days(last),
            left: days(left),
            mean: total as f64 / seconds as f64,
            peak: world.requests.iter().max().copied().unwrap_or(0),
            at_work: f64::from(world.working.iter().max().copied().unwrap_or(0)) * 100.0 / NODES as f64,
            each: total as f64 / NODES as f64,
            a_day: total.saturating_sub(world.renewals) as f64 / days(world.waited),
        }
    }

    /// What does not hold that has to.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("{}: {what}", self.name));
            }
        };
        must(self.renewed + self.dead == NODES, format!("{} renewed, {} died, of {NODES}", self.renewed, self.dead));
        must(self.peak < PEAK, format!("{} requests in a second", self.peak));
        must(self.at_work < AT_WORK, format!("{:.2} % at work in a second", self.at_work));
        must(self.a_day < A_DAY, format!("{:.1} requests a day for a node", self.a_day));
        must(self.alone == 0, format!("{} went without the lock", self.alone));
        must(self.left > LEFT, format!("the last one had {:.1} days left", self.left));
        broken
    }

    pub fn row(&self) -> String {
        format!(
            "| {} | {} | {:.1} days | {:.0} days | {:.2} | {} | {:.2} % | {:.0} | {:.1} |",
            self.name, self.renewed, self.last, self.left, self.mean, self.peak, self.at_work, self.each, self.a_day
        )
    }

    pub const TITLE: &str = "| | renewed | the last one after | which had left | requests/s, mean | peak | at work in one second, most | requests for each node | a day of waiting |\n|---|---|---|---|---|---|---|---|---|\n";
}

/// Runs them side by side.
pub fn run(cases: Vec<Case>) -> Vec<World> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = cases
            .into_iter()
            .map(|case| {
                scope.spawn(|| {
                    let mut world = World::new(case);
                    world.run();
                    world
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}
