//! `kubeadm certs renew`, in a private copy of the node's files ([`super::staging`]).
//!
//! kubeadm's exit code proves nothing (it is 0 where a CA's key is away), and its kubeconfigs lose all but the
//! first certificate of the CA bundle: what counts is which files changed, and only certificates and keys are taken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::layout::grafted;
use super::local::Local;
use super::staging::{Answer, Done, Name, Order};
use super::{FOREVER, RenewError, Renewer, Request, Staged, cluster_config, successor};
use crate::host::Host;
use crate::host::crypto;
use crate::host::exec::{Invocation, Program};
use crate::model::cert;
use crate::model::credential;
use crate::model::inventory::{Form, Node, Owner};
use crate::model::kubeconfig::{self, Material};
use crate::model::plan::Item;
use crate::model::policy::{Policy, Span};
use crate::model::version::Version;

/// kubernetes: `cmd/kubeadm/app/constants/constants.go:KubernetesDir`; no flag of `certs renew` moves it.
pub(crate) const KUBERNETES_DIR: &str = "/etc/kubernetes";
const CACHE: &str = "/var/lib/certwarden/cluster-configuration.yaml";
/// For what staging does besides running kubeadm.
const STAGING_MARGIN: Duration = Duration::from_secs(60);

/// kubeadm as the issuer.
#[derive(Debug)]
pub struct Kubeadm;

impl Renewer for Kubeadm {
    fn stage(&self, host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
        let (own, kubeadms): (Vec<Item>, Vec<Item>) = request.items.iter().cloned().partition(|i| !is_kubeadms(i));
        let mut staged = Local.stage(host, &Request { items: &own, ..*request })?;
        let Staged { files, notes, .. } = renew(host, &Request { items: &kubeadms, ..*request })?;
        staged.files.extend(files);
        staged.notes.extend(notes);
        Ok(staged)
    }
}

/// One name that kubeadm does not know would make it refuse them all. It writes no certificate and key to one file.
pub(super) fn is_kubeadms(item: &Item) -> bool {
    let by_us = matches!(item.form, Form::Combined { .. } | Form::Dated { .. } | Form::Reference { .. });
    item.owner != Owner::Certwarden && !by_us
}

/// tmpfs(5): `noswap` is Linux 6.4's.
const SWAPPED: &str = "new keys may have been written to the swap device while they were staged: this kernel has no tmpfs that is \
    never swapped (Linux 6.4); encrypt the swap device, or turn swap off";

fn renew(host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
    let names = request.items.iter().map(|item| name_of(host, item)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Ok(Staged::default());
    }
    let mut order = order(host, request, names)?;
    let done = prepare(host, request, &mut order).and_then(|notes| {
        let answer = in_staging(host, &order)?;
        judge(&answer, &order, request.policy.exec.kubeadm_timeout)?;
        let mut staged = collect(host, request)?;
        staged.notes.extend(notes);
        staged.notes.extend(answer.may_be_swapped.then(|| SWAPPED.to_owned()));
        Ok(staged)
    });
    tidy(&order);
    done
}

fn order(host: &Host, request: &Request<'_>, names: Vec<Name>) -> Result<Order, RenewError> {
    let kubeadm = host.programs.path(Program::Kubeadm).ok_or(RenewError::NoKubeadm)?;
    Ok(Order {
        kubeadm,
        verb: Vec::new(),
        config: request.workdir.join("cluster-configuration.yaml"),
        kubernetes_dir: host.root.on_host(Path::new(KUBERNETES_DIR)),
        pki_dir: host.root.on_host(&request.node.pki_dir),
        workdir: request.workdir.to_path_buf(),
        limit_secs: request.policy.exec.kubeadm_timeout.0.as_secs().max(1),
        names,
    })
}

/// What depends on kubeadm's version: the words of the command and the configuration.
fn prepare(host: &Host, request: &Request<'_>, order: &mut Order) -> Result<Vec<String>, RenewError> {
    let version = version(host, order)?;
    order.verb = version.renew_verb();
    let config = cluster_config::cluster_configuration(host, request.node, version, Path::new(CACHE))?;
    write_new(&order.config, config.document.as_bytes())?;
    Ok(config.notes)
}

