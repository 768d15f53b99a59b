//! The power fails at any operation of a real renewal, and any subset of what was not synced is lost: recovery ends with
//! all files old or all new, and with its ledger closed. The operations are recorded from the program itself (strace), so
//! that a change of their order, or an fsync that is forgotten, is seen here. `tests/it/recover.rs` has the deaths that lose nothing.

mod disk;
mod trace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::pages::reliability;
use crate::support;
use certwarden::host::fs::Root;
use certwarden::txn::store;
use disk::{Disk, Fate, File, Kind};
use proptest::prelude::*;
use support::{DAY, Options, Tree};
use tempfile::TempDir;
use trace::Op;

/// A program's run as it was recorded.
struct Story {
    before: Disk,
    ops: Vec<Op>,
    old: Files,
    new: Files,
}

/// The live files.
type Files = BTreeMap<PathBuf, File>;

/// In memory: thousands of trees are made.
fn temp() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { TempDir::new_in(shm).unwrap() } else { TempDir::new().unwrap() }
}

fn certwarden(root: &Path, verb: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
    command.arg("--root").arg(root).args(verb);
    command
}

fn live(disk: &Disk) -> Files {
    let mut files = disk.files();
    files.retain(|path, _| !path.starts_with("var/lib/certwarden"));
    files
}

impl Story {
    /// Of the last of `verbs`; the others only prepare.
    fn of(verbs: &[&[&str]]) -> Self {
        let dir = temp();
        let root = dir.path().canonicalize().unwrap();
        let tree = Tree::build(&root, Options { left: 20 * DAY, ..Options::default() });
        // all or nothing is said of one transaction, and the kubelet's self-signed pair has its own
        tree.write("/etc/certwarden/certwarden.toml", "renew.exclude = [\"kubelet-serving\"]\n", 0o644);
        std::os::unix::fs::chown(tree.at("/etc/kubernetes/pki/apiserver.key"), Some(0), Some(1234)).unwrap();
        let (last, others) = verbs.split_last().unwrap();
        for verb in others {
            assert!(certwarden(&root, verb).output().unwrap().status.success());
        }
        let before = Disk::load(&root);
        let ops = trace::record(&mut certwarden(&root, last), &root);
        let mut after = before.clone();
        for op in &ops {
            after.apply(op);
        }
        let real = live(&Disk::load(&root));
        let (old, new) = (live(&before), live(&after));
        let contents = |files: &Files| files.iter().map(|(p, f)| (p.clone(), f.bytes.clone())).collect::<Vec<_>>();
        assert!(contents(&new) == contents(&real), "the model of the disk is not what the disk is");
        assert!(new != old && ops.len() > 100, "{} operations", ops.len());
        Self { before, ops, old, new }
    }

    /// The disk after the first `count` operations, the sync number `without` left out.
    fn disk(&self, count: usize, without: Option<usize>) -> Disk {
        let mut disk = self.before.clone();
        let kept = self.ops.iter().take(count).enumerate().filter(|(i, _)| Some(*i) != without);
        for (_, op) in kept {
            disk.apply(op);
        }
        disk
    }

    /// What is wrong after a recovery from this disk.
    fn judge(&self, disk: &Disk) -> Result<(), String> {
        let dir = temp();
        disk.write_to(dir.path());
        // done, nothing to do, or rolled back; the second time nothing is to be done
        for allowed in [0..=2, 0..=0] {
            let done = certwarden(dir.path(), &["recover"]).output().unwrap();
            if !done.status.code().is_some_and(|c| allowed.contains(&c)) {
                return Err(format!("recover: {} {}", done.status, String::from_utf8_lossy(&done.stderr)));
            }
        }
        let open = store::unfinished(&Root::open(dir.path()).unwrap()).map_err(|e| e.to_string())?;
        if let Some((dir, _)) = open.first() {
            return Err(format!("transaction {} is still open", dir.id));
        }
        let found = live(&Disk::load(dir.path()));
        if let Some(extra) = found.keys().find(|p| !self.old.contains_key(*p)) {
            return Err(format!("{} is left over", extra.display()));
        }
        let is = |want: &Files, times: bool| {
            let same = |a: &File, b: &File| {
                let time = |f: &File| f.modified.filter(|_| times);
                File { modified: time(a), ..a.clone() } == File { modified: time(b), ..b.clone() }
            };
            want.iter().filter(|(path, file)| found.get(*path).is_some_and(|f| same(f, file))).count()
        };
        let (old, new, all) = (is(&self.old, true), is(&self.new, false), self.old.len());
        if old == all || new == all { Ok(()) } else { Err(format!("of {all} files {old} are as before and {new} new")) }
    }
}

static RENEW: LazyLock<Story> = LazyLock::new(|| Story::of(&[&["renew", "--all"]]));
static ROLLBACK: LazyLock<Story> = LazyLock::new(|| Story::of(&[&["renew", "--all"], &["rollback"]]));

/// How the disk treats what was not synced.
#[derive(Clone, Copy, Debug)]
enum Temper {
    LosesAll,
    LosesNames,
    LosesContents,
    LosesNothing,
    /// Any subset, by this seed.
    Random(u64),
}

