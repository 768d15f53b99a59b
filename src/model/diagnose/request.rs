//! Root causes in what became of the node's requests for a certificate.

use super::facts::{Certificate, Facts};
use super::node::SERVING;
use super::{Cause, Remedy, RootCause};
use crate::model::assess::Severity;
use crate::model::component::Component;
use crate::model::csr::{CLIENT_SIGNER, Request, SERVING_SIGNER, Stage};
use crate::model::identity::USER;
use crate::model::rotation::Rotation;

/// So long an approver and a signer that run may take.
const QUICK: i64 = 60;

/// This node's newest request to a signer, while what it asks for is wanted.
fn newest<'a>(f: &'a Facts, signer: &str) -> Option<&'a Request> {
    let own = format!("{USER}{}", f.node.as_deref()?);
    let mine = f.requests.known()?.iter().filter(|r| r.username == own && r.signer == signer);
    mine.max_by_key(|r| r.created)
}

/// A certificate that is good for long needs no answer.
fn wanted(f: &Facts) -> bool {
    let rests =
        |c: &Certificate| c.leaf.as_ref().is_some_and(|l| matches!(Rotation::of(l, f.at), Rotation::NotDue { .. }));
    !f.client().is_some_and(rests)
}

fn age(f: &Facts, request: &Request) -> i64 {
    request.created.map_or(i64::MAX, |t| f.at.duration_since(t).as_secs())
}

fn since(request: &Request) -> String {
    let at = request.created.map(|t| format!(", filed {t:.0}")).unwrap_or_default();
    format!("request {} ({}){at}", request.name, request.signer)
}

/// The node may not ask, or what it asks is not approved by rule.
pub(super) fn rights(f: &Facts) -> Option<RootCause> {
    let rights = f.rights.known()?;
    if rights.create == Some(false) {
        let text = "this node may not file certificate signing requests: its rotation cannot succeed";
        let severity = if wanted(f) { Severity::Critical } else { Severity::Warning };
        return Some(RootCause::new(Cause::MayNotRequest, severity, text).seen(["SelfSubjectAccessReview: create certificatesigningrequests is not allowed".to_owned()]).mended([
            Remedy::run("kubectl auth can-i create certificatesigningrequests --as system:node:NODE --as-group system:nodes", "on a control plane"),
            Remedy::note("the API server needs Node in --authorization-mode, or the ClusterRoleBinding kubeadm:kubelet-bootstrap"),
        ]));
    }
    if rights.approved != Some(false) {
        return None;
    }
    // without the rule a person approves; that is a choice until a request waits for it
    let waits = newest(f, CLIENT_SIGNER).filter(|r| r.stage == Stage::Pending && wanted(f));
    let severity = if waits.is_some() { Severity::Critical } else { Severity::Warning };
    let text = "nobody approves this node's requests: the rule by which the controller manager does is not there";
    Some(
        RootCause::new(Cause::ApproverMayNot, severity, text)
            .seen(["SubjectAccessReview: this node may not create certificatesigningrequests/selfnodeclient".to_owned()].into_iter().chain(waits.map(since)))
            .mended([Remedy::run(
                "kubectl create clusterrolebinding kubeadm:node-autoapprove-certificate-rotation --clusterrole system:certificates.k8s.io:certificatesigningrequests:selfnodeclient --group system:nodes",
                "on a control plane, as kubeadm does it",
            )])
            .mended(waits.map(|r| Remedy::run(format!("kubectl certificate approve {}", r.name), "on a control plane, for the one that waits"))),
    )
}

pub(super) fn denied(f: &Facts) -> Option<RootCause> {
    let request = newest(f, CLIENT_SIGNER).filter(|_| wanted(f))?;
    let Stage::Denied { why } = &request.stage else { return None };
    let text = format!("this node's request was denied: {why}");
    Some(RootCause::new(Cause::RequestDenied, Severity::Critical, text).seen([since(request)]).mended([
        Remedy::note("somebody or an approver did that: ask them; the kubelet files another within minutes"),
        Remedy::run(format!("kubectl get csr {} -o yaml", request.name), "on a control plane: who, and why"),
    ]))
}

