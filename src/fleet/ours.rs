//! This node's turn as a transaction sees it: with the cluster's lock, or without it.

use std::time::Duration;

use jiff::Timestamp;

use super::Cluster;
use super::held::Held;
use crate::model::report::Report;
use crate::txn::turn::{Doubt, Turn};

/// The cluster that is told, and its lock where it was taken.
#[derive(Debug)]
pub struct OurTurn<'a> {
    cluster: &'a Cluster<'a>,
    lock: Option<Held<'a>>,
}

impl<'a> OurTurn<'a> {
    pub fn with(cluster: &'a Cluster<'a>, lock: Held<'a>) -> Self {
        Self { cluster, lock: Some(lock) }
    }

    /// Nothing is lost with the lock. One that this node still has from before a restart is kept in every wait all the same.
    pub fn without_lock(cluster: &'a Cluster<'a>) -> Self {
        Self { cluster, lock: None }
    }
}

impl Turn for OurTurn<'_> {
    fn beat(&self) {
        self.cluster.beat();
    }

    fn keep(&self) -> Result<(), Doubt> {
        self.lock.as_ref().map_or(Ok(()), Held::keep)
    }

    fn goes_on(&self, doubt: &Doubt) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.goes_on(doubt))
    }

    fn keep_if_quick(&self) -> Result<(), Doubt> {
        self.lock.as_ref().map_or(Ok(()), Held::keep_if_quick)
    }

    fn is_sure(&self, need: Duration) -> Result<(), Doubt> {
        self.cluster.is_sure(need)
    }

    fn rolling_back(&self, at: Timestamp, reason: &str) {
        self.cluster.rolling_back(at, reason);
    }

    fn give_up(self: Box<Self>) {
        if let Some(lock) = self.lock {
            lock.give_up();
        }
    }

    fn end(self: Box<Self>, report: &Report) -> Vec<String> {
        match self.lock {
            Some(lock) => lock.end(report),
            None => self.cluster.end_without_lock(report),
        }
    }
}
