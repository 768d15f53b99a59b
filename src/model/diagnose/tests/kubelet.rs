//! The kubelet's identity, its unit and its rotation as the root.

use super::*;

#[test]
fn the_kubelets_identity_is_judged_by_what_is_wrong_with_it() {
    use Problem as P;
    for (problem, cause) in [
        (P::Missing, Cause::ClientMissing),
        (P::DanglingSymlink, Cause::ClientMissing),
        (P::Empty, Cause::ClientDamaged),
        (P::Malformed, Cause::ClientDamaged),
        (P::KeyMismatch, Cause::ClientKeyMismatch),
        (P::WrongIdentity, Cause::ClientOfAnother),
        (P::WrongIssuer, Cause::ClientOtherCa),
    ] {
        let harm = |f: &mut Facts| {
            f.find("kubelet-client", problem);
            f.crash("unable to load bootstrap kubeconfig: stat /x: no such file or directory");
            f.login = Seen::Unseen("the kubelet's credential cannot be read".into());
        };
        broken(problem.id(), healthy, harm, cause);
    }
    let playbook = broken(
        "broken under a kubelet that still runs",
        healthy,
        |f| f.find("kubelet-client", P::Empty),
        Cause::ClientDamaged,
    );
    assert!(
        playbook.root_cause.evidence.iter().any(|e| e.contains("will not survive")),
        "{:?}",
        playbook.root_cause.evidence
    );
    broken(
        "kubelet.conf is gone",
        healthy,
        |f| {
            let conf = certificate("kubelet.conf", "/etc/kubernetes/kubelet.conf", &[Component::Kubelet]);
            f.certificates.push(Certificate { leaf: None, ..conf });
            f.find("kubelet.conf", P::Missing);
            f.crash("x");
        },
        Cause::KubeconfigBroken,
    );
    broken(
        "kubelet.conf names what is not there",
        healthy,
        |f| {
            let conf = certificate("kubelet.conf", "/etc/kubernetes/kubelet.conf", &[Component::Kubelet]);
            f.certificates.push(Certificate { leaf: None, ..conf });
            f.find("kubelet.conf", P::PointsNowhere);
        },
        Cause::KubeconfigBroken,
    );
    broken(
        "both are gone",
        healthy,
        |f| {
            f.entry("kubelet-client").path = "/etc/kubernetes/kubelet.conf".into();
            f.find("kubelet-client", P::Missing);
        },
        Cause::KubeconfigBroken,
    );
}

#[test]
fn an_expired_client_certificate_explains_the_crash_loop_and_the_refusal() {
    let expired = |f: &mut Facts| {
        f.expire("kubelet-client");
        f.refuse();
        f.crash("part of the existing bootstrap client certificate in /etc/kubernetes/kubelet.conf is expired: 2026");
    };
    let playbook = broken("worker", healthy, expired, Cause::ClientExpired);
    assert!(playbook.root_cause.evidence.iter().any(|e| e.contains("K01")), "{:?}", playbook.root_cause.evidence);
    assert_eq!(playbook.also, [], "a refusal and a crash loop are consequences");
    let playbook = broken(
        "without a way back",
        healthy,
        |f| {
            expired(f);
            f.kubelet.choice = Choice::Operator {
                reason: "nothing leads back".into(),
                remedy: "on a control plane: kubeadm kubeconfig user".into(),
            };
        },
        Cause::ClientExpired,
    );
    assert!(playbook.root_cause.remedy.iter().any(|r| r.what.contains("kubeadm kubeconfig user")));
    let playbook = broken(
        "it was never rotated",
        healthy,
        |f| {
            expired(f);
            f.kubelet.rotates = false;
        },
        Cause::ClientExpired,
    );
    assert!(playbook.root_cause.evidence.iter().any(|e| e.contains("rotateCertificates")));
    broken(
        "embedded in kubelet.conf",
        healthy,
        |f| {
            f.certificates.push(certificate("kubelet.conf", "/etc/kubernetes/kubelet.conf", &[Component::Kubelet]));
            f.expire("kubelet.conf");
            f.kubelet.identity.config = Config::Embedded { until: Some(at(-DAY)) };
            f.crash("x");
        },
        Cause::ClientExpired,
    );
}

#[test]
fn a_good_file_that_the_api_server_refuses_is_not_called_expired() {
    broken(
        "another --client-ca-file",
        healthy,
        |f| {
            f.refuse();
            f.not_ready_unseen();
        },
        Cause::ClientRefused,
    );
    broken(
        "another user",
        healthy,
        |f| {
            f.login = Seen::Known(Login::As { user: "system:node:n2".into(), groups: vec![] }, By::Node);
        },
        Cause::ClientOfAnother,
    );
}

impl Facts {
    fn not_ready_unseen(&mut self) {
        self.log("E1 x.go:1] \"Unable to register node with API server\" err=\"Unauthorized\"");
    }
}

#[test]
fn a_kubelet_that_does_not_run_is_told_by_who_keeps_it_from_running() {
    broken(
        "stopped",
        healthy,
        |f| {
            let unit = f.unit();
            (unit.active_state, unit.sub_state) = ("inactive".into(), "dead".into());
            f.not_ready("Unknown", "NodeStatusUnknown", -600);
        },
        Cause::KubeletStopped,
    );
    let playbook = broken(
        "masked",
        healthy,
        |f| {
            let unit = f.unit();
            (unit.load_state, unit.active_state, unit.sub_state) = ("masked".into(), "inactive".into(), "dead".into());
            f.not_ready("Unknown", "NodeStatusUnknown", -600);
        },
        Cause::KubeletStopped,
    );
    assert!(playbook.root_cause.text.contains("masked"));
    let playbook = broken(
        "bad configuration",
        healthy,
        |f| {
            f.crash("E1 server.go:1] \"command failed\" err=\"failed to load kubelet config file, path: /var/lib/kubelet/config.yaml, error: x\"");
            f.not_ready("Unknown", "NodeStatusUnknown", -600);
        },
        Cause::KubeletCrashes,
    );
    assert!(playbook.root_cause.text.contains("cannot use its own configuration"), "{}", playbook.root_cause.text);
}

