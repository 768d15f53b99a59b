//! Broken nodes, and what is at the bottom of each.
#![allow(clippy::too_many_lines, reason = "tables")]

mod kubelet;
mod others;
mod server;

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
use crate::model::inventory::on_disk::{Config, Lies, OnDisk};
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
        raw: crate::model::cert::Raw::default(),
        issued_here: false,
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
        remake: None,
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
