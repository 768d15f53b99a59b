//! The assessment: the inventory judged by the policy at an instant. How bad is each entry, what is due.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Problem};
use super::inventory::{Content, Entry, Inventory};
use super::policy::Policy;
use super::process::{self, InMemory};
use super::repair::{self, Choice, Repair};
use super::serving::{self, SERVING};
use super::tested;

mod time;

use time::judge_time;
pub(super) use time::leaf_severity;

/// How bad it is; the worst is the greatest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Ok,
    Warning,
    /// Could not be read: nobody knows.
    Unknown,
    Critical,
}

impl Severity {
    /// As monitoring prints it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    /// Exit code of `check` (docs/architecture.md, "Command line"; the Nagios plugin convention).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// One entry, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The entry's logical name.
    pub name: String,
    pub severity: Severity,
    /// What is wrong with it: what collecting found, then what the time makes of it.
    pub findings: Vec<Finding>,
    /// When it stops working: the earlier of its own end and its CA's. None if it could not be read.
    pub effective_end: Option<Timestamp>,
    /// Whole seconds until then; negative afterwards.
    pub seconds_left: Option<i64>,
    /// certwarden should renew it now. `renew.exclude` is not considered here: a plan is what somebody asks for.
    pub due: bool,
    /// It is due, and so late that soft gates give way.
    pub emergency: bool,
}

/// The whole inventory, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    pub at: Timestamp,
    pub verdict: Severity,
    /// In the inventory's order, one for each of its entries.
    pub entries: Vec<Judged>,
    /// About the cluster and no certificate: for information, whatever the verdict.
    pub information: Vec<Finding>,
    /// What running components keep in memory only.
    pub in_memory: Vec<(InMemory, Judged)>,
    /// What is to become of the kubelet's own identity.
    pub identity: Choice,
    /// A serving certificate that is to be asked for in the kubelet's stead.
    pub serving: Option<Repair>,
}

impl Assessment {
    pub fn get(&self, name: &str) -> Option<&Judged> {
        self.entries.iter().find(|j| j.name == name)
    }

    /// Everything judged, in files and in memory.
    pub fn all(&self) -> impl Iterator<Item = &Judged> {
        self.entries.iter().chain(self.in_memory.iter().map(|(_, j)| j))
    }

    /// What should be renewed now, in the inventory's order.
    pub fn due(&self) -> impl Iterator<Item = &Judged> {
        self.entries.iter().filter(|j| j.due)
    }

    pub fn emergency(&self) -> bool {
        self.entries.iter().any(|j| j.emergency)
    }
}

/// Judges every entry. The verdict is `Unknown` if there is nothing to judge or nothing could be read; where only
/// some could not be read, they count as a warning, because the others can be told.
pub fn assess(inventory: &Inventory, policy: &Policy, now: Timestamp) -> Assessment {
    let cas: Vec<&Entry> = inventory.entries.iter().filter(|e| e.is_ca()).collect();
    let entries: Vec<Judged> = inventory.entries.iter().map(|e| judge(e, ca_end(&cas, e), policy, now)).collect();
    let in_memory = process::in_memory(&inventory.node).into_iter().map(|held| {
        let judged = process::judge(&held, policy, now);
        (held, judged)
    });
    let in_memory = in_memory.collect();
    let identity = repair::choose(inventory, policy, now);
    let serving = serving::choose(inventory, policy, now);
    let information = tested::untested(&inventory.node).into_iter().collect();
    let verdict = Severity::Unknown;
    let mut assessment = Assessment { at: now, verdict, entries, information, in_memory, identity, serving };
    due_by_repair(&mut assessment);
    assessment.verdict = overall(inventory, &assessment);
    assessment
}

/// The kubelet rotates its identity itself: only where it does not, or cannot any more, is it due here.
fn due_by_repair(assessment: &mut Assessment) {
    let repair = match &assessment.identity {
        Choice::Repair(repair) => Some(repair),
        Choice::Nothing | Choice::Operator { .. } => None,
    };
    for judged in assessment.entries.iter_mut().filter(|j| j.name == repair::CLIENT || j.name == repair::CONFIG) {
        // where there is no entry for the kubeconfig alone, it is the identity's
        let touched = repair.filter(|r| r.touches(&judged.name) || (judged.name == repair::CLIENT && r.reference));
        judged.due = touched.is_some();
        judged.emergency = touched.is_some_and(|r| r.urgent);
    }
    let asked_for = assessment.serving.is_some();
    for judged in assessment.entries.iter_mut().filter(|j| j.name == SERVING && asked_for) {
        judged.due = true;
    }
}

