//! Every step of a plan fails in every way, and every undo runs twice. Enumerated over the steps: a new kind of step,
//! activation, check or proof does not compile here until somebody has said how it fails.
//!
//! By default one of each kind; `CERTWARDEN_TORTURE=1` takes every step of the plan and writes the rows of
//! `docs/reliability.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fake;
use crate::pages::reliability;
use certwarden::model::component::Component;
use certwarden::model::ledger::State;
use certwarden::model::plan::{Activation, Check, Proof, Step};
use certwarden::model::planner::Selection;
use certwarden::model::policy::OtherPods;
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use fake::node::{Live, Node, assert_outcome, with_kube_vip};
use fake::socket::{Uptake, with_sockets};
use fake::{At, Fake, Fault, World, at_step, forget_steps, steps};

const UNDO: &str = "putting the old files back";
const COPY: &str = "root/.kube/config";

fn whole() -> bool {
    std::env::var_os("CERTWARDEN_TORTURE").is_some()
}

/// What a failure must end with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Nothing live was touched.
    Refused,
    RolledBack,
    /// What cannot be told is no failure.
    GoesOn,
}

type Act = fn(&Fake, &Path, &Step);

/// One way to fail: what happens when the step begins.
struct Way {
    what: &'static str,
    act: Act,
    end: End,
}

fn way(what: &'static str, end: End, act: Act) -> Way {
    Way { what, act, end }
}

/// The name of one of a set that is tested alike; empty: this one is a set of its own.
fn kind(step: &Step) -> String {
    let of_proof = |proof: &Proof| {
        match proof {
            Proof::ApiServer { .. } => "API server",
            Proof::FrontProxy { .. } => "front proxy",
            Proof::Etcd { .. } => "etcd",
            Proof::Kubelet { .. } => "kubelet",
            Proof::Handshake { .. } => "handshake",
        }
        .to_owned()
    };
    match step {
        Step::Backup { .. }
        | Step::Stage { .. }
        | Step::Validate { .. }
        | Step::Commit { .. }
        | Step::Refresh { .. } => step.id().to_owned(),
        Step::Rehearse { proof, .. } => format!("rehearse {}", of_proof(proof)),
        Step::Activate { component, .. } => format!("activate {component}"),
        Step::ActivateOther { .. } => "activate another pod".to_owned(),
        Step::Verify { check } => match check {
            Check::Served(socket) => format!("served {}", socket.component),
            Check::Health { component, .. } => format!("health {component}"),
            Check::EtcdMembers { .. } => "etcd members".to_owned(),
            Check::Aggregated { .. } => "aggregated".to_owned(),
            Check::Credential { proof, .. } => format!("credential {}", of_proof(proof)),
            Check::NodeReady { .. } => "node ready".to_owned(),
        },
    }
}

/// How the engine announces the step.
fn announced(step: &Step) -> String {
    match step {
        Step::Backup { .. } => "backing up".to_owned(),
        Step::Stage { .. } => "staging ".to_owned(),
        Step::Validate { .. } => "validating ".to_owned(),
        Step::Rehearse { name, proof } => format!("rehearsing {name} against {}", proof.describe()),
        Step::Commit { .. } => "putting the new files in place".to_owned(),
        Step::Activate { component, how } => match how {
            Activation::ReloadOrRestart { .. } => format!("waiting for {component} to serve"),
            Activation::NewContainer { .. } => format!("making a new {component} container"),
            Activation::RestartUnit { unit } => format!("restarting {unit}"),
        },
        Step::ActivateOther { container } => format!("making a new {container} container"),
        Step::Verify { check } => match check {
            Check::Served(socket) => format!("asking {socket} what it serves"),
            Check::Health { component, .. } => format!("waiting for {component} to say"),
            Check::EtcdMembers { .. } => "counting etcd's members".to_owned(),
            Check::Aggregated { .. } => "asking v1.m through".to_owned(),
            Check::Credential { name, .. } => format!("using the new {name}"),
            Check::NodeReady { node } => format!("waiting for node {node}"),
        },
        Step::Refresh { .. } => "refreshing copies".to_owned(),
    }
}

