//! Whether the node reports Ready again.

use std::time::Duration;

use jiff::Timestamp;

use super::pause;
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::kube::{Connection, KubeError};
use crate::model::health::{Judgement, NodeSample, NodeSnapshot, judge_node};
use crate::model::report::NodeSeen;

/// Between looks: finer than the lease's 10 s, so that no renewal is missed.
const LOOK: Duration = Duration::from_secs(2);
/// By then a kubelet that runs has posted its status once more: half as much again as `nodeStatusReportFrequency`
/// (5 min; kubernetes: `pkg/kubelet/kubelet_node_status.go:calculateDelay`), and the 10 s between two of its checks.
pub const NEXT_REPORT: Duration = Duration::from_secs(8 * 60);

/// A restart of the kubelet, and what the API has said of its node since.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The old kubelet was gone at this time of the node's clock: nothing of its own is dated later.
    pub gone: Timestamp,
    /// The first is no older than [`SETTLED`](crate::model::health::SETTLED) after `gone`.
    pub samples: Vec<NodeSample>,
}

impl Restart {
    pub fn at(gone: Timestamp) -> Self {
        Self { gone, samples: Vec::new() }
    }
}

/// How the node was before anything was touched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeWatch {
    node: String,
    /// None: the API could not be asked.
    before: Option<NodeSnapshot>,
    must_be_ready: bool,
}

impl NodeWatch {
    /// Takes the snapshot that is compared with later.
    pub fn start(host: &Host, connection: &Connection, node: &str) -> Self {
        let before = match sample(host, connection, node) {
            NodeSample::Seen(snapshot) => Some(snapshot),
            NodeSample::NoAnswer(_) => None,
        };
        Self::resume(node, before)
    }

    /// As [`start`](Self::start), with a snapshot that was taken earlier (by a process that died since).
    pub fn resume(node: &str, before: Option<NodeSnapshot>) -> Self {
        Self { node: node.to_owned(), before, must_be_ready: false }
    }

    /// Nothing but Ready will do, although the node was not Ready before: where an expired certificate was the cause,
    /// "no worse" would prove nothing.
    #[must_use]
    pub fn demanding_ready(mut self) -> Self {
        self.must_be_ready = true;
        self
    }

    pub fn before(&self) -> Option<&NodeSnapshot> {
        self.before.as_ref()
    }

    /// Checks until the node is as healthy as before.
    ///
    /// The time in which nobody answers does not count against `limit`; all in all it takes twice `limit` at most, or
    /// until [`NEXT_REPORT`] where only the kubelet's next report can decide. What is not proven by then is `Failed` if
    /// the node could be seen, `CannotTell` if not; an interrupted wait ends with `CannotTell`.
    pub fn await_ready(
        &self,
        host: &Host,
        connection: &Connection,
        restart: &Restart,
        limit: Duration,
        keep_going: &dyn Fn() -> bool,
    ) -> (NodeSeen, Judgement) {
        let clock = host.clock.as_ref();
        let compared = self.before.as_ref().filter(|_| !self.must_be_ready);
        let (mut samples, mut unseen) = (restart.samples.clone(), Duration::ZERO);
        let (start, end) = (clock.monotonic(), Deadline::after(clock, limit.saturating_mul(2)));
        let decided = Deadline::after(clock, NEXT_REPORT.max(limit));
        let judgement = loop {
            let asked = clock.monotonic();
            samples.push(sample(host, connection, &self.node));
            let judged = judge_node(compared, &samples, restart.gone);
            if matches!(judged, Judgement::Healthy | Judgement::Failed(_)) {
                break judged;
            }
            let undecided = matches!(judged, Judgement::Undecided(_));
            let interrupted = !pause(host, LOOK, if undecided { decided } else { end }, keep_going) && !keep_going();
            if matches!(judged, Judgement::CannotTell(_)) {
                unseen = unseen.saturating_add(clock.monotonic().saturating_sub(asked));
            }
            if interrupted {
                break Judgement::CannotTell("the wait was interrupted".to_owned());
            }
            let seen = clock.monotonic().saturating_sub(start).saturating_sub(unseen);
            let over = if undecided { decided.is_over(clock) } else { end.is_over(clock) || seen >= limit };
            if over {
                break at_the_end(judged);
            }
        };
        (self.report(&samples, &judgement), judgement)
    }

