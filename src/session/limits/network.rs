//! Whom an address stands for: one IPv4 address, or an IPv6 network that one customer was given.

use std::net::{IpAddr, Ipv4Addr};

/// Bytes of the IPv6 network that counts as one client, a /64: what a home or a phone is given at least.
const CLIENT_BYTES: usize = 8;

/// Bytes of the IPv6 network of the second tier, a /48: what a site is given at most, which holds 65,536 of the first.
const SITE_BYTES: usize = 6;

/// Whose addresses count together. In bytes, for each limited session has one and is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    V4(Ipv4Addr),
    V6([u8; CLIENT_BYTES]),
    /// One of the second tier.
    V6Site([u8; SITE_BYTES]),
}

impl Network {
    /// The network that counts as one client. IPv4 inside of IPv6 is IPv4.
    pub(super) fn client(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(first(address.octets())),
        }
    }

    /// The larger network around it, where there is a second tier.
    pub(super) fn site(self) -> Option<Self> {
        match self {
            Self::V6(prefix) => Some(Self::V6Site(first(prefix))),
            Self::V6Site(_) | Self::V4(_) => None,
        }
    }
}

fn first<const FEWER: usize, const ALL: usize>(bytes: [u8; ALL]) -> [u8; FEWER] {
    std::array::from_fn(|at| bytes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Network {
        Network::client(address.parse().unwrap())
    }

    #[test]
    fn ten_thousand_addresses_of_one_network_are_one_client() {
        let first = client("2001:db8:1:2::");
        for host in 0..10_000_u32 {
            assert_eq!(client(&format!("2001:db8:1:2:{:x}::{host:x}", host % 7)), first);
        }
        assert_ne!(client("2001:db8:1:3::1"), first);
        assert_eq!(client("2001:db8:1:3::1").site(), first.site());
        assert_ne!(client("2001:db8:2:2::1").site(), first.site());
        assert_ne!(client("2001:db8:1::1").site(), Some(client("2001:db8:1::1")));
    }

    #[test]
    fn ipv4_is_ipv4_in_whatever_clothes() {
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.2"), client("192.0.2.1"));
        assert_eq!(client("192.0.2.1").site(), None);
        assert_ne!(client("::192.0.2.1"), client("192.0.2.1"));
    }
}