fn ways(step: &Step) -> Vec<Way> {
    match step {
        Step::Backup { .. } => vec![
            way("a file is a directory", End::Refused, |_, root, _| obstruct(root, "pki/apiserver.crt")),
            way("a file is gone", End::Refused, |_, root, _| take_away(root, "pki/etcd/peer.key")),
            way("the backups cannot be kept", End::Refused, |_, root, _| {
                let old = newest(root).join("old");
                fs::remove_dir_all(&old).unwrap();
                fs::write(old, "in the way").unwrap();
            }),
        ],
        Step::Stage { .. } => vec![
            way("the CA's key is gone", End::Refused, |_, root, _| take_away(root, "pki/ca.key")),
            way("the CA's key is rubbish", End::Refused, |_, root, _| replace(root, "pki/etcd/ca.key", "rubbish")),
        ],
        Step::Validate { .. } => vec![
            way("another CA", End::Refused, |_, root, _| {
                let other = fs::read_to_string(root.join("etc/kubernetes/pki/front-proxy-ca.crt")).unwrap();
                replace(root, "pki/ca.crt", &other);
            }),
            way("the CA is gone", End::Refused, |_, root, _| take_away(root, "pki/ca.crt")),
            way("the staged files cannot be kept", End::Refused, |_, root, _| {
                let new = newest(root).join("new");
                fs::remove_dir_all(&new).unwrap();
                fs::write(new, "in the way").unwrap();
            }),
        ],
        Step::Rehearse { proof, .. } => proof_ways(proof, End::Refused),
        Step::Commit { .. } => commit_ways(),
        Step::Activate { component, how } => activation_ways(*component, how),
        Step::ActivateOther { .. } => container_ways(),
        Step::Verify { check } => check_ways(check),
        Step::Refresh { .. } => vec![
            way("a copy is gone", End::GoesOn, |_, root, _| fs::remove_file(root.join(COPY)).unwrap()),
            way("a copy is a directory", End::GoesOn, |_, root, _| {
                fs::remove_file(root.join(COPY)).unwrap();
                fs::create_dir(root.join(COPY)).unwrap();
            }),
            way("the way to a copy is a link", End::GoesOn, |_, root, _| {
                let dir = root.join(COPY).parent().unwrap().to_path_buf();
                fs::rename(&dir, dir.with_extension("aside")).unwrap();
                std::os::unix::fs::symlink("/etc/kubernetes", dir).unwrap();
            }),
        ],
    }
}

fn commit_ways() -> Vec<Way> {
    vec![
        way("a file was changed by hand", End::Refused, |_, root, _| replace(root, "admin.conf", "by hand")),
        way("a temporary name is taken", End::Refused, |_, root, _| {
            fs::create_dir(root.join("etc/kubernetes/pki/.apiserver.key.certwarden-new")).unwrap();
        }),
        way("a staged file is damaged", End::Refused, |_, root, _| {
            fs::write(newest(root).join("new/etc/kubernetes/scheduler.conf"), "rubbish").unwrap();
        }),
        way("the ledger cannot be written", End::Refused, |_, root, _| {
            let ledger = newest(root).join("ledger.jsonl");
            fs::rename(&ledger, ledger.with_extension("aside")).unwrap();
            fs::create_dir(ledger).unwrap();
        }),
        way("a rename fails half-way", End::RolledBack, |fake, _, _| {
            let obstructed = Box::new(|root: &Path| obstruct(root, "pki/etcd/server.key"));
            fake.world(|w| w.hook_at = Some((w.ticks + fake::TO_FIRST_RENAME, obstructed)));
        }),
    ]
}

