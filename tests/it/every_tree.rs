//! Never worse than found, as properties of every kind of tree that there is in these tests: a renewal of a healthy node changes
//! nothing, and whoever accepted a certificate accepts what a renewal puts in its place. `fake::node::Node` asserts the second
//! of every renewal in every other test, too.

use std::fs;
use std::process::{Command, Output};

use crate::fake;
use crate::recording as recorded;
use crate::support;
use certwarden::collect::collect;
use certwarden::host::fs::Root;
use certwarden::model::inventory::Inventory;
use certwarden::model::planner::Selection;
use certwarden::model::policy::Kubeconfigs;
use certwarden::model::report::Outcome;
use fake::node::{Node, temp, worse_off};
use jiff::Timestamp;
use support::acceptance::Certificates;
use support::odd::{self, PKI};
use support::{Ca, DAY, KeyKind, Layout, Options, Tree, snapshot};
use tempfile::TempDir;

/// A kind of tree: what it is called, what kubeadm would have made of it, and what people did then.
type Kind = (&'static str, Options, fn(&Tree));

/// yuyicai/update-kube-cert.
const CENTURY: &str = "a hundred years";

fn drop_in(t: &Tree, text: &str) {
    t.write("/etc/systemd/system/kubelet.service.d/90.conf", text, 0o644);
}

fn as_made(what: &'static str, change: fn(&mut Options)) -> Kind {
    let mut options = Options::default();
    change(&mut options);
    (what, options, |_| {})
}

fn plain(what: &'static str, change: fn(&Tree)) -> Kind {
    (what, Options::default(), change)
}

/// Each is well.
fn healthy() -> Vec<Kind> {
    vec![
        as_made("as kubeadm makes it", |_| {}),
        as_made("RSA", |o| o.keys = KeyKind::Rsa2048),
        as_made("worker", |o| o.layout = Layout::Worker),
        as_made("kubespray", |o| o.layout = Layout::Kubespray),
        as_made("external CA", |o| o.external_ca = true),
        as_made("super-admin", |o| o.super_admin = true),
        as_made("serving certificates of the cluster", |o| o.server_tls_bootstrap = true),
        as_made("a worker with serving certificates of the cluster", |o| {
            (o.layout, o.server_tls_bootstrap) = (Layout::Worker, true);
        }),
        as_made(CENTURY, |o| (o.ca_left, o.left) = (36_600 * DAY, 36_500 * DAY)),
        // kubermatic/machine-controller: --hostname-override=%H
        plain("%H", |t| drop_in(t, "[Service]\nEnvironment=\"KUBELET_EXTRA_ARGS=--hostname-override=%H\"\n")),
        plain("sh -c", |t| {
            let command = "/bin/sh -c 'exec /usr/bin/kubelet --hostname-override=\"node-1\"'";
            drop_in(t, &format!("[Service]\nExecStart=\nExecStart={command}\n"));
        }),
        plain("unknown script", |t| {
            let command = "/usr/local/bin/start-kubelet --hostname-override=other";
            drop_in(t, &format!("[Service]\nExecStart=\nExecStart={command}\n"));
        }),
        plain("unit in /usr/local/lib", odd::moved_unit),
        plain("bundle as client CA", odd::client_bundle),
        plain("peer CA", odd::peer_ca),
        plain("two CAs", odd::two_cas),
        plain("chain", odd::chain),
        plain("_ in flags", odd::underscores),
        plain("copy of admin.conf on a worker", odd::worker_with_copy),
        plain("etcd host", odd::etcd_host),
        plain("backup pod", odd::backup_pod),
        plain("block scalars", |t| odd::block_scalars(t, "/etc/kubernetes/admin.conf")),
        plain("other hands", odd::other_hands),
        plain("other directories", odd::other_directories),
        plain("host name", odd::host_name),
    ]
}

/// Each has something wrong with it, which a renewal mends or leaves out.
fn broken() -> Vec<Kind> {
    vec![
        as_made("due", |o| o.left = 10 * DAY),
        as_made("expired", |o| o.left = -DAY),
        as_made("due under an external CA", |o| (o.external_ca, o.left) = (true, 10 * DAY)),
        as_made("due on kubespray's", |o| (o.layout, o.left) = (Layout::Kubespray, 10 * DAY)),
        as_made("embedded kubelet", |o| o.embedded_kubelet = true),
        as_made("embedded kubelet, due", |o| (o.embedded_kubelet, o.left) = (true, 10 * DAY)),
        as_made("the CA ends first", |o| o.ca_left = 100 * DAY),
        plain("no key", |t| t.remove(&format!("{PKI}/apiserver.key"))),
        plain("no key of the CA of etcd", |t| t.remove(&format!("{PKI}/etcd/ca.key"))),
        plain("empty leaf", |t| t.write(&format!("{PKI}/etcd/peer.crt"), "", 0o644)),
        plain("another's key", |t| {
            t.write(&format!("{PKI}/apiserver.key"), t.read(&format!("{PKI}/front-proxy-client.key")), 0o600);
        }),
        plain("a new CA of the same name", |t| {
            let new = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
            t.pair_of(&format!("{PKI}/ca"), &new);
        }),
        plain("a chain of another CA", |t| {
            odd::chain(t);
            let new = Ca::new("kubernetes", KeyKind::P256, 3000 * DAY);
            t.write(&format!("{PKI}/ca.crt"), [new.cert_pem(), t.ca.cert_pem()].concat(), 0o644);
            t.write(&format!("{PKI}/ca.key"), new.key_pem(), 0o600);
        }),
        plain("a host that was renamed", |t| t.write("/etc/hostname", "ip-10-0-0-9\n", 0o644)),
        plain("a link to nowhere", |t| t.remove("/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem")),
        plain("no directory of the kubelet", |t| fs::remove_dir_all(t.at("/var/lib/kubelet")).unwrap()),
        plain("a backup beside a manifest", |t| {
            t.write("/etc/kubernetes/manifests/etcd.yaml.bak", t.read(&odd::manifest("etcd")), 0o600);
        }),
        plain("keys that others can read", |t| {
            t.write(&format!("{PKI}/etcd/server.key"), t.read(&format!("{PKI}/etcd/server.key")), 0o644);
        }),
    ]
}

/// Nodes that kubeadm has really made, at an instant at which they were well: the clock is a fake.
const RECORDED: [(&str, &str); 4] = [
    ("v1.20.2/tree-control-plane.txt", "2026-11-22T06:00:00Z"),
    ("v1.34.2/tree-control-plane.txt", "2026-11-22T06:00:00Z"),
    ("v1.36.2/tree-control-plane.txt", "2026-11-30T06:18:52Z"),
    ("v1.36.2/tree-worker.txt", "2026-11-30T07:10:00Z"),
];

fn recorded_node((text, at): (&str, &str), days_later: i64) -> Node {
    let dir = temp();
    recorded::unpack(&recorded::read(text), dir.path());
    fs::create_dir_all(dir.path().join("var/lib/certwarden")).unwrap();
    let mut node = Node::at(dir);
    let at: Timestamp = at.parse().unwrap();
    node.fake.world(|w| w.now = at + jiff::SignedDuration::from_hours(24 * days_later));
    node.host.live = false;
    node
}

#[test]
fn what_kubeadm_has_made_is_left_alone_while_it_is_well_and_renewed_for_the_same_people_when_it_is_due() {
    for recorded in RECORDED {
        let node = recorded_node(recorded, 0);
        let before = node.live();
        assert_eq!(node.renew_now(&Selection::Due).unwrap().outcome, Outcome::NothingToDo, "{}", recorded.0);
        assert!(Node::changed(&before, &node.live()).is_empty(), "{}", recorded.0);
        // eleven months later
        let node = recorded_node(recorded, 350);
        let before = Certificates::of(node.dir.path());
        let report = node.renew_now(&Selection::Due).unwrap();
        assert!(report.exit_code() < 2, "{}: {report:?}", recorded.0);
        let replaced = before.replaced(&Certificates::of(node.dir.path())).count();
        assert!(replaced >= 10 || recorded.0.contains("worker"), "{}: {replaced} {report:?}", recorded.0);
    }
}

struct Made {
    _dir: TempDir,
    tree: Tree,
}

fn make((_, options, change): &Kind) -> Made {
    let dir = temp();
    let tree = Tree::build(dir.path(), options.clone());
    change(&tree);
    Made { _dir: dir, tree }
}

impl Made {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
        command.arg("--root").arg(&self.tree.root).args(args).output().unwrap()
    }

    fn inventory(&self) -> Inventory {
        collect(&Root::open(&self.tree.root).unwrap(), Timestamp::now(), &Kubeconfigs::default())
    }

    /// Whatever certwarden does not keep for itself.
    fn outside(&self) -> Vec<String> {
        let own = self.tree.root.join("var/lib/certwarden").display().to_string();
        let dirs = ["etc", "opt", "data", "usr", "var/lib"].map(|dir| self.tree.root.join(dir));
        let all = dirs.iter().filter(|dir| dir.is_dir()).flat_map(|dir| snapshot(dir));
        all.filter(|line| !line.contains(&own)).collect()
    }

    #[track_caller]
    fn assert_well(&self, what: &str) {
        let output = self.run(&["check", "-o", "wide"]);
        assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn on_a_healthy_node_check_is_ok_and_renew_changes_nothing() {
    for kind in healthy() {
        let (what, node) = (kind.0, make(&kind));
        node.assert_well(what);
        let before = node.outside();
        let output = node.run(&["renew"]);
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        assert_eq!(node.outside(), before, "{what}");
    }
}

#[test]
fn what_renew_puts_in_place_is_accepted_by_everybody_who_accepted_the_old_one() {
    for kind in healthy() {
        let (what, node) = (kind.0, make(&kind));
        let before = Certificates::of(&node.tree.root);
        let output = node.run(&["renew", "--all"]);
        // nothing is shortened unasked
        let refused = what == CENTURY;
        assert_eq!(output.status.code(), Some(i32::from(refused)), "{what}: {output:?}");
        let after = Certificates::of(&node.tree.root);
        let (lost, changed) = (before.refused(&after), before.changed_identity(&after));
        assert!(lost.is_empty() && changed.is_empty(), "{what}: {lost:?} {changed:?}");
        let leaves = before.replaced(&after).count();
        assert!(leaves > 2 || refused || OTHERS_RENEW.contains(&what), "{what}: {leaves}");
        node.assert_well(what);
    }
}

/// Where the key of the CA is not, and the kubelet renews what it has.
const OTHERS_RENEW: [&str; 4] =
    ["worker", "a worker with serving certificates of the cluster", "copy of admin.conf on a worker", "etcd host"];

#[test]
fn what_a_renewal_of_a_broken_node_puts_in_place_is_no_worse_either() {
    for kind in broken() {
        for args in [&["renew"][..], &["renew", "--all"]] {
            let (what, node) = (kind.0, make(&kind));
            let (before, was) = (Certificates::of(&node.tree.root), node.inventory());
            let output = node.run(args);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{what}: {output:?}");
            let worse = worse_off(&before, &was, &Certificates::of(&node.tree.root));
            assert!(worse.is_empty(), "{what}: {worse:?}");
        }
    }
}
