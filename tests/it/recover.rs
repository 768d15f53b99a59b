//! Recovery: the process dies anywhere, and whoever comes next ends with a set that is all old or all new.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use crate::fake;
use certwarden::app::session::SessionError;
use certwarden::model::gate::Gate;
use certwarden::model::ledger::State;
use certwarden::model::planner::Selection;
use certwarden::model::report::Outcome;
use certwarden::txn::dir::TxnDir;
use certwarden::txn::engine::EngineError;
use certwarden::txn::lock::Lock;
use certwarden::txn::recover::Reach;
use certwarden::txn::state::DaemonState;
use certwarden::txn::store;
use certwarden::txn::{history, retention};
use fake::Fault;
use fake::node::{Live, Node, TRANSACTIONS, assert_outcome, assert_unchanged, died_in, ledger, rename_temps};
use jiff::SignedDuration;
use proptest::prelude::*;

/// The ticks at which a clean renewal calls the outside, by name.
fn ticks(node: &Node) -> Vec<String> {
    assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
    node.fake.world(|w| w.tick_names.clone())
}

/// A rollback that was begun: the kubelet dies with the new files.
fn dying() -> Node {
    let node = Node::due();
    node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
    node
}

fn new_files(root: &std::path::Path) -> bool {
    let modified = |file: &str| fs::metadata(root.join(file)).unwrap().modified().unwrap();
    modified("etc/kubernetes/scheduler.conf") > modified("etc/kubernetes/pki/etcd/ca.crt")
}

/// All old or all new, pairs fit, nothing beside, no temporary file.
#[track_caller]
fn assert_all_or_nothing(before: &Live, node: &Node) {
    let records = ledger(node);
    let staged = records.digests();
    let is_new = |path: &std::path::Path| {
        let live = fs::read(node.path(&path.display().to_string())).unwrap();
        staged.get(path) == Some(&certwarden::host::crypto::sha256_hex(&live))
    };
    let new = records.files().iter().filter(|f| is_new(&f.path)).count();
    assert!(new == 0 || new == records.files().len(), "{new} of {} are new", records.files().len());
    if new == 0 {
        assert_unchanged(before, node);
    }
    node.assert_pairs_fit();
}

/// Files first, as at boot; then all; then again, which finds nothing.
#[track_caller]
fn recover_in_every_way(node: &Node, before: &Live) {
    let boot = node.rebooted();
    boot.recover(Reach::FilesOnly, false).unwrap();
    if !boot.ids().is_empty() {
        assert_all_or_nothing(before, &boot);
    }
    boot.recover(Reach::FilesOnly, false).unwrap();
    for node in [boot, node.rebooted()] {
        let report = node.recover(Reach::Full, false).unwrap();
        if let Some(report) = &report {
            let ends = [Outcome::Verified, Outcome::RolledBack, Outcome::NothingToDo];
            assert!(ends.contains(&report.outcome), "{:?} {}", report.outcome, report.reason);
        }
        if node.ids().is_empty() {
            assert_unchanged(before, &node);
        } else {
            assert_all_or_nothing(before, &node);
        }
        node.assert_nothing_left_over();
        node.assert_processes_use_what_is_on_the_disk();
        let after = node.live();
        assert!(node.recover(Reach::Full, false).unwrap().is_none(), "a second recovery finds nothing");
        assert_unchanged(&after, &node);
        assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
    }
}

#[test]
fn a_death_in_any_state_is_recovered_to_all_old_or_all_new() {
    for state in [State::Open, State::Staged, State::Committing, State::Committed] {
        let (node, before) = died_in(Node::due, state);
        recover_in_every_way(&node, &before);
    }
    let (node, before) = died_in(dying, State::RollingBack);
    recover_in_every_way(&node, &before);
}

#[test]
fn a_death_between_any_two_renames_is_recovered() {
    let (template, before) = died_in(Node::due, State::Committing);
    let files = ledger(&template).files().len();
    assert_eq!(files, 17);
    for done in 0..=files {
        let node = template.rebooted();
        rename_temps(&node, done);
        if done % 4 == 1 {
            recover_in_every_way(&node, &before);
            continue;
        }
        let node = node.rebooted();
        assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::RolledBack);
        assert_unchanged(&before, &node);
        node.assert_nothing_left_over();
        node.assert_processes_use_what_is_on_the_disk();
    }
}

