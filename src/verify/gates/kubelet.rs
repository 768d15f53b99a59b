//! Gates of the kubelet's unit: a restart that would be more than a restart, and one that nobody wants now.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::Host;
use crate::host::systemd::UnitStatus;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Inventory;
use crate::model::plan::Step;

use super::processes::started;
use super::{View, refusal};

/// What was changed since the kubelet started comes into effect with its restart, good or bad; a rollback of certificates
/// takes nothing of it back. By modification time: ownership and labels change without a change of the content.
pub(super) fn pending_change(host: &Host, inventory: &Inventory) -> Option<Refusal> {
    let kubelet = &inventory.node.kubelet;
    let unit = host.services.status(&kubelet.unit).ok().filter(UnitStatus::is_running)?;
    let remedy = format!("check the change, run `systemctl restart {}` when you mean it, then run again", kubelet.unit);
    if unit.need_daemon_reload {
        let reason = format!("the unit files of {} have changed since systemd read them", kubelet.unit);
        return Some(refusal(Gate::PendingChange, reason, format!("`systemctl daemon-reload`; {remedy}")));
    }
    let started = started(host, unit.main_pid)?;
    let (path, at) = unit.sources.iter().chain(&kubelet.configs).find_map(|path| newer(host, path, started))?;
    let reason = format!(
        "{} was changed at {at}, after the kubelet started: a restart would bring the change into effect",
        path.display()
    );
    Some(refusal(Gate::PendingChange, reason, remedy))
}

/// A file that was written later than in this second.
fn newer(host: &Host, path: &Path, second: i64) -> Option<(PathBuf, Timestamp)> {
    let written = host.root.metadata(path).ok()?.mtime();
    let at = Timestamp::from_second(written).ok()?;
    (written > second).then(|| (path.to_path_buf(), at))
}

/// A unit that ended well and is not to start again was stopped: by an operator who restores etcd or works on a disk. One
/// that crashed, or waits for its next start, was not; nor one that is about to start.
pub(super) fn stopped_by_hand(host: &Host, view: View<'_>) -> Option<Refusal> {
    let unit = &view.inventory.node.kubelet.unit;
    let starts = |s: &Step| matches!(s, Step::Activate { .. } | Step::ActivateOther { .. });
    if !view.plan.steps.iter().any(|s| starts(&s.step)) {
        return None;
    }
    let status = host.services.status(unit).ok()?;
    let stopped = status.load_state == "loaded" && status.active_state == "inactive" && status.result == "success";
    (stopped && !status.has_job).then(|| {
        let reason = format!("{unit} is stopped, and did not fail: somebody has stopped it");
        refusal(Gate::StoppedByHand, reason, format!("`systemctl start {unit}` when the work on this node is done"))
    })
}
