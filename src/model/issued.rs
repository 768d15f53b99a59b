//! What certwarden's own renewals have given: the only measure of how long a certificate of this node lives. One that somebody
//! made for a few days does not say how long the next one lives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::inventory::{Content, Inventory};
use super::report::{Outcome, Report};

/// Serial numbers of the leaves that certwarden has put in place last, by logical name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Issued(BTreeMap<String, String>);

impl Issued {
    /// Adds what is new and stays so.
    pub fn add(&mut self, report: &Report) {
        let stays = |r: &&Report| matches!(r.outcome, Outcome::Verified | Outcome::Committed | Outcome::Degraded);
        let new = report.all().filter(stays).flat_map(|r| &r.renewed);
        self.0.extend(new.map(|r| (r.name.clone(), r.new_serial.clone())));
    }

    /// Adds what is known later.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Marks the leaves that are known here.
    pub fn mark(&self, inventory: &mut Inventory) {
        for entry in &mut inventory.entries {
            let Content::Readable(credential) = &mut entry.content else { continue };
            let Some(leaf) = credential.chain.first_mut() else { continue };
            leaf.issued_here = self.0.get(&entry.name) == Some(&leaf.serial);
        }
    }
}
