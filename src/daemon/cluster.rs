//! Tells the cluster: Events on the Node, and, where it is wanted, annotations and a condition. On a thread of its own with
//! short time limits: whatever the API server does or does not, the engine and the loop wait for nothing here.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::host::fs::{MAX_FILE, Root};
use crate::host::kube::{Answer, Connection, Https, KubeApi};
use crate::model::event::News;
use crate::model::event::outbox::{Delivery, Outbox};
use crate::model::inventory::{Form, Inventory};
use crate::model::plain;
use crate::model::policy::Cluster as Wanted;
use crate::model::repair::CLIENT;
use crate::observe::{CheckSeen, Status, Verdict};
use crate::verify::material::material;

/// What is to be told and has been, for the next start.
const KEPT: &str = "/var/lib/certwarden/events.json";
/// Some two dozen Events of 1 kB.
const MOST_KEPT: u64 = 1 << 20;
const EVENTS: &str = "/api/v1/namespaces/default/events";
const MERGE: &str = "application/merge-patch+json";
/// Conditions are merged by their type.
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// For one request; a slow API server is asked again later.
const LIMIT: Duration = Duration::from_secs(3);
/// Between attempts while something could not be delivered.
const RETRY: Duration = Duration::from_secs(60);
/// As often as node-problem-detector's heartbeat (`--k8s-exporter-heartbeat-period`).
const HEARTBEAT: Duration = Duration::from_secs(300);
/// Messages that wait; more are dropped, the next look says it all again.
const QUEUE: usize = 16;

/// Where and as whom, as of the last look; files are read anew for each attempt, since they rotate.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub node: String,
    pub server: String,
    pub ca: PathBuf,
    /// The kubelet's own credential.
    pub identity: Form,
}

impl Target {
    /// None where the kubelet has no credential to ask with.
    pub fn of(inventory: &Inventory) -> Option<Self> {
        Some(Self {
            node: inventory.node.name.clone()?,
            server: inventory.node.kubelet.identity.server.clone()?,
            ca: inventory.get("ca")?.path().to_path_buf(),
            identity: inventory.get(CLIENT).filter(|e| e.leaf().is_some())?.form.clone(),
        })
    }
}

/// What there is to tell.
#[derive(Debug)]
enum Message {
    Looked { target: Option<Target>, lasting: Vec<News>, wanted: Wanted, state: Box<State> },
    Happened(News),
}

/// What annotations and the condition are made of.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    check: Option<CheckSeen>,
    next: Option<Timestamp>,
    renewed: Option<Timestamp>,
}

/// The daemon's end of it.
#[derive(Debug)]
pub(super) struct Cluster {
    queue: Option<SyncSender<Message>>,
}

impl Cluster {
    /// Without a running system there is no cluster to tell; without the thread nobody is told, and nothing else is missing.
    pub(super) fn start(root: &Root) -> Self {
        if !root.is_live() {
            return Self { queue: None };
        }
        let (queue, messages) = sync_channel(QUEUE);
        let run = move || {
            if let Ok(root) = Root::open(Path::new("/")) {
                let outbox = kept(&root);
                Teller {
                    root,
                    kube: Box::new(Https),
                    kept: outbox.clone(),
                    outbox,
                    target: None,
                    wanted: Wanted::default(),
                    state: State::default(),
                    patched: None,
                }
                .run(&messages);
            }
        };
        let started = std::thread::Builder::new().name("cluster".into()).spawn(run);
        Self { queue: started.is_ok().then_some(queue) }
    }

    /// After a look. Never waits.
    pub(super) fn looked(&self, target: Option<Target>, lasting: Vec<News>, wanted: Wanted, status: &Status) {
        let renewed = status.last_transaction.as_ref().filter(|t| !t.renewed.is_empty()).map(|t| t.ended_at);
        let state = State { check: status.last_check.clone(), next: status.next_check, renewed };
        self.send(Message::Looked { target, lasting, wanted, state: Box::new(state) });
    }

    pub(super) fn happened(&self, news: News) {
        self.send(Message::Happened(news));
    }

    fn send(&self, message: Message) {
        if let Some(queue) = &self.queue {
            // full: the API server hangs; what lasts is said again at the next look
            let _ = queue.try_send(message);
        }
    }
}

/// The thread's end of it.
struct Teller {
    root: Root,
    kube: Box<dyn KubeApi>,
    outbox: Outbox,
    /// As it is on the disk.
    kept: Outbox,
    target: Option<Target>,
    wanted: Wanted,
    state: State,
    /// What was patched last, and when.
    patched: Option<(Value, Instant)>,
}

/// Empty if there is none, or none that can be read.
fn kept(root: &Root) -> Outbox {
    let text = root.read(Path::new(KEPT), MOST_KEPT).ok();
    text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
}

