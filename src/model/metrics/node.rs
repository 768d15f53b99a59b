//! What a check found.

use jiff::Timestamp;

use super::counters::{Counters, SourceErrors};
use super::x509::{self, Place, Source};
use super::{
    BUILD_INFO, CERTIFICATE_INFO, CLOCK, COLLISIONS, CSR_OLDEST, CSR_PENDING, EFFECTIVE_END, FINDING, FINDINGS, INFO,
    NOT_AFTER, NOT_BEFORE, Page, RENEW_AFTER, ROTATION_DEADLINE, SERVED_DRIFT, SERVED_NOT_AFTER, SERVED_SUCCESS, STATE,
    VERDICT,
};
use crate::model::assess::{Assessment, Judged, Severity};
use crate::model::cert::{self, CertFacts};
use crate::model::csr::{self, Request, Stage};
use crate::model::finding::Problem;
use crate::model::identity::USER;
use crate::model::inventory::{Content, Entry, Form, Inventory, Owner, Role};
use crate::model::plan::Socket;
use crate::model::policy::{DueBefore, Mode, Policy};
use crate::model::rotation::Rotation;

/// A socket of this node and the leaf that it showed.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub socket: Socket,
    /// None: it did not answer.
    pub served: Option<CertFacts>,
}

/// A node, looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    pub version: &'a str,
    pub inventory: &'a Inventory,
    pub assessment: &'a Assessment,
    pub policy: &'a Policy,
    /// By which this node renews now.
    pub due: DueBefore,
    /// None: nobody looked.
    pub endpoints: Option<&'a [Endpoint]>,
    /// Of this node; None: the API was not asked.
    pub requests: Option<&'a [Request]>,
    pub clock_synchronised: Option<bool>,
    /// With the errors of this look counted ([`count_errors`]).
    pub counters: &'a Counters,
}

impl<'a> Look<'a> {
    fn present(&self) -> impl Iterator<Item = (&'a Entry, &'a Judged)> {
        let all = self.inventory.entries.iter().zip(&self.assessment.entries);
        all.filter(|(entry, _)| !matches!(entry.content, Content::Absent))
    }

    fn leaves(&self) -> impl Iterator<Item = (&'a Entry, &'a Judged, &'a CertFacts)> {
        self.present().filter_map(|(entry, judged)| Some((entry, judged, entry.leaf()?)))
    }
}

/// Adds the errors of this look to the counters, once.
pub fn count_errors(counters: &mut Counters, inventory: &Inventory) {
    for (is_config, errors) in [(false, &mut counters.file_errors), (true, &mut counters.kubeconfig_errors)] {
        let mut found = SourceErrors::default();
        for entry in inventory.entries.iter().filter(|e| is_kubeconfig(e) == is_config) {
            if let Content::Unusable(finding) = &entry.content {
                found.add(finding.id);
            }
        }
        errors.extend(&found);
    }
}

/// Everything that is said of the node's certificates.
pub fn node(look: &Look<'_>) -> Page {
    let mut page = Page::default();
    compatible(&mut page, look);
    about(&mut page, look);
    certificates(&mut page, look);
    findings(&mut page, look);
    endpoints(&mut page, look);
    kubelet(&mut page, look);
    let dropped = page.dropped();
    page.value(&COLLISIONS, dropped);
    page
}

fn is_kubeconfig(entry: &Entry) -> bool {
    matches!(entry.form, Form::Kubeconfig { .. })
}

fn compatible(page: &mut Page, look: &Look<'_>) {
    if !look.policy.metrics.x509_compat {
        return;
    }
    let clusters: Vec<(Place, Vec<CertFacts>)> = look.present().filter_map(|(e, _)| cluster(e)).collect();
    let source = |config: bool, kind, counters: &Counters| {
        let entries = || look.present().filter(move |(e, _)| is_kubeconfig(e) == config).map(|(e, _)| e);
        let mut certificates: Vec<(Place, &[u8])> = Vec::new();
        for entry in entries() {
            if let Content::Readable(credential) = &entry.content {
                certificates.extend(credential.chain.iter().map(|c| (place(entry), c.der.as_slice())));
            }
        }
        if config {
            let all = clusters.iter().flat_map(|(place, cas)| cas.iter().map(move |c| (place, c)));
            certificates.extend(all.map(|(place, c)| (place.clone(), c.der.as_slice())));
        }
        let broken = entries().filter(|e| matches!(e.content, Content::Unusable(_)));
        Source {
            kind,
            up: true,
            certificates,
            broken: broken.map(|e| Place { filepath: filepath(e), ..Place::default() }).collect(),
            bundles: entries().count(),
            errors: if config { counters.kubeconfig_errors.clone() } else { counters.file_errors.clone() },
        }
    };
    let sources = [source(false, "file", look.counters), source(true, "kubeconfig", look.counters)];
    x509::certificates(page, &sources, look.assessment.at);
}

fn filepath(entry: &Entry) -> String {
    entry.path().display().to_string()
}

