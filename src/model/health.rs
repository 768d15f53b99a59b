//! Judging what was observed: has the unit come back for good, does the node report Ready *again*? Pure: the
//! observations are gathered by `verify`.

use std::time::Duration;

use jiff::Timestamp;

/// How often the lease must have moved on after its first renewal since the restart. The kubelet renews every 10 s
/// (kubernetes: `component-helpers/apimachinery/lease`), so this takes about 20 s of a living kubelet.
pub const LEASE_ADVANCES: usize = 2;

/// What follows from the observations so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement {
    Healthy,
    /// Nothing speaks against it yet; look again.
    NotYet(String),
    /// Nobody answers who could say. Not a failure.
    CannotTell(String),
    /// It has failed, and waiting does not help.
    Failed(String),
}

/// What the API says about a node at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeSnapshot {
    /// Status of the condition Ready: `True`, `False`, `Unknown`.
    pub ready: String,
    /// The condition's reason and message, for people.
    pub reason: String,
    /// `lastHeartbeatTime` of the condition, in whole seconds of the node's clock.
    pub heartbeat: Option<Timestamp>,
    /// `renewTime` of the node's lease, by the node's clock.
    pub lease: Option<Timestamp>,
}

impl NodeSnapshot {
    pub fn is_ready(&self) -> bool {
        self.ready == "True"
    }

    // Unknown is written by the controller manager about a node that has gone silent: the worst
    fn rank(&self) -> u8 {
        match self.ready.as_str() {
            "True" => 2,
            "False" => 1,
            _ => 0,
        }
    }
}

/// One look at the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeSample {
    Seen(NodeSnapshot),
    /// No answer that says anything about the node, and why.
    NoAnswer(String),
}

/// Whether the node reports again what it reported before the restart, or better.
///
/// Neither `Ready=True` by itself (the object is stale while the kubelet is down) nor `lastTransitionTime` (it stays on
/// a quick restart) proves anything. What does: the first status after a start is always sent, so the heartbeat moves
/// past the restart (kubernetes: `pkg/kubelet/kubelet_node_status.go:syncNodeStatus`), and the lease goes on moving.
/// `restart_at` is the node's clock just before the restart; `samples` are in the order in which they were taken.
pub fn judge_node(before: Option<&NodeSnapshot>, samples: &[NodeSample], restart_at: Timestamp) -> Judgement {
    let now = match samples.last() {
        None => return Judgement::CannotTell("the node has not been looked at".into()),
        Some(NodeSample::NoAnswer(why)) => return Judgement::CannotTell(why.clone()),
        Some(NodeSample::Seen(now)) => now,
    };
    let renewals = renewals(samples, restart_at);
    if renewals == 0 {
        return Judgement::NotYet("its lease has not been renewed since the restart".into());
    }
    if renewals <= LEASE_ADVANCES {
        return Judgement::NotYet(format!("its lease was renewed {renewals} of {} times", LEASE_ADVANCES + 1));
    }
    if now.heartbeat.is_none_or(|beat| beat < next_second(restart_at)) {
        return Judgement::NotYet("its Ready condition is older than the restart".into());
    }
    match before {
        _ if now.is_ready() => Judgement::Healthy,
        // not Ready for another reason than ours: no worse is all that can be asked (DESIGN §7)
        Some(before) if !before.is_ready() && now.rank() >= before.rank() => Judgement::Healthy,
        _ => Judgement::NotYet(format!("Ready is {}: {}", now.ready, now.reason)),
    }
}

/// How many different renewals since the restart were seen. A clock that steps back does not count twice.
fn renewals(samples: &[NodeSample], restart_at: Timestamp) -> usize {
    let (mut last, mut count) = (restart_at, 0);
    for sample in samples {
        if let NodeSample::Seen(NodeSnapshot { lease: Some(renewed), .. }) = sample
            && *renewed > last
        {
            (last, count) = (*renewed, count + 1);
        }
    }
    count
}

