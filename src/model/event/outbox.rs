//! What is to be told and what has been: the same thing as a repetition of one Event and not as many, rarely, and later if the API
//! server is away now and it is still true.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{News, Reason};
use crate::model::plain;

/// `reportingComponent` of every Event.
pub const CONTROLLER: &str = "certwarden.io/certwarden";
/// What lasts is repeated so often. The API server keeps an Event for an hour by default (`--event-ttl`).
const REPEAT: SignedDuration = SignedDuration::from_mins(50);
/// What happened while nobody could be told is not told after this.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// What happened and waits to be told: more than this is a story for `certwarden history`.
const MOST_WAITING: usize = 8;
/// A message may have 1 kB (kubernetes: `pkg/apis/core/validation/events.go`).
const LONGEST_NOTE: usize = 900;

/// An Event that the API server has or is to have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Told {
    news: News,
    /// It is true until it is taken back; else it happened once.
    lasts: bool,
    since: Timestamp,
    /// Name of the Event, once there is one, and when it was told last.
    delivered: Option<(String, Timestamp)>,
    count: u32,
}

/// What the API server is to be asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Delivery {
    Create {
        key: String,
        name: String,
        event: Value,
    },
    /// A merge patch of that Event.
    Repeat {
        key: String,
        name: String,
        patch: Value,
    },
}

impl Delivery {
    pub fn key(&self) -> &str {
        match self {
            Self::Create { key, .. } | Self::Repeat { key, .. } => key,
        }
    }
}

/// What is to be told, and what has been. It is kept over a restart, because a kubelet's credential may write Events and not read
/// them (kubernetes: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go:NodeRules`): the next would be a second one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outbox {
    entries: BTreeMap<String, Told>,
    /// Something that lasted was told: its end is worth telling.
    troubled: bool,
}

impl Outbox {
    /// What lasts now, by a look. What does not any more is not told any more, delivered or not.
    pub fn look(&mut self, news: Vec<News>, now: Timestamp) {
        let known: Vec<String> = news.iter().map(key).collect();
        self.entries.retain(|k, told| !told.lasts || known.contains(k));
        if news.is_empty() && self.troubled {
            self.troubled = false;
            let note = "every certificate of this node is well again".to_owned();
            self.add(News { reason: Reason::CertificateCheckRecovered, about: String::new(), note }, false, now);
        }
        for news in news {
            self.add(news, true, now);
        }
    }