fn place(entry: &Entry) -> Place {
    let user = match &entry.content {
        Content::Readable(credential) => credential.context.as_ref().map(|c| c.user.clone()),
        Content::Absent | Content::Unusable(_) => None,
    };
    Place {
        filepath: filepath(entry),
        embedded_kind: if user.is_some() { "user" } else { "" },
        embedded_key: user.unwrap_or_default(),
        ..Place::default()
    }
}

/// The CA bundle that a kubeconfig holds.
fn cluster(entry: &Entry) -> Option<(Place, Vec<CertFacts>)> {
    let Content::Readable(credential) = &entry.content else { return None };
    let context = credential.context.as_ref()?;
    let facts = cert::parse_pem(context.ca.as_ref()?).ok()?;
    let (filepath, embedded_key) = (filepath(entry), context.cluster.clone());
    Some((Place { filepath, embedded_kind: "cluster", embedded_key, ..Place::default() }, facts))
}

fn about(page: &mut Page, look: &Look<'_>) {
    page.family(&BUILD_INFO, |s| s.add([look.version], 1));
    let role = match look.inventory.node.role {
        Role::ControlPlane => "control-plane",
        Role::Worker => "worker",
        Role::Etcd => "etcd",
        Role::Unknown => "unknown",
    };
    let mode = match look.policy.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    };
    page.family(&INFO, |s| s.add([role, mode], 1));
    page.family(&VERDICT, |s| {
        for (name, severity) in [
            ("ok", Severity::Ok),
            ("warning", Severity::Warning),
            ("unknown", Severity::Unknown),
            ("critical", Severity::Critical),
        ] {
            s.add([name], u8::from(look.assessment.verdict == severity));
        }
    });
    if let Some(synchronised) = look.clock_synchronised {
        page.value(&CLOCK, u8::from(synchronised));
    }
}

fn certificates(page: &mut Page, look: &Look<'_>) {
    page.family(&CERTIFICATE_INFO, |s| {
        for (entry, _, leaf) in look.leaves() {
            let issuer = entry.signer.as_deref().unwrap_or_default();
            let algorithm = leaf.key_algorithm.to_string();
            let path = filepath(entry);
            s.add([&entry.name, &path, role(entry, leaf), issuer, manager(entry.owner), &algorithm], 1);
        }
        for (held, _) in &look.assessment.in_memory {
            s.add([&held.name, "", "memory", "", "none", ""], 1);
        }
    });
    page.family(&NOT_AFTER, |s| {
        for (entry, judged, leaf) in look.leaves() {
            // of a bundle of CAs, the first that ends
            let Content::Readable(credential) = &entry.content else { continue };
            let cas = || credential.chain.iter().map(|c| c.not_after).min();
            let end = if entry.is_ca() { cas().unwrap_or(leaf.not_after) } else { leaf.not_after };
            s.add([&judged.name], end.as_second());
        }
        for (held, _) in &look.assessment.in_memory {
            s.add([&held.name], held.not_after.as_second());
        }
    });
    page.family(&NOT_BEFORE, |s| {
        look.leaves().for_each(|(e, _, l)| s.add([&e.name], l.not_before.as_second()));
        look.assessment.in_memory.iter().for_each(|(held, _)| s.add([&held.name], held.started_at.as_second()));
    });
    page.family(&EFFECTIVE_END, |s| {
        look.assessment
            .all()
            .filter_map(|j| Some((j, j.effective_end?)))
            .for_each(|(j, at)| s.add([&j.name], at.as_second()));
    });
    page.family(&RENEW_AFTER, |s| {
        for (entry, _, leaf) in look.leaves() {
            if let Some(at) = renew_after(look, entry, leaf) {
                s.add([&entry.name], at);
            }
        }
    });
    page.family(&STATE, |s| {
        for (entry, judged) in look.present() {
            let now = state(entry, judged);
            for state in STATES {
                s.add([&entry.name, state], u8::from(state == now));
            }
        }
    });
}

fn role(entry: &Entry, leaf: &CertFacts) -> &'static str {
    let has = |usage| leaf.usages.contains(usage);
    match (entry.is_ca(), has("serverAuth"), has("clientAuth")) {
        (true, ..) => "ca",
        (_, true, true) => "both",
        (_, true, false) => "server",
        (_, false, true) => "client",
        (_, false, false) => "other",
    }
}

fn manager(owner: Owner) -> &'static str {
    match owner {
        Owner::Kubeadm => "kubeadm",
        Owner::Kubelet => "kubelet",
        Owner::Certwarden => "certwarden",
        Owner::External => "external",
        Owner::Distribution => "distribution",
        Owner::None => "none",
    }
}

