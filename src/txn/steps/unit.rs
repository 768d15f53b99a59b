//! The kubelet's unit: stopped while its identity is exchanged, started again whatever happens, restarted and seen to be
//! stable.

use std::time::Duration;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::kube::Connection;
use crate::host::process::own_program;
use crate::host::systemd::{LONGEST_JOB, Later, SystemdError, UnitStatus};
use crate::model::cause::chain;
use crate::model::component::Component;
use crate::model::health::SETTLED;
use crate::model::plan::{Activation, Step};
use crate::model::report::Restarted;
use crate::txn::run::Run;
use crate::txn::stop::Stop;
use crate::txn::story;
use crate::verify::REQUEST;
use crate::verify::api::answering;
use crate::verify::node::{Restart, sample};
use crate::verify::unit::{UnitUnproven, await_stable};

use super::exits::GRACE;

/// When in a second the kubelet is restarted. Heartbeats have whole seconds: a kubelet that ends late in one posts its
/// last status in it, and the next one posts its first in the following second, so that the two can be told apart. It
/// takes 0.1 s to end and 0.5 s at least from its start to its first status (measured, 1.36.2).
const RESTART_AT: Duration = Duration::from_millis(700);
/// As late in the second as that is still true.
const NOT_AFTER: Duration = Duration::from_millis(800);
/// Between two samples of the node while the unit is watched: finer than the lease's 10 s, so that no renewal is missed.
const SAMPLE: Duration = Duration::from_secs(3);
/// For one of these requests: a silent API must not keep a crash of the kubelet from being seen.
const SAMPLE_LIMIT: Duration = Duration::from_secs(2);

/// Should certwarden be killed while it holds the kubelet, systemd has the transaction finished, and the kubelet started: on a
/// node without the daemon nobody else would.
const SWITCH: &str = "certwarden-kubelet-held";
/// A kubelet is held for less, mostly. A recovery that comes earlier finds the lock taken and does nothing.
const SWITCH_AFTER: Duration = Duration::from_secs(2 * 60);
const SWITCH_AGAIN: Duration = Duration::from_secs(60);

fn arm(run: &mut Run<'_>, unit: &str) {
    let Some(program) = own_program() else { return };
    let later = Later {
        unit: SWITCH,
        description: format!("Recovery by certwarden, should it be killed while it holds {unit}"),
        program,
        args: vec!["recover", "--unattended"],
        after: SWITCH_AFTER,
        again: SWITCH_AGAIN,
    };
    if let Err(e) = run.context.host.services.run_later(&later) {
        let why = format!("should certwarden be killed now, nothing starts {unit}: {}", chain(&e));
        tracing::warn!("{why}");
        run.report.notes.push(why);
    }
}

/// The kubelet is up again, or whoever reads the report starts it.
pub fn disarm(host: &Host) {
    match host.services.stop(&format!("{SWITCH}.timer")) {
        Ok(_) | Err(SystemdError::NoSuchUnit { .. }) => {}
        // it finds nothing to do, and ends itself
        Err(e) => tracing::debug!("{SWITCH}.timer could not be stopped: {}", chain(&e)),
    }
}

/// A kubelet could rotate in the middle of the exchange of its own link: it is stopped meanwhile. The ledger says
/// `committing`, so that whoever comes after a crash starts it again.
pub fn hold_kubelet(run: &mut Run<'_>) -> Result<(), Stop> {
    let Some(kubelet) = unit_to_hold(run) else { return Ok(()) };
    run.live.touched.begin(Component::Kubelet);
    hold_unit(run, &kubelet)
}

/// The same on the way back, where a kubelet that does not stop is no reason to leave half of everything.
pub fn hold_kubelet_again(run: &mut Run<'_>) {
    if let Some(kubelet) = unit_to_hold(run).filter(|_| !run.live.kubelet.is_held)
        && let Err(Stop::Failed(why) | Stop::Passing(why)) = hold_unit(run, &kubelet)
    {
        run.report.notes.push(why);
    }
}

