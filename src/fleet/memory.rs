//! What is remembered about the cluster: across processes of one boot, what was seen and since when; across boots, whom to ask.
//! Neither is needed to be right: what is lost is seen again, and costs a wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::fs::Root;
use crate::model::fleet::lease::{Record, Seen};
use crate::model::fleet::notes::Harm;
use crate::model::fleet::outage::Outage;
use crate::model::fleet::peers::Known;

/// Gone with the boot, as the clock is that its times are of.
const OF_BOOT: &str = "/run/certwarden/cluster.json";
const DURABLE: &str = "/var/lib/certwarden/cluster.json";
const MAX: u64 = 1 << 20;

/// Times are since boot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct OfBoot {
    /// Leases by name.
    pub seen: BTreeMap<String, Seen>,
    /// Since when something stands in the way, by what it is.
    pub since: BTreeMap<String, Duration>,
    /// How often it was not this node's turn, in a row.
    pub attempt: u64,
    /// When nobody could be asked.
    pub outage: Outage,
    /// What the journal was told last about who the control planes are.
    pub told: Vec<String>,
}

impl OfBoot {
    pub fn load(root: &Root) -> Self {
        load(root, OF_BOOT)
    }

    pub fn save(&self, root: &Root) {
        let directory = Path::new(OF_BOOT).parent().unwrap_or(Path::new("/run"));
        if let Err(e) = root.create_dir_all(directory, 0o755) {
            tracing::debug!("{e}");
        }
        save(root, OF_BOOT, self);
    }

    pub fn seen_of(&self, lease: &str) -> Seen {
        self.seen.get(lease).cloned().unwrap_or_default()
    }

    pub fn seen_mut(&mut self, lease: &str) -> &mut Seen {
        self.seen.entry(lease.to_owned()).or_default()
    }

    /// Tells the journal what it does not know yet.
    pub fn warn_once(&mut self, sentences: &[String]) {
        sentences.iter().filter(|s| !self.told.contains(s)).for_each(|s| tracing::warn!("{s}"));
        self.told = sentences.to_vec();
    }

    /// For how long this very tenure of a lock has been in the way: whoever has it next is waited for anew.
    pub fn tenure(&mut self, lock: &str, record: &Record, clock: Duration) -> Duration {
        let of_the_lock = format!("waited {lock} ");
        let what = format!("{of_the_lock}{} {}", record.transitions, record.holder);
        self.since.retain(|known, _| !known.starts_with(&of_the_lock) || *known == what);
        self.stands(&what, clock)
    }

    /// It is this node's turn: nobody has been waited for.
    pub fn at_last(&mut self) {
        self.since.retain(|what, _| !what.starts_with("waited "));
        self.attempt = 0;
    }

    /// For how long `what` has stood in the way.
    pub fn stands(&mut self, what: &str, clock: Duration) -> Duration {
        let since = self.since.entry(what.to_owned()).or_insert(clock);
        *since = (*since).min(clock);
        clock.saturating_sub(*since)
    }
}

/// Across boots.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Durable {
    /// The other control planes by name, or by address where no name is known.
    pub members: BTreeMap<String, Known>,
    /// The same as 0.1.0 wrote it, this node among them: taken over when it is read.
    #[serde(skip_serializing)]
    control_planes: Vec<String>,
    /// URLs of all API servers.
    pub servers: Vec<String>,
    /// Since when this node has been seen to be cordoned, where the API server does not say it.
    pub cordoned: Option<Timestamp>,
    /// What could not be told to the others yet.
    pub owed: Option<Owed>,
}

/// A mark of harm that is to be set or, with none, to be removed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Owed {
    pub harm: Option<Harm>,
}

impl Durable {
    pub fn load(root: &Root) -> Self {
        let mut memory: Self = load(root, DURABLE);
        for name in std::mem::take(&mut memory.control_planes) {
            memory.members.entry(name).or_default();
        }
        memory
    }

    /// Whether others do not know yet of a harm that this node has come to.
    pub fn owes_harm(&self) -> bool {
        self.owed.as_ref().is_some_and(|owed| owed.harm.is_some())
    }

    /// Only what has changed is written.
    pub fn update(root: &Root, change: impl FnOnce(&mut Self)) {
        let before = Self::load(root);
        let mut now = before.clone();
        change(&mut now);
        if now != before {
            save(root, DURABLE, &now);
        }
    }
}

fn load<T: Default + DeserializeOwned>(root: &Root, path: &str) -> T {
    let bytes = root.read(Path::new(path), MAX).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn save<T: Serialize>(root: &Root, path: &str, value: &T) {
    let Ok(json) = serde_json::to_vec_pretty(value) else { return };
    if let Err(e) = root.write(Path::new(path), &json, 0o600) {
        tracing::debug!("{e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenure_of_a_lock_is_waited_for_anew_and_other_locks_are_not_forgotten_for_it() {
        let secs = Duration::from_secs;
        let record = |transitions, holder: &str| Record { transitions, holder: holder.to_owned(), ..Record::default() };
        let mut memory = OfBoot::default();
        memory.tenure("b", &record(1, "x"), secs(0));
        assert_eq!(memory.tenure("a", &record(1, "x"), secs(100)), secs(0));
        assert_eq!(memory.tenure("a", &record(1, "x"), secs(160)), secs(60));
        assert_eq!(memory.tenure("a", &record(2, "x"), secs(170)), secs(0), "the same node, another tenure");
        assert_eq!(memory.tenure("a", &record(2, "y"), secs(180)), secs(0), "somebody who does not count");
        assert_eq!(memory.tenure("a", &record(2, "x"), secs(190)), secs(0), "what was waited for is gone");
        assert_eq!(memory.tenure("b", &record(1, "x"), secs(200)), secs(200));
        memory.at_last();
        assert_eq!(memory.tenure("b", &record(1, "x"), secs(210)), secs(0));
    }

    #[test]
    fn what_0_1_0_remembered_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create_dir_all(Path::new("/var/lib/certwarden"), 0o700).unwrap();
        root.write(Path::new(DURABLE), br#"{"control_planes": ["cp1", "cp2"], "servers": []}"#, 0o600).unwrap();
        assert_eq!(Durable::load(&root).members.into_keys().collect::<Vec<_>>(), ["cp1", "cp2"]);
    }
}
