//! systemd's calendar expressions (systemd.time(7), "CALENDAR EVENTS"): `Sat *-*-* 02:00 Europe/Berlin`, `Mon..Fri 22:00`,
//! `*-*~01` (the last day of a month), `*:0/15`, `weekly`. Fractions of seconds are not understood: nobody's window needs them.
//! `tests/it/calendar.rs` compares with `systemd-analyze calendar`.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// An expression that fits no day for this long never will (leap days on a given weekday come back within 40 years).
const FARTHEST_DAYS: u32 = 41 * 366;
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A parsed expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Calendar {
    text: String,
    /// Monday first.
    weekdays: [bool; 7],
    year: Field,
    month: Field,
    day: Field,
    /// The days count from the end of the month.
    from_the_end: bool,
    hour: Field,
    minute: Field,
    second: Field,
    zone: Option<String>,
}

/// What one number may be.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Field(Vec<Part>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Part {
    from: i16,
    to: i16,
    /// At least 1.
    step: i16,
}

impl Field {
    fn any(least: i16, most: i16) -> Self {
        Self(vec![Part { from: least, to: most, step: 1 }])
    }

    fn one(value: i16) -> Self {
        Self(vec![Part { from: value, to: value, step: 1 }])
    }

    fn fits(&self, value: i16) -> bool {
        self.0.iter().any(|p| (p.from..=p.to).contains(&value) && (value - p.from) % p.step == 0)
    }

    /// Days before the end of a month; a repetition goes towards it: `~07/2` are the seventh last, the fifth last and so on.
    fn from_the_end(text: &str) -> Option<Self> {
        let Some((first, step)) = text.split_once('/') else { return Self::parse(text, 1, 31) };
        let (to, step) = (number(first, 1, 31)?, number(step, 1, 31)?);
        (to > step).then(|| Self(vec![Part { from: (to - 1) % step + 1, to, step }]))
    }

    fn parse(text: &str, least: i16, most: i16) -> Option<Self> {
        text.split(',').map(|part| Part::parse(part, least, most)).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl Part {
    fn parse(text: &str, least: i16, most: i16) -> Option<Self> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step, 1, i16::MAX)?)),
            None => (text, None),
        };
        let (from, to) = match range.split_once("..") {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from, least, most)?, number(to, least, most)?),
            None => {
                let from = number(range, least, most)?;
                (from, if step.is_some() { most } else { from })
            }
        };
        (from <= to).then_some(Self { from, to, step: step.unwrap_or(1) })
    }
}

fn number(text: &str, least: i16, most: i16) -> Option<i16> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten()?;
    (least..=most).contains(&value).then_some(value)
}

impl std::str::FromStr for Calendar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!("`{text}` is no calendar expression like `Sat *-*-* 02:00` (systemd.time(7)); try `systemd-analyze calendar`")
        })
    }
}

fn parse(text: &str) -> Option<Calendar> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut calendar = Calendar {
        text: words.join(" "),
        weekdays: [true; 7],
        year: Field::any(1970, 2199),
        month: Field::any(1, 12),
        day: Field::any(1, 31),
        from_the_end: false,
        hour: Field::one(0),
        minute: Field::one(0),
        second: Field::one(0),
        zone: None,
    };
    if let Some(zone) = words.last().filter(|w| is_zone(w)) {
        calendar.zone = Some((*zone).to_owned());
        words.pop();
    }
    if let [word] = words.as_slice()
        && calendar.shorthand(word)
    {
        return Some(calendar);
    }
    let mut words = words.into_iter().peekable();
    let mut any = false;
    if let Some(word) = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_alphabetic())) {
        (calendar.weekdays, any) = (weekdays(word)?, true);
    }
    if let Some(word) = words.next_if(|w| w.contains(['-', '~']) && !w.contains(':')) {
        calendar.date(word)?;
        any = true;
    }
    if let Some(word) = words.next_if(|w| w.contains(':')) {
        calendar.time(word)?;
        any = true;
    }
    (any && words.next().is_none()).then_some(calendar)
}

/// A name of the time zone database, or UTC: no weekday, no shorthand.
fn is_zone(word: &str) -> bool {
    word == "UTC" || (word.contains('/') && word.starts_with(|c: char| c.is_ascii_uppercase()) && !word.contains(':'))
}

fn weekdays(word: &str) -> Option<[bool; 7]> {
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        WEEKDAYS.iter().position(|full| *full == name || full.get(..3) == Some(&name))
    };
    let mut on = [false; 7];
    // `Mon,Wed,` is written in manuals: systemd allows the trailing comma
    for part in word.trim_end_matches(',').split(',') {
        let (from, to) = match part.split_once("..") {
            Some((from, to)) => (day(from)?, day(to)?),
            None => (day(part)?, day(part)?),
        };
        if to < from {
            return None; // as systemd has it
        }
        on.get_mut(from..=to)?.fill(true);
    }
    Some(on)
}

