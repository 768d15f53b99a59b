//! Waiting for a component to say that it is healthy.

use std::time::Duration;

use crate::model::component::Component;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::verify::{REQUEST, health};

use super::exits::{Exits, Who};
use super::look::identity_for;

/// For a component that was not healthy before either: time for its start, so that it can show that it has recovered.
const ILL: Duration = Duration::from_secs(30);

/// Waits until the component says that it is healthy, or is no worse than before.
pub fn await_health(run: &mut Run<'_>, component: Component, url: &str, limit: Duration) -> Result<(), Stop> {
    let context = run.context;
    // what ails it is none of our business, unless a certificate that had expired was the cause
    let excused =
        (run.before.was_down(component) || run.before.was_ill(component)) && run.old_still_work(run.live.swapped_at);
    let limit = if excused { limit.min(ILL) } else { limit };
    context.progress.step(format!("waiting for {component} to say that it is healthy"), limit + REQUEST);
    let exits = Who::component(run, component).ok().map(|who| Exits::of(run, &who));
    let keep_going = || !context.should_stop() && !exits.as_ref().is_some_and(Exits::looping);
    let identity = identity_for(context.host, context.inventory, component);
    let seen = health::await_health(context.host, component, url, (None, identity.as_ref()), limit, &keep_going);
    if seen.ok {
        return Ok(());
    }
    if context.should_stop() {
        return Err(Stop::Asked);
    }
    // the API was unavailable before anything was touched: no worse
    let unseen = component == Component::KubeApiserver && run.before.node.is_none();
    if excused || unseen && run.old_still_work(run.live.swapped_at) {
        run.report.notes.push(format!("{component} is not healthy, as before: {}", seen.detail));
        return Ok(());
    }
    let why = exits.and_then(|e| e.sentence()).unwrap_or(seen.detail);
    Err(Stop::Failed(format!("{component} is not healthy: {why}")))
}