fn proof_ways(proof: &Proof, failed: End) -> Vec<Way> {
    match proof {
        Proof::ApiServer { .. } | Proof::FrontProxy { .. } => vec![
            way("refused", failed, |fake, _, _| fake.always("whoami", Fault::Fail)),
            way("taken for somebody else", failed, |fake, _, _| fake.always("whoami", Fault::Lie)),
            way("no answer", End::GoesOn, |fake, _, _| fake.always("whoami", Fault::Hang)),
        ],
        Proof::Etcd { .. } | Proof::Kubelet { .. } => vec![
            way("refused", failed, |fake, _, _| fake.always("get", Fault::Fail)),
            way("no answer", End::GoesOn, |fake, _, _| fake.always("get", Fault::Hang)),
        ],
        Proof::Handshake { .. } => vec![way("the staged files are damaged", failed, |_, root, step| {
            let Step::Rehearse { name, .. } = step else { return };
            let file = match name.as_str() {
                "etcd-server" => "pki/etcd/server.crt",
                "etcd-peer" => "pki/etcd/peer.crt",
                _ => "pki/apiserver.crt",
            };
            fs::write(newest(root).join("new/etc/kubernetes").join(file), "rubbish").unwrap();
        })],
    }
}

fn container_ways() -> Vec<Way> {
    vec![
        way("it is not stopped", End::RolledBack, |fake, _, _| fake.always("stop-container", Fault::Fail)),
        way("stopping it hangs", End::RolledBack, |fake, _, _| fake.always("stop-container", Fault::Hang)),
        way("said to be stopped, and is not", End::RolledBack, |fake, _, _| {
            fake.always("stop-container", Fault::Lie);
        }),
        way("the runtime does not answer", End::RolledBack, |fake, _, _| fake.always("containers", Fault::Hang)),
        way("it does not come back", End::RolledBack, |fake, _, step| {
            let name = match step {
                Step::Activate { component, .. } => component.name(),
                _ => "vip",
            };
            fake.world(|w| w.broken.insert(name.to_owned()));
        }),
        way("systemd does not answer", End::RolledBack, |fake, _, _| fake.always("status", Fault::Fail)),
    ]
}

fn activation_ways(component: Component, how: &Activation) -> Vec<Way> {
    let mut ways = match how {
        Activation::ReloadOrRestart { .. } | Activation::NewContainer { .. } => container_ways(),
        Activation::RestartUnit { .. } => vec![
            way("the restart fails", End::RolledBack, |fake, _, _| fake.always("restart", Fault::Fail)),
            way("the restart hangs", End::RolledBack, |fake, _, _| fake.always("restart", Fault::Hang)),
            way("said to be restarted, and is not", End::RolledBack, |fake, _, _| fake.always("restart", Fault::Lie)),
            way("it dies at once", End::RolledBack, |fake, _, _| {
                fake.world(|w| w.kubelet_dies_if = Some(|_| true));
            }),
        ],
    };
    if let Activation::NewContainer { health: Some(_) } = how {
        assert_ne!(component, Component::Kubelet);
        ways.push(way("it is never well", End::RolledBack, |fake, _, _| fake.always("get", Fault::Lie)));
    }
    ways
}

