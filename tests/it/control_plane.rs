//! The control plane takes up what was renewed: the least is restarted, in the safe order, and what does not come back
//! is rolled back with a reason.

use std::fs;
use std::time::Duration;

use crate::fake;
use crate::support;
use certwarden::model::component::Component;
use certwarden::model::consumer::Uptake as Takes;
use certwarden::model::fleet::slot::Slots;
use certwarden::model::gate::Gate;
use certwarden::model::plan::{Activation, Plan, Step};
use certwarden::model::planner::Selection;
use certwarden::model::policy::{ActivateKubelet, OtherPods, Span};
use certwarden::model::report::{Consumer, Outcome, Report};
use fake::node::{Node, assert_outcome, assert_unchanged, new_files, with_kube_vip};
use fake::socket::{Uptake, with_sockets};
use fake::{Fault, World};

fn names(list: &[&str]) -> Selection {
    Selection::Names(list.iter().map(|s| (*s).to_owned()).collect())
}

fn activation(plan: &Plan, wanted: Component) -> Option<&Activation> {
    plan.steps.iter().find_map(|s| match &s.step {
        Step::Activate { component, how } if *component == wanted => Some(how),
        _ => None,
    })
}

fn stopped(node: &Node, name: &str) -> bool {
    node.fake.details("stop-container").iter().any(|id| id.starts_with(name))
}

/// How often the engine slept while a step was under way whose name holds `what`.
fn waits(node: &Node, what: &str) -> usize {
    let of = |name: &&String| name.contains(what) && name.ends_with("/sleep");
    node.fake.world(|w| w.tick_names.iter().filter(of).count())
}

fn edit(node: &Node, component: &str, from: &str, to: &str) {
    let path = node.path(&format!("/etc/kubernetes/manifests/{component}.yaml"));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

/// Mounts a file of the host by itself, as its container sees it at the same place.
fn pin(node: &Node, component: &str, file: &str) {
    edit(
        node,
        component,
        "    volumeMounts:\n",
        &format!("    volumeMounts:\n    - {{name: pin, mountPath: {file}}}\n"),
    );
    edit(node, component, "  volumes:\n", &format!("  volumes:\n  - {{name: pin, hostPath: {{path: {file}}}}}\n"));
}

#[test]
fn client_certificates_that_are_read_for_each_connection_restart_nobody() {
    let node = Node::healthy();
    let plan = node.plan(&names(&["apiserver-etcd-client", "apiserver-kubelet-client", "front-proxy-client"]));
    assert_eq!(activation(&plan, Component::KubeApiserver), None);
    assert_eq!(activation(&plan, Component::Etcd), None);
    let proven = plan.steps.iter().filter(|s| matches!(s.step, Step::Verify { .. }) && s.step.id() == "verify").count();
    assert!(proven > 3, "{:?}", plan.steps);
}

#[test]
fn a_file_that_is_mounted_by_itself_is_taken_up_by_a_new_container_only() {
    let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Reload);
    pin(&node, "kube-apiserver", "/etc/kubernetes/pki/apiserver.crt");
    let plan = node.plan(&names(&["apiserver"]));
    match activation(&plan, Component::KubeApiserver) {
        Some(Activation::ReloadOrRestart { uptake, sockets, .. }) => {
            assert_eq!((*uptake, sockets.len()), (Takes::NewProcess, 1), "measured all the same");
        }
        other => panic!("{other:?}"),
    }
    assert_outcome(&node.renew(&names(&["apiserver"])), Outcome::Verified);
    assert!(stopped(&node, "kube-apiserver"));
    assert!(waits(&node, "waiting for kube-apiserver to serve") < 2, "its reload is not waited for");

    let node = Node::healthy();
    pin(&node, "kube-apiserver", "/etc/kubernetes/pki/apiserver-etcd-client.key");
    let plan = node.plan(&names(&["apiserver-etcd-client"]));
    let how = activation(&plan, Component::KubeApiserver);
    assert!(matches!(how, Some(Activation::NewContainer { .. })), "no socket shows a client certificate: {how:?}");
}

