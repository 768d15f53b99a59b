//! Other certificates, clients, contradictions, and what cannot be seen.

use super::*;

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

/// What a kubelet of 1.36 said at its first start and at a boot (tests/recorded), as if it were half a minute ago.
fn recorded() -> Vec<Line> {
    let text = include_str!("../../../../tests/recorded/v1.36.2/kubelet.txt");
    let messages = text.lines().filter_map(|l| l.split_once("]: ").map(|(_, message)| message.to_owned()));
    messages.map(|text| Line { at: at(-30), text }).collect()
}

#[test]
fn a_node_of_1_36_that_has_just_booted_is_healthy_whatever_its_kubelet_said_meanwhile() {
    let mut f = control_plane();
    f.journal = Seen::Known(klog::hits(recorded()), By::Root);
    let playbook = root("just booted", &f, Cause::Healthy, Severity::Ok);
    let step = playbook.steps.iter().find(|s| s.id == "journal").unwrap();
    assert!(step.text.starts_with("3 kinds of trouble"), "it is shown all the same: {}", step.text);
}

#[test]
fn a_kubelet_of_1_36_without_its_runtime_is_diagnosed_by_its_own_words() {
    let mut f = control_plane();
    let last = recorded().into_iter().find(|l| l.text.contains("\"command failed\"")).unwrap();
    f.crash(&last.text);
    f.journal = Seen::Known(klog::hits(recorded()), By::Root);
    let cause = root("no runtime", &f, Cause::KubeletCrashes, Severity::Critical).root_cause;
    assert!(cause.text.ends_with("it cannot reach the container runtime"), "{}", cause.text);
    assert!(
        cause.evidence.iter().any(|e| e.contains("validate CRI v1 runtime API for endpoint")),
        "{:?}",
        cause.evidence
    );
}
