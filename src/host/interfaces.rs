//! This host's own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether `ip` is on an interface of this host: what the kernel sends there it sends from there (linux: `net/ipv4/route.c:
/// ip_route_output_key_hash_rcu`, local destinations). Nothing is sent. Unlike an attempt to bind it this is not fooled by
/// `ip_nonlocal_bind`. A second address of the same network counts as foreign: it is sent from the first.
pub fn is_local(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_an_interface_is_told_from_what_is_not() {
        assert!(is_local(Ipv4Addr::LOCALHOST.into()));
        // for documentation only (RFC 5737, RFC 3849)
        for ip in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