#[test]
fn a_death_between_any_two_renames_back_is_recovered() {
    let (template, before) = died_in(Node::due, State::Committing);
    let files = ledger(&template).files().len();
    for back in [0, 1, 2, 8, files - 1, files] {
        let node = template.rebooted();
        rename_temps(&node, files);
        let mut ledger = ledger(&node);
        ledger.enter(&node.host.root, State::RollingBack, jiff::Timestamp::now(), Some("for a reason")).unwrap();
        for file in ledger.files().iter().take(back) {
            let path = file.path.display().to_string();
            let live = node.path(&path);
            let was = &before[&live.strip_prefix(node.dir.path()).unwrap().to_path_buf()];
            fs::write(&live, &was.0).unwrap();
            fs::File::open(&live).unwrap().set_modified(modified(was.4, was.5)).unwrap();
        }
        recover_in_every_way(&node, &before);
    }
}

fn modified(seconds: i64, nanos: i64) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::new(u64::try_from(seconds).unwrap(), u32::try_from(nanos).unwrap())
}

#[test]
fn an_expired_set_that_was_committed_by_half_goes_forward() {
    let (template, _) = died_in(Node::expired, State::Committing);
    for done in [0, 1, 9, 16, 17] {
        let node = template.rebooted();
        rename_temps(&node, done);
        assert_outcome(&node.recover(Reach::FilesOnly, false).unwrap().unwrap(), Outcome::Interrupted);
        assert_eq!(node.last_state(), Some(State::Committed));
        node.assert_pairs_fit();
        assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
    }
}

#[test]
fn a_damaged_staged_file_is_not_used_to_go_forward() {
    let (node, before) = died_in(Node::expired, State::Committing);
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    let staged = dir.new_file(std::path::Path::new("/etc/kubernetes/pki/apiserver.key"));
    fs::write(node.path(&staged.display().to_string()), "rubbish").unwrap();
    // once more, then a person has to look
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Interrupted);
    let report = node.recover(Reach::Full, false).unwrap().unwrap();
    assert_outcome(&report, Outcome::RollbackFailed);
    let changed = Node::changed(&before, &node.live());
    assert!(changed.iter().all(|p| p.to_string_lossy().contains(".certwarden-new")), "{changed:?}");
}

/// A rename fails in the middle of the commit: somebody has put a directory in the file's place.
fn obstruct_the_commit(node: &Node, file: &'static str) {
    let names = ticks(&Node::due());
    // `committing` is durable and no file renamed: the clock is read a third time
    let at = names.iter().position(|n| n == "putting the new files in place/now").unwrap() + 3;
    node.fake.world(|w| {
        let act = move |root: &std::path::Path| {
            let path = root.join(file);
            fs::rename(&path, path.with_extension("aside")).unwrap();
            fs::create_dir(&path).unwrap();
        };
        w.hook_at = Some((at as u64, Box::new(act)));
    });
}

#[test]
fn a_rename_that_fails_in_the_middle_of_the_commit_never_leaves_half_of_each() {
    const FILE: &str = "etc/kubernetes/pki/etcd/healthcheck-client.key";
    for make in [Node::due as fn() -> Node, Node::expired] {
        let node = make();
        obstruct_the_commit(&node, FILE);
        let report = node.renew(&Selection::All);
        assert_ne!(report.outcome, Outcome::Verified);
        assert!(report.reason.contains("healthcheck-client.key"), "{}", report.reason);
        // whoever did that takes it away again
        let path = node.path(FILE);
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
            fs::rename(path.with_extension("aside"), &path).unwrap();
        } else {
            let _ = fs::remove_file(path.with_extension("aside"));
        }
        let recovered = node.recover(Reach::Full, true).unwrap();
        assert!(
            recovered.is_none_or(|r| matches!(r.outcome, Outcome::Verified | Outcome::RolledBack)),
            "{:?}",
            node.last_state()
        );
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
    }
}

