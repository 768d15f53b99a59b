//! Containers that came and went since the new files are in place: are they in a crash loop, and what were their last words?

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::Host;
use crate::host::cri::{Container, Exit};
use crate::model::plain;

use super::container::Who;
use crate::txn::run::Run;

/// So many containers that ended since the swap are a crash loop: the third comes after 10 s of the kubelet's back-off.
const LOOP: usize = 3;
/// Where the kubelet keeps the logs of pods (kubernetes: `podLogsRootDirectory`).
const POD_LOGS: &str = "/var/log/pods";
/// Of a log, its end: a component that cannot start says why in its last lines, after some pages of flags.
const LOG_END: u64 = 64 << 10;
/// Characters of a log line that fit into a sentence.
const WORDS: usize = 160;

/// Containers that came and went since the swap.
#[derive(Debug)]
pub struct Exits<'a> {
    host: &'a Host,
    socket: Option<PathBuf>,
    who: Who,
    since: i128,
    /// Whether a crash loop ends a wait: on the way back, and in the dark, every minute is given.
    decides: bool,
    /// The kubelet removes all but the last: those that were seen count.
    ended: RefCell<BTreeSet<String>>,
    /// How the last of them ended, asked when it was first seen: soon it may be gone, and its log with it.
    how: RefCell<Option<String>>,
}

impl<'a> Exits<'a> {
    pub fn of(run: &Run<'a>, who: &Who) -> Self {
        Self {
            host: run.engine.host,
            socket: run.engine.inventory.node.kubelet.cri_socket.clone(),
            decides: !run.going_back && who.was_well(run),
            who: who.clone(),
            since: run.swapped_at.as_nanosecond(),
            ended: RefCell::default(),
            how: RefCell::default(),
        }
    }

    /// Whether it is in a crash loop, as far as that is ours to judge.
    pub fn looping(&self) -> bool {
        self.decides && self.count() >= LOOP
    }

    pub(super) fn count(&self) -> usize {
        let Some(socket) = &self.socket else { return 0 };
        let listed = self.host.runtime.containers(socket, &self.who.container).unwrap_or_default();
        let new = |c: &&Container| i128::from(c.created_ns) > self.since && self.who.before.as_ref() != Some(&c.id);
        let mut ended = self.ended.borrow_mut();
        // the list has the newest first
        for c in listed.iter().rev().filter(new).filter(|c| !c.running) {
            if ended.insert(c.id.clone()) {
                let exit = self.host.runtime.exit(socket, &c.id).ok().flatten();
                let how = exit.map(|e| self.describe(&e)).or_else(|| self.left_behind(&c.pod));
                if how.is_some() {
                    *self.how.borrow_mut() = how;
                }
            }
        }
        ended.len()
    }

    /// What is said of them, if there are any: `its new container ended again and again: …`.
    pub fn sentence(&self) -> Option<String> {
        let often = match self.count() {
            0 => return None,
            1 => "once",
            _ => "again and again",
        };
        let how = self.how.borrow().clone().unwrap_or_else(|| "it is not known how".to_owned());
        Some(format!("its new container ended {often}: {how}"))
    }

    fn describe(&self, exit: &Exit) -> String {
        let log = exit.log.as_deref().and_then(|path| self.last_words(path));
        let words = Some(exit.message.clone()).filter(|m| !m.is_empty()).or(log);
        let words = words.map(|w| format!(", {w}")).unwrap_or_default();
        format!("exit code {} ({}){words}", exit.code, exit.reason)
    }

    /// The runtime knows nothing any more of a container that was seen dead: the newest log of its pod may still be there
    /// (kubernetes: `pkg/kubelet/kuberuntime/helpers.go:BuildContainerLogsDirectory`, `NAMESPACE_POD_UID/CONTAINER/N.log`).
    fn left_behind(&self, pod: &str) -> Option<String> {
        let root = &self.host.root;
        let logs = Path::new(POD_LOGS);
        let prefix = format!("{}_{pod}_", self.who.container.namespace);
        let names = root.list(logs).ok()?.into_iter().filter(|name| name.starts_with(&prefix));
        let of = |name: String| {
            let dir = logs.join(name).join(&self.who.container.name);
            root.list(&dir).unwrap_or_default().into_iter().map(move |file| dir.join(file))
        };
        let dated = names.flat_map(of).filter_map(|path| {
            let written = root.metadata(&path).ok()?.modified().ok()?;
            let since = Timestamp::try_from(written).ok()?.as_nanosecond() > self.since;
            since.then_some((written, path))
        });
        let (_, newest) = dated.max()?;
        Some(format!("its log ends with: {}", self.last_words(&newest)?))
    }

    /// The line of a log that most probably says why.
    fn last_words(&self, log: &Path) -> Option<String> {
        let log = self.host.root.read_end(log, LOG_END).ok()?;
        // `time stream tag text` (kubernetes: `pkg/kubelet/kuberuntime/logs/logs.go`)
        let lines: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
        let telling = |l: &&&str| ["rror", "panic", "fatal"].iter().any(|word| l.contains(word));
        let line = lines.iter().rev().find(telling).or(lines.last())?;
        Some(plain::line(line, WORDS))
    }
}