/// The kubelet's unit, where it is not to run while files are exchanged.
fn unit_to_hold(run: &Run<'_>) -> Option<String> {
    let links = run.plan.items.iter().any(|i| i.form.by_name());
    let kubelet = run.plan.steps.iter().find_map(|s| match &s.step {
        Step::Activate { how: Activation::RestartUnit { unit }, .. } => Some(unit.clone()),
        _ => None,
    });
    kubelet.filter(|_| links && run.context.host.live)
}

/// Stops the unit until it is restarted or [`release`]d.
fn hold_unit(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    let host = run.context.host;
    let status = host.services.status(unit)?;
    // what an operator has stopped is started by nobody else
    if status.active_state != "inactive" {
        arm(run, unit);
    }
    let limit = status.stop_limit();
    run.context.progress.step(format!("stopping {unit}"), limit + GRACE);
    run.live.kubelet.is_held = true; // whatever comes of it
    match host.services.stop(unit) {
        Err(SystemdError::ShuttingDown { .. }) => Err(Stop::Asked),
        Ok(result) if result.is_done() => Ok(()),
        Ok(result) => Err(Stop::Failed(format!("systemd ended the stop of {unit} with `{}`", result.0))),
        Err(e) => Err(e.into()),
    }
}

/// Starts a unit that is still held, whatever else has failed: a node without a kubelet is worse than any.
pub fn release(run: &mut Run<'_>) {
    if !std::mem::take(&mut run.live.kubelet.is_held) {
        return;
    }
    let unit = run.context.inventory.node.kubelet.unit.clone();
    run.context.progress.step(format!("starting {unit}"), LONGEST_JOB + GRACE);
    match run.context.host.services.start(&unit) {
        Ok(result) if result.is_done() => {}
        Ok(result) => run.report.notes.push(format!("systemd ended the start of {unit} with `{}`: start it", result.0)),
        Err(e) => run.report.notes.push(format!("{unit} could not be started: {}; start it", chain(&e))),
    }
    disarm(run.context.host);
}

/// Restarts the unit and sees it stable: with `Type=simple` systemd calls the job done although the process may be
/// dead already (reference: systemd 252, measured). Meanwhile it watches what the API says of the node.
pub fn restart_unit(run: &mut Run<'_>, unit: &str) -> Result<(), Stop> {
    let (host, policy) = (run.context.host, run.context.policy);
    if run.live.kubelet.is_up == Some(true) {
        return Ok(()); // restarted first, because it was down
    }
    let old = host.services.status(unit)?;
    let limit = policy.verify.timeout.0;
    let patience = old.restart_limit() + limit + REQUEST * 2;
    run.context.progress.step(format!("restarting {unit}"), patience);
    let watched = node_to_watch(run);
    await_end_of_second(host);
    let mut restart = restart(run, unit, &old)?;
    let stability = policy.verify.stability.0;
    run.context
        .progress
        .step(format!("seeing that {unit} stays up for {}", policy.verify.stability), stability + limit);
    host.clock.sleep(SETTLED);
    let mut sampled: Option<Duration> = None;
    let mut meanwhile = || {
        let now = host.clock.monotonic();
        let due = sampled.is_none_or(|last| now.saturating_sub(last) >= SAMPLE);
        if let Some((node, to)) = watched.as_ref().filter(|_| due) {
            restart.samples.push(sample(host, to, node));
            sampled = Some(now);
        }
    };
    let keep_going = || !run.context.should_stop();
    let until = limit.max(stability * 2);
    let stable = await_stable(host, unit, &old, stability, until, &keep_going, &mut meanwhile);
    run.live.kubelet.restart = Some(restart);
    let stable = match stable {
        Err(UnitUnproven::Interrupted { .. }) => return Err(Stop::Asked),
        other => other?,
    };
    run.live.kubelet.is_up = Some(true);
    story::activated(&run.dir.id, &Component::Kubelet.into(), "was restarted and stays up");
    run.report.restarted.push(Restarted {
        component: Component::Kubelet.into(),
        old_id: Some(old.invocation_id),
        new_id: Some(stable.invocation_id),
    });
    Ok(())
}

