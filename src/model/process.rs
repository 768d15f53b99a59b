//! What only a process holds: the certificate that a component makes for itself at its start and keeps in memory, and
//! the one that it read then from a file that has changed since. No file tells of either; the process's age does.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::assess::{Judged, Severity, leaf_severity};
use super::component::Component;
use super::finding::{Finding, Problem};
use super::inventory::{Entry, Node, StaticPod};
use super::policy::Policy;
use super::version::Version;
use super::{consumer, consumer::Uptake};

/// A year from an hour before the start (client-go: `util/cert/cert.go:GenerateSelfSignedCertKey`).
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24 - 1);
/// Three years and a day likewise (kubernetes PR 130047; `apiserver/pkg/server/options/serving_with_loopback.go`).
const THREE_YEARS: SignedDuration = SignedDuration::from_hours((3 * 365 + 1) * 24 - 1);
/// Minor version of Kubernetes since which the loopback certificate has the longer life.
const LONGER: u32 = 33;
/// Minor version since which livez fails when it has expired (kubernetes PR 136477).
const NOTICED: u32 = 36;

/// A certificate without a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct InMemory {
    /// `kube-apiserver:loopback`, `kube-scheduler:serving`.
    pub name: String,
    pub component: Component,
    pub started_at: Timestamp,
    /// By what the component's version gives it; a year where the version is not known.
    pub not_after: Timestamp,
    /// What stops working when it expires, in a clause.
    pub impact: &'static str,
}

/// The certificates that the running static pods keep in memory.
pub fn in_memory(node: &Node) -> Vec<InMemory> {
    node.static_pods.iter().filter_map(|(component, pod)| held(*component, pod)).collect()
}

fn held(component: Component, pod: &StaticPod) -> Option<InMemory> {
    let since = |minor| pod.version.is_some_and(|v: Version| (v.major, v.minor) >= (1, minor));
    let (what, life, impact) = match component {
        Component::KubeApiserver => {
            // kubernetes issues 86552 and 121580: what happens
            let impact = if since(NOTICED) {
                "its liveness probe fails and the kubelet restarts it, at a time that nobody chose"
            } else {
                "it cannot reach itself: admission rejects new pods, and its own controllers stop"
            };
            ("loopback", if since(LONGER) { THREE_YEARS } else { YEAR }, impact)
        }
        Component::KubeControllerManager | Component::KubeScheduler if makes_its_own(pod) => {
            ("serving", YEAR, "clients that look at its end cannot read metrics; probes and work go on")
        }
        _ => return None,
    };
    let started_at = pod.started_at?;
    let not_after = started_at.checked_add(life).ok()?;
    Some(InMemory { name: format!("{component}:{what}"), component, started_at, not_after, impact })
}

/// Neither given a certificate nor a directory to keep one in (kubernetes: `cmd/kube-scheduler/app/options/options.go`;
/// apiserver: `pkg/server/options/serving.go:MaybeDefaultWithSelfSignedCerts`), and serving at all.
fn makes_its_own(pod: &StaticPod) -> bool {
    let flag = |name: &str| pod.flags.get(name).map(String::as_str).filter(|v| !v.is_empty());
    flag("tls-cert-file").is_none() && flag("cert-dir").is_none() && flag("secure-port") != Some("0")
}

/// Judged by the thresholds of any leaf. Never due: no file renews it.
pub fn judge(held: &InMemory, policy: &Policy, now: Timestamp) -> Judged {
    let left = held.not_after.as_second().saturating_sub(now.as_second());
    let mut severity = leaf_severity(left, policy);
    if held.component != Component::KubeApiserver {
        // nothing of the cluster stops
        severity = severity.min(Severity::Warning);
    }
    let (id, what) = if left <= 0 { (Problem::Expired, "expired") } else { (Problem::Expiring, "expires") };
    let InMemory { component, started_at, not_after, .. } = held;
    let message = format!(
        "it {what} at {not_after:.0}; {component} made it at its start at {started_at:.0} and makes another only at the next: \
         `crictl stop` its container, and the kubelet starts a new one"
    );
    Judged {
        name: held.name.clone(),
        severity,
        findings: if severity == Severity::Ok { Vec::new() } else { vec![Finding::new(id, message)] },
        effective_end: Some(*not_after),
        seconds_left: Some(left),
        due: false,
        emergency: false,
    }
}

/// A static pod that takes a new file only by a new container.
#[derive(Clone, Debug)]
pub struct Reader {
    /// `kube-scheduler`, `kube-system/kube-vip-node1/kube-vip`.
    who: String,
    /// The container's name in its pod.
    container: String,
    started_at: Timestamp,
    how: String,
}