#[test]
fn a_controller_manager_that_serves_a_pair_of_its_own_is_measured_too() {
    let node = Node::healthy();
    for end in ["crt", "key"] {
        let file = |base: &str| node.path(&format!("/etc/kubernetes/pki/{base}.{end}"));
        fs::copy(file("apiserver"), file("kcm")).unwrap();
    }
    let flags =
        "    - --tls-cert-file=/etc/kubernetes/pki/kcm.crt\n    - --tls-private-key-file=/etc/kubernetes/pki/kcm.key\n";
    let bind = "    - --bind-address=::1\n    - --secure-port=11257\n";
    edit(&node, "kube-controller-manager", "    image:", &format!("{flags}{bind}    image:"));
    let plan = node.plan(&names(&["kube-controller-manager:tls-cert-file"]));
    match activation(&plan, Component::KubeControllerManager) {
        Some(Activation::ReloadOrRestart { uptake: Takes::Reload(_), sockets, health }) => {
            assert_eq!(sockets[0].address, "[::1]:11257");
            assert_eq!(health.as_deref(), Some("https://[::1]:11257/healthz"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_the_restart_that_it_needs_a_component_is_rolled_back() {
    for fault in [Fault::Fail, Fault::Hang, Fault::Lie] {
        let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Reload);
        let before = node.live();
        node.fake.always("stop-container", fault);
        let report = node.renew(&names(&["apiserver"]));
        assert_outcome(&report, Outcome::RolledBack);
        let why = match fault {
            Fault::Lie => "which goes on running",
            _ => "stop",
        };
        assert!(report.reason.contains(why), "{}", report.reason);
        assert_unchanged(&before, &node);
        assert!(report.sockets.iter().filter(|s| s.ok).count() == 2, "the old ones are served: {:?}", report.sockets);
    }
}

#[test]
fn a_crash_loop_with_the_new_files_is_rolled_back_soon_and_with_its_last_words() {
    const LOG: &str =
        "2026-01-01T00:00:00Z stderr F I0101 starting\n2026-01-01T00:00:00Z stderr F Error: unknown flag: --bogus\n";
    for component in ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"] {
        let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Restart);
        fs::create_dir_all(node.path("/var/log/pods")).unwrap();
        fs::write(node.path("/var/log/pods/last.log"), LOG).unwrap();
        let before = node.live();
        node.fake.world(|w| w.crashes_if = Some((component, new_files)));
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RolledBack);
        let words = "its new container ended again and again: exit code 1 (Error), Error: unknown flag: --bogus";
        assert!(report.reason.contains(component) && report.reason.contains(words), "{}", report.reason);
        assert_unchanged(&before, &node);
        assert!(node.fake.world(|w| w.runs(component)), "{component} runs again");
        let waited = waits(&node, component);
        assert!(waited < 150, "{component}: {waited} waits");
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn last_words_are_kept_when_the_runtime_forgets_the_dead_and_read_from_the_pod_s_log_when_it_never_knew() {
    const LOG: &str = "2026-01-01T00:00:00Z stderr F Error: unknown flag: --bogus\n";
    let pods = "/var/log/pods/kube-system_kube-scheduler-node-1_0123/kube-scheduler";
    for (told, log, words) in [
        (1, "/var/log/pods/last.log".to_owned(), "again and again: exit code 1 (Error), Error: unknown flag: --bogus"),
        (0, format!("{pods}/3.log"), "again and again: its log ends with: Error: unknown flag: --bogus"),
        (0, "/var/log/pods/kube-system_other_0123/x/0.log".to_owned(), "again and again: it is not known how"),
    ] {
        let node = Node::due();
        let log = node.path(&log);
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, LOG).unwrap();
        // written after the swap, wherever the faked clock stands
        let later = std::time::SystemTime::now() + Duration::from_secs(3600);
        fs::File::options().write(true).open(&log).unwrap().set_modified(later).unwrap();
        node.fake.world(|w| {
            w.crashes_if = Some(("kube-scheduler", new_files));
            w.exits_told = Some(told);
        });
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RolledBack);
        assert!(report.reason.contains(words), "{}", report.reason);
    }
}

#[test]
fn a_server_that_refuses_the_credential_in_use_too_does_not_keep_its_successor_out() {
    const KUBELET: &str = "127.0.0.1:3"; // as a kubelet without clientCAFile
    let node = Node::due();
    node.fake.world(|w| w.refuses_if = Some((KUBELET, |_| true)));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let excused =
        |n: &&String| n.starts_with("apiserver-kubelet-client was refused") && n.contains("so is the one in use");
    assert_eq!(report.notes.iter().filter(excused).count(), 1, "{:?}", report.notes);

    // one that refuses only the new one has its reason, whenever it says so
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.refuses_if = Some((KUBELET, new_files)));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("the new apiserver-kubelet-client was refused"), "{}", report.reason);
    assert_unchanged(&before, &node);

    // one in use that has expired is refused for that, and excuses nothing
    let node = Node::expired();
    let before = node.live();
    node.fake.world(|w| w.refuses_if = Some((KUBELET, |_| true)));
    assert_outcome(&node.renew(&names(&["apiserver-kubelet-client"])), Outcome::Refused);
    assert_unchanged(&before, &node);
}

