//! The time zone database (tzdata's files, read by jiff).

use jiff::tz::TimeZone;

/// A zone by its name; the machine's own for an empty one. None: nobody knows it, or the database is not installed.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() { Some(TimeZone::system()) } else { TimeZone::get(name).ok() }
}
