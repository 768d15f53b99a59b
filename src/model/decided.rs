//! What the daemon may do is decided in two places: by the daemon, and by an operator's `renew` or `recover`. Of two
//! memories the later decision holds. Pure.

use jiff::Timestamp;

use super::machine::Standing;

/// A standing, and when it was decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decided {
    pub standing: Standing,
    /// None: it is not known; it counts as earlier than any.
    pub at: Option<Timestamp>,
}

impl Decided {
    /// What holds where the daemon remembers `self` and the disk says `theirs`. Where neither is later it is the disk's, which
    /// others write, too. A time in the future is none: a clock was set back since, and it would hold for years.
    #[must_use]
    pub fn or_later(self, theirs: Self, now: Timestamp) -> Self {
        let known = |d: &Self| d.at.filter(|at| *at <= now);
        // only an operator's `recover` ends observing, and that writes another standing to the disk
        if matches!(theirs.standing, Standing::ObserveOnly { .. }) || known(&self) <= known(&theirs) {
            theirs
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn decided(standing: Standing, second: Option<i64>) -> Decided {
        Decided { standing, at: second.map(at) }
    }

    fn free() -> Standing {
        Standing::Free { failures: 0 }
    }

    fn backing_off() -> Standing {
        Standing::BackingOff { failures: 1, until: at(9_000) }
    }

    fn observing() -> Standing {
        Standing::ObserveOnly { since: at(1), reason: "a rollback failed".into() }
    }

    #[test]
    fn the_later_decision_holds_whoever_made_it() {
        for (mine, theirs, holds, why) in [
            ((backing_off(), Some(200)), (free(), Some(100)), backing_off(), "our back-off is not saved yet"),
            ((backing_off(), Some(200)), (free(), None), backing_off(), "an earlier version has written the file"),
            ((observing(), Some(100)), (free(), Some(200)), free(), "an operator has recovered meanwhile"),
            ((backing_off(), Some(100)), (free(), Some(200)), free(), "an operator has renewed meanwhile"),
            ((free(), Some(200)), (observing(), Some(100)), observing(), "only `recover` ends observing"),
            ((free(), None), (backing_off(), None), backing_off(), "a start"),
            ((observing(), Some(100)), (free(), Some(100)), free(), "the same decision, changed by an operator"),
            ((backing_off(), Some(200)), (free(), Some(50_000)), backing_off(), "decided by a clock of the future"),
        ] {
            let mine = decided(mine.0, mine.1);
            assert_eq!(mine.or_later(decided(theirs.0, theirs.1), at(300)).standing, holds, "{why}");
        }
    }
}