/// Who reads the entry at its start only: of the components the oldest, and each of the other static pods. Of a component
/// only what is known to be read so counts: of an unknown flag nobody can say.
pub fn readers(node: &Node, entry: &Entry) -> Vec<Reader> {
    let others = node.other_pods.iter().filter_map(|pod| {
        let (started_at, how) = (pod.started_at?, consumer::hold(pod, entry)?);
        Some(Reader { who: pod.container.to_string(), container: pod.container.name.clone(), started_at, how })
    });
    component(node, entry).into_iter().chain(others).collect()
}

fn component(node: &Node, entry: &Entry) -> Option<Reader> {
    let readers = consumer::components(&entry.name).filter(|c| entry.used_by.contains(c)).filter_map(|component| {
        let pod = node.static_pods.get(&component)?;
        let (started_at, container) = (pod.started_at?, pod.container.name.clone());
        let (uptake, how) = consumer::uptake(node, component, entry);
        let reader = || Reader { who: component.to_string(), container, started_at, how: how.to_owned() };
        (uptake == Uptake::NewProcess).then(reader)
    });
    readers.min_by_key(|r| r.started_at)
}

impl Reader {
    /// Whether it began before the file was `changed`.
    pub fn outdated(&self, changed: Timestamp) -> Option<Finding> {
        let Self { who, container, started_at, how } = self;
        (*started_at < changed).then(|| {
            let message = format!(
                "{who} started at {started_at:.0}, the file changed at {changed:.0}, and {who} {how}: restart it before the \
                 old certificate ends (`crictl ps --name '^{container}$' -q | xargs crictl stop`)"
            );
            Finding::new(Problem::ProcessOlderThanCertificate, message)
        })
    }
}

#[cfg(test)]
#[allow(missing_debug_implementations, reason = "made by proptest's macro")]
mod tests {
    use super::*;
    use crate::model::inventory::{ContainerRef, Content, Form, Kubelet, Mount, OtherPod, Owner, Role};
    use Component::{Etcd, KubeApiserver, KubeControllerManager, KubeScheduler};
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pod(version: &str, flags: &[(&str, &str)]) -> StaticPod {
        StaticPod {
            flags: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            version: Version::parse(version),
            started_at: Some(at("2026-01-20T13:50:10Z")),
            ..StaticPod::default()
        }
    }

    #[test]
    fn each_version_of_each_component_has_its_own_end() {
        // the second as seen on an API server of 1.33 (openshift-apiserver PR 584)
        let (year, three) = (Some("2027-01-20T12:50:10Z"), Some("2029-01-20T12:50:10Z"));
        for (component, version, flags, end) in [
            (KubeApiserver, "v1.20.2", &[][..], year),
            (KubeApiserver, "v1.32.99", &[], year),
            (KubeApiserver, "v1.33.0", &[], three),
            (KubeApiserver, "latest", &[], year),
            (KubeControllerManager, "v1.36.0", &[("secure-port", "10257"), ("tls-cert-file", "")], year),
            (KubeControllerManager, "v1.36.0", &[("tls-cert-file", "/a")], None),
            (KubeScheduler, "v1.34.0", &[("cert-dir", "/a")], None),
            (KubeScheduler, "v1.20.2", &[("secure-port", "0")], None),
            (Etcd, "3.5.1", &[], None),
        ] {
            let held = held(component, &pod(version, flags));
            assert_eq!(held.map(|h| h.not_after), end.map(at), "{component} {version} {flags:?}");
        }
        let stopped = StaticPod { started_at: None, ..pod("v1.34.0", &[]) };
        assert_eq!(held(KubeApiserver, &stopped), None, "a tree has no processes");
    }

    #[test]
    fn only_the_api_servers_own_certificate_is_ever_critical_and_nothing_is_due() {
        for (component, left, severity) in [
            (KubeApiserver, 31, Severity::Ok),
            (KubeApiserver, 30, Severity::Warning),
            (KubeApiserver, 3, Severity::Critical),
            (KubeScheduler, 30, Severity::Warning),
            (KubeScheduler, -1, Severity::Warning),
        ] {
            let held = held(component, &pod("v1.30.0", &[])).unwrap();
            let now = held.not_after - SignedDuration::from_hours(24 * left);
            let judged = judge(&held, &Policy::default(), now);
            assert_eq!((judged.severity, judged.due), (severity, false), "{component} with {left} days");
            let told = judged.findings.iter().map(|f| &f.message);
            assert!(told.clone().all(|m| m.contains("`crictl stop`")), "a remedy");
            assert_eq!(told.count(), usize::from(severity > Severity::Ok));
        }
    }

