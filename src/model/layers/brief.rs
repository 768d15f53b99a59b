//! What `certwarden watch` found, in short, for whoever is on the node: what is not well, and no more of it than fits a screen or two.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Layers;
use super::judge::{Row, SCHEMA, rows};
use crate::model::assess::Severity;
use crate::model::plain;
use crate::model::policy::Policy;

/// Rows that are kept: the worst. `certwarden watch --once` has all.
const MOST: usize = 50;
/// Written every minute while it runs; later it is not the present any more.
const FRESH: SignedDuration = SignedDuration::from_mins(10);
/// In characters; a screen's line or two.
const LONGEST: usize = 300;

/// In short.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Brief {
    pub schema: String,
    pub at: Timestamp,
    pub verdict: Severity,
    pub objects: usize,
    pub probes: usize,
    /// What is not well, worst first.
    pub attention: Vec<Row>,
    /// What is not well besides.
    pub more: usize,
}

/// Judges everything at an instant, in the memory of a few rows.
pub fn brief(layers: &Layers, policy: &Policy, now: Timestamp) -> Brief {
    let (mut worst, mut all): (Vec<Row>, usize) = (Vec::new(), 0);
    for row in rows(layers, policy, now).filter(|r| r.severity != Severity::Ok) {
        all += 1;
        worst.push(row);
        if worst.len() >= 4 * MOST {
            worst.sort_by(Row::order);
            worst.truncate(MOST);
        }
    }
    worst.sort_by(Row::order);
    worst.truncate(MOST);
    Brief {
        schema: SCHEMA.to_owned(),
        at: now,
        verdict: worst.first().map_or(Severity::Ok, |r| r.severity),
        objects: layers.len(),
        probes: layers.probes.all().count(),
        more: all - worst.len(),
        attention: worst,
    }
}

impl Brief {
    /// Of a file of somebody without privilege, for a terminal of somebody with: bounded, and without control characters.
    ///
    /// # Errors
    /// What is wrong with it, without what is in it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let malformed = |e: serde_json::Error| format!("not of this version of certwarden, at line {}", e.line());
        let mut brief: Self = serde_json::from_slice(json).map_err(malformed)?;
        if brief.schema != SCHEMA {
            return Err("of another version of certwarden".to_owned());
        }
        brief.attention.truncate(MOST);
        for row in &mut brief.attention {
            row.kind = plain::line(&row.kind, LONGEST).into();
            for text in [&mut row.name, &mut row.part, &mut row.message] {
                *text = plain::line(text, LONGEST);
            }
        }
        Ok(brief)
    }

    /// Whether it is of the present. A little of the future is a clock that was set.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.duration_since(self.at).abs() <= FRESH
    }
}
