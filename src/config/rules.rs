//! Stage three: what must hold of a value beyond its type, and between values.

mod probes;

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::error::{Fault, Problem};
use super::merge::Merged;
use super::{MAIN_FILE, Origin};
use crate::host::zone::zone;
use crate::model::fleet::lease::LONGEST;
use crate::model::fleet::window::Windows;
use crate::model::policy::{Policy, Renewer, Span};

/// A look reads some dozen files; more often than this it only costs power.
const SHORTEST_INTERVAL: Span = Span::secs(60);
/// Each look is a list of the API server.
const SHORTEST_APPROVAL: Span = Span::secs(5);
/// kubernetes: `pkg/apis/certificates/validation/validation.go`, the least that a request may ask for.
const SHORTEST_LIFE: Span = Span::secs(600);
/// An answer of the API server may take so long.
const SHORTEST_REQUEST: Span = Span::secs(5);
/// As a kubelet does (client-go: `util/certificate/certificate_manager.go`); nothing else is renewed meanwhile.
const LONGEST_REQUEST: Span = Span::secs(15 * 60);
/// A kubelet that dies does so within its first seconds; less proves nothing.
const SHORTEST_STABILITY: Span = Span::secs(1);
/// kubeadm needs a second; a limit below makes every renewal fail.
const SHORTEST_KUBEADM: Span = Span::secs(1);

/// A window in which no renewal can end is none.
const SHORTEST_WINDOW: Span = Span::secs(300);
/// Enough for one request to be repeated; transactions make it longer by themselves.
const SHORTEST_LEASE: Span = Span::secs(60);
/// More often it only costs the API server.
const SHORTEST_RETRY: Span = Span::secs(5);
/// Leases of the same kind; a cluster has at most some thousands of nodes.
const MOST_WORKERS: u64 = 100;

/// Broken rule: the keys it looks at, the one to complain at last, and what to say.
type Broken = (&'static [&'static str], String);

/// Adds every rule that `policy` breaks. Rules about keys that have a fault of their own are not judged.
pub(super) fn check(policy: &Policy, merged: &Merged, problems: &mut Vec<Problem>) {
    let broken = single(policy).into_iter().chain(between(policy));
    problems.extend(broken.filter(|(keys, _)| !keys.iter().any(|k| merged.is_faulty(k))).map(|b| problem(merged, b)));
}

fn single(p: &Policy) -> Vec<Broken> {
    let mut broken: Vec<Broken> = Vec::new();
    let mut at_least = |keys: &'static [&'static str], value: Span, least: Span, why: &str| {
        if value < least {
            broken.push((keys, format!("is {value}, the least is {least}: {why}")));
        }
    };
    at_least(&["check.interval"], p.check.interval, SHORTEST_INTERVAL, "looking more often finds nothing sooner");
    let request = p.kubelet.request_timeout;
    at_least(&["kubelet.request-timeout"], request, SHORTEST_REQUEST, "the API server could not answer in time");
    at_least(&["verify.stability"], p.verify.stability, SHORTEST_STABILITY, "a shorter look proves nothing");
    at_least(&["exec.kubeadm-timeout"], p.exec.kubeadm_timeout, SHORTEST_KUBEADM, "kubeadm could never end in time");
    at_least(&["approver.interval"], p.approver.interval, SHORTEST_APPROVAL, "the API server has other work");
    at_least(&["approver.longest"], p.approver.longest, SHORTEST_LIFE, "no request may ask for less");
    if request > LONGEST_REQUEST {
        let why = format!("is {request}, the most is {LONGEST_REQUEST}: nothing else is renewed meanwhile");
        broken.push((&["kubelet.request-timeout"], why));
    }
    if p.state.generations == 0 {
        broken.push((&["state.generations"], "is 0, the least is 1: without a backup there is no rollback".to_owned()));
    }
    if p.state.max_age < Span::days(1) {
        let why = format!("is {}, the least is 1d: a rollback must have its time", p.state.max_age);
        broken.push((&["state.max-age"], why));
    }
    if p.renew.exclude.iter().any(|name| name.trim().is_empty()) {
        broken.push((&["renew.exclude"], "has an empty name; write logical names like `apiserver`".to_owned()));
    }
    broken.extend(fleet(p));
    let paths = [
        (["kubeconfigs.homes"].as_slice(), &p.kubeconfigs.homes),
        (["kubeconfigs.copies"].as_slice(), &p.kubeconfigs.copies),
        (["metrics.textfile-directories"].as_slice(), &p.metrics.textfile_directories),
    ];
    for (keys, list) in paths {
        if let Some(bad) = list.iter().find(|path| !plain(path)) {
            broken.push((keys, format!("has {}; write absolute paths without `..`", bad.display())));
        }
    }
    broken.extend(hooks(p));
    approver(p, &mut broken);
    broken.extend(probes::probes(p));
    broken
}