/// The API server did not take it; another attempt follows.
struct Later(String);

impl Teller {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut wait = HEARTBEAT;
        loop {
            match messages.recv_timeout(wait) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(message) = messages.try_recv() {
                self.take(message);
            }
            let told = self.tell();
            self.keep();
            wait = match told {
                Ok(()) => HEARTBEAT,
                Err(Later(why)) => {
                    tracing::debug!("the cluster could not be told: {why}");
                    RETRY
                }
            };
        }
    }

    fn take(&mut self, message: Message) {
        let now = Timestamp::now();
        match message {
            Message::Looked { target, lasting, wanted, state } => {
                self.outbox.look(lasting, now);
                (self.target, self.wanted, self.state) = (target, wanted, *state);
            }
            Message::Happened(news) => self.outbox.happened(news, now),
        }
    }

    /// Best effort: without it the next start makes a second Event of what lasts.
    fn keep(&mut self) {
        if self.outbox == self.kept {
            return;
        }
        let written =
            serde_json::to_vec(&self.outbox).is_ok_and(|j| self.root.write(Path::new(KEPT), &j, 0o600).is_ok());
        if written {
            self.kept.clone_from(&self.outbox);
        }
    }

    fn tell(&mut self) -> Result<(), Later> {
        let Some(target) = self.target.clone() else { return Ok(()) };
        let now = Timestamp::now();
        let quiet = self.outbox.is_empty() || !self.wanted.events;
        if quiet && !self.wanted.annotations && !self.wanted.condition {
            return Ok(()); // a healthy node asks nobody
        }
        let to = self.connection(&target)?;
        if !quiet {
            self.deliver(&to, &target, now)?;
        }
        self.patch(&to, &target, now)
    }

    fn connection(&self, target: &Target) -> Result<Connection, Later> {
        let found =
            material(&target.identity, &|path| self.root.read_secret(path)).map_err(|e| Later(e.to_string()))?;
        Ok(Connection {
            server: target.server.clone(),
            ca: Some(self.root.read(&target.ca, MAX_FILE).map_err(|e| Later(e.to_string()))?),
            identity: Some(found.identity()),
            headers: Vec::new(),
            limit: LIMIT,
        })
    }

    fn deliver(&mut self, to: &Connection, target: &Target, now: Timestamp) -> Result<(), Later> {
        for delivery in self.outbox.due(&target.node, now) {
            let answer = match &delivery {
                Delivery::Create { event, .. } => self.kube.post(to, EVENTS, &event.to_string()),
                Delivery::Repeat { name, patch, .. } => {
                    self.kube.patch(to, &format!("{EVENTS}/{name}"), MERGE, &patch.to_string())
                }
            };
            match answer.map_err(|e| Later(e.to_string()))? {
                Answer { status: 200..=299, .. } => self.outbox.delivered(&delivery, now),
                Answer { status: 404, .. } => self.outbox.gone(delivery.key()),
                Answer { status: status @ (400 | 403 | 409 | 422), body } => {
                    // it will not be taken however often it is sent
                    let body = plain::line(&body, plain::CLAUSE);
                    tracing::debug!("the API server answers {status} to an event: {body}");
                    self.outbox.delivered(&delivery, now);
                }
                Answer { status, .. } => return Err(Later(format!("the API server answers {status}"))),
            }
        }
        Ok(())
    }

    /// Annotations when they change, the condition also as a sign of life.
    fn patch(&mut self, to: &Connection, target: &Target, now: Timestamp) -> Result<(), Later> {
        if !self.wanted.annotations && !self.wanted.condition {
            return Ok(());
        }
        let wanted = json!([annotations(&self.state), condition(&self.state, None, now)]);
        let changed = self.patched.as_ref().is_none_or(|(last, _)| *last != wanted);
        let beat = self.patched.as_ref().is_none_or(|(_, at)| at.elapsed() >= HEARTBEAT);
        if self.wanted.annotations && changed {
            let body = json!({"metadata": {"annotations": annotations(&self.state)}});
            self.patch_node(to, &target.node, "", MERGE, &body)?;
        }
        if self.wanted.condition && (changed || beat) {
            // the time of a transition is that of the status, not of its words
            let before = self.patched.as_ref().and_then(|(last, _)| last.get(1)?.get("status").cloned());
            let turned = before.as_ref() != wanted.get(1).and_then(|c| c.get("status"));
            let body = json!({"status": {"conditions": [condition(&self.state, Some(turned), now)]}});
            self.patch_node(to, &target.node, "/status", STRATEGIC, &body)?;
        }
        if changed || beat {
            self.patched = Some((wanted, Instant::now()));
        }
        Ok(())
    }

    fn patch_node(&self, to: &Connection, node: &str, sub: &str, kind: &str, body: &Value) -> Result<(), Later> {
        let answer = self.kube.patch(to, &format!("/api/v1/nodes/{node}{sub}"), kind, &body.to_string());
        match answer.map_err(|e| Later(e.to_string()))?.status {
            200..=299 => Ok(()),
            status => Err(Later(format!("the API server answers {status} to a patch of the Node"))),
        }
    }
}

