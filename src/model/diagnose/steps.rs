//! The ordered steps of the kubelet's playbook: what each one saw.

use super::Step;
use super::facts::{Facts, Seen};
use crate::model::assess::Severity;
use around::{change, clock, control_plane, keeper, sockets};
use kubelet::{events, files, journal, node, requests, settings, unit};
use server::{authority, connection, login, rights};

mod around;
mod kubelet;
mod server;

/// Events and log lines that are shown, the newest last.
const MOST: usize = 8;

/// All of them, in the order in which a person would go.
pub(super) fn all(f: &Facts) -> Vec<Step> {
    vec![
        clock(f),
        node(f),
        unit(f),
        events(f),
        files(f),
        settings(f),
        journal(f),
        requests(f),
        authority(f),
        rights(f),
        connection(f),
        login(f),
        control_plane(f),
        sockets(f),
        change(f),
        keeper(f),
    ]
}

/// What a step answers.
pub(super) struct Said {
    verdict: Severity,
    text: String,
    evidence: Vec<String>,
}

pub(super) fn said(verdict: Severity, text: impl Into<String>) -> Said {
    Said { verdict, text: text.into(), evidence: Vec::new() }
}

impl Said {
    pub(super) fn with(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

fn step(id: &'static str, title: &'static str, by: Option<String>, said: Said) -> Step {
    Step {
        id,
        title,
        verdict: said.verdict,
        identity: by,
        text: said.text,
        evidence: said.evidence,
        unseen: Vec::new(),
    }
}

/// A step about something that may not have been seen.
pub(super) fn about<T>(id: &'static str, title: &'static str, seen: &Seen<T>, tell: impl FnOnce(&T) -> Said) -> Step {
    match seen {
        Seen::Known(value, _) => step(id, title, seen.by(), tell(value)),
        Seen::Unseen(why) => {
            let mut step = step(id, title, None, said(Severity::Unknown, "could not be seen"));
            step.unseen.push(why.clone());
            step
        }
    }
}
