//! The API server, as far as the agents use it: one Lease, the notes, and its past.

use certwarden::model::fleet::lease::{Call, Record, Reply};

use super::case::NODES;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Server {
    pub lease: Option<Record>,
    pub version: u64,
    /// What the Lease was before, where a case needs it: what a stale read tells and a backup has.
    pub past: Vec<Option<Record>>,
    /// A request that is still on its way, a second time.
    pub late: Option<Call>,
    /// Since when each node is marked as harmed.
    pub harm: [Option<u16>; NODES],
}

impl Server {
    /// With a Lease that somebody has given up long ago.
    pub fn new(lease: Record) -> Self {
        Self { lease: Some(lease), version: 1, past: Vec::new(), late: None, harm: [None; NODES] }
    }

    /// `checked`: a write must name the version that it replaces. `keeps`: how many states of the past are remembered.
    pub fn obey(&mut self, call: &Call, checked: bool, keeps: usize) -> Reply {
        let new = match (call, &self.lease) {
            (Call::Get, now) => return now.clone().map_or(Reply::Absent, Reply::Is),
            (Call::Update(_), None) => return Reply::Absent,
            (Call::Create(_), Some(_)) => return Reply::Conflict,
            (Call::Update(new), Some(now)) if checked && new.version != now.version => return Reply::Conflict,
            (Call::Create(new) | Call::Update(new), _) => new.clone(),
        };
        self.put(new, keeps);
        self.lease.clone().map_or(Reply::Absent, Reply::Is)
    }

    pub fn put(&mut self, record: Record, keeps: usize) {
        self.remember(keeps);
        self.version += 1;
        self.lease = Some(Record { acquired: None, version: self.version.to_string(), ..record });
    }

    fn remember(&mut self, keeps: usize) {
        if keeps == 0 || self.past.contains(&self.lease) {
            return;
        }
        // the first one stays: the oldest is what can do most harm
        if self.past.len() == keeps {
            self.past.remove(usize::from(keeps > 1));
        }
        self.past.push(self.lease.clone());
    }

    pub fn delete(&mut self, keeps: usize) {
        self.remember(keeps);
        self.lease = None;
    }

    /// etcd counts its versions from the backup on again.
    pub fn restore(&mut self, record: Option<Record>) {
        self.version = record.as_ref().and_then(|r| r.version.parse().ok()).unwrap_or(self.version);
        self.lease = record;
    }
}