#[test]
fn a_directory_without_a_ledger_and_a_ledger_without_a_whole_line_never_began() {
    for text in [None, Some(""), Some("{\"schema\":\"certwarden.led")] {
        let node = Node::due();
        let before = node.live();
        let dir = store::create(&node.host.root, jiff::Timestamp::now()).unwrap();
        if let Some(text) = text {
            fs::write(node.path(&dir.ledger().display().to_string()), text).unwrap();
        }
        assert!(matches!(node.try_renew(&Selection::All), Err(EngineError::Unfinished { .. })));
        assert!(node.recover(Reach::Full, false).unwrap().is_none());
        assert!(node.ids().is_empty());
        assert_unchanged(&before, &node);
    }
}

#[test]
fn a_torn_last_line_announced_nothing() {
    let (node, before) = died_in(Node::due, State::Staged);
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    let path = node.path(&dir.ledger().display().to_string());
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"schema\":\"certwarden.ledger/v1\",\"state\":\"comm");
    fs::write(&path, text).unwrap();
    recover_in_every_way(&node, &before);
}

#[test]
fn a_damaged_ledger_is_touched_by_nobody() {
    let (node, _) = died_in(Node::due, State::Committed);
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    let path = node.path(&dir.ledger().display().to_string());
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for text in [
        format!("rubbish\n{whole}"),
        whole.replace("certwarden.ledger/v1", "certwarden.ledger/v2"),
        // a state that cannot follow
        format!("{}\n{}\n", lines[0], lines[3]),
        format!("{}\n", lines[1]),
    ] {
        fs::write(&path, &text).unwrap();
        let before = node.live();
        for reach in [Reach::FilesOnly, Reach::Full] {
            assert!(matches!(node.recover(reach, true), Err(EngineError::Ledger(_))), "{text}");
        }
        assert!(matches!(node.try_renew(&Selection::All), Err(EngineError::Ledger(_))));
        assert_unchanged(&before, &node);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn without_its_plan_a_transaction_is_recovered_by_its_ledger() {
    for (state, damage) in
        [(State::Staged, None), (State::Committing, Some("{\"schema\":")), (State::Committed, Some(""))]
    {
        let (node, before) = died_in(Node::due, state);
        let plan = node.path(&store::list(&node.host.root).unwrap().pop().unwrap().plan().display().to_string());
        match damage {
            None => fs::remove_file(plan).unwrap(),
            Some(text) => fs::write(plan, text).unwrap(),
        }
        if state == State::Committing {
            rename_temps(&node, 9);
        }
        recover_in_every_way(&node, &before);
    }
}

#[test]
fn without_its_plan_an_expired_set_goes_forward_all_the_same() {
    let (node, _) = died_in(Node::expired, State::Committing);
    rename_temps(&node, 9);
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    fs::write(node.path(&dir.plan().display().to_string()), "nonsense").unwrap();
    let report = node.recover(Reach::FilesOnly, false).unwrap().unwrap();
    assert_outcome(&report, Outcome::Interrupted);
    assert!(report.notes.iter().any(|n| n.contains("plan.json is damaged")), "{:?}", report.notes);
    assert_eq!(node.last_state(), Some(State::Committed));
    node.assert_pairs_fit();
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
}

#[test]
fn a_damaged_backup_is_not_put_back() {
    let (template, _) = died_in(Node::due, State::Committing);
    let node = template.rebooted();
    rename_temps(&node, 17);
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    let old = dir.old(std::path::Path::new("/etc/kubernetes/scheduler.conf"));
    fs::write(node.path(&old.display().to_string()), "rubbish").unwrap();
    let untouched = node.rebooted();
    // nor what lies beside, unless it is what was recorded
    fs::write(node.path("/etc/kubernetes/.scheduler.conf.certwarden-old"), "rubbish").unwrap();
    let without_beside = |node: &Node| {
        let mut live = node.live();
        live.retain(|path, _| !path.to_string_lossy().contains(".certwarden-"));
        live
    };
    let before = without_beside(&node);
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Interrupted);
    let report = node.recover(Reach::Full, false).unwrap().unwrap();
    assert_outcome(&report, Outcome::RollbackFailed);
    assert!(report.reason.contains("backup of /etc/kubernetes/scheduler.conf is damaged"), "{}", report.reason);
    assert_eq!(Node::changed(&before, &without_beside(&node)), std::collections::BTreeSet::new());
    node.assert_pairs_fit();
    // what was put beside before the commit is enough
    assert_outcome(&untouched.recover(Reach::Full, false).unwrap().unwrap(), Outcome::RolledBack);
    untouched.assert_pairs_fit();
}

#[test]
fn what_somebody_else_renewed_meanwhile_is_kept_whole_and_half_of_it_is_not() {
    let (template, before) = died_in(Node::due, State::Committed);
    let other = Node::healthy();
    let pki = "etc/kubernetes/pki";
    // from the same CAs? no: a foreign pair of another tree is foreign by its bytes, which is all that counts here
    for (half, kept) in [(false, true), (true, false)] {
        let node = template.rebooted();
        node.fake.world(|w| w.kubelet_dies_if = Some(new_files));
        let files: &[&str] = if half { &["apiserver.key"] } else { &["apiserver.key", "apiserver.crt"] };
        for file in files {
            fs::copy(other.path(&format!("{pki}/{file}")), node.path(&format!("{pki}/{file}"))).unwrap();
        }
        let report = node.recover(Reach::Full, false).unwrap().unwrap();
        assert_outcome(&report, Outcome::RolledBack);
        let is_others = node.read(&format!("{pki}/apiserver.crt")) == other.read(&format!("{pki}/apiserver.crt"));
        assert_eq!(is_others, kept);
        assert_eq!(report.notes.iter().any(|n| n.contains("replaced by somebody else")), kept);
        if !kept {
            assert_unchanged(&before, &node);
        }
    }
}

#[test]
fn a_mounted_image_has_its_files_settled_and_no_service_of_this_machine_is_touched() {
    for state in [State::Committing, State::Committed] {
        let (node, before) = died_in(Node::due, state);
        let mut image = node.rebooted();
        image.host.live = false;
        assert_outcome(&image.recover(Reach::Full, true).unwrap().unwrap(), Outcome::Interrupted);
        let acts: Vec<_> = image.fake.calls().into_iter().filter(|c| c.method != "now").collect();
        assert!(acts.is_empty(), "{acts:?}");
        assert_all_or_nothing(&before, &image);
        // and the node itself proves them when it runs again
        let node = image.rebooted();
        node.recover(Reach::Full, false).unwrap().unwrap();
        assert!(node.last_state().unwrap().is_closed());
        node.assert_nothing_left_over();
    }
}

#[test]
fn a_node_that_was_not_ready_before_the_death_is_judged_by_no_worse_after_it() {
    let unready = || {
        let node = Node::due();
        node.fake.world(|w| w.node_ready = false);
        node
    };
    let mut node = None;
    for tick in (1..500).step_by(3) {
        let candidate = unready();
        candidate.crash(tick, || {
            let session = candidate.session();
            let plan = session.plan(&Selection::All).unwrap();
            let _ = session.carry_out(&plan, false, &[certwarden::model::gate::Gate::NotReady], &Node::progress());
        });
        if candidate.last_state() == Some(State::Committed) {
            node = Some(candidate.rebooted());
            break;
        }
    }
    let node = node.unwrap();
    node.fake.world(|w| w.node_ready = false);
    assert_outcome(&node.recover(Reach::Full, false).unwrap().unwrap(), Outcome::Verified);
}

#[test]
fn a_live_file_that_changes_before_the_commit_is_refused_and_kept() {
    let names = ticks(&Node::due());
    let at = names.iter().position(|n| n.starts_with("rehearsing")).unwrap() + 1;
    let node = Node::due();
    node.fake.world(|w| {
        let act = |root: &std::path::Path| {
            let path = root.join("etc/kubernetes/scheduler.conf");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("# by hand\n{text}")).unwrap();
        };
        w.hook_at = Some((at as u64, Box::new(act)));
    });
    let before = node.live();
    let report = node.renew(&Selection::All);
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("has changed since it was backed up"), "{}", report.reason);
    assert!(node.read("/etc/kubernetes/scheduler.conf").starts_with(b"# by hand"));
    let changed = Node::changed(&before, &node.live());
    assert_eq!(changed.len(), 1, "{changed:?}");
    node.assert_nothing_left_over();
}

