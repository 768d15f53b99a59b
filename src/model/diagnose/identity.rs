//! Root causes in the kubelet's own identity and its rotation.

use super::facts::{Certificate, Facts, Login, Seen};
use super::klog::Signature;
use super::node::{ending, short};
use super::{Cause, Remedy, RootCause};
use crate::model::assess::Severity;
use crate::model::finding::Problem;
use crate::model::identity::{Config, Lies, USER};
use crate::model::inventory::Role;
use crate::model::repair::{CLIENT, CONFIG, Choice};
use crate::model::rotation::Rotation;

/// Less than this is no room for a certificate and a key.
const LEAST_FREE: u64 = 64 << 10;

/// What certwarden would do about the kubelet's identity, or what a person must.
fn remedy(f: &Facts) -> Vec<Remedy> {
    match &f.kubelet.choice {
        Choice::Repair(_) | Choice::Nothing if f.left_out(CLIENT).is_some() => {
            f.left_out(CLIENT).map(Remedy::left_out).unwrap_or_default()
        }
        Choice::Repair(_) | Choice::Nothing
            if f.role == Role::ControlPlane || matches!(f.kubelet.choice, Choice::Repair(_)) =>
        {
            Remedy::renew(&[CLIENT])
        }
        Choice::Operator { remedy, .. } => vec![Remedy::note(remedy.clone())],
        _ => by_hand(f),
    }
}

/// On a worker nothing leads back: a control plane issues a new kubelet.conf.
fn by_hand(f: &Facts) -> Vec<Remedy> {
    let node = f.node.as_deref().unwrap_or("NODE");
    vec![
        Remedy::run(
            format!("kubeadm kubeconfig user --org system:nodes --client-name system:node:{node} > kubelet.conf"),
            "on a control plane; copy the file to this node's /etc/kubernetes/kubelet.conf",
        ),
        Remedy::restart_kubelet(&f.kubelet.unit),
    ]
}

fn holds(c: &Certificate) -> Vec<String> {
    let found = c.findings.iter().map(|x| format!("{}: {}", x.id, x.message));
    [ending(c)].into_iter().chain(found).collect()
}

fn alive(f: &Facts) -> Option<String> {
    let works = f.kubelet_runs() == Some(true) && f.lease_is_fresh() == Some(true);
    works.then(|| {
        "the running kubelet still works with what it read before: it will not survive its next restart".to_owned()
    })
}

/// The kubelet cannot use what lies there, whatever its date.
pub(super) fn is_broken(f: &Facts) -> bool {
    kubeconfig(f).is_some() || broken(f).is_some() || f.client().is_some_and(Certificate::is_expired)
}

fn fatal(p: Problem) -> bool {
    matches!(
        p,
        Problem::Missing
            | Problem::Unreadable
            | Problem::Malformed
            | Problem::Empty
            | Problem::DanglingSymlink
            | Problem::PointsNowhere
    )
}

/// kubelet.conf itself.
pub(super) fn kubeconfig(f: &Facts) -> Option<RootCause> {
    let conf = f.kubeconfig().filter(|c| c.findings.iter().any(|x| fatal(x.id)));
    // without the identity behind it there is one entry for both, at the kubeconfig's path
    let both = f.client().filter(|c| c.path.ends_with(CONFIG) && c.findings.iter().any(|x| fatal(x.id)));
    let bad = conf.or(both)?;
    let why = bad.findings.iter().find(|x| fatal(x.id)).map(|x| x.message.clone()).unwrap_or_default();
    let text = format!("the kubelet's kubeconfig cannot be used: {why}");
    Some(
        RootCause::new(Cause::KubeconfigBroken, Severity::Critical, text)
            .seen(holds(bad).into_iter().chain(alive(f)))
            .mended(remedy(f)),
    )
}

