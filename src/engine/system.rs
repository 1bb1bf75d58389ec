//! The system's clock and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::delivery::Outside;

/// The system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Outside for System {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(
        clippy::expect_used,
        reason = "without randomness epochs would repeat, and readers would be told lies"
    )]
    fn random(&self) -> u64 {
        getrandom::u64().expect("the system's source of randomness")
    }
}