fn tempers() -> impl Strategy<Value = Temper> {
    prop_oneof![
        1 => Just(Temper::LosesAll),
        1 => Just(Temper::LosesNames),
        1 => Just(Temper::LosesContents),
        1 => Just(Temper::LosesNothing),
        8 => any::<u64>().prop_map(Temper::Random),
    ]
}

impl Temper {
    fn cut(self, disk: &Disk) -> Disk {
        let mut seed = if let Self::Random(seed) = self { seed | 1 } else { 1 };
        disk.cut(|kind| match (self, kind) {
            (Self::LosesAll, _) | (Self::LosesNames, Kind::Name) | (Self::LosesContents, Kind::Content) => Fate::Lost,
            (Self::LosesNothing | Self::LosesNames | Self::LosesContents, _) => Fate::Kept,
            (Self::Random(_), _) => {
                // xorshift64 (Marsaglia 2003)
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let share = seed.to_le_bytes()[2];
                match seed >> 61 {
                    0..=2 => Fate::Kept,
                    3..=5 => Fate::Lost,
                    6 => Fate::Torn(share),
                    _ => Fate::Zeroed,
                }
            }
        })
    }
}

/// More for a longer look, and for the page: `POWER_CASES=5000`.
fn cases() -> u32 {
    std::env::var("POWER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

/// Bounded runs are for CI, whole ones for the page.
fn whole() -> bool {
    cases() >= 1000
}

fn row(section: &str, what: &str, tried: u64, bad: u64, note: String) -> reliability::Row {
    reliability::Row { section: section.into(), what: what.into(), tried: Some(tried), bad: Some(bad), note }
}

fn whatever_is_lost(name: &str, what: &str, story: &Story) {
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let strategy = (0..=story.ops.len(), tempers());
    proptest::test_runner::TestRunner::new(config)
        .run(&strategy, |(count, temper)| {
            let disk = story.disk(count, None);
            let judged = story.judge(&temper.cut(&disk));
            let after = story.ops[..count].last();
            prop_assert!(
                judged.is_ok(),
                "{}, {} effects unsynced, after {after:?}",
                judged.unwrap_err(),
                disk.unsynced()
            );
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let note = format!("{} operations, any subset of what was not synced", story.ops.len());
    reliability::record(name, whole(), &[row("model", what, u64::from(cases()), 0, note)]);
}

#[test]
fn a_renewal_survives_a_power_cut_at_any_operation_whatever_unsynced_is_lost() {
    whatever_is_lost("model-renew", "renew", &RENEW);
}

#[test]
fn a_rollback_survives_a_power_cut_at_any_operation_whatever_unsynced_is_lost() {
    whatever_is_lost("model-rollback", "rollback ID", &ROLLBACK);
}

/// Whether a power cut is found, within the operations that follow, that does harm if this sync is left out. The disk is
/// otherwise the kindest: it keeps whatever it may.
fn harm_without(story: &Story, sync: usize) -> Option<String> {
    // the harm shows soon, or where the ledger has moved on
    let ledger = |op: &&Op| matches!(op, Op::Sync { path } if path.ends_with("ledger.jsonl"));
    let moved_on = (sync..story.ops.len()).filter(|i| story.ops.get(*i).as_ref().is_some_and(ledger)).map(|i| i + 2);
    let soon = (0..6).map(|power| sync + (1 << power));
    let points = soon.chain(moved_on).chain([story.ops.len()]).filter(|c| *c <= story.ops.len());
    for count in points {
        let (with, without) = (story.disk(count, None), story.disk(count, Some(sync)));
        if without.unsynced() == with.unsynced() {
            continue; // a later sync has made up for it
        }
        for temper in [Temper::LosesContents, Temper::LosesNames, Temper::LosesAll] {
            if let Err(harm) = story.judge(&temper.cut(&without)) {
                return Some(format!("{harm} (cut after operation {count}, {temper:?})"));
            }
        }
    }
    None
}

fn syncs(story: &Story, of: impl Fn(&str) -> bool) -> Vec<usize> {
    let is = |op: &Op| matches!(op, Op::Sync { path } if of(&path.display().to_string()));
    (0..story.ops.len()).filter(|i| is(&story.ops[*i])).collect()
}

#[test]
fn an_fsync_that_is_forgotten_is_caught() {
    let story = &*RENEW;
    let mut rows = Vec::new();
    for (what, syncs, least) in [
        ("fsync of a new file beside its target", syncs(story, |p| p.ends_with(".certwarden-new")), 17),
        ("fsync of the ledger", syncs(story, |p| p.ends_with("ledger.jsonl")), 1),
        ("fsync of a live directory", syncs(story, |p| !p.starts_with("var") && !p.contains(".certwarden-")), 1),
    ] {
        assert!(!syncs.is_empty(), "{what}: there is none");
        let tried = if whole() { syncs.as_slice() } else { &syncs[syncs.len() / 2..=syncs.len() / 2] };
        let found: Vec<String> = tried.iter().filter_map(|sync| harm_without(story, *sync)).collect();
        let (tried, caught) = (tried.len(), found.len());
        assert!(caught >= if whole() { least } else { 1 }, "{what}: {caught} of {tried} were caught");
        rows.push(row("mutation", &format!("model: {what}"), tried as u64, caught as u64, found[0].clone()));
    }
    reliability::record("model-mutation", whole(), &rows);
}