    /// What has happened once.
    pub fn happened(&mut self, news: News, now: Timestamp) {
        self.add(news, false, now);
        let mut waiting: Vec<(Timestamp, String)> = self.waiting().map(|(k, t)| (t.since, k.clone())).collect();
        waiting.sort();
        for (_, key) in waiting.iter().rev().skip(MOST_WAITING) {
            self.entries.remove(key);
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (&String, &Told)> {
        self.entries.iter().filter(|(_, t)| !t.lasts && t.delivered.is_none())
    }

    fn add(&mut self, news: News, lasts: bool, now: Timestamp) {
        let new = Told { news: news.clone(), lasts, since: now, delivered: None, count: 0 };
        let told = self.entries.entry(key(&news)).or_insert(new);
        // the words change with the days that are left; it is the same Event
        told.news = news;
    }

    /// What is to be delivered now.
    pub fn due(&mut self, node: &str, now: Timestamp) -> Vec<Delivery> {
        // either way: what was kept may be of a clock that has been set back since
        self.entries.retain(|_, t| t.lasts || now.duration_since(t.since).abs() < STALE);
        let mut all = Vec::new();
        for (key, told) in &self.entries {
            match &told.delivered {
                None => {
                    let name = format!("{node}.{:x}", now.as_nanosecond());
                    // a name for each, also where two are made in one instant
                    let name = format!("{name}{:02x}", all.len());
                    let event = event(told, &name, node, now);
                    all.push(Delivery::Create { key: key.clone(), name, event });
                }
                Some((name, last)) if told.lasts && now.duration_since(*last).abs() >= REPEAT => {
                    let message = cut(&told.news.note);
                    let patch = json!({"count": told.count + 1, "lastTimestamp": whole(now), "message": message});
                    all.push(Delivery::Repeat { key: key.clone(), name: name.clone(), patch });
                }
                Some(_) => {}
            }
        }
        all
    }

    /// It was accepted.
    pub fn delivered(&mut self, delivery: &Delivery, now: Timestamp) {
        let (Delivery::Create { key, name, .. } | Delivery::Repeat { key, name, .. }) = delivery;
        if let Some(told) = self.entries.get_mut(key) {
            (told.delivered, told.count) = (Some((name.clone(), now)), told.count + 1);
            self.troubled |= told.lasts;
        }
    }

    /// The Event is gone (its time is over, or somebody deleted it): the next is a new one.
    pub fn gone(&mut self, key: &str) {
        if let Some(told) = self.entries.get_mut(key) {
            told.delivered = None;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn key(news: &News) -> String {
    format!("{}/{}", news.reason.id(), news.about)
}

/// Of core/v1: a kubelet may write no other (kubernetes: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go:NodeRules`).
/// Cluster-scoped objects have theirs in `default`. `kubectl describe node` before 1.21 finds only those whose uid is the
/// node's name, as the kubelet's own are; later ones find both.
fn event(told: &Told, name: &str, node: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": told.news.reason.kind(),
        "reason": told.news.reason.id(),
        "action": told.news.reason.action(),
        "message": cut(&told.news.note),
        "firstTimestamp": whole(now),
        "lastTimestamp": whole(now),
        "count": 1,
        "source": {"component": "certwarden", "host": node},
        "reportingComponent": CONTROLLER,
        "reportingInstance": node,
    })
}

/// `Time`: whole seconds (apimachinery: `meta/v1/time.go`).
fn whole(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn cut(note: &str) -> String {
    plain::in_bytes(note, LONGEST_NOTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    #[test]
    fn a_note_is_plain_and_fits() {
        let note = cut(&format!("a\u{1b}[2J\u{202e}b\n{}", "ü".repeat(1000)));
        assert!(
            note.starts_with("a\u{fffd}[2J\u{fffd}b ü") && note.ends_with('…') && note.len() <= LONGEST_NOTE,
            "{note}"
        );
    }

    fn news(reason: Reason, about: &str) -> News {
        News { reason, about: about.into(), note: format!("{about} is told") }
    }

    /// Delivers everything that is due; what was delivered, in words.
    fn deliver(outbox: &mut Outbox, now: Timestamp) -> Vec<String> {
        let due = outbox.due("n1", now);
        due.iter()
            .map(|delivery| {
                outbox.delivered(delivery, now);
                match delivery {
                    Delivery::Create { event, .. } => format!("new {}", event["reason"].as_str().unwrap()),
                    Delivery::Repeat { patch, .. } => format!("again {}", patch["count"]),
                }
            })
            .collect()
    }

    #[test]
    fn what_lasts_is_one_event_that_is_repeated_rarely() {
        let mut outbox = Outbox::default();
        let expired = || vec![news(Reason::CertificateExpired, "apiserver")];
        outbox.look(expired(), at(0));
        assert_eq!(deliver(&mut outbox, at(0)), ["new CertificateExpired"]);
        for minute in 1..49 {
            outbox.look(expired(), at(minute));
            assert_eq!(deliver(&mut outbox, at(minute)), [""; 0]);
        }
        outbox.look(expired(), at(50));
        assert_eq!(deliver(&mut outbox, at(50)), ["again 2"]);
        // its hour is over on the server
        outbox.gone("CertificateExpired/apiserver");
        assert_eq!(deliver(&mut outbox, at(100)), ["new CertificateExpired"]);
    }

    #[test]
    fn a_restart_repeats_an_event_and_makes_no_second_one() {
        let expired = || vec![news(Reason::CertificateExpired, "apiserver")];
        let mut outbox = Outbox::default();
        outbox.look(expired(), at(0));
        assert_eq!(deliver(&mut outbox, at(0)), ["new CertificateExpired"]);
        let kept = serde_json::to_string(&outbox).unwrap();
        let mut outbox: Outbox = serde_json::from_str(&kept).unwrap();
        outbox.look(expired(), at(10));
        assert_eq!(deliver(&mut outbox, at(10)), [""; 0]);
        assert_eq!(deliver(&mut outbox, at(50)), ["again 2"]);
        outbox.look(Vec::new(), at(60));
        assert_eq!(deliver(&mut outbox, at(60)), ["new CertificateCheckRecovered"]);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        let mut outbox = Outbox::default();
        outbox.look(vec![news(Reason::CertificateExpired, "apiserver")], at(500_000));
        outbox.happened(news(Reason::CertificateRenewed, "t"), at(500_000));
        assert_eq!(deliver(&mut outbox, at(500_000)).len(), 2);
        assert_eq!(deliver(&mut outbox, at(0)), ["again 2"]);
        assert_eq!(deliver(&mut outbox, at(50)), ["again 3"]);
    }

    #[test]
    fn what_is_not_true_any_more_when_the_api_is_back_is_not_told() {
        let mut outbox = Outbox::default();
        outbox.look(
            vec![news(Reason::CertificateExpired, "apiserver"), news(Reason::CertificateExpiringSoon, "etcd-peer")],
            at(0),
        );
        assert_eq!(outbox.due("n1", at(1)).len(), 2, "nobody took them");
        outbox.look(vec![news(Reason::CertificateExpiringSoon, "etcd-peer")], at(60));
        assert_eq!(deliver(&mut outbox, at(61)), ["new CertificateExpiringSoon"]);
        outbox.look(Vec::new(), at(120));
        assert_eq!(deliver(&mut outbox, at(121)), ["new CertificateCheckRecovered"]);
        outbox.look(Vec::new(), at(180));
        assert_eq!(deliver(&mut outbox, at(181)), [""; 0]);
    }

    #[test]
    fn trouble_that_nobody_was_told_of_has_no_recovery_to_tell() {
        let mut outbox = Outbox::default();
        outbox.look(vec![news(Reason::CertificateExpired, "apiserver")], at(0));
        outbox.look(Vec::new(), at(60));
        assert_eq!(deliver(&mut outbox, at(61)), [""; 0]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_happened_is_told_once_and_a_long_outage_leaves_few_and_nothing_old() {
        let mut outbox = Outbox::default();
        for n in 0..20 {
            outbox.happened(news(Reason::CertificateRolledBack, &format!("t{n:02}")), at(n));
        }
        assert_eq!(deliver(&mut outbox, at(30)).len(), MOST_WAITING);
        assert_eq!(deliver(&mut outbox, at(31)), [""; 0]);
        outbox.happened(news(Reason::CertificateRenewed, "t99"), at(40));
        assert_eq!(outbox.due("n1", at(40 + 24 * 60)), []);
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_event_is_what_the_api_takes() {
        let mut outbox = Outbox::default();
        let long = News { note: "ü".repeat(2000) + "\u{1b}", ..news(Reason::CertificateRenewed, "t") };
        outbox.happened(long, at(0));
        outbox.happened(news(Reason::CertificateRolledBack, "u"), at(0));
        let due = outbox.due("n1", at(0));
        let names: std::collections::BTreeSet<String> = due
            .iter()
            .map(|d| {
                let Delivery::Create { event, name, .. } = d else { panic!("{d:?}") };
                assert!(event["message"].as_str().unwrap().len() <= 1024);
                assert_eq!(event["involvedObject"]["uid"], "n1");
                assert_eq!(event["metadata"]["namespace"], "default");
                assert_eq!(event["lastTimestamp"], "2027-01-15T08:00:00Z");
                // RFC 1123, and unique
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.'));
                name.clone()
            })
            .collect();
        assert_eq!(names.len(), 2);
    }
}
