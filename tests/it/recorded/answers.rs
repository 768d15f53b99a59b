//! What the API server, etcd and the kubelet of 1.36 answered and logged.

use std::collections::{BTreeMap, BTreeSet};

use certwarden::host::crypto::is_self_signed_request;
use certwarden::host::kube::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI, lease, nodes};
use certwarden::model::approve::cluster::Cluster;
use certwarden::model::approve::neighbours::{Neighbours, neighbour};
use certwarden::model::approve::{Decision, Here, Known, decide, filed};
use certwarden::model::csr::{self, CLIENT_SIGNER, SERVING_SIGNER, Stage};
use certwarden::model::diagnose::klog::{self, Signature};
use certwarden::model::fleet::lease::{Call, Reply};
use certwarden::model::policy::Approver;
use certwarden::model::version::Version;
use jiff::Timestamp;
use serde_json::Value;

use super::recorded;

fn items(name: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&recorded::read(&format!("v1.36.2/{name}.json"))).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Answers every GET with the same object.
struct Says(Value);

impl KubeApi for Says {
    fn get(&self, _: &Connection, _: &str) -> Result<Answer, KubeError> {
        Ok(Answer { status: 200, body: self.0.to_string() })
    }
    fn post(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        unreachable!("nothing is changed")
    }
    fn put(&self, _: &Connection, _: &str, _: &str) -> Result<Answer, KubeError> {
        unreachable!("nothing is changed")
    }
    fn whoami(&self, _: &Connection) -> Result<WhoAmI, KubeError> {
        unreachable!("nobody asks")
    }
    fn node_ready(&self, _: &Connection, _: &str) -> Result<NodeReady, KubeError> {
        unreachable!("nobody asks")
    }
    fn node_lease(&self, _: &Connection, _: &str) -> Result<NodeLease, KubeError> {
        unreachable!("nobody asks")
    }
    fn cluster_configuration(&self, _: &Connection) -> Result<Option<String>, KubeError> {
        unreachable!("nobody asks")
    }
}

fn to() -> Connection {
    let server = "https://10.99.0.2:6443".to_owned();
    Connection { server, ca: None, identity: None, headers: Vec::new(), limit: std::time::Duration::ZERO }
}

#[test]
fn a_node_that_is_not_ready_to_be_scheduled_to_is_nobodys_maintenance() {
    for node in items("nodes").into_iter().chain(items("nodes-cluster")) {
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        let found = nodes::own(&Says(node), &to(), &name).unwrap();
        assert_eq!(found, None, "{name}: kubeadm's taints are no drain");
    }
}

#[test]
fn the_leases_of_others_are_read_with_their_microseconds() {
    let read = |lease: Value| match lease::exchange(&Says(lease), &to(), "kube-system", "x", &Call::Get) {
        Reply::Is(record) => record,
        other => panic!("{other:?}"),
    };
    // the API server's own has neither transitions nor a time at which it was taken
    let [api, scheduler] = items("leases").try_into().unwrap();
    let (api, scheduler) = (read(api), read(scheduler));
    assert_eq!((api.seconds, api.acquired, api.transitions), (3600, None, 0));
    assert_eq!(api.renewed, "2026-11-30T06:18:43.286602Z".parse().ok());
    assert_eq!(scheduler.acquired, "2026-11-30T06:18:43.248154Z".parse().ok());
    assert_eq!((scheduler.seconds, scheduler.version.as_str()), (15, "329"));
    assert!(scheduler.holder.starts_with("node_"), "{}", scheduler.holder);
}

#[test]
fn requests_are_known_by_signer_requester_and_what_became_of_them() {
    let requests: BTreeMap<String, csr::Request> =
        items("csr").iter().map(|o| csr::from_value(o).unwrap()).map(|r| (r.name.clone(), r)).collect();
    for (name, signer, username, stage) in [
        ("csr-r6nnd", CLIENT_SIGNER, "system:node:node", "pending"),
        ("csr-4kw9h", CLIENT_SIGNER, "system:node:rc-cp1", "issued"),
        ("csr-znwtt", CLIENT_SIGNER, "system:bootstrap:l0mvj4", "issued"),
        ("f-25592", SERVING_SIGNER, "system:node:rc-w1", "issued"),
        ("f-17095", SERVING_SIGNER, "system:node:rc-w1", "denied"),
        ("f-155", SERVING_SIGNER, "system:node:rc-w1", "denied"),
    ] {
        let request = &requests[name];
        let is = match &request.stage {
            Stage::Pending => "pending",
            Stage::Approved => "approved",
            Stage::Denied { .. } => "denied",
            Stage::Failed { .. } => "failed",
            Stage::Issued { certificate } => {
                assert_eq!(certwarden::model::cert::parse_pem(certificate).unwrap().len(), 1, "{name}");
                "issued"
            }
        };
        assert_eq!((request.signer.as_str(), request.username.as_str(), is), (signer, username, stage), "{name}");
    }
    assert_eq!(requests.len(), 6);
    // the first request of a node is there before the controller manager is
    let all: Vec<csr::Request> = requests.into_values().collect();
    let finding = |minutes| {
        let now = "2026-11-30T05:59:39Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_mins(minutes);
        csr::findings(&all, "node", CLIENT_SIGNER, now).map(|f| f.id.id())
    };
    assert_eq!((finding(1), finding(60)), (None, Some("request-pending")));
}

