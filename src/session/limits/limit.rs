//! The limits by name, and how often each was hit.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// How often each limit was hit. Plain numbers that only grow.
#[derive(Debug, Default)]
pub struct Hits {
    refused: [AtomicU64; Limit::ALL.len()],
    passed_dry: [AtomicU64; Limit::ALL.len()],
}

/// What became of something that was over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was refused.
    Refused,
    /// It passed, because the limits are tried out only (`dry_run`).
    PassedDry,
}

impl Hits {
    pub(super) fn count(&self, limit: Limit, outcome: Outcome) {
        self.cell(limit, outcome).fetch_add(1, Ordering::Relaxed);
    }

    /// How often `limit` was hit with this outcome.
    pub fn of(&self, limit: Limit, outcome: Outcome) -> u64 {
        self.cell(limit, outcome).load(Ordering::Relaxed)
    }

    fn cell(&self, limit: Limit, outcome: Outcome) -> &AtomicU64 {
        let cells = match outcome {
            Outcome::Refused => &self.refused,
            Outcome::PassedDry => &self.passed_dry,
        };
        &cells[limit as usize]
    }
}