#[test]
fn links_stay_links_and_lead_to_the_new_files() {
    let node = Node::due();
    // the whole directory on another volume, and one leaf linked from elsewhere
    fs::create_dir_all(node.path("/data")).unwrap();
    fs::rename(node.path("/etc/kubernetes/pki"), node.path("/data/pki")).unwrap();
    symlink("/data/pki", node.path("/etc/kubernetes/pki")).unwrap();
    fs::rename(node.path("/data/pki/apiserver.crt"), node.path("/data/apiserver.crt")).unwrap();
    symlink("../apiserver.crt", node.path("/data/pki/apiserver.crt")).unwrap();
    let old = node.read("/data/apiserver.crt");
    assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
    assert!(node.path("/etc/kubernetes/pki").is_symlink() && node.path("/data/pki/apiserver.crt").is_symlink());
    assert_ne!(node.read("/data/apiserver.crt"), old);
    node.assert_pairs_fit();
    assert_outcome(&node.rollback(None, &[]).unwrap(), Outcome::Verified);
    assert_eq!(node.read("/data/apiserver.crt"), old);
    let names =
        fs::read_dir(node.path("/data")).unwrap().count() + fs::read_dir(node.path("/data/pki")).unwrap().count();
    assert_eq!(names, 2 + 13, "nothing is left over");
}