    #[test]
    fn a_pod_that_does_not_reload_and_began_before_the_file_changed_is_found() {
        let (before, after) = ("2026-01-20T13:50:09Z", "2026-01-20T13:50:11Z");
        let pinned = Some("/etc/kubernetes/pki/apiserver.crt");
        for (component, name, mount, changed, found) in [
            (KubeScheduler, "scheduler.conf", None, after, true),
            (KubeScheduler, "scheduler.conf", None, before, false),
            (KubeApiserver, "apiserver", None, after, false),
            (KubeApiserver, "apiserver", pinned, after, true),
            (KubeApiserver, "kube-apiserver:unheard-of", None, after, false),
        ] {
            let mounts = mount.map(|m| Mount { host_path: m.into(), mount_path: m.into() }).into_iter().collect();
            let node = node(component, StaticPod { mounts, ..pod("v1.34.0", &[]) });
            let entry = entry(name, "/etc/kubernetes/pki/apiserver.crt", vec![component]);
            let finding = readers(&node, &entry).iter().find_map(|r| r.outdated(at(changed)));
            assert_eq!(
                finding.map(|f| f.id),
                found.then_some(Problem::ProcessOlderThanCertificate),
                "{name} {changed}"
            );
        }
    }

    #[test]
    fn another_static_pod_that_holds_a_credential_and_began_before_it_changed_is_found_each_by_its_name() {
        let conf = "/etc/kubernetes/admin.conf";
        let (before, after) = ("2026-01-20T13:50:09Z", "2026-01-20T13:50:11Z");
        for (what, program, mount, named, changed, found) in [
            ("a single file", "agent", conf, None, after, true),
            ("a single file, and it began later", "agent", conf, None, before, false),
            ("its flag names it", "agent", "/etc/kubernetes", Some(conf), after, true),
            ("its flag names another", "agent", "/etc/kubernetes", Some("/etc/kubernetes/b.conf"), after, false),
            ("nobody knows whether it reads it", "agent", "/etc/kubernetes", None, after, false),
            ("kube-vip", "kube-vip", "/etc/kubernetes", None, after, true),
            ("a cloud's", "openstack-cloud-controller-manager", "/etc/kubernetes", None, after, true),
            ("it does not see it", "kube-vip", "/etc/haproxy", None, after, false),
        ] {
            let other = OtherPod {
                container: ContainerRef { namespace: "kube-system".into(), pod: None, name: "vip".into() },
                mounts: vec![Mount { host_path: mount.into(), mount_path: "/in".into() }],
                program: Some(program.into()),
                named: named.map(PathBuf::from).into_iter().collect(),
                started_at: Some(at("2026-01-20T13:50:10Z")),
                ..OtherPod::default()
            };
            let other_pods = vec![other.clone(), OtherPod { started_at: None, ..other }];
            let node = Node { other_pods, ..node(KubeScheduler, pod("v1.34.0", &[])) };
            let entry = entry("admin.conf", conf, vec![]);
            let findings: Vec<Finding> =
                readers(&node, &entry).iter().filter_map(|r| r.outdated(at(changed))).collect();
            assert_eq!(findings.len(), usize::from(found), "{what}: {findings:?}");
            for finding in findings {
                assert_eq!(finding.id, Problem::ProcessOlderThanCertificate);
                assert!(finding.message.starts_with("kube-system/vip started at "), "{}", finding.message);
                assert!(finding.message.contains("crictl ps --name '^vip$' -q"), "{}", finding.message);
            }
        }
    }

    fn entry(name: &str, path: &str, used_by: Vec<Component>) -> Entry {
        Entry {
            name: name.into(),
            form: Form::Combined { path: path.into() },
            owner: Owner::Kubeadm,
            used_by,
            signer: None,
            trusted_by: None,
            impact: String::new(),
            content: Content::Absent,
        }
    }

    fn node(component: Component, pod: StaticPod) -> Node {
        Node {
            name: None,
            name_doubt: None,
            role: Role::ControlPlane,
            distribution: None,
            static_pods: [(component, pod)].into(),
            other_pods: Vec::new(),
            kubelet: Kubelet::default(),
            pki_dir: PathBuf::new(),
            notes: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn later_is_never_milder(started in -9_999_999_999_i64..99_999_999_999, now in -9_999_999_999_i64..99_999_999_999, later in 0..9_999_999_999_i64) {
            let second = |s| Timestamp::from_second(s).unwrap();
            let pod = StaticPod { started_at: Some(second(started)), ..pod("v1.34.0", &[]) };
            for component in [KubeApiserver, KubeScheduler] {
                let held = held(component, &pod).unwrap();
                let severity = |s| judge(&held, &Policy::default(), second(s)).severity;
                prop_assert!(severity(now + later) >= severity(now));
            }
        }
    }
}
