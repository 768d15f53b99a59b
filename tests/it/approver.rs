//! The approver at work against an API server: what it approves, what it denies or leaves to a person
//! and why, and that it keeps its measure.

use crate::approver_support;
use crate::fake;
use approver_support::{Forged, condition, control_plane, file, kinds, look, memory, node_object, object};
use certwarden::daemon::approver::{Memory, Tally};
use certwarden::host::crypto::{Subject, new_request};
use certwarden::model::policy::{Approver, Policy};
use fake::Fault;
use jiff::{SignedDuration, Timestamp};
use openssl::base64::encode_block;
use serde_json::json;

#[test]
fn a_kubelets_own_request_is_approved_and_others_are_denied_with_the_reason() {
    let node = control_plane();
    file(&node, "good", "n1", &["n1", "192.168.7.1"], |_| {});
    file(&node, "foreign", "n1", &["n1", "192.168.7.2"], |_| {});
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
    file(&node, "young", "n2", &["n2", "192.168.7.9"], |o| {
        o["metadata"]["creationTimestamp"] = json!(format!("{:.0}", Timestamp::now()));
    });
    let mut memory = memory();
    let (done, tally) = look(&node, &Policy::default(), &mut memory);
    done.unwrap();
    assert_eq!(tally, Tally::from([("approved", 1), ("denied", 3)]));
    assert_eq!(condition(&node, "good").0, "Approved");
    for (name, reason) in
        [("foreign", "192.168.7.2 is another Node's address"), ("admins", "which is no node"), ("others-key", "")]
    {
        let (kind, message) = condition(&node, name);
        assert!(kind == "Denied" && message.contains(reason), "{name}: {kind} {message}");
    }
    assert_eq!(condition(&node, "clients").0, "");
    assert_eq!(condition(&node, "young").0, "", "its Node object may follow");
    assert_eq!(condition(&node, "decided").0, "Denied");
    let (done, tally) = look(&node, &Policy::default(), &mut memory);
    assert_eq!((done, tally), (Ok(()), Tally::new()), "once");
}

/// Each by a node of its own, of which somebody else is root: it writes into its Node's status whatever it asks for.
#[test]
fn no_forgery_is_approved_and_good_requests_beside_them_are() {
    let node = control_plane();
    let forgeries = approver_support::forgeries();
    assert!(forgeries.len() >= 30, "{}", forgeries.len());
    for (i, Forged { what, claims, request, .. }) in forgeries.iter().enumerate() {
        let attacker = format!("evil-{i}");
        node.fake.world(|w| {
            let signer = w.signer.as_mut().unwrap();
            let mut own = node_object(&attacker, &format!("192.168.66.{i}"));
            let addresses = own["status"]["addresses"].as_array_mut().unwrap();
            addresses.extend(claims.iter().map(|(kind, address)| json!({"type": kind, "address": address})));
            signer.nodes.push(own);
            let mut object = object(w.now, what, &attacker, &[]);
            request(&mut object, &attacker, claims);
            w.signer.as_mut().unwrap().requests.insert((*what).to_owned(), object);
        });
    }
    for good in ["n1", "n3"] {
        file(&node, good, good, &[good, &format!("192.168.7.{}", &good[1..])], |_| {});
    }
    file(&node, "own", "node-1", &["node-1", "192.168.7.10"], |_| {});
    let mut memory = memory();
    look(&node, &Policy::default(), &mut memory).0.unwrap();
    for good in ["n1", "n3", "own"] {
        assert_eq!(condition(&node, good).0, "Approved", "{good}: in the same pass");
    }
    let undecided = forgeries.iter().filter(|f| f.end.is_empty()).count();
    assert_eq!(memory.undecided(), undecided);
    // nor later, nor with the nodes' networks said
    let networks = vec!["192.168.0.0/16".parse().unwrap()];
    let rules = Approver { networks, ..Approver::default() };
    for policy in [Policy::default(), Policy { approver: rules, ..Policy::default() }] {
        look(&node, &policy, &mut memory).0.unwrap();
        for Forged { what, end, .. } in &forgeries {
            let (kind, message) = condition(&node, what);
            assert_ne!(kind, "Approved", "{what}");
            assert!(kind == *end || !policy.approver.networks.is_empty(), "{what}: `{kind}`, not `{end}`: {message}");
        }
    }
}

