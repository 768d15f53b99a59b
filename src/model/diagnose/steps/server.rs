//! The API server as the kubelet meets it: who it is, and what it lets this node do.

use super::{about, said, step};
use crate::model::assess::Severity;
use crate::model::diagnose::Step;
use crate::model::diagnose::facts::{By, Certificate, Distrust, Facts, Login, Reach};
use crate::model::diagnose::words::ending;
use crate::model::identity::USER;

pub(super) fn authority(f: &Facts) -> Step {
    let cas: Vec<&Certificate> = f.certificates.iter().filter(|c| c.ca && !c.absent).collect();
    let worst = cas.iter().map(|c| c.severity).max().unwrap_or(Severity::Unknown);
    let key = if f.kubelet.identity.can_sign {
        "the cluster CA's key is on this node"
    } else {
        "the cluster CA's key is not on this node"
    };
    let findings = cas.iter().flat_map(|c| c.findings.iter().map(move |x| format!("{}: {}", c.name, x.message)));
    let text = match (cas.len(), worst) {
        (0, _) => "no CA was found on this node".to_owned(),
        (n, Severity::Ok) => format!("{n} CAs, all good"),
        (n, _) => format!("{n} CAs, not all well"),
    };
    let ends = cas.iter().map(|c| ending(c)).chain(findings).chain([key.to_owned()]);
    step("authority", "Are the CAs good?", Some(By::Root.to_string()), said(worst, text).with(ends))
}

pub(super) fn rights(f: &Facts) -> Step {
    about("rights", "May this node ask, and is it approved?", &f.rights, |rights| {
        let word = |yes: Option<bool>| match yes {
            Some(true) => "allowed",
            Some(false) => "NOT allowed",
            None => "not told",
        };
        let evidence = [
            format!("create certificatesigningrequests: {}", word(rights.create)),
            format!(
                "have them approved by rule (certificatesigningrequests/selfnodeclient): {}",
                word(rights.approved)
            ),
        ];
        match (rights.create, rights.approved) {
            (Some(true), Some(true)) => said(Severity::Ok, "both"),
            (Some(false), _) => said(Severity::Critical, "it may not even ask"),
            (_, Some(false)) => said(Severity::Warning, "it may ask, and nobody approves by rule"),
            _ => said(Severity::Unknown, "the API does not say all of it"),
        }
        .with(evidence)
    })
}

pub(super) fn connection(f: &Facts) -> Step {
    let url = f.server.url.as_deref().unwrap_or("no server is known");
    about("connection", "Can the API server be reached?", &f.server.reach, |reach| {
        let (verdict, text) = match reach {
            Reach::Answers => (Severity::Ok, "it answers, and its certificate is trusted".to_owned()),
            Reach::NoName { .. } => (Severity::Critical, "its name does not resolve".to_owned()),
            Reach::Refused { .. } => (Severity::Critical, "nobody listens there".to_owned()),
            Reach::Silent { .. } => (Severity::Critical, "nothing comes back".to_owned()),
            Reach::NoTls { .. } => (Severity::Critical, "whoever answers does not speak TLS".to_owned()),
            Reach::Untrusted { why, .. } => {
                let why = match why {
                    Distrust::Expired => "has expired",
                    Distrust::NotYetValid => "is not valid yet",
                    Distrust::Name => "is not for this name or address",
                    Distrust::Issuer => "is of a CA that kubelet.conf does not have",
                };
                (Severity::Critical, format!("its certificate {why}"))
            }
            Reach::Unwell { .. } => (Severity::Critical, "it answers with errors".to_owned()),
        };
        let detail = match reach {
            Reach::Answers => None,
            Reach::NoName { detail }
            | Reach::Refused { detail }
            | Reach::Silent { detail }
            | Reach::NoTls { detail }
            | Reach::Untrusted { detail, .. }
            | Reach::Unwell { detail } => Some(detail),
        };
        let leaf = f
            .server
            .leaf
            .as_ref()
            .map(|l| format!("shows {}, by {}, until {}, serial {}", l.subject, l.issuer, l.not_after, l.serial));
        let version = f.server.version.as_ref().map(|v| format!("version {v}"));
        said(verdict, format!("{url}: {text}")).with(detail.cloned().into_iter().chain(leaf).chain(version))
    })
}

pub(super) fn login(f: &Facts) -> Step {
    about("login", "Who is this node for the API server?", &f.login, |login| match login {
        Login::As { user, groups } => {
            let own = f.node.as_ref().map(|n| format!("{USER}{n}"));
            let verdict = if own.as_ref() == Some(user) { Severity::Ok } else { Severity::Critical };
            said(verdict, user.clone()).with([format!("groups {}", groups.join(", "))])
        }
        Login::Accepted => said(Severity::Ok, "its certificate is accepted; this version does not say as whom"),
        Login::Refused { detail } => said(Severity::Critical, "its certificate is refused").with([detail.clone()]),
    })
}
