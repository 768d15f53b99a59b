//! The kubelet's serving certificate: its self-signed pair renewed as it made it and proven on its socket; one that the
//! cluster signs asked for where the kubelet came to nothing; somebody else's left alone.

use std::fs;

use crate::fake;
use crate::support;
use certwarden::model::cert::parse_pem;
use certwarden::model::finding::Problem;
use certwarden::model::inventory::{Entry, Form, Owner};
use certwarden::model::plan::Source;
use certwarden::model::planner::Selection;
use certwarden::model::policy::{Span, Threshold};
use certwarden::model::report::Outcome;
use certwarden::txn::recover::Reach;
use fake::Fault;
use fake::node::{KUBELET, Node, assert_outcome, assert_unchanged, on_the_loopback, temp};
use fake::signer::{Signer, Signing};
use fake::socket::{Uptake, serve};
use support::{Ca, DAY, KeyKind, Layout, Options, Tree, Usage};

const SERVING: &str = "kubelet-serving";
const CERT: &str = "/var/lib/kubelet/pki/kubelet.crt";
const KEY: &str = "/var/lib/kubelet/pki/kubelet.key";
const LINK: &str = "/var/lib/kubelet/pki/kubelet-server-current.pem";
const DATED: &str = "/var/lib/kubelet/pki/kubelet-server-2026-01-02-03-04-05.pem";
const UPDATED: &str = "/var/lib/kubelet/pki/kubelet-server-updated.pem";

struct Case {
    node: Node,
    tree: Tree,
}

fn case(options: Options, change: impl FnOnce(&Tree)) -> Case {
    let dir = temp();
    let tree = Tree::build(dir.path(), options);
    on_the_loopback(&tree);
    change(&tree);
    let mut node = Node::at(dir);
    node.policy.renew.exclude.clear();
    node.policy.kubelet.renew_before = Threshold::Time(Span::days(30));
    node.policy.verify.timeout = Span::secs(40);
    node.fake.world(|w| w.signer = Some(Signer::new(&tree.ca, &tree.front_proxy_ca)));
    Case { node, tree }
}

/// Nothing else is due, and the kubelet serves `pair` on a real socket.
fn listening(options: Options, pair: [&str; 2], uptake: Uptake) -> Case {
    let case = case(options, |_| {});
    let port = serve(&case.node, "kubelet", pair, uptake);
    let config = case.tree.read("/var/lib/kubelet/config.yaml");
    let text = config.replace(&format!("port: {KUBELET}\n"), &format!("port: {port}\n"));
    assert_ne!(text, config);
    case.tree.write("/var/lib/kubelet/config.yaml", text, 0o644);
    case
}

fn due(left: i64) -> Options {
    Options { layout: Layout::Worker, ..Options::default() }.left_of(SERVING, left)
}

fn bootstrapped(left: i64) -> Options {
    Options { server_tls_bootstrap: true, ..due(left) }
}

fn entry(case: &Case) -> Entry {
    case.node.inventory().get(SERVING).unwrap().clone()
}

fn findings(case: &Case) -> Vec<Problem> {
    case.node.session().assessment.get(SERVING).unwrap().findings.iter().map(|f| f.id).collect()
}

#[test]
fn the_kubelets_self_signed_pair_is_renewed_in_its_shape_and_served() {
    let case = listening(due(20 * DAY), [CERT, KEY], Uptake::Restart);
    assert_eq!(entry(&case).owner, Owner::Certwarden);
    let old = parse_pem(&case.node.read(CERT)).unwrap();
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let new = parse_pem(&case.node.read(CERT)).unwrap();
    assert_eq!(new.len(), 2, "the leaf, then its own CA");
    for (old, new) in old.iter().zip(&new) {
        assert_eq!((&new.subject, &new.issuer, &new.sans), (&old.subject, &old.issuer, &old.sans));
        assert!(new.not_after > old.not_after && new.spki != old.spki, "{new:?}");
    }
    let seen = report.sockets.iter().find(|s| s.entry == SERVING).unwrap();
    assert!(seen.ok && seen.serial.as_ref() == Some(&new[0].serial), "{seen:?}");
    assert!(case.node.fake.world(|w| w.starts) > 0, "the kubelet reads it at its start");
    assert_eq!(findings(&case), []);
    case.node.assert_nothing_left_over();
    assert_outcome(&case.node.renew_due(), Outcome::NothingToDo);
}

