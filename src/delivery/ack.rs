//! What has to be true before a publisher is told that its publication was stored.

use std::num::NonZeroU32;

/// When a publication is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Ack {
    /// When the engine has stored it.
    #[default]
    Stored,
    /// When the engine has stored it and enough replicas have it, too.
    Replicated(Replicas),
}

/// How many replicas, and how long they are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Replicas {
    /// So many of them.
    pub count: NonZeroU32,
    /// For so many milliseconds after it was stored.
    pub timeout_ms: u64,
}

impl Replicas {
    /// The longest that replicas are waited for: a publisher is answered within 2 s, whatever happens.
    pub const TIMEOUT_MS_MAX: u64 = 800;

    /// Unless told.
    pub const TIMEOUT_MS_DEFAULT: u64 = 500;

    /// So many replicas, within the time that is usual.
    pub fn new(count: NonZeroU32) -> Self {
        Self {
            count,
            timeout_ms: Self::TIMEOUT_MS_DEFAULT,
        }
    }

    /// The replicas that are wanted but do not have it.
    pub fn missing(&self, reached: u32) -> Option<Shortfall> {
        let wanted = self.count.get();
        (reached < wanted).then_some(Shortfall { reached, wanted })
    }
}

/// Fewer replicas than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// So many have it.
    pub reached: u32,
    /// So many should.
    pub wanted: u32,
}
