//! The state machine when the world does not keep its part: events in any order, duplicated, lost.

use std::mem::discriminant;

use proptest::prelude::*;

use super::*;
use crate::model::policy::Span;
use crate::model::schedule::Who;

const NOON: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn schedule() -> Schedule {
    Schedule::new(Span::secs(3600), &Who::of("a machine", ""))
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::NothingToDo,
        Outcome::Refused,
        Outcome::Verified,
        Outcome::Committed,
        Outcome::Degraded,
        Outcome::Interrupted,
        Outcome::RolledBack,
        Outcome::RollbackFailed,
    ])
}

fn standings() -> impl Strategy<Value = Standing> {
    prop_oneof![
        (0u32..9).prop_map(|failures| Standing::Free { failures }),
        (1u32..9, -90_000i64..90_000)
            .prop_map(|(failures, ahead)| Standing::BackingOff { failures, until: at(NOON + ahead) }),
        Just(Standing::ObserveOnly { since: at(NOON), reason: "before".into() }),
    ]
}

fn modes() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Enforce, Mode::Observe])
}

/// Every event, whether or not anybody could be waiting for it.
fn events() -> impl Strategy<Value = Event> {
    let names = || prop::sample::subsequence(vec!["admin.conf".to_owned(), "apiserver".to_owned()], 0..=2);
    prop_oneof![
        4 => Just(Event::Tick),
        4 => (names(), any::<bool>()).prop_map(|(due, unfinished)| Event::CheckDone(Found { due, unfinished, ..Found::default() })),
        3 => (outcomes(), names())
            .prop_map(|(outcome, names)| {
                let renewed = names.into_iter().map(|name| (name, SignedDuration::from_hours(8760))).collect();
                Event::TransactionDone { outcome, reason: "because".into(), renewed }
            }),
        2 => prop::option::of(outcomes()).prop_map(|o| Event::RecoverDone(o.map(|o| (o, "because".into())))),
        1 => modes().prop_map(|mode| Event::Reload(mode, schedule())),
        1 => standings().prop_map(Event::Remembered),
        1 => Just(Event::Terminate),
    ]
}

/// Which job's end the machine waits for, by what it was told to start.
fn awaited(event: &Event) -> Option<Effect> {
    match event {
        Event::CheckDone(_) => Some(Effect::StartCheck),
        Event::TransactionDone { .. } => Some(Effect::StartTransaction),
        Event::RecoverDone(_) => Some(Effect::StartRecover),
        _ => None,
    }
}

/// What an onlooker knows: the job that was started and has not been reported done, and whether all has ended.
#[derive(Clone, Debug, Default)]
struct Onlooker {
    running: Option<Effect>,
    ended: bool,
}

impl Onlooker {
    fn sees(&mut self, event: &Event, before: &State, after: &State, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::StartCheck | Effect::StartTransaction | Effect::StartRecover => {
                    prop_assert!(self.running.is_none(), "{effect:?} while {:?} runs", self.running);
                    prop_assert!(!self.ended, "{effect:?} after the end");
                    self.running = Some(*effect);
                }
                Effect::Cancel | Effect::Save => {}
            }
            if *effect == Effect::StartTransaction {
                prop_assert!(matches!(before.standing, Standing::Free { .. }), "renews while {:?}", before.standing);
                prop_assert_eq!(before.mode, Mode::Enforce);
            }
            if *effect == Effect::StartRecover {
                prop_assert!(
                    !matches!(before.standing, Standing::ObserveOnly { .. }),
                    "recovers while it may only observe"
                );
            }
        }
        if after.activity == Activity::Ended {
            prop_assert!(!matches!(self.running, Some(Effect::StartTransaction | Effect::StartRecover)));
            self.ended = true;
        }
        // the memory is saved whenever something is to be remembered beyond a restart, unless it comes from there
        let remembered = after.standing == before.standing || effects.contains(&Effect::Save);
        prop_assert!(remembered || matches!(event, Event::Remembered(_)), "{:?} is not kept", after.standing);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_an_event_is_taken_or_refused_and_the_rules_hold(
        mode in modes(),
        standing in standings(),
        story in prop::collection::vec((events(), -100i64..5000, 1usize..3), 1..80),
    ) {
        let mut state = State::start(at(NOON), mode, schedule(), standing, Renewed::default());
        let (mut onlooker, mut now) = (Onlooker::default(), NOON);
        for (event, seconds, times) in story {
            now += seconds;
            for _ in 0..times {
                let awaited = awaited(&event);
                match state.clone().on(event.clone(), at(now)) {
                    Ok((next, effects)) => {
                        if awaited.is_some() && !onlooker.ended {
                            let running = onlooker.running.take();
                            // told to end, it waits for the end of the one job that runs, whichever it is
                            let fits = running == awaited || state.activity == Activity::Stopping && running.is_some();
                            prop_assert!(fits, "{event:?} was taken while {running:?} ran");
                        }
                        onlooker.sees(&event, &state, &next, &effects)?;
                        state = next;
                    }
                    Err(refused) => {
                        prop_assert!(awaited.is_some(), "{refused}: only the end of a job can be out of place");
                        prop_assert!(awaited != onlooker.running || onlooker.ended, "{refused}, but it was awaited");
                    }
                }
            }
        }
    }

    #[test]
    fn a_job_whose_end_is_lost_is_not_begun_again_and_the_daemon_can_still_be_told_to_end(
        mode in modes(),
        lost in prop::sample::select(vec![Effect::StartCheck, Effect::StartTransaction, Effect::StartRecover]),
        ticks in prop::collection::vec(0i64..90_000, 1..50),
    ) {
        let standing = Standing::Free { failures: 0 };
        let mut state = State::start(at(NOON), Mode::Enforce, schedule(), standing, Renewed::default());
        let mut now = state.next().unwrap();
        state = state.on(Event::Tick, now).unwrap().0;
        if lost != Effect::StartCheck {
            let unfinished = lost == Effect::StartRecover;
            let found = Found { due: vec!["apiserver".into()], unfinished, ..Found::default() };
            let (next, effects) = state.on(Event::CheckDone(found), now).unwrap();
            prop_assert!(effects.contains(&lost));
            state = next;
        }
        let activity = state.activity;
        for seconds in ticks {
            now += SignedDuration::from_secs(seconds);
            let (next, effects) = state.on(Event::Tick, now).unwrap();
            prop_assert_eq!(effects, Vec::new());
            let (next, effects) = next.on(Event::Reload(mode, schedule()), now).unwrap();
            prop_assert_eq!(effects, Vec::new());
            prop_assert_eq!(discriminant(&next.activity), discriminant(&activity));
            state = next;
        }
        let (state, effects) = state.on(Event::Terminate, now).unwrap();
        let wanted = match lost {
            Effect::StartCheck => (Activity::Ended, Vec::new()),
            _ => (Activity::Stopping, vec![Effect::Cancel]),
        };
        prop_assert_eq!((state.activity, effects), wanted);
    }
}
