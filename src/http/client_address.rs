//! The client's address: the peer's, or the one that proxies which are trusted say they forward for.
//!
//! The hops are walked from the nearest on. The first that is not a trusted proxy is the client: what stands further
//! left was written by it. A hop that is no address ends the walk at the proxy before it.
//! `Forwarded` and `X-Forwarded-For` in one request must mean the same client; otherwise neither is believed, for a
//! proxy that writes one of them may pass the client's own other on.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;

use super::forwarded::{Hop, forwarded, x_forwarded_for};
use super::peer::Peer;

/// The most hops that are walked; no honest chain is longer.
const HOPS_MAX: usize = 32;

/// From where a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether this is a proxy that did not say, in a way to be believed, for whom it forwards.
    pub is_proxy: bool,
}

/// Finds the client's address.
///
/// Whoever comes through a Unix socket was let in by its mode: it counts as loopback, and its word as a trusted proxy's.
pub fn client_address(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let is_believed = is_believed(peer, trusted);
    let peer = peer.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
    if !is_believed {
        return ClientAddress {
            address: peer,
            is_proxy: false,
        };
    }
    let at_peer = ClientAddress {
        address: peer,
        is_proxy: true,
    };
    let grammar_or_nothing = |value: &str| match forwarded(value) {
        Some(elements) => elements.into_iter().map(|element| element.hop).collect(),
        None => vec![None],
    };
    let forwarded = hops(headers, FORWARDED.as_str(), grammar_or_nothing).map(|hops| walk(peer, &hops, trusted));
    let x_forwarded = hops(headers, "x-forwarded-for", x_forwarded_for).map(|hops| walk(peer, &hops, trusted));
    match (forwarded, x_forwarded) {
        (None, None) => ClientAddress {
            address: peer,
            is_proxy: false,
        },
        (Some(found), None) | (None, Some(found)) => found,
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) => at_peer,
    }
}

fn walk(peer: IpAddr, hops: &[Hop], trusted: &[IpNet]) -> ClientAddress {
    let mut last = peer;
    for hop in hops.iter().rev().take(HOPS_MAX) {
        match hop {
            Some(address) if is_trusted(*address, trusted) => last = *address,
            Some(address) => {
                return ClientAddress {
                    address: *address,
                    is_proxy: false,
                };
            }
            None => {
                return ClientAddress {
                    address: last,
                    is_proxy: true,
                };
            }
        }
    }
    // Everybody is trusted: the first one is the client, unless the chain says nothing or too much.
    let is_proxy = hops.is_empty() || hops.len() > HOPS_MAX;
    ClientAddress {
        address: last,
        is_proxy,
    }
}