#[test]
fn what_was_ill_before_is_no_reason_to_roll_back_and_what_becomes_ill_is() {
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
        node.fake.world(|w| w.ill_if = vec![(component, |_| true)]);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        let expected = format!("{component} is not healthy, as before: answered 500: [-]poststarthook/stuck failed");
        assert!(report.notes.contains(&expected), "{:?}", report.notes);

        let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Reload);
        let before = node.live();
        node.fake.world(|w| w.ill_if = vec![(component, new_files)]);
        let report = node.renew_due();
        assert_outcome(&report, Outcome::RolledBack);
        assert!(report.reason.contains(&format!("{component} is not healthy")), "{}", report.reason);
        assert_unchanged(&before, &node);
    }
    // where an expired certificate may be the cause, nothing is excused
    let node = with_sockets(Node::expired(), Uptake::Reload, Uptake::Reload);
    node.fake.world(|w| w.ill_if = vec![("kube-scheduler", |_| true)]);
    assert_outcome(&node.renew_due(), Outcome::Degraded);
}

#[test]
fn controller_manager_and_scheduler_wait_for_the_kubelet_side_by_side() {
    let node = Node::due();
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let calls = node.fake.calls();
    let first = |method: &str, detail: &str| {
        calls.iter().position(|c| c.method == method && c.detail.starts_with(detail)).expect("it was called")
    };
    let both_stopped = first("stop-container", "kube-scheduler");
    assert!(first("stop-container", "kube-controller-manager") < both_stopped);
    let health = calls.iter().position(|c| c.step.contains("kube-controller-manager to say")).expect("it was asked");
    assert!(both_stopped < health, "{both_stopped} {health}");
    node.assert_processes_use_what_is_on_the_disk();

    // one that cannot come back takes the other back with it
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.crashes_if = Some(("kube-controller-manager", new_files)));
    assert_outcome(&node.renew_due(), Outcome::RolledBack);
    assert_unchanged(&before, &node);
    assert!(node.fake.world(|w| w.runs("kube-scheduler") && w.runs("kube-controller-manager")));
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn an_api_server_that_reads_its_files_every_minute_is_waited_for_while_the_others_start() {
    let minute = || with_sockets(Node::due(), Uptake::Minute, Uptake::Reload);
    let node = minute();
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(!stopped(&node, "kube-apiserver"), "it was given its minute");
    let took = |of: &str| report.took.iter().filter(|t| t.step.contains(of)).map(|t| t.milliseconds).sum::<u64>();
    let (all, others) = (took("activate"), took("activate kube-controller") + took("activate kubelet"));
    assert!(others > 30_000 && all - others < 60_000, "{all} {others}: one after another");
    node.assert_processes_use_what_is_on_the_disk();

    // and one that may have read the new files meanwhile is waited for in a rollback
    let node = minute();
    let before = node.live();
    node.fake.world(|w| w.crashes_if = Some(("kube-scheduler", new_files)));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.sockets.iter().any(|s| s.component == Component::KubeApiserver && s.ok), "{:?}", report.sockets);
    assert_unchanged(&before, &node);
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn in_an_emergency_the_kubelet_is_restarted_when_the_api_server_has_read_its_files() {
    let node = with_sockets(Node::due_but(&[("apiserver", 2 * support::DAY)]), Uptake::Minute, Uptake::Reload);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(!stopped(&node, "kube-apiserver"), "it was given its minute");
    let took = |of: &str| report.took.iter().filter(|t| t.step.contains(of)).map(|t| t.milliseconds).sum::<u64>();
    let before_the_kubelet = took("activate") - took("activate kubelet");
    assert!(before_the_kubelet >= 50_000, "{before_the_kubelet}: {:?}", report.took);
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn an_api_server_that_goes_away_while_it_is_measured_is_rolled_back_before_anything_else_is_touched() {
    let node = with_sockets(Node::due(), Uptake::Never, Uptake::Reload);
    let before = node.live();
    node.fake.world(|w| {
        w.dies_at_step = Some(("waiting for kube-apiserver to serve", "kube-apiserver"));
        w.crashes_if = Some(("kube-apiserver", new_files));
    });
    let session = node.session();
    let plan = session.plan(&Selection::Due).unwrap();
    node.fake.world(|w| w.broken.clear());
    let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
    assert!(report.reason.contains("kube-apiserver does not answer any more"), "{}", report.reason);
    assert!(!stopped(&node, "kube-scheduler") && !stopped(&node, "kube-controller-manager"));
    assert_unchanged(&before, &node);
}

#[test]
fn a_kubelet_that_makes_no_container_is_restarted_where_that_is_planned_or_the_way_back() {
    let node = Node::due();
    node.fake.world(|w| w.idle_restarts = 1);
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::Verified);
    assert_eq!(node.fake.details("restart").len(), 1, "once, not again at its own turn");
    assert!(report.notes.iter().any(|n| n.contains("made no new kube-scheduler container")), "{:?}", report.notes);

    let mut node = Node::due();
    let before = node.live();
    node.policy.activate.kubelet = ActivateKubelet::WhenNeeded;
    node.fake.world(|w| w.idle_restarts = 1);
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("the kubelet makes no new container"), "{}", report.reason);
    assert_unchanged(&before, &node);
    assert!(node.fake.world(|w| w.runs("kube-scheduler")));
    node.assert_processes_use_what_is_on_the_disk();
}

