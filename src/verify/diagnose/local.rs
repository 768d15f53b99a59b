//! What root sees on the node itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::host::exec::Program;
use crate::host::{journalctl, tls};
use crate::model::component::Component;
use crate::model::diagnose::facts::{By, Change, Clock, Kubelet, Part, Seen, Socket, Unit};
use crate::model::diagnose::klog::{self, Hits};
use crate::model::inventory::Role;
use crate::model::plain;
use crate::model::wiring;
use crate::verify::gates::kubelet_binary;
use crate::verify::health::health;

use super::{Look, server};

/// For a handshake or a health endpoint on this node.
const LOCAL: Duration = Duration::from_secs(3);
/// A kubelet whose rotation failed yesterday at this time has said so within it.
const LOG_WINDOW: SignedDuration = SignedDuration::from_hours(25);
/// What is older has been lived with.
const CHANGE_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A log's last words.
const LOG_END: u64 = 16 << 10;
/// Of a component that is not healthy.
const LAST_WORDS: usize = 3;

pub(super) fn clock(look: Look<'_>, must_be: bool, last_seen: Option<Timestamp>) -> Clock {
    let synchronised = look.host.live.then(|| look.host.services.clock_synchronised()).flatten();
    Clock { synchronised, must_be: must_be && look.host.live, last_seen, server_ahead: None }
}

pub(super) fn unit(look: Look<'_>) -> Seen<Unit> {
    if let Some(unseen) = look.unseen() {
        return unseen;
    }
    let name = &look.inventory.node.kubelet.unit;
    match look.host.services.status(name) {
        Ok(status) => {
            let runs = status.is_running();
            let words = if runs { Vec::new() } else { look.host.services.log_tail(name, &status.invocation_id) };
            let unit = Unit {
                name: name.clone(),
                load_state: status.load_state,
                active_state: status.active_state,
                sub_state: status.sub_state,
                result: status.result,
                restarts: status.n_restarts,
                exit: status.exec_main_status,
                last_words: words
                    .into_iter()
                    .map(|w| plain::line(&w, plain::SENTENCE))
                    .filter(|w| !w.trim().is_empty())
                    .collect(),
            };
            Seen::Known(unit, By::Root)
        }
        Err(e) => Seen::Unseen(e.to_string()),
    }
}

pub(super) fn journal(look: Look<'_>) -> Seen<Hits> {
    if let Some(unseen) = look.unseen() {
        return unseen;
    }
    (look.progress)("reading the kubelet's log");
    let now = look.host.clock.now();
    let since = now.checked_sub(LOG_WINDOW).unwrap_or(now);
    let unit = &look.inventory.node.kubelet.unit;
    match journalctl::unit(look.host.programs.as_ref(), unit, since, &klog::search()) {
        Ok(lines) => {
            let mut hits = klog::hits(lines.iter().filter_map(|l| klog::parse(l)));
            // what was looked at begins earlier than the first line that was found
            hits.since = hits.since.map(|first| first.min(since)).or(Some(since));
            Seen::Known(hits, By::Root)
        }
        Err(why) => Seen::Unseen(why),
    }
}

pub(super) fn kubelet(look: Look<'_>) -> Kubelet {
    let known = &look.inventory.node.kubelet;
    let current = &known.identity.current;
    let (free, read_only) = if current.as_os_str().is_empty() { (None, false) } else { server::room(look, current) };
    Kubelet {
        unit: known.unit.clone(),
        present: known.kubeconfig.is_some() || look.inventory.node.role != Role::Unknown,
        rotates: known.rotate_certificates,
        server_tls_bootstrap: known.server_tls_bootstrap,
        identity: known.identity.clone(),
        choice: look.assessment.identity.clone(),
        trusts_ca_on_disk: server::trusts_ca_on_disk(look),
        free,
        read_only,
        replaced: look.host.live && kubelet_binary(look.host, look.inventory).is_some(),
    }
}

/// The static pods, by the container runtime and by their own health endpoints.
pub(super) fn parts(look: Look<'_>) -> Vec<Part> {
    if !look.host.live {
        return Vec::new();
    }
    look.inventory.node.static_pods.keys().map(|component| part(look, *component)).collect()
}

