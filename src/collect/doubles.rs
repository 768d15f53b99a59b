//! Two manifests of one component: a backup beside the manifest is one, too, for the kubelet reads every file of that directory
//! but dot-files (kubernetes: `pkg/kubelet/config/file.go:extractFromDir`), and which of two it runs nobody can tell.

use super::Scene;
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry};

/// Adds a finding to what such a component serves or logs in with.
pub(super) fn add(scene: &mut Scene<'_>, leaves: &mut [Entry]) {
    for component in Component::ALL {
        let of_it = scene.containers.iter().filter(|c| c.component == Some(component));
        let mut manifests: Vec<String> = of_it.map(|c| c.manifest.display().to_string()).collect();
        if manifests.len() < 2 {
            continue;
        }
        manifests.dedup();
        let message = format!(
            "{component} is in {}: the kubelet reads each, and which it runs cannot be told; keep one, and backups in another directory",
            manifests.join(" and in ")
        );
        match leaves.iter_mut().find(|e| e.name == main_of(component)).map(|e| &mut e.content) {
            Some(Content::Readable(credential)) => {
                credential.findings.push(Finding::new(Problem::DuplicateManifest, message));
            }
            _ => scene.notes.push(message),
        }
    }
}

fn main_of(component: Component) -> &'static str {
    match component {
        Component::Etcd => "etcd-server",
        Component::KubeApiserver => "apiserver",
        Component::KubeControllerManager => "controller-manager.conf",
        Component::KubeScheduler => "scheduler.conf",
        Component::Kubelet => "kubelet-client",
    }
}
