//! The kubelet's own identity: found broken under its own id, repaired by the way that is open, asked for by request, and
//! nothing live changed by whoever answers wrongly.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use crate::fake;
use crate::support;
use certwarden::app::session::Session;
use certwarden::host::fs::MAX_FILE;
use certwarden::model::finding::Problem;
use certwarden::model::gate::Gate;
use certwarden::model::identity::CURRENT;
use certwarden::model::inventory::on_disk::{Config, Lies};
use certwarden::model::inventory::{Content, Entry, Inventory};
use certwarden::model::ledger::State;
use certwarden::model::plan::{Plan, Source};
use certwarden::model::planner::Selection;
use certwarden::model::policy::{Span, Threshold};
use certwarden::model::repair::{Choice, Way, With};
use certwarden::model::report::Outcome;
use certwarden::txn::recover::Reach;
use fake::node::{Node, assert_outcome, assert_unchanged, on_the_loopback, temp};
use fake::signer::{Signer, Signing};
use fake::{Fault, World};
use support::{Ca, DAY, Layout, Options, Tree, Usage, embedded};

const PKI: &str = "/var/lib/kubelet/pki";
const DATED: &str = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";
const OLDER: &str = "/var/lib/kubelet/pki/kubelet-client-2025-01-02-03-04-05.pem";
const LINK: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const CONF: &str = "/etc/kubernetes/kubelet.conf";
const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const NODE: (&str, Option<&str>) = ("system:node:node-1", Some("system:nodes"));

/// A node whose kubelet starts only with an identity that is good, as the real one.
struct Case {
    node: Node,
    tree: Tree,
}

/// As the kubelet looks at it at its start.
fn cannot_start(root: &Path) -> bool {
    let read = |path: &str| {
        let path = root.join(path.trim_start_matches('/'));
        let file = fs::metadata(&path)?.is_file();
        // it would wait for ever to read a FIFO
        if file { fs::read(path) } else { Err(std::io::Error::other("no file")) }
    };
    let target = fs::read_link(root.join(LINK.trim_start_matches('/')));
    let pem = target.map_or_else(|_| read(LINK), |to| read(&to.display().to_string()));
    let Ok(config) = read(CONF).map(|c| String::from_utf8_lossy(&c).into_owned()) else { return true };
    if config.contains("client-certificate-data") {
        return false; // judged by what is in it, which these tests keep good
    }
    let good = |pem: &Vec<u8>| {
        let chain = certwarden::model::cert::parse_pem(pem).ok()?;
        let now = jiff::Timestamp::now();
        (chain.first()?.not_after > now && pem.windows(11).any(|w| w == b"PRIVATE KEY")).then_some(())
    };
    !config.contains(LINK) || pem.ok().as_ref().and_then(good).is_none()
}

fn case(layout: Layout, change: impl FnOnce(&Tree)) -> Case {
    case_of(Options { layout, ..Options::default() }, change)
}

fn case_of(options: Options, change: impl FnOnce(&Tree)) -> Case {
    let dir = temp();
    let tree = Tree::build(dir.path(), options);
    on_the_loopback(&tree);
    change(&tree);
    let node = Node::at(dir);
    node.fake.world(|w| {
        w.signer = Some(Signer::new(&tree.ca, &tree.front_proxy_ca));
        w.kubelet_dies_if = Some(cannot_start);
        if cannot_start(&w.root) {
            w.stop_kubelet();
        }
    });
    Case { node, tree }
}

/// Late, and nothing else wrong.
fn overdue() -> Case {
    let mut case = case_of(Options { layout: Layout::Worker, left: 20 * DAY, ..Options::default() }, |_| {});
    case.node.policy.kubelet.renew_before = Threshold::Time(Span::days(30));
    case
}

fn ids(inventory: &Inventory, name: &str) -> Vec<Problem> {
    let of = |e: &Entry| match &e.content {
        Content::Absent => Vec::new(),
        Content::Unusable(f) => vec![f.id],
        Content::Readable(c) => c.findings.iter().map(|f| f.id).collect(),
    };
    inventory.get(name).map(of).unwrap_or_default()
}

fn ways(plan: &Plan) -> &[Way] {
    match &plan.source {
        Source::Identity { ways } => ways,
        other => panic!("{other}"),
    }
}

fn kind(way: &Way) -> &'static str {
    match way {
        Way::Adopt { embedded: false, .. } => "adopt",
        Way::Adopt { embedded: true, .. } => "adopt embedded",
        Way::Request { with: With::Own { .. }, .. } => "request",
        Way::Request { with: With::Bootstrap { .. }, .. } => "bootstrap",
        Way::Sign => "sign",
    }
}