fn part(look: Look<'_>, component: Component) -> Part {
    (look.progress)(&format!("asking {component}"));
    let (running, told, last_words) = container(look, component);
    let url = wiring::health_url(&look.inventory.node, component);
    // its certificate is another step's question
    let seen = url.map(|url| health(look.host, component, &url, None, None, LOCAL));
    let detail = match (&seen, running) {
        (Some(seen), _) if seen.ok => seen.detail.clone(),
        (Some(seen), Some(true) | None) => format!("{told}, and {}", plain::line(&seen.detail, plain::SENTENCE)),
        _ => told,
    };
    Part { component, running, healthy: seen.map(|s| s.ok), detail, last_words }
}

fn container(look: Look<'_>, component: Component) -> (Option<bool>, String, Vec<String>) {
    let node = &look.inventory.node;
    let (Some(pod), Some(socket)) = (node.static_pods.get(&component), node.kubelet.cri_socket.as_deref()) else {
        return (None, "its container cannot be asked for".to_owned(), Vec::new());
    };
    let all = match look.host.runtime.containers(socket, &pod.container) {
        Ok(all) => all,
        Err(e) => return (None, e.to_string(), Vec::new()),
    };
    if all.iter().any(|c| c.running) {
        return (Some(true), "its container runs".to_owned(), Vec::new());
    }
    let Some(last) = all.first() else {
        return (Some(false), "it has no container".to_owned(), Vec::new());
    };
    let Ok(Some(exit)) = look.host.runtime.exit(socket, &last.id) else {
        return (Some(false), "its container does not run".to_owned(), Vec::new());
    };
    let log = exit.log.and_then(|path| look.host.root.read_end(&path, LOG_END).ok()).unwrap_or_default();
    // `time stream tag text` (kubernetes: `pkg/kubelet/kuberuntime/logs/logs.go`)
    let lines: Vec<String> =
        log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).map(|w| plain::line(w, plain::SENTENCE)).collect();
    let words = lines.iter().rev().take(LAST_WORDS).rev().cloned().collect();
    (
        Some(false),
        format!("its container ended with code {} ({}), attempt {}", exit.code, exit.reason, last.attempt),
        words,
    )
}

pub(super) fn sockets(look: Look<'_>) -> Vec<Socket> {
    if !look.host.live {
        return Vec::new();
    }
    (look.progress)("looking at what is served");
    let wanted = wiring::sockets(look.inventory).into_iter().filter(|s| s.name.is_none());
    let seen = wanted.filter_map(|s| {
        let on_disk = look.inventory.get(&s.entry)?.leaf()?.serial.clone();
        let served = tls::served_leaf(&s.address, None, None, LOCAL).ok().map(|l| l.serial);
        Some(Socket { component: s.component, address: s.address, entry: s.entry, on_disk, served })
    });
    seen.collect()
}

/// What was written within the last week. Programs by ctime: packages bring an mtime of their own.
pub(super) fn changes(look: Look<'_>) -> Vec<Change> {
    let node = &look.inventory.node;
    let mut files: Vec<(PathBuf, &str)> = vec![
        ("/var/lib/kubelet/config.yaml".into(), "the kubelet's configuration was written"),
        ("/var/lib/kubelet/kubeadm-flags.env".into(), "the kubelet's flags were written"),
    ];
    files.extend(node.kubelet.kubeconfig.clone().map(|p| (p, "the kubelet's kubeconfig was written")));
    files.extend(
        look.inventory
            .entries
            .iter()
            .filter(|e| e.is_ca())
            .map(|e| (e.path().to_path_buf(), "a CA was written: ca.crt may have been replaced")),
    );
    files.extend(node.static_pods.values().map(|p| (p.manifest.clone(), "a static pod's manifest was written")));
    let written = files.into_iter().filter_map(|(path, what)| changed(look, &path, what, false));
    let programs = [(Program::Kubelet, "the kubelet was installed"), (Program::Kubeadm, "kubeadm was installed")];
    let installed = programs.into_iter().filter_map(|(program, what)| {
        let path = look.host.programs.path(program).filter(|_| look.host.live)?;
        changed(look, &path, what, true)
    });
    written.chain(installed).collect()
}

fn changed(look: Look<'_>, path: &Path, what: &str, program: bool) -> Option<Change> {
    let meta = look.host.root.metadata(path).ok()?;
    let at = Timestamp::from_second(if program { meta.ctime() } else { meta.mtime() }).ok()?;
    let age = look.host.clock.now().duration_since(at);
    (!age.is_negative() && age < CHANGE_WINDOW).then(|| Change { at, what: format!("{what} ({})", path.display()) })
}
