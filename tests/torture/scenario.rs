//! What is tortured: a command on a tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::strace::{self, Ended, Point};
use crate::support::DAY;
use crate::tree::{self, Snapshot};

/// A command on a tree that is always made anew.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub args: &'static [&'static str],
    template: PathBuf,
    pub before: Snapshot,
    /// The files that a clean run changes.
    pub targets: BTreeSet<PathBuf>,
    /// Each call at which it can be interrupted, with the injections that bring it there.
    pub points: Vec<(Point, Vec<String>)>,
    pub next: Next,
}

/// What is run after the recovery, to see that nothing is in the way of it.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// It always makes new ones.
    Renew(&'static [&'static str]),
    /// It does so where the recovery led back; nothing is to be done where it led forward.
    Repair(&'static [&'static str]),
}

const ALL: &[&str] = &["renew", "--all"];
const SERVING: &[&str] = &["renew", "kubelet-serving"];
const CLIENT: &[&str] = &["renew", "kubelet-client"];

/// All commands that write: a renewal up to its retention, one that goes forward only (the old set has expired), one whose
/// commit fails so that it rolls back, a rollback to an earlier generation; the kubelet's own: its self-signed pair, a new file
/// with the links to it where there was nothing good, links alone and their way back.
pub fn all(dir: &Path) -> Vec<Scenario> {
    let template = |name: &str, left: i64, change: fn(&Path)| {
        let at = dir.join(name);
        tree::build(&at, left);
        change(&at);
        at
    };
    let (valid, expired) = (template("valid", 3 * DAY, |_| {}), template("expired", -DAY, |_| {}));
    let lost = template("lost", 300 * DAY, |root| {
        tree::lose_the_identity(root);
        tree::obstruct(root);
    });
    let obstructed = template("obstructed", 300 * DAY, tree::obstruct);
    vec![
        Scenario::clean("renew", ALL, &valid, dir, Next::Renew(ALL)),
        Scenario::failing("renew that rolls back", ALL, &valid, dir, Next::Renew(ALL)),
        Scenario::clean("renew of an expired set", ALL, &expired, dir, Next::Renew(ALL)),
        Scenario::clean("rollback ID", &["rollback"], &valid, dir, Next::Renew(ALL)),
        Scenario::clean("renew of the kubelet's self-signed pair", SERVING, &valid, dir, Next::Renew(SERVING)),
        Scenario::clean("repair of the kubelet's lost identity", CLIENT, &lost, dir, Next::Repair(CLIENT)),
        Scenario::failing("repair of its links that rolls back", CLIENT, &obstructed, dir, Next::Repair(CLIENT)),
    ]
}

impl Scenario {
    fn clean(name: &'static str, args: &'static [&'static str], template: &Path, dir: &Path, next: Next) -> Self {
        let (points, targets, before) = traced(args, template, dir, &[], 0);
        let points = points.into_iter().map(|p| (p, Vec::new())).collect();
        Self { name, args, template: template.to_path_buf(), before, targets, points, next }
    }

    /// With an error in the commit: of the first sync behind the renames, and of a rename where the syncs are swept, since
    /// strace takes one injection for each call.
    fn failing(name: &'static str, args: &'static [&'static str], template: &Path, dir: &Path, next: Next) -> Self {
        let (clean, targets, before) = traced(args, template, dir, &[], 0);
        let renames: Vec<&Point> = clean.iter().filter(|p| p.is_live_rename()).collect();
        let last = clean.iter().rposition(|p| Some(&p) == renames.last()).unwrap();
        let sync = clean[last..].iter().find(|p| p.call == "fsync").unwrap().fail("EIO");
        let rename = renames[renames.len() / 2].fail("EIO");
        let by = |inject: &String| vec![inject.clone()];
        let of_sync = traced(args, template, dir, &by(&sync), 2).0;
        let of_rename = traced(args, template, dir, &by(&rename), 2).0;
        let other = of_sync.into_iter().filter(|p| p.call != "fsync").map(|p| (p, by(&sync)));
        let syncs = of_rename.into_iter().filter(|p| p.call == "fsync").map(|p| (p, by(&rename)));
        let points = other.chain(syncs).collect();
        Self { name, args, template: template.to_path_buf(), before, targets, points, next }
    }

    /// The tree as it was, at `node`.
    pub fn prepare(&self, node: &Path) {
        tree::copy(&self.template, node);
    }

    /// Of the kubelet's own, which are much like the others, a sample is smaller.
    pub fn sampled(&self, points: usize) -> usize {
        if self.args.iter().any(|a| a.starts_with("kubelet-")) { points.div_ceil(4) } else { points }
    }

    /// The calls that only open, too.
    pub fn points_with_opens(&self, dir: &Path) -> Vec<Point> {
        let node = dir.join("clean");
        self.prepare(&node);
        strace::points(&node, self.args, &[], true).0
    }
}

/// The calls of a run, what it changed, and what was there before.
fn traced(
    args: &[&str],
    template: &Path,
    dir: &Path,
    inject: &[String],
    code: i32,
) -> (Vec<Point>, BTreeSet<PathBuf>, Snapshot) {
    let node = dir.join("clean");
    tree::copy(template, &node);
    let before = tree::snapshot(&node);
    let (points, Ended { code: was, text, .. }) = strace::points(&node, args, inject, false);
    assert_eq!(was, Some(code), "{args:?}: {text}");
    (points, tree::changed(&before, &tree::snapshot(&node)), before)
}
