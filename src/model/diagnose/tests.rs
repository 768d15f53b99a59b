//! Broken nodes, and what is at the bottom of each.
#![allow(clippy::too_many_lines, reason = "tables")]

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::facts::*;
use super::klog::{self, Line};
use super::{Cause, Client, Clients, Diagnosis, Playbook, clients, kubelet, named};
use crate::model::assess::Severity;
use crate::model::cert::{CertFacts, KeyAlgorithm};
use crate::model::component::Component;
use crate::model::csr::{CLIENT_SIGNER, Request, SERVING_SIGNER, Stage};
use crate::model::finding::{Finding, Problem};
use crate::model::identity::{Config, Lies, OnDisk};
use crate::model::inventory::{Owner, Role};
use crate::model::repair::Choice;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_second(NOW + offset).unwrap()
}

fn leaf(cn: &str, from: i64, until: i64) -> CertFacts {
    CertFacts {
        subject: format!("O=system:nodes, CN={cn}"),
        common_name: Some(cn.to_owned()),
        organizations: BTreeSet::new(),
        issuer: "CN=kubernetes".to_owned(),
        serial: "1F".to_owned(),
        not_before: at(from),
        not_after: at(until),
        sans: BTreeSet::from(["IP:10.0.0.1".to_owned()]),
        usages: BTreeSet::new(),
        key_algorithm: KeyAlgorithm::Rsa { bits: 2048 },
        is_ca: false,
        spki: Vec::new(),
        der: Vec::new(),
    }
}

fn certificate(name: &str, path: &str, used_by: &[Component]) -> Certificate {
    Certificate {
        name: name.to_owned(),
        path: path.to_owned(),
        ca: false,
        owner: Owner::Kubeadm,
        used_by: used_by.to_vec(),
        impact: "something stops".to_owned(),
        severity: Severity::Ok,
        findings: Vec::new(),
        leaf: Some(leaf(name, -100 * DAY, 265 * DAY)),
        absent: false,
        due: false,
        not_here: None,
    }
}

/// A worker of a cluster whose API server is at 10.0.0.1, where all is well.
fn healthy() -> Facts {
    let ca = Certificate { ca: true, owner: Owner::None, ..certificate("ca", "/etc/kubernetes/pki/ca.crt", &[]) };
    let client = Certificate {
        owner: Owner::Kubelet,
        leaf: Some(leaf("system:node:n1", -100 * DAY, 265 * DAY)),
        ..certificate("kubelet-client", "/var/lib/kubelet/pki/kubelet-client-current.pem", &[Component::Kubelet])
    };
    let serving = Certificate {
        owner: Owner::None,
        ..certificate("kubelet-serving", "/var/lib/kubelet/pki/kubelet.crt", &[Component::Kubelet])
    };
    let unit = Unit {
        name: "kubelet.service".into(),
        load_state: "loaded".into(),
        active_state: "active".into(),
        sub_state: "running".into(),
        result: "success".into(),
        ..Unit::default()
    };
    let object = Object { ready: "True".into(), lease: Some(at(-5)), since: Some(at(-DAY)), ..Object::default() };
    Facts {
        at: at(0),
        node: Some("n1".into()),
        role: Role::Worker,
        live: true,
        clock: Clock { synchronised: Some(true), must_be: true, ..Clock::default() },
        object: Seen::Known(Some(object), By::Node),
        unit: Seen::Known(unit, By::Root),
        events: Seen::Unseen("it may not (403 Forbidden)".into()),
        certificates: vec![client, serving, ca],
        kubelet: Kubelet {
            unit: "kubelet.service".into(),
            present: true,
            rotates: true,
            identity: OnDisk {
                current: "/var/lib/kubelet/pki/kubelet-client-current.pem".into(),
                lies: Lies::Link { to: "/var/lib/kubelet/pki/kubelet-client-1.pem".into() },
                config: Config::Current,
                ..OnDisk::default()
            },
            trusts_ca_on_disk: Some(true),
            free: Some(1 << 30),
            ..Kubelet::default()
        },
        journal: Seen::Known(klog::Hits::default(), By::Root),
        requests: Seen::Known(Vec::new(), By::Node),
        rights: Seen::Known(Rights { create: Some(true), approved: Some(true) }, By::Node),
        server: Server {
            url: Some("https://10.0.0.1:6443".into()),
            reach: Seen::Known(Reach::Answers, By::Nobody),
            leaf: Some(leaf("kube-apiserver", -100 * DAY, 265 * DAY)),
            of_ca_on_disk: Some(true),
            ..Server::default()
        },
        login: Seen::Known(Login::As { user: "system:node:n1".into(), groups: vec!["system:nodes".into()] }, By::Node),
        parts: Vec::new(),
        sockets: Vec::new(),
        changes: Vec::new(),
        keeper: Keeper::default(),
    }
}

