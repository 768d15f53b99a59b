mod denied;
mod undecided;

use serde_json::json;

use super::neighbours::Neighbour;
use super::*;
use crate::model::addresses::Addresses;
use crate::model::cert::KeyAlgorithm;

const NOW: i64 = 1_800_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn neighbour(names: &[&str], ips: &[&str]) -> Neighbour {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    Neighbour { addresses: Addresses { names, ips: ips.iter().map(|i| ip(i)).collect() }, control_plane: false }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.add_server("https://api.example.org:6443");
    cluster.add_sans(&["DNS:k8s.example.org", "DNS:cp", "IP:10.0.0.100", "IP:10.0.0.10"].map(str::to_owned));
    cluster.add_ranges(Some("10.96.0.0/12")).unwrap();
    cluster.add_endpoints(&json!({"subsets": [{"addresses": [{"ip": "10.0.0.10"}, {"ip": "10.0.0.20"}]}]}));
    cluster.add_service(
        &json!({"metadata": {"namespace": "default", "name": "kubernetes"}, "spec": {"clusterIP": "10.96.0.1"}}),
    );
    cluster.add_service(&json!({"metadata": {"namespace": "a", "name": "web"},
        "spec": {"clusterIP": "10.96.7.7", "externalIPs": ["10.0.0.200"]}}));
    cluster
}

/// A request and what is known of it, as a healthy kubelet files it: `n1`, a worker beside `n2` and the control plane `cp`, which decides.
struct Case {
    filed: Filed,
    nodes: BTreeMap<String, Neighbour>,
    /// Deleted an hour ago.
    gone: BTreeMap<String, Neighbour>,
    /// Nodes that could not be read.
    unread: usize,
    cluster: Cluster,
    here: Option<&'static str>,
    local: BTreeSet<IpAddr>,
    /// Where n1's kubelet answers.
    answers: BTreeSet<IpAddr>,
    signed: bool,
    approved: usize,
    rules: Approver,
}

