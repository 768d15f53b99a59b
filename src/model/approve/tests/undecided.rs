//! What one node may do to another.

use super::*;

#[test]
#[allow(clippy::too_many_lines, reason = "a listing")]
fn what_nobody_else_can_tell_is_left_to_a_person_and_never_denied() {
    let table: &[(&str, Change, &str)] = &[
        ("a name of its status", |c| c.claims(&["DNS:evil.example.org"]), "neither its own name nor in approver.names"),
        ("a deleted node's name", |c| c.claims(&["DNS:n9"]), "neither its own name nor"),
        (
            "a name by configuration that is another's",
            |c| {
                c.names(&["n2"]);
                c.sans(&["DNS:n2"]);
            },
            "is another Node's name",
        ),
        (
            "a name by configuration that was another's",
            |c| {
                c.names(&["n9"]);
                c.sans(&["DNS:n9"]);
            },
            "is another Node's name",
        ),
        ("an outside host", |c| c.claims(&["IP:203.0.113.7"]), "claimed by the Node n1 alone"),
        ("its first, where no network is known", |c| c.answers.clear(), "claimed by the Node n1 alone"),
        ("another node's address", |c| c.claims(&["IP:10.0.0.2"]), "stands in the status of the Node n2, too"),
        (
            "another node's address in the networks, at which it answers",
            |c| {
                c.networks(&["10.0.0.0/24"]);
                c.claims(&["IP:10.0.0.2"]);
                c.answers.insert(ip("10.0.0.2"));
            },
            "stands in the status of the Node n2, too",
        ),
        (
            "its own address, which another node claims",
            |c| c.nodes.get_mut("n2").unwrap().addresses.ips.extend([ip("10.0.0.1")]),
            "stands in the status of the Node n2, too",
        ),
        ("a deleted node's address", |c| c.claims(&["IP:10.0.0.9"]), "was an address of the Node n9"),
        (
            "an address in the Services' range",
            |c| {
                c.claims(&["IP:10.96.9.9"]);
                c.answers.insert(ip("10.96.9.9"));
            },
            "is in the Services' range",
        ),
        (
            "a Service's address within the networks",
            |c| {
                c.networks(&["10.96.0.0/12"]);
                c.claims(&["IP:10.96.7.7"]);
            },
            "is a Service's address",
        ),
        (
            "where a Service could not be read",
            |c| {
                c.networks(&["10.99.0.0/24"]);
                c.cluster.add_hidden_service();
                c.claims(&["IP:10.99.0.21"]);
            },
            "too large to be read",
        ),
        (
            "an address that Services are reached at, within the networks",
            |c| {
                c.networks(&["10.0.0.0/24"]);
                c.claims(&["IP:10.0.0.200"]);
            },
            "claimed by the Node n1 alone",
        ),
        (
            "an API server's address that two control planes have",
            |c| {
                *c = Case::own();
                let other = Neighbour { control_plane: true, ..neighbour(&["cp2"], &["10.0.0.10"]) };
                c.nodes.insert("cp2".into(), other);
            },
            "stands in the status of the Node cp2, too",
        ),
        (
            "an API server's address without a Node",
            |c| {
                c.claims(&["IP:10.0.0.20"]);
                c.answers.insert(ip("10.0.0.20"));
            },
            "an API server's address, and n1 is no control plane",
        ),
        (
            "the API's virtual address, on this control plane just now",
            |c| {
                *c = Case::own();
                c.local.insert(ip("10.0.0.100"));
                c.nodes.get_mut("cp").unwrap().addresses.ips.insert(ip("10.0.0.100"));
                c.sans(&["IP:10.0.0.100"]);
            },
            "is an address of the API",
        ),
        (
            "of a node that is gone, where a Node could not be read",
            |c| {
                c.nodes.remove("n1");
                c.unread = 1;
            },
            "too large to be read",
        ),
    ];
    for (what, change, reason) in table {
        let mut case = Case::good();
        change(&mut case);
        let Decision::Undecided(why) = case.decide() else { panic!("{what}: {:?}", case.decide()) };
        assert!(why.contains(reason) && why.chars().all(|c| !c.is_control()), "{what}: {why}");
        case.age(10);
        assert!(matches!(case.decide(), Decision::Wait(_)), "{what}: it may settle by itself");
    }
}