#[track_caller]
fn assert_well(case: &Case, what: &str) {
    let inventory = case.node.inventory();
    let disk = &inventory.node.kubelet.identity;
    assert_eq!(ids(&inventory, "kubelet-client"), [], "{what}");
    assert_eq!((&disk.config, disk.obstacle.as_ref()), (&Config::Current, None), "{what}");
    let Lies::Link { to } = &disk.lies else { panic!("{what}: {:?}", disk.lies) };
    let mode = fs::metadata(case.tree.at(&to.display().to_string())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{what}");
    let leaf = inventory.get("kubelet-client").unwrap().leaf().unwrap();
    assert_eq!(leaf.common_name.as_deref(), Some("system:node:node-1"), "{what}");
    assert_eq!(inventory.get("kubelet.conf").map(|e| &e.name), None, "{what}");
    assert!(case.node.fake.world(|w| w.kubelet.is_running()), "{what}");
    case.node.assert_nothing_left_over();
    let choice = case.node.session().assessment.identity;
    assert_eq!(choice, Choice::Nothing, "{what}");
}

type Break = fn(&Tree);

/// What is broken, by whom it is found under which id.
#[allow(clippy::too_many_lines, reason = "a listing")]
fn rows() -> Vec<(&'static str, Break, &'static str, Problem)> {
    fn leaf(ca: &Ca, subject: (&str, Option<&str>), left: i64) -> support::Leaf {
        ca.issue(subject, Usage::Client, &[], left)
    }
    vec![
        ("dangling", |t| t.remove(DATED), "kubelet-client", Problem::DanglingSymlink),
        (
            "missing",
            |t| {
                t.remove(DATED);
                t.remove(LINK);
            },
            "kubelet-client",
            Problem::Missing,
        ),
        ("empty", |t| t.write(DATED, "", 0o600), "kubelet-client", Problem::Empty),
        (
            "truncated",
            |t| {
                let whole = t.read(DATED);
                t.write(DATED, &whole[..whole.len() / 3], 0o600);
            },
            "kubelet-client",
            Problem::Malformed,
        ),
        (
            "key truncated",
            |t| {
                let whole = t.read(DATED);
                t.write(DATED, &whole[..whole.len() - 60], 0o600);
            },
            "kubelet-client",
            Problem::Malformed,
        ),
        (
            "of another CA",
            |t| {
                let other = leaf(&t.etcd_ca, NODE, 100 * DAY);
                t.write(DATED, other.combined(), 0o600);
            },
            "kubelet-client",
            Problem::WrongIssuer,
        ),
        (
            "another key",
            |t| {
                let (a, b) = (leaf(&t.ca, NODE, 100 * DAY), leaf(&t.ca, NODE, 100 * DAY));
                t.write(DATED, [a.cert_pem, b.key_pem].concat(), 0o600);
            },
            "kubelet-client",
            Problem::KeyMismatch,
        ),
        (
            "no key",
            |t| {
                let a = leaf(&t.ca, NODE, 100 * DAY);
                t.write(DATED, a.cert_pem, 0o600);
            },
            "kubelet-client",
            Problem::Malformed,
        ),
        (
            "a loop of links",
            |t| {
                t.remove(DATED);
                t.link(LINK, LINK);
            },
            "kubelet-client",
            Problem::DanglingSymlink,
        ),
        (
            "expired",
            |t| {
                let old = leaf(&t.ca, NODE, -DAY);
                t.write(DATED, old.combined(), 0o600);
            },
            "kubelet-client",
            Problem::Expired,
        ),
    ]
}

/// Found under its id; by the clock's finding, too.
#[track_caller]
fn assert_found(case: &Case, name: &str, problem: Problem, what: &str) {
    let session = case.node.session();
    let judged = session.assessment.get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
    assert!(judged.findings.iter().any(|f| f.id == problem), "{what}: {:?}", judged.findings);
    assert!(judged.due, "{what}");
}

fn add_older(tree: &Tree) {
    let older = tree.ca.issue(NODE, Usage::Client, &[], 60 * DAY);
    tree.write(OLDER, older.combined(), 0o600);
}

fn add_bootstrap(tree: &Tree) {
    let config = tree.kubeconfig("tls-bootstrap", "    token: abcdef.0123456789abcdef\n");
    tree.write(BOOTSTRAP, config, 0o600);
}

/// The kubelet's identity is another node's, valid and of the cluster's CA.
fn of_another_node(tree: &Tree) {
    let other = tree.ca.issue(("system:node:another", Some("system:nodes")), Usage::Client, &[], 100 * DAY);
    tree.write(DATED, other.combined(), 0o600);
}

/// The words for the operator, if there are such.
#[track_caller]
fn question(case: &Case) -> (String, String) {
    match case.node.session().assessment.identity {
        Choice::Operator { reason, remedy } => (reason, remedy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_valid_identity_of_another_name_is_a_question_and_never_by_itself_a_new_node() {
    type Change = fn(&Tree);
    let changes: [(&str, Layout, Change); 4] = [
        ("a worker with a token", Layout::Worker, |t| {
            add_bootstrap(t);
            of_another_node(t);
        }),
        ("a renamed worker", Layout::Worker, |t| {
            add_bootstrap(t);
            t.write("/etc/hostname", "dhcp-10-0-0-7\n", 0o644);
        }),
        ("a renamed control plane", Layout::ControlPlane, |t| t.write("/etc/hostname", "ip-10-0-0-7\n", 0o644)),
        ("one that is given another name by a flag", Layout::ControlPlane, |t| {
            t.write("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--hostname-override=other\n", 0o644);
        }),
    ];
    for (what, layout, change) in changes {
        let case = case(layout, change);
        let before = case.node.live();
        assert!(ids(&case.node.session().inventory, "kubelet-client").contains(&Problem::WrongIdentity), "{what}");
        let session = case.node.session();
        let judged = session.assessment.get("kubelet-client").unwrap();
        assert!(!judged.due && !judged.emergency, "{what}");
        let (reason, remedy) = question(&case);
        assert!(
            reason.contains("was it renamed?") && remedy.contains("hostnamectl hostname"),
            "{what}: {reason} {remedy}"
        );
        let _ = case.node.renew_due();
        assert_unchanged(&before, &case.node);
    }
}

#[test]
fn an_identity_that_expired_under_another_name_is_a_question_too() {
    let case = case(Layout::ControlPlane, |t| {
        let old = t.ca.issue(NODE, Usage::Client, &[], -DAY);
        t.write(DATED, old.combined(), 0o600);
        t.write("/etc/hostname", "ip-10-0-0-7\n", 0o644);
    });
    let before = case.node.live();
    assert!(question(&case).0.contains("`node-1`"), "the name that the CA knows");
    let _ = case.node.renew_due();
    assert_unchanged(&before, &case.node);
}

#[test]
fn a_name_of_a_command_line_that_was_not_understood_is_never_signed() {
    for (file, text) in [
        (
            "/etc/systemd/system/kubelet.service.d/90.conf",
            "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kubelet --hostname-override=$(cat /x)'\n",
        ),
        (
            "/etc/systemd/system/kubelet.service.d/90.conf",
            "[Service]\nExecStart=\nExecStart=/usr/local/bin/start-kubelet\n",
        ),
        (
            "/etc/systemd/system/kubelet.service.d/90.conf",
            "[Service]\nEnvironment=KUBELET_EXTRA_ARGS=--hostname-override=%b\n",
        ),
        ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=\"--hostname-override=a\n"),
    ] {
        let healthy = case(Layout::ControlPlane, |t| t.write(file, text, 0o644));
        let session = healthy.node.session();
        assert_eq!(session.assessment.identity, Choice::Nothing, "{text}");
        assert_eq!(session.inventory.node.name.as_deref(), Some("node-1"), "by what the CA issued");
        let broken = case(Layout::ControlPlane, |t| {
            t.write(file, text, 0o644);
            t.remove(DATED);
            t.remove(LINK);
        });
        assert!(question(&broken).0.contains("not known for certain"), "{text}");
    }
}

#[test]
fn on_a_control_plane_whose_serving_certificates_name_it_another_nodes_identity_is_replaced() {
    let case = case(Layout::ControlPlane, of_another_node);
    assert_found(&case, "kubelet-client", Problem::WrongIdentity, "of another node");
    let report = case.node.renew_due();
    assert_eq!(report.outcome, Outcome::Verified, "{} {:?}", report.reason, report.notes);
    assert_well(&case, "of another node");
}

#[test]
fn another_nodes_identity_gives_way_to_one_of_this_node_that_is_there() {
    let case = case(Layout::Worker, |t| {
        add_older(t);
        of_another_node(t);
    });
    assert_eq!(ways(&case.node.plan(&Selection::Due)).iter().map(kind).collect::<Vec<_>>(), ["adopt"]);
    let report = case.node.renew_due();
    assert_eq!(report.outcome, Outcome::Verified, "{} {:?}", report.reason, report.notes);
    assert_well(&case, "of another node");
}

#[test]
fn a_broken_identity_is_replaced_by_the_newest_good_one_that_is_there() {
    for (what, broken, name, problem) in rows() {
        let case = case(Layout::Worker, |t| {
            add_older(t);
            broken(t);
        });
        assert_found(&case, name, problem, what);
        let plan = case.node.plan(&Selection::Due);
        assert_eq!(ways(&plan).iter().map(kind).collect::<Vec<_>>(), ["adopt"], "{what}");
        let report = case.node.renew_due();
        assert_eq!(report.outcome, Outcome::Verified, "{what}: {} {:?}", report.reason, report.notes);
        assert_well(&case, what);
        assert_eq!(fs::read_link(case.node.path(LINK)).unwrap(), Path::new(OLDER), "{what}");
    }
}

#[test]
fn without_one_a_worker_bootstraps_with_a_token() {
    for (what, broken, name, problem) in rows() {
        let case = case(Layout::Worker, |t| {
            add_bootstrap(t);
            broken(t);
        });
        assert_found(&case, name, problem, what);
        let plan = case.node.plan(&Selection::Due);
        assert_eq!(ways(&plan).iter().map(kind).collect::<Vec<_>>(), ["bootstrap"], "{what}");
        let report = case.node.renew_due();
        assert_eq!(report.outcome, Outcome::Verified, "{what}: {} {:?}", report.reason, report.notes);
        assert_well(&case, what);
    }
}

#[test]
fn a_control_plane_signs_for_itself() {
    for (what, broken, name, problem) in rows() {
        let case = case(Layout::ControlPlane, broken);
        assert_found(&case, name, problem, what);
        let plan = case.node.plan(&Selection::Due);
        assert_eq!(ways(&plan).iter().map(kind).collect::<Vec<_>>(), ["sign"], "{what}");
        let report = case.node.renew_due();
        assert_eq!(report.outcome, Outcome::Verified, "{what}: {} {:?}", report.reason, report.notes);
        assert_well(&case, what);
    }
}

#[test]
fn with_nothing_to_go_by_the_operator_is_told_the_command_and_nothing_is_touched() {
    for (what, broken, ..) in rows() {
        let case = case(Layout::Worker, broken);
        let before = case.node.live();
        let session = case.node.session();
        let Choice::Operator { remedy, .. } = &session.assessment.identity else {
            panic!("{what}: {:?}", session.assessment.identity)
        };
        assert!(remedy.contains("kubeadm kubeconfig user") && remedy.contains("system:node:node-1"), "{remedy}");
        let report = case.node.renew_due();
        assert_eq!((report.outcome, report.exit_code()), (Outcome::LeftOut, 1), "{what}: {}", report.reason);
        let way_out = report.left_out[0].needed.as_ref().unwrap();
        assert!(
            report.left_out[0].name == "kubelet-client" && way_out.contains("kubeadm kubeconfig user"),
            "{way_out}"
        );
        assert_unchanged(&before, &case.node);
        assert!(case.node.ids().is_empty(), "{what}");
    }
}

#[test]
fn a_plain_file_in_the_links_place_becomes_a_dated_one_with_its_link() {
    for older in [false, true] {
        let case = case(Layout::Worker, |t| {
            let pem = t.read(DATED);
            t.remove(DATED);
            t.remove(LINK);
            t.write(LINK, pem, 0o600);
            if older {
                add_older(t); // ends sooner
            }
        });
        let was = case.node.read(LINK);
        assert_found(&case, "kubelet-client", Problem::NotASymlink, "plain");
        assert_outcome(&case.node.renew_due(), Outcome::Verified);
        assert_well(&case, "plain");
        assert_eq!(case.tree.read(LINK).as_bytes(), was);
    }
}

#[test]
fn what_lies_in_the_way_of_the_kubelets_next_link_becomes_a_link() {
    let case = case(Layout::Worker, |t| t.write(&format!("{PKI}/kubelet-client-updated.pem"), "left over", 0o600));
    assert_found(&case, "kubelet-client", Problem::RotationBlocked, "obstacle");
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_well(&case, "obstacle");
    let updated = case.node.path(PKI).join("kubelet-client-updated.pem");
    assert_eq!(fs::read_link(updated).unwrap(), Path::new(DATED));
}

#[test]
fn an_embedded_identity_becomes_references_once_the_file_is_accepted() {
    let case = case_of(Options { layout: Layout::Worker, embedded_kubelet: true, ..Options::default() }, |_| {});
    let before = case.node.live();
    assert_found(&case, "kubelet.conf", Problem::EmbeddedIdentity, "embedded");
    for fault in [Fault::Fail, Fault::Hang] {
        case.node.fake.always("whoami", fault);
        assert_outcome(&case.node.renew_due(), Outcome::Refused);
        assert_unchanged(&before, &case.node);
    }
    case.node.fake.world(|w| w.always.clear());
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_well(&case, "embedded");
    let changed = Node::changed(&before, &case.node.live());
    assert_eq!(changed.len(), 1, "{changed:?}");
}

#[test]
fn an_identity_that_is_only_embedded_gets_its_file_and_link() {
    let case = case_of(Options { layout: Layout::Worker, embedded_kubelet: true, ..Options::default() }, |t| {
        t.remove(DATED);
        t.remove(LINK);
    });
    assert_found(&case, "kubelet-client", Problem::EmbeddedIdentity, "only embedded");
    let plan = case.node.plan(&Selection::Due);
    assert_eq!(ways(&plan).iter().map(kind).collect::<Vec<_>>(), ["adopt embedded"]);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_well(&case, "only embedded");
}

#[test]
fn a_kubeconfig_that_is_gone_or_rubbish_or_points_nowhere_names_the_link_again() {
    let rows: [(&str, Break, Problem); 4] = [
        ("gone", |t| t.remove(CONF), Problem::Missing),
        ("rubbish", |t| t.write(CONF, "}{", 0o600), Problem::Malformed),
        ("empty", |t| t.write(CONF, "", 0o600), Problem::Empty),
        (
            "points nowhere",
            |t| t.write(CONF, t.read(CONF).replace(CURRENT, "nothing.pem"), 0o600),
            Problem::PointsNowhere,
        ),
    ];
    for (what, broken, problem) in rows {
        // by the other kubeconfigs of a control plane, and by the bootstrap one of a worker
        for layout in [Layout::ControlPlane, Layout::Worker] {
            let case = case(layout, |t| {
                broken(t);
                add_bootstrap(t);
            });
            assert_found(&case, "kubelet.conf", problem, what);
            let report = case.node.renew_due();
            assert_eq!(report.outcome, Outcome::Verified, "{what}: {} {:?}", report.reason, report.notes);
            assert_well(&case, what);
            let text = case.tree.read(CONF);
            assert!(text.contains("https://10.0.0.1:6443") && !text.contains("-data: A client"), "{text}");
        }
    }
}

#[test]
fn a_worker_whose_kubeconfig_is_gone_remembers_the_server_or_says_what_to_do() {
    let case = case(Layout::Worker, |t| t.remove(CONF));
    let Choice::Operator { reason, remedy } = case.node.session().assessment.identity else { panic!() };
    assert!(reason.contains("where the API server is") && remedy.contains("ssh node-1"), "{reason}; {remedy}");
    fs::write(
        case.node.path("/var/lib/certwarden/state.json"),
        r#"{"schema":"certwarden.state/v1","server":"https://10.0.0.1:6443"}"#,
    )
    .unwrap();
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_well(&case, "remembered");
}

type Unreadable = (&'static str, fn(&Path), fn(&Path) -> bool);

/// What cannot be read, whoever tries: how it is made at a path, and whether it is there still.
fn unreadable() -> [Unreadable; 4] {
    [
        (
            "a directory",
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("in"), "it").unwrap();
            },
            |path| fs::read(path.join("in")).is_ok_and(|b| b == b"it"),
        ),
        (
            "a FIFO",
            |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            |path| path.symlink_metadata().is_ok_and(|m| m.file_type().is_fifo()),
        ),
        (
            "a socket",
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            |path| path.symlink_metadata().is_ok_and(|m| m.file_type().is_socket()),
        ),
        (
            "a file that is too large",
            |path| fs::File::create(path).unwrap().set_len(MAX_FILE + 1).unwrap(),
            |path| path.symlink_metadata().is_ok_and(|m| m.len() == MAX_FILE + 1),
        ),
    ]
}

fn aside(case: &Case, name: &str) -> Option<std::path::PathBuf> {
    let begin = format!("{name}.aside-");
    let mut found = fs::read_dir(case.node.path(PKI)).unwrap().map(|e| e.unwrap().path());
    found.find(|p| p.file_name().unwrap().to_string_lossy().starts_with(&begin))
}

#[test]
fn what_cannot_be_read_in_the_place_of_link_or_file_is_replaced_without_being_read_and_kept() {
    // open(2) refuses a socket, and so does nothing else
    let of = |what: &str| if what == "a socket" { Problem::Unreadable } else { Problem::Malformed };
    for (what, make, still) in unreadable() {
        // behind the link: it is left where it is
        let behind = case(Layout::ControlPlane, |t| {
            t.remove(DATED);
            make(&t.at(DATED));
        });
        assert_found(&behind, "kubelet-client", of(what), what);
        assert_outcome(&behind.node.renew_due(), Outcome::Verified);
        assert_well(&behind, what);
        assert!(still(&behind.node.path(DATED)), "{what}");

        // at the link's own name, and at that of the kubelet's next one: it is moved aside
        for name in [CURRENT, UPDATED] {
            let at = format!("{PKI}/{name}");
            let case = case(Layout::ControlPlane, |t| {
                if name == CURRENT {
                    t.remove(LINK);
                }
                make(&t.at(&at));
            });
            let problem = if name == CURRENT { of(what) } else { Problem::RotationBlocked };
            assert_found(&case, "kubelet-client", problem, what);
            let report = case.node.renew_due();
            assert_outcome(&report, Outcome::Verified);
            assert_well(&case, what);
            let kept = aside(&case, name).unwrap_or_else(|| panic!("{what} at {name} is gone"));
            assert!(still(&kept), "{what}");
            let told = report
                .notes
                .iter()
                .any(|n| n.contains(&at) && n.contains(&*kept.file_name().unwrap().to_string_lossy()));
            assert!(told, "{what}: {:?}", report.notes);
            assert_outcome(&case.node.renew_due(), Outcome::NothingToDo);
        }
    }
}

const UPDATED: &str = "kubelet-client-updated.pem";

/// Its kubelet does not start where a link has taken the place of what lay in the way.
fn starts_with_an_obstacle_only(root: &Path) -> bool {
    root.join(&PKI[1..]).join(UPDATED).is_symlink()
}

#[test]
fn what_has_to_make_room_is_in_its_place_or_beside_it_wherever_the_process_died_and_comes_back_with_a_rollback() {
    for (what, make, still) in unreadable().into_iter().step_by(3) {
        for (name, end) in [(CURRENT, State::Verified), (UPDATED, State::RolledBack)] {
            let mut tick = 1;
            loop {
                let case = case(Layout::ControlPlane, |t| {
                    if name == CURRENT {
                        t.remove(LINK);
                    }
                    make(&t.at(PKI).join(name));
                });
                if name == UPDATED {
                    case.node.fake.world(|w| w.kubelet_dies_if = Some(starts_with_an_obstacle_only));
                }
                let died = case.node.crash(tick, || drop(case.node.try_renew(&Selection::Due)));
                if died {
                    case.node.recover(Reach::Full, false).unwrap();
                }
                let what = format!("{what} at {name}, dead at {tick}: {:?}", case.node.last_state());
                let place = case.node.path(PKI).join(name);
                let (kept, leads) = (
                    still(&place),
                    fs::read_link(&place).is_ok_and(|to| case.node.path(&to.display().to_string()).is_file()),
                );
                assert!(kept || leads, "{what}");
                match aside(&case, name) {
                    Some(aside) => assert!(leads && still(&aside), "{what}"),
                    None => assert!(kept, "{what}: it is gone"),
                }
                case.node.assert_nothing_left_over();
                if !died {
                    assert_eq!(case.node.last_state(), Some(end), "{what}");
                    assert!(tick > 20 && kept == (end == State::RolledBack), "{what}");
                    break;
                }
                tick += 7;
            }
        }
    }
}

#[test]
fn a_healthy_rotation_is_left_alone() {
    for layout in [Layout::Worker, Layout::ControlPlane] {
        let case = case(layout, |_| {});
        assert_eq!(case.node.session().assessment.identity, Choice::Nothing);
        let report = case.node.renew(&Selection::Names(vec!["kubelet-client".into()]));
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains("rotates it by itself"), "{}", report.reason);
    }
    // late, but at it
    let case = overdue();
    case.node.fake.world(|w| {
        let created = w.now;
        let request = serde_json::json!({
            "metadata": {"name": "csr-x", "creationTimestamp": format!("{created:.0}")},
            "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "username": "system:node:node-1"},
        });
        w.signer.as_mut().unwrap().requests.insert("csr-x".into(), request);
    });
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::LeftOut);
    assert!(report.reason.contains("the kubelet itself waits for its request csr-x"), "{}", report.reason);
    // begun since the last look, which found none
    let session = Session::knowing(&case.node.host, &case.node.policy, Some(&[]));
    let plan = session.plan(&Selection::Due).unwrap();
    assert!(!plan.is_empty());
    let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("the kubelet itself waits for its request csr-x"), "{}", report.reason);
}