/// The verdict over the assessed entries of the inventory that are there, and over what is in memory.
pub fn overall(inventory: &Inventory, assessment: &Assessment) -> Severity {
    let files = inventory.entries.iter().zip(&assessment.entries).filter(|(e, _)| present(e)).map(|(_, j)| j);
    verdict(files.chain(assessment.in_memory.iter().map(|(_, j)| j)).map(|j| j.severity))
}

/// The verdict over some entries' severities.
fn verdict(severities: impl Iterator<Item = Severity>) -> Severity {
    let (mut known, mut unknown) = (None, false);
    for severity in severities {
        match severity {
            Severity::Unknown => unknown = true,
            other => known = known.max(Some(other)),
        }
    }
    match known {
        None => Severity::Unknown,
        Some(worst) if unknown => worst.max(Severity::Warning),
        Some(worst) => worst,
    }
}

fn present(entry: &Entry) -> bool {
    !matches!(entry.content, Content::Absent)
}

/// The end of the CA certificate that vouches for the entry: of several of that name, the last to end.
fn ca_end(cas: &[&Entry], entry: &Entry) -> Option<Timestamp> {
    let leaf = entry.leaf()?;
    let ca = cas.iter().find(|e| Some(&e.name) == entry.signer.as_ref())?;
    let Content::Readable(bundle) = &ca.content else { return None };
    bundle.chain.iter().filter(|c| leaf.claims_issuer(c)).map(|c| c.not_after).max()
}

fn judge(entry: &Entry, ca_end: Option<Timestamp>, policy: &Policy, now: Timestamp) -> Judged {
    let mut judged = Judged {
        name: entry.name.clone(),
        severity: Severity::Ok,
        findings: Vec::new(),
        effective_end: None,
        seconds_left: None,
        due: false,
        emergency: false,
    };
    match &entry.content {
        Content::Absent => {}
        Content::Unusable(finding) => {
            judged.severity = structural(entry, finding.id);
            judged.findings.push(finding.clone());
        }
        Content::Readable(credential) => {
            let worst = credential.findings.iter().map(|f| structural(entry, f.id)).max();
            judged.severity = worst.unwrap_or(Severity::Ok);
            judged.findings.clone_from(&credential.findings);
            if let Some(leaf) = credential.chain.first() {
                judge_time(&mut judged, entry, leaf, ca_end, policy, now);
            }
        }
    }
    judged
}

/// How bad a finding is that does not depend on the time.
fn structural(entry: &Entry, problem: Problem) -> Severity {
    let severity = gravity(problem);
    // no component of this node stops when one of these is broken
    if entry.used_by.is_empty() && severity == Severity::Critical { Severity::Warning } else { severity }
}

/// Whether a credential with this finding cannot be used, whoever needs it. What a process does with a good file is not
/// meant.
pub(super) fn is_fatal(problem: Problem) -> bool {
    gravity(problem) >= Severity::Unknown && problem != Problem::ServedDiffers
}

/// Whether a file of a credential with this finding cannot even be copied.
pub(super) fn is_out_of_reach(problem: Problem) -> bool {
    matches!(problem, Problem::Missing | Problem::DanglingSymlink | Problem::Unreadable)
}

fn gravity(problem: Problem) -> Severity {
    match problem {
        Problem::Unreadable => Severity::Unknown,
        Problem::LoosePermissions
        | Problem::Ownership
        | Problem::StaleCopy
        | Problem::ClearText
        | Problem::EmbeddedIdentity
        | Problem::NotASymlink
        | Problem::CaExpiresFirst
        | Problem::Expiring
        | Problem::RotationBlocked
        | Problem::DuplicateManifest
        | Problem::RotationOverdue
        | Problem::RequestPending
        | Problem::RequestDenied
        | Problem::RequestFailed
        | Problem::RequestNotIssued
        | Problem::ProcessOlderThanCertificate
        | Problem::Unproven => Severity::Warning,
        // certwarden does it instead; for information
        Problem::RotationOff | Problem::UntestedVersion | Problem::ShortLived => Severity::Ok,
        _ => Severity::Critical,
    }
}