#[test]
fn a_node_that_writes_anothers_address_into_its_own_status_gets_neither_it_nor_the_other_denied() {
    let node = control_plane();
    let claim = |yes: bool| {
        node.fake.world(|w| {
            let addresses = &mut w.signer.as_mut().unwrap().nodes[1]["status"]["addresses"];
            let addresses = addresses.as_array_mut().unwrap();
            if yes {
                addresses.push(json!({"type": "ExternalIP", "address": "192.168.7.1"}));
            } else {
                addresses.pop();
            }
        });
    };
    claim(true);
    file(&node, "good", "n1", &["n1", "192.168.7.1"], |_| {});
    file(&node, "bad", "n2", &["n2", "192.168.7.1"], |_| {});
    let mut memory = memory();
    for _ in 0..3 {
        assert_eq!(look(&node, &Policy::default(), &mut memory), (Ok(()), Tally::new()));
        assert_eq!(memory.undecided(), 2);
    }
    claim(false);
    node.fake.world(|w| w.now += SignedDuration::from_secs(60));
    look(&node, &Policy::default(), &mut memory).0.unwrap();
    assert_eq!((condition(&node, "good").0.as_str(), condition(&node, "bad").0.as_str()), ("Approved", "Denied"));
    look(&node, &Policy::default(), &mut memory).0.unwrap();
    assert_eq!(memory.undecided(), 0);
}

#[test]
fn the_address_of_a_deleted_node_is_nobodys_for_a_day_also_after_a_restart() {
    let node = control_plane();
    let mut before = memory();
    look(&node, &Policy::default(), &mut before).0.unwrap();
    node.fake.world(|w| {
        w.now += SignedDuration::from_mins(10);
        let nodes = &mut w.signer.as_mut().unwrap().nodes;
        nodes.remove(1);
        nodes[0]["status"]["addresses"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "ExternalIP", "address": "192.168.7.2"}));
    });
    look(&node, &Policy::default(), &mut before).0.unwrap();
    file(&node, "taken-over", "n1", &["n1", "192.168.7.2"], |_| {});
    let networks = vec!["192.168.7.0/24".parse().unwrap()];
    let policy = Policy { approver: Approver { networks, ..Approver::default() }, ..Policy::default() };
    let mut after = Memory::open(&node.host.root, approver_support::view());
    assert_eq!(look(&node, &policy, &mut after), (Ok(()), Tally::new()));
    assert_eq!(after.undecided(), 1);
    node.fake.world(|w| w.now += SignedDuration::from_hours(25));
    look(&node, &policy, &mut after).0.unwrap();
    assert_eq!(condition(&node, "taken-over").0, "Approved");
}

#[test]
fn a_flood_of_one_node_delays_no_other() {
    let node = control_plane();
    node.fake.world(|w| {
        let addresses = &mut w.signer.as_mut().unwrap().nodes[0]["status"]["addresses"];
        addresses.as_array_mut().unwrap().push(json!({"type": "ExternalIP", "address": "203.0.113.7"}));
        let one = object(w.now, "flood", "n1", &["n1", "203.0.113.7"]);
        for i in 0..1000 {
            let mut object = one.clone();
            // some leave nothing to decide, and some are refused
            let name = format!("a-flood-{i:04}");
            object["metadata"]["name"] = json!(name);
            if i % 2 == 0 {
                object["spec"]["usages"] = json!(["client auth"]);
            }
            w.signer.as_mut().unwrap().requests.insert(name, object);
        }
    });
    file(&node, "z-good", "n2", &["n2", "192.168.7.2"], |_| {});
    let mut memory = memory();
    look(&node, &Policy::default(), &mut memory).0.unwrap();
    assert_eq!(condition(&node, "z-good").0, "Approved");
    assert!(memory.undecided() <= 10, "{}", memory.undecided());
    let approved = (0..1000).filter(|i| condition(&node, &format!("a-flood-{i:04}")).0 == "Approved").count();
    assert_eq!(approved, 0);
}

