//! An assessment as a table for people and as JSON for tools.

use std::collections::BTreeSet;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::terminal::Painted;
use crate::model::assess::{Assessment, Judged, Severity};
use crate::model::cert::CertFacts;
use crate::model::component::Component;
use crate::model::distribution::Distribution;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry, Form, Inventory, Owner, Role};
use crate::model::plain::one_line;
use crate::model::process::InMemory;
use crate::model::rotation::Rotation;

const SCHEMA: &str = "certwarden.check/v1";
/// What a verdict names before it only counts.
const NAMED: usize = 3;
const DAY: i64 = 86_400;

/// How a table looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub wide: bool,
    pub colour: bool,
    /// Columns that the table fits; wide ones need not.
    pub width: u16,
}

/// Verdict, leaves, CAs, what the problems are, notes.
pub fn table(inventory: &Inventory, assessment: &Assessment, style: Style) -> Painted {
    let mut out = Painted::default();
    out.paint(assessment.verdict, &verdict(inventory, assessment), style.colour);
    out.text("\n");
    let rows: Vec<_> = inventory
        .entries
        .iter()
        .zip(&assessment.entries)
        .filter(|(e, _)| style.wide || !matches!(e.content, Content::Absent))
        .collect();
    for (title, cas) in [("CERTIFICATE", false), ("CERTIFICATE AUTHORITY", true)] {
        let part: Vec<_> = rows.iter().copied().filter(|(e, _)| e.is_ca() == cas).collect();
        if !part.is_empty() {
            out.text("\n");
            let rows = part.iter().map(|(entry, judged)| row(entry, judged, style.wide)).collect();
            layout(&mut out, title, &["OWNER", "PATH", "ISSUER", "SERIAL"], rows, style);
        }
    }
    if !assessment.in_memory.is_empty() {
        out.text("\n");
        let rows = assessment.in_memory.iter().map(|(held, judged)| memory_row(held, judged, style.wide)).collect();
        layout(&mut out, "IN MEMORY ONLY", &["STARTED"], rows, style);
    }
    let in_files = rows.iter().flat_map(|(e, j)| j.findings.iter().map(|f| sentence(&e.name, &e.impact, f)));
    let in_memory = assessment.in_memory.iter();
    let in_memory = in_memory.flat_map(|(held, j)| j.findings.iter().map(|f| sentence(&held.name, held.impact, f)));
    let problems: Vec<String> = in_files.chain(in_memory).collect();
    let information = assessment.information.iter().map(|f| clean(&format!("info: {}: {}", f.id, f.message)));
    let notes = inventory.node.notes.iter().map(|n| format!("note: {}", clean(n)));
    let notes: Vec<String> = information.chain(notes).collect();
    let pages = if style.wide { pages(assessment) } else { Vec::new() };
    for lines in [problems, notes, pages] {
        if !lines.is_empty() {
            out.text("\n");
            for line in lines {
                out.text(&(line + "\n"));
            }
        }
    }
    out
}

/// Where each kind of finding is explained, once.
fn pages(assessment: &Assessment) -> Vec<String> {
    let findings = assessment.all().flat_map(|j| &j.findings).chain(&assessment.information);
    let ids: BTreeSet<&str> = findings.map(|f| f.id.id()).collect();
    ids.into_iter().map(|id| format!("more: certwarden runbook {id}")).collect()
}

fn sentence(name: &str, impact: &str, finding: &Finding) -> String {
    let line = format!("{name}: {}: {}", finding.id, finding.message);
    match finding.id {
        Problem::Expired => clean(&format!("{line}; {impact}")),
        Problem::Expiring | Problem::RotationOverdue => clean(&format!("{line}; then {impact}")),
        _ => clean(&line),
    }
}

fn layout(out: &mut Painted, title: &str, in_wide: &[&str], rows: Vec<Vec<String>>, style: Style) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(if style.wide { ContentArrangement::Disabled } else { ContentArrangement::Dynamic });
    if !style.wide {
        table.set_width(style.width);
    }
    let mut header = vec![title, "EXPIRES", "LEFT", "STATUS", "PROBLEMS"];
    if style.wide {
        header.extend(in_wide);
    }
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.trim_fmt().lines() {
        colour_status(out, line, style.colour);
        out.text("\n");
    }
}