/// Seconds since the epoch from which certwarden renews the entry; None: it never does.
fn renew_after(look: &Look<'_>, entry: &Entry, leaf: &CertFacts) -> Option<i64> {
    let (end, begin) = (leaf.not_after.as_second(), leaf.not_before.as_second());
    let before = match entry.owner {
        Owner::Kubeadm | Owner::Certwarden => look.due.leaf(leaf.measured_life()),
        Owner::Kubelet => look.due.kubelet.seconds(end.saturating_sub(begin).max(0)),
        Owner::External | Owner::Distribution | Owner::None => return None,
    };
    let excluded = look.policy.renew.exclude.contains(&entry.name);
    (!excluded).then(|| end.saturating_sub(before))
}

const STATES: [&str; 6] = ["ok", "due", "expiring", "expired", "invalid", "unreadable"];

/// One word for it, the gravest that holds. What wants attention and does not keep it from working is a finding only.
fn state(entry: &Entry, judged: &Judged) -> &'static str {
    let has = |problem| judged.findings.iter().any(|f| f.id == problem);
    let unreadable = match &entry.content {
        Content::Unusable(finding) => Some(finding.id),
        Content::Absent | Content::Readable(_) => None,
    };
    match unreadable {
        Some(Problem::Malformed | Problem::Empty) => return "invalid",
        Some(_) => return "unreadable",
        None => {}
    }
    let broken = [
        Problem::KeyMismatch,
        Problem::WrongIssuer,
        Problem::WrongIdentity,
        Problem::NotYetValid,
        Problem::RefusedByClients,
    ];
    match () {
        () if has(Problem::Expired) => "expired",
        () if broken.into_iter().any(has) => "invalid",
        () if judged.due => "due",
        () if has(Problem::Expiring) || has(Problem::RotationOverdue) => "expiring",
        () => "ok",
    }
}

fn findings(page: &mut Page, look: &Look<'_>) {
    page.family(&FINDING, |s| {
        for judged in look.assessment.all() {
            let mut ids: Vec<Problem> = judged.findings.iter().map(|f| f.id).collect();
            ids.sort_unstable();
            ids.dedup(); // an entry may be loose in two files
            for id in ids {
                s.add([&judged.name, id.id()], 1);
            }
        }
    });
    page.family(&FINDINGS, |s| {
        for problem in Problem::ALL {
            let with = |j: &&Judged| j.findings.iter().any(|f| f.id == *problem);
            let of_the_cluster = look.assessment.information.iter().filter(|f| f.id == *problem).count();
            s.add([problem.id()], look.assessment.all().filter(with).count() + of_the_cluster);
        }
    });
}

fn endpoints(page: &mut Page, look: &Look<'_>) {
    let Some(endpoints) = look.endpoints else { return };
    let labels = |e: &Endpoint| [e.socket.component.name().to_owned(), e.socket.to_string(), e.socket.entry.clone()];
    page.family(&SERVED_SUCCESS, |s| {
        for e in endpoints {
            s.add(labels(e).each_ref().map(String::as_str), u8::from(e.served.is_some()));
        }
    });
    let shown = || endpoints.iter().filter_map(|e| Some((e, e.served.as_ref()?)));
    page.family(&SERVED_NOT_AFTER, |s| {
        shown().for_each(|(e, leaf)| s.add(labels(e).each_ref().map(String::as_str), leaf.not_after.as_second()));
    });
    page.family(&SERVED_DRIFT, |s| {
        for (e, served) in shown() {
            if let Some(file) = look.inventory.get(&e.socket.entry).and_then(Entry::leaf) {
                s.add(labels(e).each_ref().map(String::as_str), u8::from(file.der != served.der));
            }
        }
    });
}

fn kubelet(page: &mut Page, look: &Look<'_>) {
    page.family(&ROTATION_DEADLINE, |s| {
        for (entry, _, leaf) in look.leaves().filter(|(e, ..)| e.owner == Owner::Kubelet) {
            let (earliest, latest) = match Rotation::of(leaf, look.assessment.at) {
                Rotation::NotDue { from, until }
                | Rotation::Window { from, until }
                | Rotation::Overdue { from, until } => (from, until),
            };
            s.add([&entry.name, "earliest"], earliest.as_second());
            s.add([&entry.name, "latest"], latest.as_second());
        }
    });
    // nobody asks for a healthy node; then there is none to tell of either
    let (requests, name) = (look.requests.unwrap_or_default(), look.inventory.node.name.as_deref().unwrap_or_default());
    let own = format!("{USER}{name}");
    let pending = |signer: &str| -> Vec<Option<Timestamp>> {
        let mine = |r: &&Request| r.signer == signer && r.username == own && r.stage == Stage::Pending;
        requests.iter().filter(mine).map(|r| r.created).collect()
    };
    let signers = [csr::CLIENT_SIGNER, csr::SERVING_SIGNER];
    page.family(&CSR_PENDING, |s| signers.into_iter().for_each(|signer| s.add([signer], pending(signer).len())));
    page.family(&CSR_OLDEST, |s| {
        for signer in signers {
            let oldest = pending(signer).into_iter().flatten().min();
            s.add([signer], oldest.map_or(0, Timestamp::as_second));
        }
    });
}
