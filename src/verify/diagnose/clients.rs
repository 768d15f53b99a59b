//! Client credentials on this node, and what its API server has seen of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::kube::Connection;
use crate::model::cert::{CertFacts, parse_pem};
use crate::model::diagnose::Clients;
use crate::model::diagnose::facts::{By, Seen};
use crate::model::inventory::{Content, Owner};
use crate::model::kubeconfig;

use super::Look;

/// The API server writes megabytes of metrics; this one's name comes early.
const METRIC: &str = "apiserver_client_certificate_expiration_seconds_bucket";
const LIMIT: Duration = Duration::from_secs(10);
const PODS: &str = "/var/log/pods";
/// Of each log file.
const LOG_END: u64 = 4 << 20;
/// Log files and serials that are looked at, at most.
const MOST: usize = 32;

/// Everything that the clients' playbook needs.
pub fn clients(look: Look<'_>) -> Clients {
    (look.progress)("looking for client credentials");
    Clients {
        at: look.host.clock.now(),
        credentials: credentials(look),
        histogram: histogram(look),
        refused: refused(look),
    }
}

fn client(name: &str, path: &Path, leaf: &CertFacts) -> crate::model::diagnose::Client {
    crate::model::diagnose::Client {
        name: name.to_owned(),
        path: path.display().to_string(),
        subject: leaf.subject.clone(),
        issuer: leaf.issuer.clone(),
        serial: leaf.serial.clone(),
        not_after: leaf.not_after,
        used_by: Vec::new(),
        renewable: false,
    }
}

fn credentials(look: Look<'_>) -> Vec<crate::model::diagnose::Client> {
    let own = look.inventory.entries.iter().filter(|e| !e.is_ca()).filter_map(|entry| {
        let leaf = entry.leaf().filter(|l| l.usages.contains("clientAuth"))?;
        Some(crate::model::diagnose::Client {
            used_by: entry.used_by.iter().map(ToString::to_string).collect(),
            renewable: matches!(entry.owner, Owner::Kubeadm | Owner::Certwarden | Owner::Kubelet),
            ..client(&entry.name, entry.path(), leaf)
        })
    });
    let mut all: Vec<_> = own.collect();
    for path in kubeconfigs(look) {
        if look.inventory.entries.iter().any(|e| e.path() == path) {
            continue;
        }
        if let Some(leaf) = login(look, &path) {
            all.push(client(&path.display().to_string(), &path, &leaf));
        }
    }
    all
}

/// Those of people, which the node does not depend on: known copies, and each home's own.
fn kubeconfigs(look: Look<'_>) -> Vec<PathBuf> {
    let homes = look.host.root.list(Path::new("/home")).unwrap_or_default();
    let homes = homes.into_iter().take(MOST).map(|h| Path::new("/home").join(h));
    let wanted = &look.policy.kubeconfigs;
    let mut all: Vec<PathBuf> = homes.chain(wanted.homes.iter().cloned()).map(|h| h.join(".kube/config")).collect();
    all.extend(wanted.copies.iter().cloned());
    all.extend(look.inventory.copies.iter().map(|c| c.path.clone()));
    all.sort();
    all.dedup();
    all
}

fn login(look: Look<'_>, path: &Path) -> Option<CertFacts> {
    // a home may be on a server that does not answer, and no link of its owner's is followed
    let seen = look.host.root.place_without_links(path).ok()?.look().ok()?;
    let config = kubeconfig::parse(std::str::from_utf8(&seen.bytes).ok()?).ok()?;
    let beside = |file: &Path| look.host.root.read_secret(&kubeconfig::relative_to(path, file));
    let pem = config.identity.certificate()?.pem(beside).ok()?;
    parse_pem(&pem).ok()?.into_iter().next()
}