/// Keys do not stay behind, whatever happened.
fn tidy(order: &Order) {
    for leftover in [&order.config, &order.workdir.join("order.json")] {
        let _ = fs::remove_file(leftover);
    }
    let _ = fs::remove_dir_all(order.workdir.join("out"));
    let _ = fs::remove_dir(order.workdir.join("stage")); // its content went with the namespace
}

fn name_of(host: &Host, item: &Item) -> Result<Name, RenewError> {
    let not_ours = |why: &str| RenewError::NotOurs { name: item.name.clone(), source_name: "kubeadm", why: why.into() };
    // it becomes an argument: nothing that kubeadm could take for a flag or for `all`
    let plain =
        item.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.') && !item.name.starts_with('-');
    match &item.form {
        _ if !plain || item.name == "all" => Err(not_ours("kubeadm has no such certificate")),
        Form::Ca { .. } => Err(not_ours("kubeadm never renews a CA")),
        Form::Combined { .. } | Form::Dated { .. } | Form::Reference { .. } => {
            Err(not_ours("it has certificate and key in one file"))
        }
        Form::Pair { .. } | Form::Kubeconfig { .. } => Ok(Name {
            name: item.name.clone(),
            files: item.form.files().into_iter().map(|f| host.root.on_host(f)).collect(),
        }),
    }
}

/// The version of the kubeadm that is installed.
///
/// # Errors
/// [`RenewError`], among them `NoKubeadm` and `Version`.
pub(super) fn installed(host: &Host, node: &Node, policy: &Policy) -> Result<Version, RenewError> {
    let path = std::env::temp_dir();
    let dir = tempfile::tempdir().map_err(|source| RenewError::Io { action: "create a directory in", path, source })?;
    let request =
        Request { items: &[], node, policy, workdir: dir.path(), now: Timestamp::UNIX_EPOCH, patience: FOREVER };
    version(host, &order(host, &request, Vec::new())?)
}

fn version(host: &Host, order: &Order) -> Result<Version, RenewError> {
    let asked = in_staging(host, &Order { names: Vec::new(), ..order.clone() })?.version.unwrap_or_default();
    Version::parse(&asked).ok_or_else(|| RenewError::Version { detail: format!("`{asked}`") })
}

fn in_staging(host: &Host, order: &Order) -> Result<Answer, RenewError> {
    let path = order.workdir.join("order.json");
    let text = serde_json::to_vec(order).map_err(|e| RenewError::Staging { reason: e.to_string() })?;
    write_new(&path, &text)?;
    let count = u32::try_from(order.names.len()).unwrap_or(u32::MAX);
    // each kubeadm has its own limit in there; this one is for staging itself
    let limit = Duration::from_secs(order.limit_secs).saturating_mul(count).saturating_add(STAGING_MARGIN);
    let args = vec!["in-staging".into(), path.into()];
    let output = host.programs.run(&Invocation { program: Program::Certwarden, args, limit })?;
    let answer: Answer = serde_json::from_str(output.stdout.trim()).map_err(|_| RenewError::Staging {
        reason: format!("the staging process {} without a result: {}", output.ending(), super::staging::words(&output)),
    })?;
    match answer.error {
        Some(reason) => Err(RenewError::Staging { reason }),
        None => Ok(answer),
    }
}

/// Whether every name was renewed and nothing else.
fn judge(answer: &Answer, order: &Order, limit: Span) -> Result<(), RenewError> {
    if let Some(first) = answer.unexpected.first() {
        let of_it = answer.unexpected.iter().filter(|u| u.name == first.name);
        let changes = of_it.take(5).map(|u| format!("{} was {}", u.path.display(), u.change)).collect();
        return Err(RenewError::Unexpected { name: first.name.clone(), changes });
    }
    for (i, asked) in order.names.iter().enumerate() {
        let Some(done) = answer.names.get(i).filter(|d| d.name == asked.name) else {
            return Err(RenewError::Staging {
                reason: format!("the staging process says nothing about {}", asked.name),
            });
        };
        judge_one(done, asked, limit)?;
    }
    Ok(())
}

fn judge_one(done: &Done, asked: &Name, limit: Span) -> Result<(), RenewError> {
    let name = done.name.clone();
    if done.timed_out {
        return Err(RenewError::Hung { name, limit: limit.to_string() });
    }
    if done.code != Some(0) {
        return Err(RenewError::Failed { name, ending: done.ending.clone(), words: done.last_words.clone() });
    }
    if done.changed.is_empty() {
        return Err(RenewError::NotRenewed { name, words: done.last_words.clone() });
    }
    match asked.files.iter().find(|f| !done.changed.contains(f)) {
        Some(path) => Err(RenewError::Half { name, path: path.clone() }),
        None => Ok(()),
    }
}

