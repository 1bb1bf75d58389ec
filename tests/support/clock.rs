//! A clock that a test moves, so that windows age and positions are forgotten without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use throughline::delivery::Outside;

/// Stands still until it is moved. Its randomness is the system's.
#[derive(Debug)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_732_240_000_000)))
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// As an administrator does, or a time server.
    pub(crate) fn set_back_ms(&self, ms: u64) {
        self.0.fetch_sub(ms, Ordering::SeqCst);
    }
}

impl Outside for Clock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