#[test]
fn a_container_that_never_comes_back_ends_in_an_honest_report() {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.idle_restarts = u32::MAX);
    let report = node.renew(&names(&["scheduler.conf"]));
    assert_outcome(&report, Outcome::RollbackFailed);
    assert!(report.reason.matches("the kubelet makes no new container").count() == 2, "{}", report.reason);
    assert_unchanged(&before, &node);
}

#[test]
fn a_runtime_that_hangs_from_the_first_activation_on_is_rolled_back_with_that_reason() {
    for (method, fault) in [("containers", Fault::Hang), ("containers", Fault::Fail), ("stop-container", Fault::Hang)] {
        let node = Node::due();
        let before = node.live();
        node.fake.world(|w| w.fault_in = Some(("making a new", method, fault)));
        let report = node.renew(&names(&["scheduler.conf"]));
        assert_outcome(&report, Outcome::RolledBack);
        assert!(report.reason.contains("the container runtime"), "{}", report.reason);
        assert_unchanged(&before, &node);
        assert!(!stopped(&node, "kube-scheduler") || fault == Fault::Hang);
        node.assert_processes_use_what_is_on_the_disk();
    }
}

fn told(report: &Report) -> bool {
    report
        .notes
        .iter()
        .any(|n| n.contains("left alone: kube-system/kube-vip-node-1/vip: mounts admin.conf as a single"))
}

