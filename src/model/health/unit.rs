//! Does a unit run for good since it was started anew?

use std::time::Duration;

use super::Judgement;

/// A unit of the service manager at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UnitSample {
    /// Monotonic time of the look.
    pub at: Duration,
    /// `active`, `activating`, `failed`, …
    pub active_state: String,
    /// `running`, `auto-restart`, …
    pub sub_state: String,
    /// `success`, `exit-code`, …
    pub result: String,
    /// Changes at every start, automatic ones included.
    pub invocation_id: String,
    pub main_pid: u32,
    pub n_restarts: u32,
    pub exec_main_status: i32,
}

impl UnitSample {
    fn is_running(&self) -> bool {
        self.active_state == "active" && self.sub_state == "running" && self.main_pid != 0
    }

    fn ending(&self) -> String {
        match self.result.as_str() {
            "exit-code" | "success" => format!("exited with status {}", self.exec_main_status),
            "signal" | "core-dump" => format!("was killed by signal {}", self.exec_main_status),
            "timeout" => "did not start or stop in time".to_owned(),
            other => format!("ended with result {other}"),
        }
    }
}

/// Whether a unit runs for good since it was started anew. `before` is from before the start: its invocation is the one
/// that must be gone. "Active" alone means nothing: with `Type=simple` and `Restart=always` a unit that crashes in a
/// loop is active most of the time, and no start limit ends it. `samples` are in the order in which they were taken.
pub fn judge_unit(before: &UnitSample, samples: &[UnitSample], stability: Duration) -> Judgement {
    let mut since: Option<&UnitSample> = None;
    for sample in samples.iter().filter(|s| !s.invocation_id.is_empty() && s.invocation_id != before.invocation_id) {
        if let Some(reason) = crash(since, sample) {
            return Judgement::Failed(reason);
        }
        if sample.is_running() {
            since.get_or_insert(sample);
        }
    }
    let (Some(first), Some(last)) = (since, samples.last()) else {
        let state = samples.last().map_or("not looked at", |s| s.active_state.as_str());
        return Judgement::NotYet(format!("it has not been started anew ({state})"));
    };
    let stable = last.at.saturating_sub(first.at);
    if last.is_running() && stable >= stability {
        return Judgement::Healthy;
    }
    Judgement::NotYet(format!("running for {}s of {}s", stable.as_secs(), stability.as_secs()))
}

/// Why `sample`, of a new invocation, shows that the unit crashed since it was first seen running (`since`).
fn crash(since: Option<&UnitSample>, sample: &UnitSample) -> Option<String> {
    if sample.sub_state == "auto-restart" || sample.active_state == "failed" || !sample.result_is_fine() {
        return Some(sample.ending());
    }
    let first = since?;
    if sample.invocation_id != first.invocation_id || sample.n_restarts != first.n_restarts {
        return Some("it was started again in between".to_owned());
    }
    // by somebody else, which ends with success
    if matches!(sample.active_state.as_str(), "inactive" | "deactivating") {
        return Some("it was stopped".to_owned());
    }
    let changed = sample.main_pid != first.main_pid;
    changed.then(|| format!("its main process changed from {} to {}", first.main_pid, sample.main_pid))
}

impl UnitSample {
    fn result_is_fine(&self) -> bool {
        self.result.is_empty() || self.result == "success"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(at: u64, invocation: &str, active: &str, sub: &str, pid: u32) -> UnitSample {
        UnitSample {
            at: Duration::from_secs(at),
            active_state: active.into(),
            sub_state: sub.into(),
            result: "success".into(),
            invocation_id: invocation.into(),
            main_pid: pid,
            n_restarts: 0,
            exec_main_status: 0,
        }
    }

    fn running(at: u64) -> UnitSample {
        unit(at, "b", "active", "running", 7)
    }

    fn judge_after_a(samples: &[UnitSample]) -> Judgement {
        judge_unit(&unit(0, "a", "active", "running", 5), samples, Duration::from_secs(30))
    }

    #[test]
    fn a_unit_is_stable_when_the_same_new_process_runs_for_the_whole_time() {
        assert_eq!(judge_after_a(&[running(1), running(15), running(31)]), Judgement::Healthy);
        let starting = unit(0, "b", "activating", "start", 0);
        assert_eq!(judge_after_a(&[starting, running(2), running(32)]), Judgement::Healthy);
        // a restart out of a crash loop does not reset the counter
        let counted = |at| UnitSample { n_restarts: 9, ..running(at) };
        assert_eq!(judge_after_a(&[counted(1), counted(31)]), Judgement::Healthy);
    }

    #[test]
    fn a_unit_that_has_not_shown_enough_is_not_judged() {
        let old = unit(0, "a", "active", "running", 5);
        for samples in [
            vec![],
            vec![old.clone(), UnitSample { at: Duration::from_secs(60), ..old }],
            vec![running(1), running(30)],
        ] {
            assert!(matches!(judge_after_a(&samples), Judgement::NotYet(_)), "{samples:?}");
        }
        // how the old process ended says nothing about the new one
        let old_crash = UnitSample { result: "exit-code".into(), ..unit(0, "a", "failed", "failed", 0) };
        assert!(matches!(judge_after_a(&[old_crash]), Judgement::NotYet(_)));
    }

    #[test]
    fn a_unit_that_crashes_is_told_at_once_and_with_the_reason() {
        let exited = |sub: &str| UnitSample {
            result: "exit-code".into(),
            exec_main_status: 1,
            ..unit(5, "b", "activating", sub, 0)
        };
        for (bad, why) in [
            (exited("auto-restart"), "exited with status 1"),
            (UnitSample { active_state: "failed".into(), ..exited("failed") }, "exited with status 1"),
            (
                UnitSample { result: "signal".into(), exec_main_status: 9, ..exited("auto-restart") },
                "was killed by signal 9",
            ),
            (unit(5, "c", "active", "running", 8), "it was started again in between"),
            (UnitSample { n_restarts: 1, ..running(5) }, "it was started again in between"),
            (unit(5, "b", "active", "running", 8), "its main process changed from 7 to 8"),
            (unit(5, "b", "inactive", "dead", 0), "it was stopped"),
        ] {
            let judged = judge_after_a(&[running(1), bad.clone(), running(40)]);
            assert_eq!(judged, Judgement::Failed(why.into()), "{bad:?}");
        }
        assert_eq!(judge_after_a(&[exited("auto-restart")]), Judgement::Failed("exited with status 1".into()));
    }
}