fn check_ways(check: &Check) -> Vec<Way> {
    match check {
        // nobody listened there before either
        Check::Served(socket) if socket.component == Component::Kubelet => {
            vec![way("silent, as before", End::GoesOn, |_, _, _| {})]
        }
        Check::Served(_) => vec![way("it has gone away", End::RolledBack, |fake, _, step| {
            let Step::Verify { check: Check::Served(socket) } = step else { return };
            let name = socket.component.name();
            fake.world(|w| w.containers.iter_mut().filter(|c| c.name == name).for_each(|c| c.running = false));
        })],
        Check::Health { .. } => {
            vec![way("it says that it is ill", End::RolledBack, |fake, _, _| fake.always("get", Fault::Lie))]
        }
        Check::EtcdMembers { .. } => vec![
            way("a member is gone", End::RolledBack, |fake, _, _| fake.world(|w| w.members = 0)),
            way("no answer any more", End::RolledBack, |fake, _, _| fake.always("post", Fault::Hang)),
        ],
        Check::Aggregated { .. } => vec![
            way("the new client is refused", End::RolledBack, |fake, _, _| {
                fake.world(|w| w.aggregated = Some(|_| 403));
            }),
            way("it is being moved", End::GoesOn, |fake, _, _| fake.world(|w| w.aggregated = Some(|_| 503))),
        ],
        Check::Credential { proof, .. } => proof_ways(proof, End::RolledBack),
        Check::NodeReady { .. } => vec![
            way("never Ready again", End::RolledBack, |fake, _, _| fake.world(|w| w.never_ready_if = Some(|_| true))),
            way("its lease stands still", End::RolledBack, |fake, _, _| fake.world(World::stop_kubelet)),
            way("no answer", End::GoesOn, |fake, _, _| fake.world(|w| w.api_is_down = true)),
        ],
    }
}

fn kubernetes(root: &Path, file: &str) -> PathBuf {
    root.join("etc/kubernetes").join(file)
}

fn aside(root: &Path) -> PathBuf {
    root.join("aside")
}

/// Keeps what is there for [`mend`].
fn take_away(root: &Path, file: &str) {
    let to = aside(root).join(file);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(kubernetes(root, file), to).unwrap();
}

fn obstruct(root: &Path, file: &str) {
    take_away(root, file);
    fs::create_dir(kubernetes(root, file)).unwrap();
}

fn replace(root: &Path, file: &str, text: &str) {
    take_away(root, file);
    fs::write(kubernetes(root, file), text).unwrap();
}

fn newest(root: &Path) -> PathBuf {
    let all = root.join(fake::node::TRANSACTIONS.trim_start_matches('/'));
    fs::read_dir(all).unwrap().map(|e| e.unwrap().path()).max().unwrap()
}

/// Takes every cause away.
fn mend(fake: &Fake, root: &Path) {
    fake.world(|w| {
        w.always.clear();
        w.broken.clear();
        (w.kubelet_dies_if, w.never_ready_if) = (None, None);
        (w.members, w.unhealthy_members, w.api_is_down) = (1, 0, false);
        w.aggregated = Some(|_| 200);
        if !w.kubelet.is_running() {
            w.start_kubelet();
        }
        let down: Vec<String> = w.containers.iter().filter(|c| !c.running).map(|c| c.name.clone()).collect();
        for name in down {
            w.new_container(&name);
        }
    });
    for dir in ["", "pki", "pki/etcd"] {
        let Ok(kept) = fs::read_dir(aside(root).join(dir)) else { continue };
        for entry in kept.map(Result::unwrap).filter(|e| !e.path().is_dir()) {
            let live = kubernetes(root, dir).join(entry.file_name());
            let _ = fs::remove_dir(&live).or_else(|_| fs::remove_file(&live));
            fs::rename(entry.path(), live).unwrap();
        }
    }
    let _ = fs::remove_dir(kubernetes(root, "pki/.apiserver.key.certwarden-new"));
    if let Ok(transactions) = fs::read_dir(root.join("var/lib/certwarden/transactions")) {
        for ledger in transactions.map(|t| t.unwrap().path().join("ledger.jsonl")).filter(|l| l.is_dir()) {
            fs::remove_dir(&ledger).unwrap();
            fs::rename(ledger.with_extension("aside"), ledger).unwrap();
        }
    }
}

/// Whether the step is about what a server serves: then there must be servers, and all takes five times as long.
fn needs_servers(step: &Step) -> bool {
    match step {
        Step::Activate { how: Activation::ReloadOrRestart { .. }, .. } | Step::Verify { check: Check::Served(_) } => {
            true
        }
        Step::Backup { .. }
        | Step::Stage { .. }
        | Step::Validate { .. }
        | Step::Rehearse { .. }
        | Step::Commit { .. }
        | Step::Activate { .. }
        | Step::ActivateOther { .. }
        | Step::Verify { .. }
        | Step::Refresh { .. } => false,
    }
}