impl Case {
    fn good() -> Self {
        let asked = Asked {
            subject: "O=system:nodes, CN=system:node:n1".into(),
            common_names: vec!["system:node:n1".into()],
            organizations: vec![GROUP.into()],
            other_parts: 0,
            sans: vec!["DNS:n1".into(), "IP:10.0.0.1".into()],
            key: KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 },
            besides: Vec::new(),
            der: Vec::new(),
        };
        let filed = Filed {
            name: "csr-x".into(),
            signer: SERVING_SIGNER.into(),
            username: "system:node:n1".into(),
            groups: vec![GROUP.into(), "system:authenticated".into()],
            usages: vec!["digital signature".into(), "server auth".into()],
            expiration_seconds: None,
            created: Timestamp::from_second(NOW - 400).ok(),
            stage: Stage::Pending,
            asked: Ok(asked),
        };
        let nodes = [
            ("n1", neighbour(&["n1", "n1.example.org"], &["10.0.0.1", "fd00::1"])),
            ("n2", neighbour(&["n2"], &["10.0.0.2"])),
            ("cp", Neighbour { control_plane: true, ..neighbour(&["cp"], &["10.0.0.10"]) }),
        ];
        Self {
            filed,
            nodes: nodes.map(|(name, node)| (name.to_owned(), node)).into(),
            gone: BTreeMap::from([("n9".to_owned(), neighbour(&["n9"], &["10.0.0.9"]))]),
            unread: 0,
            cluster: cluster(),
            here: Some("cp"),
            local: [ip("10.0.0.10"), ip("10.0.1.10")].into(),
            answers: [ip("10.0.0.1"), ip("fd00::1")].into(),
            signed: true,
            approved: 0,
            rules: Approver::default(),
        }
    }

    /// The control plane's own kubelet, which has no certificate yet and answers nowhere.
    fn own() -> Self {
        let mut case = Self::good();
        case.filed.username = "system:node:cp".into();
        case.asked().common_names = vec!["system:node:cp".into()];
        case.asked().subject = "O=system:nodes, CN=system:node:cp".into();
        case.sans(&["DNS:cp", "IP:10.0.0.10"]);
        case.answers.clear();
        case
    }

    fn asked(&mut self) -> &mut Asked {
        self.filed.asked.as_mut().unwrap()
    }

    fn sans(&mut self, sans: &[&str]) {
        self.asked().sans = sans.iter().map(|s| (*s).to_owned()).collect();
    }

    /// As a kubelet of which somebody else is root: it writes into its Node what it asks for.
    fn claims(&mut self, sans: &[&str]) {
        self.sans(sans);
        let own = &mut self.nodes.get_mut("n1").unwrap().addresses;
        for san in sans {
            match san.split_once(':').unwrap() {
                ("IP", address) => drop(address.parse().map(|ip: IpAddr| own.ips.insert(ip))),
                (_, name) => drop(own.names.insert(name.to_ascii_lowercase())),
            }
        }
    }

    fn usages(&mut self, usages: &[&str]) {
        self.filed.usages = usages.iter().map(|s| (*s).to_owned()).collect();
    }

    fn networks(&mut self, networks: &[&str]) {
        self.rules.networks = networks.iter().map(|n| n.parse().unwrap()).collect();
    }

    fn names(&mut self, names: &[&str]) {
        self.rules.names = names.iter().map(|n| (*n).to_owned()).collect();
    }

    fn age(&mut self, seconds: i64) {
        self.filed.created = Timestamp::from_second(NOW - seconds).ok();
    }

    fn decide(&self) -> Decision {
        let mut neighbours = Neighbours::default();
        let before: BTreeMap<_, _> = self.nodes.clone().into_iter().chain(self.gone.clone()).collect();
        neighbours.see(before, 0, Timestamp::from_second(NOW - 3600).unwrap());
        neighbours.see(self.nodes.clone(), self.unread, Timestamp::from_second(NOW - 3600).unwrap());
        let mut answered = BTreeMap::new();
        loop {
            let known = Known {
                neighbours: &neighbours,
                cluster: &self.cluster,
                here: Here { node: self.here, local: &self.local },
                answered: &answered,
                signed: self.signed,
                approved: self.approved,
                now: Timestamp::from_second(NOW).unwrap(),
            };
            let Decision::Ask(ips) = decide(&self.filed, known, &self.rules) else {
                return decide(&self.filed, known, &self.rules);
            };
            assert!(!ips.is_empty());
            answered.extend(ips.into_iter().map(|ip| (ip, self.answers.contains(&ip))));
        }
    }
}

type Change = fn(&mut Case);

