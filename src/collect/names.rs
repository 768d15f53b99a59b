//! Names of what manifests point at beyond what kubeadm makes.

use std::collections::{BTreeMap, BTreeSet};

use super::manifests::Container;

/// `<component>:<flag>`, numbered from the second on: two manifests may be of one component (kubernetes:
/// `pkg/kubelet/config/file.go` reads a copy called `.bak`, too).
#[derive(Default)]
pub(super) struct Names {
    used: BTreeSet<String>,
    times: BTreeMap<String, usize>,
}

impl Names {
    pub(super) fn next(&mut self, container: &Container, flag: &str) -> String {
        let owner = container.component.map_or(container.name.as_str(), |c| c.name());
        let first = format!("{owner}:{flag}");
        let times = self.times.entry(first.clone()).or_default();
        loop {
            *times += 1;
            let name = if *times == 1 { first.clone() } else { format!("{first}#{times}") };
            if self.used.insert(name.clone()) {
                return name;
            }
        }
    }
}
