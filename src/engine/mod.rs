//! Engines: what keeps the logs. They know `delivery` only, and `metrics`.

mod idempotency;
pub mod memory;
mod metered;
pub mod redis;
mod snapshot;
mod system;

pub use memory::MemoryEngine;
pub use metered::MeteredEngine;
pub use redis::{RedisEngine, RedisPresence, RedisSettings};
pub use snapshot::{Contents, Snapshot, SnapshotError};
pub use system::System;