#[test]
fn a_kubelet_that_reads_its_self_signed_pair_again_by_itself_is_not_restarted_for_it() {
    let case = listening(due(20 * DAY), [CERT, KEY], Uptake::Reload);
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(report.sockets.iter().any(|s| s.entry == SERVING && s.ok), "{:?}", report.sockets);
    assert_eq!((case.node.fake.world(|w| w.starts), report.restarted.len()), (0, 0), "its pods are not admitted again");
    assert_eq!(report.pods, None, "nothing was restarted");
}

#[test]
fn pods_that_do_not_come_back_after_a_restart_of_the_kubelet_are_named() {
    for evicted in [None, Some("shop/cart-0".to_owned())] {
        let case = listening(due(20 * DAY), [CERT, KEY], Uptake::Restart);
        case.node.fake.world(|w| w.evicts.clone_from(&evicted));
        let report = case.node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        let seen = report.pods.unwrap();
        assert_eq!(seen.gone, evicted.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(seen.before, seen.after + seen.gone.len());
        let named = report.notes.iter().any(|n| n.contains("do not run any more: shop/cart-0;"));
        assert_eq!(named, evicted.is_some(), "{:?}", report.notes);
    }
    let case = listening(due(20 * DAY), [CERT, KEY], Uptake::Restart);
    case.node.fake.always("pods", Fault::Hang);
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(report.pods, None, "a runtime that does not list them has lost none");
}

#[test]
fn a_pair_that_the_kubelet_does_not_serve_is_taken_back_and_nothing_else_with_it() {
    let options = Options { left: 20 * DAY, ..Options::default() }.left_of("kubelet-client", 300 * DAY);
    let case = listening(options, [CERT, KEY], Uptake::Never);
    let before = case.node.live();
    let session = case.node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    let parts: Vec<Vec<&str>> = plan.parts().map(|p| p.items.iter().map(|i| i.name.as_str()).collect()).collect();
    assert_eq!((parts.len(), &parts[1]), (2, &vec![SERVING]), "what nobody can verify comes last and alone");
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("kubelet-serving on the disk has"), "{}", report.reason);
    let changed = Node::changed(&before, &case.node.live());
    assert!(changed.iter().any(|p| p.ends_with("pki/apiserver.crt")), "{changed:?}");
    assert!(!changed.iter().any(|p| p.ends_with("kubelet.crt") || p.ends_with("kubelet.key")), "{changed:?}");
    case.node.assert_nothing_left_over();
}

#[test]
fn all_means_what_a_ca_of_the_cluster_issued_and_the_self_signed_pair_when_it_is_due_or_named() {
    for (left, with_it) in [(300 * DAY, false), (20 * DAY, true)] {
        let case = case(Options::default().left_of(SERVING, left), |_| {});
        let plan = case.node.plan(&Selection::All);
        assert_eq!(plan.parts().any(|p| p.item(SERVING).is_some()), with_it, "{left}");
    }
    let case = case(due(300 * DAY), |_| {});
    assert_eq!(case.node.plan(&Selection::Names(vec![SERVING.into()])).source, Source::SelfMade);
}

#[test]
fn an_expired_pair_is_nothing_to_go_back_to_and_no_emergency() {
    let case = listening(due(-DAY), [CERT, KEY], Uptake::Restart);
    let assessment = case.node.session().assessment;
    assert!(!assessment.emergency(), "no gate gives way for it");
    assert_eq!(findings(&case), [Problem::Expired]);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_eq!(findings(&case), []);
}

#[test]
fn killed_at_any_call_the_pair_is_all_old_or_all_new() {
    let mut tick = 1;
    loop {
        let case = case(due(20 * DAY), |_| {});
        let crashed = case.node.renew_and_crash(tick);
        let node = case.node.rebooted();
        node.recover(Reach::Full, false).unwrap();
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        let all: Vec<_> = parse_pem(&node.read(CERT)).unwrap();
        assert_eq!((all.len(), &all[0].issuer), (2, &all[1].subject), "after {tick}");
        if !crashed {
            break;
        }
        tick += 5;
    }
    assert!(tick > 50, "{tick}");
}

#[test]
fn a_backup_of_the_pair_can_be_put_back() {
    let case = listening(due(20 * DAY), [CERT, KEY], Uptake::Restart);
    let old = case.node.read(CERT);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_outcome(&case.node.rollback(None, &[]).unwrap(), Outcome::Verified);
    assert_eq!(case.node.read(CERT), old);
}

