//! What the agents of one run ask of the product's code that does not depend on the state: who their peers are, their
//! slots of time, for how long they wait for others that are ill.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use certwarden::model::fleet::peers::{Known, Peers, Sight, Source, remember};
use certwarden::model::fleet::slot::Slots;
use certwarden::model::fleet::wait::{Ill, patience};
use certwarden::model::policy::{Policy, Span};
use jiff::Timestamp;

use super::case::{Case, Guard, LASTS, NODES, PATIENCE, START, TICK};

/// Sources that tell nothing any more, as bits.
pub const LABELS: u8 = 1;
pub const ETCD: u8 = 2;
pub const SERVERS: u8 = 4;
/// All nodes, as bits.
pub const ALL: u8 = (1 << NODES) - 1;

/// What a look at the sources comes to.
#[derive(Clone, Copy, Debug)]
pub struct Company {
    pub alone: bool,
    /// Control planes by which the slots are ranked, as bits.
    pub ranked: u8,
    /// Whom this node knows from now on, as bits.
    pub memory: u8,
}

#[derive(Debug)]
pub struct Rules {
    pub case: Case,
    pub without: Option<Guard>,
    pub not_ready: Duration,
    pub harmed: Duration,
    slots: Vec<Vec<Slots>>,
    companies: RefCell<HashMap<(usize, u8, u8, bool), Company>>,
}

pub fn name(node: usize) -> String {
    format!("cp{node}")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

impl Rules {
    pub fn new(case: Case, without: Option<Guard>) -> Self {
        let mut policy = Policy::default();
        policy.fleet.patience = Span(PATIENCE);
        let mut rules = Self {
            case,
            without,
            not_ready: patience(Ill::NotReady, LASTS, &policy),
            harmed: patience(Ill::Harmed, LASTS, &policy),
            slots: Vec::new(),
            companies: RefCell::default(),
        };
        let emergency = rules.emergency();
        let slots = |me: usize, bits: u8| Slots::of(&name(me), &names(bits), LASTS, emergency);
        rules.slots = (0..NODES).map(|me| (0..=ALL).map(|bits| slots(me, bits)).collect()).collect();
        rules
    }

    /// Whether a guard is in its place.
    pub fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    pub fn emergency(&self) -> Duration {
        Duration::from_secs(u64::from(self.case.emergency) * TICK)
    }

    pub fn slots(&self, me: usize, ranked: u8) -> Slots {
        self.slots[me][usize::from(ranked & ALL)]
    }

    /// The wall clock of a node.
    pub fn now(&self, me: usize, tick: u16) -> Timestamp {
        at(START + i64::from(tick) * TICK.cast_signed() + self.case.ahead[me])
    }

    /// The time that a node writes into the Lease: it is looked at where versions may come twice only.
    pub fn written(&self, me: usize, tick: u16) -> Timestamp {
        if self.case.budget.restore > 0 { self.now(me, tick) } else { Timestamp::UNIX_EPOCH }
    }

    pub fn end(&self) -> Timestamp {
        at(START + i64::from(self.case.end) * TICK.cast_signed())
    }

    pub fn is_emergency(&self, tick: u16) -> bool {
        tick.saturating_add(self.case.emergency) >= self.case.end
    }

    /// How much of the past a case needs.
    pub fn keeps(&self) -> usize {
        if self.case.budget.stale + self.case.budget.restore > 0 { 2 } else { 0 }
    }

    /// `blind`: sources that tell nothing. `memory`: whom the node knows. `dark`: the API server does not answer.
    pub fn company(&self, me: usize, blind: u8, memory: u8, dark: bool) -> Company {
        let key = (me, blind, memory, dark);
        if let Some(known) = self.companies.borrow().get(&key) {
            return *known;
        }
        let company = self.look_for(me, blind, memory, dark);
        self.companies.borrow_mut().insert(key, company);
        company
    }

    fn look_for(&self, me: usize, blind: u8, memory: u8, dark: bool) -> Company {
        let address = |node: usize| BTreeSet::from([format!("10.0.0.{node}")]);
        let (mut sights, mut asked) = (Vec::new(), BTreeSet::new());
        let mut tells = |source: Source, named: bool, bits: u8| {
            let sight =
                |node| Sight { source, name: if named { name(node) } else { String::new() }, addresses: address(node) };
            sights.extend((0..NODES).filter(|node| bits & (1 << node) != 0).map(sight));
        };
        if !dark {
            asked.extend([Source::Labels, Source::Servers]);
            tells(Source::Labels, true, if blind & LABELS == 0 { ALL } else { 1 << me });
        }
        if self.has(Guard::PeersUnion) {
            if !dark && blind & SERVERS == 0 {
                tells(Source::Servers, false, ALL);
            }
            if blind & ETCD == 0 {
                asked.insert(Source::Etcd);
                tells(Source::Etcd, true, ALL);
            }
            tells(Source::Memory, true, memory & !(1 << me));
        }
        let complete = asked.contains(&Source::Etcd) && !dark;
        let peers = Peers::unite(&name(me), address(me), sights, asked);
        let mut known: BTreeMap<String, Known> =
            (0..NODES).filter(|node| memory & (1 << node) != 0).map(|node| (name(node), Known::default())).collect();
        if !self.has(Guard::PeersRemembered) {
            known.clear();
        }
        remember(&mut known, &peers, complete, at(START));
        let bits = |there: &dyn Fn(&String) -> bool| {
            (0..NODES).filter(|node| there(&name(*node))).fold(0, |bits, node| bits | (1 << node))
        };
        let ranked = peers.names();
        Company {
            alone: peers.is_alone(),
            ranked: bits(&|name| ranked.contains(name)),
            memory: bits(&|name| known.contains_key(name)),
        }
    }
}

fn names(bits: u8) -> Vec<String> {
    (0..NODES).filter(|node| bits & (1 << node) != 0).map(name).collect()
}
