//! What endpoints really show to their clients.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Layers, Leaf};

/// The certificate that an endpoint showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    pub leaf: Leaf,
    pub subject: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Why a client would not accept it; None: it would.
    pub refused: Option<String>,
}

/// One probe's last run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probed {
    pub at: Timestamp,
    pub took: Duration,
    pub address: String,
    /// `namespace/name` of the Secret whose certificate it should show; empty: none is named.
    pub secret: String,
    /// What it showed, or why nothing.
    pub shown: Result<Shown, String>,
}

impl Probed {
    /// Whether it shows another certificate than its Secret has; None where that cannot be said.
    pub fn drift(&self, layers: &Layers) -> Option<bool> {
        let shown = self.shown.as_ref().ok()?;
        let secret = layers.secret(&self.secret)?;
        Some(secret.fingerprint != shown.leaf.fingerprint)
    }
}

/// All probes that have run, by name.
#[derive(Debug, Default)]
pub struct Probes(BTreeMap<String, Probed>);

impl Probes {
    pub fn put(&mut self, name: &str, probed: Probed) {
        self.0.insert(name.to_owned(), probed);
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &Probed)> {
        self.0.iter().map(|(name, probed)| (name.as_str(), probed))
    }
}
