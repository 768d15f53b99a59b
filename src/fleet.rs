//! This node's turn among those of its cluster. What is decided is in `model::fleet`; here it is asked for, remembered, and
//! put into gates (`paused`, `cluster-lock`, `maintenance`).
//!
//! The objects that are asked for, and who writes which, are in `model::fleet::place`.

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
use crate::model::fleet::place::{Place, Writer};
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
    writer: Writer,
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
        let asker = asker(host, policy, inventory, &node);
        let named = asker.as_ref().and_then(Asker::node);
        Some(Self {
            host,
            policy,
            inventory,
            node,
            who: calm::who(host, inventory),
            machine_id,
            role,
            writer: Writer::of(role, named.as_deref()),
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
    fn lock(&self) -> Place {
        self.writer.lock(turn::slot(&self.who, self.policy.fleet.workers_at_once))
    }

    fn exchange(&self, place: &Place, call: &Call) -> Reply {
        match &self.asker {
            Some(asker) => asker.exchange(&self.policy.fleet.namespace, place, call),
            None => Reply::Refused("there is no credential to ask with".to_owned()),
        }
    }

    fn drive(&self, lock: &Place, claim: &mut Claim, mut step: Step) -> Ended {
        loop {
            match step {
                Step::Done(ended) => return ended,
                Step::Send(call) => {
                    let reply = self.exchange(lock, &call);
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

/// With what the cluster is asked; None: with nothing. `node`: this one's name.
fn asker<'a>(host: &'a Host, policy: &'a Policy, inventory: &'a Inventory, node: &str) -> Option<Asker<'a>> {
    let own = &policy.fleet.kubeconfig;
    let control_plane = inventory.node.role == Role::ControlPlane;
    let administrator = || Asker::administrator(host, inventory, &Durable::load(&host.root).servers);
    if own.as_os_str().is_empty() {
        return control_plane.then(administrator).flatten();
    }
    let named = Asker::with(host, own).inspect_err(|why| tracing::warn!("the cluster is not asked: {why}")).ok()?;
    match (named.node(), control_plane) {
        // one configuration for all nodes: a kubelet's identity may not write what is the control planes'
        (Some(_), true) => administrator(),
        (None, true) => Some(named),
        (Some(other), false) if other != node => {
            let own = own.display();
            tracing::warn!("the cluster is not asked: {own} is the identity of node {other}, and this is {node}");
            None
        }
        (_, false) => Some(named.unhurried()),
    }
}
