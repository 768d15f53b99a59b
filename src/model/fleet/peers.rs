//! Which other control planes there are. Everybody who may know is asked, and one that anybody knows of is there: a label
//! that is missing, an etcd that does not answer or a memory that is old makes nobody act alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Who is in nobody's list any more is forgotten so long after the first look that missed it.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Who knows of a control plane.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// The Nodes that have a control plane's label.
    Labels,
    /// The members of the etcd that runs beside the API server.
    Etcd,
    /// The addresses that API servers publish of themselves.
    Servers,
    /// What earlier looks have found.
    Memory,
}

impl Source {
    fn says(self) -> &'static str {
        match self {
            Self::Labels => "the Nodes' labels",
            Self::Etcd => "etcd's members",
            Self::Servers => "the API servers' addresses",
            Self::Memory => "earlier looks",
        }
    }
}

/// A control plane as one source names it; without a name, an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sight {
    pub source: Source,
    pub name: String,
    pub addresses: BTreeSet<String>,
}

/// A control plane, with all that is known of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Member {
    /// By source: the best of them names it.
    names: BTreeMap<Source, String>,
    addresses: BTreeSet<String>,
    sources: BTreeSet<Source>,
}

impl Member {
    fn of(sight: Sight) -> Self {
        let Sight { source, name, addresses } = sight;
        let names = if name.is_empty() { BTreeMap::new() } else { BTreeMap::from([(source, name)]) };
        Self { names, addresses, sources: BTreeSet::from([source]) }
    }

    fn name(&self) -> Option<&str> {
        self.names.values().next().map(String::as_str)
    }

    fn called(&self) -> String {
        self.name().or(self.addresses.first().map(String::as_str)).unwrap_or_default().to_owned()
    }

    /// By name, or by an address. No source lists one machine under two names.
    fn is(&self, other: &Self) -> bool {
        let same_name = self.names.values().any(|name| other.names.values().any(|n| n == name));
        let listed_apart = self.names.keys().any(|source| other.names.contains_key(source));
        same_name || (!listed_apart && !self.addresses.is_disjoint(&other.addresses))
    }

    fn join(&mut self, other: Self) {
        for (source, name) in other.names {
            self.names.entry(source).or_insert(name);
        }
        self.addresses.extend(other.addresses);
        self.sources.extend(other.sources);
    }
}

/// This node and the other control planes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peers {
    me: Member,
    name: String,
    others: Vec<Member>,
    asked: BTreeSet<Source>,
}

impl Peers {
    /// `asked`: the sources that have answered, whatever they said.
    pub fn unite(name: &str, addresses: BTreeSet<String>, sights: Vec<Sight>, asked: BTreeSet<Source>) -> Self {
        // under the name by which everybody should know it, whoever else calls it what
        let me = Member { names: BTreeMap::new(), addresses, sources: BTreeSet::new() };
        let mut all = vec![me];
        let (mine, theirs): (Vec<Sight>, Vec<Sight>) = sights.into_iter().partition(|sight| sight.name == name);
        for sight in mine {
            if let Some(me) = all.first_mut() {
                me.join(Member::of(sight));
            }
        }
        // names first: an address may be shared, or have changed hands
        let (named, bare): (Vec<Sight>, Vec<Sight>) = theirs.into_iter().partition(|sight| !sight.name.is_empty());
        for found in named.into_iter().chain(bare).map(Member::of) {
            let by_name = |m: &&mut Member| m.names.values().any(|n| found.names.values().any(|f| f == n));
            match all.iter_mut().find(by_name) {
                Some(member) => member.join(found),
                None => all.push(found),
            }
        }
        let mut united: Vec<Member> = Vec::new();
        for member in all {
            match united.iter_mut().find(|m| m.is(&member)) {
                Some(known) => known.join(member),
                None => united.push(member),
            }
        }
        let mut united = united.into_iter();
        let me = united.next().unwrap_or_default();
        let mut peers = Self { me, name: name.to_owned(), others: united.collect(), asked };
        peers.drop_second_addresses();
        peers
    }

    /// Where there are no more addresses of API servers than control planes with a name, one that fits none of them is a
    /// second address of one of these. A node that does not know its own may be the only one.
    fn drop_second_addresses(&mut self) {
        let named = 1 + self.others.iter().filter(|m| m.name().is_some()).count();
        let nameless = self.others.len() + 1 - named;
        let with_server = self.others.iter().chain([&self.me]).filter(|m| m.sources.contains(&Source::Servers)).count();
        let may_be_mine = self.me.addresses.is_empty() && nameless <= 1;
        if with_server <= named && (named > 1 || may_be_mine) {
            self.others.retain(|m| m.name().is_some());
        }
    }

    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// All control planes, this one among them, as they are told apart everywhere: by their names, where any other has one.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.others.iter().filter_map(Member::name).map(str::to_owned).collect();
        if names.is_empty() {
            names = self.others.iter().map(Member::called).collect();
        }
        names.push(self.name.clone());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the sources do not agree on, in sentences.
    pub fn disagreements(&self) -> Vec<String> {
        let labels = self.asked.contains(&Source::Labels);
        let unlabelled = |m: &&Member| labels && !m.sources.contains(&Source::Labels);
        let others = self.others.iter().filter(unlabelled).map(|m| {
            let who: Vec<&str> = m.sources.iter().map(|s| s.says()).collect();
            format!(
                "{} is a control plane by {}, and no Node with a control plane's label is known by that name or address: it \
                 counts as one; see `kubectl get nodes --show-labels`",
                m.called(),
                who.join(" and by ")
            )
        });
        let me = Some(&self.me)
            .filter(unlabelled)
            .map(|_| format!("{}: this Node has no label of a control plane, though one runs here", self.name));
        others.chain(me).collect()
    }
}

/// A control plane that was seen once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Known {
    pub addresses: BTreeSet<String>,
    /// When a look first missed it that everybody has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<Timestamp>,
}

/// Adds what was seen to what is remembered, by name or address. Who was not seen stays for a week of looks that everybody has
/// answered (`complete`): one wrong list is no reason to be alone.
pub fn remember(known: &mut BTreeMap<String, Known>, peers: &Peers, complete: bool, now: Timestamp) {
    let mut seen = BTreeSet::new();
    for member in &peers.others {
        if member.sources.iter().all(|s| *s == Source::Memory) {
            continue;
        }
        let name = member.called();
        known.insert(name.clone(), Known { addresses: member.addresses.clone(), missed: None });
        seen.insert(name);
    }
    // its own name is there from a time when it was kept, too
    known.remove(&peers.name);
    if !complete {
        return;
    }
    known.retain(|name, member| {
        if seen.contains(name) {
            return true;
        }
        let missed = member.missed.filter(|at| *at <= now).unwrap_or(now);
        member.missed = Some(missed);
        now.duration_since(missed) < FORGOTTEN
    });
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
