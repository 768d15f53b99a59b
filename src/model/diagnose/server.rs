//! Root causes on the way to the API server, and in it.

use super::facts::{Certificate, Distrust, Facts, Part, Reach};
use super::identity;
use super::node::{ending, names, serials};
use super::{Cause, Remedy, RootCause};
use crate::model::assess::Severity;
use crate::model::component::Component;
use crate::model::finding::Problem;

fn url(f: &Facts) -> &str {
    f.server.url.as_deref().unwrap_or("the API server")
}

/// The network, towards an API server that is not this node's own.
pub(super) fn unreachable(f: &Facts) -> Option<RootCause> {
    let at = url(f);
    let host = at.trim_start_matches("https://").split([':', '/']).next().unwrap_or_default();
    let (cause, text, detail, remedy) = match f.server.reach.known()? {
        Reach::NoName { detail } => (
            Cause::ServerNameUnknown,
            format!("the name in {at} does not resolve on this node"),
            detail,
            Remedy::run(format!("getent hosts {host}"), "nothing: mend DNS or /etc/hosts"),
        ),
        Reach::Silent { detail } if !f.server.own => (
            Cause::ServerUnreachable,
            format!("nothing comes back from {at}: a network, a firewall or a machine is in the way"),
            detail,
            Remedy::run(format!("curl -vk {at}/livez"), "from here and from another node"),
        ),
        Reach::Refused { detail } if !f.server.own => (
            Cause::ServerRefuses,
            format!("nobody listens at {at}: the API server or the load balancer in front of it is down"),
            detail,
            Remedy::run("certwarden diagnose", "on a control plane: why its API server does not run"),
        ),
        Reach::NoTls { detail } if !f.server.own => (
            Cause::ServerRefuses,
            format!("whoever answers at {at} does not speak TLS"),
            detail,
            Remedy::run(format!("curl -vk {at}/livez"), "who is it?"),
        ),
        _ => return None,
    };
    Some(RootCause::new(cause, Severity::Critical, text).seen([detail.clone()]).mended([remedy]))
}

/// This node's own API server does not run: because of its certificates, of etcd, or of the kubelet that must start it.
pub(super) fn down(f: &Facts) -> Option<RootCause> {
    let detail = match f.server.reach.known()? {
        Reach::Refused { detail } | Reach::Silent { detail } | Reach::NoTls { detail } => detail,
        // it answers and cannot work: where etcd's certificates have ended that is why
        Reach::Unwell { detail } if !control_plane(f, &[Component::Etcd, Component::KubeApiserver]).is_empty() => {
            detail
        }
        _ => return None,
    };
    if !f.server.own {
        return None;
    }
    // without a kubelet nobody starts it; what keeps the kubelet down is told by the rules behind
    let kubelet_is_up = f.kubelet_runs() != Some(false);
    let expired = control_plane(f, &[Component::Etcd, Component::KubeApiserver]);
    if !expired.is_empty() {
        return Some(all_expired(f, &expired));
    }
    if !kubelet_is_up {
        return None;
    }
    let said = |p: &Part| {
        p.last_words.iter().rev().take(3).rev().map(|w| format!("{} said: {w}", p.component)).collect::<Vec<_>>()
    };
    if let Some(etcd) = f.part(Component::Etcd).filter(|p| p.running == Some(false) || p.healthy == Some(false)) {
        let text = "etcd on this node does not answer, and the API server cannot run without it";
        let broken = broken(f, Component::Etcd);
        let remedy = if broken.is_empty() {
            vec![Remedy::run("crictl ps -a --name etcd", "its containers; `crictl logs ID` has its last words")]
        } else {
            Remedy::renew(&broken.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())
        };
        let evidence = [etcd.detail.clone(), detail.clone()]
            .into_iter()
            .chain(said(etcd))
            .chain(broken.iter().flat_map(|c| messages(c)));
        return Some(RootCause::new(Cause::EtcdDown, Severity::Critical, text).seen(evidence).mended(remedy));
    }
    let broken = broken(f, Component::KubeApiserver);
    let part = f.part(Component::KubeApiserver);
    let text = match (part, broken.is_empty()) {
        (None, _) => "this node's API server has no manifest any more: nobody starts it".to_owned(),
        (_, false) => {
            format!("this node's API server does not run, and cannot with what is wrong with {}", names(&broken))
        }
        (Some(_), true) => "this node's API server does not run, and no certificate is why".to_owned(),
    };
    let remedy = if broken.is_empty() {
        vec![
            Remedy::run("crictl ps -a --name kube-apiserver", "its containers; `crictl logs ID` has its last words"),
            Remedy::note("compare /etc/kubernetes/manifests/kube-apiserver.yaml with that of another control plane"),
        ]
    } else {
        Remedy::renew(&broken.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())
    };
    let evidence = part.into_iter().flat_map(|p| std::iter::once(p.detail.clone()).chain(said(p)));
    let evidence = [detail.clone()].into_iter().chain(evidence).chain(broken.iter().flat_map(|c| messages(c)));
    Some(RootCause::new(Cause::ApiserverDown, Severity::Critical, text).seen(evidence).mended(remedy))
}