fn memory_row(held: &InMemory, judged: &Judged, wide: bool) -> Vec<String> {
    let mut row = common(judged, judged.severity.label());
    if wide {
        row.push(format!("{:.0}", held.started_at));
    }
    row
}

fn common(judged: &Judged, status: &str) -> Vec<String> {
    let expires = judged.effective_end.map_or_else(|| "-".to_owned(), date);
    let left = judged.seconds_left.map_or_else(|| "-".to_owned(), left);
    let ids: Vec<&str> = judged.findings.iter().map(|f| f.id.id()).collect();
    vec![judged.name.clone(), expires, left, status.to_owned(), ids.join(" ")]
}

fn row(entry: &Entry, judged: &Judged, wide: bool) -> Vec<String> {
    let status = if matches!(entry.content, Content::Absent) { "absent" } else { judged.severity.label() };
    let mut row = common(judged, status);
    if wide {
        let leaf = entry.leaf();
        row.push(owner(entry.owner).to_owned());
        row.push(entry.path().display().to_string());
        row.push(leaf.map_or_else(|| "-".to_owned(), |l| l.issuer.clone()));
        row.push(leaf.map_or_else(|| "-".to_owned(), |l| l.serial.clone()));
    }
    row.iter().map(|cell| clean(cell)).collect()
}

/// One sentence that a monitoring system can show: the worst entries, soonest first.
pub fn verdict(inventory: &Inventory, assessment: &Assessment) -> String {
    let label = assessment.verdict.label();
    let judged = || assessment.entries.iter().zip(&inventory.entries);
    let in_memory = || assessment.in_memory.iter().map(|(_, j)| j);
    let count = judged().filter(|(_, e)| !matches!(e.content, Content::Absent)).count() + in_memory().count();
    match assessment.verdict {
        Severity::Unknown if count == 0 => return format!("{label} - no certificates of a Kubernetes node found"),
        Severity::Unknown => {
            return format!("{label} - none of {count} certificates can be read in whole; run as root");
        }
        Severity::Ok => {
            let leaves = judged().filter(|(_, e)| !e.is_ca()).map(|(j, _)| j).chain(in_memory());
            let next = leaves.filter_map(|j| Some((j.seconds_left?, &j.name))).min();
            let next = next.map(|(s, name)| format!(", {} is the next to expire, in {}", clean(name), left(s)));
            return format!("{label} - {count} certificates are well{}", next.unwrap_or_default());
        }
        Severity::Warning | Severity::Critical => {}
    }
    let mut bad: Vec<&Judged> = assessment.all().filter(|j| j.severity != Severity::Ok).collect();
    bad.sort_by_key(|j| (std::cmp::Reverse(j.severity), j.seconds_left.unwrap_or(i64::MIN)));
    let mut named: Vec<String> = bad.iter().take(NAMED).map(|j| clean(&brief(j))).collect();
    if bad.len() > NAMED {
        named.push(format!("{} more", bad.len() - NAMED));
    }
    format!("{label} - {}", named.join(", "))
}

/// `apiserver expires in 2d`, `etcd-peer key-mismatch`.
fn brief(judged: &Judged) -> String {
    let name = &judged.name;
    let other = judged.findings.iter().find(|f| !matches!(f.id, Problem::Expired | Problem::Expiring));
    let by_time = judged.findings.iter().any(|f| matches!(f.id, Problem::Expired | Problem::Expiring));
    match (by_time, judged.seconds_left, other) {
        (true, Some(s), _) if s > 0 => format!("{name} expires in {}", left(s)),
        (true, Some(s), _) => format!("{name} {}", left(s)),
        (_, _, Some(finding)) => format!("{name} {}", finding.id),
        _ => name.clone(),
    }
}

