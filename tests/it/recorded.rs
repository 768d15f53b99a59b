//! The files and answers of a real kubeadm node of 1.36 (tests/recorded), at the instant at which they were recorded.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::fake;
use crate::recording as recorded;
use certwarden::cli::render::{self, Style};
use certwarden::collect::collect;
use certwarden::host::fs::Root;
use certwarden::model::assess::{Assessment, Severity, assess};
use certwarden::model::cert::CertFacts;
use certwarden::model::component::Component;
use certwarden::model::inventory::{Inventory, Role};
use certwarden::model::plan::{Activation, Source, Step};
use certwarden::model::planner::Selection;
use certwarden::model::policy::{Kubeconfigs, Policy};
use certwarden::model::report::{Outcome, When};
use certwarden::model::tested::NEWEST;
use certwarden::model::version::Version;
use certwarden::model::{wiring, yaml};
use certwarden::renew::cluster_config::{ClusterConfig, Origin, cluster_configuration};
use fake::node::{Node, assert_outcome, temp};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When `kubeadm certs check-expiration` was run there.
const AT: &str = "2026-11-30T06:18:52Z";
const LEAVES: [&str; 11] = [
    "admin.conf",
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
    "scheduler.conf",
    "super-admin.conf",
];

fn at() -> Timestamp {
    AT.parse().unwrap()
}

fn tree(what: &str) -> TempDir {
    let dir = temp();
    recorded::unpack(&recorded::read(&format!("v1.36.2/tree-{what}.txt")), dir.path());
    dir
}

fn look(dir: &TempDir, now: Timestamp) -> (Inventory, Assessment) {
    let inventory = collect(&Root::open(dir.path()).unwrap(), now, &Kubeconfigs::default());
    let assessment = assess(&inventory, &Policy::default(), now);
    (inventory, assessment)
}

fn leaf<'a>(inventory: &'a Inventory, name: &str) -> &'a CertFacts {
    inventory.get(name).and_then(|e| e.leaf()).unwrap_or_else(|| panic!("no {name}"))
}

const CONTROL_PLANE: &str = "\
OK - 16 certificates are well, kubelet-serving is the next to expire, in 364d

CERTIFICATE               EXPIRES     LEFT  STATUS  PROBLEMS
admin.conf                2027-11-30  364d  OK
apiserver                 2027-11-30  364d  OK
apiserver-etcd-client     2027-11-30  364d  OK
apiserver-kubelet-client  2027-11-30  364d  OK
controller-manager.conf   2027-11-30  364d  OK
etcd-healthcheck-client   2027-11-30  364d  OK
etcd-peer                 2027-11-30  364d  OK
etcd-server               2027-11-30  364d  OK
front-proxy-client        2027-11-30  364d  OK
kubelet-client            2027-11-30  364d  OK
kubelet-serving           2027-11-30  364d  OK
scheduler.conf            2027-11-30  364d  OK
super-admin.conf          2027-11-30  364d  OK

CERTIFICATE AUTHORITY  EXPIRES     LEFT   STATUS  PROBLEMS
ca                     2036-11-27  3649d  OK
etcd-ca                2036-11-27  3649d  OK
front-proxy-ca         2036-11-27  3649d  OK
";

const WORKER: &str = "\
OK - 3 certificates are well, kubelet-serving is the next to expire, in 364d

CERTIFICATE      EXPIRES     LEFT  STATUS  PROBLEMS
kubelet-client   2027-11-30  364d  OK
kubelet-serving  2027-11-30  364d  OK

CERTIFICATE AUTHORITY  EXPIRES     LEFT   STATUS  PROBLEMS
ca                     2036-11-27  3649d  OK
";

#[test]
fn every_certificate_of_both_nodes_is_in_the_table_and_well() {
    let later = "2026-11-30T07:10:00Z".parse().unwrap(); // the worker had joined at seven
    for (what, now, role, name, table) in [
        ("control-plane", at(), Role::ControlPlane, "node", CONTROL_PLANE),
        ("worker", later, Role::Worker, "rc-w1", WORKER),
    ] {
        let (inventory, mut assessment) = look(&tree(what), now);
        assert_eq!((inventory.node.role, inventory.node.name.as_deref()), (role, Some(name)));
        assert_eq!(inventory.node.notes, Vec::<String>::new());
        assert_eq!(assessment.verdict, Severity::Ok);
        // depends on what this version of certwarden was tested on
        assessment.information.clear();
        let style = Style { wide: false, colour: false, width: 100 };
        assert_eq!(render::table(&inventory, &assessment, style).as_str(), table);
    }
}