#[test]
fn an_unknown_static_pod_that_mounts_a_renewed_file_is_told_and_left_alone() {
    let node = with_kube_vip(Node::due());
    assert!(node.plan(&names(&["apiserver"])).others.is_empty(), "it sees nothing of it");
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(told(&report), "{:?}", report.notes);
    assert!(!stopped(&node, "vip"));
}

#[test]
fn an_unknown_static_pod_is_restarted_where_the_configuration_says_so_and_it_alone() {
    let mut node = with_kube_vip(Node::due());
    node.policy.activate.other_pods = OtherPods::Restart;
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(!told(&report), "{:?}", report.notes);
    let order: Vec<String> = report.restarted.iter().map(|r| r.component.to_string()).collect();
    let vip = "kube-system/kube-vip-node-1/vip";
    assert_eq!(order, ["kube-controller-manager", "kube-scheduler", "kubelet", vip]);
    assert_eq!(report.restarted[3].component, Consumer::Other(vip.to_owned()));
    assert!(!node.fake.details("stop-container").contains(&"other".to_owned()));
}

#[test]
fn an_unknown_static_pod_that_does_not_come_back_is_a_reason_to_roll_back_and_one_that_was_down_is_none() {
    let mut node = with_kube_vip(Node::due());
    node.policy.activate.other_pods = OtherPods::Restart;
    let before = node.live();
    node.fake.world(|w| w.crashes_if = Some(("vip", new_files)));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("kube-vip-node-1/vip did not come back"), "{}", report.reason);
    assert_unchanged(&before, &node);
    assert!(node.fake.world(|w| w.runs("vip")));

    let mut node = with_kube_vip(Node::due());
    node.policy.activate.other_pods = OtherPods::Restart;
    node.fake.world(|w| {
        w.broken.insert("vip".into());
        w.containers.iter_mut().filter(|c| c.name == "vip").for_each(|c| c.running = false);
    });
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    assert!(
        report.notes.iter().any(|n| n.contains("kube-vip-node-1/vip is not running, as before")),
        "{:?}",
        report.notes
    );
}

#[test]
fn an_unknown_static_pod_in_a_crash_loop_fails_no_renewal_and_keeps_no_kubelet_waiting() {
    type Make = fn() -> Node;
    for (what, make) in [
        ("nothing to go back to", Node::expired as Make),
        ("it was in a crash loop before, and runs for a moment", Node::due),
    ] {
        let mut node = with_kube_vip(make());
        node.policy.activate.other_pods = OtherPods::Restart;
        node.fake.world(|w| {
            let moment = i64::try_from(w.now.as_nanosecond()).unwrap() - 5_000_000_000;
            for vip in w.containers.iter_mut().filter(|c| c.name == "vip") {
                (vip.attempt, vip.created_ns) = (7, moment);
            }
            w.crashes_if = Some(("vip", |_| true));
        });
        let report = node.renew_due();
        assert_outcome(&report, Outcome::Verified);
        let vip = "kube-system/kube-vip-node-1/vip";
        assert!(
            report.notes.iter().any(|n| n.starts_with(vip) && n.contains("did not come back")),
            "{what}: {:?}",
            report.notes
        );
        let calls = node.fake.calls();
        let first = |method: &str, detail: &str| {
            calls.iter().position(|c| c.method == method && c.detail.starts_with(detail)).unwrap()
        };
        assert!(first("restart", "kubelet") < first("stop-container", "vip"), "{what}: the kubelet waited for it");
    }
}

fn carry_out(node: &Node, selection: &Selection, forced: &[Gate]) -> Report {
    let session = node.session();
    session.carry_out(&session.plan(selection).unwrap(), false, forced, &Node::progress()).unwrap()
}