/// The only node of a cluster: the API server is its own.
fn control_plane() -> Facts {
    use Component::{Etcd, KubeApiserver, KubeControllerManager, KubeScheduler};
    let mut f = healthy();
    f.role = Role::ControlPlane;
    f.server.own = true;
    f.kubelet.identity.can_sign = true;
    f.certificates.splice(
        0..0,
        [
            certificate("admin.conf", "/etc/kubernetes/admin.conf", &[]),
            certificate("apiserver", "/etc/kubernetes/pki/apiserver.crt", &[KubeApiserver]),
            certificate("apiserver-etcd-client", "/etc/kubernetes/pki/apiserver-etcd-client.crt", &[KubeApiserver]),
            certificate("controller-manager.conf", "/etc/kubernetes/controller-manager.conf", &[KubeControllerManager]),
            certificate("etcd-server", "/etc/kubernetes/pki/etcd/server.crt", &[Etcd]),
        ],
    );
    f.parts = [Etcd, KubeApiserver, KubeControllerManager, KubeScheduler]
        .into_iter()
        .map(|component| Part {
            component,
            running: Some(true),
            healthy: Some(true),
            detail: "healthy".into(),
            last_words: vec![],
        })
        .collect();
    f
}

impl Facts {
    fn entry(&mut self, name: &str) -> &mut Certificate {
        self.certificates.iter_mut().find(|c| c.name == name).unwrap()
    }

    fn find(&mut self, name: &str, problem: Problem) {
        let c = self.entry(name);
        c.severity = Severity::Critical;
        c.findings.push(Finding::new(problem, format!("{problem} it is")));
    }

    fn expire(&mut self, name: &str) {
        self.find(name, Problem::Expired);
        let c = self.entry(name);
        c.due = true;
        let cn = c.leaf.as_ref().unwrap().common_name.clone().unwrap();
        c.leaf = Some(leaf(&cn, -366 * DAY, -DAY));
    }

    /// No API: nothing of it is seen.
    fn dark(&mut self, reach: Reach) {
        let why = || "the API server cannot be reached".to_owned();
        self.server.reach = Seen::Known(reach, By::Nobody);
        self.server.leaf = None;
        self.object = Seen::Unseen(why());
        self.requests = Seen::Unseen(why());
        self.rights = Seen::Unseen(why());
        self.login = Seen::Unseen(why());
    }

    fn unit(&mut self) -> &mut Unit {
        let Seen::Known(unit, _) = &mut self.unit else { panic!("no unit") };
        unit
    }

    fn crash(&mut self, words: &str) {
        let unit = self.unit();
        (unit.active_state, unit.sub_state) = ("activating".into(), "auto-restart".into());
        (unit.result, unit.restarts, unit.exit) = ("exit-code".into(), 17, 255);
        unit.last_words = vec![words.to_owned()];
        self.log(words);
    }

    fn log(&mut self, text: &str) {
        self.journal = Seen::Known(klog::hits([Line { at: at(-30), text: text.to_owned() }]), By::Root);
    }

    fn object(&mut self) -> &mut Object {
        let Seen::Known(Some(object), _) = &mut self.object else { panic!("no object") };
        object
    }

    fn not_ready(&mut self, ready: &str, reason: &str, lease: i64) {
        let object = self.object();
        (object.ready, object.reason, object.lease) = (ready.into(), reason.into(), Some(at(lease)));
    }