#[test]
fn a_temporary_name_that_is_taken_is_replaced_or_refused_and_nothing_is_overwritten() {
    let taken = "/etc/kubernetes/pki/.apiserver.key.certwarden-new";
    let node = Node::due();
    symlink("apiserver.crt", node.path(taken)).unwrap();
    assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
    node.assert_pairs_fit();
    node.assert_nothing_left_over();

    let node = Node::due();
    fs::create_dir(node.path(taken)).unwrap();
    let before = node.live();
    assert_outcome(&node.renew(&Selection::All), Outcome::Refused);
    assert_unchanged(&before, &node);
    fs::remove_dir(node.path(taken)).unwrap();
    assert_outcome(&node.renew(&Selection::All), Outcome::Verified);
}

#[test]
fn as_many_generations_are_kept_as_are_wanted_and_a_failed_rollback_is_never_thrown_away() {
    let mut node = Node::healthy();
    node.policy.state.generations = 2;
    let scheduler = Selection::Names(vec!["scheduler.conf".to_owned()]);
    for _ in 0..4 {
        assert_outcome(&node.renew(&scheduler), Outcome::Verified);
    }
    assert_eq!(node.ids().iter().map(|id| &id[..6]).collect::<Vec<_>>(), ["000003", "000004"]);
    node.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
    assert_outcome(&node.renew(&scheduler), Outcome::RollbackFailed);
    let failed = node.ids().pop().unwrap();
    for _ in 0..4 {
        assert_outcome(&node.renew(&scheduler), Outcome::Refused);
        node.recover(Reach::Full, true).unwrap();
    }
    assert!(node.ids().contains(&failed));
    let dir = TxnDir { id: failed };
    assert!(node.host.root.exists(&dir.old_dir()));
    node.fake.world(|w| w.kubelet_dies_if = None);
    assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RolledBack);
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None);
    assert_eq!(node.ids().len(), 3, "two backups and a story");
}

#[test]
fn a_backup_goes_when_it_is_too_old_to_be_of_use_and_its_bytes_are_overwritten_first() {
    let node = Node::healthy();
    let scheduler = Selection::Names(vec!["scheduler.conf".to_owned()]);
    let dirs: Vec<TxnDir> = (0..2).map(|_| TxnDir { id: node.renew(&scheduler).transaction.unwrap() }).collect();
    let conf = std::path::Path::new("/etc/kubernetes/scheduler.conf");
    let backups = dirs.iter().map(|dir| node.path(&dir.old(conf).display().to_string()));
    // who has a file open sees what becomes of its bytes
    let mut open: Vec<fs::File> = backups.map(|path| fs::File::open(path).unwrap()).collect();
    let kept = |days: i64| {
        let now = node.host.clock.now() + SignedDuration::from_hours(24 * days);
        retention::by_age(&node.host.root, &node.policy.state, Some(now));
        let backups = |dir: &TxnDir| node.host.root.exists(&dir.old_dir());
        (dirs.iter().filter(|dir| backups(dir)).count(), node.ids().len())
    };
    let live = node.live();
    assert_eq!(kept(89), (2, 2));
    let lock = Lock::take(&node.host.root, "test").unwrap();
    assert_eq!(kept(91), (2, 2), "whoever is at work may need them");
    drop(lock);
    assert_eq!(kept(91), (0, 2), "the newest, too; the records of both stay");
    for file in &mut open {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|b| *b == 0), "a key is still on the disk");
    }
    assert_eq!(live, node.live());
    let past = history::list(&node.host.root).unwrap();
    assert!(past.iter().all(|p| !p.backup && p.state == Some(State::Verified)), "{past:?}");
    assert!(matches!(node.rollback(None, &[]), Err(SessionError::NoBackup { .. })));
}

