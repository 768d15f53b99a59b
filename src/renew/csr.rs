//! A certificate for the kubelet by request: filed with what the node has, waited for, looked for again if it takes longer.
//!
//! The key of a request that nobody has answered yet is kept, so that there is one request at a time and an approval that
//! comes hours later is not lost. What came to nothing is tried again after a while that doubles.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::layout::joined;
use super::{RenewError, Request};
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::crypto::{self, Subject};
use crate::host::fs::{MAX_FILE, Root};
use crate::host::kube::{self, Answer, Connection, Identity, KubeError};
use crate::model::cause::chain;
use crate::model::csr::{self, Kind, Stage};
use crate::model::identity::{GROUP, USER};
use crate::model::kubeconfig;
use crate::model::plan::Item;
use crate::model::policy::Span;
use crate::model::repair::With;
use crate::model::schedule::back_off_until;
use crate::model::version::Version;
use crate::model::{addresses, cert, plain, serving};

/// Name in a comment, then the key; 0600.
fn kept(kind: Kind) -> &'static Path {
    Path::new(match kind {
        Kind::Client => "/var/lib/certwarden/request.pem",
        Kind::Serving => "/var/lib/certwarden/request-serving.pem",
    })
}

/// When to try again.
fn tried(kind: Kind) -> &'static Path {
    Path::new(match kind {
        Kind::Client => "/var/lib/certwarden/request.json",
        Kind::Serving => "/var/lib/certwarden/request-serving.json",
    })
}

const HEAD: &str = "# certwarden's key for the certificate signing request ";
const LOOK: Duration = Duration::from_secs(2);
/// For one request to the API server.
const LIMIT: Duration = Duration::from_secs(10);

/// What has come of requests so far.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Attempts {
    failures: u32,
    until: Timestamp,
    /// Somebody said no to the last one.
    #[serde(default)]
    denied: bool,
}

/// Why no request is filed for the moment.
#[derive(Clone, Copy, Debug)]
pub struct HeldBack {
    pub until: Timestamp,
    /// Somebody said no: then no other way is taken either.
    pub denied: bool,
}

/// Set while no request is filed, because the last ones came to nothing. One that is filed already, or was about to be when
/// the process died, is looked for at any time: that costs nobody anything.
pub fn held_back(root: &Root, kind: Kind, now: Timestamp) -> Option<HeldBack> {
    let Attempts { until, denied, .. } = attempts(root, kind);
    let unanswered = root.symlink_metadata(kept(kind)).is_ok();
    (until > now && !unanswered).then_some(HeldBack { until, denied })
}

fn attempts(root: &Root, kind: Kind) -> Attempts {
    let text = root.read(tried(kind), 1 << 12).ok();
    text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
}

/// There is what a request would be for: the next may be filed at any time, and one that is still open is of no use.
pub fn succeeded(root: &Root, kind: Kind) {
    forget(root, kind);
    let _ = root.remove_file(tried(kind)); // should it stay, the next one comes later
}

/// What was issued is of no use: it is not looked for again, and the next request is filed later.
pub fn is_unfit(root: &Root, kind: Kind, now: Timestamp) {
    if root.symlink_metadata(kept(kind)).is_ok() {
        settle(root, kind, now, false);
    }
}

/// Certificate and key for this node, as the kubelet keeps them.
///
/// # Errors
/// [`RenewError`]; `Denied` if somebody said no.
pub(super) fn obtain(
    host: &Host,
    request: &Request<'_>,
    item: &Item,
    with: &With,
    server: &str,
) -> Result<Zeroizing<Vec<u8>>, RenewError> {
    let failed = |detail: String| RenewError::Request { name: item.name.clone(), detail };
    let node = request.node.name.as_deref().ok_or_else(|| failed("the node's name is not known".into()))?;
    let to = connection(host, request, item, with, server).map_err(&failed)?;
    let kind = serving::kind(&item.name);
    let names = names(host, &to, kind, node).map_err(&failed)?;
    let ours = match pending(host, &to, kind).map_err(|e| failed(chain(&e)))? {
        Some(ours) => ours,
        None => file(host, &to, item, Wanted { kind, node, names: &names }, request.now)?,
    };
    let wait = request.policy.kubelet.request_timeout;
    let until = Deadline::after(host.clock.as_ref(), wait.0);
    loop {
        let is_over = until.is_over(host.clock.as_ref()) || request.patience.is_over();
        let found = match look(host, &to, &ours.name) {
            Err(e) if is_over || !may_pass(&e) => {
                return Err(failed(unknown(&ours.name, &e)));
            }
            Err(_) => {
                host.clock.sleep(LOOK);
                continue;
            }
            Ok(found) => found,
        };
        match found.map(|r| r.stage) {
            Some(Stage::Issued { certificate }) => {
                if let Err(why) = fits(&certificate, &ours.key, &names) {
                    settle(&host.root, kind, request.now, false);
                    return Err(failed(why));
                }
                // its key is kept until it is in use: whoever dies before that finds it again
                return Ok(joined(&certificate, &ours.key));
            }
            Some(Stage::Denied { why }) => {
                settle(&host.root, kind, request.now, true);
                return Err(RenewError::Denied { name: item.name.clone(), request: ours.name.clone(), why });
            }
            Some(Stage::Failed { why }) => {
                settle(&host.root, kind, request.now, false);
                return Err(failed(format!("the signer could not issue {}: {why}", ours.name)));
            }
            Some(stage @ (Stage::Pending | Stage::Approved)) => {
                if is_over {
                    return Err(failed(unanswered(&ours.name, &stage, wait)));
                }
            }
            None => {
                settle(&host.root, kind, request.now, false);
                return Err(failed(format!("the request {} is gone from the API server", ours.name)));
            }
        }
        host.clock.sleep(LOOK);
    }
}