#[test]
fn an_overdue_identity_is_asked_for_anew_put_in_place_and_proven() {
    let case = overdue();
    assert_found(&case, "kubelet-client", Problem::RotationOverdue, "overdue");
    let old = case.node.read(DATED);
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert_well(&case, "overdue");
    assert_eq!(case.node.read(DATED), old, "the old one stays, as the kubelet leaves it");
    assert_ne!(case.tree.read(LINK).as_bytes(), old);
    let (requests, order): (usize, Vec<&str>) = case.node.fake.world(|w| {
        let order = w.calls.iter().map(|c| c.method).filter(|m| ["stop", "restart", "start"].contains(m));
        (w.signer.as_ref().unwrap().requests.len(), order.collect())
    });
    assert_eq!((requests, order), (1, vec!["stop", "restart"]));
    assert!(!case.node.path("/var/lib/certwarden/request.pem").exists());
}

#[test]
fn a_kubelet_that_does_not_rotate_has_it_done_when_due_or_asked_for() {
    let off = |t: &Tree| {
        let config = t.read("/var/lib/kubelet/config.yaml");
        t.write(
            "/var/lib/kubelet/config.yaml",
            config.replace("rotateCertificates: true", "rotateCertificates: false"),
            0o600,
        );
    };
    let case = case(Layout::Worker, off);
    assert_eq!(ids(&case.node.inventory(), "kubelet-client"), [Problem::RotationOff]);
    assert_eq!(case.node.session().assessment.identity, Choice::Nothing);
    let serial = |case: &Case| case.node.inventory().get("kubelet-client").unwrap().leaf().unwrap().serial.clone();
    let old = serial(&case);
    assert_outcome(&case.node.renew(&Selection::Names(vec!["kubelet-client".into()])), Outcome::Verified);
    assert_ne!(serial(&case), old);
}

