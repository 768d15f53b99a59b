use super::*;

fn sight(source: Source, name: &str, addresses: &[&str]) -> Sight {
    Sight { source, name: name.to_owned(), addresses: addresses.iter().map(|a| (*a).to_owned()).collect() }
}

fn unite(sights: Vec<Sight>) -> Peers {
    let asked = BTreeSet::from([Source::Labels, Source::Etcd, Source::Servers]);
    Peers::unite("cp1", BTreeSet::from(["10.0.0.1".to_owned()]), sights, asked)
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(hours * 3600).unwrap()
}

use Source::{Etcd, Labels, Memory, Servers};

#[test]
fn a_single_control_plane_is_alone_under_every_name_that_it_has() {
    let own = vec![
        sight(Labels, "cp1", &["10.0.0.1"]),
        sight(Etcd, "cp1", &["10.0.0.1"]),
        sight(Servers, "", &["10.0.0.1"]),
        sight(Memory, "cp1", &[]),
    ];
    let peers = unite(own);
    assert!(peers.is_alone() && peers.disagreements().is_empty(), "{peers:?}");
    assert_eq!(peers.names(), ["cp1"]);
    // etcd calls itself something else, at this node's address
    assert!(unite(vec![sight(Labels, "cp1", &["10.0.0.1"]), sight(Etcd, "default", &["10.0.0.1"])]).is_alone());
    assert!(unite(Vec::new()).is_alone());
}

#[test]
fn one_that_any_source_knows_is_a_peer() {
    for source in [Labels, Etcd, Memory] {
        assert!(!unite(vec![sight(source, "cp2", &["10.0.0.2"])]).is_alone(), "{source:?}");
    }
    assert!(!unite(vec![sight(Servers, "", &["10.0.0.1"]), sight(Servers, "", &["10.0.0.2"])]).is_alone());
    // one label of somebody else, none of its own
    let foreign = unite(vec![sight(Labels, "other", &["10.0.0.9"])]);
    assert_eq!(foreign.names(), ["cp1", "other"]);
}

#[test]
fn one_machine_that_several_sources_name_is_one_peer() {
    let peers = unite(vec![
        sight(Labels, "cp1", &["10.0.0.1"]),
        sight(Labels, "cp2", &["10.0.0.2"]),
        sight(Etcd, "etcd-2", &["10.0.0.2"]),
        sight(Servers, "", &["10.0.0.2"]),
        sight(Servers, "", &["10.0.0.1"]),
        sight(Memory, "cp2", &["10.0.0.2"]),
    ]);
    assert_eq!(peers.names(), ["cp1", "cp2"]);
    assert!(peers.disagreements().is_empty(), "{:?}", peers.disagreements());
}

#[test]
fn two_nodes_of_one_list_are_two_even_with_one_address() {
    let renamed = unite(vec![sight(Labels, "cp1", &["10.0.0.1"]), sight(Labels, "old", &["10.0.0.1"])]);
    assert_eq!(renamed.names(), ["cp1", "old"]);
}

#[test]
fn every_node_ranks_the_same_names() {
    let of = |me: &str, address: &str| {
        let mut sights = vec![sight(Servers, "", &["10.1.0.1"]), sight(Servers, "", &["10.1.0.2"])];
        // the label of cp3 is missing, and servers are published by addresses of another network
        sights.extend([("cp1", "10.0.0.1"), ("cp2", "10.0.0.2")].map(|(n, a)| sight(Labels, n, &[a])));
        sights
            .extend([("cp1", "10.0.0.1"), ("cp2", "10.0.0.2"), ("cp3", "10.0.0.3")].map(|(n, a)| sight(Etcd, n, &[a])));
        Peers::unite(me, BTreeSet::from([address.to_owned()]), sights, BTreeSet::from([Labels, Etcd, Servers])).names()
    };
    assert_eq!(of("cp1", "10.0.0.1"), ["cp1", "cp2", "cp3"]);
    assert_eq!(of("cp1", "10.0.0.1"), of("cp3", "10.0.0.3"));
    assert_eq!(of("cp2", "10.0.0.2"), of("cp3", "10.0.0.3"));
}

#[test]
fn what_the_sources_do_not_agree_on_is_said() {
    let told = unite(vec![sight(Labels, "cp1", &["10.0.0.1"]), sight(Etcd, "cp2", &["10.0.0.2"])]).disagreements();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("cp2 is a control plane by etcd's members"), "{told:?}");
    let told = unite(vec![sight(Labels, "cp2", &["10.0.0.2"])]).disagreements();
    assert!(told[0].contains("cp1: this Node has no label"), "{told:?}");
}

#[test]
fn one_list_that_is_too_short_makes_nobody_forgotten_and_a_week_of_them_does() {
    let mut known = BTreeMap::new();
    let both = unite(vec![sight(Labels, "cp2", &["10.0.0.2"]), sight(Labels, "cp3", &["10.0.0.3"])]);
    remember(&mut known, &both, true, at(0));
    let names = |known: &BTreeMap<String, Known>| known.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&known), ["cp2", "cp3"]);
    // a year passes without a look, as it does where nothing is due
    let short = unite(vec![sight(Labels, "cp2", &["10.0.0.2"]), sight(Memory, "cp3", &["10.0.0.3"])]);
    let later = 365 * 24;
    remember(&mut known, &short, true, at(later));
    assert_eq!(names(&known), ["cp2", "cp3"]);
    remember(&mut known, &short, true, at(later + 7 * 24 - 1));
    assert_eq!(names(&known), ["cp2", "cp3"]);
    // who has not answered has said nothing
    remember(&mut known, &short, false, at(later + 30 * 24));
    assert_eq!(names(&known), ["cp2", "cp3"]);
    remember(&mut known, &both, true, at(later + 30 * 24));
    assert_eq!(known["cp3"].missed, None, "it was seen again");
    remember(&mut known, &short, true, at(later + 40 * 24));
    remember(&mut known, &short, true, at(later + 47 * 24));
    assert_eq!(names(&known), ["cp2"]);
}