fn node(servers: bool) -> Node {
    let due = with_kube_vip(Node::due());
    let mut node = if servers { with_sockets(due, Uptake::Restart, Uptake::Restart) } else { due };
    node.policy.activate.other_pods = OtherPods::Restart;
    node.fake.world(|w| w.aggregated = Some(|_| 200));
    let copy = node.dir.path().join(COPY);
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(kubernetes(node.dir.path(), "admin.conf"), copy).unwrap();
    node
}

/// Each step with the number at which the engine announces it.
fn enumerated(servers: bool) -> Vec<(usize, Step)> {
    let node = node(servers);
    forget_steps();
    let plan = node.plan(&Selection::Due);
    assert_outcome(&node.renew_due(), Outcome::Verified);
    let told = steps();
    let mut next = 0;
    let found = plan.steps.into_iter().map(|planned| {
        let text = announced(&planned.step);
        let at = told.iter().skip(next).position(|t| t.starts_with(&text));
        next += at.unwrap_or_else(|| panic!("`{text}` is not announced after {:?}", &told[..next])) + 1;
        (next - 1, planned.step)
    });
    let found: Vec<_> = found.collect();
    let kinds: BTreeSet<String> = found.iter().map(|(_, step)| kind(step)).collect();
    for wanted in [
        "backup",
        "stage",
        "validate",
        "rehearse API server",
        "rehearse front proxy",
        "rehearse etcd",
        "rehearse handshake",
        "commit",
        "activate etcd",
        "activate kube-apiserver",
        "activate kube-controller-manager",
        "activate kube-scheduler",
        "activate kubelet",
        "activate another pod",
        "served etcd",
        "served kube-apiserver",
        "health kube-apiserver",
        "etcd members",
        "aggregated",
        "credential API server",
        "credential front proxy",
        "credential etcd",
        "node ready",
        "refresh",
    ] {
        assert!(kinds.contains(wanted), "no {wanted} in the plan: {kinds:?}");
    }
    let mut seen = BTreeSet::new();
    let here = found.into_iter().filter(|(_, step)| needs_servers(step) == servers);
    here.filter(|(_, step)| seen.insert(kind(step)) || whole()).collect()
}

/// A node whose renewal fails in that way at that step, and is mended when the rollback begins.
fn failing(at: usize, step: &Step, way: &Way) -> (Node, Live) {
    let node = node(needs_servers(step));
    let before = node.live();
    forget_steps();
    let (fake, root, act, step) = (node.fake.clone(), node.dir.path().to_owned(), way.act, step.clone());
    at_step(At::Number(at), move || act(&fake, &root, &step));
    let (fake, root) = (node.fake.clone(), node.dir.path().to_owned());
    let mended = if way.end == End::GoesOn { At::Number(at + 1) } else { At::Text(UNDO) };
    at_step(mended, move || mend(&fake, &root));
    (node, before)
}

#[track_caller]
fn assert_as_before(node: &Node, before: &Live, what: &str) {
    let changed = Node::changed(before, &node.live());
    assert!(changed.is_empty(), "{what}: changed {changed:?}");
    node.assert_pairs_fit();
    node.assert_nothing_left_over();
    node.assert_processes_use_what_is_on_the_disk();
    assert!(node.fake.world(|w| w.kubelet.is_running()), "{what}");
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None, "{what}");
}