#[test]
fn whoever_answers_a_request_wrongly_changes_nothing_and_is_not_asked_again_at_once() {
    use Signing::*;
    for (signing, reason) in [
        (NeverApproved, "nobody approved request certwarden-node-1-"),
        (Denied, "was denied: Policy: not this one"),
        (NotIssued, "is approved, and nothing was issued"),
        (Failed, "could not issue certwarden-node-1-"),
        (AnotherKey, "is for another key"),
        (AnotherName, "its subject is `O=system:nodes, CN=system:node:another`"),
        (AnotherGroup, "its subject is `O=system:masters, CN=system:node:node-1`"),
        (ShortLife, "it would end at"),
        (AnotherCa, "is not accepted"),
        (ForAnotherUse, "it lacks the usages clientAuth"),
        (Rubbish, "what was issued is unusable"),
        (Lost, "is gone from the API server"),
        (Overloaded, "is filed, and what became of it cannot be told"),
    ] {
        let case = overdue();
        let before = case.node.live();
        case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = signing);
        let report = case.node.renew_due();
        assert_outcome(&report, Outcome::Refused);
        assert!(report.reason.contains(reason), "{signing:?}: {}", report.reason);
        assert_unchanged(&before, &case.node);
        case.node.assert_nothing_left_over();
        let filed = || case.node.fake.world(|w| w.calls.iter().filter(|c| c.method == "post").count());
        assert!(case.node.fake.world(|w| w.kubelet.is_running() && w.starts == 0), "{signing:?}");
        assert_eq!(filed(), 1, "{signing:?}");
        // again and again within the hour
        for _ in 0..3 {
            let again = case.node.renew_due();
            let waits = matches!(signing, NeverApproved | NotIssued | Overloaded);
            assert_outcome(&again, if waits { Outcome::Refused } else { Outcome::LeftOut });
            assert_eq!(filed(), 1, "{signing:?}: no pile of requests");
        }
        assert_unchanged(&before, &case.node);
        // once the cause is gone
        case.node.fake.world(|w| {
            w.signer.as_mut().unwrap().signing = Well;
            w.pass(std::time::Duration::from_secs(3700));
        });
        let session = case.node.session();
        let plan = session.plan(&Selection::Due).unwrap();
        let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
        assert_eq!(report.outcome, Outcome::Verified, "{signing:?}: {} {:?}", report.reason, report.notes);
    }
}