#[test]
fn a_node_that_is_not_ready_with_good_certificates_has_another_illness() {
    broken("network plugin", healthy, |f| f.not_ready("False", "KubeletNotReady", -5), Cause::NotReadyOther);
    broken("hung kubelet", healthy, |f| f.not_ready("Unknown", "NodeStatusUnknown", -600), Cause::KubeletSilent);
    broken("deleted Node", healthy, |f| f.object = Seen::Known(None, By::Node), Cause::NodeMissing);
}

#[test]
fn a_rotation_that_does_not_come_is_traced_to_who_did_not_do_his_part() {
    let late = |f: &mut Facts, signer: &str, stage: Stage| {
        f.late();
        f.request(signer, stage);
    };
    let why = || "x: y".to_owned();
    broken("denied", healthy, |f| late(f, CLIENT_SIGNER, Stage::Denied { why: why() }), Cause::RequestDenied);
    broken("failed", healthy, |f| late(f, CLIENT_SIGNER, Stage::Failed { why: why() }), Cause::RequestFailed);
    broken("not signed", healthy, |f| late(f, CLIENT_SIGNER, Stage::Approved), Cause::SignerDown);
    broken("not approved", healthy, |f| late(f, CLIENT_SIGNER, Stage::Pending), Cause::NotApproved);
    broken(
        "the controller manager is down here",
        control_plane,
        |f| {
            late(f, CLIENT_SIGNER, Stage::Pending);
            let part = f.parts.iter_mut().find(|p| p.component == Component::KubeControllerManager).unwrap();
            part.running = Some(false);
        },
        Cause::SignerDown,
    );
    let playbook = broken(
        "RBAC",
        healthy,
        |f| {
            late(f, CLIENT_SIGNER, Stage::Pending);
            f.rights = Seen::Known(Rights { create: Some(true), approved: Some(false) }, By::Node);
        },
        Cause::ApproverMayNot,
    );
    assert!(
        playbook.root_cause.remedy.iter().any(|r| r.command.as_deref() == Some("kubectl certificate approve csr-abc"))
    );
    broken(
        "may not ask",
        healthy,
        |f| {
            f.late();
            f.rights = Seen::Known(Rights { create: Some(false), approved: Some(true) }, By::Node);
        },
        Cause::MayNotRequest,
    );
    broken(
        "no room",
        healthy,
        |f| {
            f.late();
            f.kubelet.free = Some(0);
        },
        Cause::NoRoom,
    );
}

#[test]
fn what_will_fail_at_the_next_rotation_is_a_warning_while_the_certificate_is_good() {
    let warned = |name: &str, harm: &dyn Fn(&mut Facts), cause| {
        let mut f = healthy();
        harm(&mut f);
        root(name, &f, cause, Severity::Warning);
    };
    warned("stalled", &|f| f.late(), Cause::RotationStalled);
    warned(
        "off",
        &|f| {
            f.late();
            f.kubelet.rotates = false;
        },
        Cause::RotationOff,
    );
    warned(
        "in the way",
        &|f| f.kubelet.identity.obstacle = Some("/var/lib/kubelet/pki/kubelet-client-updated.pem".into()),
        Cause::RotationBlocked,
    );
    warned(
        "no link",
        &|f| {
            f.find("kubelet-client", Problem::NotASymlink);
            f.entry("kubelet-client").severity = Severity::Warning;
        },
        Cause::RotationBlocked,
    );
    warned(
        "embedded",
        &|f| f.kubelet.identity.config = Config::Embedded { until: Some(at(DAY)) },
        Cause::EmbeddedIdentity,
    );
    warned(
        "nobody will approve",
        &|f| f.rights = Seen::Known(Rights { create: Some(true), approved: Some(false) }, By::Node),
        Cause::ApproverMayNot,
    );
    warned(
        "its serving request waits",
        &|f| {
            f.kubelet.server_tls_bootstrap = true;
            f.request(SERVING_SIGNER, Stage::Pending);
        },
        Cause::ServingNotApproved,
    );
    warned(
        "serves the old one",
        &|f| {
            f.sockets.push(Socket {
                component: Component::Kubelet,
                address: "127.0.0.1:10250".into(),
                entry: "kubelet-serving".into(),
                on_disk: "2".into(),
                served: Some("1".into()),
            });
        },
        Cause::ServesOld,
    );
    warned("back-off", &|f| f.keeper.back_off_until = Some(at(3600)), Cause::HeldBack);
    warned(
        "due",
        &|f| {
            let c = f.entry("kubelet-serving");
            (c.due, c.severity) = (true, Severity::Warning);
        },
        Cause::CertificateDue,
    );
}

#[test]
fn requests_of_others_and_old_ones_are_no_cause() {
    let mut f = healthy();
    f.request(CLIENT_SIGNER, Stage::Denied { why: "long ago".into() });
    root("a good certificate needs no request", &f, Cause::Healthy, Severity::Ok);
    f.late();
    let Seen::Known(requests, _) = &mut f.requests else { panic!() };
    requests[0].username = "system:node:n2".into();
    root("another node's", &f, Cause::RotationStalled, Severity::Warning);
}
