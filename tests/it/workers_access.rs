//! What is shipped for workers gives a kubelet's identity no more than docs/fleet.md says.

use std::collections::BTreeSet;

use crate::fake::access::{Asked, MANIFEST, Rules, documents, strings};
use certwarden::model::fleet::place::{Kind, WORKERS, workers_locks};
use certwarden::model::yaml;
use serde_json::Value;

const POLICY: &str = include_str!("../../packaging/kubernetes/fleet-policy.yaml");

fn rules() -> Rules {
    Rules::of(&documents(MANIFEST))
}

fn made(kind: &str) -> BTreeSet<String> {
    let all = documents(MANIFEST);
    let of_kind = all.iter().filter(|d| d["kind"] == kind);
    of_kind.map(|d| d["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_right_is_bound_to_named_objects_and_none_makes_deletes_or_lists_them() {
    for rule in rules().each() {
        assert!(strings(&rule["resourceNames"]).count() > 0, "{rule}");
        let harmless =
            |verb: &str| ["get", "patch"].contains(&verb) || (verb == "list" && rule["apiGroups"][0] == "apps");
        assert!(strings(&rule["verbs"]).all(harmless), "{rule}");
        let kinds: Vec<&str> = strings(&rule["resources"]).collect();
        assert!(kinds.iter().all(|kind| ["configmaps", "leases", "daemonsets"].contains(kind)), "{kinds:?}");
    }
}

#[test]
fn a_worker_writes_its_config_maps_and_no_lease() {
    let rules = rules();
    let may = |verb, group, resource, name: &str| rules.allow(Asked { verb, group, resource, name: Some(name) });
    for name in ["certwarden-workers", "certwarden-worker-0"] {
        assert!(may("get", "", "configmaps", name) && may("patch", "", "configmaps", name), "{name}");
        assert!(!may("update", "", "configmaps", name) && !may("delete", "", "configmaps", name), "{name}");
    }
    for name in ["certwarden", "certwarden-control-plane"] {
        assert!(may("get", "coordination.k8s.io", "leases", name), "{name}");
        let writes = ["create", "update", "patch", "delete"];
        assert!(!writes.iter().any(|verb| may(verb, "coordination.k8s.io", "leases", name)), "{name}");
    }
    assert!(!may("get", "", "configmaps", "kubeadm-config"));
}

#[test]
fn the_manifest_makes_what_a_worker_asks_for_by_default_and_no_token() {
    let locks = workers_locks(1).filter(|at| at.kind == Kind::ConfigMap);
    let wanted: BTreeSet<String> = locks.chain([WORKERS]).map(|at| at.name.into_owned()).collect();
    assert_eq!(made("ConfigMap"), wanted);
    for kind in ["ServiceAccount", "Secret"] {
        assert_eq!(made(kind), BTreeSet::new(), "{kind}");
    }
}

#[test]
fn the_policy_is_bound_denies_and_is_about_nodes_and_these_objects_only() {
    let documents: Vec<Value> = POLICY.split("\n---\n").map(|text| yaml::parse(text).unwrap()).collect();
    let [policy, binding] = &documents[..] else { panic!("{} documents", documents.len()) };
    assert_eq!(policy["apiVersion"], "admissionregistration.k8s.io/v1", "since Kubernetes 1.30");
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(strings(&binding["spec"]["validationActions"]).collect::<Vec<_>>(), ["Deny"]);
    let conditions = policy["spec"]["matchConditions"].to_string();
    assert!(conditions.contains("'system:nodes' in request.userInfo.groups"), "{conditions}");
    for name in made("ConfigMap") {
        assert!(
            name.starts_with("certwarden-worker") && conditions.contains("startsWith('certwarden-worker')"),
            "{name}"
        );
    }
    let length = policy["spec"]["validations"].to_string().contains("<= 1200");
    assert!(length, "as model::fleet::marks has it");
}