#[test]
fn an_api_server_that_is_away_for_a_moment_while_a_request_is_waited_for_is_waited_for_too() {
    let case = overdue();
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::OverloadedAtFirst);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_eq!(case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.len()), 1);
    assert_well(&case, "away for a moment");
}

#[test]
fn a_denial_is_heeded_where_the_key_of_the_ca_is_at_hand_and_time_runs_out() {
    let options = Options::default().left_of("kubelet-client", 2 * DAY);
    let mut case = case_of(options, |_| {});
    case.node.policy.kubelet.renew_before = Threshold::Time(Span::days(30));
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::Denied);
    let before = case.node.live();
    assert_eq!(ways(&case.node.plan(&Selection::Due)).iter().map(kind).collect::<Vec<_>>(), ["request", "sign"]);
    assert_outcome(&case.node.renew_due(), Outcome::Refused);
    for _ in 0..3 {
        let report = case.node.renew_due();
        assert_outcome(&report, Outcome::LeftOut);
        assert!(report.reason.contains("the last request was denied: the next is filed after"), "{}", report.reason);
    }
    assert_unchanged(&before, &case.node);
    assert_eq!(case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.len()), 1);
}

#[test]
fn an_answer_that_comes_late_and_is_a_no_holds_the_next_request_back_too() {
    use Signing::*;
    for answer in [Denied, Failed, AnotherKey, AnotherName, ShortLife, Rubbish, Lost] {
        let case = overdue();
        let signing = |how| case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = how);
        signing(NeverApproved);
        assert_outcome(&case.node.renew_due(), Outcome::Refused);
        signing(answer);
        let late = case.node.renew_due();
        // one that is gone was for nobody to answer: the next takes its place, once
        assert_outcome(&late, Outcome::Refused);
        let filed = || case.node.fake.world(|w| w.calls.iter().filter(|c| c.method == "post").count());
        let so_far = filed();
        assert!(so_far <= 2 && (so_far == 1 || answer == Lost), "{answer:?}: {so_far}");
        for _ in 0..3 {
            assert_outcome(&case.node.renew_due(), Outcome::LeftOut);
            assert_eq!(filed(), so_far, "{answer:?}");
        }
    }
}