    fn report(&self, samples: &[NodeSample], judgement: &Judgement) -> NodeSeen {
        let last = samples.iter().rev().find_map(|s| match s {
            NodeSample::Seen(snapshot) => Some(snapshot),
            NodeSample::NoAnswer(_) => None,
        });
        let detail = match (judgement, last) {
            (Judgement::Healthy, Some(s)) if s.is_ready() => heartbeat("Ready again", s),
            (Judgement::Healthy, Some(s)) => heartbeat(&format!("no worse than before (Ready is {})", s.ready), s),
            (Judgement::Healthy, None) => "no worse than before".to_owned(),
            (Judgement::NotYet(why) | Judgement::Undecided(why) | Judgement::Failed(why), _) => {
                format!("not Ready again: {why}")
            }
            (Judgement::CannotTell(why), _) => format!("cannot tell: {why}"),
        };
        let ready_after = match judgement {
            Judgement::CannotTell(_) => None,
            // a stale True is no Ready
            Judgement::Healthy => last.map(NodeSnapshot::is_ready),
            Judgement::NotYet(_) | Judgement::Undecided(_) | Judgement::Failed(_) => Some(false),
        };
        NodeSeen { ready_before: self.before.as_ref().map(NodeSnapshot::is_ready), ready_after, detail }
    }
}

fn at_the_end(judged: Judgement) -> Judgement {
    match judged {
        Judgement::NotYet(why) => Judgement::Failed(why),
        Judgement::Undecided(why) => Judgement::Failed(format!("no other has come: {why}")),
        other => other,
    }
}

fn heartbeat(what: &str, snapshot: &NodeSnapshot) -> String {
    match snapshot.heartbeat {
        Some(at) => format!("{what}, heartbeat of {at}"),
        None => what.to_owned(),
    }
}

