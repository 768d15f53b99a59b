//! The playbook of the alert `KubernetesClientCertificateExpiresSoon`: some client logs in with a certificate that is about
//! to end. Which one? The API server's metric does not say; the credentials on its nodes and its log do.

use jiff::{SignedDuration, Timestamp};

use super::facts::{By, Seen};
use super::node::told;
use super::steps::{about, said};
use super::{Cause, Playbook, Remedy, RootCause, Step};
use crate::model::assess::Severity;

/// The threshold of the alert (kubernetes-mixin: `KubeClientCertificateExpiration`, and the runbook's 24 h).
const SOON: SignedDuration = SignedDuration::from_hours(24);

/// What the playbook is decided by.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    pub at: Timestamp,
    pub credentials: Vec<Client>,
    /// The API server's own count of logins, by seconds that were left, cumulative.
    pub histogram: Seen<Vec<(f64, u64)>>,
    /// Certificates that the API server of this node refused lately, by serial in decimal, and how often.
    pub refused: Seen<Vec<(String, u32)>>,
}

/// A client credential on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Logical name, or the path of a kubeconfig that the node does not depend on.
    pub name: String,
    pub path: String,
    pub subject: String,
    pub issuer: String,
    /// Upper-case hexadecimal.
    pub serial: String,
    pub not_after: Timestamp,
    /// Components of this node; empty: people, programs.
    pub used_by: Vec<String>,
    /// certwarden renews it.
    pub renewable: bool,
}

/// Goes through it.
pub fn clients(c: &Clients) -> Playbook {
    let soon: Vec<&Client> = c.credentials.iter().filter(|x| x.not_after.duration_since(c.at) < SOON).collect();
    let steps = vec![metric(c), credentials(c, &soon), refusals(c)];
    let found: Vec<RootCause> = here(c, &soon).or_else(|| elsewhere(c)).into_iter().collect();
    Playbook::new("clients", steps, found, |_| {
        let text = "no credential on this node ends within a day";
        if c.histogram.known().is_some() {
            let text = format!("{text}, and the API server has counted no such login");
            return RootCause::new(Cause::Healthy, Severity::Ok, text);
        }
        // of this node all is known, of clients elsewhere nothing
        let why = c.histogram.why_not().unwrap_or_default().to_owned();
        let text = format!("{text}; whether others log in with one could not be seen");
        RootCause::new(Cause::Healthy, Severity::Ok, text).seen([why])
    })
}

/// Logins with less than a day left, expired ones (which are refused before they are counted) apart.
fn counted(c: &Clients) -> Option<u64> {
    let day = c.histogram.known()?.iter().filter(|(le, _)| *le <= 86_400.0);
    day.map(|(_, n)| *n).max()
}

fn metric(c: &Clients) -> Step {
    about("metric", "What has the API server counted?", &c.histogram, |buckets| {
        let soon = counted(c).unwrap_or(0);
        let verdict = if soon > 0 { Severity::Warning } else { Severity::Ok };
        let text = format!("{soon} requests since its start with a certificate that had less than a day left");
        let first = buckets.iter().filter(|(le, n)| *n > 0 && le.is_finite()).take(8);
        said(verdict, text).with(first.map(|(le, n)| format!("less than {} left: {n}", seconds(*le))))
    })
}

#[allow(clippy::cast_possible_truncation, reason = "bounds of a histogram, years at most")]
fn seconds(le: f64) -> String {
    told(SignedDuration::from_secs(le.clamp(0.0, 1e12) as i64))
}

fn tell(c: &Clients, x: &Client) -> String {
    let left = x.not_after.duration_since(c.at);
    let when = if left.is_negative() { format!("expired {} ago", told(left)) } else { format!("{} left", told(left)) };
    let who = if x.used_by.is_empty() { "people or programs".to_owned() } else { x.used_by.join(", ") };
    format!(
        "{} ({}): {when}; {}, issued by {}, serial {}; used by {who}",
        x.name, x.path, x.subject, x.issuer, x.serial
    )
}