#[test]
fn a_dry_run_files_no_request() {
    let case = overdue();
    let before = case.node.live();
    let session = case.node.session();
    let report = session.carry_out(&session.plan(&Selection::Due).unwrap(), true, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::DryRun);
    assert!(report.notes.iter().any(|n| n.contains("files no certificate signing request")), "{:?}", report.notes);
    assert_eq!(case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.len()), 0);
    assert_unchanged(&before, &case.node);
}

#[test]
fn a_request_that_is_approved_later_is_found_again() {
    let case = overdue();
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::NeverApproved);
    assert_outcome(&case.node.renew_due(), Outcome::Refused);
    let kept = fs::metadata(case.node.path("/var/lib/certwarden/request.pem")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::Well);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_eq!(case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.len()), 1);
    assert_well(&case, "approved later");
}

#[test]
fn while_it_cannot_be_told_what_became_of_a_request_no_other_is_filed_over_its_key() {
    let case = overdue();
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::NeverApproved);
    assert_outcome(&case.node.renew_due(), Outcome::Refused);
    let key = case.node.path("/var/lib/certwarden/request.pem");
    let kept = fs::read(&key).unwrap();
    case.node.fake.world(|w| w.signer.as_mut().unwrap().signing = Signing::Overloaded);
    let named = Selection::Names(vec!["kubelet-client".into()]);
    assert_outcome(&case.node.renew(&named), Outcome::Refused);
    assert_eq!(fs::read(&key).unwrap(), kept);
    assert_eq!(case.node.fake.world(|w| w.signer.as_ref().unwrap().requests.len()), 1);
}

