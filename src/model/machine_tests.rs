//! Properties of the daemon's state machine over sequences of events, and its single rules one by one.

use proptest::prelude::*;

use super::*;
use crate::model::policy::Span;
use crate::model::schedule::Who;

/// Of what is renewed.
const YEAR: SignedDuration = SignedDuration::from_hours(8760);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const NOON: i64 = 1_700_000_000;

fn schedule() -> Schedule {
    Schedule::new(Span::secs(3600), &Who::of("a machine", ""))
}

fn start(mode: Mode) -> State {
    State::start(at(NOON), mode, schedule(), Standing::Free { failures: 0 }, Renewed::default())
}

fn due(names: &[&str]) -> Event {
    Event::CheckDone(Found {
        due: names.iter().map(|n| (*n).to_owned()).collect(),
        unfinished: false,
        ..Found::default()
    })
}

fn done(outcome: Outcome) -> Event {
    let stays = matches!(outcome, Outcome::Verified | Outcome::Committed | Outcome::Degraded);
    let renewed = stays.then(|| ("apiserver".to_owned(), YEAR)).into_iter().collect();
    Event::TransactionDone { outcome, reason: "because".into(), renewed }
}

/// Wakes at the scheduled time, finds `apiserver` due; whether a transaction began, and when.
fn look(state: State) -> (State, bool, Timestamp) {
    let now = state.next().unwrap();
    let (state, effects) = state.on(Event::Tick, now).unwrap();
    assert!(effects.contains(&Effect::StartCheck), "{effects:?}");
    let (state, effects) = state.on(due(&["apiserver"]), now).unwrap();
    (state, effects.contains(&Effect::StartTransaction), now)
}

/// Ends the transaction and the look after it.
fn end(state: State, outcome: Outcome, now: Timestamp) -> State {
    let (state, effects) = state.on(done(outcome), now).unwrap();
    assert_eq!(effects, [Effect::Save, Effect::StartCheck]);
    let (state, effects) = state.on(due(&["apiserver"]), now).unwrap();
    assert_eq!(effects, [], "the look after a transaction only looks");
    state
}

#[test]
fn what_is_due_is_renewed_at_the_first_look() {
    let (state, renewing, _) = look(start(Mode::Enforce));
    assert!(renewing);
    assert_eq!(state.activity, Activity::Transacting);
}

#[test]
fn observe_mode_looks_and_does_not_act() {
    let (state, renewing, now) = look(start(Mode::Observe));
    assert!(!renewing);
    assert!(state.next().unwrap() > now);
}

#[test]
fn after_a_rollback_it_looks_every_hour_and_renews_again_only_after_the_back_off() {
    let (mut state, _, now) = look(start(Mode::Enforce));
    state = end(state, Outcome::RolledBack, now);
    let mut last = now;
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        let mut looks = 0;
        let attempt = loop {
            let (next, renewing, now) = look(state);
            state = next;
            looks += 1;
            if renewing {
                break now;
            }
        };
        let waited = attempt.duration_since(last);
        assert!(waited >= SignedDuration::from_hours(hours), "{waited} instead of {hours} h");
        assert!(waited <= SignedDuration::from_hours(hours + 2), "{waited} instead of {hours} h");
        assert!(looks >= hours, "{looks} looks in {hours} h");
        state = end(state, Outcome::RolledBack, attempt);
        last = attempt;
    }
}

#[test]
fn a_success_ends_the_doubling() {
    let (state, _, now) = look(start(Mode::Enforce));
    let state = end(state, Outcome::RolledBack, now);
    let (mut state, mut renewing, mut later) = look(state);
    while !renewing {
        (state, renewing, later) = look(state);
    }
    let state = end(state, Outcome::Verified, later);
    assert_eq!(state.standing, Standing::Free { failures: 0 });
}

#[test]
fn what_was_just_renewed_is_not_renewed_again_for_a_day_but_something_else_is() {
    let (state, _, now) = look(start(Mode::Enforce));
    let state = end(state, Outcome::Verified, now);
    let names = |n: &[&str]| n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert!(!state.may_act(&names(&["apiserver"]), now));
    assert!(state.may_act(&names(&["apiserver", "admin.conf"]), now));
    assert!(state.may_act(&names(&["apiserver"]), now + NO_REPEAT));
    assert!(state.may_act(&names(&["apiserver"]), now - NO_REPEAT), "a clock that was set back does not block");
}

