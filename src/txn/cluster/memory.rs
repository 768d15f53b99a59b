//! What is remembered about the cluster: across processes of one boot, what was seen and since when; across boots, whom to ask.
//! Neither is needed to be right: what is lost is seen again, and costs a wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::fs::Root;
use crate::model::fleet::lease::Seen;
use crate::model::fleet::notes::Harm;

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
    /// Names of all control planes, as the API told them last.
    pub control_planes: Vec<String>,
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
        load(root, DURABLE)
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