#[cfg(test)]
#[allow(missing_debug_implementations, reason = "made by proptest's macro")]
mod tests {
    use super::time::has;
    use super::*;
    use crate::model::cert::{CertFacts, KeyAlgorithm};
    use crate::model::component::Component;
    use crate::model::inventory::{Credential, Form, Kubelet, Node, Owner, Role};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    fn facts(name: &str, issuer: &str, from: i64, until: i64) -> CertFacts {
        CertFacts {
            subject: format!("CN={name}"),
            common_name: Some(name.to_owned()),
            organizations: BTreeSet::new(),
            issuer: format!("CN={issuer}"),
            serial: "01".to_owned(),
            not_before: Timestamp::from_second(from).unwrap(),
            not_after: Timestamp::from_second(until).unwrap(),
            sans: BTreeSet::new(),
            usages: BTreeSet::new(),
            key_algorithm: KeyAlgorithm::Rsa { bits: 2048 },
            is_ca: false,
            spki: Vec::new(),
            der: Vec::new(),
            raw: crate::model::cert::Raw::default(),
            issued_here: false,
        }
    }

    fn entry(name: &str, owner: Owner, until: i64) -> Entry {
        let credential = Credential {
            chain: vec![facts(name, "kubernetes", NOW - 300 * DAY, until)],
            server: None,
            context: None,
            findings: Vec::new(),
        };
        Entry {
            name: name.to_owned(),
            form: Form::Pair { cert: "/c".into(), key: "/k".into() },
            owner,
            used_by: vec![Component::KubeApiserver],
            signer: Some("ca".to_owned()),
            trusted_by: None,
            impact: String::new(),
            content: Content::Readable(credential),
        }
    }

    fn ca(until: i64) -> Entry {
        let mut ca = entry("ca", Owner::None, until);
        ca.form = Form::Ca { cert: "/ca".into(), key: "/ca.key".into() };
        ca.signer = None;
        if let Content::Readable(c) = &mut ca.content {
            c.chain = vec![facts("kubernetes", "kubernetes", 0, until)];
        }
        ca
    }

    fn inventory(entries: Vec<Entry>) -> Inventory {
        let kubelet = Kubelet { rotate_certificates: true, ..Kubelet::default() };
        let node = Node { role: Role::ControlPlane, kubelet, ..Node::default() };
        Inventory { collected_at: Timestamp::from_second(NOW).unwrap(), node, entries, copies: Vec::new() }
    }

    fn judged(entries: Vec<Entry>) -> Judged {
        let all = assess(&inventory(entries), &Policy::default(), Timestamp::from_second(NOW).unwrap());
        all.entries.into_iter().next().unwrap()
    }

    #[test]
    fn thresholds_are_inclusive() {
        use Owner::{External, Kubeadm, Kubelet, None};
        use Severity::{Critical, Ok, Warning};
        // (owner, seconds left, severity, due, emergency); the kubelet's warn at 10 % of 300 d + what is left
        let table = [
            (Kubeadm, 30 * DAY + 1, Ok, false, false),
            (Kubeadm, 30 * DAY, Warning, true, false),
            (Kubeadm, 3 * DAY + 1, Warning, true, false),
            (Kubeadm, 3 * DAY, Critical, true, true),
            (Kubeadm, 1, Critical, true, true),
            (Kubeadm, 0, Critical, true, true),
            (Kubeadm, -1, Critical, true, true),
            (External, 30 * DAY, Warning, false, false),
            (External, -1, Critical, false, false),
            (Kubelet, 34 * DAY, Ok, false, false),
            (Kubelet, 33 * DAY, Warning, false, false),
            (Kubelet, 3 * DAY, Critical, false, false),
            (None, -1, Warning, false, false),
        ];
        for (owner, left, severity, due, emergency) in table {
            let j = judged(vec![entry("x", owner, NOW + left)]);
            assert_eq!((j.severity, j.due, j.emergency), (severity, due, emergency), "{owner:?} with {left} s left");
            assert_eq!(j.seconds_left, Some(left));
        }
    }

