//! What the agents of a cluster tell of themselves, by annotations of their Nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::{Roster, node_of};
use crate::host::kube::nodes::NodeLine;
use crate::model::fleet::lease::Record;
use crate::model::fleet::notes::{Harm, Pause};
use crate::model::plain;

pub const SCHEMA: &str = "certwarden.fleet/v1";
/// Any of these says that there is an agent.
const VERSION: &str = "certwarden.io/version";
const EARLIEST: &str = "certwarden.io/earliest-expiry";
const NEXT: &str = "certwarden.io/next-action";
const LAST: &str = "certwarden.io/last-renewal";

/// All nodes of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Fleet {
    pub schema: &'static str,
    pub at: Timestamp,
    pub nodes: Vec<Member>,
    pub locks: Vec<Lock>,
    pub pause: Option<Pause>,
    pub harm: BTreeMap<String, Harm>,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    pub name: String,
    pub control_plane: bool,
    /// As `kubectl get nodes` says.
    pub status: String,
    /// An agent has told of itself.
    pub agent: bool,
    pub version: Option<String>,
    pub earliest_expiry: Option<String>,
    pub next_action: Option<String>,
    pub last_renewal: Option<String>,
    /// It holds a lock: it is at work, or died at it.
    pub holds: Option<String>,
}

/// One lock. Times are the holder's clock's.
#[derive(Clone, Debug, Serialize)]
pub struct Lock {
    pub lease: String,
    pub holder: Option<String>,
    pub last_holder: Option<String>,
    pub renewed: Option<Timestamp>,
    pub seconds: u32,
    pub transitions: u32,
}

impl Fleet {
    pub fn of(roster: Roster, at: Timestamp) -> Self {
        let locks: Vec<Lock> = roster.locks.into_iter().map(|(lease, record)| lock(lease, &record)).collect();
        let mut nodes: Vec<Member> = roster.nodes.into_iter().map(|node| member(node, &locks)).collect();
        nodes.sort_by(|a, b| (!a.control_plane, &a.name).cmp(&(!b.control_plane, &b.name)));
        Self { schema: SCHEMA, at, nodes, locks, pause: roster.pause, harm: roster.harm }
    }
}

fn lock(lease: String, record: &Record) -> Lock {
    let name = |identity: &str| Some(node_of(identity).to_owned()).filter(|n| !n.is_empty());
    let (holder, last_holder) = (name(&record.holder), name(&record.last));
    Lock {
        lease,
        holder,
        last_holder,
        renewed: record.renewed,
        seconds: record.seconds,
        transitions: record.transitions,
    }
}

fn member(mut node: NodeLine, locks: &[Lock]) -> Member {
    let mut told = |key: &str| node.annotations.remove(key).map(|text| plain::line(&text, plain::CLAUSE));
    let (version, earliest_expiry) = (told(VERSION), told(EARLIEST));
    let (next_action, last_renewal) = (told(NEXT), told(LAST));
    let holds = locks.iter().find(|l| l.holder.as_ref() == Some(&node.name)).map(|l| l.lease.clone());
    let agent = [&version, &earliest_expiry, &next_action, &last_renewal].iter().any(|a| a.is_some());
    Member {
        name: node.name,
        control_plane: node.control_plane,
        status: node.status,
        agent,
        version,
        earliest_expiry,
        next_action,
        last_renewal,
        holds,
    }
}