#[test]
fn what_somebody_put_in_the_place_of_the_kubelets_pair_is_his() {
    let stranger = Ca::new("corporate", KeyKind::P256, 300 * DAY);
    let control_plane = Options::default().left_of(SERVING, 20 * DAY);
    let by_cluster = |t: &Tree| {
        let leaf = t.leaf(&t.ca, SERVING, ("node-1", None), Usage::Server);
        t.pair(CERT, KEY, &leaf);
    };
    let by_stranger = |t: &Tree| {
        let leaf = t.leaf(&stranger, SERVING, ("node-1@1700000000", None), Usage::Server);
        t.write(CERT, [leaf.cert_pem.clone(), stranger.cert_pem()].concat(), 0o644);
        t.write(KEY, &leaf.key_pem, 0o600);
    };
    // an operator's, signed by the CA whose key is here: renewed like it, on a worker by nobody here
    let owned = case(control_plane, by_cluster);
    assert_eq!((entry(&owned).owner, entry(&owned).signer.as_deref()), (Owner::Certwarden, Some("ca")));
    let plan = owned.node.plan(&Selection::Due);
    assert_eq!((&plan.source, plan.items.len()), (&Source::Local, 1));
    for case in [case(due(20 * DAY), by_cluster), case(due(20 * DAY), by_stranger)] {
        assert_eq!(entry(&case).owner, Owner::External);
        let before = case.node.live();
        assert_outcome(&case.node.renew_due(), Outcome::LeftOut);
        assert_outcome(&case.node.renew(&Selection::Names(vec![SERVING.into()])), Outcome::Refused);
        assert_unchanged(&before, &case.node);
        assert_eq!(findings(&case), [Problem::Expiring], "watched all the same");
    }
}

#[test]
fn a_configured_pair_of_another_ca_is_watched_and_not_touched() {
    let stranger = Ca::new("corporate", KeyKind::P256, 300 * DAY);
    let case = case(due(20 * DAY), |t| {
        let leaf = t.leaf(&stranger, SERVING, ("node-1", None), Usage::Server);
        t.pair("/etc/corporate/node.crt", "/etc/corporate/node.key", &leaf);
        let config = t.read("/var/lib/kubelet/config.yaml");
        let files = "tlsCertFile: /etc/corporate/node.crt\ntlsPrivateKeyFile: /etc/corporate/node.key\n";
        t.write("/var/lib/kubelet/config.yaml", config + files, 0o644);
    });
    let found = entry(&case);
    assert_eq!((found.owner, found.path().to_str().unwrap()), (Owner::External, "/etc/corporate/node.crt"));
    let before = case.node.live();
    assert_outcome(&case.node.renew_due(), Outcome::LeftOut);
    assert_unchanged(&before, &case.node);
}

#[test]
fn a_half_or_unreadable_pair_is_told_and_left_alone() {
    for (broken, problem) in
        [((CERT, ""), Problem::Empty), ((CERT, "rubbish"), Problem::Malformed), ((KEY, ""), Problem::Empty)]
    {
        let case = case(due(300 * DAY), |t| t.write(broken.0, broken.1, 0o600));
        assert_eq!(findings(&case), [problem], "{broken:?}");
        let before = case.node.live();
        let report = case.node.renew_due();
        assert_outcome(&report, Outcome::LeftOut);
        let told =
            [report.left_out[0].reason.as_str(), report.left_out[0].needed.as_deref().unwrap_or_default()].concat();
        let by = if broken.0 == KEY { "certwarden renew kubelet-serving" } else { "systemctl restart kubelet.service" };
        assert!(told.contains(by), "{broken:?}: {told}");
        assert_unchanged(&before, &case.node);
    }
}

fn serves_current(case: &Case) -> String {
    let target = fs::read_link(case.node.path(LINK)).unwrap();
    assert!(target.is_absolute());
    parse_pem(&case.node.read(&target.display().to_string())).unwrap()[0].serial.clone()
}