    #[test]
    fn a_ca_that_ends_soon_is_announced_half_a_year_before() {
        for (left, want) in [
            (180 * DAY + 1, Severity::Ok),
            (180 * DAY, Severity::Warning),
            (30 * DAY, Severity::Critical),
            (-1, Severity::Critical),
        ] {
            let j = judged(vec![ca(NOW + left)]);
            assert_eq!((j.severity, j.due), (want, false), "{left} s left");
        }
    }

    #[test]
    fn a_leaf_ends_with_its_ca_but_is_not_due_for_that() {
        let j = judged(vec![entry("apiserver", Owner::Kubeadm, NOW + 365 * DAY), ca(NOW + 2 * DAY)]);
        assert_eq!((j.severity, j.due, j.seconds_left), (Severity::Critical, false, Some(2 * DAY)));
        assert!(has(&j, Problem::CaExpiresFirst) && has(&j, Problem::Expiring));
    }

    #[test]
    fn an_overdue_rotation_is_called_that() {
        let j = judged(vec![entry("kubelet-client", Owner::Kubelet, NOW + DAY)]);
        assert!(j.findings[0].message.contains("rotation is overdue"), "{j:?}");
    }

    #[test]
    fn a_certificate_of_the_future_is_critical_and_not_due() {
        let mut e = entry("apiserver", Owner::Kubeadm, NOW + 400 * DAY);
        if let Content::Readable(c) = &mut e.content {
            c.chain[0].not_before = Timestamp::from_second(NOW + 1).unwrap();
        }
        let j = judged(vec![e]);
        assert_eq!((j.severity, j.due), (Severity::Critical, false));
    }

    #[test]
    fn a_key_of_another_certificate_is_due_and_a_foreign_issuer_is_not() {
        for (problem, due) in [(Problem::KeyMismatch, true), (Problem::WrongIssuer, false)] {
            let mut e = entry("apiserver", Owner::Kubeadm, NOW + 300 * DAY);
            if let Content::Readable(c) = &mut e.content {
                c.findings.push(Finding::new(problem, "x"));
            }
            let j = judged(vec![e]);
            assert_eq!((j.severity, j.due, j.emergency), (Severity::Critical, due, false));
        }
    }

    #[test]
    fn the_verdict_is_unknown_only_if_nothing_can_be_told() {
        use Severity::{Critical, Ok, Unknown, Warning};
        let table: [(&[Severity], Severity); 6] = [
            (&[], Unknown),
            (&[Unknown, Unknown], Unknown),
            (&[Unknown, Ok], Warning),
            (&[Unknown, Critical], Critical),
            (&[Ok, Warning], Warning),
            (&[Ok], Ok),
        ];
        for (severities, want) in table {
            assert_eq!(verdict(severities.iter().copied()), want, "{severities:?}");
        }
    }

    proptest! {
        #[test]
        fn less_time_left_is_never_milder(
            left in -400 * DAY..4000 * DAY,
            less in 0..4000 * DAY,
            ca_left in -400 * DAY..4000 * DAY,
            owner in prop::sample::select(vec![Owner::Kubeadm, Owner::Kubelet, Owner::External, Owner::None]),
        ) {
            let at = |left| judged(vec![entry("x", owner, NOW + left), ca(NOW + ca_left)]);
            let (more, fewer) = (at(left), at(left - less));
            // a leaf that ends before its CA does loses `ca-expires-first`, which is about the CA
            if !has(&more, Problem::CaExpiresFirst) {
                prop_assert!(fewer.severity >= more.severity, "{more:?} {fewer:?}");
            }
            prop_assert!(!more.due || fewer.due);
            prop_assert!(!more.emergency || fewer.emergency);
            let ca_at = |left| judged(vec![ca(NOW + left)]).severity;
            prop_assert!(ca_at(left - less) >= ca_at(left));
        }

        #[test]
        fn later_is_never_milder(until in -400 * DAY..4000 * DAY, later in 0..4000 * DAY, ca_until in -400 * DAY..4000 * DAY) {
            let all = inventory(vec![entry("x", Owner::Kubeadm, NOW + until), ca(NOW + ca_until)]);
            let at = |s| assess(&all, &Policy::default(), Timestamp::from_second(s).unwrap()).verdict;
            prop_assert!(at(NOW + later) >= at(NOW));
        }
    }
}
