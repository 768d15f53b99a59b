//! What must hold of every `[[probe]]`: what is asked is written into other people's servers, and its name becomes a label.

use std::collections::BTreeSet;

use super::{Broken, is_plain, plain};
use crate::model::policy::{Policy, Span};

/// An endpoint that is asked more often only has more work.
const SHORTEST_PROBE: Span = Span::secs(10);
/// Each is a handshake and a handful of series.
const MOST_PROBES: usize = 256;

pub(super) fn probes(p: &Policy) -> Vec<Broken> {
    const KEYS: &[&str] = &["probe"];
    let mut broken: Vec<Broken> = Vec::new();
    if p.probe.len() > MOST_PROBES {
        broken.push((KEYS, format!("is there {} times, the most is {MOST_PROBES}", p.probe.len())));
    }
    let mut names = BTreeSet::new();
    for probe in &p.probe {
        let name = &probe.name;
        let mut complain = |what: String| broken.push((KEYS, format!("`{name}` {what}")));
        if !is_plain(name) {
            complain("is no name; write letters, digits, `-` and `_`, at most 64".to_owned());
        }
        if !names.insert(name) {
            complain("is there twice; give each probe a name of its own".to_owned());
        }
        let port = probe.address.rsplit_once(':').filter(|(host, port)| is_host(host) && port.parse() != Ok(0_u16));
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            complain(format!("has {}, which is no address; write host:port, IPv6 in brackets", probe.address));
        }
        if !probe.server_name.is_empty() && !is_host(&probe.server_name) {
            complain(format!("has {}, which is no name of a server", probe.server_name));
        }
        if probe.interval < SHORTEST_PROBE {
            complain(format!("has interval {}, the least is {SHORTEST_PROBE}", probe.interval));
        }
        if !probe.ca.as_os_str().is_empty() && !plain(&probe.ca) {
            complain(format!("has {}; write an absolute path without `..`", probe.ca.display()));
        }
        let secret = probe.secret.split_once('/').filter(|(space, name)| is_host(space) && is_host(name));
        if !probe.secret.is_empty() && secret.is_none() {
            complain(format!("has {}, which is no Secret; write namespace/name", probe.secret));
        }
    }
    broken
}

/// A DNS name or an IP address.
fn is_host(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
        }
    }
}
