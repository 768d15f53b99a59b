//! What is configured about other nodes and about time.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Span;
use super::span::Text;
use crate::model::fleet::calendar::Calendar;

/// How the nodes of a cluster take turns.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    pub lock: Lock,
    /// Where the Leases and ConfigMaps are.
    pub namespace: String,
    /// With what a worker asks for its turn: the kubelet's own kubeconfig. Empty: it asks nobody, and is spread by time alone. Control
    /// planes use admin.conf.
    pub kubeconfig: PathBuf,
    /// A holder that has not renewed the lock for this long has lost it. Longer than a transaction and its way back.
    pub lease_duration: Span,
    /// After a renewal the cluster gets this long before the next node begins.
    pub settle: Span,
    /// How often a control plane that waits for its turn looks; a worker thirty times more rarely at the most.
    pub retry: Span,
    /// Workers that may act at the same time.
    pub workers_at_once: u64,
    /// Workers act this much later than control planes.
    pub workers_after: Span,
    /// And spread over this time.
    pub spread: Span,
    /// How long a mark of harm holds the others back.
    pub patience: Span,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            lock: Lock::default(),
            namespace: "kube-system".to_owned(),
            kubeconfig: PathBuf::new(),
            lease_duration: Span::secs(20 * 60),
            settle: Span::secs(5 * 60),
            retry: Span::secs(60),
            workers_at_once: 1,
            workers_after: Span::days(1),
            spread: Span::days(2),
            patience: Span::days(2),
        }
    }
}

/// Whether nodes take turns.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// Where there is more than one control plane.
    #[default]
    Auto,
    /// Never: something else sees to it.
    Off,
}

/// When renewals may begin.
/// What others do to this node that keeps a renewal from it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Maintenance {
    /// A cordon that is older is how the node is meant to be, and nobody's maintenance.
    pub cordon_age: Span,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { cordon_age: Span::days(1) }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Windows {
    /// When windows open; none: at any time.
    pub calendar: Vec<Calendar>,
    /// How long each stays open.
    pub duration: Span,
    /// Of expressions that name none; empty: the machine's.
    pub time_zone: String,
    /// The last window that opens so long before the end of a certificate is the one that is used.
    pub deadline: Span,
}

impl Default for Windows {
    fn default() -> Self {
        let (calendar, time_zone) = (Vec::new(), String::new());
        Self { calendar, duration: Span::secs(2 * 3_600), time_zone, deadline: Span::days(10) }
    }
}

/// When nothing is renewed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Freeze {
    /// From one day to another, both within: `2026-12-20/2027-01-05`.
    pub periods: Vec<Days>,
}

/// Whole days, from the first to the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Days {
    pub first: jiff::civil::Date,
    pub last: jiff::civil::Date,
}

impl std::str::FromStr for Days {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let days = s.split_once('/').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        days.filter(|d| d.first <= d.last)
            .ok_or_else(|| format!("`{s}` is not a period like `2026-12-20/2027-01-05`, the first day and the last"))
    }
}

impl std::fmt::Display for Days {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}/{}", self.first, self.last))
    }
}

impl Serialize for Days {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text { expected: "two days in quotes, like \"2026-12-20/2027-01-05\"", parse: str::parse })
    }
}

impl Serialize for Calendar {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Calendar {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text {
            expected: "a calendar expression in quotes, like \"Sat *-*-* 02:00\"",
            parse: str::parse,
        })
    }
}
