//! Whose a container is, and the containers that came and went since the new files are in place: are they in a crash loop, and
//! what were their last words?

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::host::Host;
use crate::host::cri::{Container, Exit};
use crate::model::component::Component;
use crate::model::inventory::ContainerRef;
use crate::model::plain;
use crate::model::report::Consumer;
use crate::txn::run::Run;
use crate::txn::stop::Stop;

/// As the kubelet gives a static pod (kubernetes: `DefaultTerminationGracePeriodSeconds`).
pub const GRACE: Duration = Duration::from_secs(30);
/// A container that was made again and has run for less than this was in a crash loop lately: after so long the kubelet
/// forgets its back-off (kubernetes: `client-go/util/flowcontrol/backoff.go`, twice the longest).
const STEADY: Duration = Duration::from_secs(10 * 60);
/// So many containers that ended since the swap are a crash loop: the third comes after 10 s of the kubelet's back-off.
const LOOP: usize = 3;
/// Where the kubelet keeps the logs of pods (kubernetes: `podLogsRootDirectory`).
const POD_LOGS: &str = "/var/log/pods";
/// Of a log, its end: a component that cannot start says why in its last lines, after some pages of flags.
const LOG_END: u64 = 64 << 10;
/// Characters of a log line that fit into a sentence.
const WORDS: usize = 160;

/// Whose container it is.
#[derive(Clone, Debug)]
pub struct Who {
    pub consumer: Consumer,
    pub component: Option<Component>,
    pub container: ContainerRef,
    /// The id of the container that ran before anything was touched.
    pub before: Option<String>,
    /// It is known that none ran.
    pub was_down: bool,
}

impl Who {
    /// # Errors
    /// If the component is no static pod of this node.
    pub fn component(run: &Run<'_>, component: Component) -> Result<Self, Stop> {
        let pod = run.context.inventory.node.static_pods.get(&component);
        let pod = pod.ok_or_else(|| Stop::Failed(format!("{component} is no static pod of this node")))?;
        Ok(Self {
            consumer: component.into(),
            component: Some(component),
            container: pod.container.clone(),
            before: run.before.container(component).cloned(),
            was_down: run.before.was_down(component),
        })
    }

    pub fn other(run: &Run<'_>, container: &ContainerRef) -> Self {
        let before = run.before.others.as_ref().map(|o| o.get(&container.to_string()).cloned());
        Self {
            consumer: Consumer::Other(container.to_string()),
            component: None,
            container: container.clone(),
            was_down: before == Some(None),
            before: before.flatten(),
        }
    }

    /// Whether it was down before although its certificates were good: what ails it is none of our business.
    pub fn is_excused(&self, run: &Run<'_>) -> bool {
        self.was_down && run.old_still_work(run.live.swapped_at)
    }

    /// Whether it may stay away when it was asked to come back. So may a pod that is none of the components, if it was ill
    /// before, or if there is nothing to go back to: the node does not need it to be well.
    pub fn may_stay_away(&self, run: &Run<'_>, old: Option<&Container>) -> bool {
        if self.component.is_some() {
            return old.is_none() && self.is_excused(run);
        }
        let fresh = |c: &Container| {
            let age = run.live.swapped_at.as_nanosecond().saturating_sub(i128::from(c.created_ns));
            c.attempt > 0 && age < STEADY.as_nanos().cast_signed()
        };
        self.was_down || old.is_some_and(fresh) || !run.old_still_work(run.live.swapped_at)
    }

    /// Whether what happens to it now is our doing: it was well before, and so was what it needs. In the dark it may
    /// crash until the others are back.
    fn was_well(&self, run: &Run<'_>) -> bool {
        let served = |c| run.before.sockets.iter().any(|s| s.component == Some(c) && s.answered);
        let well = match self.component {
            Some(c @ (Component::Etcd | Component::KubeApiserver)) => served(c),
            _ => run.before.node.is_some(),
        };
        well && self.before.is_some() && run.old_still_work(run.live.swapped_at)
    }
}

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
            host: run.context.host,
            socket: run.context.inventory.node.kubelet.cri_socket.clone(),
            decides: !run.live.going_back && who.was_well(run),
            who: who.clone(),
            since: run.live.swapped_at.as_nanosecond(),
            ended: RefCell::default(),
            how: RefCell::default(),
        }
    }

    /// Whether it is in a crash loop, as far as that is ours to judge.
    pub fn looping(&self) -> bool {
        self.decides && self.count() >= LOOP
    }

    pub fn count(&self) -> usize {
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

/// Where the container runtime is asked.
pub fn cri_socket(run: &Run<'_>) -> Result<PathBuf, Stop> {
    run.context.inventory.node.kubelet.cri_socket.clone().ok_or_else(|| {
        // it was known when the transaction began: the kubelet's directory may not be mounted yet
        Stop::Passing(
            "the container runtime's socket is not known; set containerRuntimeEndpoint in the kubelet's configuration"
                .to_owned(),
        )
    })
}

/// The newest running container of a list that has the newest first.
pub fn newest_running(list: &[Container]) -> Option<Container> {
    list.iter().find(|c| c.running).cloned()
}