fn credentials(c: &Clients, soon: &[&Client]) -> Step {
    let verdict = match soon.iter().any(|x| !x.used_by.is_empty()) {
        true => Severity::Critical,
        false if soon.is_empty() => Severity::Ok,
        false => Severity::Warning,
    };
    Step {
        id: "credentials",
        title: "Which client credentials are on this node?",
        verdict,
        identity: Some(By::Root.to_string()),
        text: format!("{} of {} end within a day, or have ended", soon.len(), c.credentials.len()),
        evidence: c.credentials.iter().map(|x| tell(c, x)).collect(),
        unseen: Vec::new(),
    }
}

fn refusals(c: &Clients) -> Step {
    about("refused", "Whom has this node's API server refused?", &c.refused, |serials| {
        let verdict = if serials.is_empty() { Severity::Ok } else { Severity::Warning };
        let each = serials.iter().map(|(serial, n)| format!("serial {serial}: {n} times{}", owner(c, serial)));
        said(verdict, format!("{} certificates in its log", serials.len())).with(each)
    })
}

fn owner(c: &Clients, decimal: &str) -> String {
    let known = c.credentials.iter().find(|x| to_decimal(&x.serial).as_deref() == Some(decimal));
    known.map_or_else(|| "; no credential on this node has it".to_owned(), |x| format!("; it is {}", x.name))
}

/// The API server writes serials in decimal, all others in hexadecimal.
pub fn to_decimal(hex: &str) -> Option<String> {
    let mut digits: Vec<u8> = vec![0];
    for h in hex.chars() {
        let mut carry = h.to_digit(16)?;
        for d in &mut digits {
            let value = u32::from(*d) * 16 + carry;
            *d = u8::try_from(value % 10).ok()?;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).ok()?);
            carry /= 10;
        }
    }
    Some(digits.iter().rev().map(|d| char::from(b'0' + d)).collect())
}

fn here(c: &Clients, soon: &[&Client]) -> Option<RootCause> {
    if soon.is_empty() {
        return None;
    }
    let names: Vec<&str> = soon.iter().map(|x| x.name.as_str()).collect();
    let critical = soon.iter().any(|x| !x.used_by.is_empty());
    let severity = if critical { Severity::Critical } else { Severity::Warning };
    let renewable: Vec<&str> = soon.iter().filter(|x| x.renewable).map(|x| x.name.as_str()).collect();
    let mut remedy = if renewable.is_empty() { Vec::new() } else { Remedy::renew(&renewable) };
    for other in soon.iter().filter(|x| !x.renewable) {
        let user = other.subject.rsplit("CN=").next().unwrap_or_default();
        remedy.push(Remedy::note(format!(
            "{} is nobody's to renew: whoever uses it needs a new one for {user}",
            other.path
        )));
        remedy.push(Remedy::run("install -m 600 /etc/kubernetes/admin.conf FILE", "where it is a copy of admin.conf"));
    }
    let text = format!("these client credentials end within a day, or have ended: {}", names.join(", "));
    Some(RootCause::new(Cause::ClientExpiring, severity, text).seen(soon.iter().map(|x| tell(c, x))).mended(remedy))
}

fn elsewhere(c: &Clients) -> Option<RootCause> {
    let strangers: Vec<String> = c.refused.known().map(|all| {
        all.iter()
            .filter(|(s, _)| !c.credentials.iter().any(|x| to_decimal(&x.serial).as_deref() == Some(s)))
            .map(|(s, n)| format!("refused {n} times: serial {s}"))
            .collect()
    })?;
    let soon = counted(c).unwrap_or(0);
    if soon == 0 && strangers.is_empty() {
        return None;
    }
    let text = "a client that is none of this node's logs in with a certificate that is about to end, or has ended";
    let counted = (soon > 0).then(|| format!("{soon} requests since the API server's start with less than a day left"));
    Some(RootCause::new(Cause::ClientElsewhere, Severity::Warning, text).seen(counted.into_iter().chain(strangers)).mended([
        Remedy::run("certwarden diagnose clients", "on every other node: the credential may lie there"),
        Remedy::run("jq -r 'select(.user.extra) | [.user.username, .sourceIPs[0], .userAgent] | @tsv' /var/log/kubernetes/audit/audit.log | sort | uniq -c", "where the API server keeps an audit log: who logs in, and from where"),
        Remedy::note("the metric counts since the API server's start, and those refused before; a client that was mended meanwhile stays counted"),
    ]))
}
