//! Whether a unit runs for good after it was started anew.

use std::time::Duration;

use super::pause;
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::systemd::UnitStatus;
use crate::model::health::{Judgement, UnitSample, judge_unit};

/// Between looks. An automatic restart waits for `RestartSec` (kubelet: 10 s), so none is missed; and it would show by
/// the invocation anyway.
const LOOK: Duration = Duration::from_secs(1);

/// Why a unit is not proven to be stable.
#[derive(Debug, thiserror::Error)]
pub enum UnitUnproven {
    /// It crashed, was started again or was stopped.
    #[error("{unit} failed: {reason}{}", last_line.as_ref().map(|l| format!("; its last line was: {l}")).unwrap_or_default())]
    Failed { unit: String, reason: String, last_line: Option<String> },
    #[error("{unit} is not stable after {}s: {reason}", limit.as_secs())]
    NotStable { unit: String, limit: Duration, reason: String },
    /// Says nothing about the unit.
    #[error("{unit} cannot be observed: {reason}")]
    CannotTell { unit: String, reason: String },
    #[error("the wait for {unit} was interrupted")]
    Interrupted { unit: String },
}

impl UnitUnproven {
    pub fn cannot_tell(&self) -> bool {
        matches!(self, Self::CannotTell { .. } | Self::Interrupted { .. })
    }
}

/// Looks at the unit once a second until it has run for `stability` in an invocation other than that of `before`
/// (its status before it was restarted or stopped), has failed for sure, or `limit` is over. `meanwhile` is called
/// once for each check: other proofs that need time go on beside this one.
///
/// # Errors
/// [`UnitUnproven`].
pub fn await_stable(
    host: &Host,
    unit: &str,
    before: &UnitStatus,
    stability: Duration,
    limit: Duration,
    keep_going: &dyn Fn() -> bool,
    meanwhile: &mut dyn FnMut(),
) -> Result<UnitStatus, UnitUnproven> {
    let clock = host.clock.as_ref();
    let until = Deadline::after(clock, limit);
    let before = sample(before, Duration::ZERO);
    let mut samples = Vec::new();
    let mut silence: Option<String>;
    loop {
        match host.services.status(unit) {
            Err(e) => silence = Some(e.to_string()),
            Ok(status) => {
                silence = None;
                samples.push(sample(&status, clock.monotonic()));
                match judge_unit(&before, &samples, stability) {
                    Judgement::Healthy => return Ok(status),
                    Judgement::Failed(reason) => return Err(failed(host, unit, &status, reason)),
                    Judgement::NotYet(_) | Judgement::Undecided(_) | Judgement::CannotTell(_) => {}
                }
            }
        }
        meanwhile();
        if !pause(host, LOOK, until, keep_going) {
            break;
        }
    }
    let unit = unit.to_owned();
    if !keep_going() {
        return Err(UnitUnproven::Interrupted { unit });
    }
    Err(match (silence, judge_unit(&before, &samples, stability)) {
        (Some(reason), _) | (None, Judgement::CannotTell(reason)) => UnitUnproven::CannotTell { unit, reason },
        (None, Judgement::NotYet(reason) | Judgement::Undecided(reason) | Judgement::Failed(reason)) => {
            UnitUnproven::NotStable { unit, limit, reason }
        }
        (None, Judgement::Healthy) => UnitUnproven::NotStable { unit, limit, reason: "it came too late".into() },
    })
}

fn failed(host: &Host, unit: &str, status: &UnitStatus, reason: String) -> UnitUnproven {
    let last_line = host.services.log_tail(unit, &status.invocation_id).into_iter().rfind(|l| !l.trim().is_empty());
    UnitUnproven::Failed { unit: unit.to_owned(), reason, last_line }
}

fn sample(status: &UnitStatus, at: Duration) -> UnitSample {
    UnitSample {
        at,
        active_state: status.active_state.clone(),
        sub_state: status.sub_state.clone(),
        result: status.result.clone(),
        invocation_id: status.invocation_id.clone(),
        main_pid: status.main_pid,
        n_restarts: status.n_restarts,
        exec_main_status: status.exec_main_status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{Script, host_with};

    const STABLE: Duration = Duration::from_secs(30);
    const LIMIT: Duration = Duration::from_secs(120);

    fn status(invocation: &str, sub: &str, pid: u32) -> UnitStatus {
        UnitStatus {
            active_state: if sub == "running" { "active" } else { "activating" }.into(),
            sub_state: sub.into(),
            result: "success".into(),
            invocation_id: invocation.into(),
            main_pid: pid,
            ..UnitStatus::default()
        }
    }

    fn wait(script: Script) -> (Result<UnitStatus, UnitUnproven>, Duration) {
        let host = host_with(script);
        let result =
            await_stable(&host, "kubelet.service", &status("a", "running", 5), STABLE, LIMIT, &|| true, &mut || {});
        (result, host.clock.monotonic())
    }

    #[test]
    fn a_process_that_stays_is_stable_after_the_stability_time() {
        let (result, took) = wait(Script::units([Ok(status("a", "running", 5)), Ok(status("b", "running", 7))]));
        assert_eq!(result.unwrap().main_pid, 7);
        assert_eq!(took.as_secs(), 31);
    }

    #[test]
    fn a_crash_ends_the_wait_at_once_with_the_last_line() {
        let crashed = UnitStatus { result: "exit-code".into(), exec_main_status: 1, ..status("b", "auto-restart", 0) };
        let (result, took) = wait(Script::units([Ok(status("b", "running", 7)), Ok(crashed)]));
        assert_eq!(
            result.unwrap_err().to_string(),
            "kubelet.service failed: exited with status 1; its last line was: the last line"
        );
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_unit_that_never_starts_is_not_stable_and_a_silent_manager_cannot_tell() {
        let (result, took) = wait(Script::units([Ok(status("b", "start-pre", 0))]));
        assert!(matches!(result, Err(UnitUnproven::NotStable { .. })), "{result:?}");
        assert_eq!(took, LIMIT);
        let (result, _) = wait(Script::units([Ok(status("b", "running", 7)), Err(())]));
        assert!(result.unwrap_err().cannot_tell());
    }

    #[test]
    fn a_manager_that_is_silent_for_a_while_is_waited_for() {
        let (result, _) = wait(Script::units([Err(()), Err(()), Ok(status("b", "running", 7))]));
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn an_interrupted_wait_is_no_failure() {
        let host = host_with(Script::units([Ok(status("b", "running", 7))]));
        let result =
            await_stable(&host, "kubelet.service", &status("a", "running", 5), STABLE, LIMIT, &|| false, &mut || {});
        assert!(matches!(result, Err(UnitUnproven::Interrupted { .. })), "{result:?}");
    }
}
