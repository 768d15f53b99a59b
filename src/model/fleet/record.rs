//! The record of a lock, as the API server keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// A record that claims longer is not believed: configuration does not allow it, so nobody relies on it.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// The Lease, as far as it matters here.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Record {
    /// `spec.holderIdentity`; empty: nobody.
    pub holder: String,
    /// Who held it last, by annotation: for people, and because nobody has to wait for his own cool-down.
    pub last: String,
    /// `spec.leaseDurationSeconds`: for how long it must be seen unchanged before another may take it.
    pub seconds: u32,
    /// For people: no decision is made by them.
    pub acquired: Option<Timestamp>,
    pub renewed: Option<Timestamp>,
    pub transitions: u32,
    /// `metadata.resourceVersion`; empty in a record to be created.
    pub version: String,
    /// Carried along, because an update replaces the object.
    pub annotations: BTreeMap<String, String>,
}