#[test]
fn a_clock_that_nobody_vouches_for_removes_no_backup() {
    let node = Node::healthy();
    let dir = TxnDir { id: node.renew(&Selection::Names(vec!["scheduler.conf".to_owned()])).transaction.unwrap() };
    // the clock jumps ahead by three years
    node.fake.world(|w| w.now += SignedDuration::from_hours(24 * 1000));
    for synchronised in [Some(false), None] {
        let now = retention::trusted_time(&node.host, synchronised);
        retention::by_age(&node.host.root, &node.policy.state, now);
        retention::apply(&node.host.root, &node.policy.state, now);
        assert!(node.host.root.exists(&dir.old_dir()), "{synchronised:?}");
    }
    retention::by_age(&node.host.root, &node.policy.state, retention::trusted_time(&node.host, Some(true)));
    assert!(!node.host.root.exists(&dir.old_dir()));
}

#[test]
fn what_is_unfinished_or_has_failed_keeps_its_backup_however_old_it_is() {
    let ages = |node: &Node| {
        let now = node.host.clock.now() + SignedDuration::from_hours(24 * 1000);
        retention::by_age(&node.host.root, &node.policy.state, Some(now));
        retention::apply(&node.host.root, &node.policy.state, Some(now));
        let dir = TxnDir { id: node.ids().pop().unwrap() };
        node.host.root.exists(&dir.old_dir())
    };
    let failed = Node::healthy();
    failed.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
    let scheduler = Selection::Names(vec!["scheduler.conf".to_owned()]);
    assert_outcome(&failed.renew(&scheduler), Outcome::RollbackFailed);
    assert!(ages(&failed), "an operator has to look at it");
    let unfinished = Node::due();
    let names = ticks(&Node::due());
    let tick = names.iter().position(|name| name.contains("stop")).unwrap_or(names.len() / 2) as u64;
    assert!(unfinished.renew_and_crash(tick));
    assert!(!unfinished.last_state().unwrap().is_closed());
    assert!(ages(&unfinished), "it is the way back");
    assert!(unfinished.recover(Reach::Full, false).unwrap().is_some());
    unfinished.assert_pairs_fit();
}

#[test]
fn who_has_begun_ended_and_forced_a_transaction_is_in_its_ledger_and_in_the_history() {
    const ANNA: &str = "anna (user 1000)";
    let mut node = Node::healthy();
    let scheduler = Selection::Names(vec!["scheduler.conf".to_owned()]);
    assert_outcome(&node.renew(&scheduler), Outcome::Verified);
    assert!(ledger(&node).records().iter().all(|r| r.by.is_none() && r.forced.is_empty()), "nobody's: a service's");
    node.host.by = Some(ANNA.to_owned());
    node.fake.world(fake::World::rejoin_real_time);
    let session = node.session();
    let plan = session.plan(&scheduler).unwrap();
    let report = session.carry_out(&plan, false, &[Gate::Window], &Node::progress()).unwrap();
    assert_outcome(&report, Outcome::Verified);
    drop(session);
    let records = ledger(&node);
    assert!(records.records().iter().all(|r| r.by.as_deref() == Some(ANNA)));
    assert_eq!(records.records()[0].forced, ["window"]);
    let past = history::list(&node.host.root).unwrap();
    assert_eq!(
        (past[0].by.as_slice(), past[0].forced.as_slice()),
        ([ANNA.to_owned()].as_slice(), ["window".to_owned()].as_slice())
    );
    assert_eq!(past[1].by, Vec::<String>::new());
    // one begins it, another ends it
    node.host.by = None;
    node.fake.world(|w| w.kubelet_dies_if = Some(|_| true));
    assert_outcome(&node.renew(&scheduler), Outcome::RollbackFailed);
    node.fake.world(|w| w.kubelet_dies_if = None);
    node.host.by = Some(ANNA.to_owned());
    assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RolledBack);
    assert_eq!(history::list(&node.host.root).unwrap()[0].by, [ANNA]);
    assert_eq!(ledger(&node).records().last().unwrap().by.as_deref(), Some(ANNA));
}