/// The largest unit that says enough: `312d`, `5h`, `expired 3d ago`.
pub fn left(seconds: i64) -> String {
    let unit = |s: i64| match s {
        s if s >= 2 * DAY => format!("{}d", s / DAY),
        s if s >= 2 * 3600 => format!("{}h", s / 3600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    };
    if seconds > 0 { unit(seconds) } else { format!("expired {} ago", unit(seconds.saturating_neg())) }
}

fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// Names come from files: they stay on their line and in their column.
fn clean(text: &str) -> String {
    one_line(text).into_owned()
}

/// After the layout, so that escape sequences do not count as width.
fn colour_status(out: &mut Painted, line: &str, colour: bool) {
    const ALL: [Severity; 3] = [Severity::Warning, Severity::Unknown, Severity::Critical];
    let found = ALL.into_iter().find(|s| line.contains(&format!(" {} ", s.label())));
    match found.and_then(|s| Some((s, line.split_once(s.label())?))) {
        Some((s, (before, after))) => {
            out.text(before);
            out.paint(s, s.label(), colour);
            out.text(after);
        }
        None => out.text(line),
    }
}

fn owner(owner: Owner) -> &'static str {
    match owner {
        Owner::Kubeadm => "kubeadm",
        Owner::Kubelet => "kubelet",
        Owner::Certwarden => "certwarden",
        Owner::External => "external",
        Owner::Distribution => "distribution",
        Owner::None => "none",
    }
}

#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    verdict: Severity,
    node: Option<&'a str>,
    role: Role,
    /// Who has set it up, if not kubeadm.
    #[serde(skip_serializing_if = "Option::is_none")]
    distribution: Option<Distribution>,
    collected_at: Timestamp,
    entries: Vec<EntryJson<'a>>,
    /// About the cluster: the verdict does not depend on it.
    information: &'a [Finding],
    /// Without files: by the age of the process.
    in_memory: Vec<InMemoryJson<'a>>,
    notes: &'a [String],
}

#[derive(Debug, Serialize)]
struct EntryJson<'a> {
    name: &'a str,
    path: String,
    kind: &'static str,
    owner: Owner,
    used_by: &'a [Component],
    signer: Option<&'a str>,
    severity: Severity,
    due: bool,
    absent: bool,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    /// Until it stops working: with its CA at the latest.
    seconds_left: Option<i64>,
    serial: Option<&'a str>,
    subject: Option<&'a str>,
    issuer: Option<&'a str>,
    sans: Vec<&'a str>,
    problems: &'a [Finding],
    impact: &'a str,
    /// Where it stands in the kubelet's own rotation.
    rotation: Option<Rotation>,
}

#[derive(Debug, Serialize)]
struct InMemoryJson<'a> {
    #[serde(flatten)]
    held: &'a InMemory,
    severity: Severity,
    seconds_left: Option<i64>,
    problems: &'a [Finding],
}

/// The JSON document `certwarden.check/v1`.
pub fn document<'a>(inventory: &'a Inventory, assessment: &'a Assessment) -> Document<'a> {
    let entries = inventory.entries.iter().zip(&assessment.entries).map(|(e, j)| entry_json(e, j, assessment.at));
    let in_memory = assessment.in_memory.iter().map(|(held, judged)| InMemoryJson {
        held,
        severity: judged.severity,
        seconds_left: judged.seconds_left,
        problems: &judged.findings,
    });
    Document {
        schema: SCHEMA,
        verdict: assessment.verdict,
        node: inventory.node.name.as_deref(),
        role: inventory.node.role,
        distribution: inventory.node.distribution,
        collected_at: inventory.collected_at,
        entries: entries.collect(),
        information: &assessment.information,
        in_memory: in_memory.collect(),
        notes: &inventory.node.notes,
    }
}