pub(super) fn failed(f: &Facts) -> Option<RootCause> {
    let request = newest(f, CLIENT_SIGNER).filter(|_| wanted(f))?;
    let Stage::Failed { why } = &request.stage else { return None };
    let text = format!("the signer could not issue what this node asked for: {why}");
    Some(RootCause::new(Cause::RequestFailed, Severity::Critical, text).seen([since(request)]).mended([Remedy::run(
        "kubectl -n kube-system logs -l component=kube-controller-manager --tail=50",
        "on a control plane: the signer's own words",
    )]))
}

/// Approved and not signed.
pub(super) fn not_signed(f: &Facts) -> Option<RootCause> {
    let signers = [CLIENT_SIGNER, SERVING_SIGNER].into_iter();
    let left =
        |r: &&Request| r.stage == Stage::Approved && age(f, r) > QUICK && (r.signer == SERVING_SIGNER || wanted(f));
    let request = signers.filter_map(|s| newest(f, s)).find(left)?;
    let severity = if request.signer == CLIENT_SIGNER { Severity::Critical } else { Severity::Warning };
    let text =
        "this node's request is approved, and nobody signs it: the controller manager is down, or has no key of the CA";
    Some(signer(f, severity, text).seen([since(request)]))
}

fn signer(f: &Facts, severity: Severity, text: &str) -> RootCause {
    let down =
        f.part(Component::KubeControllerManager).filter(|p| p.running == Some(false) || p.healthy == Some(false));
    RootCause::new(Cause::SignerDown, severity, text)
        .seen(down.map(|p| format!("kube-controller-manager on this node: {}", p.detail)))
        .mended([
            Remedy::run(
                "kubectl -n kube-system get lease kube-controller-manager",
                "on a control plane: is anybody leading, and since when?",
            ),
            Remedy::run(
                "grep cluster-signing /etc/kubernetes/manifests/kube-controller-manager.yaml",
                "on a control plane: both flags must name the CA and its key",
            ),
        ])
}

/// Filed, and nobody has said anything.
pub(super) fn pending(f: &Facts) -> Option<RootCause> {
    let request = newest(f, CLIENT_SIGNER).filter(|r| r.stage == Stage::Pending && age(f, r) > QUICK && wanted(f))?;
    // the same process approves and signs
    let part = f.part(Component::KubeControllerManager);
    let down = part.is_some_and(|p| p.running == Some(false) || p.healthy == Some(false));
    if down || (f.server.own && part.is_none()) {
        let text = "this node's request waits, and the controller manager, which approves and signs, does not run here";
        return Some(signer(f, Severity::Critical, text).seen([since(request)]));
    }
    let text = format!("this node's request has waited for {} min, and nobody has approved it", age(f, request) / 60);
    Some(RootCause::new(Cause::NotApproved, Severity::Critical, text).seen([since(request)]).mended([
        Remedy::run(
            format!("kubectl certificate approve {}", request.name),
            "on a control plane, once you know that it is this node's",
        ),
        Remedy::run(
            "kubectl -n kube-system get lease kube-controller-manager",
            "on a control plane: the approver is the controller manager",
        ),
    ]))
}

/// Requests for serving certificates are approved by nobody unless somebody sees to it.
pub(super) fn serving(f: &Facts) -> Option<RootCause> {
    let request = newest(f, SERVING_SIGNER).filter(|r| r.stage == Stage::Pending && f.kubelet.server_tls_bootstrap)?;
    let has = f.certificate(SERVING).is_some_and(|c| c.leaf.is_some() && !c.is_expired());
    let severity = if has { Severity::Warning } else { Severity::Critical };
    let text = "the request for the kubelet's serving certificate waits: Kubernetes has no approver for such requests";
    Some(RootCause::new(Cause::ServingNotApproved, severity, text).seen([since(request)]).mended([
        Remedy::run(
            format!("kubectl certificate approve {}", request.name),
            "on a control plane, once you know that it is this node's",
        ),
        Remedy::note(
            "install an approver for kubernetes.io/kubelet-serving, or one does this every year on every node",
        ),
    ]))
}
