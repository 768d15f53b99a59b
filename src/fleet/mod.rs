//! This node's turn among those of its cluster. What is decided is in `model::fleet`; here it is asked for, remembered, and
//! put into gates (`paused`, `cluster-lock`, `maintenance`).
//!
//! Three kinds of Lease, in `fleet.namespace`: [`NOTES`] is held by nobody and carries what all are to know, by annotations;
//! [`CONTROL_PLANE`] is the lock of the control planes; `certwarden-worker-N` are as many as workers may act at once.

mod asker;
pub mod calm;
mod held;
mod look;
pub mod memory;
mod obstacles;
mod ours;
pub mod pause;
mod peers;
mod roster;
mod take;
mod tell;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::Host;
use crate::model::fleet::lease::{Call, Claim, Ended, Reply, Step};
use crate::model::fleet::slot::Slots;
use crate::model::fleet::turn;
use crate::model::fleet::wait::{Wait, retry};
use crate::model::inventory::{Inventory, Role};
use crate::model::policy::{Lock, Policy};
use crate::model::schedule::{Who, seed};

use asker::Asker;
pub use held::Held;
pub use look::{Look, node_of};
pub use ours::OurTurn;
pub use roster::{Desk, Roster};

use memory::{Durable, OfBoot};

/// Where everybody reads what everybody is to know.
pub const NOTES: &str = "certwarden";
/// The lock of the control planes.
pub const CONTROL_PLANE: &str = "certwarden-control-plane";
/// The locks of the workers, with a number.
pub const WORKER: &str = "certwarden-worker";

/// This node among the others.
#[derive(Debug)]
pub struct Cluster<'a> {
    host: &'a Host,
    policy: &'a Policy,
    inventory: &'a Inventory,
    node: String,
    machine_id: String,
    /// For what is spread by chance.
    who: Who,
    role: Role,
    /// None: there is nothing to ask with.
    asker: Option<Asker<'a>>,
    /// This node's own mark of harm is set; None: nobody has looked.
    marked: Cell<Option<bool>>,
    /// Of what is to be renewed, what ends first.
    end: Cell<Timestamp>,
    /// How long before that it is an emergency.
    emergency: Cell<Duration>,
    /// All control planes that are known, this one among them.
    ranks: RefCell<Vec<String>>,
    /// The lock was taken over in the last slot before the end: nothing ends this renewal but itself.
    last_slot: Cell<bool>,
    /// The lock, while this node has it.
    claim: RefCell<Option<Claim>>,
    /// What is left of the time that asking for it may cost after the commit.
    left: Cell<Duration>,
    /// When it was renewed last, or that was tried: by the clock since boot.
    renewed: Cell<Duration>,
}

impl<'a> Cluster<'a> {
    /// None where nobody is to be asked: on an image, switched off, or a node that does not know its own name.
    pub fn of(host: &'a Host, policy: &'a Policy, inventory: &'a Inventory) -> Option<Self> {
        let role = inventory.node.role;
        // a member of etcd whose kubelet belongs to no cluster has nobody to ask
        let alone = role == Role::Unknown || (role == Role::Etcd && inventory.node.kubelet.kubeconfig.is_none());
        if !host.live || policy.fleet.lock == Lock::Off || alone {
            return None;
        }
        let node = inventory.node.name.clone()?;
        let machine_id = host.root.read_text(Path::new("/etc/machine-id")).unwrap_or_default();
        let own = &policy.fleet.kubeconfig;
        let asker = if !own.as_os_str().is_empty() {
            let asker =
                Asker::with(host, own).inspect_err(|why| tracing::warn!("the cluster is not asked: {why}")).ok();
            if role == Role::ControlPlane { asker } else { asker.map(Asker::unhurried) }
        } else if role == Role::ControlPlane {
            Asker::administrator(host, inventory, &Durable::load(&host.root).servers)
        } else {
            None
        };
        Some(Self {
            host,
            policy,
            inventory,
            node,
            who: calm::who(host, inventory),
            machine_id,
            role,
            asker,
            marked: Cell::new(None),
            end: Cell::new(Timestamp::MAX),
            emergency: Cell::new(policy.renew.emergency_before.0),
            ranks: RefCell::default(),
            last_slot: Cell::new(false),
            claim: RefCell::default(),
            left: Cell::new(held::AFTER_COMMIT),
            renewed: Cell::new(Duration::ZERO),
        })
    }

    /// The same after every restart, another one for a machine that was made anew under the same name.
    fn me(&self) -> String {
        format!("{}_{:08x}", self.node, seed(self.machine_id.trim()) & 0xffff_ffff)
    }

    /// Longer than a transaction and its way back, whatever is configured for these.
    pub fn lasts(&self) -> Duration {
        let transaction = self.policy.verify.timeout.0.saturating_mul(2).saturating_add(Duration::from_secs(60));
        self.policy.fleet.lease_duration.0.max(transaction)
    }

    /// This control plane's slots of time in an emergency.
    fn slots(&self) -> Slots {
        Slots::of(&self.node, &self.ranks.borrow(), self.lasts(), self.emergency.get())
    }

    /// The lock that this node needs.
    fn lock(&self) -> String {
        match self.role {
            Role::ControlPlane => CONTROL_PLANE.to_owned(),
            _ => format!("{WORKER}-{}", turn::slot(&self.who, self.policy.fleet.workers_at_once)),
        }
    }

    fn lease(&self, name: &str, call: &Call) -> Reply {
        match &self.asker {
            Some(asker) => asker.lease(&self.policy.fleet.namespace, name, call),
            None => Reply::Refused("there is no credential to ask with".to_owned()),
        }
    }

    fn drive(&self, name: &str, claim: &mut Claim, mut step: Step) -> Ended {
        loop {
            match step {
                Step::Done(ended) => return ended,
                Step::Send(call) => {
                    let reply = self.lease(name, &call);
                    step = claim.on(&call, reply, self.host.clock.since_boot());
                }
            }
        }
    }

    /// When to look again, `free` being until something can have changed.
    fn again(&self, memory: &mut OfBoot, free: Duration, settling: bool) -> Option<Timestamp> {
        memory.attempt = memory.attempt.saturating_add(1);
        let now = self.host.clock.now();
        let left = Duration::try_from(self.end.get().duration_since(now)).unwrap_or_default();
        let slack = left.saturating_sub(self.emergency.get());
        // where there are windows, there is time in this one only
        let shuts = calm::closes(self.policy, now).and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let slack = shuts.map_or(slack, |shuts| slack.min(shuts));
        let wait = Wait { attempt: memory.attempt, free, settling, slack };
        let wait = retry(self.role, &self.who, wait, self.policy);
        now.checked_add(SignedDuration::try_from(wait).ok()?).ok()
    }
}
