use proptest::prelude::*;

use super::*;

const LASTS: Duration = Duration::from_secs(1200);
const EMERGENCY: Duration = Duration::from_secs(3 * 86_400);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("cp{n}")).collect()
}

fn slots(me: usize, count: usize) -> Slots {
    Slots::of(&format!("cp{me}"), &names(count), LASTS, EMERGENCY)
}

proptest! {
    /// A transaction that begins in a slot and lasts as long as one may is over before anybody else may begin, even by clocks
    /// that differ by nearly a quarter of a slot.
    #[test]
    fn nobody_begins_while_another_is_at_work(count in 2_usize..9, time in 0_i64..10_000_000, skew in -590_i64..590) {
        for (me, other) in (0..count).flat_map(|me| (0..count).map(move |other| (me, other))).filter(|(a, b)| a != b) {
            if slots(me, count).is_open(at(time)) {
                // its neighbour in time may be early by its clock
                for later in (0..=1200).step_by(60) {
                    prop_assert!(!slots(other, count).is_open(at(time + later + skew)), "{me} and {other} after {later} s");
                }
            }
        }
    }

    #[test]
    fn everybody_has_a_slot_in_every_round(count in 1_usize..9, me in 0_usize..9, time in 0_i64..10_000_000) {
        let slots = slots(me % count, count);
        let next = slots.next(at(time));
        prop_assert!(next >= at(time) && slots.is_open(next));
        prop_assert!(next.as_second() - time <= i64::try_from(count).unwrap() * 2400);
    }

    /// However short the emergency is, each has a slot before the end.
    #[test]
    fn a_short_emergency_has_shorter_slots(count in 1_usize..9, minutes in 5_u64..600, end in 1_000_000_i64..10_000_000) {
        let emergency = Duration::from_secs(minutes * 60);
        for me in names(count) {
            let slots = Slots::of(&me, &names(count), LASTS, emergency);
            let begins = at(end - i64::try_from(minutes * 60).unwrap());
            prop_assert!(slots.in_the_dark(begins, Duration::ZERO, at(end), emergency) < at(end));
        }
    }
}

#[test]
fn a_node_that_is_in_no_list_has_a_rank_all_the_same() {
    let stranger = Slots::of("stranger", &names(3), LASTS, EMERGENCY);
    assert_eq!((stranger.rank, stranger.count), (3, 4));
    assert_eq!(slots(0, 1).next(at(7)), at(7), "the only one need not wait");
}

#[test]
fn a_holder_that_works_is_waited_for_and_one_that_is_deaf_is_succeeded_in_the_own_slot_only() {
    let (slots, end) = (slots(1, 3), at(100_000_000));
    let open = slots.next(at(50_000_000));
    let after = |seconds: u64| slots.way(Duration::from_secs(seconds), LASTS, open, end);
    assert!(matches!(after(2399), Way::Wait { until } if until > open));
    assert_eq!(after(2400), Way::Seize);
    let shut = at(open.as_second() + 601);
    assert_eq!(slots.way(Duration::MAX, LASTS, shut, end), Way::Wait { until: at(open.as_second() + 7200) });
}

#[test]
fn the_last_slot_before_the_end_is_taken_whoever_has_the_lock_and_so_is_each_after_it() {
    let slots = slots(1, 3);
    let open = slots.next(at(50_000_000));
    let way = |left: i64| slots.way(Duration::ZERO, LASTS, open, at(open.as_second() + left));
    assert_eq!(way(7200 + 2399), Way::SeizeOrNot);
    assert!(matches!(way(7200 + 2400), Way::Wait { .. }));
    assert_eq!(way(-1_000_000), Way::SeizeOrNot);
}

#[test]
fn in_the_dark_nobody_acts_before_the_emergency_and_what_has_ended_does_not_wait() {
    let (slots, end) = (slots(2, 3), at(50_000_000));
    let begins = 50_000_000 - 3 * 86_400;
    let first = slots.in_the_dark(at(begins - 1_000_000), Duration::ZERO, end, EMERGENCY);
    assert!((begins..begins + 7200).contains(&first.as_second()));
    assert_eq!(slots.in_the_dark(at(50_000_001), Duration::from_secs(9), end, EMERGENCY), at(50_000_001));
}