/// Runs the failure; returns the number of clock reads and calls it took.
fn fails_as_it_must(at: usize, step: &Step, way: &Way) -> u64 {
    let what = format!("{}: {}", kind(step), way.what);
    let (node, before) = failing(at, step, way);
    let report = node.renew_due();
    let ticks = node.fake.world(|w| w.ticks);
    mend(&node.fake, node.dir.path());
    let told = format!("{what}: {:?} {} {:?}", report.outcome, report.reason, report.notes);
    match way.end {
        End::GoesOn => assert_eq!(report.outcome, Outcome::Verified, "{told}"),
        End::Refused => {
            assert_eq!(report.outcome, Outcome::Refused, "{told}");
            // what could not be cleared up is cleared up when it can be
            node.recover(Reach::Full, true).unwrap();
            assert_as_before(&node, &before, &told);
        }
        End::RolledBack => {
            assert_eq!(report.outcome, Outcome::RolledBack, "{told}");
            assert_eq!(node.last_state(), Some(State::RolledBack), "{told}");
            assert_as_before(&node, &before, &told);
        }
    }
    ticks
}

/// The process dies when the undo is done and not yet recorded; whoever comes next does it again, and then nothing.
fn undone_twice(at: usize, step: &Step, way: &Way, death: u64) {
    let what = format!("{}: {}, dead at {death}", kind(step), way.what);
    let (node, before) = failing(at, step, way);
    assert!(node.crash(death, || drop(node.renew_due())), "{what}: it ended by itself");
    mend(&node.fake, node.dir.path());
    let died_in = node.last_state();
    forget_steps();
    let next = node.rebooted();
    let again = next.recover(Reach::Full, false).unwrap();
    let ends = [Outcome::RolledBack, Outcome::NothingToDo];
    assert!(again.as_ref().is_none_or(|r| ends.contains(&r.outcome)), "{what} in {died_in:?}: {again:?}");
    assert_as_before(&next, &before, &what);
    assert!(next.recover(Reach::Full, true).unwrap().is_none(), "{what}: a third undo");
    assert_as_before(&next, &before, &what);
}

#[test]
fn every_step_fails_in_every_way_and_every_undo_runs_twice() {
    let (mut failures, mut undos) = (0, 0);
    for (at, step) in [false, true].into_iter().flat_map(enumerated) {
        for way in ways(&step) {
            let ticks = fails_as_it_must(at, &step, &way);
            failures += 1;
            if way.end == End::GoesOn {
                continue;
            }
            // the last reading of the clock is the report's, the one before it that of the record
            undone_twice(at, &step, &way, ticks - 1);
            undos += 1;
        }
    }
    assert!(failures > 50 && undos > 40, "{failures} {undos}");
    let row = |what: &str, tried: u64, note: &str| reliability::Row {
        section: "step".to_owned(),
        what: what.to_owned(),
        tried: Some(tried),
        bad: Some(0),
        note: note.to_owned(),
    };
    reliability::record(
        "steps",
        whole(),
        &[
            row("each step of a plan × each way to fail", failures, "refused before the commit, rolled back after it"),
            row("each undo twice", undos, "died when it was done and not yet recorded, then recovered"),
        ],
    );
}

/// What breaks each part of an undo, by how the engine announces it.
fn break_undo(fake: &Fake, root: &Path, part: &str) {
    let name = |text: &str| text.split_whitespace().find(|w| w.starts_with("kube") || *w == "etcd").unwrap().to_owned();
    match part {
        UNDO => fs::create_dir(kubernetes(root, "pki/.apiserver.key.certwarden-new")).unwrap(),
        p if p.starts_with("waiting for the new") || p.starts_with("making a new") => {
            fake.world(|w| w.broken.insert(name(p)));
            fake.always("stop-container", Fault::Fail);
        }
        p if p.starts_with("restarting") => fake.always("restart", Fault::Fail),
        p if p.starts_with("seeing that") => fake.world(World::stop_kubelet),
        p if p.starts_with("asking") || p.ends_with("to serve the new certificates") => {
            // a component that went away for good
            fake.world(|w| {
                for c in w.containers.iter_mut().filter(|c| ["etcd", "kube-apiserver"].contains(&c.name.as_str())) {
                    c.running = false;
                    w.broken.insert(c.name.clone());
                }
            });
        }
        p if p.ends_with("to say that it is healthy") => fake.always("get", Fault::Lie),
        p if p.starts_with("waiting for node") => fake.world(|w| w.never_ready_if = Some(|_| true)),
        other => panic!("nobody has said how `{other}` fails"),
    }
}

