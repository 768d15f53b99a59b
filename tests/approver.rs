//! The approver at work against an API server: what it approves, what it denies and why, and that it keeps its measure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod fake;
mod support;

use certwarden::daemon::approver::{Tally, pass};
use certwarden::host::crypto::{Subject, new_request};
use certwarden::model::policy::Approver;
use fake::node::{Node, on_the_loopback, temp};
use fake::signer::Signer;
use fake::{Fault, World};
use jiff::{SignedDuration, Timestamp};
use openssl::base64::encode_block;
use serde_json::{Value, json};
use support::{Options, Tree};

fn node_object(name: &str, ip: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"addresses": [
        {"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}})
}

fn control_plane() -> Node {
    let dir = temp();
    let tree = Tree::build(dir.path(), Options::default());
    on_the_loopback(&tree);
    let node = Node::at(dir);
    node.fake.world(|w| {
        let mut signer = Signer::new(&tree.ca, &tree.front_proxy_ca);
        signer.nodes = vec![node_object("n1", "10.0.0.1"), node_object("n2", "10.0.0.2")];
        w.signer = Some(signer);
    });
    node
}

/// As the API server keeps what the kubelet of `node` filed ten minutes ago for these names.
fn object(world: &World, name: &str, node: &str, names: &[&str]) -> Value {
    let user = format!("system:node:{node}");
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let subject = Subject { organization: "system:nodes", common_name: &user };
    let pem = new_request(subject, &names).unwrap().request;
    let created: Timestamp = world.now - SignedDuration::from_mins(10);
    json!({
        "metadata": {"name": name, "creationTimestamp": format!("{created:.0}"), "resourceVersion": "7"},
        "spec": {
            "signerName": "kubernetes.io/kubelet-serving", "username": user, "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"], "request": encode_block(&pem),
        },
        "status": {},
    })
}

fn file(node: &Node, name: &str, of: &str, names: &[&str], change: impl FnOnce(&mut Value)) {
    node.fake.world(|w| {
        let mut object = object(w, name, of, names);
        change(&mut object);
        w.signer.as_mut().unwrap().requests.insert(name.to_owned(), object);
    });
}

fn look(node: &Node, rules: &Approver) -> (Result<(), String>, Tally) {
    let mut tally = Tally::new();
    (pass(&node.host, rules, &mut tally), tally)
}

fn condition(node: &Node, name: &str) -> (String, String) {
    let object = node.fake.world(|w| w.signer.as_ref().unwrap().requests[name].clone());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let condition = &object["status"]["conditions"][0];
    (text(&condition["type"]), text(&condition["message"]))
}

#[test]
fn a_kubelets_own_request_is_approved_and_others_are_denied_with_the_reason() {
    let node = control_plane();
    file(&node, "good", "n1", &["n1", "10.0.0.1"], |_| {});
    file(&node, "foreign", "n1", &["n1", "10.0.0.2"], |_| {});
    file(&node, "admins", "n1", &["n1"], |o| o["spec"]["username"] = json!("kubernetes-admin"));
    file(&node, "others-key", "n1", &["n1"], |o| {
        let other = new_request(Subject { organization: "system:nodes", common_name: "system:node:n1" }, &[]).unwrap();
        let (a, b) = (o["spec"]["request"].as_str().unwrap().len() / 2, encode_block(&other.request));
        o["spec"]["request"] =
            json!(format!("{}{}", &o["spec"]["request"].as_str().unwrap()[..a], &b[a.min(b.len())..]));
    });
    file(&node, "clients", "n1", &["n1"], |o| {
        o["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client-kubelet");
    });
    file(&node, "decided", "n1", &["n1"], |o| o["status"] = json!({"conditions": [{"type": "Denied", "reason": "x"}]}));
    file(&node, "young", "n2", &["n2", "10.0.0.9"], |o| {
        o["metadata"]["creationTimestamp"] = json!(format!("{:.0}", Timestamp::now()));
    });
    let (done, tally) = look(&node, &Approver::default());
    done.unwrap();
    assert_eq!(tally, Tally::from([("approved", 1), ("denied", 3)]));
    assert_eq!(condition(&node, "good").0, "Approved");
    for (name, reason) in
        [("foreign", "10.0.0.2 is another Node's address"), ("admins", "which is no node"), ("others-key", "")]
    {
        let (kind, message) = condition(&node, name);
        assert!(kind == "Denied" && message.contains(reason), "{name}: {kind} {message}");
    }
    assert_eq!(condition(&node, "clients").0, "");
    assert_eq!(condition(&node, "young").0, "", "its Node object may follow");
    assert_eq!(condition(&node, "decided").0, "Denied");
    let (done, tally) = look(&node, &Approver::default());
    assert_eq!((done, tally), (Ok(()), Tally::new()), "once");
}

#[test]
fn no_more_than_so_many_of_a_node_are_approved_within_an_hour() {
    let node = control_plane();
    for i in 0..9 {
        file(&node, &format!("csr-{i}"), "n1", &["n1"], |_| {});
    }
    file(&node, "other", "n2", &["n2"], |_| {});
    // a year ago does not count
    file(&node, "old", "n1", &["n1"], |o| {
        o["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
        o["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    });
    let (done, tally) = look(&node, &Approver::default());
    done.unwrap();
    assert_eq!(tally, Tally::from([("approved", 7), ("denied", 3)]));
    assert_eq!(condition(&node, "other").0, "Approved");
    let limited =
        (0..9).filter(|i| condition(&node, &format!("csr-{i}")).1.contains("within the hour already")).count();
    assert_eq!(limited, 3);
}

#[test]
fn a_large_cluster_is_read_page_by_page() {
    let node = control_plane();
    let images = "i".repeat(20_000);
    node.fake.world(|w| {
        let nodes = (0..80).map(|i| {
            let mut object = node_object(&format!("m{i}"), &format!("10.1.{}.{}", i / 250, i % 250));
            object["status"]["images"] = json!(images);
            object
        });
        w.signer.as_mut().unwrap().nodes.extend(nodes);
    });
    for i in 0..60 {
        file(&node, &format!("csr-{i}"), &format!("m{i}"), &[&format!("m{i}")], |o| o["spec"]["extra"] = json!(images));
    }
    let tallies = [(); 3].map(|()| {
        let (done, tally) = look(&node, &Approver::default());
        done.unwrap();
        tally.get("approved").copied()
    });
    assert_eq!(tallies, [Some(50), Some(10), None], "so many at once");
}

#[test]
fn whoever_is_faster_is_not_overridden_and_an_api_that_fails_changes_nothing() {
    let node = control_plane();
    file(&node, "csr", "n1", &["n1"], |_| {});
    for fault in [Fault::Fail, Fault::Hang] {
        node.fake.always("get", fault);
        assert!(look(&node, &Approver::default()).0.is_err());
    }
    node.fake.world(|w| w.always.clear());
    node.fake.always("put", Fault::Fail);
    let (done, tally) = look(&node, &Approver::default());
    assert_eq!((done, tally), (Ok(()), Tally::from([("failed", 1)])));
    assert_eq!(condition(&node, "csr").0, "");
    let nowhere = Approver { kubeconfig: "/etc/nothing.conf".into(), ..Approver::default() };
    assert!(look(&node, &nowhere).0.unwrap_err().contains("/etc/nothing.conf"));
}