    fn refuse(&mut self) {
        let detail = "it does not accept the credential (401 Unauthorized)".to_owned();
        self.login = Seen::Known(Login::Refused { detail }, By::Node);
        self.object = Seen::Unseen("with the kubelet's credential: 401".into());
        self.requests = Seen::Unseen("with the kubelet's credential: 401".into());
        self.rights = Seen::Unseen("with the kubelet's credential: 401".into());
    }

    /// The client certificate is near its end, the kubelet should have rotated.
    fn late(&mut self) {
        let c = self.entry("kubelet-client");
        c.leaf = Some(leaf("system:node:n1", -360 * DAY, 5 * DAY));
        c.severity = Severity::Warning;
        c.findings.push(Finding::new(Problem::RotationOverdue, "late"));
    }

    fn request(&mut self, signer: &str, stage: Stage) {
        let request = Request {
            name: "csr-abc".into(),
            signer: signer.into(),
            username: "system:node:n1".into(),
            created: Some(at(-1200)),
            stage,
        };
        self.requests = Seen::Known(vec![request], By::Node);
    }
}

/// What it must come to.
fn root(name: &str, facts: &Facts, cause: Cause, severity: Severity) -> Playbook {
    let playbook = kubelet(facts);
    let root = &playbook.root_cause;
    assert_eq!((root.id, root.severity), (cause, severity), "{name}: {root:#?}");
    assert!(!root.text.is_empty(), "{name}");
    if severity != Severity::Ok {
        assert!(!root.remedy.is_empty(), "{name}: what is to be done?");
    }
    let ids: BTreeSet<&str> = playbook.steps.iter().map(|s| s.id).collect();
    assert_eq!(ids.len(), playbook.steps.len(), "each step once");
    for step in &playbook.steps {
        assert!(
            step.identity.is_some() || !step.unseen.is_empty(),
            "{name}: {} says neither who looked nor why nobody did",
            step.id
        );
    }
    playbook
}

fn broken(name: &str, node: fn() -> Facts, harm: impl FnOnce(&mut Facts), cause: Cause) -> Playbook {
    let mut facts = node();
    harm(&mut facts);
    root(name, &facts, cause, Severity::Critical)
}

#[test]
fn healthy_nodes_are_healthy_and_nothing_is_said_besides() {
    for facts in [healthy(), control_plane()] {
        let playbook = root("healthy", &facts, Cause::Healthy, Severity::Ok);
        assert!(playbook.also.is_empty(), "{:#?}", playbook.also);
        assert_eq!(Diagnosis::new(facts.at, None, vec![playbook]).exit_code(), 0);
    }
}

#[test]
fn what_a_kubelet_said_while_its_api_server_started_does_not_make_a_node_ill() {
    let mut f = control_plane();
    f.log("E1 a.go:1] failed to ensure lease exists, will retry: connection refused");
    root("old lines", &f, Cause::Healthy, Severity::Ok);
}

#[test]
fn the_clock_is_the_root_of_dates_that_are_wrong_only_by_it() {
    broken(
        "a worker a year ahead",
        healthy,
        |f| {
            f.expire("kubelet-client");
            f.clock.server_ahead = Some(SignedDuration::from_hours(-366 * 24));
            f.refuse();
        },
        Cause::ClockWrong,
    );
    broken(
        "a clock that went back",
        control_plane,
        |f| {
            f.clock.last_seen = Some(at(400 * DAY));
            f.find("apiserver", Problem::NotYetValid);
        },
        Cause::ClockWrong,
    );
    broken(
        "the API server's certificate begins in the future",
        healthy,
        |f| {
            f.dark(Reach::Untrusted { why: Distrust::NotYetValid, detail: "certificate is not yet valid".into() });
        },
        Cause::ClockWrong,
    );
    let mut f = healthy();
    f.clock.synchronised = Some(false);
    root("not synchronised", &f, Cause::ClockUnsynchronised, Severity::Warning);
    f.clock.must_be = false;
    root("not synchronised, and that is allowed", &f, Cause::Healthy, Severity::Ok);
}

#[test]
fn an_expired_ca_is_the_root_of_all_that_fails_below_it() {
    broken(
        "expired CA",
        control_plane,
        |f| {
            f.expire("ca");
            f.expire("kubelet-client");
            f.dark(Reach::Untrusted { why: Distrust::Expired, detail: "certificate has expired".into() });
        },
        Cause::CaExpired,
    );
}

