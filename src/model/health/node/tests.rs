use proptest::prelude::*;

use super::*;

/// When the old kubelet was gone.
const GONE: &str = "2026-11-22T05:50:20.4Z";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(GONE.parse::<Timestamp>().unwrap().as_second() + seconds).unwrap()
}

fn seen(ready: &str, heartbeat: i64, lease: i64) -> NodeSample {
    NodeSample::Seen(snapshot(ready, heartbeat, lease))
}

fn snapshot(ready: &str, heartbeat: i64, lease: i64) -> NodeSnapshot {
    let (heartbeat, lease) = (Some(at(heartbeat)), Some(at(lease)));
    NodeSnapshot { ready: ready.into(), reason: "why".into(), heartbeat, lease, ..NodeSnapshot::default() }
}

fn word(judged: &Judgement) -> &'static str {
    match judged {
        Judgement::Healthy => "healthy",
        Judgement::NotYet(_) => "not yet",
        Judgement::Undecided(_) => "undecided",
        Judgement::CannotTell(_) => "cannot tell",
        Judgement::Failed(_) => "failed",
    }
}

fn judge(before: Option<&NodeSnapshot>, samples: &[NodeSample]) -> &'static str {
    word(&judge_node(before, samples, GONE.parse().unwrap()))
}

#[test]
fn a_lease_that_moves_on_rarely_is_waited_for_longer_and_one_that_hardly_does_is_not() {
    for (seconds, interval, more) in [
        (None, 10, 0),
        (Some(40), 10, 0),
        (Some(10), 2, 0),
        (Some(600), 150, 420),
        (Some(1200), 300, 870),
        (Some(1240), 310, 0),
        (Some(u32::MAX), 1_073_741_823, 0),
    ] {
        let node = NodeSnapshot { lease_seconds: seconds, ..snapshot("True", 2, 2) };
        let times = (node.renewal_interval().as_secs(), node.more_time().as_secs());
        assert_eq!(times, (interval, more), "{seconds:?}");
        let once = word(&judge_node(None, &[NodeSample::Seen(node)], GONE.parse().unwrap()));
        assert_eq!(once, if interval > 300 { "healthy" } else { "not yet" }, "{seconds:?}");
    }
}