#[test]
fn names_ends_owners_and_issuers_are_those_of_kubeadms_own_table() {
    let (inventory, assessment) = look(&tree("control-plane"), at());
    let document: Value = serde_json::to_value(render::document(&inventory, &assessment)).unwrap();
    let ours: BTreeMap<&str, &Value> =
        document["entries"].as_array().unwrap().iter().map(|e| (e["name"].as_str().unwrap(), e)).collect();
    let kubeadms: Value = serde_json::from_str(&recorded::read("v1.36.2/check-expiration.json")).unwrap();
    let rows = |key: &str| kubeadms[key].as_array().unwrap().clone();
    let leaves: Vec<String> = rows("certificates").iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(leaves, LEAVES);
    for row in rows("certificates") {
        let name = row["name"].as_str().unwrap();
        let entry = ours[name];
        let said = (&entry["not_after"], &entry["seconds_left"], &entry["signer"], &entry["owner"]);
        let (owner, left) = (json!("kubeadm"), &row["residualTime"]);
        assert_eq!(row["externallyManaged"], false);
        assert_eq!(said, (&row["expirationDate"], left, &row["caName"], &owner), "{name}");
    }
    for row in rows("certificateAuthorities") {
        let entry = ours[row["name"].as_str().unwrap()];
        let said = (&entry["kind"], &entry["not_after"], &entry["seconds_left"]);
        assert_eq!(said, (&json!("ca"), &row["expirationDate"], &row["residualTime"]), "{row}");
    }
    assert_eq!(ours["kubelet-client"]["owner"], "kubelet");
    assert_eq!(ours["kubelet-serving"]["owner"], "certwarden");
    assert_eq!(ours.len(), 16);
}