#[test]
fn a_rollback_restores_byte_for_byte_and_is_a_transaction_of_its_own() {
    let node = Node::due();
    let before = node.live();
    let first = node.renew(&Selection::All).transaction.unwrap();
    let new = node.live();
    node.fake.world(fake::World::rejoin_real_time);
    let report = node.rollback(Some(&first), &[]).unwrap();
    assert_outcome(&report, Outcome::Verified);
    for path in Node::changed(&before, &node.live()) {
        let (old, now) = (&before[&path], &node.live()[&path]);
        assert_eq!((&old.0, old.1, old.2, old.3, &old.6), (&now.0, now.1, now.2, now.3, &now.6), "{}", path.display());
    }
    node.assert_processes_use_what_is_on_the_disk();
    // and back again: the rollback's own backup holds the new ones
    node.fake.world(fake::World::rejoin_real_time);
    assert_outcome(&node.rollback(Some(&report.transaction.unwrap()), &[]).unwrap(), Outcome::Verified);
    let now = node.live();
    assert!(new.iter().all(|(path, was)| now[path].0 == was.0));
    node.assert_nothing_left_over();
}

#[test]
fn a_rollback_to_what_has_expired_or_does_not_exist_is_refused() {
    let node = Node::expired();
    let id = node.renew(&Selection::All).transaction.unwrap();
    let before = node.live();
    node.fake.world(fake::World::rejoin_real_time);
    let report = node.rollback(Some(&id), &[]).unwrap();
    assert_outcome(&report, Outcome::Refused);
    assert!(report.reason.contains("expired"), "{}", report.reason);
    for hostile in
        ["../../etc", "", ".", "..", "000001", "000001-", "000009-20260101T000000Z", "000001-a/../../b", "é00001-x"]
    {
        let refused = node.rollback(Some(hostile), &[]);
        assert!(matches!(refused, Err(SessionError::NoBackup { .. })), "{hostile}");
    }
    assert_unchanged(&before, &node);
}

#[test]
fn a_rollback_of_what_is_no_longer_on_the_node_says_so() {
    let node = Node::healthy();
    let id = node.renew(&Selection::Names(vec!["scheduler.conf".into()])).transaction.unwrap();
    fs::remove_file(node.path("/etc/kubernetes/scheduler.conf")).unwrap();
    fs::remove_file(node.path("/etc/kubernetes/manifests/kube-scheduler.yaml")).unwrap();
    let report = node.rollback(Some(&id), &[]).unwrap();
    assert_outcome(&report, Outcome::LeftOut);
    assert!(report.reason.contains("no longer on this node"), "{}", report.reason);
}