/// Certificate and key, whatever the time is.
pub(super) fn broken(f: &Facts) -> Option<RootCause> {
    let client = f.client()?;
    let path = &client.path;
    let found = |p: Problem| client.has(p);
    let (cause, text) = if found(Problem::Missing) || found(Problem::DanglingSymlink) {
        (Cause::ClientMissing, format!("the kubelet's client certificate is not there: {path} {}", lies(f)))
    } else if found(Problem::Empty) || found(Problem::Malformed) || found(Problem::Unreadable) {
        (Cause::ClientDamaged, format!("the kubelet's client certificate in {path} cannot be used"))
    } else if found(Problem::KeyMismatch) {
        (Cause::ClientKeyMismatch, format!("key and certificate in {path} do not belong together"))
    } else if found(Problem::WrongIdentity) {
        let who = client.leaf.as_ref().and_then(|l| l.common_name.clone()).unwrap_or_default();
        (Cause::ClientOfAnother, format!("the kubelet's client certificate is for {who}, and not for this node"))
    } else if found(Problem::WrongIssuer) {
        (
            Cause::ClientOtherCa,
            "the kubelet's client certificate is of another CA than the cluster's: no API server takes it".to_owned(),
        )
    } else {
        return None;
    };
    Some(
        RootCause::new(cause, Severity::Critical, text)
            .seen(holds(client).into_iter().chain(alive(f)))
            .mended(remedy(f)),
    )
}

fn lies(f: &Facts) -> String {
    match &f.kubelet.identity.lies {
        Lies::Nothing => "does not exist".to_owned(),
        Lies::Link { to } => format!("leads to {}, which does not exist", to.display()),
        Lies::File | Lies::Obstructed => "is none".to_owned(),
    }
}

pub(super) fn expired(f: &Facts) -> Option<RootCause> {
    // whichever of the two kubelet.conf names
    let used =
        f.kubeconfig().filter(|c| c.is_expired() && matches!(f.kubelet.identity.config, Config::Embedded { .. }));
    let client = used.or_else(|| f.client().filter(|c| c.is_expired()))?;
    // what ended with its CA is that one's matter
    let leaf = client.leaf.as_ref().filter(|l| l.not_after <= f.at)?;
    let embedded = used.map(|_| "; it is in kubelet.conf itself, where nobody rotates it").unwrap_or_default();
    let text = format!(
        "the kubelet's client certificate has expired {} ago{embedded}",
        super::node::told(f.at.duration_since(leaf.not_after))
    );
    let log =
        [Signature::BootstrapExpired, Signature::NoBootstrap, Signature::ClientExpired, Signature::RequestRefused];
    let said = log
        .iter()
        .filter_map(|s| f.journal.known()?.get(*s))
        .map(|h| format!("the kubelet says since {:.0} ({}): {}", h.first, h.signature.id(), h.line));
    let why = why_not_rotated(f);
    Some(
        RootCause::new(Cause::ClientExpired, Severity::Critical, text)
            .seen([ending(client), format!("now {}", short(f.at))].into_iter().chain(said).chain(why))
            .mended(remedy(f)),
    )
}

/// What was in the way of the rotation that should have come before.
fn why_not_rotated(f: &Facts) -> Vec<String> {
    let mut why = Vec::new();
    if !f.kubelet.rotates {
        why.push("rotateCertificates is false: nobody rotated it".to_owned());
    }
    if let Some(file) = &f.kubelet.identity.obstacle {
        why.push(format!("a plain file, {}, stopped its rotation", file.display()));
    }
    why
}

/// The file is good, and the API server does not take it.
pub(super) fn refused(f: &Facts) -> Option<RootCause> {
    let Seen::Known(login, _) = &f.login else { return None };
    // what is wrong with the file says why
    let client = f.client().filter(|_| !is_broken(f))?;
    let own = f.node.as_ref().map(|n| format!("{USER}{n}"));
    let (cause, text, evidence) = match login {
        Login::As { user, .. } if own.as_ref().is_some_and(|own| own != user) => (
            Cause::ClientOfAnother,
            format!("the API server takes this node for {user}: its Node is another's"),
            format!("wanted {}", own.unwrap_or_default()),
        ),
        Login::Refused { detail } => (
            Cause::ClientRefused,
            "the API server does not accept the kubelet's client certificate, which by its file is good".to_owned(),
            detail.clone(),
        ),
        _ => return None,
    };
    let issuer = client
        .leaf
        .as_ref()
        .map(|l| format!("it was issued by {}; --client-ca-file of the API server must have that CA", l.issuer));
    Some(
        RootCause::new(cause, Severity::Critical, text)
            .seen([evidence].into_iter().chain(issuer).chain([ending(client)]))
            .mended(
                [Remedy::run(
                    "openssl verify -CAfile /etc/kubernetes/pki/ca.crt /var/lib/kubelet/pki/kubelet-client-current.pem",
                    "with ca.crt of a control plane",
                )]
                .into_iter()
                .chain(remedy(f)),
            ),
    )
}

