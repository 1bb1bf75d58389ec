//! What a snapshot's blocks say. The order of the variants and of their fields is the format: new ones need a version.

use serde::{Deserialize, Serialize};

use crate::delivery::LogPolicy;

/// One block. Publications and keys belong to the last channel before them.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) enum Record<'a> {
    /// The first block.
    Engine {
        /// When the engine was sealed.
        sealed_ms: u64,
        /// The secret of its fingerprints.
        fingerprints: [u64; 2],
    },
    /// A channel of which only the position is left.
    Dormant { name: &'a str, top: &'a str, until_ms: u64 },
    /// A channel, whose window begins right after `start`.
    Channel {
        name: &'a str,
        start: &'a str,
        /// The time of its newest publication ever.
        time_ms: u64,
        active_ms: u64,
        policy: Option<Policy>,
    },
    /// The next one in its channel's window.
    Publication {
        time_ms: u64,
        event: Option<&'a str>,
        sender: Option<&'a str>,
        data: &'a [u8],
    },
    /// What was published under an idempotency key, the oldest first.
    Key {
        publisher: &'a str,
        key: &'a str,
        nth: u64,
        at_ms: u64,
        position: &'a str,
        fingerprint: u64,
    },
    /// The last block: how many there were.
    End {
        channels: u64,
        publications: u64,
        keys: u64,
    },
}

/// A [`LogPolicy`] in a snapshot.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::engine) struct Policy {
    count_max: u64,
    bytes_max: u64,
    age_ms_max: u64,
    position_ttl_ms: u64,
}

impl From<LogPolicy> for Policy {
    fn from(policy: LogPolicy) -> Self {
        Self {
            count_max: policy.count_max as u64,
            bytes_max: policy.bytes_max as u64,
            age_ms_max: policy.age_ms_max,
            position_ttl_ms: policy.position_ttl_ms,
        }
    }
}

impl From<Policy> for LogPolicy {
    fn from(policy: Policy) -> Self {
        Self {
            count_max: usize::try_from(policy.count_max).unwrap_or(usize::MAX),
            bytes_max: usize::try_from(policy.bytes_max).unwrap_or(usize::MAX),
            age_ms_max: policy.age_ms_max,
            position_ttl_ms: policy.position_ttl_ms,
        }
    }
}
