//! What was found, for whoever is on the node: written without privilege, read by root.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::host::fs::{FsError, Root};
use crate::model::diagnose::facts::{By, Seen};
use crate::model::layers::{Brief, Row};
use crate::observe::clock;

const FILE: &str = "/run/certwarden-watch/watch.json";
/// Rows of `certwarden status`.
const MOST_SHOWN: usize = 5;

pub(super) fn publish(root: &Root, brief: &Brief) -> Result<(), FsError> {
    let json =
        serde_json::to_vec_pretty(brief).map_err(|e| FsError::new("encode", Path::new(FILE), io::Error::other(e)))?;
    root.place_without_links(Path::new(FILE))?
        .write_pieces(|out| out.write_all(&json).and_then(|()| out.write_all(b"\n")))
}

/// What `certwarden watch` on this node has found.
pub fn found(root: &Root) -> Seen<Brief> {
    // no link is followed, since somebody else decides what lies there
    let seen = root.place_without_links(Path::new(FILE)).and_then(|place| place.look());
    match seen {
        Ok(seen) => match Brief::parse(&seen.bytes) {
            Ok(brief) => Seen::Known(brief, By::Root),
            Err(why) => Seen::Unseen(format!("{FILE} is {why}")),
        },
        Err(FsError::NotFound { .. }) => Seen::Unseen("certwarden-watch.service does not run here".to_owned()),
        Err(e) => Seen::Unseen(e.to_string()),
    }
}

/// Lines of `certwarden status`.
pub fn render(brief: &Brief, now: Timestamp) -> String {
    render_in(brief, now, &TimeZone::system())
}

fn render_in(brief: &Brief, now: Timestamp, tz: &TimeZone) -> String {
    let at = clock(brief.at, now, tz);
    if !brief.is_fresh(now) {
        return format!("other layers nothing is known since {at}: does certwarden-watch.service hang?");
    }
    let counts = format!("{} objects, {} endpoints", brief.objects, brief.probes);
    let head = format!("other layers {at} {}, {counts}", brief.verdict.label());
    let row = |row: &Row| {
        let name = if row.name.is_empty() { &row.kind } else { row.name.as_str() };
        format!("{:<13}{name}: {}", "", row.message)
    };
    let more = brief.attention.len().saturating_sub(MOST_SHOWN) + brief.more;
    let more = (more > 0).then(|| format!("{:<13}and {more} more: certwarden diagnose layers", ""));
    let rows = brief.attention.iter().take(MOST_SHOWN).map(row);
    std::iter::once(head).chain(rows).chain(more).collect::<Vec<_>>().join("\n")
}