/// A hook is somebody whom root starts: nothing about it is guessed.
fn hooks(p: &Policy) -> Vec<Broken> {
    const KEYS: &[&str] = &["hook"];
    let mut broken: Vec<Broken> = Vec::new();
    let mut names = BTreeSet::new();
    for hook in &p.hook {
        let name = &hook.name;
        let mut complain = |what: String| broken.push((KEYS, format!("`{name}` {what}")));
        if !is_plain(name) {
            complain("is no name; write letters, digits, `-` and `_`, at most 64".to_owned());
        }
        if !names.insert(name) {
            complain("is there twice; give each hook a name of its own".to_owned());
        }
        if hook.on.is_empty() {
            complain("waits for nothing; write on = [\"renewed\"] or another occasion".to_owned());
        }
        match (hook.program.as_os_str().is_empty(), hook.unit.is_empty()) {
            (true, true) => complain("does nothing; give it a program or a unit".to_owned()),
            (false, false) => complain("has both a program and a unit; make two hooks of it".to_owned()),
            (false, true) if !plain(&hook.program) => {
                complain(format!("has {}; write an absolute path without `..`", hook.program.display()));
            }
            (true, false) if !is_unit(&hook.unit) => complain(format!("has {}, which is no name of a unit", hook.unit)),
            _ => {}
        }
        if hook.time_limit < Span::secs(1) {
            complain("has a time-limit below a second; nothing ends so soon".to_owned());
        }
    }
    broken
}

/// What is said about other nodes and about time.
fn fleet(p: &Policy) -> Vec<Broken> {
    let mut broken: Vec<Broken> = Vec::new();
    if let Err(name) = Windows::of(p, &zone) {
        broken.push((
            &["windows.time-zone", "windows.calendar"],
            format!("`{name}` is no time zone that this machine knows (tzdata)"),
        ));
    }
    if p.windows.duration < SHORTEST_WINDOW {
        let text = format!("is {}, the least is {SHORTEST_WINDOW}: a renewal takes minutes", p.windows.duration);
        broken.push((&["windows.duration"], text));
    }
    if !(SHORTEST_LEASE.0..=LONGEST).contains(&p.fleet.lease_duration.0) {
        let text = format!("is {}, and must be from {SHORTEST_LEASE} to {}", p.fleet.lease_duration, Span(LONGEST));
        broken.push((&["fleet.lease-duration"], text));
    }
    if p.fleet.retry < SHORTEST_RETRY {
        let text = format!("is {}, the least is {SHORTEST_RETRY}: the lock is held for minutes", p.fleet.retry);
        broken.push((&["fleet.retry"], text));
    }
    if !(1..=MOST_WORKERS).contains(&p.fleet.workers_at_once) {
        broken.push((
            &["fleet.workers-at-once"],
            format!("is {}, and must be from 1 to {MOST_WORKERS}", p.fleet.workers_at_once),
        ));
    }
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if p.fleet.namespace.is_empty() || !p.fleet.namespace.bytes().all(label) {
        broken.push((&["fleet.namespace"], format!("`{}` is no name of a namespace", p.fleet.namespace)));
    }
    let path = &p.fleet.kubeconfig;
    if path.as_os_str() != "" && !plain(path) {
        broken.push((&["fleet.kubeconfig"], format!("is {}; write an absolute path without `..`", path.display())));
    }
    broken
}

fn approver(p: &Policy, broken: &mut Vec<Broken>) {
    if !p.approver.kubeconfig.is_absolute() {
        broken.push((&["approver.kubeconfig"], "is no absolute path".to_owned()));
    }
    if let Some(bad) = p.approver.names.iter().find(|n| n.is_empty() || n.contains('*')) {
        let why = "a serving certificate is for one host, whose name `{node}` may stand for";
        broken.push((&["approver.names"], format!("has `{bad}`: {why}")));
    }
}

fn plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| c != Component::ParentDir)
}

fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// systemd: `src/basic/unit-name.c`. An instance of a template is made by us.
fn is_unit(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    name.len() <= 200
        && name.bytes().all(known)
        && name.rsplit_once('.').is_some_and(|(stem, kind)| {
            !stem.is_empty() && ["service", "target"].contains(&kind) && !stem.starts_with('@')
        })
}

fn between(p: &Policy) -> Vec<Broken> {
    let mut broken: Vec<Broken> = Vec::new();
    let mut shorter = |keys: &'static [&'static str], (small, large): (Span, Span), why: &str| {
        let (Some(a), Some(b)) = (keys.first(), keys.get(1)) else { return };
        if small >= large {
            broken.push((keys, format!("{a} ({small}) must be shorter than {b} ({large}): {why}")));
        }
    };
    shorter(
        &["renew.emergency-before", "renew.renew-before"],
        (p.renew.emergency_before, p.renew.renew_before),
        "otherwise every renewal is an emergency and no soft gate ever holds",
    );
    shorter(
        &["verify.stability", "verify.timeout"],
        (p.verify.stability, p.verify.timeout),
        "otherwise no renewal can be proven in time and each is rolled back",
    );
    shorter(
        &["check.interval", "renew.renew-before"],
        (p.check.interval, p.renew.renew_before),
        "otherwise a certificate can expire between two looks",
    );
    if p.renew.renewer == Renewer::Local {
        shorter(
            &["renew.renew-before", "renew.validity"],
            (p.renew.renew_before, p.renew.validity),
            "otherwise what is renewed is due again at once",
        );
    }
    broken
}

/// The complaint stands where the operator wrote the last of the keys.
fn problem(merged: &Merged, (keys, text): Broken) -> Problem {
    let written = keys.iter().filter_map(|key| match merged.origin(key) {
        Origin::File { path, line, column } => Some((path, line, column, *key)),
        Origin::Default => None,
    });
    let main_last =
        |path: &std::path::Path| (path == std::path::Path::new(MAIN_FILE), path.file_name().map(ToOwned::to_owned));
    match written.max_by_key(|(path, line, ..)| (main_last(path), *line)) {
        Some((path, line, column, key)) => {
            Problem { path, position: Some((line, column)), key: Some(key.to_owned()), fault: Fault::Rule(text) }
        }
        None => Problem { path: MAIN_FILE.into(), position: None, key: None, fault: Fault::Rule(text) },
    }
}