/// Whether what a peer says of the request that it forwards counts.
pub(super) fn is_believed(peer: Peer, trusted: &[IpNet]) -> bool {
    peer.ip.is_none_or(|peer| is_trusted(peer, trusted))
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The hops of a header, all of its lines as one list; what is no text names nobody. `None`: it is not there.
fn hops(headers: &HeaderMap, name: &str, read: impl Fn(&str) -> Vec<Hop>) -> Option<Vec<Hop>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().ok()).collect();
    let text: Option<Vec<&str>> = lines.iter().copied().collect();
    let hops = text.map_or_else(|| vec![None], |text| read(&text.join(",")));
    (!lines.is_empty()).then_some(hops)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const XFF: &str = "x-forwarded-for";
    const FWD: &str = "forwarded";

    type Headers<'a> = &'a [(&'static str, &'a str)];

    /// The address, with a `*` if it is a proxy that did not say for whom it forwards.
    fn found(peer: &str, headers: Headers<'_>) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:a::/48"].map(|network| network.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let peer = Peer { ip: peer.parse().ok() };
        let found = client_address(peer, &map, &trusted);
        format!("{}{}", found.address, if found.is_proxy { "*" } else { "" })
    }

    #[test]
    fn who_the_client_is() {
        let many = vec!["10.0.0.3"; HOPS_MAX + 1].join(",");
        let table: &[(&str, Headers<'_>, &str)] = &[
            // Nobody is believed who is not trusted.
            ("198.51.100.9", &[], "198.51.100.9"),
            ("198.51.100.9", &[(XFF, "192.0.2.1")], "198.51.100.9"),
            (
                "198.51.100.9",
                &[(FWD, "for=192.0.2.1"), (XFF, "192.0.2.1")],
                "198.51.100.9",
            ),
            ("2001:db8:b::1", &[(XFF, "192.0.2.1")], "2001:db8:b::1"),
            // A proxy that is trusted.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &[(XFF, "192.0.2.1")], "192.0.2.1"),
            ("2001:db8:a::1", &[(XFF, "2001:db8:c::9")], "2001:db8:c::9"),
            ("10.0.0.1", &[(XFF, "192.0.2.1:4711")], "192.0.2.1"),
            ("10.0.0.1", &[(XFF, "::ffff:192.0.2.1")], "192.0.2.1"),
            (
                "10.0.0.1",
                &[(FWD, "for=\"[2001:db8:c::9]:1\";proto=https")],
                "2001:db8:c::9",
            ),
            ("unix", &[], "127.0.0.1"),
            ("unix", &[(XFF, "192.0.2.1")], "192.0.2.1"),
            ("unix", &[(XFF, "garbage")], "127.0.0.1*"),
            // The right-most that is not trusted; what is left of it is the client's own invention.
            ("10.0.0.1", &[(XFF, "203.0.113.7, 192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(XFF, "203.0.113.7, 192.0.2.1, 10.0.0.2")], "192.0.2.1"),
            (
                "10.0.0.1",
                &[(XFF, "203.0.113.7"), (XFF, "192.0.2.1"), (XFF, "10.0.0.2")],
                "192.0.2.1",
            ),
            ("10.0.0.1", &[(XFF, "10.9.9.9, 192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(XFF, "garbage, 192.0.2.1")], "192.0.2.1"),
            (
                "10.0.0.1",
                &[(FWD, "for=203.0.113.7, for=192.0.2.1;by=10.0.0.2")],
                "192.0.2.1",
            ),
            // Everybody is trusted: the first.
            ("10.0.0.1", &[(XFF, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[(XFF, &many)], "10.0.0.3*"),
            // What is no address ends the walk at the last proxy.
            ("10.0.0.1", &[(XFF, "192.0.2.1, unknown")], "10.0.0.1*"),
            ("10.0.0.1", &[(XFF, "192.0.2.1, _hidden, 10.0.0.2")], "10.0.0.2*"),
            ("10.0.0.1", &[(XFF, "192.0.2.1, 999.0.0.1")], "10.0.0.1*"),
            ("10.0.0.1", &[(XFF, "")], "10.0.0.1*"),
            ("10.0.0.1", &[(XFF, "192.0.2.1\u{e9}")], "10.0.0.1*"),
            ("10.0.0.1", &[(FWD, "for=192.0.2.1, proto=https")], "10.0.0.1*"),
            ("10.0.0.1", &[(FWD, "for=\", for=192.0.2.1")], "10.0.0.1*"),
            ("10.0.0.1", &[(FWD, "for=192.0.2.1, for=unknown")], "10.0.0.1*"),
            // Both headers.
            ("10.0.0.1", &[(FWD, "for=192.0.2.1"), (XFF, "192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(FWD, "for=203.0.113.7"), (XFF, "192.0.2.1")], "10.0.0.1*"),
            ("10.0.0.1", &[(FWD, "garbage"), (XFF, "192.0.2.1")], "10.0.0.1*"),
        ];
        for (peer, headers, expected) in table {
            assert_eq!(found(peer, headers), *expected, "{peer} {headers:?}");
        }
    }
}