fn messages(c: &Certificate) -> Vec<String> {
    c.findings.iter().map(|x| format!("{}: {}", c.name, x.message)).collect()
}

/// Leaves that a component uses and that cannot be used, whatever the time is.
fn broken(f: &Facts, component: Component) -> Vec<&Certificate> {
    let fatal = |p: Problem| {
        matches!(
            p,
            Problem::KeyMismatch
                | Problem::Missing
                | Problem::Malformed
                | Problem::Empty
                | Problem::WrongIssuer
                | Problem::DanglingSymlink
        )
    };
    let uses = |c: &&Certificate| c.used_by.contains(&component) && c.findings.iter().any(|x| fatal(x.id));
    f.certificates.iter().filter(uses).collect()
}

/// Expired leaves of these components.
fn control_plane<'a>(f: &'a Facts, of: &[Component]) -> Vec<&'a Certificate> {
    let uses = |c: &&Certificate| !c.ca && !c.absent && c.is_expired() && c.used_by.iter().any(|u| of.contains(u));
    f.certificates.iter().filter(uses).collect()
}

fn all_expired(f: &Facts, expired: &[&Certificate]) -> RootCause {
    let client = f.client().filter(|c| c.is_expired());
    let with = if client.is_some() { ", and the kubelet's own" } else { "" };
    let text = format!("certificates of this node's control plane have expired{with}: {}", names(expired));
    let not_here =
        expired.iter().filter_map(|c| Some(format!("{} cannot be renewed here: {}", c.name, c.not_here.as_ref()?)));
    let remedy = Remedy::renew(&[]);
    RootCause::new(Cause::ControlPlaneExpired, Severity::Critical, text)
        .seen(expired.iter().map(|c| ending(c)).chain(client.map(ending)).chain(not_here))
        .mended(remedy)
}

/// It answers, and its certificate is not accepted.
pub(super) fn untrusted(f: &Facts) -> Option<RootCause> {
    let Reach::Untrusted { why, detail } = f.server.reach.known()? else { return None };
    let at = url(f);
    let shown = f.server.leaf.as_ref().map(|l| {
        format!("it shows {}, issued by {}, valid until {}, serial {}", l.subject, l.issuer, l.not_after, l.serial)
    });
    let evidence = || shown.clone().into_iter().chain([format!("TLS says: {detail}")]);
    let old = f
        .sockets
        .iter()
        .find(|s| s.component == Component::KubeApiserver && s.served.as_ref().is_some_and(|x| *x != s.on_disk));
    let cause = match why {
        // the file is good: the process has not taken it
        Distrust::Expired if old.is_some() => {
            let text = "the API server of this node serves an expired certificate, and its file has another: the process did not take it";
            RootCause::new(Cause::ApiserverServesOld, Severity::Critical, text)
                .seen(old.map(serials).into_iter().chain(evidence()))
                .mended([Remedy::run(
                    "crictl ps --name kube-apiserver -q | xargs crictl stop",
                    "the kubelet starts it anew, with the file",
                )])
        }
        Distrust::Expired => {
            let text = format!("the serving certificate of the API server at {at} has expired: no kubelet accepts it");
            let remedy = if f.server.own {
                Remedy::renew(&["apiserver"])
            } else {
                vec![Remedy::run("certwarden renew apiserver", "on the control plane that serves it")]
            };
            RootCause::new(Cause::ApiserverExpired, Severity::Critical, text).seen(evidence()).mended(remedy)
        }
        Distrust::NotYetValid => {
            let text = format!(
                "the API server's certificate at {at} begins in the future by this machine's clock: one of the two clocks is wrong"
            );
            RootCause::new(Cause::ClockWrong, Severity::Critical, text)
                .seen(evidence())
                .mended([Remedy::run("timedatectl", "shows the clock and whether something synchronises it")])
        }
        Distrust::Name => {
            let names = f.server.leaf.as_ref().map(|l| l.sans.iter().cloned().collect::<Vec<_>>().join(", "));
            let text = format!("the API server's certificate is not for the name or address in {at}");
            RootCause::new(Cause::ApiserverName, Severity::Critical, text)
                .seen(evidence().chain(names.map(|n| format!("it is for {n}"))))
                .mended([
                    Remedy::note("either kubelet.conf names the wrong server: compare it with another node's"),
                    Remedy::note("or the name is missing: add it to certSANs in kubeadm's ClusterConfiguration, then `certwarden renew apiserver`"),
                ])
        }
        Distrust::Issuer => issuer(f, at, evidence().collect()),
    };
    Some(cause)
}