#[test]
fn where_no_member_of_etcd_can_be_spared_nothing_is_begun_unless_a_person_says_so() {
    for (members, ill, refused) in
        [(1, 0, false), (2, 0, true), (3, 0, false), (3, 1, true), (4, 0, false), (4, 1, true), (5, 2, true)]
    {
        let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Restart);
        node.fake.world(|w| (w.members, w.unhealthy_members) = (members, ill));
        let before = node.live();
        let report = carry_out(&node, &names(&["etcd-server"]), &[]);
        let what = format!("{members} members, {ill} ill: {}", report.reason);
        assert_eq!(report.outcome == Outcome::Refused, refused, "{what}");
        if refused {
            assert_eq!(report.refusals[0].gate, Gate::Quorum, "{what}");
            assert_unchanged(&before, &node);
            assert!(node.ids().is_empty());
            // what does not concern etcd goes ahead
            assert_outcome(&carry_out(&node, &names(&["apiserver", "scheduler.conf"]), &[]), Outcome::Verified);
            let report = carry_out(&node, &names(&["etcd-server"]), &[Gate::Quorum]);
            assert_outcome(&report, Outcome::Verified);
        }
        assert!(stopped(&node, "etcd"), "{what}");
    }
}

#[test]
fn no_emergency_is_worth_the_quorum_but_etcds_own_expired_leaves_may_be_why_it_is_lost() {
    let ill = |node: &Node| node.fake.world(|w| (w.members, w.unhealthy_members) = (3, 1));
    let node = Node::expired();
    ill(&node);
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let node = Node::due();
    ill(&node);
    let session = node.session();
    let mut plan = session.plan(&Selection::All).unwrap();
    plan.emergency = true;
    let report = session.carry_out(&plan, false, &[], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert_eq!(report.refusals[0].gate, Gate::Quorum);
}

#[test]
fn what_is_due_is_renewed_without_etcds_leaves_while_no_member_can_be_spared() {
    let node = Node::due();
    node.fake.world(|w| (w.members, w.unhealthy_members) = (3, 1));
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Verified);
    let renewed: Vec<&str> = report.renewed.iter().map(|r| r.name.as_str()).collect();
    assert!(renewed.contains(&"apiserver") && !renewed.contains(&"etcd-server"), "{renewed:?}");
    let left_out: Vec<&str> = report.left_out.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(left_out, ["etcd-peer", "etcd-server"]);
    assert!(report.left_out.iter().all(|s| s.reason.starts_with("gate quorum")), "{:?}", report.left_out);
    assert_eq!(report.exit_code(), 1, "something that is due was left out");
    assert!(!stopped(&node, "etcd"));
}

#[test]
fn a_member_that_falls_ill_after_the_gate_keeps_this_one_from_being_restarted() {
    let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Restart);
    let before = node.live();
    let ill = |w: &mut World| (w.members, w.ill_at_step) = (3, Some(("waiting for etcd", 1)));
    node.fake.world(ill);
    let report = node.renew(&names(&["etcd-server"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("would lose the quorum"), "{}", report.reason);
    assert!(!stopped(&node, "etcd"));
    assert_unchanged(&before, &node);
}

#[test]
fn one_of_several_members_is_restarted_with_the_clusters_lock_only() {
    let urgent = || Node::due_but(&[("etcd-server", 2 * support::DAY)]);
    let node = with_sockets(urgent(), Uptake::Reload, Uptake::Restart);
    node.fake.world(|w| w.members = 3);
    assert_outcome(&node.renew(&names(&["etcd-server"])), Outcome::Verified);
    assert!(stopped(&node, "etcd"), "it had the lock");

    // in the dark it is this node's turn, and nobody can give it the lock
    let mut node = with_sockets(urgent(), Uptake::Reload, Uptake::Restart);
    node.fake.world(|w| {
        w.members = 3;
        w.leases_vanish_if = Some(|_| true);
    });
    // so long that this node may begin now
    let now = node.fake.world(|w| w.now);
    let mut lasts = (1200..3600).step_by(7).map(Duration::from_secs);
    let slots = |lasts: Duration| {
        let all = ["m1", "m2", "node-1"].map(str::to_owned);
        Slots::of("node-1", &all, lasts, Duration::from_secs(3 * 86_400))
    };
    let soon = now + jiff::SignedDuration::from_secs(120);
    let open = lasts.find(|l| [now, soon].iter().all(|at| slots(*l).is_open(*at))).unwrap();
    node.policy.fleet.lease_duration = Span(open);
    let before = node.live();
    assert_outcome(&node.renew_now(&names(&["etcd-server"])).unwrap(), Outcome::Refused);
    // who may have had the lock has been waited for
    node.fake.world(|w| w.elapsed += Duration::from_secs(3_600));
    let report = node.renew_now(&names(&["etcd-server"])).unwrap();
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("no member but one may be restarted at a time"), "{}", report.reason);
    assert!(!stopped(&node, "etcd"));
    assert_unchanged(&before, &node);
}

