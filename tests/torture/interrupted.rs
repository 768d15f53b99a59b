//! One interruption: the command dies at a point, its recovery dies too, and what comes then must be right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, ok, unbind};
use crate::scenario::{Next, Scenario};
use crate::strace::{self, Ended, Point};
use crate::tree::{self, STATE, Set, Snapshot};

/// A directory to work in, one for each worker.
#[derive(Debug)]
pub struct Bench {
    dir: PathBuf,
    disk: Option<Disk>,
    /// A file system of its own for a directory of the node.
    inner: Option<(Disk, &'static str)>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.unbind();
    }
}

impl Bench {
    pub fn new(dir: &Path, disk: Option<Disk>, inner: Option<(Disk, &'static str)>) -> Self {
        fs::create_dir_all(dir).unwrap();
        let dir = disk.as_ref().map_or_else(|| dir.to_path_buf(), |d| d.at.clone());
        Self { dir, disk, inner }
    }

    pub fn node(&self) -> PathBuf {
        self.dir.join("node")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What has been copied there is durable: an interruption loses only what the command did.
    fn settle(&self) {
        self.disks().for_each(Disk::sync);
    }

    fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.inner.iter().map(|(disk, _)| disk).chain(&self.disk)
    }

    pub fn prepare(&self, scenario: &Scenario) {
        self.unbind();
        scenario.prepare(&self.node());
        if let Some((disk, place)) = &self.inner {
            let place = self.node().join(place);
            fs::create_dir_all(&place).unwrap();
            for old in fs::read_dir(&disk.at).unwrap().map(|e| e.unwrap().path()) {
                let removed = if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) };
                removed.unwrap();
            }
            ok(Command::new("cp").arg("-a").arg(format!("{}/.", place.display())).arg(&disk.at));
            disk.bind(&place);
        }
        self.settle();
    }

    fn unbind(&self) {
        if let Some((_, place)) = &self.inner {
            unbind(&self.node().join(place));
        }
    }

    fn cut(&self, how: How) {
        if how == How::PowerCut {
            self.disks().for_each(Disk::shut_down);
            self.unbind();
            self.disks().for_each(Disk::boot);
            if let Some((disk, place)) = &self.inner {
                disk.bind(&self.node().join(place));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    Kill,
    PowerCut,
}

/// The calls of `recover` by the state that it finds: computed once.
#[derive(Debug, Default)]
pub struct Recoveries(Mutex<BTreeMap<String, Arc<Vec<Point>>>>);

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    pub tried: u64,
    pub bad: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, what: impl FnOnce() -> String, result: Result<Set, String>) {
        self.tried += 1;
        if let Err(why) = result {
            self.bad.push(format!("{}: {why}", what()));
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.tried += other.tried;
        self.bad.extend(other.bad);
    }
}

/// Interrupts the command at its `index`th point, and its recovery at a point that moves along with it. `deep`: where the
/// recovery finds a state for the first time, at each of its points.
pub fn at(bench: &Bench, scenario: &Scenario, index: usize, how: How, seen: &Recoveries, deep: bool) -> Tally {
    let mut tally = Tally::default();
    let (point, trouble) = &scenario.points[index];
    let mut inject = trouble.clone();
    inject.push(point.kill());
    bench.prepare(scenario);
    let ended = strace::end(strace::injected(&bench.node(), scenario.args, &inject));
    let name = || format!("{} killed at {}#{} {:.160}", scenario.name, point.call, point.nth, point.line);
    if !ended.killed {
        tally.add(name, Err(format!("was not killed: exit {:?}: {:.200}", ended.code, ended.text)));
        return tally;
    }
    bench.cut(how);
    let (calls, is_new) = recovery(bench, scenario, seen);
    let saved = bench.dir.join("saved");
    if deep && is_new && !calls.is_empty() {
        tree::copy(&bench.node(), &saved);
        for call in calls.iter() {
            tree::copy(&saved, &bench.node());
            bench.settle();
            let result = again(bench, scenario, call, how);
            tally
                .add(|| format!("{}, recover killed at {}#{} {:.160}", name(), call.call, call.nth, call.line), result);
        }
        tree::copy(&saved, &bench.node());
        bench.settle();
    }
    // 7919, a prime: neighbours meet recovery at points that lie apart
    let result = match calls.get(index.wrapping_mul(7919) % calls.len().max(1)) {
        Some(call) => again(bench, scenario, call, how),
        None => judge(bench, scenario, how),
    };
    tally.add(name, result);
    tally
}

/// Nothing is killed, and the power fails right behind: what was reported as done must be there.
pub fn behind(bench: &Bench, scenario: &Scenario) -> Tally {
    let trouble = scenario.points.first().map(|(_, t)| t.as_slice()).unwrap_or_default();
    let code = if trouble.is_empty() { 0 } else { 2 };
    let mut tally = Tally::default();
    bench.prepare(scenario);
    let ended = strace::end(strace::injected(&bench.node(), scenario.args, trouble));
    bench.cut(How::PowerCut);
    let expected = if code == 0 { Set::New } else { Set::Old };
    let after = judge(bench, scenario, How::PowerCut).and_then(|set| match set {
        _ if ended.code != Some(code) => Err(format!("{ended:?}")),
        set if set != expected => Err(format!("it said exit {code} and the files are {set:?}")),
        set => Ok(set),
    });
    tally.add(|| format!("{} to its end", scenario.name), after);
    tally
}

/// With calls that lie; where one of the injections kills, the power fails there, else behind the end.
pub fn mutated(bench: &Bench, scenario: &Scenario, inject: &[String]) -> Tally {
    let mut tally = Tally::default();
    bench.prepare(scenario);
    let ended = strace::end(strace::injected(&bench.node(), scenario.args, inject));
    bench.cut(How::PowerCut);
    let result = judge(bench, scenario, How::PowerCut).and_then(|set| match set {
        Set::Old if ended.code == Some(0) => Err("it said that it was done, and nothing of it is there".to_owned()),
        set => Ok(set),
    });
    tally.add(|| inject.join(" "), result);
    tally
}

fn again(bench: &Bench, scenario: &Scenario, call: &Point, how: How) -> Result<Set, String> {
    // what the recovery itself does decides how far its call is reached; that it ends before is no fault
    strace::end(strace::injected(&bench.node(), &["recover"], &[call.kill()]));
    bench.cut(how);
    judge(bench, scenario, how)
}

/// The calls of `recover` in the state that the bench is in, and whether it is seen for the first time.
fn recovery(bench: &Bench, scenario: &Scenario, seen: &Recoveries) -> (Arc<Vec<Point>>, bool) {
    let key = format!("{} {}", scenario.name, state(&bench.node(), &scenario.before, scenario.targets.len()));
    if let Some(known) = seen.0.lock().unwrap().get(&key) {
        return (known.clone(), false);
    }
    let copy = bench.dir.join("copy");
    tree::copy(&bench.node(), &copy);
    let calls = Arc::new(strace::points(&copy, &["recover"], &[], false).0);
    seen.0.lock().unwrap().insert(key, calls.clone());
    (calls, true)
}

/// What a recovery may find: where the ledger stands, whether live files are new, whether files lie beside.
fn state(node: &Path, before: &Snapshot, targets: usize) -> String {
    let now = tree::snapshot(node);
    let beside = now.keys().filter(|p| !before.contains_key(*p)).count();
    let new = tree::changed(before, &now).len() - beside;
    let mut ledgers = Vec::new();
    for dir in fs::read_dir(node.join(STATE).join("transactions")).into_iter().flatten() {
        ledgers.push(fs::read_to_string(dir.unwrap().path().join("ledger.jsonl")).unwrap_or_default());
    }
    let state =
        |l: &String| l.lines().last().and_then(|r| Some(r.split_once("\"state\":\"")?.1.split('"').next()?.to_owned()));
    let mut states: Vec<Option<String>> = ledgers.iter().map(state).collect();
    states.sort();
    // some are like others: 0, some, all
    let some = |n: usize| {
        if n == 0 {
            "none"
        } else if n < targets {
            "some"
        } else {
            "all"
        }
    };
    format!("{states:?} {} {}", some(new), some(beside))
}

/// Recovers, and looks at everything that an interruption of this kind can have spoilt.
pub fn judge(bench: &Bench, scenario: &Scenario, how: How) -> Result<Set, String> {
    judge_of(bench, scenario, how, &scenario.targets)
}

/// The same of these files only.
pub fn judge_of(bench: &Bench, scenario: &Scenario, how: How, targets: &BTreeSet<PathBuf>) -> Result<Set, String> {
    let node = bench.node();
    run(&node, &["recover"], &[0, 2], "")?;
    let recovered = tree::snapshot(&node);
    let set = tree::judge(&scenario.before, targets, &recovered)?;
    tree::state_is_clean(&node)?;
    run(&node, &["recover"], &[0], "no transaction is unfinished")?;
    if how == How::Kill && is_known(&node, set) {
        return Ok(set);
    }
    run(&node, &["check"], &[0, 1, 2], "")?;
    tree::an_hour_later(&node);
    match scenario.next {
        Next::Repair(_) if set == Set::New => {
            let checked = run(&node, &["check", "kubelet-client", "-o", "json"], &[0], "\"verdict\": \"ok\"")?;
            return if checked.text.contains("\"problems\": []") { Ok(set) } else { Err(checked.text) };
        }
        Next::Renew(args) | Next::Repair(args) => run(&node, args, &[0], "renewed and in place")?,
    };
    match tree::judge(&recovered, &scenario.targets, &tree::snapshot(&node)) {
        Ok(Set::New) => tree::state_is_clean(&node).and_then(|()| tree::nothing_half_made(&node)).map(|()| set),
        Ok(Set::Old) => Err("the next renew said it had renewed and did not".to_owned()),
        Err(why) => Err(format!("after the next renew: {why}")),
    }
}

/// A kill loses nothing of what was written, so that nodes whose files have the same names and whose ledgers say the same
/// are the same: of those, three and then each tenth are renewed again, which takes half of the time.
fn is_known(node: &Path, set: Set) -> bool {
    static SEEN: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap();
    let times = seen.entry(format!("{set:?} {:?}", tree::shape_of_state(node))).or_default();
    *times += 1;
    *times > 3 && !times.is_multiple_of(10)
}

fn run(node: &Path, args: &[&str], codes: &[i32], says: &str) -> Result<Ended, String> {
    let ended = strace::end(strace::certwarden(node, args));
    let fits = ended.code.is_some_and(|c| codes.contains(&c)) && ended.text.contains(says);
    if fits { Ok(ended) } else { Err(format!("{}: exit {:?}: {:.600}", args[0], ended.code, ended.text)) }
}
