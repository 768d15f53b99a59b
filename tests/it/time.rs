//! Clocks that are stepped in mid-transaction, wrong at boot, or asleep over the end of a certificate.

use std::collections::BTreeSet;

use crate::fake;
use certwarden::fleet::calm;
use certwarden::model::assess::assess;
use certwarden::model::due::{Due, decide};
use certwarden::model::gate::Gate;
use certwarden::model::inventory::{Content, Inventory, Owner};
use certwarden::model::issued::Issued;
use certwarden::model::ledger;
use certwarden::model::machine::{Activity, Effect, Event, Found, Renewed, Standing, State};
use certwarden::model::planner::Selection;
use certwarden::model::policy::{Mode, Span};
use certwarden::model::report::{self, Outcome, Report};
use certwarden::model::schedule::{self, Schedule, Who};
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{Node, assert_outcome, assert_unchanged};
use fake::{At, at_step, forget_steps};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Nothing that was put in is valid only later.
#[track_caller]
fn assert_nothing_from_the_future(node: &Node, report: &Report, what: &str) {
    let (now, inventory) = (node.fake.world(|w| w.now), node.inventory());
    for new in &report.renewed {
        let leaf = inventory.get(&new.name).and_then(certwarden::model::inventory::Entry::leaf).unwrap();
        assert!(leaf.not_before <= now, "{what}: {} is not valid before {}", new.name, leaf.not_before);
    }
}

/// The steps of a clean renewal by number, one of each kind.
fn one_of_each() -> Vec<(usize, String)> {
    forget_steps();
    assert_outcome(&Node::due().renew_due(), Outcome::Verified);
    let mut seen = BTreeSet::new();
    let kind = |text: &str| text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    fake::steps().into_iter().enumerate().filter(|(_, text)| seen.insert(kind(text))).collect()
}

#[test]
fn a_clock_that_is_stepped_at_any_step_ends_in_all_old_or_all_new_and_nothing_from_the_future() {
    let at = one_of_each();
    assert!(at.len() > 8, "{at:?}");
    let commit = at.iter().find(|(_, text)| text == "putting the new files in place").unwrap().0;
    let validated = at.iter().find(|(_, text)| text.starts_with("validating")).unwrap().0;
    for (number, text) in at {
        for by in [-400 * DAY, -HOUR, HOUR, 400 * DAY] {
            let node = Node::due();
            let before = node.live();
            forget_steps();
            let fake = node.fake.clone();
            at_step(At::Number(number), move || fake.world(|w| w.step(by)));
            let report = node.renew_due();
            let what = format!("{by} s at `{text}`: {:?} {} {:?}", report.outcome, report.reason, report.notes);
            match report.outcome {
                Outcome::Verified => assert_eq!(node.last_state(), Some(ledger::State::Verified), "{what}"),
                Outcome::Refused | Outcome::RolledBack => assert_unchanged(&before, &node),
                // by that clock the old ones have expired
                Outcome::Degraded => assert!(by > DAY, "{what}"),
                _ => panic!("{what}"),
            }
            if by < 0 && (validated..=commit).contains(&number) {
                assert_eq!(report.outcome, Outcome::Refused, "{what}");
            }
            node.assert_pairs_fit_but_for_the_clock();
            node.assert_nothing_left_over();
            // the next recovery goes on with a degraded one
            if report.outcome != Outcome::Degraded {
                node.assert_processes_use_what_is_on_the_disk();
            }
            if number <= commit && report.outcome == Outcome::Verified {
                assert_nothing_from_the_future(&node, &report, &what);
            }
        }
    }
}

#[test]
fn an_unsynchronised_clock_or_one_that_went_back_or_is_before_the_ca_renews_nothing() {
    for (gate, spoil) in [
        (Gate::Clock, (|node: &Node| node.fake.world(|w| w.clock_synchronised = Some(false))) as fn(&Node)),
        (Gate::Clock, |node| {
            let seen = Some(node.fake.world(|w| w.now) + SignedDuration::from_hours(1));
            DaemonState::change(&node.host.root, |state| state.last_seen = seen).unwrap();
        }),
        (Gate::Ca, |node| node.fake.world(|w| w.step(-20 * 366 * DAY))),
    ] {
        let node = Node::due();
        let before = node.live();
        spoil(&node);
        let session = node.session();
        // all, because by a clock of long ago nothing is due
        let plan = session.plan(&Selection::All).unwrap();
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        assert_outcome(&report, Outcome::Refused);
        let told = report.refusals.iter().any(|r| r.gate == gate) || report.reason.contains("valid from");
        assert!(told, "{gate}: {} {:?}", report.reason, report.refusals);
        assert_unchanged(&before, &node);
        assert!(node.ids().is_empty());
    }
}