/// The API server is of a CA that kubelet.conf does not have.
fn issuer(f: &Facts, at: &str, evidence: Vec<String>) -> RootCause {
    if f.server.of_ca_on_disk == Some(true) && f.kubelet.trusts_ca_on_disk != Some(true) {
        let text = "the cluster's CA was replaced: the API server and ca.crt on this node are of the new one, kubelet.conf trusts the old one";
        let changed =
            f.changes.iter().filter(|c| c.what.contains("ca.crt")).map(|c| format!("{} at {:.0}", c.what, c.at));
        return RootCause::new(Cause::CaRotated, Severity::Critical, text).seen(evidence.into_iter().chain(changed)).mended([
            Remedy::run("kubectl config set-cluster kubernetes --kubeconfig /etc/kubernetes/kubelet.conf --certificate-authority /etc/kubernetes/pki/ca.crt --embed-certs", "kubelet.conf trusts the new CA; name its own cluster where it has another"),
            Remedy::restart_kubelet(&f.kubelet.unit),
        ]);
    }
    let text = format!("the API server at {at} is of a CA that neither kubelet.conf nor ca.crt on this node has");
    RootCause::new(Cause::ApiserverOtherCa, Severity::Critical, text).seen(evidence).mended([
        Remedy::note("either it is another cluster's, or the cluster's CA was replaced and this node was left out"),
        Remedy::run("kubeadm token create --print-join-command", "on a control plane: its --discovery-token-ca-cert-hash is that of the CA to trust"),
        Remedy::note("where it is the right one: put it into /etc/kubernetes/pki/ca.crt and kubelet.conf, then restart the kubelet"),
    ])
}

/// The API server answers with errors, or refuses everybody.
pub(super) fn unwell(f: &Facts) -> Option<RootCause> {
    let Reach::Unwell { detail } = f.server.reach.known()? else { return None };
    if identity::is_broken(f) {
        return None;
    }
    let etcd = f.part(Component::Etcd).filter(|p| p.running == Some(false) || p.healthy == Some(false));
    let (cause, text) = match etcd {
        Some(_) => (
            Cause::EtcdDown,
            "the API server answers with errors, because etcd on this node does not answer".to_owned(),
        ),
        None => (Cause::ApiserverUnwell, format!("the API server at {} answers with errors of its own", url(f))),
    };
    Some(
        RootCause::new(cause, Severity::Critical, text)
            .seen([detail.clone()].into_iter().chain(etcd.map(|p| p.detail.clone())))
            .mended([
                Remedy::run(
                    "crictl ps -a --name 'kube-apiserver|etcd'",
                    "on the control plane; `crictl logs ID` has their last words",
                ),
                Remedy::run(
                    "curl -k 'https://127.0.0.1:6443/readyz?verbose'",
                    "on the control plane: which check fails",
                ),
            ]),
    )
}