#[test]
fn ready_again_takes_a_new_heartbeat_and_a_lease_that_goes_on() {
    let ready = snapshot("True", -5, -2);
    let silent = || NodeSample::NoAnswer("connection refused".into());
    let beats = |beats: [i64; 3]| [2, 12, 22].into_iter().zip(beats).map(|(l, b)| seen("True", b, l)).collect();
    let table: [(&str, &str, Vec<NodeSample>); 15] = [
        ("nothing was checked", "cannot tell", vec![]),
        ("nobody answers", "cannot tell", vec![silent()]),
        ("the stale object says Ready", "not yet", vec![seen("True", -5, -2); 5]),
        ("the lease was renewed once", "not yet", vec![seen("True", 2, 2); 5]),
        ("the lease moved on once", "not yet", vec![seen("True", 2, 2), seen("True", 2, 12)]),
        ("twice", "healthy", beats([2, 2, 2])),
        ("the heartbeat stays old", "not yet", beats([-5, -5, -5])),
        ("the heartbeat may be the old kubelet's last", "undecided", beats([0, 0, 0])),
        ("it came after the old kubelet had gone, and may have been on its way", "undecided", beats([-5, 0, 0])),
        ("so may one of an earlier second", "undecided", beats([-5, -1, -1])),
        ("it has no two on its way", "healthy", beats([-5, -1, 0])),
        ("the very next second", "healthy", beats([1, 1, 1])),
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
fn a_lease_that_jumps_back_and_forth_is_not_counted_twice() {
    let samples = [seen("True", 2, 12), seen("True", 2, 2), seen("True", 2, 12), seen("True", 2, 3)];
    assert_eq!(judge(None, &samples), "not yet");
}

#[test]
fn a_clock_that_was_set_back_behind_the_restart_does_not_hide_a_living_kubelet() {
    let hour = 3600;
    // the old kubelet's words, then the new one's, by a clock that is an hour behind
    let mut samples = vec![seen("True", -5, -2)];
    samples.extend([5, 15, 25, 35].map(|s| seen("True", 5 - hour, s - hour)));
    assert_eq!(judge(None, &samples), "undecided");
    samples.push(seen("True", 305 - hour, 306 - hour));
    assert_eq!(judge(None, &samples), "healthy");
    // nor does it make a dead one alive
    assert_eq!(judge(None, &vec![seen("True", -5, -2); 9]), "not yet");
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

/// A restart, in milliseconds of one clock.
#[derive(Clone, Debug)]
struct Story {
    /// The old kubelet's last two status reports. The last may be stored only after its end.
    old: [i64; 2],
    stored_late: i64,
    gone: i64,
    /// The new kubelet's status reports, in order; empty: it never posts.
    posts: Vec<i64>,
    /// Its first renewal of the lease.
    lease: i64,
    /// First sample, and the time between two.
    check: (i64, i64),
}

/// Far above anything in a story, so that no subtraction leaves the years that exist.
const EPOCH: i64 = 1_700_000_000_000;

impl Story {
    fn instant(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(EPOCH + ms).unwrap()
    }

    /// What the API server shows at an instant.
    fn shows(&self, ms: i64) -> NodeSample {
        let stored = |i: usize| self.old[i] + if i == 1 { self.stored_late } else { 0 };
        let old = (0..2).filter(|i| stored(*i) <= ms).map(|i| self.old[i]);
        let beat = old.chain(self.posts.iter().copied().filter(|p| *p <= ms)).max().unwrap_or(-600_000);
        // every 10 s: the old kubelet's until its end, then the new one's
        let since = if ms >= self.lease { self.lease } else { self.gone - 9_000 };
        let lease = since + (ms.min(if ms >= self.lease { ms } else { self.gone }) - since).max(0) / 10_000 * 10_000;
        let heartbeat = Timestamp::from_second(Self::instant(beat).as_second()).ok();
        let lease = Some(Self::instant(lease));
        NodeSample::Seen(NodeSnapshot { ready: "True".into(), heartbeat, lease, ..NodeSnapshot::default() })
    }

    /// Every judgement from the first sample until `end`.
    fn judgements(&self, end: i64) -> Vec<(i64, Judgement)> {
        let (mut samples, mut judged, mut now) = (Vec::new(), Vec::new(), self.check.0);
        while now <= end {
            samples.push(self.shows(now));
            judged.push((now, judge_node(None, &samples, Self::instant(self.gone))));
            now += self.check.1;
        }
        judged
    }
}

/// The new kubelet's reports after its start: 1.20 posts first after 6 to 12 s, 1.36 after 0.7 s, and the next one comes
/// after 2.5 to 7.5 minutes (measured; kubernetes: `calculateDelay`), or 10 s where something changed.
fn reports() -> impl Strategy<Value = Vec<i64>> {
    let first = prop_oneof![20..1_500_i64, 6_000..12_000_i64];
    let later = prop::collection::vec(prop_oneof![Just(10_000_i64), 150_000..450_000_i64], 0..4);
    (first, later).prop_map(|(first, later)| {
        let mut all = vec![first];
        for wait in later {
            all.push(all.last().unwrap() + wait);
        }
        all
    })
}

fn story(reports: impl Strategy<Value = Vec<i64>>) -> impl Strategy<Value = Story> {
    // the old kubelet's last words come in any distance from its end, and may be stored up to a minute later (kubernetes:
    // kube-apiserver, `--request-timeout`)
    let old = (0..1_000_i64, 0..400_000_i64, 0..60_000_i64);
    let restart = (0..1_000_i64, 0..3_000_i64, 50..2_000_i64);
    let check = (0..2_000_i64, 500..3_000_i64);
    (old, restart, check, reports).prop_map(|((last, earlier, late), (gone, pause, lease), (first, every), reports)| {
        let started = gone + pause;
        Story {
            old: [gone - last - earlier, gone - last],
            stored_late: late,
            gone,
            posts: reports.into_iter().map(|after| started + after).collect(),
            lease: started + lease,
            check: (gone + 250 + first, every),
        }
    })
}

/// `verify.timeout`, as shipped.
const LIMIT: i64 = 180_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_kubelet_that_runs_and_never_posts_is_never_taken_for_ready(story in story(Just(Vec::new()))) {
        for (ms, judged) in story.judgements(LIMIT * 4) {
            prop_assert!(judged != Judgement::Healthy, "at {ms}");
        }
    }

    #[test]
    fn a_kubelet_that_posts_is_ready_only_then_and_is_never_taken_for_failed(story in story(reports())) {
        for (ms, judged) in story.judgements(LIMIT) {
            prop_assert!(judged != Judgement::Healthy || story.posts[0] <= ms, "too early at {ms}");
            if ms > LIMIT - story.check.1 {
                prop_assert!(matches!(judged, Judgement::Healthy | Judgement::Undecided(_)), "{judged:?} at {ms}");
            }
        }
    }

    #[test]
    fn what_is_undecided_is_decided_by_the_next_report(story in story(reports())) {
        if let Some(next) = story.posts.get(1) {
            let end = next.max(&30_000) + story.check.1;
            let (ms, last) = story.judgements(end).pop().unwrap();
            prop_assert_eq!(last, Judgement::Healthy, "at {}", ms);
        }
    }

    #[test]
    fn a_restart_in_the_middle_of_a_second_is_decided_within_the_stability_time(
        story in story(Just(Vec::new())), gone in 500..1_000_i64, pause in 0..500_i64, first in 500..12_000_i64,
    ) {
        // the new kubelet's first report then has a later second than any of the old one's
        let moved = gone - story.gone;
        let story = Story {
            old: story.old.map(|ms| ms + moved),
            gone,
            posts: vec![gone + pause + first],
            lease: gone + pause + 1_000,
            check: (gone + 250, 2_000),
            ..story
        };
        let (_, last) = story.judgements(30_000).pop().unwrap();
        prop_assert_eq!(last, Judgement::Healthy);
    }
}
