//! What a run has done to the processes of the node: what has taken up the new files, what is to be restarted on a rollback, and
//! what is not to be restarted twice.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::component::Component;
use crate::model::inventory::ContainerRef;
use crate::model::report::Consumer;
use crate::verify::node::Restart;

/// The processes, since the files were swapped.
#[derive(Debug)]
pub struct Live {
    /// When the new files went live; what is younger took them.
    pub swapped_at: Timestamp,
    /// Containers that ran at that time: they are older than the files, whatever a clock says that is set meanwhile.
    pub older: BTreeSet<String>,
    /// The old files are being put back, or are back.
    pub going_back: bool,
    pub kubelet: Kubelet,
    pub touched: Touched,
}

/// The kubelet.
#[derive(Debug, Default)]
pub struct Kubelet {
    /// Its last restart by this run.
    pub restart: Option<Restart>,
    /// Whether it was restarted since the last swap of files, and came up for good.
    pub is_up: Option<bool>,
    /// It was stopped and not started again.
    pub is_held: bool,
}

/// Who was touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Components whose activation has begun, so that a rollback activates them again.
    pub begun: Vec<Component>,
    /// The same of other static pods.
    pub others_begun: Vec<ContainerRef>,
    /// Whose containers were stopped, or perhaps were.
    pub stopped: Vec<Consumer>,
    /// Components whose activation has ended well.
    pub activated: Vec<Component>,
    /// Who has not taken up the new files yet; None: nobody, as far as is known.
    pub left: Option<Vec<Component>>,
}

impl Live {
    pub fn new(swapped_at: Timestamp) -> Self {
        Self {
            swapped_at,
            older: BTreeSet::new(),
            going_back: false,
            kubelet: Kubelet::default(),
            touched: Touched::default(),
        }
    }
}

impl Touched {
    /// The component's activation begins.
    pub fn begin(&mut self, component: Component) {
        if !self.begun.contains(&component) {
            self.begun.push(component);
        }
    }
}