/// Heartbeats have whole seconds: one of the restart's own second may be from before it.
fn next_second(at: Timestamp) -> Timestamp {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if whole == at { at } else { Timestamp::from_second(at.as_second().saturating_add(1)).unwrap_or(at) }
}

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

    const RESTART: &str = "2026-11-22T05:50:20.4Z";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(RESTART.parse::<Timestamp>().unwrap().as_second() + seconds).unwrap()
    }

    fn seen(ready: &str, heartbeat: i64, lease: i64) -> NodeSample {
        NodeSample::Seen(snapshot(ready, heartbeat, lease))
    }

    fn snapshot(ready: &str, heartbeat: i64, lease: i64) -> NodeSnapshot {
        let (heartbeat, lease) = (Some(at(heartbeat)), Some(at(lease)));
        NodeSnapshot { ready: ready.into(), reason: "why".into(), heartbeat, lease }
    }

    fn judge(before: Option<&NodeSnapshot>, samples: &[NodeSample]) -> &'static str {
        match judge_node(before, samples, RESTART.parse().unwrap()) {
            Judgement::Healthy => "healthy",
            Judgement::NotYet(_) => "not yet",
            Judgement::CannotTell(_) => "cannot tell",
            Judgement::Failed(_) => "failed",
        }
    }

    #[test]
    fn ready_again_takes_a_new_heartbeat_and_a_lease_that_goes_on() {
        let ready = snapshot("True", -5, -2);
        let silent = || NodeSample::NoAnswer("connection refused".into());
        let table: [(&str, &str, Vec<NodeSample>); 12] = [
            ("nothing was looked at", "cannot tell", vec![]),
            ("nobody answers", "cannot tell", vec![silent()]),
            ("the stale object says Ready", "not yet", vec![seen("True", -5, -2); 5]),
            ("the lease was renewed once", "not yet", vec![seen("True", 2, 2); 5]),
            ("the lease moved on once", "not yet", vec![seen("True", 2, 2), seen("True", 2, 12)]),
            ("twice", "healthy", vec![seen("True", 2, 2), seen("True", 2, 12), seen("True", 2, 22)]),
            (
                "the heartbeat stays old",
                "not yet",
                vec![seen("True", -5, 2), seen("True", -5, 12), seen("True", -5, 22)],
            ),
            (
                "the heartbeat is of the restart's own second",
                "not yet",
                vec![seen("True", 0, 2), seen("True", 0, 12), seen("True", 0, 22)],
            ),
            ("the very next second", "healthy", vec![seen("True", 1, 2), seen("True", 1, 12), seen("True", 1, 22)]),
            (
                "the kubelet lives and is not Ready",
                "not yet",
                vec![seen("False", 2, 2), seen("False", 2, 12), seen("False", 2, 22)],
            ),
            (
                "the API went away at the end",
                "cannot tell",
                vec![seen("True", 2, 2), seen("True", 2, 12), seen("True", 2, 22), silent()],
            ),
            (
                "and was away in between",
                "healthy",
                vec![seen("True", 2, 2), silent(), seen("True", 2, 12), silent(), seen("True", 2, 22)],
            ),
        ];
        for (what, expected, samples) in table {
            assert_eq!(judge(Some(&ready), &samples), expected, "{what}");
        }
    }

    #[test]
    fn a_lease_that_steps_back_with_the_clock_is_not_counted_twice() {
        let samples = [seen("True", 2, 12), seen("True", 2, 2), seen("True", 2, 12), seen("True", 2, 3)];
        assert_eq!(judge(None, &samples), "not yet");
    }

    #[test]
    fn a_node_that_was_not_ready_is_judged_by_no_worse() {
        let alive = |ready: &str| [2, 12, 22].map(|lease| seen(ready, 2, lease));
        for (before, after, expected) in [
            ("False", "False", "healthy"),
            ("False", "True", "healthy"),
            ("False", "Unknown", "not yet"),
            ("Unknown", "False", "healthy"),
            ("Unknown", "Unknown", "healthy"),
            ("True", "Unknown", "not yet"),
        ] {
            assert_eq!(judge(Some(&snapshot(before, -60, -60)), &alive(after)), expected, "{before} to {after}");
        }
        // nobody could ask before: only Ready is good enough
        assert_eq!(judge(None, &alive("False")), "not yet");
        assert_eq!(judge(None, &alive("True")), "healthy");
        // a kubelet that does not report is not excused
        assert_eq!(judge(Some(&snapshot("False", -60, -60)), &[seen("False", -60, -60)]), "not yet");
    }

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
