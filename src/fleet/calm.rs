//! What this node has to mind before it acts by itself, read where it is written: [`due`] decides by it.

use std::path::Path;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::zone::zone;
use crate::model::due::{self, Timing};
use crate::model::fleet::window::Windows;
use crate::model::gate::Refusal;
use crate::model::inventory::Inventory;
use crate::model::policy::Policy;
use crate::model::schedule::Who;

use super::pause;

/// This node among many.
pub fn who(host: &Host, inventory: &Inventory) -> Who {
    let machine_id = host.root.read_text(Path::new("/etc/machine-id")).unwrap_or_default();
    Who::of(inventory.node.name.as_deref().unwrap_or_default(), &machine_id)
}

/// Windows, pause and place of this node at this moment.
pub fn timing(host: &Host, policy: &Policy, inventory: &Inventory) -> Timing {
    let pause = pause::read(&host.root, host.clock.now());
    Timing { windows: windows(policy), pause, role: inventory.node.role, who: who(host, inventory) }
}

/// The gates `window` and `paused` as far as this node knows.
pub fn closed(host: &Host, policy: &Policy) -> Vec<Refusal> {
    let now = host.clock.now();
    due::closed(&windows(policy), pause::read(&host.root, now).as_ref(), policy, now)
}

/// When the window closes that is open now.
pub fn closes(policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    windows(policy).closes(now)
}

fn windows(policy: &Policy) -> Windows {
    // what the configuration's own rules have refused does not come here
    Windows::of(policy, &zone).unwrap_or_default()
}