/// Nothing can be written where the kubelet keeps its certificates.
pub(super) fn no_room(f: &Facts) -> Option<RootCause> {
    let said = f.journal.known().and_then(|j| j.get(Signature::NotStored));
    let full = f.kubelet.free.is_some_and(|free| free < LEAST_FREE);
    if !full && !f.kubelet.read_only && said.is_none_or(|h| f.at.duration_since(h.last).as_hours() >= 1) {
        return None;
    }
    let dir = f
        .kubelet
        .identity
        .current
        .parent()
        .unwrap_or(std::path::Path::new("/var/lib/kubelet/pki"))
        .display()
        .to_string();
    let why = match (full, f.kubelet.read_only) {
        (true, _) => "no space is left",
        (_, true) => "it is read-only",
        _ => "the kubelet says so",
    };
    let text = format!("the kubelet cannot write its next certificate to {dir}: {why}");
    Some(
        RootCause::new(Cause::NoRoom, Severity::Critical, text)
            .seen(said.map(|h| format!("it said at {:.0}: {}", h.last, h.line)))
            .mended([
                Remedy::run(format!("df -h {dir}; findmnt -T {dir}"), "space and mount options"),
                Remedy::restart_kubelet(&f.kubelet.unit),
            ]),
    )
}

/// How it lies on the disk keeps the kubelet from rotating it.
pub(super) fn obstructed(f: &Facts) -> Option<RootCause> {
    let disk = &f.kubelet.identity;
    let ours = f.client().is_some();
    let (cause, text, evidence) = if let Some(file) = disk.obstacle.as_ref() {
        let text = format!(
            "the kubelet cannot rotate its certificate: {} is a plain file where it makes its next link",
            file.display()
        );
        (Cause::RotationBlocked, text, "client-go refuses to replace it".to_owned())
    } else if f.client().is_some_and(|c| c.has(Problem::NotASymlink)) {
        let text = format!(
            "the kubelet cannot rotate its certificate: {} is a plain file and no link",
            disk.current.display()
        );
        (Cause::RotationBlocked, text, "client-go refuses to replace it".to_owned())
    } else if let Config::Embedded { until } = disk.config {
        let until = until.map(|t| format!("until {t:.0}")).unwrap_or_default();
        let text = "kubelet.conf holds a certificate itself, which the kubelet never rotates".to_owned();
        (
            Cause::EmbeddedIdentity,
            text,
            format!("what is in it is good {until}; what the kubelet rotates beside it is not read at its start"),
        )
    } else {
        return None;
    };
    ours.then(|| RootCause::new(cause, Severity::Warning, text).seen([evidence]).mended(remedy(f)))
}

/// It is late, and nothing explains it.
pub(super) fn rotation(f: &Facts) -> Option<RootCause> {
    let client = f.client()?;
    let leaf = client.leaf.as_ref().filter(|_| !client.is_expired())?;
    let window = Rotation::of(leaf, f.at);
    let Rotation::Overdue { until, .. } = window else { return None };
    if !f.kubelet.rotates {
        let text = "rotateCertificates is false: the kubelet will not renew its certificate, which is near its end";
        return Some(
            RootCause::new(Cause::RotationOff, Severity::Warning, text).seen([ending(client)]).mended(
                [Remedy::note("set rotateCertificates: true in /var/lib/kubelet/config.yaml, and restart the kubelet")]
                    .into_iter()
                    .chain(Remedy::renew(&[CLIENT])),
            ),
        );
    }
    // who may ask, and has not: where the API could not be asked, nobody knows
    let requests = f.requests.known()?;
    let own = f.node.as_ref().map(|n| format!("{USER}{n}"))?;
    let asked = requests.iter().any(|r| r.username == own && r.created.is_some_and(|t| t >= until));
    (!asked && f.kubelet_runs() == Some(true)).then(|| {
        let text =
            format!("the kubelet's rotation has stalled: it should have asked by {until:.0}, and there is no request");
        RootCause::new(Cause::RotationStalled, Severity::Warning, text)
            .seen([
                ending(client),
                "no request of this node is there (they are kept for an hour when decided, for a day when not)"
                    .to_owned(),
            ])
            .mended(
                [Remedy::restart_kubelet(&f.kubelet.unit)]
                    .into_iter()
                    .chain([Remedy::run("certwarden renew kubelet-client", "if no request follows within minutes")]),
            )
    })
}
