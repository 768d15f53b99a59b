//! "Ready again" is proven by a status that the new kubelet posted: whichever part of a second the restart falls into,
//! however soon or late the kubelet posts, and never where it does not post at all.

use std::sync::Arc;
use std::time::Duration;

use crate::fake;
use certwarden::model::planner::Selection;
use certwarden::model::report::{Outcome, Report};
use fake::node::{Node, assert_outcome, assert_unchanged, new_files};
use fake::socket::{Uptake, with_sockets};
use jiff::{SignedDuration, Timestamp};

/// A due node whose clock shows so many milliseconds of a second.
fn node_at(milliseconds: i64, first_status: SignedDuration) -> Node {
    let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
    node.fake.world(|w| {
        let second = Timestamp::from_second(w.now.as_second()).unwrap();
        w.now = second + SignedDuration::from_millis(milliseconds);
        w.first_status = first_status;
    });
    node
}

/// `verify.stability`, as shipped.
const STABILITY: i64 = 30;
/// A socket that did not answer before either (here the kubelet's) is waited for so long.
const SILENT: i64 = 30;

fn seconds_of(report: &Report) -> i64 {
    report.ended_at.duration_since(report.started_at).as_secs()
}

#[test]
fn a_restart_is_proven_at_every_offset_within_the_second_and_takes_no_longer_than_the_stability_time() {
    // 1.36 in the second of its start or the next one, 1.20 long after
    for first in [600, 700, 1_200, 12_000] {
        for offset in (0..1_000).step_by(50) {
            let node = node_at(offset, SignedDuration::from_millis(first));
            let report = node.renew_due();
            assert_outcome(&report, Outcome::Verified);
            let detail = report.node.as_ref().map(|n| n.detail.clone()).unwrap_or_default();
            assert!(detail.starts_with("Ready again, heartbeat of"), "{detail}");
            let took = seconds_of(&report);
            assert!(took <= STABILITY + SILENT + 2, "{first} ms, {offset} ms: {took} s");
        }
    }
}

#[test]
fn what_only_the_next_report_can_decide_is_waited_for_and_not_rolled_back() {
    // posted before anybody could look
    let node = node_at(0, SignedDuration::from_millis(100));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let took = seconds_of(&report);
    assert!((300..400).contains(&took), "{took} s");
}

#[test]
fn a_kubelet_that_renews_its_lease_and_never_posts_its_status_is_rolled_back() {
    for offset in (0..1_000).step_by(250) {
        let node = node_at(offset, SignedDuration::from_millis(700));
        node.fake.world(|w| w.never_posts_if = Some(new_files));
        let before = node.live();
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RolledBack);
        assert!(report.reason.contains("its Ready condition is older than the restart"), "{}", report.reason);
        assert_unchanged(&before, &node);
    }
}

#[test]
fn a_lease_of_ten_minutes_or_of_hours_is_waited_for_by_its_own_measure_and_not_rolled_back() {
    for (seconds, least, most) in [(600, 300, 340), (1200, 600, 640), (86_400, 0, 100)] {
        let node = node_at(0, SignedDuration::from_millis(700));
        node.fake.world(|w| w.lease_seconds = seconds);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        let took = seconds_of(&report);
        assert!((least..most).contains(&took), "a lease of {seconds} s: {took} s");
    }
}

#[test]
fn a_kubelet_that_dies_is_rolled_back_whatever_its_lease() {
    let node = node_at(0, SignedDuration::from_millis(700));
    node.fake.world(|w| {
        w.lease_seconds = 600;
        w.never_posts_if = Some(new_files);
    });
    let before = node.live();
    assert_outcome(&node.renew_due(), Outcome::RolledBack);
    assert_unchanged(&before, &node);
}

#[test]
fn a_unit_without_time_limits_has_the_limit_of_its_job_and_the_watchdog_does_not_strike_before() {
    // the fake's unit has none, as with TimeoutStopSec=infinity
    let node = node_at(0, SignedDuration::from_millis(700));
    let progress = Arc::new(Node::progress());
    node.fake.world(|w| w.progress = Some(progress.clone()));
    let session = node.session();
    let report = session.carry_out(&session.plan(&Selection::Due).unwrap(), false, &[], &progress).unwrap();
    assert_outcome(&report, Outcome::Verified);
    let jobs = node.fake.world(|w| w.left_at_jobs.clone());
    assert!(jobs.iter().any(|(verb, _)| *verb == "restart"), "{jobs:?}");
    // host::systemd: five minutes for a job without a limit of its own
    assert!(jobs.iter().all(|(_, left)| left.is_some_and(|left| left > Duration::from_secs(300))), "{jobs:?}");
}

#[test]
fn a_kubelet_that_posted_in_the_second_of_its_end_does_not_vouch_for_one_that_never_posts() {
    let node = node_at(0, SignedDuration::from_millis(700));
    node.fake.world(|w| w.never_posts_if = Some(new_files));
    // the old kubelet's last words, whenever it is restarted: of that very second
    node.fake.world(|w| w.last_words_at_its_end = true);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("no other has come"), "{}", report.reason);
}