#[test]
fn an_api_server_that_goes_away_costs_nothing() {
    for (method, fault) in [("post", Fault::Hang), ("post", Fault::Fail), ("get", Fault::Hang), ("get", Fault::Fail)] {
        let case = overdue();
        let before = case.node.live();
        case.node.fake.always(method, fault);
        assert_outcome(&case.node.renew_due(), Outcome::Refused);
        assert_unchanged(&before, &case.node);
        case.node.fake.world(|w| {
            w.always.clear();
            w.elapsed = std::time::Duration::ZERO;
        });
        let report = case.node.renew(&Selection::Names(vec!["kubelet-client".into()]));
        assert_eq!(report.outcome, Outcome::Verified, "{method}: {} {:?}", report.reason, report.notes);
    }
}

#[test]
fn a_token_that_has_expired_is_a_reason_and_on_a_control_plane_no_end() {
    for (layout, outcome) in [(Layout::Worker, Outcome::Refused), (Layout::ControlPlane, Outcome::Verified)] {
        let case = case(layout, |t| {
            add_bootstrap(t);
            t.remove(DATED);
        });
        case.node.fake.world(|w| w.signer.as_mut().unwrap().token = "other".into());
        let report = case.node.renew_due();
        assert_outcome(&report, outcome);
        if outcome == Outcome::Refused {
            assert!(report.reason.contains("does not take the request: 403"), "{}", report.reason);
        } else {
            assert_well(&case, "signed instead");
        }
    }
}

#[test]
fn a_kubelet_that_does_not_come_up_with_the_new_identity_gets_its_old_link_back() {
    let case = overdue();
    let before = case.node.live();
    case.node.fake.world(|w| {
        w.kubelet_dies_if =
            Some(|root| fs::read_link(root.join(LINK.trim_start_matches('/'))).unwrap() != Path::new(DATED));
    });
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert_eq!(fs::read_link(case.node.path(LINK)).unwrap(), Path::new(DATED));
    let changed = Node::changed(&before, &case.node.live());
    assert!(changed.iter().all(|p| p.ends_with(CURRENT)), "the link is made anew, and nothing else: {changed:?}");
    assert!(case.node.fake.world(|w| w.kubelet.is_running()));
    case.node.assert_nothing_left_over();
}

#[test]
fn a_kubelet_that_rotates_in_that_very_moment_keeps_what_it_made() {
    let case = overdue();
    fake::forget_steps();
    let root = case.node.path("/");
    let theirs = case.tree.ca.issue(NODE, Usage::Client, &[], 365 * DAY).combined();
    fake::at_step(fake::At::Text("stopping kubelet.service"), move || {
        fs::write(root.join(&OLDER[1..]), theirs).unwrap();
        let link = root.join(&LINK[1..]);
        fs::remove_file(&link).unwrap();
        symlink(OLDER, link).unwrap();
    });
    let report = case.node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert_eq!(fs::read_link(case.node.path(LINK)).unwrap(), Path::new(OLDER), "{:?}", report.notes);
    assert!(case.node.fake.world(|w| w.kubelet.is_running()));
    case.node.assert_nothing_left_over();
}

/// Every tick with `CERTWARDEN_TORTURE=1`.
fn stride(sampled: u64) -> u64 {
    if std::env::var_os("CERTWARDEN_TORTURE").is_some() { 1 } else { sampled }
}

/// No key that others can read, in the kubelet's directory or in certwarden's.
#[track_caller]
fn assert_keys_are_roots(node: &Node, what: &str) {
    let mut open = vec![node.path(PKI), node.path("/var/lib/certwarden")];
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_file() && String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("PRIVATE KEY") {
                assert_eq!(meta.permissions().mode() & 0o077, 0, "{what}: {}", path.display());
            }
        }
    }
}