/// The API server takes 32 KiB; who lists Nodes reads one line of it.
const LONGEST_MESSAGE: usize = 1000;

/// Null takes an annotation away (RFC 7386).
fn annotations(state: &State) -> Value {
    let time = |t: Option<Timestamp>| t.map(|t| format!("{t:.0}"));
    let end = state.check.as_ref().and_then(|c| c.next_end.as_ref());
    json!({
        "certwarden.io/earliest-expiry": time(end.map(|e| e.at)),
        "certwarden.io/next-action": time(state.next),
        "certwarden.io/last-renewal": time(state.renewed),
        "certwarden.io/version": env!("CARGO_PKG_VERSION"),
    })
}

/// Named for the problem, as node-problem-detector has them: `True` is bad. `beat`: with times, and whether it has changed.
fn condition(state: &State, beat: Option<bool>, now: Timestamp) -> Value {
    let check = state.check.as_ref();
    let worst = check.and_then(|c| c.attention.first());
    let (status, reason) = match check.map(|c| c.verdict) {
        Some(Verdict::Ok) => ("False", "CertificatesAreHealthy"),
        Some(Verdict::Warning) => ("False", "CertificatesNeedAttention"),
        Some(Verdict::Critical) => ("True", "CertificateProblem"),
        Some(Verdict::Unknown) | None => ("Unknown", "CertificatesCannotBeRead"),
    };
    let message =
        worst.map_or("all certificates of this node are valid".to_owned(), |a| format!("{}: {}", a.name, a.message));
    let message = plain::line(&message, LONGEST_MESSAGE);
    let mut condition = json!({"type": "CertificateProblem", "status": status, "reason": reason, "message": message});
    if let (Some(changed), Some(map)) = (beat, condition.as_object_mut()) {
        map.insert("lastHeartbeatTime".into(), json!(format!("{now:.0}")));
        if changed {
            map.insert("lastTransitionTime".into(), json!(format!("{now:.0}")));
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Attention;

    fn state(verdict: Verdict) -> State {
        let attention = match verdict {
            Verdict::Ok => Vec::new(),
            _ => vec![Attention { name: "apiserver".into(), verdict, message: "expired".into() }],
        };
        let check = CheckSeen {
            at: Timestamp::UNIX_EPOCH,
            verdict,
            certificates: 1,
            next_end: None,
            attention,
            unfinished: false,
            waits: None,
            paused: None,
        };
        State { check: Some(check), ..State::default() }
    }

    #[test]
    fn the_condition_is_true_only_for_what_is_a_problem_now() {
        let told = |v| {
            let c = condition(&state(v), None, Timestamp::UNIX_EPOCH);
            (c["status"].as_str().unwrap().to_owned(), c["message"].as_str().unwrap().to_owned())
        };
        assert_eq!(told(Verdict::Ok).0, "False");
        assert_eq!(told(Verdict::Warning).0, "False", "a certificate that is due must not get a node replaced");
        assert_eq!(told(Verdict::Critical), ("True".to_owned(), "apiserver: expired".to_owned()));
        assert_eq!(told(Verdict::Unknown).0, "Unknown");
        let mut evil = state(Verdict::Critical);
        if let Some(worst) = evil.check.as_mut().and_then(|c| c.attention.first_mut()) {
            worst.name = format!("\u{1b}[2J\u{202e}{}", "x".repeat(100_000));
        }
        let message = condition(&evil, None, Timestamp::UNIX_EPOCH)["message"].as_str().unwrap().to_owned();
        assert!(message.chars().all(plain::is_plain) && message.chars().count() == LONGEST_MESSAGE, "{message}");
        let beat = condition(&state(Verdict::Ok), Some(false), Timestamp::UNIX_EPOCH);
        assert!(beat.get("lastHeartbeatTime").is_some() && beat.get("lastTransitionTime").is_none());
    }

    #[test]
    fn an_annotation_without_a_value_is_taken_away() {
        let all = annotations(&State::default());
        assert!(all["certwarden.io/last-renewal"].is_null());
        assert_eq!(all["certwarden.io/version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_full_queue_or_no_thread_at_all_keeps_nobody_waiting() {
        let (queue, _messages) = sync_channel(1);
        for cluster in [Cluster { queue: Some(queue) }, Cluster { queue: None }] {
            for n in 0..100 {
                let note = String::new();
                cluster.happened(News {
                    reason: crate::model::event::Reason::CertificateRenewed,
                    about: n.to_string(),
                    note,
                });
            }
        }
    }
}
