//! The kubelet is stopped while its own link is exchanged.

use super::unit;
use crate::model::component::Component;
use crate::model::plan::{Activation, Step};
use crate::txn::run::{Run, Stop};

impl Run<'_> {
    /// A kubelet could rotate in the middle of the exchange of its own link: it is stopped meanwhile. The ledger says
    /// `committing`, so that whoever comes after a crash starts it again.
    pub(in crate::txn) fn hold_kubelet(&mut self) -> Result<(), Stop> {
        let Some(kubelet) = self.unit_to_hold() else { return Ok(()) };
        self.begun.push(Component::Kubelet);
        unit::hold_unit(self, &kubelet)
    }

    /// The same on the way back, where a kubelet that does not stop is no reason to leave half of everything.
    pub fn hold_kubelet_again(&mut self) {
        if let Some(kubelet) = self.unit_to_hold().filter(|_| !self.holds_kubelet)
            && let Err(Stop::Failed(why) | Stop::Passing(why)) = unit::hold_unit(self, &kubelet)
        {
            self.report.notes.push(why);
        }
    }

    /// The kubelet's unit, where it is not to run while files are exchanged.
    pub fn unit_to_hold(&self) -> Option<String> {
        let links = self.plan.items.iter().any(|i| i.form.by_name());
        let kubelet = self.plan.steps.iter().find_map(|s| match &s.step {
            Step::Activate { how: Activation::RestartUnit { unit }, .. } => Some(unit.clone()),
            _ => None,
        });
        kubelet.filter(|_| links && self.engine.host.live)
    }
}