/// Kills it at one tick after another, and recovers. `before`: what is wrong at first, and stays so where nothing was done.
fn killed_anywhere(what: &str, sampled: u64, before: &[Problem], make: impl Fn() -> Case) {
    for (seen, tick) in (1..).step_by(usize::try_from(stride(sampled)).unwrap()).enumerate() {
        let case = make();
        let ran = case.node.fake.world(|w| w.kubelet.is_running());
        if !case.node.crash(tick, || drop(case.node.try_renew(&Selection::Due))) {
            assert!(seen > 5, "{what}: {seen}");
            return;
        }
        let what = format!("{what}, dead at {tick}");
        let (runs, later) = case.node.fake.world(|w| (w.kubelet.is_running(), w.later.clone()));
        assert!(
            runs || !ran || later.is_some_and(|l| l.args == ["recover", "--unattended"]),
            "{what}: nobody starts the kubelet"
        );
        let report = case.node.recover(Reach::Full, false).unwrap();
        let ends = |o| !matches!(o, Outcome::RollbackFailed | Outcome::Interrupted);
        assert!(report.as_ref().is_none_or(|r| ends(r.outcome)), "{what}: {report:?}");
        let state = case.node.last_state();
        let closed = matches!(state, None | Some(State::Verified | State::RolledBack | State::Discarded));
        assert!(closed, "{what}: {state:?}");
        let found = ids(&case.node.inventory(), "kubelet-client");
        assert!(found.is_empty() || found == before && state != Some(State::Verified), "{what}: {state:?} {found:?}");
        assert!(case.node.fake.world(|w| w.kubelet.is_running()) || !found.is_empty(), "{what}");
        assert_keys_are_roots(&case.node, &what);
        case.node.assert_nothing_left_over();
        assert_eq!(case.node.fake.world(|w| w.later.clone()).filter(|_| report.is_some()), None, "{what}");
        // and nothing is in the way of the next
        let next = case.node.renew(&Selection::Due);
        assert!(
            matches!(next.outcome, Outcome::Verified | Outcome::NothingToDo),
            "{what}: {} {:?}",
            next.reason,
            next.notes
        );
        assert_eq!(ids(&case.node.inventory(), "kubelet-client"), [], "{what}");
    }
}

#[test]
fn killed_anywhere_the_node_ends_with_a_whole_identity_and_a_kubelet_that_runs() {
    killed_anywhere("a request with the node's own", 7, &[], overdue);
    killed_anywhere("a request with a token", 17, &[Problem::DanglingSymlink], || {
        case(Layout::Worker, |t| {
            add_bootstrap(t);
            t.remove(DATED);
        })
    });
    killed_anywhere("the link to an older file", 17, &[Problem::Empty], || {
        case(Layout::Worker, |t| {
            add_older(t);
            t.write(DATED, "", 0o600);
        })
    });
}

#[test]
fn systemd_is_to_start_a_held_kubelet_only_as_long_as_it_is_held_and_never_one_that_somebody_has_stopped() {
    let case = overdue();
    case.node.try_renew(&Selection::Due).unwrap();
    assert_eq!(case.node.fake.details("run-later").len(), 1);
    assert_eq!(case.node.fake.world(|w| w.later.clone()), None, "taken back");
    let case = overdue();
    case.node.fake.world(|w| {
        w.stop_kubelet();
        w.kubelet.active_state = "inactive".into();
    });
    let session = case.node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    let _ = session.carry_out(&plan, false, &[Gate::StoppedByHand], &Node::progress()).unwrap();
    assert_eq!(case.node.fake.details("run-later"), Vec::<String>::new());
    // without a message bus it goes on, and says what that means
    let case = overdue();
    case.node.fake.always("run-later", Fault::Fail);
    let report = case.node.try_renew(&Selection::Due).unwrap();
    assert_eq!(report.outcome, Outcome::Verified);
    assert!(
        report.notes.iter().any(|n| n.starts_with("should certwarden be killed now, nothing starts")),
        "{:?}",
        report.notes
    );
}

#[test]
fn every_call_that_fails_leaves_a_whole_identity_and_a_kubelet_that_runs() {
    for fault in [Fault::Fail, Fault::Hang, Fault::Lie] {
        for method in ["stop", "restart", "status", "whoami", "node_ready", "node_lease", "run-later", "cancel"] {
            let case = overdue();
            case.node.fake.always(method, fault);
            let report = case.node.try_renew(&Selection::Due);
            case.node.fake.world(|w| {
                w.always.clear();
                (w.elapsed, w.api_is_down) = (std::time::Duration::ZERO, false);
            });
            let what = format!("{method} {fault:?}: {:?}", report.map(|r| (r.outcome, r.reason, r.notes)));
            assert_eq!(ids(&case.node.inventory(), "kubelet-client"), [], "{what}");
            // a systemd that starts nothing leaves it to the operator, and says so
            let unstartable = ["restart", "status"].contains(&method);
            let runs = case.node.fake.world(|w| w.kubelet.is_running());
            assert!(runs || unstartable, "{what}");
            if !runs {
                assert!(what.contains("RollbackFailed"), "{what}");
                let _ = case.node.recover(Reach::Full, true).unwrap();
                assert!(case.node.fake.world(|w: &mut World| w.kubelet.is_running()), "{what}");
            }
        }
    }
}

#[test]
fn an_identity_of_another_clock_is_left_to_the_clock() {
    let case = case(Layout::ControlPlane, |_| {});
    case.node.fake.world(|w| w.step(-400 * DAY));
    assert_eq!(case.node.session().assessment.identity, Choice::Nothing);
}

#[test]
fn an_embedded_identity_of_good_standing_repairs_a_broken_link() {
    let case = case(Layout::Worker, |t| {
        let own = t.ca.issue(NODE, Usage::Client, &[], 200 * DAY);
        t.write(CONF, t.kubeconfig("system:node:node-1", &embedded(&own)), 0o600);
        t.write(DATED, "", 0o600);
    });
    let plan = case.node.plan(&Selection::Due);
    assert_eq!(ways(&plan).iter().map(kind).collect::<Vec<_>>(), ["adopt embedded"]);
    assert_outcome(&case.node.renew_due(), Outcome::Verified);
    assert_well(&case, "embedded to the rescue");
}
