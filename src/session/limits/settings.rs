//! What the limits are: plain numbers, with defaults for a node that faces the internet.

use std::collections::HashMap;

use ipnet::IpNet;

/// How often something may happen, and how much of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many per second in the long run; 0 means without limit.
    pub per_s: u32,
    /// How many at once after a pause; 0 is as good as 1.
    pub burst: u32,
}

impl Rate {
    /// The highest rate that is kept to within a thousandth, per second.
    pub const PER_S_MAX: u32 = 1_000_000;

    /// A rate.
    pub const fn new(per_s: u32, burst: u32) -> Self {
        Self { per_s, burst }
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self {
            per_s: self.per_s.saturating_mul(factor).min(Self::PER_S_MAX),
            burst: self.burst.saturating_mul(factor),
        }
    }
}

/// What a namespace has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceRates {
    /// Publications to one of its channels, in the place of what holds for all.
    pub channel_publications: Rate,
    /// Publications of one user in it, besides what holds for all.
    pub user_publications: Rate,
}

/// Every rate limit of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateSettings {
    /// New connections (WebSocket and SSE) from one address.
    pub ip_connections: Rate,
    /// Polls from one address; a client on a busy channel polls as fast as it is answered.
    pub ip_polls: Rate,
    /// The most connections and waiting polls of one address at a time; 0 means without limit.
    pub ip_open_connections_max: u32,
    /// Publications from one address.
    pub ip_publications: Rate,
    /// How many times what one IPv6 /64 may is what its /48 may.
    pub site_factor: u32,
    /// Publications of one user.
    pub user_publications: Rate,
    /// Publications under one API key.
    pub key_publications: Rate,
    /// Publications to one channel.
    pub channel_publications: Rate,
    /// What namespaces have of their own, by their names; `*` stands for all that are not named.
    pub namespaces: HashMap<Box<str>, NamespaceRates>,
    /// Commands of one session.
    pub session_commands: Rate,
    /// Counts what would be refused, and lets it pass.
    pub dry_run: bool,
    /// Who is not limited.
    pub allow: Vec<IpNet>,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self {
            ip_connections: Rate::new(20, 200),
            ip_polls: Rate::new(100, 500),
            ip_open_connections_max: 1_000,
            ip_publications: Rate::new(100, 200),
            site_factor: 16,
            user_publications: Rate::new(20, 100),
            key_publications: Rate::new(5_000, 10_000),
            channel_publications: Rate::new(1_000, 2_000),
            namespaces: HashMap::new(),
            session_commands: Rate::new(50, 200),
            dry_run: false,
            allow: Vec::new(),
        }
    }
}