#[test]
fn the_way_to_the_api_server_is_told_apart_by_where_it_ends() {
    let detail = || "x".to_owned();
    broken("DNS", healthy, |f| f.dark(Reach::NoName { detail: detail() }), Cause::ServerNameUnknown);
    broken("firewall", healthy, |f| f.dark(Reach::Silent { detail: detail() }), Cause::ServerUnreachable);
    broken("load balancer down", healthy, |f| f.dark(Reach::Refused { detail: detail() }), Cause::ServerRefuses);
    broken("somebody else listens", healthy, |f| f.dark(Reach::NoTls { detail: detail() }), Cause::ServerRefuses);
    broken("errors of its own", healthy, |f| f.dark(Reach::Unwell { detail: detail() }), Cause::ApiserverUnwell);
    // the file is good: the network is what is in the way, and the expired certificate comes after it
    let playbook = broken(
        "no network, and expired besides",
        healthy,
        |f| {
            f.expire("kubelet-client");
            f.dark(Reach::Silent { detail: detail() });
        },
        Cause::ServerUnreachable,
    );
    assert_eq!(playbook.also.iter().map(|c| c.id).collect::<Vec<_>>(), [Cause::ClientExpired, Cause::CertificateDue]);
}

#[test]
fn the_api_servers_own_certificate_is_told_from_the_ca_that_it_is_of() {
    let untrusted = |why| Reach::Untrusted { why, detail: "x".into() };
    let shown = |f: &mut Facts, why| {
        f.dark(untrusted(why));
        f.server.leaf = Some(leaf("kube-apiserver", -400 * DAY, -DAY));
    };
    broken("expired, elsewhere", healthy, |f| shown(f, Distrust::Expired), Cause::ApiserverExpired);
    let playbook = broken(
        "expired, our own",
        control_plane,
        |f| {
            f.expire("apiserver");
            shown(f, Distrust::Expired);
        },
        Cause::ApiserverExpired,
    );
    assert!(playbook.root_cause.remedy.iter().any(|r| r.command.as_deref() == Some("certwarden renew apiserver")));
    broken(
        "the process did not take the new file",
        control_plane,
        |f| {
            shown(f, Distrust::Expired);
            f.sockets.push(Socket {
                component: Component::KubeApiserver,
                address: "10.0.0.1:6443".into(),
                entry: "apiserver".into(),
                on_disk: "2".into(),
                served: Some("1".into()),
            });
        },
        Cause::ApiserverServesOld,
    );
    broken("another name", healthy, |f| shown(f, Distrust::Name), Cause::ApiserverName);
    broken(
        "rotated CA",
        healthy,
        |f| {
            shown(f, Distrust::Issuer);
            f.kubelet.trusts_ca_on_disk = Some(false);
        },
        Cause::CaRotated,
    );
    broken(
        "a CA that nobody here knows",
        healthy,
        |f| {
            shown(f, Distrust::Issuer);
            f.server.of_ca_on_disk = Some(false);
        },
        Cause::ApiserverOtherCa,
    );
}

