//! How a diagnosis names certificates and times.

use jiff::SignedDuration;

use super::facts::Certificate;

/// The names of certificates.
pub(super) fn names(list: &[&Certificate]) -> String {
    list.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// When it ends or ended, and which it is.
pub(super) fn ending(c: &Certificate) -> String {
    match &c.leaf {
        Some(leaf) => format!("{} ({}): not after {}, serial {}", c.name, c.path, leaf.not_after, leaf.serial),
        None => format!("{} ({})", c.name, c.path),
    }
}

/// A time, to the second.
pub(super) fn short(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

/// A difference in the largest unit that tells it.
pub(super) fn told(d: SignedDuration) -> String {
    let s = d.abs().as_secs();
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}