/// Reads what came out of staging; kubeconfigs give only their certificate and key.
fn collect(host: &Host, request: &Request<'_>) -> Result<Staged, RenewError> {
    // through the host's own root: openat2(2), which another one would need, is not to be had in every sandbox
    let workdir = request.workdir.strip_prefix(host.root.path()).unwrap_or(request.workdir);
    let out = Path::new("/").join(workdir).join("out");
    let fresh = |path: &Path| {
        let path = host.root.on_host(path);
        host.root.read_secret(&out.join(path.strip_prefix("/").unwrap_or(&path)))
    };
    let mut staged = Staged::default();
    for item in request.items {
        match &item.form {
            Form::Kubeconfig { path } => {
                let made = fresh(path)?;
                let (cert, key) = identity(path, &made)?;
                let old = host.root.read_secret(path)?;
                staged.notes.extend(bundle_kept(path, &old, &made));
                staged.files.insert(path.clone(), grafted(path, &old, &cert, &key)?);
            }
            Form::Pair { cert, key } => {
                let (new_cert, new_key) = (fresh(cert)?, fresh(key)?);
                check(key, &new_key, false)?;
                check(cert, &new_cert, true)?;
                let (new_cert, new_key) = successor::pair(host, (cert, key), &new_cert, &new_key);
                staged.files.insert(cert.clone(), new_cert);
                staged.files.insert(key.clone(), new_key);
            }
            other => {
                let why = format!("{} is no pair and no kubeconfig", other.path().display());
                return Err(RenewError::NotOurs { name: item.name.clone(), source_name: "kubeadm", why });
            }
        }
    }
    Ok(staged)
}

/// Half-written and made-up files are found here; whether certificate and key fit is [`super::validate`]'s question.
fn check(path: &Path, bytes: &[u8], is_cert: bool) -> Result<(), RenewError> {
    let rubbish = |detail: String| RenewError::Rubbish { path: path.to_path_buf(), detail };
    if is_cert {
        cert::parse_pem(bytes).map(drop).map_err(|e| rubbish(e.to_string()))
    } else {
        crypto::public_key_der(bytes).map(drop).map_err(|e| rubbish(e.to_string()))
    }
}

fn identity(path: &Path, file: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), RenewError> {
    let rubbish = |detail: String| RenewError::Rubbish { path: path.to_path_buf(), detail };
    let (cert, key) = credential::embedded(file).map_err(|e| rubbish(e.to_string()))?;
    check(path, &cert, true)?;
    check(path, &key, false)?;
    Ok((cert, key))
}

/// kubeadm writes the first certificate of ca.crt in the place of a whole bundle
/// (kubernetes: `cmd/kubeadm/app/phases/certs/renewal/readwriter.go:kubeConfigReadWriter.Write`); only its identity is taken.
fn bundle_kept(path: &Path, old: &[u8], made: &[u8]) -> Option<String> {
    let bundle = |file: &[u8]| match kubeconfig::parse(std::str::from_utf8(file).ok()?).ok()?.ca? {
        Material::Embedded(pem) => Some(cert::parse_pem(&pem).ok()?.len()),
        Material::File(_) => None,
    };
    let (had, has) = (bundle(old)?, bundle(made)?);
    let (path, lost) = (path.display(), had.saturating_sub(has));
    (lost > 0)
        .then(|| format!("kubeadm left {lost} of the {had} CA certificates in {path} out: all {had} were put back"))
}

/// Whether certificate and key of a kubeconfig can be exchanged: tried with its own.
pub(super) fn takes_another(host: &Host, path: &Path) -> Result<(), RenewError> {
    let graft = |detail: String| RenewError::Graft { path: path.to_path_buf(), detail };
    let old = host.root.read_secret(path)?;
    let (cert, key) = credential::embedded(&old).map_err(|e| graft(e.to_string()))?;
    grafted(path, &old, &cert, &key).map(drop)
}

fn write_new(path: &PathBuf, bytes: &[u8]) -> Result<(), RenewError> {
    let io = |action| move |source| RenewError::Io { action, path: path.clone(), source };
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io("create"))?;
    file.write_all(bytes).map_err(io("write"))
}
