//! The CA, the API server and the control plane as the root.

use super::*;

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
    assert_eq!(playbook.also.iter().map(|c| c.id).collect::<Vec<_>>(), [Cause::ClientExpired]);
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
