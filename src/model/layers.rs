//! The other layers' certificates, as the API server has them: Secrets, cert-manager's Certificates, roots of meshes, bundles of
//! webhooks and of aggregated APIs. Of each object a few compact facts are kept, and the number and size of all are bounded, because
//! whoever can make objects in a cluster must not decide how much memory this takes. Keys are never decoded.

mod brief;
mod facts;
mod feeds;
mod judge;
mod object;
mod page;
pub mod probe;
mod text;

use std::collections::BTreeMap;

pub use brief::{Brief, brief};
pub use facts::{Leaf, Object};
pub use feeds::{FEEDS, Feed, Kind};
pub use judge::{Overview, Row, overview};
pub use object::{Change, Malformed, Raw, change, page as list_page};
pub use page::write;

use probe::Probes;

/// Objects that are kept of one feed. A cluster of that size has other worries.
pub const MOST_OBJECTS: usize = 20_000;
/// Bytes of text that are kept in all. The page of metrics is some four times as much, of which the exporter takes 48 MiB.
const MOST_TEXT: usize = 11 << 20;

/// How it goes with the objects of one feed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Standing {
    #[default]
    NotYet,
    Up,
    /// The cluster has no such kind.
    Absent,
    Down,
}

#[derive(Debug, Default)]
struct Fed {
    /// By `namespace/name`.
    objects: BTreeMap<Box<str>, Object>,
    standing: Standing,
    /// Why it is down, for people.
    trouble: String,
    /// Of the list under way, or of the last one.
    generation: u32,
    omitted: u64,
    events: u64,
    errors: u64,
}

/// Everything that is known of all layers.
#[derive(Debug)]
pub struct Layers {
    feeds: Vec<Fed>,
    text: usize,
    pub probes: Probes,
}

impl Default for Layers {
    fn default() -> Self {
        Self { feeds: FEEDS.iter().map(|_| Fed::default()).collect(), text: 0, probes: Probes::default() }
    }
}

impl Layers {
    /// A list of this feed begins: what is not put until it [ends](Self::listed) is gone.
    pub fn begin(&mut self, feed: usize) {
        if let Some(known) = self.feeds.get_mut(feed) {
            known.generation = known.generation.wrapping_add(1);
            known.omitted = 0;
        }
    }

    /// The list is complete.
    pub fn listed(&mut self, feed: usize) {
        let Some(known) = self.feeds.get_mut(feed) else { return };
        let (generation, text) = (known.generation, &mut self.text);
        known.objects.retain(|name, object| {
            let there = object.generation == generation;
            if !there {
                *text = text.saturating_sub(name.len() + object.size());
            }
            there
        });
        self.stand(feed, Standing::Up, "");
    }

    /// How it goes with this feed from now on.
    pub fn stand(&mut self, feed: usize, standing: Standing, trouble: &str) {
        let Some(known) = self.feeds.get_mut(feed) else { return };
        if standing == Standing::Absent {
            // what the cluster does not know it does not have
            let gone: usize = known.objects.iter().map(|(name, o)| name.len() + o.size()).sum();
            self.text = self.text.saturating_sub(gone);
            known.objects.clear();
            known.omitted = 0;
        }
        known.errors += u64::from(standing == Standing::Down);
        known.standing = standing;
        trouble.clone_into(&mut known.trouble);
    }

    pub fn standing(&self, feed: usize) -> Standing {
        self.feeds.get(feed).map(|f| f.standing).unwrap_or_default()
    }

    /// An object as it is now. `changed`: by a watch and not by a list.
    pub fn put(&mut self, feed: usize, raw: &Raw<'_>, changed: bool) {
        let (Some(known), Some(from)) = (self.feeds.get_mut(feed), FEEDS.get(feed)) else { return };
        known.events += u64::from(changed);
        let Some(name) = raw.full_name() else {
            known.omitted += u64::from(!changed);
            return;
        };
        if !from.wants(raw.namespace(), raw.name()) {
            return;
        }
        let mut object = facts::of(from.kind, from.keys, raw);
        object.generation = known.generation;
        let before = known.objects.get(name.as_ref()).map(|o| name.len() + o.size());
        let text = self.text.saturating_sub(before.unwrap_or(0)) + name.len() + object.size();
        if text > MOST_TEXT || (before.is_none() && known.objects.len() >= MOST_OBJECTS) {
            // an old state would be a lie
            known.objects.remove(name.as_ref());
            self.text = self.text.saturating_sub(before.unwrap_or(0));
            known.omitted += u64::from(!changed || before.is_some() || raw.is_new());
            return;
        }
        self.text = text;
        known.objects.insert(name, object);
    }

    /// An object is gone.
    pub fn remove(&mut self, feed: usize, raw: &Raw<'_>) {
        let (Some(known), Some(from)) = (self.feeds.get_mut(feed), FEEDS.get(feed)) else { return };
        known.events += 1;
        let Some(name) = raw.full_name().filter(|_| from.wants(raw.namespace(), raw.name())) else { return };
        match known.objects.remove(name.as_ref()) {
            Some(object) => self.text = self.text.saturating_sub(name.len() + object.size()),
            None => known.omitted = known.omitted.saturating_sub(1),
        }
    }

    /// Objects that are kept, in all.
    pub fn len(&self) -> usize {
        self.feeds.iter().map(|f| f.objects.len()).sum()
    }

    /// Bytes of text that are kept, in all.
    pub fn text(&self) -> usize {
        self.text
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a Secret's `tls.crt` begins with; `secret` is `namespace/name`.
    pub fn secret(&self, secret: &str) -> Option<&Leaf> {
        let secrets = FEEDS.iter().zip(&self.feeds).filter(|(f, _)| f.kind == Kind::Secrets);
        secrets.filter_map(|(_, fed)| fed.objects.get(secret)).find_map(|o| o.leaf.as_deref())
    }

    /// Whether all Secrets are known, so that one that is not found is not there.
    pub fn knows_secrets(&self) -> bool {
        let mut secrets = FEEDS.iter().zip(&self.feeds).filter(|(f, _)| f.kind == Kind::Secrets);
        secrets.all(|(_, fed)| fed.standing == Standing::Up && fed.omitted == 0)
    }

    /// The feeds of a kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Fed> {
        FEEDS.iter().zip(&self.feeds).filter(move |(f, _)| f.kind == kind).map(|(_, fed)| fed)
    }

    /// Every object with its kind and name.
    fn objects(&self) -> impl Iterator<Item = (Kind, &str, &Object)> {
        let fed = FEEDS.iter().zip(&self.feeds);
        fed.flat_map(|(feed, fed)| fed.objects.iter().map(|(name, object)| (feed.kind, name.as_ref(), object)))
    }
}
