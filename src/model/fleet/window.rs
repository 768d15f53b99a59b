//! When it is calm enough: maintenance windows and frozen periods, and which window is the one to act in.
//!
//! Of all windows before a certificate's deadline the *last* is used (cert-manager: `pkg/util/pki/renewaltime.go`): a
//! certificate lives as long as it may, and where windows are rare it is renewed before it is due by its age alone. Said the
//! other way round, in an open window everything is due whose deadline comes before the next one opens. The
//! deadline is `windows.deadline` before the end: earlier than the emergency, so that a window that failed is not the last chance.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::calendar::Calendar;
use crate::model::policy::{Days, Policy};

/// Nothing is renewed earlier than this before its end, however rare windows are: two thirds of what kubeadm gives a certificate.
/// Half is not enough for windows once a quarter, one of which falls into a frozen period.
const EARLIEST: Duration = Duration::from_secs(240 * 86_400);
/// Before a frozen period begins, what would need it is renewed this long ahead.
const BEFORE_FREEZE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Windows that are looked at, should all of them be frozen.
const MOST_WINDOWS: usize = 2_000;

/// From one instant up to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Period {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Period {
    fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

/// What the operator has said about time, with every name of a zone resolved.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// None: any time will do.
    pub openings: Vec<(Calendar, TimeZone)>,
    pub lasts: Duration,
    pub deadline: Duration,
    pub frozen: Vec<Period>,
}

/// What a moment is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// What ends sooner than this is to be renewed now. `next`: until the next chance, where that is what decides.
    Open { renew_before: Duration, next: Option<Duration> },
    /// Nothing but emergencies. `opens`: when that changes; None: never, by what is configured.
    Closed { opens: Option<Timestamp>, frozen: bool },
}

impl Windows {
    /// What is configured. `zone` knows time zones by name, the machine's own by an empty one.
    ///
    /// # Errors
    /// The name of a zone that it does not know.
    pub fn of(policy: &Policy, zone: &dyn Fn(&str) -> Option<TimeZone>) -> Result<Self, String> {
        let known = |name: &str| zone(name).ok_or_else(|| name.to_owned());
        let said = &policy.windows;
        // what the machine's zone is takes a look through all of tzdata, which `check` has no time for
        let unused = said.calendar.is_empty() && said.time_zone.is_empty() && policy.freeze.periods.is_empty();
        let usual = if unused { TimeZone::UTC } else { known(&said.time_zone)? };
        let mut openings = Vec::new();
        for calendar in &policy.windows.calendar {
            let tz = calendar.zone().map_or_else(|| Ok(usual.clone()), known)?;
            openings.push((calendar.clone(), tz));
        }
        let midnight = |day: Date| day.to_zoned(usual.clone()).ok().map(|at| at.timestamp());
        let period =
            |days: &Days| Some(Period { from: midnight(days.first)?, to: midnight(days.last.tomorrow().ok()?)? });
        let frozen = policy.freeze.periods.iter().filter_map(period).collect();
        let deadline = policy.windows.deadline.0.max(policy.renew.emergency_before.0);
        Ok(Self { openings, lasts: policy.windows.duration.0, deadline, frozen })
    }

    /// What `now` is good for, where `renew_before` is what the age of a certificate alone says.
    pub fn moment(&self, now: Timestamp, renew_before: Duration) -> Moment {
        let Some(until) = self.open_until(now) else {
            return Moment::Closed { opens: self.next_opening(now), frozen: self.frozen(now).is_some() };
        };
        if self.openings.is_empty() && until.duration_since(now) > BEFORE_FREEZE {
            return Moment::Open { renew_before, next: None };
        }
        let next = self.next_opening(until);
        let next = next.map_or(EARLIEST, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        let needed = next.saturating_add(self.deadline).min(EARLIEST);
        // a frozen period is coming: what cannot wait until it is over does not wait for it
        let renew_before = if self.openings.is_empty() { renew_before.max(needed) } else { needed };
        Moment::Open { renew_before, next: Some(next) }
    }

    /// Since when the window is open that is open at `now`. None: there are no windows, or none is.
    pub fn open_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.open_until(now)?;
        let lasts = SignedDuration::try_from(self.lasts).unwrap_or(SignedDuration::MAX);
        let before = now.checked_sub(lasts).unwrap_or(Timestamp::MIN);
        let opened = |(calendar, tz): &(Calendar, TimeZone)| calendar.next(before, tz).filter(|start| *start <= now);
        let opened = self.openings.iter().filter_map(opened).min()?;
        // it may have thawed in its middle
        Some(self.frozen.iter().map(|p| p.to).filter(|to| *to <= now).fold(opened, Timestamp::max))
    }

