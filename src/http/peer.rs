//! Who is at the other end of a connection, as far as the connection tells.

use std::net::{IpAddr, SocketAddr};

/// The peer of a connection: an extension of every request that comes through the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its IP address, or the one that its proxy named (PROXY protocol); `None` for a Unix socket.
    pub ip: Option<IpAddr>,
}

impl Peer {
    /// At the other end of a Unix socket.
    pub const LOCAL: Self = Self { ip: None };
}

impl From<SocketAddr> for Peer {
    /// An IPv4 address that is mapped into IPv6 is an IPv4 address.
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: Some(address.ip().to_canonical()),
        }
    }
}