#[test]
fn the_approver_decides_about_recorded_requests_as_a_person_would() {
    let nodes = items("nodes-cluster").iter().filter_map(neighbour).collect();
    let mut neighbours = Neighbours::default();
    neighbours.see(nodes, 0, Timestamp::UNIX_EPOCH);
    // nodes within the Services' range, as this cluster has them
    let mut cluster = Cluster::default();
    cluster.add_ranges(Some("10.96.0.0/12")).unwrap();
    let rules = Approver { networks: vec!["10.99.0.0/24".parse().unwrap()], ..Approver::default() };
    let mut decided = BTreeMap::new();
    for mut object in items("csr") {
        object.as_object_mut().unwrap().remove("status");
        let request = filed(&object).unwrap();
        if !request.is_open() {
            continue; // the other signer's
        }
        let asked = request.asked.as_ref().unwrap();
        let known = Known {
            neighbours: &neighbours,
            cluster: &cluster,
            here: Here { node: Some("rc-cp1"), local: &BTreeSet::new() },
            answered: &BTreeMap::new(),
            signed: is_self_signed_request(&asked.der),
            approved: 0,
            now: request.created.unwrap() + jiff::SignedDuration::from_mins(5),
        };
        decided.insert(request.name.clone(), decide(&request, known, &rules));
    }
    let deny = |why: &str| Decision::Deny(why.to_owned());
    let expected = [
        ("f-155", deny("10.99.0.11 is another Node's address")),
        ("f-17095", deny("vault.corp.example is no name of the Node rc-w1")),
        ("f-25592", Decision::Approve),
    ];
    assert_eq!(decided, expected.map(|(name, decision)| (name.to_owned(), decision)).into());
}

#[test]
fn the_servers_version_decides_how_a_request_is_made() {
    let version: Value = serde_json::from_str(&recorded::read("v1.36.2/version.json")).unwrap();
    let version = Version::parse(version["gitVersion"].as_str().unwrap());
    assert_eq!(version, Some(Version { major: 1, minor: 36, patch: 2 }));
    let request: Value = serde_json::from_str(&csr::request(csr::Kind::Client, "csr-x", b"", version)).unwrap();
    // the same as a kubelet of that version asks for
    let kubelets = items("csr").into_iter().find(|o| o["metadata"]["name"] == "csr-4kw9h").unwrap();
    assert_eq!(request["spec"]["usages"], kubelets["spec"]["usages"]);
}

#[test]
fn records_of_the_journal_are_read_with_their_microseconds() {
    let text = recorded::read("v1.36.2/kubelet.jsonl");
    let lines: Vec<klog::Line> = text.lines().map(|l| klog::parse(l).unwrap()).collect();
    assert_eq!(lines[0].text, "Started kubelet.service - kubelet: The Kubernetes Node Agent.");
    assert_eq!(lines[1].at, "2026-11-30T05:59:35.182002Z".parse().unwrap());
    assert!(lines[1].text.ends_with("\"Kubelet version\" kubeletVersion=\"v1.36.2\""), "{}", lines[1].text);
    let hits = klog::hits(lines);
    assert_eq!(hits.found.len(), 1, "{hits:?}");
    let asked = hits.get(Signature::RequestUnreachable).unwrap();
    assert!(asked.line.starts_with("\"Failed while requesting a signed certificate from the control plane\""));
}

#[test]
fn a_first_start_and_a_boot_show_the_signatures_that_are_in_them_and_no_others() {
    let text = recorded::read("v1.36.2/kubelet.txt");
    // `journalctl -o short-iso-precise`: time, host, identifier, message
    let message = |line: &str| line.split_once("]: ").map(|(_, message)| message.to_owned());
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for message in text.lines().filter_map(message) {
        if let Some(signature) = klog::signature(&message) {
            let place = message.split_once("] ").and_then(|(head, _)| head.rsplit(' ').next()).unwrap();
            found.entry(signature.id()).or_default().push(place.to_owned());
        }
    }
    let expected: [(&str, &[&str]); 3] = [
        // nobody listens yet
        ("K06", &["certificate_manager.go:596"]),
        ("K16", &["controller.go:201", "kubelet_node_status.go:111", "kubelet_node_status.go:529"]),
        // at the boot the runtime was not there yet
        ("K23", &["run.go:72"]),
    ];
    let expected = expected.map(|(id, places)| (id, places.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()));
    assert_eq!(found, expected.into());
    assert!(text.lines().count() > 90);
}
