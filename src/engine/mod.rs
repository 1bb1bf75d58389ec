//! Engines: what keeps the logs. They know `delivery` only, and `metrics`.

mod idempotency;
pub mod memory;
mod metered;
mod snapshot;

pub use memory::MemoryEngine;
pub use metered::MeteredEngine;
pub use snapshot::{Contents, Snapshot, SnapshotError};