impl Calendar {
    /// systemd.time(7): `minutely` … `yearly`.
    fn shorthand(&mut self, word: &str) -> bool {
        let (any_hour, any_minute) = (Field::any(0, 23), Field::any(0, 59));
        let months = |months: &[i16]| Field(months.iter().map(|m| Part { from: *m, to: *m, step: 1 }).collect());
        match word {
            "minutely" => (self.hour, self.minute) = (any_hour, any_minute),
            "hourly" => self.hour = any_hour,
            "daily" => {}
            "weekly" => self.weekdays = [true, false, false, false, false, false, false],
            "monthly" => self.day = Field::one(1),
            "quarterly" => (self.month, self.day) = (months(&[1, 4, 7, 10]), Field::one(1)),
            "semiannually" => (self.month, self.day) = (months(&[1, 7]), Field::one(1)),
            "yearly" | "annually" => (self.month, self.day) = (Field::one(1), Field::one(1)),
            _ => return false,
        }
        true
    }

    fn date(&mut self, word: &str) -> Option<()> {
        let (head, day) = match word.rsplit_once('~') {
            Some((head, day)) => {
                self.from_the_end = true;
                (head, day)
            }
            None => word.rsplit_once('-')?,
        };
        let month = match head.rsplit_once('-') {
            Some((year, month)) => {
                if year.starts_with("*/") {
                    return None; // from which year on? systemd refuses it too
                }
                self.year = Field::parse(year, 1970, 2199)?;
                month
            }
            None => head,
        };
        self.month = Field::parse(month, 1, 12)?;
        self.day = if self.from_the_end { Field::from_the_end(day)? } else { Field::parse(day, 1, 31)? };
        Some(())
    }

    fn time(&mut self, word: &str) -> Option<()> {
        let mut parts = word.split(':');
        self.hour = Field::parse(parts.next()?, 0, 23)?;
        self.minute = Field::parse(parts.next()?, 0, 59)?;
        self.second = parts.next().map_or(Some(Field::one(0)), |s| Field::parse(s, 0, 59))?;
        parts.next().is_none().then_some(())
    }

    /// The time zone that it names itself.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The first instant after `after` that it fits, in the zone `tz`.
    pub fn next(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        let from = after.checked_add(SignedDuration::from_secs(1)).ok()?.to_zoned(tz.clone()).datetime();
        let mut day = from.date();
        for n in 0..FARTHEST_DAYS {
            if self.fits(day) {
                let mut since =
                    if n == 0 { Some((from.hour(), from.minute(), from.second())) } else { Some((0, 0, 0)) };
                while let Some((hour, minute, second)) = since.and_then(|since| self.first(since)) {
                    // what a change to summer time leaves out comes an hour later; what comes twice, comes once
                    let at = DateTime::from_parts(day, jiff::civil::Time::new(hour, minute, second, 0).ok()?);
                    let at = at.to_zoned(tz.clone()).ok()?.timestamp();
                    if at > after {
                        return Some(at);
                    }
                    since = successor((hour, minute, second));
                }
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    fn fits(&self, day: Date) -> bool {
        let number = if self.from_the_end { day.days_in_month() - day.day() + 1 } else { day.day() };
        let weekday = usize::try_from(day.weekday().since(Weekday::Monday)).unwrap_or_default();
        self.weekdays.get(weekday) == Some(&true)
            && self.year.fits(day.year())
            && self.month.fits(day.month().into())
            && self.day.fits(number.into())
    }

    /// The first time of a day from `since` on.
    fn first(&self, since: (i8, i8, i8)) -> Option<(i8, i8, i8)> {
        for hour in (since.0..24).filter(|h| self.hour.fits((*h).into())) {
            let same_hour = hour == since.0;
            let minutes = if same_hour { since.1 } else { 0 };
            for minute in (minutes..60).filter(|m| self.minute.fits((*m).into())) {
                let seconds = if same_hour && minute == since.1 { since.2 } else { 0 };
                if let Some(second) = (seconds..60).find(|s| self.second.fits((*s).into())) {
                    return Some((hour, minute, second));
                }
            }
        }
        None
    }
}

fn successor((hour, minute, second): (i8, i8, i8)) -> Option<(i8, i8, i8)> {
    match (hour, minute, second) {
        (23, 59, 59) => None,
        (h, 59, 59) => Some((h + 1, 0, 0)),
        (h, m, 59) => Some((h, m + 1, 0)),
        (h, m, s) => Some((h, m, s + 1)),
    }
}

impl std::fmt::Display for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_expression_is_refused_and_told() {
        let bad = [
            "",
            "Mo 02:00",
            "Fri..Mon 3:00",
            "*/2-01-01",
            "25:00",
            "*-13-01",
            "*-*-* 2:60",
            "2:00 3:00",
            "Sat 2:00 Europe",
            "5",
            "*-*-32",
            "1:2:3:4",
            "02:00/0",
        ];
        for text in bad {
            let error = text.parse::<Calendar>().unwrap_err();
            assert!(error.contains("systemd.time(7)"), "{text}");
        }
    }

    #[test]
    fn the_last_saturday_of_a_month_is_found() {
        let calendar: Calendar = "Sat *-*~07/1 02:30".parse().unwrap();
        let from: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(calendar.next(from, &TimeZone::UTC), "2026-11-28T02:30:00Z".parse().ok());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_found_is_ahead(text in "[A-Za-z0-9*:.,/~ -]{0,30}", second in 0_i64..4_000_000_000) {
            if let Ok(calendar) = text.parse::<Calendar>() {
                let after = Timestamp::from_second(second).unwrap();
                prop_assert!(calendar.next(after, &TimeZone::UTC).is_none_or(|at| at > after));
            }
        }
    }
}