/// Whether the server may answer soon: it may be restarted in this very moment, or be busy.
fn may_pass(e: &KubeError) -> bool {
    e.cannot_tell() || matches!(e, KubeError::Status { status: 429 | 500.., .. })
}

fn unknown(name: &str, e: &KubeError) -> String {
    format!("request {name} is filed, and what became of it cannot be told: {}; it is looked for again", chain(e))
}

fn unanswered(name: &str, stage: &Stage, wait: Span) -> String {
    if *stage == Stage::Approved {
        return format!(
            "request {name} is approved, and nothing was issued within {wait}: see that the controller manager has the \
             CA's key; it is looked for again"
        );
    }
    format!(
        "nobody approved request {name} within {wait}: `kubectl certificate approve {name}`, or see that the controller \
         manager's approver runs; it is looked for again"
    )
}

/// A request and its key.
struct Filed {
    name: String,
    key: Zeroizing<Vec<u8>>,
}

/// The one that was filed before and is still there.
///
/// # Errors
/// It cannot be told now: another one would lose the key of this one.
fn pending(host: &Host, to: &Connection, kind: Kind) -> Result<Option<Filed>, KubeError> {
    let Ok(text) = host.root.read_secret(kept(kind)) else { return Ok(None) };
    let head = text.split(|b| *b == b'\n').next().and_then(|l| std::str::from_utf8(l).ok());
    let Some(name) = head.and_then(|h| h.strip_prefix(HEAD)).map(str::to_owned) else { return Ok(None) };
    match look(host, to, &name) {
        Ok(Some(_)) => Ok(Some(Filed { name, key: text })),
        Ok(None) => {
            forget(&host.root, kind);
            Ok(None)
        }
        // who filed it is not who asks now, and may not read it
        Err(KubeError::Status { status: 403, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn forget(root: &Root, kind: Kind) {
    let _ = root.remove_file(kept(kind)); // found again, it is of no use and is replaced
}

/// What is asked for, beyond a new key.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    kind: Kind,
    node: &'a str,
    /// Of a server: DNS names and addresses.
    names: &'a [String],
}

/// What a serving certificate is for, as the kubelet asks for it: what its Node object says now.
fn names(host: &Host, to: &Connection, kind: Kind, node: &str) -> Result<Vec<String>, String> {
    if kind == Kind::Client {
        return Ok(Vec::new());
    }
    let path = format!("/api/v1/nodes/{node}");
    let answer = host.kube.get(to, &path).map_err(|e| chain(&e))?;
    if answer.status != 200 {
        return Err(format!("{} does not tell the node's addresses: {}", to.server, words(&answer)));
    }
    let found = addresses::of_node(&answer.body, node)?;
    // as the kubelet, which waits until it has one (kubernetes: `pkg/kubelet/certificate/kubelet.go:newGetTemplateFn`)
    if found.ips.is_empty() {
        return Err("its Node object has no address yet, and a serving certificate is for addresses".to_owned());
    }
    Ok(found.all())
}

fn file(host: &Host, to: &Connection, item: &Item, wanted: Wanted<'_>, now: Timestamp) -> Result<Filed, RenewError> {
    let Wanted { kind, node, names } = wanted;
    let failed = |detail: String| RenewError::Request { name: item.name.clone(), detail };
    // before anything is made: an API server that is away costs no attempt
    let version = version(host, to).map_err(|e| failed(chain(&e)))?;
    let common_name = format!("{USER}{node}");
    let subject = Subject { organization: GROUP, common_name: &common_name };
    let made = crypto::new_request(subject, names).map_err(|e| failed(chain(&e)))?;
    let digest = crypto::sha256_hex(&made.request);
    let name = format!("{}{node}-{}", kind.prefix(), digest.get(..8).unwrap_or_default());
    let mut with_name = Zeroizing::new(Vec::with_capacity(HEAD.len() + name.len() + 1 + made.key.len()));
    with_name.extend_from_slice(format!("{HEAD}{name}\n").as_bytes());
    with_name.extend_from_slice(&made.key);
    // before it is filed: one that was answered without its key would be lost
    host.root.write(kept(kind), &with_name, 0o600)?;
    count(&host.root, kind, now);
    let body = csr::request(kind, &name, &made.request, version);
    match host.kube.post(to, csr::PATH, &body) {
        Ok(Answer { status: 200 | 201 | 409, .. }) => Ok(Filed { name, key: made.key }),
        Ok(answer) => {
            forget(&host.root, kind);
            Err(failed(format!("{} does not take the request: {}", to.server, words(&answer))))
        }
        // perhaps it was taken: it is looked for before another is filed
        Err(e) => Err(failed(unknown(&name, &e))),
    }
}

/// Should nothing come of it, the next one is filed later.
fn count(root: &Root, kind: Kind, now: Timestamp) {
    let failures = attempts(root, kind).failures.saturating_add(1);
    keep(root, kind, &Attempts { failures, until: back_off_until(failures, now), denied: false });
}

/// It was answered: it is not looked for again, and unless the answer leads to something the next one is filed later. From
/// now on, because an answer can come days after the request.
fn settle(root: &Root, kind: Kind, now: Timestamp, denied: bool) {
    forget(root, kind);
    let failures = attempts(root, kind).failures.max(1);
    keep(root, kind, &Attempts { failures, until: back_off_until(failures, now), denied });
}

fn keep(root: &Root, kind: Kind, attempts: &Attempts) {
    if let Ok(text) = serde_json::to_vec(attempts) {
        let _ = root.write(tried(kind), &text, 0o600); // without it the next attempt comes sooner
    }
}

/// None: there is no such request.
fn look(host: &Host, to: &Connection, name: &str) -> Result<Option<csr::Request>, KubeError> {
    let path = format!("{}/{name}", csr::PATH);
    let answer = host.kube.get(to, &path)?;
    let server = to.server.clone();
    match answer.status {
        200 => csr::parse(&answer.body).map(Some).map_err(|e| kube::malformed(server, path, &e)),
        404 => Ok(None),
        status => Err(KubeError::Status { server, path, status, detail: words(&answer) }),
    }
}

fn version(host: &Host, to: &Connection) -> Result<Option<Version>, KubeError> {
    let answer = host.kube.get(to, "/version")?;
    let told: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    Ok(told.and_then(|v| Version::parse(v.get("gitVersion")?.as_str()?)))
}

fn words(answer: &Answer) -> String {
    let told: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    let message = told.and_then(|v| Some(v.get("message")?.as_str()?.to_owned())).unwrap_or_default();
    format!("{} {}", answer.status, plain::line(&message, plain::SENTENCE))
}

/// Before anything of it is kept: whoever signs may answer anything.
pub(super) fn fits(certificate: &[u8], key: &[u8], names: &[String]) -> Result<(), String> {
    let chain = cert::parse_pem(certificate).map_err(|e| format!("what was issued is unusable: {e}"))?;
    let own = crypto::public_key_der(key).map_err(|e| format!("the key is {e}"))?;
    let leaf = chain.first().filter(|leaf| leaf.spki == own);
    let leaf = leaf.ok_or_else(|| "what was issued is for another key".to_owned())?;
    let has = |name: &String| ["DNS", "IP"].iter().any(|kind| leaf.sans.contains(&format!("{kind}:{name}")));
    let lacks: Vec<&str> = names.iter().filter(|n| !has(n)).map(String::as_str).collect();
    if lacks.is_empty() { Ok(()) } else { Err(format!("what was issued is not for {}", lacks.join(", "))) }
}

fn connection(
    host: &Host,
    request: &Request<'_>,
    item: &Item,
    with: &With,
    server: &str,
) -> Result<Connection, String> {
    let kubelets = request.node.kubelet.kubeconfig.as_deref();
    let (config, identity, headers) = match with {
        With::Own { file } => {
            let pem = host.root.read_secret(file).map_err(|e| chain(&e))?;
            let identity = Identity { cert: pem.to_vec(), key: pem };
            (kubelets, Some(identity), Vec::new())
        }
        With::Bootstrap { config } => {
            let text = host.root.read_text(config).map(Zeroizing::new).map_err(|e| chain(&e))?;
            let token = kubeconfig::token(&text).map_err(|e| format!("{}: {e}", config.display()))?;
            let token = token.ok_or_else(|| format!("{} holds no token", config.display()))?;
            let header = ("Authorization".to_owned(), format!("Bearer {}", token.as_str()));
            (Some(config.as_path()), None, vec![header])
        }
    };
    let ca = config.and_then(|path| ca_of(host, path));
    let ca = ca.map_or_else(|| host.root.read(&item.ca, MAX_FILE).map_err(|e| chain(&e)), Ok)?;
    Ok(Connection { server: server.to_owned(), ca: Some(ca), identity, headers, limit: LIMIT })
}

/// The bundle that a kubeconfig trusts.
fn ca_of(host: &Host, path: &Path) -> Option<Vec<u8>> {
    let text = host.root.read_text(path).map(Zeroizing::new).ok()?;
    let beside = |file: &Path| host.root.read_secret(&kubeconfig::relative_to(path, file));
    kubeconfig::parse(&text).ok()?.ca?.pem(beside).ok()
}