#[test]
fn a_control_plane_that_is_down_is_traced_to_what_keeps_it_down() {
    let refused = || Reach::Refused { detail: "connection refused".into() };
    let stop = |f: &mut Facts, c: Component, words: &str| {
        let part = f.parts.iter_mut().find(|p| p.component == c).unwrap();
        (part.running, part.healthy, part.last_words) = (Some(false), Some(false), vec![words.to_owned()]);
    };
    let playbook = broken(
        "all expired",
        control_plane,
        |f| {
            for name in [
                "admin.conf",
                "apiserver",
                "apiserver-etcd-client",
                "controller-manager.conf",
                "etcd-server",
                "kubelet-client",
            ] {
                f.expire(name);
            }
            f.crash("unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory");
            f.dark(refused());
        },
        Cause::ControlPlaneExpired,
    );
    assert!(playbook.root_cause.text.contains("and the kubelet's own"), "{}", playbook.root_cause.text);
    broken(
        "etcd's certificates",
        control_plane,
        |f| {
            f.expire("etcd-server");
            stop(f, Component::KubeApiserver, "context deadline exceeded");
            f.dark(refused());
        },
        Cause::ControlPlaneExpired,
    );
    broken(
        "etcd's key",
        control_plane,
        |f| {
            f.find("etcd-server", Problem::KeyMismatch);
            stop(f, Component::Etcd, "tls: private key does not match public key");
            stop(f, Component::KubeApiserver, "connection refused");
            f.dark(refused());
        },
        Cause::EtcdDown,
    );
    broken(
        "etcd's disk",
        control_plane,
        |f| {
            stop(f, Component::Etcd, "no space left on device");
            stop(f, Component::KubeApiserver, "connection refused");
            f.dark(refused());
        },
        Cause::EtcdDown,
    );
    broken(
        "a flag that the API server does not know",
        control_plane,
        |f| {
            stop(f, Component::KubeApiserver, "unknown flag: --nonsense");
            f.dark(refused());
        },
        Cause::ApiserverDown,
    );
    broken(
        "a manifest that was moved away",
        control_plane,
        |f| {
            f.parts.retain(|p| p.component != Component::KubeApiserver);
            f.dark(refused());
        },
        Cause::ApiserverDown,
    );
    broken(
        "a key that is not the API server's",
        control_plane,
        |f| {
            f.find("apiserver", Problem::KeyMismatch);
            stop(f, Component::KubeApiserver, "private key does not match");
            f.dark(refused());
        },
        Cause::ApiserverDown,
    );
    broken(
        "rebooted with the kubelet disabled",
        control_plane,
        |f| {
            let unit = f.unit();
            (unit.active_state, unit.sub_state) = ("inactive".into(), "dead".into());
            stop(f, Component::KubeApiserver, "");
            f.dark(refused());
        },
        Cause::KubeletStopped,
    );
}

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
    assert!(!playbook.also.iter().any(|c| c.id == Cause::KubeletCrashes && c.severity == Severity::Unknown));
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
    assert!(playbook.root_cause.text.contains("cannot read its own configuration"), "{}", playbook.root_cause.text);
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

#[test]
fn other_certificates_are_told_when_the_kubelet_is_well() {
    broken("scheduler and the like", control_plane, |f| f.expire("controller-manager.conf"), Cause::CertificateBad);
    broken("serving", healthy, |f| f.expire("kubelet-serving"), Cause::ServingExpired);
    broken("a failed rollback", control_plane, |f| f.keeper.observe_only = Some("x".into()), Cause::HeldBack);
}

#[test]
fn evidence_that_excludes_itself_is_said_and_not_resolved() {
    let mut f = healthy();
    f.expire("kubelet-client");
    root("expired, and accepted", &f, Cause::Contradiction, Severity::Unknown);
    let mut f = healthy();
    let unit = f.unit();
    (unit.active_state, unit.sub_state) = ("inactive".into(), "dead".into());
    root("stopped a moment ago", &f, Cause::KubeletStopped, Severity::Critical);
    f.object().lease_moved = true;
    root("stopped, and reporting", &f, Cause::Contradiction, Severity::Unknown);
}

#[test]
fn without_an_api_or_on_an_image_nothing_is_called_healthy() {
    let mut f = healthy();
    f.dark(Reach::Answers);
    let playbook = root("nobody may ask", &f, Cause::CannotTell, Severity::Unknown);
    assert!(
        playbook.root_cause.text.contains("login, node") || playbook.root_cause.text.contains("node, login"),
        "{}",
        playbook.root_cause.text
    );
    assert_eq!(Diagnosis::new(f.at, None, vec![playbook]).exit_code(), 3);
    let mut f = healthy();
    f.live = false;
    f.unit = Seen::Unseen("nothing runs on a mounted image".into());
    f.dark(Reach::Answers);
    f.server.reach = Seen::Unseen("nothing runs on a mounted image".into());
    root("image", &f, Cause::CannotTell, Severity::Unknown);
    f.expire("kubelet-client");
    root("an image with an expired certificate", &f, Cause::ClientExpired, Severity::Critical);
    let mut f = healthy();
    f.kubelet.present = false;
    f.certificates.clear();
    assert_eq!(kubelet(&f).root_cause.id, Cause::NoNode);
}

