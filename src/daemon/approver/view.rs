//! What this control plane sees of the network itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::host::interfaces;
use crate::host::tls::holder::holder;
use crate::model::cause::chain;
use crate::model::identity::{GROUP, USER};

/// Where a kubelet serves its API (kubernetes: `pkg/cluster/ports/ports.go:KubeletPort`). Never what a Node object says: a
/// port of a Service would lead elsewhere.
const PORT: u16 = 10250;
/// For one look: a node on the same network answers within milliseconds.
const LIMIT: Duration = Duration::from_secs(2);
/// How long an answer holds.
const HOLDS: i64 = 600;
/// How long none does: a kubelet that has just begun files its request before it answers, and is looked for once more before
/// its request is left to a person.
const FAILS: i64 = 45;
/// Looks in one pass, and for one user: each may cost [`LIMIT`].
const IN_A_PASS: usize = 32;
const OF_A_USER: usize = 4;
/// Answers that are kept.
const MOST: usize = 4096;

type Local = Box<dyn Fn(IpAddr) -> bool + Send>;
type Kubelet = Box<dyn Fn(IpAddr, &str, &[u8]) -> bool + Send>;

/// The two questions, which only the real network can answer.
pub struct View {
    /// Whether an address is on an interface of this host.
    pub local: Local,
    /// Whether the kubelet of this node answers there, by a certificate of this CA (PEM).
    pub kubelet: Kubelet,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl Default for View {
    fn default() -> Self {
        Self { local: Box::new(interfaces::is_local), kubelet: Box::new(answers) }
    }
}

fn answers(ip: IpAddr, node: &str, ca: &[u8]) -> bool {
    let address = if ip.is_ipv6() { format!("[{ip}]:{PORT}") } else { format!("{ip}:{PORT}") };
    match holder(&address, ca, LIMIT) {
        Ok(leaf) => {
            leaf.common_name.as_deref().and_then(|name| name.strip_prefix(USER)) == Some(node)
                && leaf.organizations.iter().any(|o| o == GROUP)
        }
        Err(e) => {
            tracing::debug!("the kubelet of {node} does not show itself: {}", chain(&e));
            false
        }
    }
}

/// What was seen, for a while.
#[derive(Debug, Default)]
pub(super) struct Seen {
    answers: BTreeMap<(String, IpAddr), (bool, i64)>,
    looks: usize,
    by_node: BTreeMap<String, usize>,
}

impl Seen {
    /// A pass begins.
    pub(super) fn begin(&mut self, now: Timestamp) {
        (self.looks, self.by_node) = (0, BTreeMap::new());
        self.answers.retain(|_, (_, until)| *until > now.as_second());
        if self.answers.len() > MOST {
            self.answers.clear();
        }
    }

    /// Whether this node's kubelet answers there; None: that is for another pass.
    pub(super) fn ask(&mut self, view: &View, node: &str, ip: IpAddr, ca: &[u8], now: Timestamp) -> Option<bool> {
        let key = (node.to_owned(), ip);
        if let Some((answer, _)) = self.answers.get(&key) {
            return Some(*answer);
        }
        let own = self.by_node.entry(node.to_owned()).or_default();
        if self.looks >= IN_A_PASS || *own >= OF_A_USER {
            return None;
        }
        self.looks += 1;
        *own += 1;
        let answer = (view.kubelet)(ip, node, ca);
        let holds = if answer { HOLDS } else { FAILS };
        self.answers.insert(key, (answer, now.as_second().saturating_add(holds)));
        Some(answer)
    }

    /// Whether nobody may look any more in this pass.
    pub(super) fn is_tired(&self) -> bool {
        self.looks >= IN_A_PASS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_node_that_claims_many_addresses_takes_few_looks_and_leaves_those_of_others() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&looks);
        let kubelet = move |ip: IpAddr, _: &str, _: &[u8]| {
            counter.fetch_add(1, Ordering::Relaxed);
            ip.to_string() == "10.0.0.2"
        };
        let view = View { local: Box::new(|_| false), kubelet: Box::new(kubelet) };
        let mut seen = Seen::default();
        seen.begin(at(0));
        for i in 0..200 {
            let asked = seen.ask(&view, "flood", format!("10.1.0.{i}").parse().unwrap(), b"", at(0));
            assert_eq!(asked, (i < 4).then_some(false), "{i}");
        }
        let good = "10.0.0.2".parse().unwrap();
        assert_eq!(seen.ask(&view, "good", good, b"", at(0)), Some(true));
        assert_eq!(seen.ask(&view, "other", good, b"", at(0)), Some(true), "each for itself");
        let before = looks.load(Ordering::Relaxed);
        seen.begin(at(599));
        assert_eq!((seen.ask(&view, "good", good, b"", at(599)), looks.load(Ordering::Relaxed)), (Some(true), before));
        seen.begin(at(600));
        assert_eq!(seen.ask(&view, "good", good, b"", at(600)), Some(true));
        assert_eq!(looks.load(Ordering::Relaxed), before + 1, "seen anew");
        for n in 0..100 {
            seen.ask(&view, &format!("n{n}"), good, b"", at(600));
        }
        assert!(seen.is_tired());
        assert_eq!(looks.load(Ordering::Relaxed), before + IN_A_PASS);
    }
}