#[test]
fn identities_are_those_that_kubeadm_1_36_gives() {
    let (inventory, _) = look(&tree("control-plane"), at());
    for (name, user, group) in [
        ("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
        ("super-admin.conf", "kubernetes-super-admin", Some("system:masters")),
        // in a group until 1.36.1
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", None),
        ("front-proxy-client", "front-proxy-client", None),
        ("kubelet-client", "system:node:node", Some("system:nodes")),
    ] {
        let leaf = leaf(&inventory, name);
        assert_eq!(leaf.common_name.as_deref(), Some(user));
        assert_eq!(leaf.organizations, group.map(str::to_owned).into_iter().collect(), "{name}");
    }
    // kubeadm since 1.31 backdates by five minutes what it issues, the kubelet's signer always did
    let init: Timestamp = "2026-11-30T05:59:33Z".parse().unwrap();
    assert_eq!(leaf(&inventory, "apiserver").not_before, init - jiff::SignedDuration::from_mins(5));
}

#[test]
fn the_node_is_known_by_its_files() {
    let (inventory, assessment) = look(&tree("control-plane"), at());
    let kubelet = &inventory.node.kubelet;
    // by config.yaml alone: since 1.32 there is no flag any more
    assert_eq!(kubelet.cri_socket.as_deref(), Some(Path::new("/run/containerd/containerd.sock")));
    assert!(kubelet.rotate_certificates && !kubelet.server_tls_bootstrap);
    assert_eq!((kubelet.healthz.as_deref(), kubelet.port), (Some("127.0.0.1:10248"), Some(10250)));
    assert_eq!(kubelet.kubeconfig.as_deref(), Some(Path::new("/etc/kubernetes/kubelet.conf")));
    assert_eq!(kubelet.static_pod_path.as_deref(), Some(Path::new("/etc/kubernetes/manifests")));
    let version = |c: Component| inventory.node.static_pods[&c].version.unwrap().to_string();
    assert_eq!(version(Component::KubeApiserver), "v1.36.2");
    assert_eq!(version(Component::KubeScheduler), "v1.36.2");
    let told: Vec<&str> = assessment.information.iter().map(|f| f.id.id()).collect();
    assert_eq!(told, if NEWEST < (1, 36) { vec!["untested-version"] } else { vec![] });
    let (worker, of_worker) = look(&tree("worker"), at());
    assert_eq!(of_worker.information, Vec::new(), "no file of a worker says the cluster's version");
    assert_eq!(worker.node.kubelet.cri_socket.as_deref(), Some(Path::new("/run/containerd/containerd.sock")));
}

#[test]
fn components_are_asked_where_the_kubelet_itself_asks_them() {
    let (inventory, _) = look(&tree("control-plane"), at());
    for (component, url) in [
        (Component::KubeApiserver, "https://10.99.0.2:6443/readyz"),
        (Component::KubeControllerManager, "https://127.0.0.1:10257/healthz"),
        (Component::KubeScheduler, "https://127.0.0.1:10259/healthz"),
        (Component::Etcd, "http://127.0.0.1:2381/health"),
        (Component::Kubelet, "http://127.0.0.1:10248/healthz"),
    ] {
        assert_eq!(wiring::health_url(&inventory.node, component).as_deref(), Some(url));
        let Some(pod) = inventory.node.static_pods.get(&component) else { continue };
        let manifest: Value = yaml::parse(&recorded_file(&pod.manifest)).unwrap();
        let container = &manifest["spec"]["containers"][0];
        let (probe, port) = (&container["livenessProbe"]["httpGet"], &container["ports"][0]["containerPort"]);
        let address = format!("{}:{port}", probe["host"].as_str().unwrap());
        assert!(url.contains(&address), "{component}: {url}, {address}");
    }
    assert_eq!(wiring::etcd_urls(&inventory.node), ["https://127.0.0.1:2379"]);
}

/// A file of the control plane.
fn recorded_file(path: &Path) -> String {
    let dir = tree("control-plane");
    std::fs::read_to_string(dir.path().join(path.strip_prefix("/").unwrap())).unwrap()
}

/// The control plane with everything around it faked, on a clock that shows the instant of the recording.
fn node(live: bool) -> Node {
    let mut node = Node::at(tree("control-plane"));
    node.fake.world(|w| {
        w.now = at();
        w.kubelet_started = at() - jiff::SignedDuration::from_secs(100_003);
        w.containers.iter_mut().for_each(|c| c.pod = format!("{}-node", c.name));
    });
    std::fs::create_dir_all(node.path("/var/lib/certwarden")).unwrap();
    node.host.live = live;
    node
}

#[test]
fn a_plan_for_all_has_the_eleven_leaves_and_activates_who_uses_them() {
    let node = node(true);
    let plan = node.plan(&Selection::All);
    let names: Vec<&str> = plan.items.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, LEAVES);
    assert_eq!(plan.skipped.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    let activated: Vec<(String, bool)> = plan
        .steps
        .iter()
        .filter_map(|s| match &s.step {
            Step::Activate { component, how } => {
                Some((component.to_string(), matches!(how, Activation::NewContainer { .. })))
            }
            _ => None,
        })
        .collect();
    let expected = [
        ("etcd", false),
        ("kube-apiserver", false),
        ("kube-controller-manager", true),
        ("kube-scheduler", true),
        ("kubelet", false),
    ];
    assert_eq!(activated, expected.map(|(c, new)| (c.to_owned(), new)));
    assert_eq!(node.plan(&Selection::Due).items.len(), 0);
}

#[test]
fn a_dry_run_rehearses_each_of_the_eleven_and_leaves_nothing() {
    let node = node(true);
    let before = node.live();
    let session = node.session();
    let plan = session.plan(&Selection::All).unwrap();
    let report = session.carry_out(&plan, true, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::DryRun);
    let proven: BTreeSet<&str> = report
        .credentials
        .iter()
        .filter(|c| c.when == When::Rehearsal && c.proven == Some(true))
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(proven, LEAVES.into());
    // by the names of those who dial them here
    for (name, dialled) in
        [("apiserver", "10.99.0.2"), ("etcd-server", "10.99.0.2, 127.0.0.1"), ("etcd-peer", "10.99.0.2")]
    {
        let handshakes = report.credentials.iter().filter(|c| c.name == name && c.against.starts_with("TLS"));
        let against: Vec<&str> = handshakes.map(|c| c.against.as_str()).collect();
        assert_eq!(against, [format!("TLS handshake as {dialled}")], "{name}");
    }
    assert!(Node::changed(&before, &node.live()).is_empty());
    node.assert_nothing_left_over();
}

#[test]
fn a_renewal_of_the_image_replaces_the_eleven_leaves_by_their_like_and_nothing_else() {
    let node = node(false);
    let (before, old) = (node.live(), node.inventory());
    let session = node.session();
    let plan = session.plan(&Selection::All).unwrap();
    assert_eq!(plan.source, Source::Local);
    let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Committed);
    let new = node.inventory();
    for name in LEAVES {
        let (old, new) = (leaf(&old, name), leaf(&new, name));
        assert_ne!((&old.serial, &old.spki), (&new.serial, &new.spki), "{name}");
        let like = |l: &CertFacts| {
            let names = (l.subject.clone(), l.issuer.clone(), l.sans.clone(), l.usages.clone());
            (names, l.key_algorithm.clone(), l.not_after.as_second() - l.not_before.as_second())
        };
        assert_eq!(like(old), like(new), "{name}");
        assert_eq!(new.not_after.duration_since(at()).as_hours(), 365 * 24, "{name}");
    }
    let allowed: BTreeSet<_> = plan.items.iter().flat_map(|i| i.form.files()).map(Path::to_path_buf).collect();
    let changed: BTreeSet<_> = Node::changed(&before, &node.live()).iter().map(|p| Path::new("/").join(p)).collect();
    assert_eq!(changed, allowed);
    assert_eq!(changed.len(), 7 * 2 + 4);
    let (_, assessment) = look(&node.dir, at());
    assert_eq!(assessment.verdict, Severity::Ok);
    node.assert_pairs_fit();
}