/// Dead in the middle of the commit; the files that were not yet renamed stay beside the live ones.
fn dead_in_the_commit() -> Node {
    let node = Node::due();
    forget_steps();
    let fake = node.fake.clone();
    let in_commit = move || fake.world(|w| w.crash_at = Some(w.ticks + fake::TO_FIRST_RENAME));
    at_step(At::Text("putting the new files in place"), in_commit);
    assert!(node.crash(u64::MAX / 2, || drop(node.renew_due())));
    assert_eq!(node.last_state(), Some(ledger::State::Committing));
    forget_steps();
    node
}

#[test]
fn a_machine_that_boots_with_a_clock_of_long_ago_does_not_go_back_to_what_has_expired() {
    let node = dead_in_the_commit();
    // it was off until the old ones had ended, and its clock does not know
    let mut plan = std::fs::read_to_string(newest_plan(&node)).unwrap();
    let ended = (node.fake.world(|w| w.now) - SignedDuration::from_hours(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut json: serde_json::Value = serde_json::from_str(&plan).unwrap();
    for item in json["items"].as_array_mut().unwrap() {
        item["old_not_after"] = ended.clone().into();
    }
    plan = json.to_string();
    for (by, synchronised, state) in [
        (0, Some(true), ledger::State::Committed),
        (-400 * DAY, Some(false), ledger::State::Committed),
        (-400 * DAY, None, ledger::State::Committed),
        // the one that the ledger saw ran ahead: by the true time the old ones are good
        (-400 * DAY, Some(true), ledger::State::RollingBack),
    ] {
        let next = node.rebooted();
        std::fs::write(newest_plan(&next), &plan).unwrap();
        next.fake.world(|w| {
            w.step(by);
            w.clock_synchronised = synchronised;
        });
        assert_outcome(&next.recover(Reach::FilesOnly, false).unwrap().unwrap(), Outcome::Interrupted);
        assert_eq!(next.last_state(), Some(state), "{by} {synchronised:?}");
    }
}

fn newest_plan(node: &Node) -> std::path::PathBuf {
    let id = node.ids().pop().unwrap();
    node.path(fake::node::TRANSACTIONS).join(id).join("plan.json")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn idle(now: Timestamp, standing: Standing) -> State {
    let schedule = Schedule::new(Span::secs(3600), &Who::of("node", "4c1e7b2a9f0d4e6b8a3c5d7e9f1b2d3c"));
    State::start(now, Mode::Enforce, schedule, standing, Renewed::default())
}

/// What the daemon decides for five days about leaves that live for so long: the hours at which it renews, and whether any was an
/// emergency.
fn five_days(life: SignedDuration, windows: &[&str]) -> (Vec<i64>, bool) {
    let mut node = Node::healthy();
    node.policy.windows.calendar = windows.iter().map(|w| w.parse().unwrap()).collect();
    node.policy.windows.duration = Span::secs(7200);
    let mut inventory = node.inventory();
    let issue = |inventory: &mut Inventory, now: Timestamp| {
        for entry in inventory.entries.iter_mut().filter(|e| e.owner == Owner::Kubeadm) {
            let Content::Readable(credential) = &mut entry.content else { continue }; // there is none
            credential.chain[0].not_before = now - SignedDuration::from_mins(5);
            credential.chain[0].not_after = now + life;
            credential.chain[0].issued_here = true;
        }
    };
    let begin = at(node.fake.world(|w| w.now).as_second() / DAY * DAY);
    issue(&mut inventory, begin);
    let mut state = idle(begin, Standing::Free { failures: 0 });
    let (mut hours, mut urgent) = (Vec::new(), false);
    while let Some(now) = state.next().filter(|next| next.duration_since(begin).as_hours() < 5 * 24) {
        node.fake.world(|w| w.now = now);
        let assessment = assess(&inventory, &node.policy, now);
        urgent |= assessment.emergency();
        let timing = calm::timing(&node.host, &node.policy, &inventory);
        let due = match decide(&inventory, &assessment, &node.policy, &timing, now).due {
            Due::Now(names) => names,
            Due::Nothing | Due::Later(_) => Vec::new(),
        };
        let found = Found { due: due.clone(), ..Found::default() };
        state = state.on(Event::Tick, now).unwrap().0;
        let (mut next, effects) = state.on(Event::CheckDone(found), now).unwrap();
        if effects.contains(&Effect::StartTransaction) {
            hours.push(now.duration_since(begin).as_hours());
            issue(&mut inventory, now);
            let renewed = due.into_iter().map(|name| (name, life)).collect();
            let done = Event::TransactionDone { outcome: Outcome::Verified, reason: "done".into(), renewed };
            next = next.on(done, now).unwrap().0.on(Event::CheckDone(Found::default()), now).unwrap().0;
        }
        state = next;
    }
    (hours, urgent)
}

#[test]
fn what_lives_for_two_days_is_renewed_as_often_as_its_life_needs_and_windows_hold() {
    let two_days = SignedDuration::from_hours(48);
    let (hours, urgent) = five_days(two_days, &[]);
    assert!(!urgent && hours.len() == 3, "each time with a third of its life left: {hours:?}");
    // it does not last from one window to the next but one
    let (hours, urgent) = five_days(two_days, &["*-*-* 02:00 UTC"]);
    assert!(!urgent && hours.iter().all(|h| (2..4).contains(&(h % 24))), "{hours:?}");
    assert!((4..=5).contains(&hours.len()), "{hours:?}");
    let (hours, urgent) = five_days(two_days, &["*-*-* 02,14:00 UTC"]);
    assert!(!urgent && hours.iter().all(|h| (2..4).contains(&(h % 12))), "{hours:?}");
    assert!((3..=4).contains(&hours.len()), "not in each window: {hours:?}");
    // shorter than the time for which nothing is renewed twice
    let (hours, urgent) = five_days(SignedDuration::from_hours(24), &[]);
    assert!(!urgent && (6..=8).contains(&hours.len()), "{hours:?}");
    assert_eq!(five_days(SignedDuration::from_hours(365 * 24), &[]), (Vec::new(), false));
}

#[test]
fn only_a_life_that_a_renewal_of_its_own_gave_shares_out_the_thresholds() {
    let node = Node::healthy();
    let mut inventory = node.inventory();
    let now = node.fake.world(|w| w.now);
    let mut report = Report::new(Outcome::Verified, "", now);
    for entry in inventory.entries.iter_mut().filter(|e| e.owner == Owner::Kubeadm) {
        let (name, path) = (entry.name.clone(), entry.path().to_path_buf());
        let Content::Readable(credential) = &mut entry.content else { continue };
        let leaf = &mut credential.chain[0];
        (leaf.not_before, leaf.not_after) = (now, now + SignedDuration::from_hours(10 * 24));
        let (new_serial, not_after) = (leaf.serial.clone(), leaf.not_after);
        report.renewed.push(report::Renewed { name, path, old_serial: None, new_serial, not_after });
    }
    let due = |inventory: &Inventory| assess(inventory, &node.policy, now).due().count();
    // somebody made these for ten days; a renewal gives them a year
    assert_eq!(due(&inventory), report.renewed.len());
    let mut issued = Issued::default();
    issued.add(&Report { outcome: Outcome::RolledBack, ..report.clone() });
    issued.mark(&mut inventory);
    assert_eq!(due(&inventory), report.renewed.len(), "what was rolled back is not in place");
    issued.add(&report);
    issued.mark(&mut inventory);
    assert_eq!(due(&inventory), 0);
}

#[test]
fn a_daemon_that_wakes_from_a_suspend_over_the_end_looks_at_once() {
    let begin = at(1_800_000_000);
    let asleep = idle(begin, Standing::Free { failures: 0 });
    let (awake, effects) = asleep.on(Event::Tick, begin + SignedDuration::from_hours(30 * 24)).unwrap();
    assert_eq!(effects, [Effect::StartCheck]);
    assert_eq!(awake.activity, Activity::Checking { may_act: true, may_prove: true });
}

proptest! {
    #[test]
    fn however_the_clock_is_stepped_the_daemon_looks_within_an_interval_and_never_waits_longer_than_a_back_off(
        failures in 1_u32..8,
        steps in prop::collection::vec(-800_000_000_i64..800_000_000, 1..12),
    ) {
        let mut now = at(1_800_000_000);
        let until = schedule::back_off_until(failures, now);
        let mut state = idle(now, Standing::BackingOff { failures, until });
        for by in steps {
            now += SignedDuration::from_secs(by);
            state = state.on(Event::Tick, now).unwrap().0;
            if let Activity::Checking { .. } = state.activity {
                state = state.on(Event::CheckDone(Found::default()), now).unwrap().0;
            }
            let next = state.next().unwrap();
            prop_assert!(next <= now + SignedDuration::from_secs(3960), "{next} at {now}");
            if let Standing::BackingOff { until, .. } = state.standing {
                prop_assert!(until <= schedule::back_off_until(failures, now), "{until} at {now}");
            }
        }
    }

    #[test]
    fn a_back_off_is_remembered_over_a_restart_whatever_the_clock_shows_by_then(
        failures in 1_u32..8, by in -800_000_000_i64..800_000_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = certwarden::host::fs::Root::open(dir.path()).unwrap();
        let now = at(1_800_000_000);
        let standing = Standing::BackingOff { failures, until: schedule::back_off_until(failures, now) };
        DaemonState::change(&root, |memory| memory.decide(&standing, now)).unwrap();
        let later = now + SignedDuration::from_secs(by);
        let state = idle(later, DaemonState::load(&root).state.standing()).on(Event::Tick, later).unwrap().0;
        match state.standing {
            Standing::BackingOff { failures: f, until } => {
                prop_assert_eq!(f, failures);
                prop_assert!(until > later && until <= schedule::back_off_until(failures, later));
            }
            Standing::Free { failures: f } => {
                prop_assert_eq!(f, failures, "the next one doubles all the same");
                prop_assert!(later >= schedule::back_off_until(failures, now));
            }
            other @ Standing::ObserveOnly { .. } => prop_assert!(false, "{other:?}"),
        }
    }
}