#[test]
fn a_certificate_by_name_is_told_by_its_gravest_finding() {
    let mut f = control_plane();
    let playbook = named(&f, f.certificate("apiserver").unwrap());
    assert_eq!((playbook.root_cause.id, playbook.severity()), (Cause::Healthy, Severity::Ok));
    f.expire("apiserver");
    f.find("apiserver", Problem::KeyMismatch);
    let playbook = named(&f, f.certificate("apiserver").unwrap());
    assert_eq!((playbook.root_cause.id, playbook.root_cause.runbook), (Cause::CertificateBad, "key-mismatch"));
    f.sockets.push(Socket {
        component: Component::Etcd,
        address: "127.0.0.1:2379".into(),
        entry: "etcd-server".into(),
        on_disk: "2".into(),
        served: Some("1".into()),
    });
    let playbook = named(&f, f.certificate("etcd-server").unwrap());
    assert_eq!((playbook.root_cause.id, playbook.severity()), (Cause::ServesOld, Severity::Warning));
}

fn client(name: &str, used_by: &[&str], left: i64) -> Client {
    Client {
        name: name.into(),
        path: format!("/etc/kubernetes/{name}"),
        subject: "O=system:masters, CN=kubernetes-admin".into(),
        issuer: "CN=kubernetes".into(),
        serial: "1F".into(),
        not_after: at(left),
        used_by: used_by.iter().map(|s| (*s).to_owned()).collect(),
        renewable: true,
    }
}

#[test]
fn the_client_that_is_about_to_expire_is_named_where_it_is_on_this_node() {
    let none = Clients {
        at: at(0),
        credentials: vec![client("admin.conf", &[], 300 * DAY)],
        histogram: Seen::Known(vec![(0.0, 0), (86_400.0, 0), (f64::INFINITY, 900)], By::Admin),
        refused: Seen::Known(Vec::new(), By::Root),
    };
    let verdict = |c: &Clients| {
        let playbook = clients(c);
        (playbook.root_cause.id, playbook.severity())
    };
    assert_eq!(verdict(&none), (Cause::Healthy, Severity::Ok));
    let mut here = none.clone();
    here.credentials.push(client("controller-manager.conf", &["kube-controller-manager"], 3600));
    assert_eq!(verdict(&here), (Cause::ClientExpiring, Severity::Critical));
    let mut people = none.clone();
    people.credentials.push(Client { renewable: false, ..client("/home/ops/.kube/config", &[], -DAY) });
    assert_eq!(verdict(&people), (Cause::ClientExpiring, Severity::Warning));
    let counted = Clients {
        histogram: Seen::Known(vec![(3600.0, 2), (86_400.0, 7), (172_800.0, 50)], By::Admin),
        ..none.clone()
    };
    assert_eq!(verdict(&counted), (Cause::ClientElsewhere, Severity::Warning));
    assert!(clients(&counted).root_cause.evidence[0].starts_with("7 requests"));
    let refused = Clients { refused: Seen::Known(vec![("31".into(), 4)], By::Root), ..none.clone() };
    assert_eq!(verdict(&refused), (Cause::Healthy, Severity::Ok), "0x1F is admin.conf's own, from before");
    let stranger = Clients { refused: Seen::Known(vec![("32".into(), 4)], By::Root), ..none };
    assert_eq!(verdict(&stranger), (Cause::ClientElsewhere, Severity::Warning));
}

#[test]
fn serials_are_the_same_in_decimal() {
    use super::clients::to_decimal;
    for (hex, decimal) in [("1F", "31"), ("0", "0"), ("FFFFFFFFFFFFFFFFFFFF", "1208925819614629174706175")] {
        assert_eq!(to_decimal(hex).as_deref(), Some(decimal));
    }
    assert_eq!(to_decimal("xy"), None);
}

#[test]
fn every_cause_has_an_id_and_a_page_of_its_own_words() {
    let ids: BTreeSet<&str> = Cause::ALL.iter().map(|c| c.id()).collect();
    assert_eq!(ids.len(), Cause::ALL.len());
    assert!(Cause::ALL.iter().all(|c| !c.meaning().is_empty() && !c.runbook().is_empty()));
}
