//! What the approver remembers from one pass to the next, and of Nodes across restarts.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::gather;
use super::view::{Seen, View};
use crate::host::Host;
use crate::host::fs::Root;
use crate::host::kube::Connection;
use crate::model::approve::Filed;
use crate::model::approve::neighbours::Neighbours;
use crate::model::approve::queue::Queue;
use crate::model::cause::chain;
use crate::model::policy::Approver as Rules;

/// How often requests that are left to a person are judged anew: all Nodes and Services are read for it, and whoever files them
/// does not decide how much the API server has to do.
const AGAIN: i64 = 60;
/// Which Nodes there are and were, for the next process: one that is deleted between two is known, too.
const STATE: &str = "/var/lib/certwarden/approver.json";
/// More than the Nodes that are remembered can need.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What is known from one pass to the next.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) view: View,
    pub(super) neighbours: Neighbours,
    /// The Nodes, as they were last written down.
    written: Value,
    /// When the Nodes were last looked at.
    pub(super) looked: Option<Timestamp>,
    pub(super) seen: Seen,
    /// Requests that are left to a person, each told once.
    pub(super) told: BTreeSet<String>,
    pub(super) undecided: usize,
    /// By which rules that was so, and since when.
    pub(super) judged: Option<(Rules, Timestamp)>,
    /// Requests that are not looked at.
    left_out: usize,
    /// Whose turn was the last where not all had one.
    pub(super) last: String,
}

impl Memory {
    /// With what an earlier process has written down.
    pub fn open(root: &Root, view: View) -> Self {
        let mut memory = Self { view, ..Self::default() };
        if let Ok(bytes) = root.read(Path::new(STATE), LARGEST)
            && let Ok(written) = serde_json::from_slice(&bytes)
        {
            memory.neighbours.remember(&written);
            memory.written = written;
        }
        memory
    }

    /// How many requests are left to a person, for any reason.
    pub fn undecided(&self) -> usize {
        self.undecided + self.left_out
    }

    pub(super) fn leave_out(&mut self, now: usize) {
        if self.left_out == 0 && now > 0 {
            tracing::warn!(
                "{now} requests for serving certificates are too large to be looked at: no kubelet files such"
            );
        }
        self.left_out = now;
    }

    /// Whether all these requests were left to a person just now, by the same rules.
    pub(super) fn knows(&self, queue: &Queue<(Filed, Value)>, rules: &Rules, now: Timestamp) -> bool {
        let lately = |at: &Timestamp| now.as_second().saturating_sub(at.as_second()) < AGAIN;
        self.judged.as_ref().is_some_and(|(by, at)| by == rules && lately(at))
            && queue.all(|(filed, _)| self.told.contains(&filed.name))
    }

    pub(super) fn look(&mut self, host: &Host, to: &Connection) -> Result<(), String> {
        gather::nodes(host, to, &mut self.neighbours)?;
        self.looked = Some(host.clock.now());
        let now = self.neighbours.remembered();
        if now != self.written {
            match host.root.write(Path::new(STATE), now.to_string().as_bytes(), 0o600) {
                Ok(()) => self.written = now,
                Err(e) => tracing::debug!("the Nodes cannot be remembered across a restart: {}", chain(&e)),
            }
        }
        Ok(())
    }
}