fn configuration(node: &Node) -> (ClusterConfig, Value, Value) {
    let kubeadm = Version::parse("v1.36.2").unwrap();
    let cache = Path::new("/var/lib/certwarden/cluster-configuration.yaml");
    let made = cluster_configuration(&node.host, &node.inventory().node, kubeadm, cache).unwrap();
    let mut documents = made.document.split("\n---\n").map(|d| serde_json::from_str(d).unwrap());
    let (cluster, init) = (documents.next().unwrap(), documents.next().unwrap());
    assert_eq!(documents.next(), None);
    (made, cluster, init)
}

#[test]
fn the_clusters_configuration_of_v1beta4_is_taken_whole_kept_and_rebuilt_alike_without_the_api() {
    let map: Value = serde_json::from_str(&recorded::read("v1.36.2/cm-kubeadm-config.json")).unwrap();
    let text = map["data"]["ClusterConfiguration"].as_str().unwrap();
    let node = node(true);

    node.fake.world(|w| w.api_is_down = true);
    let (rebuilt, without_api, init) = configuration(&node);
    assert_eq!(rebuilt.origin, Origin::Rebuilt, "{:?}", rebuilt.notes);

    node.fake.world(|w| (w.api_is_down, w.cluster_configuration) = (false, Some(text.to_owned())));
    let (from_api, cluster, same_init) = configuration(&node);
    assert_eq!((from_api.origin, from_api.notes.len()), (Origin::Api, 0), "{:?}", from_api.notes);
    let stated = yaml::parse::<Value>(text).unwrap();
    assert_eq!(cluster, stated, "everything that a renewal needs is said already, and nothing is lost");

    // what a renewal goes by
    for field in ["apiVersion", "kind", "kubernetesVersion", "certificatesDir", "encryptionAlgorithm"] {
        assert_eq!((field, &without_api[field]), (field, &stated[field]));
    }
    assert_eq!(without_api["certificateValidityPeriod"], "8760h0m0s");
    assert_eq!(without_api["etcd"]["local"]["dataDir"], stated["etcd"]["local"]["dataDir"]);
    assert_eq!(init, same_init);
    assert_eq!(init["localAPIEndpoint"], json!({"advertiseAddress": "10.99.0.2", "bindPort": 6443}));
    assert_eq!(
        init["nodeRegistration"],
        json!({"name": "node", "criSocket": "unix:///run/containerd/containerd.sock"})
    );

    node.fake.world(|w| w.api_is_down = true);
    let (kept, again, _) = configuration(&node);
    assert_eq!((kept.origin, again), (Origin::Cache, cluster));
}