/// What the API server itself has counted.
fn histogram(look: Look<'_>) -> Seen<Vec<(f64, u64)>> {
    if let Some(unseen) = look.unseen() {
        return unseen;
    }
    let readable = |name| look.inventory.get(name).is_some_and(|e| matches!(e.content, Content::Readable(_)));
    let Some(to) = look.administrators().filter(|_| readable("admin.conf")) else {
        return Seen::Unseen(
            "it takes admin.conf to read the API server's metrics: run it on a control plane".to_owned(),
        );
    };
    (look.progress)("reading the API server's metrics");
    match look.host.kube.get(&Connection { limit: LIMIT, ..to }, "/metrics") {
        Ok(a) if a.status == 200 => {
            let buckets = buckets(&a.body);
            if buckets.is_empty() {
                return Seen::Unseen(format!("{METRIC} is not in what could be read of the metrics"));
            }
            Seen::Known(buckets, By::Admin)
        }
        Ok(a) => Seen::Unseen(format!("the API server answers {} for its metrics", a.status)),
        Err(e) => Seen::Unseen(e.to_string()),
    }
}

fn buckets(text: &str) -> Vec<(f64, u64)> {
    let bucket = |line: &str| {
        let (labels, value) = line.strip_prefix(METRIC)?.rsplit_once(' ')?;
        let le = labels.split("le=\"").nth(1)?.split('"').next()?;
        let le = if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? };
        let value: f64 = value.parse().ok()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, as Prometheus writes it")]
        Some((le, value.max(0.0) as u64))
    };
    text.lines().filter_map(bucket).take(64).collect()
}

/// Serials of certificates that this node's API server did not take, by its log.
fn refused(look: Look<'_>) -> Seen<Vec<(String, u32)>> {
    let root = &look.host.root;
    let Ok(pods) = root.list(Path::new(PODS)) else {
        return Seen::Unseen(format!("{PODS} cannot be read"));
    };
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    let mut logs = 0;
    for pod in pods.iter().filter(|p| p.starts_with("kube-system_kube-apiserver-")) {
        let dir = Path::new(PODS).join(pod).join("kube-apiserver");
        for log in root
            .list(&dir)
            .unwrap_or_default()
            .iter()
            .filter(|f| Path::new(f).extension().is_some_and(|e| e == "log"))
            .take(MOST)
        {
            logs += 1;
            for serial in serials(&root.read_end(&dir.join(log), LOG_END).unwrap_or_default()) {
                if found.len() < MOST || found.contains_key(serial) {
                    *found.entry(serial.to_owned()).or_default() += 1;
                }
            }
        }
    }
    if logs == 0 {
        return Seen::Unseen("no API server runs on this node".to_owned());
    }
    Seen::Known(found.into_iter().collect(), By::Root)
}

/// `verifying certificate SN=123, SKID=, AKID=AB failed: x509: certificate has expired …` (kubernetes:
/// `apiserver/pkg/authentication/request/x509/x509.go`, since 1.21).
fn serials(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|l| l.contains("has expired")).filter_map(|l| {
        let serial = l.split("verifying certificate SN=").nth(1)?.split(',').next()?;
        serial.bytes().all(|b| b.is_ascii_digit()).then_some(serial).filter(|s| !s.is_empty() && s.len() <= 60)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_metric_and_log_are_read_as_they_are_written() {
        let text = "# TYPE x histogram\napiserver_client_certificate_expiration_seconds_bucket{le=\"0\"} 0\napiserver_client_certificate_expiration_seconds_bucket{le=\"86400\"} 12\napiserver_client_certificate_expiration_seconds_bucket{le=\"+Inf\"} 1.5e+03\napiserver_client_certificate_expiration_seconds_sum 1\n";
        assert_eq!(buckets(text), [(0.0, 0), (86_400.0, 12), (f64::INFINITY, 1500)]);
        let log = "2026 stderr F E1122 authentication.go:53] Unable to authenticate the request due to an error: verifying certificate SN=5034, SKID=, AKID=1A:2B failed: x509: certificate has expired or is not yet valid: current time\nverifying certificate SN=x, failed: has expired\nother";
        assert_eq!(serials(log).collect::<Vec<_>>(), ["5034"]);
    }
}