#[test]
fn objects_that_are_too_large_to_be_read_hide_no_others() {
    let node = control_plane();
    let huge = "x".repeat(1_200_000);
    node.fake.world(|w| {
        let signer = w.signer.as_mut().unwrap();
        for i in [0, 1] {
            let mut object = node_object(&format!("huge-{i}"), &format!("192.168.9.{i}"));
            object["metadata"]["annotations"] = json!({"a": huge});
            signer.nodes.insert(i, object);
        }
    });
    for name in ["a-huge", "b-huge", "m-huge", "z-huge"] {
        file(&node, name, "n1", &["n1"], |o| o["spec"]["extra"] = json!(huge));
    }
    file(&node, "large", "n1", &["n1"], |o| o["spec"]["extra"] = json!("x".repeat(50_000)));
    for i in 0..400 {
        file(&node, &format!("c-old-{i}"), "n3", &["n3"], |o| {
            o["status"] = json!({"conditions": [{"type": "Denied"}]});
        });
    }
    file(&node, "good", "n2", &["n2", "192.168.7.2"], |_| {});
    file(&node, "of-a-huge-node", "huge-0", &["huge-0"], |_| {});
    let mut memory = memory();
    let (done, tally) = look(&node, &Policy::default(), &mut memory);
    assert_eq!((done, tally), (Ok(()), Tally::from([("approved", 1)])));
    assert_eq!(condition(&node, "good").0, "Approved");
    assert_eq!(memory.undecided(), 4 + 1 + 1, "told by the metric");
    assert_eq!(kinds(&node).iter().filter(|kind| *kind != "Denied").count(), 1);
    assert_eq!(condition(&node, "of-a-huge-node").0, "", "nothing is denied for it");
    let asked = node.fake.world(|w| w.calls.iter().filter(|call| call.method == "get").count());
    assert!(asked < 80, "{asked}: pages grow again");
}

#[test]
fn an_address_that_a_service_may_have_is_no_nodes_as_long_as_that_cannot_be_told() {
    let node = control_plane();
    let networks = vec!["10.96.0.0/16".parse().unwrap()];
    let policy = Policy { approver: Approver { networks, ..Approver::default() }, ..Policy::default() };
    node.fake.world(|w| {
        let signer = w.signer.as_mut().unwrap();
        signer.nodes.push(node_object("within", "10.96.5.5"));
        signer.services.push(json!({"metadata": {"annotations": {"a": "x".repeat(1_200_000)}}}));
    });
    file(&node, "csr", "within", &["within", "10.96.5.5"], |_| {});
    let mut memory = memory();
    assert_eq!(look(&node, &policy, &mut memory), (Ok(()), Tally::new()));
    assert_eq!(memory.undecided(), 1);
    node.fake.world(|w| {
        w.now += SignedDuration::from_secs(60);
        w.signer.as_mut().unwrap().services.pop();
    });
    assert_eq!(look(&node, &policy, &mut memory), (Ok(()), Tally::from([("approved", 1)])));
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
    let (done, tally) = look(&node, &Policy::default(), &mut memory());
    done.unwrap();
    assert_eq!(tally, Tally::from([("approved", 7), ("denied", 3)]));
    assert_eq!(condition(&node, "other").0, "Approved");
    let limited =
        (0..9).filter(|i| condition(&node, &format!("csr-{i}")).1.contains("within the hour already")).count();
    assert_eq!(limited, 3);
    file(&node, "csr-late", "n1", &["n1"], |_| {});
    let (_, tally) = look(&node, &Policy::default(), &mut memory());
    assert_eq!(tally, Tally::from([("denied", 1)]), "those of earlier passes count");
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
    let mut memory = memory();
    let tallies = [(); 3].map(|()| {
        let (done, tally) = look(&node, &Policy::default(), &mut memory);
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
        assert!(look(&node, &Policy::default(), &mut memory()).0.is_err());
    }
    node.fake.world(|w| w.always.clear());
    node.fake.always("put", Fault::Fail);
    let (done, tally) = look(&node, &Policy::default(), &mut memory());
    assert_eq!((done, tally), (Ok(()), Tally::from([("failed", 1)])));
    assert_eq!(condition(&node, "csr").0, "");
    let nowhere = Approver { kubeconfig: "/etc/nothing.conf".into(), ..Approver::default() };
    let nowhere = Policy { approver: nowhere, ..Policy::default() };
    assert!(look(&node, &nowhere, &mut memory()).0.unwrap_err().contains("/etc/nothing.conf"));
}