#[test]
#[allow(clippy::too_many_lines, reason = "a listing")]
fn what_a_kubelet_files_for_itself_is_approved() {
    let table: &[(&str, Change)] = &[
        ("as it is", |_| {}),
        ("as before 1.27", |c| c.usages(&["digital signature", "key encipherment", "server auth"])),
        ("usages in another order", |c| c.usages(&["server auth", "digital signature"])),
        ("an RSA key", |c| c.asked().key = KeyAlgorithm::Rsa { bits: 2048 }),
        ("P-384", |c| c.asked().key = KeyAlgorithm::Ecdsa { curve: "P384".into(), bits: 384 }),
        ("Ed25519", |c| c.asked().key = KeyAlgorithm::Other("Ed25519".into())),
        ("addresses alone", |c| c.sans(&["IP:10.0.0.1", "IP:fd00::1"])),
        ("a name alone", |c| c.sans(&["DNS:n1"])),
        ("a name by configuration, too", |c| {
            c.names(&["{node}.example.org"]);
            c.sans(&["DNS:n1", "DNS:n1.example.org", "IP:10.0.0.1"]);
        }),
        ("in capitals", |c| c.sans(&["DNS:N1"])),
        ("a shorter life", |c| c.filed.expiration_seconds = Some(86_400)),
        ("the longest life", |c| c.filed.expiration_seconds = Some(366 * 86_400)),
        ("just filed", |c| c.age(0)),
        ("of an unknown age", |c| c.filed.created = None),
        ("the last within the hour", |c| c.approved = 5),
        ("a name by configuration", |c| {
            c.names(&["{node}.corp.example"]);
            c.sans(&["DNS:n1.corp.example", "IP:10.0.0.1"]);
        }),
        ("its first, within the networks", |c| {
            c.answers.clear();
            c.networks(&["10.0.0.0/24"]);
        }),
        // nodes at 10.99.0.0/24 and Services in 10.96.0.0/12 is what some clusters have
        ("within the networks, and these within the Services' range", |c| {
            c.answers.clear();
            c.networks(&["10.99.0.0/24"]);
            c.claims(&["DNS:n1", "IP:10.99.0.21"]);
        }),
        ("the control plane's own, its first", |c| *c = Case::own()),
        ("the control plane's own, within the Services' range", |c| {
            *c = Case::own();
            c.nodes.get_mut("cp").unwrap().addresses.ips.insert(ip("10.99.0.2"));
            c.local.insert(ip("10.99.0.2"));
            c.sans(&["DNS:cp", "IP:10.99.0.2"]);
        }),
        ("the control plane's own without its label", |c| {
            *c = Case::own();
            c.nodes.get_mut("cp").unwrap().control_plane = false;
        }),
        ("the control plane's own where it is the API's only address", |c| {
            *c = Case::own();
            c.cluster.add_server("https://10.0.0.10:6443");
            c.cluster.add_server("https://cp:6443");
        }),
        ("another control plane's", |c| {
            c.nodes.get_mut("n1").unwrap().control_plane = true;
            c.claims(&["DNS:n1", "IP:10.0.0.20"]);
            c.answers.insert(ip("10.0.0.20"));
        }),
        ("where it answers at an address that Services are reached at", |c| {
            c.claims(&["IP:10.0.0.200"]);
            c.answers.insert(ip("10.0.0.200"));
        }),
        ("the control plane's own, which a worker claims", |c| {
            *c = Case::own();
            c.nodes.get_mut("n2").unwrap().addresses.ips.insert(ip("10.0.0.10"));
        }),
        ("another control plane's, which a worker claims", |c| {
            c.nodes.get_mut("n1").unwrap().control_plane = true;
            c.nodes.get_mut("n2").unwrap().addresses.ips.insert(ip("10.0.0.20"));
            c.claims(&["DNS:n1", "IP:10.0.0.20"]);
            c.answers.insert(ip("10.0.0.20"));
        }),
        // nobody can take its name or its certificate away by writing it into his own Node
        ("although another Node claims its name", |c| {
            c.nodes.get_mut("n2").unwrap().addresses.names.insert("n1".into());
        }),
    ];
    for (what, change) in table {
        let mut case = Case::good();
        change(&mut case);
        assert_eq!(case.decide(), Decision::Approve, "{what}");
    }
}

#[test]
fn what_may_not_be_known_yet_is_waited_for_and_what_is_wrong_in_itself_is_not() {
    let mut case = Case::good();
    case.sans(&["IP:10.0.0.3"]);
    case.age(10);
    assert!(matches!(case.decide(), Decision::Wait(_)), "its Node object follows");
    case.nodes.remove("n1");
    case.age(200);
    assert!(matches!(case.decide(), Decision::Wait(_)), "it is about to register");
    case.filed.usages.clear();
    assert!(matches!(case.decide(), Decision::Deny(_)));
    let mut forged = Case::good();
    forged.claims(&["DNS:kubernetes"]);
    forged.age(0);
    assert!(matches!(forged.decide(), Decision::Deny(_)), "nothing that follows makes it good");
}

#[test]
fn only_an_undecided_request_for_serving_is_looked_at() {
    let mut filed = Case::good().filed;
    assert!(filed.is_open());
    for stage in [Stage::Approved, Stage::Denied { why: String::new() }, Stage::Issued { certificate: Vec::new() }] {
        filed.stage = stage;
        assert!(!filed.is_open());
    }
    filed.stage = Stage::Pending;
    filed.signer = "kubernetes.io/kube-apiserver-client-kubelet".into();
    assert!(!filed.is_open());
}
