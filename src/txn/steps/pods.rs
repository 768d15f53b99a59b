//! Pods before and after a restart of the kubelet. It asks again whether each pod may run here (kubernetes:
//! `pkg/kubelet/kubelet.go:HandlePodAdditions`, `canAdmitPod`): what was changed since, a label of the node for instance, may cost
//! a pod its place although every certificate is good.

use std::collections::BTreeSet;

use crate::model::report::PodsSeen;

use crate::txn::run::Run;

/// The pods that run on this node, as `namespace/name`; None: the runtime did not answer.
pub fn running(run: &Run<'_>) -> Option<BTreeSet<String>> {
    let socket = run.context.inventory.node.kubelet.cri_socket.as_ref()?;
    run.context.host.runtime.pods(socket).ok()
}

/// Reports which pods did not come back, where this run has restarted the kubelet. It is no fault of the new files, so that it is
/// reported and nothing else.
pub fn compare(run: &mut Run<'_>) {
    if run.live.kubelet.restart.is_none() {
        return;
    }
    let Some((before, after)) = run.before.pods.as_ref().zip(running(run)) else { return };
    let gone: Vec<String> = before.difference(&after).cloned().collect();
    let seen = PodsSeen { before: before.len(), after: after.len(), gone };
    if !seen.gone.is_empty() {
        let pods = seen.gone.join(", ");
        run.report.notes.push(format!(
            "pods that ran before the kubelet was restarted and do not run any more: {pods}; a restart decides again which pods \
             may run on this node, `kubectl describe pod` says why"
        ));
    }
    run.report.pods = Some(seen);
}