#[test]
fn what_lives_shortly_is_renewed_again_after_a_third_of_its_life() {
    let (state, _, now) = look(start(Mode::Enforce));
    let renewed = vec![("apiserver".to_owned(), SignedDuration::from_hours(12))];
    let (state, _) = state
        .on(Event::TransactionDone { outcome: Outcome::Verified, reason: "because".into(), renewed }, now)
        .unwrap();
    let may_after = |hours| state.may_act(&["apiserver".to_owned()], now + SignedDuration::from_hours(hours));
    assert_eq!([0, 3, 4, 8].map(may_after), [false, false, true, true]);
}

#[test]
fn what_was_renewed_before_something_else_was_rolled_back_or_refused_is_not_renewed_again_for_a_day() {
    for outcome in [Outcome::RolledBack, Outcome::Refused, Outcome::Verified] {
        let (state, _, now) = look(start(Mode::Enforce));
        let done =
            Event::TransactionDone { outcome, reason: "because".into(), renewed: vec![("expired".into(), YEAR)] };
        let (state, _) = state.on(done, now).unwrap();
        let (state, _) = state.on(due(&["apiserver"]), now).unwrap();
        let later = now + SignedDuration::from_hours(1) + SignedDuration::from_mins(1);
        let (mut state, _) = state.on(Event::Tick, later).unwrap();
        state.standing = Standing::Free { failures: 0 };
        let may = |names: &[&str]| state.may_act(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), later);
        assert!(!may(&["expired"]), "{outcome:?}");
        assert!(may(&["apiserver"]) && may(&["apiserver", "expired"]), "{outcome:?}");
        // and with a later success of others it is not forgotten
        let mut renewed = state.renewed.clone();
        renewed.add([("apiserver".to_owned(), YEAR)], later);
        assert!(!State { renewed, ..state }.may_act(&["expired".to_owned()], later), "{outcome:?}");
    }
}

#[test]
fn a_failed_rollback_ends_all_renewals_until_an_operator_has_acted() {
    let (state, _, now) = look(start(Mode::Enforce));
    let mut state = end(state, Outcome::RollbackFailed, now);
    for _ in 0..100 {
        let (next, renewing, _) = look(state);
        assert!(!renewing);
        state = next;
    }
    let now = state.next().unwrap();
    let (state, _) = state.on(Event::Remembered(Standing::Free { failures: 0 }), now).unwrap();
    assert!(look(state).1);
}

#[test]
fn a_transaction_that_a_dead_process_left_open_is_finished_before_anything_is_renewed() {
    let state = start(Mode::Enforce);
    let now = state.next().unwrap();
    let (state, _) = state.on(Event::Tick, now).unwrap();
    let found = Event::CheckDone(Found { due: vec!["apiserver".into()], unfinished: true, ..Found::default() });
    let (state, effects) = state.on(found.clone(), now).unwrap();
    assert_eq!(effects, [Effect::StartRecover]);
    let (state, _) = state.on(Event::RecoverDone(Some((Outcome::RolledBack, String::new()))), now).unwrap();
    assert!(matches!(state.standing, Standing::BackingOff { failures: 1, .. }));
    let (state, effects) = state.on(found, now).unwrap();
    assert_eq!((state.next().is_some(), effects), (true, Vec::new()), "no loop of recoveries");
}

#[test]
fn a_recovery_that_was_hindered_is_tried_again_at_its_time_and_nothing_is_renewed_meanwhile() {
    let state = start(Mode::Enforce);
    let now = state.next().unwrap();
    let found = |retry_at| Found { due: vec!["apiserver".into()], unfinished: true, retry_at, ..Found::default() };
    let looks = |state: State, now, retry_at| {
        let (state, _) = state.on(Event::Tick, now).unwrap();
        state.on(Event::CheckDone(found(retry_at)), now).unwrap()
    };
    let soon = now + SignedDuration::from_secs(60);
    let (waiting, effects) = looks(state, now, Some(soon));
    assert_eq!((waiting.next(), effects), (Some(soon), Vec::new()), "neither a recovery nor a renewal");
    let (_, effects) = looks(waiting, soon, Some(soon));
    assert_eq!(effects, [Effect::StartRecover]);
}