    /// When the window closes that is open at `now`. None: there are no windows, or none is open.
    pub fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        self.open_until(now).filter(|_| !self.openings.is_empty())
    }

    /// The end of the window that is open at `now`.
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.frozen(now).is_some() {
            return None;
        }
        let lasts = SignedDuration::try_from(self.lasts).unwrap_or(SignedDuration::MAX);
        let before = now.checked_sub(lasts).unwrap_or(Timestamp::MIN);
        let opened = |(calendar, tz): &(Calendar, TimeZone)| {
            let start = calendar.next(before, tz).filter(|start| *start <= now)?;
            start.checked_add(lasts).ok()
        };
        let freeze = self.frozen.iter().map(|p| p.from).filter(|from| *from > now).min();
        if self.openings.is_empty() {
            return Some(freeze.unwrap_or(Timestamp::MAX));
        }
        let end = self.openings.iter().filter_map(opened).max()?;
        Some(freeze.map_or(end, |freeze| freeze.min(end)))
    }

    fn frozen(&self, at: Timestamp) -> Option<Timestamp> {
        self.frozen.iter().filter(|p| p.holds(at)).map(|p| p.to).max()
    }

    /// The next instant after `after` at which something opens that is shut at `after`, or opens anew.
    pub fn next_opening(&self, after: Timestamp) -> Option<Timestamp> {
        let mut at = after;
        for _ in 0..MOST_WINDOWS {
            let thaws = self.frozen(at);
            let next = match thaws {
                // it may thaw in the middle of a window
                Some(thaws) if self.open_until(thaws).is_some() => return Some(thaws),
                Some(thaws) => thaws,
                None => self.openings.iter().filter_map(|(calendar, tz)| calendar.next(at, tz)).min()?,
            };
            if thaws.is_none() && self.frozen(next).is_none() {
                return Some(next);
            }
            at = next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn windows(openings: &[&str], frozen: &[(&str, &str)]) -> Windows {
        Windows {
            openings: openings.iter().map(|text| (text.parse().unwrap(), TimeZone::UTC)).collect(),
            lasts: Duration::from_secs(2 * 3600),
            deadline: 10 * DAY,
            frozen: frozen.iter().map(|(from, to)| Period { from: at(from), to: at(to) }).collect(),
        }
    }

    fn days(moment: Moment) -> Option<u64> {
        if let Moment::Open { renew_before, .. } = moment { Some(renew_before.as_secs() / 86_400) } else { None }
    }

    #[test]
    fn without_windows_any_time_is_good_for_what_is_due_by_its_age() {
        assert_eq!(days(windows(&[], &[]).moment(at("2026-11-22T12:00:00Z"), 30 * DAY)), Some(30));
    }

    #[test]
    fn the_last_window_before_the_deadline_is_used_and_not_the_first() {
        let weekly = windows(&["Sat 02:00"], &[]);
        // the next opens in 7 days, and the deadline is 10 days before the end
        assert_eq!(days(weekly.moment(at("2026-11-28T02:00:00Z"), 30 * DAY)), Some(17));
        let rare = windows(&["*-*-01 02:00"], &[]);
        let moment = rare.moment(at("2026-12-01T03:00:00Z"), 30 * DAY);
        assert_eq!(days(moment), Some(40), "early, because the one after it is too late");
        assert_eq!(
            days(windows(&["2026-12-01"], &[]).moment(at("2026-12-01T00:30:00Z"), 30 * DAY)),
            Some(240),
            "the last of all"
        );
    }

    #[test]
    fn between_windows_nothing_is_renewed_and_the_next_opening_is_told() {
        let weekly = windows(&["Sat 02:00"], &[]);
        let closed = |opens: &str| Moment::Closed { opens: Some(at(opens)), frozen: false };
        assert_eq!(weekly.moment(at("2026-11-28T01:59:59Z"), DAY), closed("2026-11-28T02:00:00Z"));
        assert_eq!(
            weekly.moment(at("2026-11-28T04:00:00Z"), DAY),
            closed("2026-12-05T02:00:00Z"),
            "two hours are over"
        );
    }

    #[test]
    fn an_open_window_knows_since_when_and_until_when_it_is() {
        let weekly = windows(&["Sat 02:00"], &[("2026-11-28T01:00:00Z", "2026-11-28T02:30:00Z")]);
        let (inside, shut) = (at("2026-12-05T03:00:00Z"), at("2026-12-05T04:00:00Z"));
        assert_eq!(weekly.open_since(inside), Some(at("2026-12-05T02:00:00Z")));
        assert_eq!(weekly.closes(inside), Some(shut));
        assert_eq!((weekly.open_since(shut), weekly.closes(shut)), (None, None));
        assert_eq!(weekly.open_since(at("2026-11-28T03:00:00Z")), Some(at("2026-11-28T02:30:00Z")), "since it thawed");
        assert_eq!((windows(&[], &[]).open_since(inside), windows(&[], &[]).closes(inside)), (None, None));
    }

    #[test]
    fn a_frozen_period_shuts_windows_and_what_would_need_it_is_renewed_before() {
        let frozen = [("2026-12-20T00:00:00Z", "2027-01-05T00:00:00Z")];
        let weekly = windows(&["Sat 02:00"], &frozen);
        let inside = weekly.moment(at("2026-12-26T02:30:00Z"), DAY);
        assert_eq!(inside, Moment::Closed { opens: Some(at("2027-01-09T02:00:00Z")), frozen: true });
        assert_eq!(days(weekly.moment(at("2026-12-19T02:00:00Z"), 30 * DAY)), Some(31), "21 days to the next, and ten");
        let always = windows(&[], &frozen);
        assert_eq!(days(always.moment(at("2026-12-01T00:00:00Z"), 20 * DAY)), Some(20), "far ahead");
        assert_eq!(
            days(always.moment(at("2026-12-15T00:00:00Z"), 20 * DAY)),
            Some(31),
            "it lasts 16 days from the 20th"
        );
        let thaw = always.moment(at("2026-12-25T00:00:00Z"), DAY);
        assert_eq!(thaw, Moment::Closed { opens: Some(at("2027-01-05T00:00:00Z")), frozen: true });
        let mid = windows(&["2026-12-20 23:00"], &[("2026-12-20T00:00:00Z", "2026-12-21T00:30:00Z")]);
        assert_eq!(mid.next_opening(at("2026-12-19T00:00:00Z")), Some(at("2026-12-21T00:30:00Z")), "in its middle");
    }

    #[test]
    fn a_quarterly_window_that_is_frozen_is_made_up_for_by_the_one_before() {
        let mut windows = windows(&["quarterly"], &[]);
        windows.frozen.push(Period { from: at("2026-09-11T00:30:00Z"), to: at("2026-10-02T00:30:00Z") });
        let Moment::Open { renew_before, .. } = windows.moment(at("2026-07-01T00:00:00Z"), 30 * DAY) else {
            panic!("shut")
        };
        let left = at("2026-12-30T00:30:00Z").duration_since(at("2026-07-01T00:00:00Z"));
        assert!(left < SignedDuration::try_from(renew_before).unwrap());
    }

    proptest! {
        /// Whoever looks at every opening renews before the deadline, as long as there is a window at all.
        #[test]
        fn no_certificate_misses_its_deadline_for_want_of_a_window(
            ends in 60_i64..400, every in prop::sample::select(vec!["daily", "Sat 02:00", "monthly", "*-*~01 23:00", "quarterly"]),
            freeze in 0_i64..300, weeks in 0_i64..4,
        ) {
            let start = at("2026-01-01T00:30:00Z");
            let day = |n: i64| start.checked_add(SignedDuration::from_hours(24 * n)).unwrap();
            let mut windows = windows(&[every], &[]);
            windows.frozen.push(Period { from: day(freeze), to: day(freeze + 7 * weeks) });
            let (end, mut now) = (day(ends), start);
            let mut renewed = None;
            while let Some(opens) = windows.next_opening(now).filter(|opens| *opens < end) {
                if let Moment::Open { renew_before, .. } = windows.moment(opens, 30 * DAY)
                    && end.duration_since(opens) < SignedDuration::try_from(renew_before).unwrap()
                {
                    renewed = Some(opens);
                    break;
                }
                now = opens;
            }
            let deadline = day(ends - 10);
            let first = windows.next_opening(start).unwrap();
            if let Some(renewed) = renewed {
                let next = windows.next_opening(renewed).unwrap();
                prop_assert!(renewed <= deadline || first > deadline, "renewed at {}, deadline {}", renewed, deadline);
                prop_assert!(next >= deadline, "there was a later one: {} before {}", next, deadline);
            } else {
                prop_assert!(first >= end, "there was one at {}", first);
            }
        }
    }
}
