//! The playbook of one certificate by its logical name.

use super::facts::{By, Certificate, Facts};
use super::node::{ending, serials};
use super::{Cause, Playbook, Remedy, RootCause, Step};
use crate::model::assess::Severity;
use crate::model::finding::Problem;
use crate::model::inventory::Owner;

/// What is wrong with it, who uses it, and what to do.
pub fn named(f: &Facts, c: &Certificate) -> Playbook {
    let found = verdict(f, c).into_iter().collect();
    Playbook::new(&c.name, steps(f, c), found, |_| {
        let text = if c.absent {
            format!("{} is not on this node, and need not be", c.name)
        } else {
            format!("{} is well", c.name)
        };
        RootCause::new(Cause::Healthy, Severity::Ok, text)
    })
}

fn step(id: &'static str, title: &'static str, verdict: Severity, text: String, evidence: Vec<String>) -> Step {
    Step { id, title, verdict, identity: Some(By::Root.to_string()), text, evidence, unseen: Vec::new() }
}

fn steps(f: &Facts, c: &Certificate) -> Vec<Step> {
    let findings: Vec<String> = c.findings.iter().map(|x| format!("{}: {}", x.id, x.message)).collect();
    let facts = c.leaf.as_ref().map(|l| {
        vec![
            format!("subject {}, issuer {}", l.subject, l.issuer),
            format!("from {} to {}, serial {}", l.not_before, l.not_after, l.serial),
        ]
    });
    let text = if findings.is_empty() {
        "nothing is wrong with it".to_owned()
    } else {
        format!("{} findings", findings.len())
    };
    let file = step(
        "files",
        "Is the file good?",
        c.severity,
        text,
        [ending(c)].into_iter().chain(facts.into_iter().flatten()).chain(findings).collect(),
    );
    let users: Vec<String> = c.used_by.iter().map(ToString::to_string).collect();
    let text = if users.is_empty() { "no component of this node".to_owned() } else { users.join(", ") };
    let users = step("users", "Who uses it?", Severity::Ok, text, vec![format!("when it expires: {}", c.impact)]);
    let own: Vec<_> = f.sockets.iter().filter(|s| s.entry == c.name).collect();
    let old = own.iter().any(|s| s.served.as_ref().is_some_and(|x| *x != s.on_disk));
    let (verdict, text) = match (own.len(), old, own.iter().all(|s| s.served.is_none())) {
        (0, ..) => (Severity::Ok, "no socket of this node serves it"),
        (_, true, _) => (Severity::Warning, "a process serves another one"),
        (_, _, true) => (Severity::Unknown, "the socket does not answer"),
        _ => (Severity::Ok, "what is served is what lies on the disk"),
    };
    let sockets =
        step("sockets", "Is it what is served?", verdict, text.to_owned(), own.into_iter().map(serials).collect());
    let whose = match c.owner {
        Owner::Kubeadm | Owner::Certwarden => "certwarden",
        Owner::Kubelet => "the kubelet; certwarden if that fails",
        Owner::Distribution => "whatever has set up this node",
        Owner::External => "somebody outside: the CA's key is not on this node",
        Owner::None => "nobody",
    };
    let held = f
        .keeper
        .observe_only
        .iter()
        .map(|w| format!("a rollback failed: {w}"))
        .chain(f.keeper.gates.iter().map(|g| format!("gate {g}")));
    let why_not = f.left_out(&c.name).map(|s| s.reason.clone()).or_else(|| c.not_here.clone());
    let evidence: Vec<String> = why_not.into_iter().chain(held).chain(f.keeper.last.clone()).collect();
    let verdict = if c.due && !f.keeper.gates.is_empty() { Severity::Warning } else { Severity::Ok };
    let due = if c.due { "; it is due" } else { "" };
    vec![file, users, sockets, step("renewal", "Who renews it?", verdict, format!("{whose}{due}"), evidence)]
}

fn verdict(f: &Facts, c: &Certificate) -> Option<RootCause> {
    if c.absent {
        return None;
    }
    let old = f.sockets.iter().find(|s| s.entry == c.name && s.served.as_ref().is_some_and(|x| *x != s.on_disk));
    let worst = c.findings.iter().max_by_key(|x| rank(x.id));
    let Some(finding) = worst.filter(|_| c.severity != Severity::Ok) else {
        return old.map(|s| {
            RootCause::new(
                Cause::ServesOld,
                Severity::Warning,
                format!("{} still serves what {} was before", s.component, c.name),
            )
            .seen([serials(s)])
            .mended([Remedy::run(
                format!("certwarden renew {}", c.name),
                "renews it, and restarts what does not take it",
            )])
        });
    };
    let cause = match finding.id {
        Problem::Expiring | Problem::CaExpiresFirst => Cause::CertificateDue,
        Problem::Expired if c.ca => Cause::CaExpired,
        Problem::ServedDiffers | Problem::ProcessOlderThanCertificate => Cause::ServesOld,
        _ => Cause::CertificateBad,
    };
    let text = format!("{}: {}", c.name, finding.message);
    let remedy = remedy(f, c, finding.id);
    let mut root = RootCause::new(cause, c.severity, text).seen([ending(c)]).mended(remedy);
    root.runbook = finding.id.id();
    Some(root)
}

/// What makes the others follow comes last.
fn rank(problem: Problem) -> u8 {
    match problem {
        Problem::Missing | Problem::Unreadable | Problem::Malformed | Problem::Empty | Problem::DanglingSymlink => 5,
        Problem::KeyMismatch | Problem::WrongIssuer | Problem::WrongIdentity => 4,
        Problem::Expired | Problem::NotYetValid => 3,
        Problem::Expiring | Problem::CaExpiresFirst => 1,
        Problem::LoosePermissions | Problem::Ownership | Problem::StaleCopy | Problem::ClearText => 0,
        _ => 2,
    }
}

fn remedy(f: &Facts, c: &Certificate, problem: Problem) -> Vec<Remedy> {
    let page = Remedy::run(format!("certwarden runbook {}", problem.id()), "meaning, impact and remedy");
    let mut all = match (&c.not_here, c.owner, problem) {
        _ if c.remake.is_some() => c.remake.iter().map(Remedy::of).collect(),
        (None, ..) if f.left_out(&c.name).is_some() => f.left_out(&c.name).map(Remedy::left_out).unwrap_or_default(),
        (Some(why), ..) => vec![Remedy::note(why.clone())],
        (None, _, Problem::LoosePermissions) => {
            vec![Remedy::run(format!("chmod go= {}", c.path), "nobody but its owner may read a key")]
        }
        // a renewal changes certificate and key only
        (None, _, Problem::ClearText) => {
            vec![Remedy::note("make the server https:// in the kubeconfig, as its line says")]
        }
        // a renewal would restart the components only
        (None, _, Problem::ProcessOlderThanCertificate) => {
            vec![Remedy::note("restart the container that is named, as its line says")]
        }
        (None, Owner::None, _) if c.ca => vec![Remedy::note("certwarden never renews a CA: plan its rotation")],
        (None, Owner::Kubeadm | Owner::Certwarden | Owner::Kubelet, _) => Remedy::renew(&[&c.name]),
        (None, ..) => Vec::new(),
    };
    all.push(page);
    all
}