#[test]
fn what_is_not_proven_is_verified_after_what_is_due_and_never_instead_of_it() {
    let found = |due: &[&str]| {
        let due = due.iter().map(|n| (*n).to_owned()).collect();
        Event::CheckDone(Found { due, unproven: true, ..Found::default() })
    };
    let begin = |state: State| {
        let now = state.next().unwrap();
        (state.on(Event::Tick, now).unwrap().0, now)
    };
    let (state, now) = begin(start(Mode::Enforce));
    let (state, effects) = state.on(found(&["apiserver"]), now).unwrap();
    assert_eq!(effects, [Effect::StartTransaction]);
    // refused at each look, it would never have its turn otherwise
    let (state, _) = state.on(done(Outcome::Refused), now).unwrap();
    let (state, effects) = state.on(found(&["apiserver"]), now).unwrap();
    assert_eq!(effects, [Effect::StartRecover]);
    let (state, _) = state.on(Event::RecoverDone(None), now).unwrap();
    let (state, effects) = state.on(found(&["apiserver"]), now).unwrap();
    assert_eq!((state.next().is_some(), effects), (true, Vec::new()), "no loop of proofs");
    // and not where nothing may be done at all
    let failed = Standing::ObserveOnly { since: now, reason: "a rollback failed".into() };
    let (state, now) = begin(state.on(Event::Remembered(failed), now).unwrap().0);
    let (_, effects) = state.on(found(&[]), now).unwrap();
    assert_eq!(effects, []);
}

#[test]
fn a_reload_looks_soon_and_a_shorter_interval_holds_at_once() {
    let (state, _, now) = look(start(Mode::Observe));
    let quick = schedule().with_interval(Span::secs(60));
    let (state, _) = state.on(Event::Reload(Mode::Enforce, quick), now).unwrap();
    assert_eq!(state.next(), Some(quick.first(now)));
    assert!(look(state).1);
}

#[test]
fn a_clock_that_is_set_back_by_years_does_not_stop_the_looking() {
    let (state, _, _) = look(start(Mode::Observe));
    let past = at(NOON - 100_000_000);
    let (state, effects) = state.on(Event::Tick, past).unwrap();
    assert_eq!(effects, []);
    assert!(state.next().unwrap().duration_since(past) <= SignedDuration::from_mins(66));
}

#[test]
fn an_answer_that_nobody_asked_for_is_an_error_and_not_a_panic() {
    let error = start(Mode::Enforce).on(done(Outcome::Verified), at(NOON)).unwrap_err();
    assert!(error.to_string().starts_with("the end of a transaction cannot happen while Idle"), "{error}");
}

/// What the world does, as far as the daemon cannot choose it.
#[derive(Clone, Debug)]
enum World {
    Wait(i64),
    /// The job that runs ends: (what a look finds, how a transaction ends).
    Finish {
        due: bool,
        unfinished: bool,
        outcome: Outcome,
    },
    Reload(Mode),
    Clear,
    Terminate,
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::NothingToDo,
        Outcome::Refused,
        Outcome::Verified,
        Outcome::Degraded,
        Outcome::Interrupted,
        Outcome::RolledBack,
        Outcome::RollbackFailed,
    ])
}

fn modes() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Enforce, Mode::Observe])
}

fn worlds() -> impl Strategy<Value = World> {
    prop_oneof![
        8 => (0_i64..8_000).prop_map(World::Wait),
        1 => (-400_000_i64..400_000).prop_map(World::Wait),
        8 => (any::<bool>(), prop::bool::weighted(0.2), outcomes())
            .prop_map(|(due, unfinished, outcome)| World::Finish { due, unfinished, outcome }),
        1 => modes().prop_map(World::Reload),
        1 => Just(World::Clear),
        1 => Just(World::Terminate),
    ]
}