fn not_ready_with_the_new() -> Node {
    let node = with_sockets(Node::due(), Uptake::Restart, Uptake::Restart);
    node.fake.world(|w| {
        w.never_ready_if = Some(|root| {
            let modified = |file: &str| fs::metadata(root.join(file)).unwrap().modified().unwrap();
            modified("etc/kubernetes/scheduler.conf") > modified("etc/kubernetes/pki/etcd/ca.crt")
        });
    });
    node
}

#[track_caller]
fn assert_held_back(node: &Node, what: &str) {
    let memory = DaemonState::load(&node.host.root).state;
    let kept = memory.observe_only.unwrap_or_else(|| panic!("{what}: free to act"));
    assert!(kept.errors.len() >= 2, "{what}: {:?}", kept.errors);
    assert!(kept.errors[0].contains("not Ready"), "{what}: the first error is lost: {:?}", kept.errors);
    let refused: Report = node.renew(&Selection::All);
    assert_outcome(&refused, Outcome::Refused);
    assert!(refused.reason.contains("certwarden recover"), "{what}: what to do: {}", refused.reason);
}

#[test]
fn every_part_of_an_undo_fails_both_errors_are_kept_and_an_operator_ends_it_when_the_cause_is_gone() {
    forget_steps();
    let clean = not_ready_with_the_new();
    assert_outcome(&clean.renew_due(), Outcome::RolledBack);
    let told = steps();
    let begin = told.iter().position(|t| t == UNDO).unwrap();
    let mut parts: Vec<(usize, String)> = told.into_iter().enumerate().skip(begin).collect();
    assert!(parts.len() > 8, "{parts:?}");
    // a silent socket that was silent before, and a server that keeps still, are no failures
    parts.retain(|(_, p)| !p.contains("127.0.0.1:3 ") && !p.ends_with(":3 what it serves"));
    let mut tried = 0;
    for (at, part) in parts {
        let node = not_ready_with_the_new();
        let before = node.live();
        forget_steps();
        let (fake, root, broken) = (node.fake.clone(), node.dir.path().to_owned(), part.clone());
        at_step(At::Number(at), move || break_undo(&fake, &root, &broken));
        let report = node.renew_due();
        forget_steps();
        let told = format!("{part}: {:?} {} {:?}", report.outcome, report.reason, report.notes);
        assert_eq!((report.outcome, report.outcome.exit_code()), (Outcome::RollbackFailed, 3), "{told}");
        tried += 1;
        assert_held_back(&node, &told);
        // after a reboot too; the boot itself and the daemon forgive nothing
        let next = node.rebooted();
        assert_held_back(&next, &told);
        next.recover(Reach::FilesOnly, false).unwrap();
        next.recover(Reach::Full, false).unwrap();
        assert_held_back(&next, &told);
        // nor does an operator while the cause is there
        if part == UNDO {
            assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RollbackFailed);
            assert_held_back(&node, &told);
        }
        mend(&node.fake, node.dir.path());
        node.fake.world(World::rejoin_real_time);
        let report = node.recover(Reach::Full, true).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{told}: {}", report.reason);
        assert_as_before(&node, &before, &told);
        assert_outcome(&node.renew_due(), Outcome::Verified);
    }
    let row = reliability::Row {
        section: "step".to_owned(),
        what: "each part of a rollback fails".to_owned(),
        tried: Some(tried),
        bad: Some(0),
        note: "both errors kept, observe-only across a reboot, cleared by `recover` once the cause is gone".to_owned(),
    };
    reliability::record("undo", true, &[row]);
}
