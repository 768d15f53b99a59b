//! Which addresses a node may have a certificate for: those in its Node's status that a control plane can confirm.

use std::net::IpAddr;

use super::neighbours::{Neighbour, Rival};
use super::{Known, Objection};
use crate::model::policy::Approver;

use Objection::{Forged, Unclear, Unknown, Unproven};

/// Why the node may not have this address; None: it may.
pub(super) fn objection(
    ip: IpAddr,
    node: &str,
    own: &Neighbour,
    known: &Known<'_>,
    rules: &Approver,
) -> Option<Objection> {
    if is_nobodys(ip) {
        return Some(Forged(format!("{ip} is no address of one node")));
    }
    // this very host knows its own addresses, and that they are nobody else's
    let mine = known.here.local.contains(&ip);
    let here = known.here.node == Some(node);
    if mine && !here {
        return Some(Forged(format!("{ip} is an address of this control plane")));
    }
    let named = own.addresses.ips.contains(&ip);
    let expected = rules.networks.iter().any(|n| n.contains(ip));
    if let Some(why) = the_apis(ip, node, named, known) {
        return Some(why);
    }
    if !rules.networks.is_empty() && !expected {
        return Some(Unknown(format!("{ip} is in none of approver.networks")));
    }
    // an API server's address, or this host's own, is no worker's, whatever that writes into its status
    let certain = mine || (known.cluster.is_endpoint(ip) && known.is_control_plane(node));
    let rival = if certain && named {
        known.neighbours.rival_control_plane(ip, node)
    } else {
        known.neighbours.rival(ip, node)
    };
    if !named {
        let whose = match &rival {
            Some(Rival::Node(_)) => "another Node's address".to_owned(),
            Some(Rival::Deleted(other)) => format!("an address of the deleted Node {other}"),
            None => format!("no address of the Node {node}"),
        };
        return Some(Unknown(format!("{ip} is {whose}")));
    }
    // what the operator or this host itself says of a node's network counts more than the range of Services around it
    let settled = expected || mine;
    if known.cluster.is_service(ip) {
        let why = format!("{ip} is a Service's address");
        return Some(if settled { Unclear(why) } else { Forged(why) });
    }
    match rival {
        Some(Rival::Node(other)) => {
            return Some(Unclear(format!("{ip} stands in the status of the Node {other}, too")));
        }
        Some(Rival::Deleted(other)) => {
            return Some(Unclear(format!("{ip} was an address of the Node {other}, which was deleted within a day")));
        }
        None => {}
    }
    if known.cluster.is_hidden(ip) {
        return Some(Unclear(format!("{ip} may be the address of a Service that is too large to be read")));
    }
    if known.cluster.is_in_range(ip) && !settled {
        return Some(Unclear(format!("{ip} is in the Services' range and in none of approver.networks")));
    }
    let enough = mine || (expected && !known.cluster.is_outside(ip));
    (!enough).then_some(Unproven(ip))
}

/// The API's addresses: the servers' own are control planes', all others nobody's.
fn the_apis(ip: IpAddr, node: &str, named: bool, known: &Known<'_>) -> Option<Objection> {
    let control_plane = known.is_control_plane(node);
    if known.cluster.is_endpoint(ip) {
        let why = format!("{ip} is an API server's address, and {node} is no control plane");
        return match (control_plane, known.neighbours.is_control_planes(ip)) {
            (true, _) => None,
            (false, false) if named => Some(Unclear(why)),
            (false, _) => Some(Forged(why)),
        };
    }
    if !known.cluster.is_api_address(ip) {
        return None;
    }
    let why = format!("{ip} is an address of the API");
    // one that stands in the API server's certificate besides, perhaps; or a virtual one that it holds just now
    let unclear = control_plane && named && !known.cluster.is_service(ip);
    Some(if unclear { Unclear(why) } else { Forged(why) })
}

/// What means another host to everybody who uses it, or is an address in another's clothes.
fn is_nobodys(ip: IpAddr) -> bool {
    let odd = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().first() == Some(&0),
        // `::10.0.0.1` and `::ffff:10.0.0.1` (RFC 4291 §2.5.5); `64:ff9b::10.0.0.1` (RFC 6052)
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || matches!(v6.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..])
        }
    };
    odd || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()
}