fn entry_json<'a>(entry: &'a Entry, judged: &'a Judged, now: Timestamp) -> EntryJson<'a> {
    let leaf: Option<&CertFacts> = entry.leaf();
    EntryJson {
        name: &entry.name,
        path: entry.path().display().to_string(),
        kind: match entry.form {
            Form::Pair { .. } => "pair",
            Form::Kubeconfig { .. } | Form::Reference { .. } => "kubeconfig",
            Form::Combined { .. } | Form::Dated { .. } => "combined",
            Form::Ca { .. } => "ca",
        },
        owner: entry.owner,
        used_by: &entry.used_by,
        signer: entry.signer.as_deref(),
        severity: judged.severity,
        due: judged.due,
        absent: matches!(entry.content, Content::Absent),
        not_before: leaf.map(|l| l.not_before),
        not_after: leaf.map(|l| l.not_after),
        seconds_left: judged.seconds_left,
        serial: leaf.map(|l| l.serial.as_str()),
        subject: leaf.map(|l| l.subject.as_str()),
        issuer: leaf.map(|l| l.issuer.as_str()),
        sans: leaf.map_or_else(Vec::new, |l| l.sans.iter().map(String::as_str).collect()),
        problems: &judged.findings,
        impact: &entry.impact,
        rotation: leaf.filter(|_| entry.owner == Owner::Kubelet).map(|l| Rotation::of(l, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_said_in_one_unit() {
        let table = [
            (312 * DAY + 5, "312d"),
            (2 * DAY - 1, "47h"),
            (5 * 3600, "5h"),
            (119 * 60, "119m"),
            (59, "59s"),
            (0, "expired 0s ago"),
            (-3 * DAY, "expired 3d ago"),
            (i64::MIN, "expired 106751991167300d ago"),
        ];
        for (seconds, want) in table {
            assert_eq!(left(seconds), want);
        }
    }

    #[test]
    fn what_is_in_memory_only_is_a_table_of_its_own_with_the_remedy() {
        use crate::model::assess::assess;
        use crate::model::inventory::{Kubelet, Node, StaticPod};
        use crate::model::policy::Policy;
        let pod = |started_at: &str| StaticPod { started_at: started_at.parse().ok(), ..StaticPod::default() };
        let static_pods = [
            (Component::KubeApiserver, pod("2026-01-20T13:50:10Z")),
            (Component::KubeScheduler, pod("2026-11-20T13:50:10Z")),
        ];
        let now = "2027-01-11T12:50:10Z".parse().unwrap();
        let node = Node {
            name: None,
            name_doubt: None,
            role: Role::ControlPlane,
            distribution: None,
            static_pods: static_pods.into(),
            other_pods: Vec::new(),
            kubelet: Kubelet::default(),
            pki_dir: "/".into(),
            notes: Vec::new(),
        };
        let inventory = Inventory { collected_at: now, node, entries: Vec::new(), copies: Vec::new() };
        let assessment = assess(&inventory, &Policy::default(), now);
        let golden = "\
WARNING - kube-apiserver:loopback expires in 9d

IN MEMORY ONLY           EXPIRES     LEFT  STATUS   PROBLEMS
kube-apiserver:loopback  2027-01-20  9d    WARNING  expiring
kube-scheduler:serving   2027-11-20  313d  OK

kube-apiserver:loopback: expiring: it expires at 2027-01-20T12:50:10Z; kube-apiserver made it at its start at \
2026-01-20T13:50:10Z and makes another only at the next: `crictl stop` its container, and the kubelet starts a new one; \
then it cannot reach itself: admission rejects new pods, and its own controllers stop
";
        let shown =
            |wide| table(&inventory, &assessment, Style { wide, colour: false, width: 100 }).as_str().to_owned();
        assert_eq!(shown(false), golden);
        let wide = shown(true);
        assert!(wide.contains("WARNING  expiring  2026-01-20T13:50:10Z"), "{wide}");
        let document: serde_json::Value = serde_json::to_value(super::document(&inventory, &assessment)).unwrap();
        let [api, scheduler] = document["in_memory"].as_array().unwrap().as_slice() else { panic!("{document}") };
        assert_eq!((&api["severity"], &api["problems"][0]["id"]), (&"warning".into(), &"expiring".into()));
        assert_eq!(
            (&scheduler["component"], &scheduler["seconds_left"]),
            (&"kube-scheduler".into(), &27_043_200.into())
        );
    }
}