/// The restart itself.
fn restart(run: &mut Run<'_>, unit: &str, old: &UnitStatus) -> Result<Restart, Stop> {
    let host = run.context.host;
    let asked = host.clock.now();
    run.live.kubelet.restart = Some(Restart::at(asked));
    run.live.kubelet.is_up = Some(false);
    let result = match host.services.restart(unit) {
        Ok(result) => {
            run.live.kubelet.is_held &= !result.is_done();
            result
        }
        // the shutdown kills it anyway; the next start goes on
        Err(SystemdError::ShuttingDown { .. }) => return Err(Stop::Asked),
        Err(e) => return Err(e.into()),
    };
    let done = host.clock.now();
    if !result.is_done() {
        return Err(Stop::Failed(format!("systemd ended the restart of {unit} with `{}`", result.0)));
    }
    if unit_to_hold(run).is_some() {
        disarm(host);
    }
    let new = host.services.status(unit).ok();
    let gone = gone(old, new.as_ref(), asked, done);
    run.live.kubelet.restart = Some(Restart::at(gone));
    Ok(Restart::at(gone))
}

/// When the old process was gone: between its end and the next one's start the unit is inactive for a moment, and systemd
/// knows to the microsecond. Else it was gone when the job had ended.
fn gone(old: &UnitStatus, new: Option<&UnitStatus>, asked: Timestamp, done: Timestamp) -> Timestamp {
    let inactive = new.and_then(|n| n.inactive_since);
    // one that ran before was not inactive before it was asked to end
    inactive.filter(|at| *at <= done && (*at >= asked || !old.is_running())).unwrap_or(done)
}

/// Who is asked about the node while the unit is watched; nobody where nobody could be asked before: such a node is
/// waited for afterwards.
fn node_to_watch(run: &Run<'_>) -> Option<(String, Connection)> {
    run.before.node.as_ref()?;
    let (host, inventory) = (run.context.host, run.context.inventory);
    let node = inventory.node.name.clone()?;
    let to = answering(host, inventory, &node)?;
    Some((node, Connection { limit: SAMPLE_LIMIT, ..to }))
}

fn await_end_of_second(host: &Host) {
    let into = Duration::from_nanos(u64::try_from(host.clock.now().subsec_nanosecond()).unwrap_or_default());
    if into < RESTART_AT {
        host.clock.sleep(RESTART_AT.saturating_sub(into));
    } else if into > NOT_AFTER {
        host.clock.sleep((RESTART_AT + Duration::from_secs(1)).saturating_sub(into));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn unit(sub_state: &str, inactive_since: Option<Timestamp>) -> UnitStatus {
        UnitStatus {
            active_state: "active".into(),
            sub_state: sub_state.into(),
            main_pid: 1,
            inactive_since,
            ..UnitStatus::default()
        }
    }

    #[test]
    fn the_old_kubelet_was_gone_when_systemd_says_so_and_else_when_the_job_had_ended() {
        let (asked, done) = (at(500), at(900));
        let when = |old: &str, inactive| gone(&unit(old, None), Some(&unit("running", inactive)), asked, done);
        assert_eq!(when("running", Some(at(620))), at(620));
        // systemctl says no microseconds
        assert_eq!(when("running", None), done);
        assert_eq!(gone(&unit("running", None), None, asked, done), done);
        // a time of an earlier end, or of a clock that was set back meanwhile
        assert_eq!(when("running", Some(at(-60_000))), done);
        assert_eq!(when("running", Some(at(60_000))), done);
        // one that was held had ended before
        assert_eq!(when("dead", Some(at(-60_000))), at(-60_000));
    }
}
