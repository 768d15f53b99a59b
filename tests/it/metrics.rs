//! Metrics of a whole node: what dashboards and alerts of others expect, and no more series than are promised.

use std::collections::{BTreeMap, BTreeSet};

use crate::support;
use certwarden::collect::collect;
use certwarden::host::fs::Root;
use certwarden::model::assess::assess;
use certwarden::model::metrics::counters::Counters;
use certwarden::model::metrics::{FAMILIES, Look, count_errors, node};
use certwarden::model::policy::{DueBefore, Policy};
use jiff::Timestamp;
use support::{Options, Tree};

fn page(tree: &Tree, policy: &Policy) -> String {
    page_by(tree, policy, DueBefore::by_age(policy))
}

fn page_by(tree: &Tree, policy: &Policy, due: DueBefore) -> String {
    let root = Root::open(&tree.root).unwrap();
    let now = Timestamp::now();
    let inventory = collect(&root, now, &policy.kubeconfigs);
    let assessment = assess(&inventory, policy, now);
    let mut counters = Counters::default();
    count_errors(&mut counters, &inventory);
    let look = Look {
        version: "0.0.0",
        inventory: &inventory,
        assessment: &assessment,
        policy,
        due,
        endpoints: None,
        requests: None,
        clock_synchronised: Some(true),
        counters: &counters,
    };
    node(&look).into_text()
}

fn control_plane() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::build(dir.path(), Options::default());
    (dir, tree)
}

/// Family → label text → value.
fn samples(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let at = series.find('{').unwrap_or(series.len());
        let before = all.entry(series[..at].into()).or_default().insert(series[at..].into(), value.into());
        assert!(before.is_none(), "twice: {series}");
    }
    all
}

#[test]
fn when_a_certificate_is_renewed_is_published_by_the_threshold_of_the_moment() {
    let (_dir, tree) = control_plane();
    let policy = Policy::default();
    let at = |due: DueBefore| -> i64 {
        let all = samples(&page_by(&tree, &policy, due));
        let of = &all["certwarden_certificate_renew_after_timestamp_seconds"];
        of.iter().find(|(labels, _)| labels.contains("\"apiserver\"")).unwrap().1.parse().unwrap()
    };
    let by_age = DueBefore::by_age(&policy);
    let shut = DueBefore { renew_before: by_age.emergency_before, ..by_age };
    let later = policy.renew.renew_before.seconds() - policy.renew.emergency_before.seconds();
    assert_eq!(at(shut) - at(by_age), later, "outside of windows it is renewed in an emergency only");
}

#[test]
fn the_exporters_three_families_have_the_same_labels_so_that_they_can_be_subtracted() {
    let (_dir, tree) = control_plane();
    let all = samples(&page(&tree, &Policy::default()));
    let labels = |name: &str| all[name].keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(labels("x509_cert_not_after"), labels("x509_cert_not_before"));
    assert_eq!(labels("x509_cert_not_after"), labels("x509_cert_expired"));
    let any = |needles: &[&str]| labels("x509_cert_not_after").iter().any(|l| needles.iter().all(|n| l.contains(n)));
    assert!(any(&[r#"{filename="apiserver.crt",filepath="/etc/kubernetes/pki/apiserver.crt",serial_number=""#]));
    assert!(any(&[r#"filepath="/etc/kubernetes/admin.conf",embedded_kind="user",embedded_key="kubernetes-admin""#]));
    assert!(any(&[r#"filepath="/etc/kubernetes/admin.conf",embedded_kind="cluster",embedded_key="#]));
    assert!(any(&[r#"filename="kubelet-client-current.pem""#, r#"subject_O="system:nodes""#]));
    for series in labels("x509_cert_not_after") {
        let serial = series.split("serial_number=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(!serial.is_empty() && serial.bytes().all(|b| b.is_ascii_digit()), "decimal: {series}");
    }
    assert_eq!(all["x509_read_errors"][""], "0");
    assert!(all["x509_source_errors_total"].values().all(|v| v == "0"));
    assert_eq!(all["x509_source_errors_total"].len(), 14, "two sources, seven reasons, before anything has happened");
}

#[test]
fn a_control_plane_has_less_than_five_hundred_series() {
    let (_dir, tree) = control_plane();
    let all = samples(&page(&tree, &Policy::default()));
    let count: usize = all.values().map(BTreeMap::len).sum();
    assert!((200..500).contains(&count), "{count}");
    for name in all.keys() {
        assert!(FAMILIES.iter().any(|f| f.name == name), "{name} is not in the reference");
    }
    let off = Policy {
        metrics: certwarden::model::policy::Metrics { x509_compat: false, ..Policy::default().metrics },
        ..Policy::default()
    };
    assert!(samples(&page(&tree, &off)).keys().all(|name| name.starts_with("certwarden_")));
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_a_missing_series() {
    let (_dir, tree) = control_plane();
    tree.write("/etc/kubernetes/pki/apiserver.crt", "no certificate", 0o644);
    tree.remove("/etc/kubernetes/scheduler.conf");
    let all = samples(&page(&tree, &Policy::default()));
    assert_eq!(all["x509_read_errors"][""], "2");
    let error = r#"{filename="apiserver.crt",filepath="/etc/kubernetes/pki/apiserver.crt"}"#;
    assert_eq!(all["x509_cert_error"][error], "1");
    assert_eq!(all["certwarden_certificate_state"][r#"{certificate="apiserver",state="invalid"}"#], "1");
    assert_eq!(all["certwarden_certificate_state"][r#"{certificate="scheduler.conf",state="unreadable"}"#], "1");
    let reason = |kind, reason| format!(r#"{{source_kind="{kind}",source_name="certwarden",reason="{reason}"}}"#);
    assert_eq!(all["x509_source_errors_total"][&reason("file", "decode_failed")], "1");
    assert_eq!(all["x509_source_errors_total"][&reason("kubeconfig", "not_found")], "1");
    assert_eq!(all["certwarden_findings"][r#"{finding="missing"}"#], "1");
    assert_eq!(all["certwarden_verdict"][r#"{verdict="critical"}"#], "1");
}

#[test]
fn the_state_of_every_certificate_is_one_word() {
    let (_dir, tree) = control_plane();
    let all = samples(&page(&tree, &Policy::default()));
    let mut present: BTreeMap<&str, usize> = BTreeMap::new();
    for (labels, value) in &all["certwarden_certificate_state"] {
        let name = labels.split('"').nth(1).unwrap();
        *present.entry(name).or_default() += usize::from(value == "1");
    }
    assert!(present.len() > 12 && present.values().all(|n| *n == 1), "{present:?}");
}