#[test]
fn an_overdue_serving_certificate_is_asked_for_linked_and_served() {
    let case = listening(bootstrapped(20 * DAY), [DATED, DATED], Uptake::Restart);
    assert_eq!(findings(&case), [Problem::RotationOverdue]);
    let old = serves_current(&case);
    let report = case.node.renew_due();
    // the fake reads the old file for ever
    assert_outcome(&report, Outcome::RolledBack);
    assert_eq!(serves_current(&case), old);

    let case = listening(bootstrapped(20 * DAY), [LINK, LINK], Uptake::Restart);
    let old = serves_current(&case);
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let new = entry(&case);
    let leaf = new.leaf().unwrap();
    assert!(matches!(new.form, Form::Combined { .. }) && leaf.serial == serves_current(&case) && leaf.serial != old);
    assert_eq!(leaf.subject, "O=system:nodes, CN=system:node:node-1");
    assert!(leaf.sans.contains("DNS:node-1") && leaf.sans.contains("IP:127.0.0.1"), "{:?}", leaf.sans);
    assert!(report.sockets.iter().any(|s| s.entry == SERVING && s.ok));
    let requests: Vec<String> = case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.keys().cloned().collect());
    assert!(requests.len() == 1 && requests[0].starts_with("certwarden-serving-node-1-"), "{requests:?}");
    case.node.assert_nothing_left_over();
    assert_eq!(findings(&case), []);
    for file in ["request-serving.pem", "request-serving.json"] {
        assert!(!case.node.path("/var/lib/certwarden").join(file).exists(), "{file}");
    }
}

#[test]
fn whoever_answers_a_serving_request_wrongly_changes_nothing() {
    use Signing::*;
    for (signing, reason) in [
        (NeverApproved, "nobody approved request certwarden-serving-node-1-"),
        (Denied, "was denied: Policy: not this one"),
        (AnotherKey, "is for another key"),
        (AnotherName, "its subject is `O=system:nodes, CN=system:node:another`"),
        (ShortLife, "it would end at"),
        (AnotherCa, "is not accepted"),
        (ForAnotherUse, "it lacks the usages serverAuth"),
        (NoNames, "what was issued is not for node-1, 127.0.0.1"),
    ] {
        let case = case(bootstrapped(20 * DAY), |_| {});
        let before = case.node.live();
        case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = signing);
        let report = case.node.renew_due();
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains(reason), "{signing:?}: {}", report.reason);
        for _ in 0..3 {
            case.node.renew_due();
        }
        let filed = case.node.fake.world(|w| w.calls.iter().filter(|c| c.method == "post").count());
        assert_eq!(filed, 1, "{signing:?}: no pile of requests");
        assert_unchanged(&before, &case.node);
        assert!(case.node.fake.world(|w| w.kubelet.is_running() && w.starts == 0), "{signing:?}");
    }
}

#[test]
fn a_kubelet_that_waits_for_its_own_serving_request_is_left_to_it_and_it_is_told_why_nothing_comes() {
    let case = case(bootstrapped(20 * DAY), |t| {
        t.remove(LINK);
        t.remove(DATED);
    });
    let file = |age: i64| {
        case.node.fake.world(|w| {
            let created = w.now - jiff::SignedDuration::from_secs(age);
            let request = serde_json::json!({
                "metadata": {"name": "csr-x", "creationTimestamp": format!("{created:.0}")},
                "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:node-1"},
            });
            w.signer.as_mut().unwrap().requests.insert("csr-x".into(), request);
        });
    };
    file(60);
    assert_eq!(findings(&case), [Problem::Missing, Problem::RequestPending]);
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::LeftOut);
    assert!(report.reason.contains("the kubelet itself waits for its request csr-x"), "{}", report.reason);
    // given up, and no other filed: as some kubelets do (kubernetes#130001)
    file(3600);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_eq!(findings(&case), []);
}

#[test]
fn files_in_the_place_of_the_links_become_links() {
    let case = case(bootstrapped(20 * DAY), |t| {
        let content = t.read(LINK);
        t.remove(LINK);
        t.write(LINK, content, 0o600);
        t.write(UPDATED, "x", 0o600);
    });
    assert!(findings(&case).contains(&Problem::NotASymlink));
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    serves_current(&case);
    assert!(case.node.path(UPDATED).is_symlink());
    assert_eq!(findings(&case), []);
}

#[test]
fn a_healthy_serving_certificate_is_the_kubelets() {
    let case = case(bootstrapped(300 * DAY), |_| {});
    assert_outcome(&case.node.renew_due(), Outcome::NothingToDo);
    let report = case.node.renew(&Selection::Names(vec![SERVING.into()]));
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("rotates it by itself"), "{}", report.reason);
}