#[test]
fn a_member_is_not_restarted_where_nobody_can_tell_how_many_there_are_and_anything_says_several() {
    let unknown = |initial: &str| {
        let node = with_sockets(Node::due(), Uptake::Reload, Uptake::Restart);
        edit(&node, "etcd", "    image:", &format!("    - --initial-cluster={initial}\n    image:"));
        node.fake.world(|w| w.fault_in = Some(("making a new etcd container", "post", Fault::Fail)));
        node
    };
    let node = unknown("node-1=https://10.0.0.1:2380,m1=https://10.0.0.2:2380");
    let report = node.renew(&names(&["etcd-server"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert!(report.reason.contains("there are several by its flag --initial-cluster"), "{}", report.reason);
    assert!(!stopped(&node, "etcd"));
    let node = unknown("node-1=https://10.0.0.1:2380");
    assert_outcome(&node.renew(&names(&["etcd-server"])), Outcome::Verified);
    assert!(stopped(&node, "etcd"));
}

#[test]
fn the_new_peer_certificate_is_tried_under_the_names_that_members_dial_and_on_the_members() {
    let node = Node::due();
    edit(&node, "etcd", "    image:", "    - --listen-peer-urls=https://localhost:2380\n    image:");
    node.fake.world(|w| w.members = 3);
    let report = node.renew(&names(&["etcd-peer"]));
    assert_outcome(&report, Outcome::Verified);
    let against: Vec<&str> = report.credentials.iter().map(|c| c.against.as_str()).collect();
    for wanted in ["TLS handshake as localhost, node-1", "etcd https://10.0.0.1:2380", "etcd https://10.0.0.2:2380"] {
        assert!(against.contains(&wanted), "{wanted} in {against:?}");
    }
    // one that refuses it is found before anything is live
    let before = node.live();
    node.fake.world(|w| w.fault_in = Some(("rehearsing etcd-peer against etcd https://10.0.0.2", "get", Fault::Fail)));
    let report = node.renew(&names(&["etcd-peer"]));
    assert_outcome(&report, Outcome::Refused);
    assert!(
        report.reason.contains("etcd-peer was refused before the commit by etcd https://10.0.0.2"),
        "{}",
        report.reason
    );
    assert_unchanged(&before, &node);
}

#[test]
fn an_aggregated_api_that_refuses_the_new_front_proxy_client_is_a_reason_to_roll_back() {
    type Answers = fn(&std::path::Path) -> u16;
    let table: [(Answers, Outcome, bool); 4] = [
        (|root| if new_files(root) { 403 } else { 200 }, Outcome::RolledBack, true),
        (|_| 200, Outcome::Verified, true),
        // it did not work before, or it is being moved
        (|_| 403, Outcome::Verified, false),
        (|root| if new_files(root) { 503 } else { 200 }, Outcome::Verified, true),
    ];
    for (answers, outcome, asked) in table {
        let node = Node::due();
        node.fake.world(|w| w.aggregated = Some(answers));
        let report = node.renew(&names(&["front-proxy-client", "scheduler.conf"]));
        assert_outcome(&report, outcome);
        assert_eq!(report.credentials.iter().any(|c| c.against == "v1.m through the API server"), asked);
    }
}

#[test]
fn an_etcd_elsewhere_is_asked_on_every_endpoint_counted_before_and_after_and_never_restarted() {
    let node = Node::due();
    edit(&node, "kube-apiserver", "https://127.0.0.1:2\n", "https://127.0.0.1:2379,https://127.0.0.1:2\n");
    fs::remove_file(node.path("/etc/kubernetes/manifests/etcd.yaml")).unwrap();
    node.fake.world(|w| (w.members, w.unhealthy_members) = (3, 1));
    let report = node.renew(&names(&["apiserver-etcd-client"]));
    assert_outcome(&report, Outcome::Verified); // nothing of it is restarted here: its quorum is not at stake
    for endpoint in ["etcd https://127.0.0.1:2379", "etcd https://127.0.0.1:2"] {
        assert_eq!(report.credentials.iter().filter(|c| c.against == endpoint).count(), 2, "{:?}", report.credentials);
    }
    assert!(!stopped(&node, "etcd"));
    // a member that is lost meanwhile is
    let before = node.live();
    node.fake.world(|w| w.ill_at_step = Some(("seeing that", 2)));
    let report = node.renew(&names(&["apiserver-etcd-client"]));
    assert_outcome(&report, Outcome::RolledBack);
    assert!(
        report.reason.contains("etcd has 3 members, of which 1 are well, and had 3, of which 2 were"),
        "{}",
        report.reason
    );
    assert_unchanged(&before, &node);
}

#[test]
fn a_container_whose_image_is_gone_is_not_stopped_and_the_refusal_names_the_image() {
    let scheduler = "registry.k8s.io/kube-scheduler:v1.34.0";
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.removed_images = vec!["kube-scheduler"]);
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Refused);
    let [refusal] = report.refusals.as_slice() else { panic!("{:?}", report.refusals) };
    assert_eq!(refusal.gate, Gate::Activation);
    assert!(refusal.reason.contains(&format!("its image {scheduler} is not on this node")), "{}", refusal.reason);
    assert!(refusal.remedy.contains(&format!("crictl pull {scheduler}")), "{}", refusal.remedy);
    assert_unchanged(&before, &node);
    assert!(node.fake.details("stop-container").is_empty());
    // whose container stays is not asked for its image
    assert_outcome(&node.renew(&names(&["controller-manager.conf"])), Outcome::Verified);
    node.fake.world(|w| w.removed_images.clear());
    assert_outcome(&node.renew_due(), Outcome::Verified);
    assert!(stopped(&node, "kube-scheduler"));
}

#[test]
fn a_container_that_is_down_needs_no_image_and_an_emergency_does_not_wait_for_one() {
    let node = Node::due();
    node.fake.world(|w| {
        w.removed_images = vec!["kube-scheduler"];
        w.broken.insert("kube-scheduler".into());
        w.containers.iter_mut().filter(|c| c.name == "kube-scheduler").for_each(|c| c.running = false);
    });
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let node = Node::expired();
    node.fake.world(|w| w.removed_images = vec!["kube-scheduler"]);
    assert_outcome(&node.renew_due(), Outcome::Verified);
}

#[test]
fn an_image_that_is_pulled_for_each_container_is_not_relied_on_unless_a_person_says_so() {
    let node = Node::due();
    edit(&node, "kube-scheduler", "    image:", "    imagePullPolicy: Always\n    image:");
    let report = node.renew_due();
    assert_outcome(&report, Outcome::Refused);
    assert_eq!(report.refusals[0].gate, Gate::Activation);
    assert!(report.refusals[0].reason.contains("would not come back without its registry"), "{}", report.reason);
    assert!(report.refusals[0].remedy.contains("/etc/kubernetes/manifests/kube-scheduler.yaml"), "{}", report.reason);
    assert!(node.fake.details("stop-container").is_empty());
    assert_outcome(&carry_out(&node, &Selection::Due, &[Gate::Activation]), Outcome::Verified);
}

#[test]
fn a_runtime_that_cannot_say_whether_an_image_is_there_is_not_asked_to_stop_its_container() {
    for fault in [Fault::Fail, Fault::Hang] {
        let node = Node::due();
        node.fake.always("has-image", fault);
        let report = node.renew(&names(&["scheduler.conf"]));
        assert_outcome(&report, Outcome::Refused);
        assert_eq!(report.refusals[0].gate, Gate::Activation, "{}", report.reason);
        assert!(node.fake.details("stop-container").is_empty());
    }
}