/// What the API says of the node now.
pub fn sample(host: &Host, connection: &Connection, node: &str) -> NodeSample {
    let ask = || -> Result<NodeSnapshot, KubeError> {
        let ready = host.kube.node_ready(connection, node)?;
        let lease = host.kube.node_lease(connection, node)?;
        let reason = format!("{}: {}", ready.reason, ready.message);
        Ok(NodeSnapshot {
            ready: ready.status,
            reason,
            heartbeat: ready.heartbeat,
            lease: lease.renewed,
            lease_seconds: lease.seconds,
        })
    };
    ask().map_or_else(|e| NodeSample::NoAnswer(e.to_string()), NodeSample::Seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{Script, connection, host_with};

    const LIMIT: Duration = Duration::from_secs(180);

    fn ready(heartbeat: i64, lease: i64) -> NodeSnapshot {
        let at = |s| Timestamp::from_second(1_000_000 + s).ok();
        let (heartbeat, lease) = (at(heartbeat), at(lease));
        NodeSnapshot { ready: "True".into(), reason: "r".into(), heartbeat, lease, lease_seconds: Some(40) }
    }

    fn wait(samples: Vec<Option<NodeSnapshot>>) -> (NodeSeen, Judgement, Duration) {
        let host = host_with(Script::nodes(samples));
        let watch = NodeWatch::resume("n1", Some(ready(-60, -5)));
        let restart = Timestamp::from_second(1_000_000).unwrap();
        let (seen, judgement) = watch.await_ready(&host, &connection(), &Restart::at(restart), LIMIT, &|| true);
        (seen, judgement, host.clock.monotonic())
    }

    #[test]
    fn a_node_that_comes_back_is_ready_again_as_soon_as_its_lease_moved_twice() {
        let mut samples = vec![Some(ready(-60, -5)), None, None];
        samples.extend([1, 11, 21].map(|lease| Some(ready(2, lease))));
        let (seen, judgement, took) = wait(samples);
        assert_eq!(judgement, Judgement::Healthy);
        assert_eq!((seen.ready_before, seen.ready_after), (Some(true), Some(true)));
        assert_eq!(seen.detail, "Ready again, heartbeat of 1970-01-12T13:46:42Z");
        assert_eq!(took.as_secs(), 10);
    }

    #[test]
    fn a_status_that_may_be_the_old_kubelet_s_waits_for_the_next_report_beyond_the_limit() {
        // of the very second in which the old kubelet ended, whoever posted it
        let undecided = [1, 11, 21].map(|lease| Some(ready(0, lease)));
        let (_, judgement, took) = wait(undecided.to_vec());
        assert!(matches!(&judgement, Judgement::Failed(why) if why.starts_with("no other has come")), "{judgement:?}");
        assert_eq!(took, NEXT_REPORT);
        let mut samples = undecided.to_vec();
        samples.extend(vec![Some(ready(0, 31)); 150]);
        samples.push(Some(ready(300, 301)));
        let (_, judgement, took) = wait(samples);
        assert_eq!(judgement, Judgement::Healthy);
        assert!(took > LIMIT && took < NEXT_REPORT, "{took:?}");
    }

    #[test]
    fn a_node_whose_object_stays_stale_has_failed_at_the_limit() {
        let (seen, judgement, took) = wait(vec![Some(ready(-60, -5))]);
        assert_eq!(judgement, Judgement::Failed("its lease has not been renewed since the restart".into()));
        assert_eq!((seen.ready_after, took), (Some(false), LIMIT));
    }

    #[test]
    fn an_api_that_is_silent_extends_the_wait_and_then_cannot_tell() {
        let (seen, judgement, took) = wait(vec![None]);
        assert!(matches!(judgement, Judgement::CannotTell(_)), "{judgement:?}");
        assert_eq!((seen.ready_after, took), (None, LIMIT * 2));
        // silent for longer than the limit, and then the node turns out to be well
        let mut samples = vec![None; 120];
        samples.extend([1, 11, 21].map(|lease| Some(ready(2, lease))));
        assert_eq!(wait(samples).1, Judgement::Healthy);
    }

    #[test]
    fn a_node_that_expired_certificates_had_stopped_must_be_ready_and_not_just_no_worse() {
        let silent = NodeSnapshot { ready: "Unknown".into(), ..ready(-600, -600) };
        let alive = |lease| Some(NodeSnapshot { ready: "False".into(), ..ready(2, lease) });
        let restart = Timestamp::from_second(1_000_000).unwrap();
        let wait = |watch: NodeWatch| {
            let host = host_with(Script::nodes([1, 11, 21].map(alive)));
            watch.await_ready(&host, &connection(), &Restart::at(restart), LIMIT, &|| true).1
        };
        let watch = NodeWatch::resume("n1", Some(silent));
        assert_eq!(wait(watch.clone()), Judgement::Healthy);
        assert!(matches!(wait(watch.demanding_ready()), Judgement::Failed(_)));
    }

    #[test]
    fn an_interrupted_wait_cannot_tell() {
        let host = host_with(Script::nodes(vec![Some(ready(-60, -5))]));
        let restart = Timestamp::from_second(1_000_000).unwrap();
        let watch = NodeWatch::start(&host, &connection(), "n1");
        assert!(watch.before().is_some_and(NodeSnapshot::is_ready));
        let (_, judgement) = watch.await_ready(&host, &connection(), &Restart::at(restart), LIMIT, &|| false);
        assert!(matches!(judgement, Judgement::CannotTell(_)), "{judgement:?}");
    }
}
