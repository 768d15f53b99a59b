//! The gate `activation`: whether what is renewed could be put to use.

use std::path::Path;

use crate::host::Host;
use crate::model::component::Component;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::{ContainerRef, Image, Inventory};
use crate::model::plan::{Activation, Step};

use super::{View, refusal};

/// What can be found out only after the commit is found out too late: the rollback would need the same.
pub(super) fn activation(host: &Host, view: View<'_>) -> Option<Refusal> {
    let inventory = view.inventory;
    view.plan.steps.iter().find_map(|planned| match &planned.step {
        Step::ActivateOther { container } => {
            let pod = inventory.node.other_pods.iter().find(|pod| pod.container == *container)?;
            no_other(host, inventory, container, &pod.manifest, pod.image.as_ref())
        }
        Step::Activate { component, how: Activation::NewContainer { .. } } => no_other_of(host, inventory, *component),
        // one that reloads is not stopped, mostly: a registry that is asked for nothing is no reason
        Step::Activate { component, how: Activation::ReloadOrRestart { .. } } => {
            let pod = inventory.node.static_pods.get(component)?;
            let image = pod.image.as_ref().filter(|image| !image.always_pulled);
            no_other(host, inventory, &pod.container, &pod.manifest, image)
        }
        Step::Activate { how: Activation::RestartUnit { unit }, .. } => cannot_restart(host, unit),
        _ => None,
    })
}

/// Why the kubelet could make no other container of this component.
pub fn no_other_of(host: &Host, inventory: &Inventory, component: Component) -> Option<Refusal> {
    let pod = inventory.node.static_pods.get(&component)?;
    no_other(host, inventory, &pod.container, &pod.manifest, pod.image.as_ref())
}

fn cannot_restart(host: &Host, unit: &str) -> Option<Refusal> {
    let state = host.services.status(unit).ok()?.load_state;
    matches!(state.as_str(), "masked" | "not-found" | "bad-setting" | "error").then(|| {
        let remedy = format!("see `systemctl status {unit}`");
        refusal(Gate::Activation, format!("{unit} is {state}, so that it cannot be restarted"), remedy)
    })
}

/// Why the kubelet could make no other container in the place of this one, should it be stopped.
fn no_other(
    host: &Host,
    inventory: &Inventory,
    container: &ContainerRef,
    manifest: &Path,
    image: Option<&Image>,
) -> Option<Refusal> {
    let silent = |what: String, why: String| {
        let remedy = "see that the runtime answers on the kubelet's containerRuntimeEndpoint";
        Some(refusal(Gate::Activation, format!("the container runtime cannot be asked about {what}: {why}"), remedy))
    };
    let kubelet = &inventory.node.kubelet;
    let Some(socket) = kubelet.cri_socket.as_deref() else {
        return silent(container.to_string(), "its socket is not known".to_owned());
    };
    let runs = match host.runtime.containers(socket, container) {
        Err(e) => return silent(container.to_string(), e.to_string()),
        Ok(listed) => listed.iter().any(|c| c.running),
    };
    // of one that is down nothing is stopped
    let Image { name, always_pulled } = image.filter(|_| runs)?;
    if *always_pulled {
        // the kubelet asks the registry first, and makes no container without its answer, although the image is here
        // (kubernetes: `pkg/kubelet/images/image_manager.go:imagePullPrecheck`); whether it will answer nobody can say
        let reason = format!(
            "{container} would not come back without its registry: the kubelet pulls {name} for each new container"
        );
        let manifest = manifest.display();
        let remedy = format!(
            "set `imagePullPolicy: IfNotPresent` in {manifest}; or, where the registry answers, `renew --force activation`"
        );
        return Some(refusal(Gate::Activation, reason, remedy));
    }
    match host.runtime.has_image(kubelet.image_socket.as_deref().unwrap_or(socket), name) {
        Ok(true) => None,
        Ok(false) => {
            let reason =
                format!("{container} would not come back if it was stopped: its image {name} is not on this node");
            let remedy =
                format!("`crictl pull {name}`, or import it (`ctr -n k8s.io images import FILE`), then run again");
            Some(refusal(Gate::Activation, reason, remedy))
        }
        Err(e) => silent(format!("the image {name}"), e.to_string()),
    }
}