/// What the outside sees: which job runs, and what it remembers of the past to judge the daemon by.
#[derive(Debug, Default)]
struct Witness {
    running: Option<Effect>,
    /// A rollback at this time, by the monotonic sum of all forward steps, and how many in a row.
    rolled_back: Option<(i64, u32)>,
    observe_only: bool,
    exited: bool,
    elapsed: i64,
}

impl Witness {
    fn sees(&mut self, state: &State, effects: &[Effect], stepped: bool) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::StartCheck | Effect::StartTransaction | Effect::StartRecover => {
                    prop_assert_eq!(self.running, None, "never two jobs at once");
                    prop_assert!(!self.exited, "nothing begins after the end");
                    self.running = Some(*effect);
                    if *effect != Effect::StartCheck {
                        prop_assert!(!self.observe_only, "nothing is changed after a failed rollback");
                    }
                    if *effect == Effect::StartTransaction {
                        prop_assert_eq!(state.mode, Mode::Enforce);
                    }
                    if let (Effect::StartTransaction, Some((since, failures)), false) =
                        (effect, self.rolled_back, stepped)
                    {
                        let pause = crate::model::schedule::back_off(failures).as_secs();
                        prop_assert!(
                            self.elapsed - since >= pause,
                            "{} s after rollback {}",
                            self.elapsed - since,
                            failures
                        );
                    }
                }
                Effect::Cancel | Effect::Save => {}
            }
        }
        if state.activity == Activity::Ended {
            self.exited = true;
        }
        Ok(())
    }

    fn remembers(&mut self, outcome: Outcome, recovery: bool) {
        match outcome {
            Outcome::RolledBack => {
                let failures = self.rolled_back.map_or(0, |(_, n)| n) + 1;
                self.rolled_back = Some((self.elapsed, failures));
            }
            Outcome::RollbackFailed => self.observe_only = true,
            Outcome::Verified | Outcome::Degraded if !recovery => self.rolled_back = None,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(mode in modes(), story in prop::collection::vec(worlds(), 1..120)) {
        let (mut state, mut now, mut witness, mut stepped) = (start(mode), NOON, Witness::default(), false);
        for step in story {
            let event = match step {
                World::Wait(seconds) => {
                    now += seconds;
                    witness.elapsed += seconds;
                    stepped |= seconds < 0; // what a back-off is worth after that is a test of its own
                    Event::Tick
                }
                World::Finish { due, unfinished, outcome } => match witness.running.take() {
                    None => continue,
                    Some(Effect::StartCheck) => {
                        let due = if due { vec!["apiserver".to_owned()] } else { Vec::new() };
                        Event::CheckDone(Found { due, unfinished, ..Found::default() })
                    }
                    Some(Effect::StartRecover) => {
                        witness.remembers(outcome, true);
                        Event::RecoverDone(Some((outcome, "because".into())))
                    }
                    Some(_) => {
                        witness.remembers(outcome, false);
                        Event::TransactionDone { outcome, reason: "because".into(), renewed: Vec::new() }
                    }
                },
                World::Reload(mode) => Event::Reload(mode, schedule()),
                World::Clear => {
                    if !witness.observe_only {
                        continue; // an operator acts when something was wrong
                    }
                    (witness.observe_only, witness.rolled_back) = (false, None);
                    Event::Remembered(Standing::Free { failures: 0 })
                }
                World::Terminate => Event::Terminate,
            };
            let terminated = event == Event::Terminate;
            let (next, effects) = state.on(event, at(now)).unwrap();
            state = next;
            witness.sees(&state, &effects, stepped)?;
            if terminated {
                prop_assert!(matches!(state.activity, Activity::Stopping | Activity::Ended), "{:?}", state.activity);
            }
        }
        // told to end, it ends as soon as the job that runs has ended
        let (mut state, effects) = state.on(Event::Terminate, at(now)).unwrap();
        witness.sees(&state, &effects, stepped)?;
        if state.activity == Activity::Stopping {
            let event = match witness.running.take() {
                Some(Effect::StartRecover) => Event::RecoverDone(None),
                _ => done(Outcome::Interrupted),
            };
            let (next, effects) = state.on(event, at(now)).unwrap();
            state = next;
            witness.sees(&state, &effects, stepped)?;
        }
        prop_assert_eq!(state.activity, Activity::Ended);
        prop_assert!(witness.exited);
    }
}
