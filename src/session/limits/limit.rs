//! The limits by name, and how often each was hit.

use prometheus_client::metrics::counter::Counter;

use crate::metrics::Metrics;

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented by `what`")]
pub enum Limit {
    IpConnections,
    SiteConnections,
    IpPolls,
    SitePolls,
    IpOpenConnections,
    SiteOpenConnections,
    IpPublish,
    SitePublish,
    UserPublish,
    KeyPublish,
    ChannelPublish,
    SessionCommands,
}

impl Limit {
    /// Every limit there is.
    pub const ALL: [Self; 12] = [
        Self::IpConnections,
        Self::SiteConnections,
        Self::IpPolls,
        Self::SitePolls,
        Self::IpOpenConnections,
        Self::SiteOpenConnections,
        Self::IpPublish,
        Self::SitePublish,
        Self::UserPublish,
        Self::KeyPublish,
        Self::ChannelPublish,
        Self::SessionCommands,
    ];

    /// Its name, in headers and metrics.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What is counted, for people.
    pub fn what(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::IpConnections => ("ip-connections", "new connections from one address"),
            Self::SiteConnections => ("site-connections", "new connections from one IPv6 /48"),
            Self::IpPolls => ("ip-polls", "polls from one address"),
            Self::SitePolls => ("site-polls", "polls from one IPv6 /48"),
            Self::IpOpenConnections => ("ip-open-connections", "open connections of one address"),
            Self::SiteOpenConnections => ("site-open-connections", "open connections of one IPv6 /48"),
            Self::IpPublish => ("ip-publish", "publications from one address"),
            Self::SitePublish => ("site-publish", "publications from one IPv6 /48"),
            Self::UserPublish => ("user-publish", "publications of one user"),
            Self::KeyPublish => ("key-publish", "publications under one API key"),
            Self::ChannelPublish => ("channel-publish", "publications to one channel"),
            Self::SessionCommands => ("session-commands", "commands of one session"),
        }
    }
}

/// What became of something that was over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was refused.
    Refused,
    /// It passed, because the limits are tried out only (`dry_run`).
    PassedDry,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Refused, Self::PassedDry];

    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::PassedDry => "passed_dry",
        }
    }
}

/// How often each limit was hit: counters of the node's metrics, at hand without a look-up.
#[derive(Debug)]
pub struct Hits([[Counter; Outcome::ALL.len()]; Limit::ALL.len()]);

impl Hits {
    pub(super) fn of_node(metrics: &Metrics) -> Self {
        let counter = |limit: Limit| Outcome::ALL.map(|outcome| metrics.limit_hits(limit.name(), outcome.word()));
        Self(Limit::ALL.map(counter))
    }

    pub(super) fn count(&self, limit: Limit, outcome: Outcome) {
        self.0[limit as usize][outcome as usize].inc();
    }

    /// How often `limit` was hit with this outcome.
    pub fn of(&self, limit: Limit, outcome: Outcome) -> u64 {
        self.0[limit as usize][outcome as usize].get()
    }
}