#[test]
fn a_shutdown_in_the_middle_of_a_rollback_is_finished_by_the_next_start() {
    let node = dying();
    let before = node.live();
    // the first restart fails by the kubelet's death, the second by the machine's
    let restart = {
        let clean = dying();
        assert_outcome(&clean.renew(&Selection::All), Outcome::RolledBack);
        let second = |c: &[fake::Call]| c.iter().enumerate().filter(|(_, c)| c.method == "restart").nth(1).unwrap().0;
        second(&clean.fake.calls())
    };
    node.fake.world(|w| w.fault_at.insert(restart, Fault::ShutDown));
    assert_outcome(&node.renew(&Selection::All), Outcome::Interrupted);
    assert_eq!(node.last_state(), Some(State::RollingBack));
    assert_eq!(DaemonState::load(&node.host.root).state.observe_only, None);
    recover_in_every_way(&node, &before);
    assert!(node.path(TRANSACTIONS).is_dir());
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Renew,
    RenewAndDie(u64),
    RecoverAndDie(u64),
    Recover,
    FilesOnly,
    Rollback,
    RollbackAndDie(u64),
    KubeletDies(bool),
    Reboot,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        Just(Deed::Renew),
        (1u64..150).prop_map(Deed::RenewAndDie),
        (1u64..100).prop_map(Deed::RecoverAndDie),
        Just(Deed::Recover),
        Just(Deed::FilesOnly),
        Just(Deed::Rollback),
        (1u64..150).prop_map(Deed::RollbackAndDie),
        any::<bool>().prop_map(Deed::KubeletDies),
        Just(Deed::Reboot),
    ]
}

/// More for a longer look: `PROPTEST_CASES=500`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_every_key_fits_its_certificate_in_the_end(
        deeds in prop::collection::vec(deed(), 1..7)
    ) {
        let mut node = Node::due();
        for deed in &deeds {
            match *deed {
                Deed::Renew => drop(node.try_renew(&Selection::All)),
                Deed::RenewAndDie(tick) => drop(node.renew_and_crash(tick)),
                Deed::RecoverAndDie(tick) => drop(node.crash(tick, || drop(node.recover(Reach::Full, true)))),
                Deed::Recover => drop(node.recover(Reach::Full, true).unwrap()),
                Deed::FilesOnly => drop(node.recover(Reach::FilesOnly, false).unwrap()),
                Deed::Rollback => drop(node.rollback(None, &[])),
                Deed::RollbackAndDie(tick) => drop(node.crash(tick, || drop(node.rollback(None, &[])))),
                Deed::KubeletDies(dies) => node.fake.world(|w| w.kubelet_dies_if = dies.then_some(new_files as fake::About)),
                Deed::Reboot => node = node.rebooted(),
            }
            node.fake.world(fake::World::rejoin_real_time);
        }
        node.fake.world(|w| w.kubelet_dies_if = None);
        if let Some(report) = node.recover(Reach::Full, true).unwrap() {
            prop_assert!(
                matches!(report.outcome, Outcome::Verified | Outcome::RolledBack | Outcome::NothingToDo),
                "{:?} {}", report.outcome, report.reason
            );
        }
        node.assert_pairs_fit();
        node.assert_nothing_left_over();
        node.assert_processes_use_what_is_on_the_disk();
        prop_assert!(node.recover(Reach::Full, true).unwrap().is_none());
        let report = node.renew(&Selection::All);
        prop_assert_eq!(report.outcome, Outcome::Verified, "{}", report.reason);
    }
}

#[test]
fn a_way_back_that_fails_half_way_keeps_its_room_for_the_second_try() {
    let node = Node::due();
    let before = node.live();
    node.fake.world(|w| w.kubelet_dies_if = Some(fake::node::new_files));
    fake::forget_steps();
    let obstructed = node.path("/etc/kubernetes/pki/etcd/server.key");
    let at = obstructed.clone();
    fake::at_step(fake::At::Text("putting the old files back"), move || {
        fs::rename(&at, at.with_extension("aside")).unwrap();
        fs::create_dir(&at).unwrap();
    });
    assert_outcome(&node.renew_due(), Outcome::RollbackFailed);
    let beside = |tag: &str| node.live().keys().filter(|p| p.to_string_lossy().ends_with(tag)).count();
    assert_eq!(beside(".certwarden-new"), 0);
    assert!(beside(".certwarden-old") > 0, "the room of the second try is gone");
    // a disk on which nothing more can be written and nothing read but what lies beside
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    fs::remove_dir_all(node.path(&dir.old_dir().display().to_string())).unwrap();
    node.fake.world(|w| w.kubelet_dies_if = None);
    fs::remove_dir(&obstructed).unwrap();
    fs::rename(obstructed.with_extension("aside"), &obstructed).unwrap();
    assert_outcome(&node.recover(Reach::Full, true).unwrap().unwrap(), Outcome::RolledBack);
    assert_unchanged(&before, &node);
    node.assert_nothing_left_over();
}
